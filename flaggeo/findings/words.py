"""How numbers and names are put into sentences."""

import math
from collections.abc import Sequence

#: The end of a weight that a side is.
END = {"read": "input", "write": "output"}
#: The singular vectors of a side.
VECTORS = {"read": "right", "write": "left"}


def listed(words: Sequence[str]) -> str:
    """Words joined by commas, the last by and."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def counted(number: float, noun: str) -> str:
    """A number of things, the noun in the plural unless there is one."""
    return f"{number:.0f} {noun}{'' if number == 1 else 's'}"


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
