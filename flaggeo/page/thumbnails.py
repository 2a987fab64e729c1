"""The small pictures on the cards: a profile over the layers, or a bar with its null."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ..findings import Card

_WIDTH, _HEIGHT, _MARGIN = 250, 56, 3


@dataclass(frozen=True)
class Profile:
    """|cos| of the first directions of each role by layer, as lines of a picture.

    Attributes
    ----------
    width, height : int
        Of the picture.
    lines : tuple of (str, str)
        Of each role its name and its points, as SVG has them. A layer without a number interrupts nothing: its
        neighbours are joined.
    nulls : tuple of float
        Of each role the height at which its largest null stands, where that explains the profile.
    unrelated : float
        Height at which unrelated weights stand.
    """

    width: int
    height: int
    lines: tuple[tuple[str, str], ...]
    nulls: tuple[float, ...]
    unrelated: float


def profile(card: Card, continuity: pd.DataFrame) -> Profile | None:
    """The profile of a card about roles, from the layer pairs of an analysis; None of other cards."""
    found = [continuity[(continuity["role"] == role) & (continuity["side"] == side)] for role, side in card.lines]
    if not any(map(len, found)):
        return None
    rows = pd.concat(found)
    first, last = rows["layer"].min(), rows["layer"].max()
    lines = tuple((role, _points(one, first, last)) for (role, _), one in zip(card.lines, found, strict=True))
    nulls = tuple(map(_height, card.nulls))
    return Profile(_WIDTH, _HEIGHT, lines, nulls, _height(rows["abs_cos_1_null_mean"].iloc[0]))


def _points(rows: pd.DataFrame, first: int, last: int) -> str:
    rows = rows.dropna(subset="abs_cos_1").sort_values("layer")
    across = _MARGIN + (rows["layer"] - first) / max(last - first, 1) * (_WIDTH - 2 * _MARGIN)
    places: Sequence[tuple[float, float]] = list(zip(across, map(_height, rows["abs_cos_1"]), strict=True))
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in places)


def _height(value: float) -> float:
    return round(_HEIGHT - _MARGIN - value * (_HEIGHT - 2 * _MARGIN), 1)
