"""What is known about a measured number before it is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from ..network import Symmetry

PairT = TypeVar("PairT")


@dataclass(frozen=True)
class Observable(Generic[PairT]):
    """A number made of one pair, with its symmetry and its null.

    The tables, the page and the documents read this; none of them knows a measurement by name. To add one,
    write it in a file of its own and list it in `flaggeo.alignment.OBSERVABLES`.

    Attributes
    ----------
    name : str
        As people read it.
    table, column : str
        Where it stands in the results.
    measure : callable
        The number itself, of a pair of the kind that the table is about: shape=[...] for a batch of pairs.
    formula : str
        In LaTeX.
    range : tuple of float
        Least and largest value.
    aligned : float or None
        The end of the range that means aligned; None where neither does.
    invariant_under : Symmetry
        The largest of these groups that may act on the common space without changing it.
    invariance : str
        The same in words, with whatever else leaves it alone, and what does not.
    invariance_statement : str
        Name of the statement in `proofs` that proves so.
    null : str
        What unrelated weights give.
    null_moments : callable or None
        Mean and standard deviation for unrelated weights, of the pair that `measure` takes; None where they
        come from random draws.
    null_statement : str or None
        Name of the statement in `proofs` that proves the null; None where it is measured.
    reading : str
        How to read it.
    misuse : str
        What it must not be used for.
    derived : tuple of str
        Further columns computed from the number and its null.
    """

    name: str
    table: str
    column: str
    measure: Callable[[PairT], Tensor]
    formula: str
    range: tuple[float, float]
    aligned: float | None
    invariant_under: Symmetry
    invariance: str
    invariance_statement: str
    null: str
    null_moments: Callable[[PairT], tuple[Tensor, Tensor]] | None
    null_statement: str | None
    reading: str
    misuse: str
    derived: tuple[str, ...] = ()

    def survives(self, symmetry: Symmetry) -> bool:
        """Whether the number keeps its value under every change of basis that leaves the network alone."""
        return self.invariant_under.contains(symmetry)
