"""How numbers and names are put into sentences."""

import math

#: What a weight does on a side.
DOING = {"read": "reading", "write": "writing"}


def listed(words: list[str]) -> str:
    """Words joined by commas, the last by and."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def degrees(angle: float) -> str:
    """An angle given in radians."""
    value = math.degrees(angle)
    return f"{value:.1f}°" if value >= 0.05 else f"{value:.1e}°"


def norm_gains(fold_norms: bool) -> str:
    """What was done with the gains of norms."""
    return f"Norm gains are {'folded into the weights' if fold_norms else 'not folded'}."
