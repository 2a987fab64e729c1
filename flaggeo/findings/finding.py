"""One result in a form that programs can test and people can read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ..alignment import KEPT as KEPT
from .sentences import SENTENCES

#: Effect size below which a direction is said not to be kept across layers: a word for the reader, as `KEPT` is.
LITTLE = 0.08
#: Mean excess over the largest null below which nothing is claimed: unrelated weights with a common mean reach 0.03 in
#: 64 dimensions. Words for the reader, not a test.
LEAST_EXCESS = 0.04


@dataclass(frozen=True)
class Finding:
    """What was found, the numbers behind it, and where they are shown.

    Attributes
    ----------
    kind : str
        What it is about, short and stable: ``continuity``, ``communities``. The function of this name in
        `flaggeo.findings.sentences` says it in a sentence.
    verdict : str
        The answer, short and stable: ``present``, ``small`` (significant, see `large_or_small`), ``absent``,
        ``explained_by_outlier_channels``, ``undetermined``.
        Some kinds have answers of their own, which `flaggeo.findings.sentences` lists.
    numbers : mapping
        All that the sentence is made of, not rounded: numbers, strings, truth values, lists and mappings of them, None
        where a number is missing. Names from a checkpoint are not escaped.
    place : str
        Anchor of the section of the page that has the chart or the table.
    """

    kind: str
    verdict: str
    numbers: Mapping[str, Any]
    place: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "numbers", _plain(self.numbers))

    def __str__(self) -> str:
        return self.sentence

    @property
    def sentence(self) -> str:
        """The finding in words, as plain text."""
        return SENTENCES[self.kind](self.verdict, **self.numbers)

    def as_dict(self) -> dict[str, Any]:
        """All of it, sentence included, ready for JSON."""
        return {
            "kind": self.kind,
            "verdict": self.verdict,
            "numbers": self.numbers,
            "place": self.place,
            "sentence": self.sentence,
        }


def large_or_small(excess: float) -> str:
    """Verdict on what is significant: whether it is also as large as what is called kept across layers.

    Significance grows with the number of layers, heads and dimensions, so that an overlap of 0.03 where 0.01 is due to
    chance can be as certain as one of 0.9.

    Parameters
    ----------
    excess : float
        Effect size over the largest null.

    Returns
    -------
    verdict : {"present", "small"}
        ``small`` below `KEPT`.
    """
    return "present" if excess >= KEPT else "small"


def _plain(value: Any) -> Any:
    """The value without types of NumPy and pandas, which JSON does not have."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if pd.isna(value) else value
