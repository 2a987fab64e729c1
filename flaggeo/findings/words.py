"""How numbers and names are put into sentences."""

import math
import re
from collections.abc import Sequence

#: The end of a weight that a side is.
END = {"read": "input", "write": "output"}
#: The singular vectors of a side.
VECTORS = {"read": "right", "write": "left"}

_LONG_NAME = re.compile(
    r"(?P<tower>(?:.+\.)?)layers\.(?P<layer>\d+)\.(?P<role>[\w.]+?)(?:\.heads\.(?P<head>\d+))?(?:\.(?:read|write))?"
)


def short_name(name: str) -> str:
    """What people call a weight or head of a layer: ``L4.gate``, ``L18H6.o``; other names as they are.

    Examples
    --------
    >>> short_name("layers.18.o.heads.6.write"), short_name("encoder.layers.4.gate.read"), short_name("embedding.write")
    ('L18H6.o', 'encoder.L4.gate', 'embedding.write')
    """
    found = _LONG_NAME.fullmatch(name)
    if found is None:
        return name
    head = "" if found["head"] is None else f"H{found['head']}"
    return f"{found['tower']}L{found['layer']}{head}.{found['role']}"


def listed(words: Sequence[str]) -> str:
    """Words joined by commas, the last by and."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def counted(number: float, noun: str) -> str:
    """A number of things, the noun in the plural unless there is one."""
    return f"{number:,.0f} {noun}{'' if number == 1 else 's'}"


def degrees(angle: float) -> str:
    """An angle given in radians."""
    value = math.degrees(angle)
    return f"{value:.1f}°" if value >= 0.05 else f"{value:.1e}°"


def with_spread(mean: float, sd: float, form: str = ".2f") -> str:
    """A mean and its standard deviation."""
    return f"{mean:{form}} ± {sd:{form}}"


def norm_gains(fold_norms: bool) -> str:
    """What was done with the gains of norms."""
    return f"The gains of the norms are {'folded into the weights' if fold_norms else 'not folded into the weights'}."
