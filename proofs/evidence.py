"""How much the check of a statement shows: the kinds of evidence, from the strongest to the weakest."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Evidence(StrEnum):
    """What stands behind the algebra of a statement, strongest first; a refuted statement has its counterexample.

    The algebra is what is checked. How it leads to a statement about norms, limits or closed sets stands in the remark.
    """

    ALL_DIMENSIONS = "proved for all dimensions"
    GENERIC_SYMBOLS = "proved for generic symbols at these sizes"
    EVERY_CASE = "proved for every case at these sizes"
    INSTANCES = "checked on instances"
    CITED = "cited"
    COUNTEREXAMPLE = "refuted by a counterexample"


ORDER = tuple(Evidence)


def weakest(kinds: Iterable[Evidence]) -> Evidence:
    """The weakest of some kinds of evidence: what a chain of arguments shows."""
    return max(kinds, key=ORDER.index)


def strongest(kinds: Iterable[Evidence]) -> Evidence:
    """The strongest of some kinds of evidence: what one argument shows that was run on several things."""
    return min(kinds, key=ORDER.index)


@dataclass(frozen=True)
class Citation:
    """A lemma that an argument uses and that is not checked here.

    Parameters
    ----------
    lemma : str
        The lemma in words.
    source : str
        Where it is proved.
    """

    lemma: str
    source: str
