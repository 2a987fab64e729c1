"""What is known about a measured number before it is measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Observable:
    """A number made of one pair, with its symmetry and its null.

    The page and the documents read this; none of them knows a measurement by name.

    Attributes
    ----------
    name : str
        As people read it.
    columns : tuple of str
        Columns of the tables that hold it.
    formula : str
        In LaTeX.
    range : tuple of float
        Least and largest value.
    aligned : float
        The end of the range that means aligned.
    invariance : str
        Changes of basis that leave it alone, and what does not.
    invariance_statement : str
        Name of the statement in `proofs` that proves so.
    null : str
        What unrelated weights give.
    null_statement : str
        Name of the statement in `proofs` that proves so.
    """

    name: str
    columns: tuple[str, ...]
    formula: str
    range: tuple[float, float]
    aligned: float
    invariance: str
    invariance_statement: str
    null: str
    null_statement: str
