"""What is known about a measured number before it is measured."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

from torch import Tensor

from ..network import Symmetry
from .schema import Column

PairT = TypeVar("PairT")


@dataclass(frozen=True)
class Invariance:
    """What leaves a number unchanged.

    Attributes
    ----------
    group : Symmetry
        The largest of these groups that may act on the common space without changing the number.
    text : str
        The same in words, with whatever else leaves the number unchanged, and what does not.
    statement : str
        Name of the statement in `proofs` that says so, with the evidence for it.
    """

    group: Symmetry
    text: str
    statement: str


@dataclass(frozen=True)
class Null(Generic[PairT]):
    """What weights would give that are unrelated apart from what the null keeps.

    Attributes
    ----------
    text : str
        What is random and what is kept, and how exact the law is.
    law : callable or None
        From a pair, or a batch of pairs, to the moment and the standard deviation (None where that has no closed form);
        None where random draws give both.
    statement : str or None
        Name of the statement in `proofs` that gives the law, with the evidence for it; None where it is measured.
    name : str
        Prefix of the columns: ``null`` for unrelated weights, ``sign_flip``, ``mean_matched`` or ``norm_matched``.
    moment : {"mean", "rms"}
        What `law` gives first: the mean or the root mean square.
    has_sd : bool
        Whether it gives a standard deviation.
    p_value : callable or None
        From a pair to the probability of at least the measured value, and to the smallest probability that this null
        can give; None where the null gives no test.
    """

    text: str
    law: Callable[[PairT], tuple[Any, Any]] | None
    statement: str | None = None
    name: str = "null"
    moment: Literal["mean", "rms"] = "mean"
    has_sd: bool = True
    p_value: Callable[[PairT], tuple[Any, Any]] | None = None

    def columns(self, of: str) -> list[Column]:
        """Columns that stand beside the number ``of``."""
        moment = {"mean": "mean", "rms": "root mean square"}[self.moment]
        found = [Column(self.moment_column(of), "float64", f"{moment} of `{of}`: {self.text}")]
        if self.has_sd:
            found.append(Column(f"{of}_{self.name}_sd", "float64", f"standard deviation of `{of}` under the same null"))
        if self.p_value:
            found.append(
                Column(self.p_value_column(of), "float64", f"probability of at least this `{of}` under the same null")
            )
        return found

    def moment_column(self, of: str) -> str:
        """Name of the column of the mean or root mean square."""
        return f"{of}_{self.name}_{self.moment}"

    def p_value_column(self, of: str) -> str:
        """Name of the column of p-values."""
        return f"{of}_p_value" if self.name == "null" else f"{of}_{self.name}_p_value"


@dataclass(frozen=True)
class Observable(Generic[PairT]):
    """A number made of one pair, with its symmetry and its nulls.

    The tables, the page and the documents read this; none of them knows a measurement by name. To add one, write it in
    a file of its own and list it among the observables of its room.

    Attributes
    ----------
    title : str
        As people read it.
    table, column : str
        Where it stands in the results.
    pair : type
        Kind of pair that it is made of.
    measure : callable
        The number itself, of such a pair: shape=[...] for a batch of pairs.
    formula : str
        In LaTeX.
    range : tuple of float
        Least and largest value.
    aligned : float or None
        The end of the range that means aligned; None where neither does.
    invariance : Invariance
    null : Null
        What unrelated weights give.
    further_nulls : tuple of Null
        Others that keep something of the weights, such as their outlier channels.
    tolerance : float
        Absolute error that rounding may leave in the number in float32.
    reading : str
        How to read it.
    misuse : str
        What it must not be used for.
    dtype : str
        Of the column; ``Int64`` for a count.
    companions : tuple of (Column, callable)
        Further columns, and how each is measured of the pair.
    """

    title: str
    table: str
    column: str
    pair: type[PairT]
    measure: Callable[[PairT], Tensor]
    formula: str
    range: tuple[float, float]
    aligned: float | None
    invariance: Invariance
    null: Null[Any]
    tolerance: float
    reading: str
    misuse: str
    further_nulls: tuple[Null[Any], ...] = ()
    dtype: str = "float64"
    companions: tuple[tuple[Column, Callable[[PairT], Any]], ...] = ()

    @property
    def nulls(self) -> tuple[Null[Any], ...]:
        """All nulls, that of unrelated weights first."""
        return self.null, *self.further_nulls

    @property
    def null_column(self) -> str:
        """Column of what unrelated weights give."""
        return self.null.moment_column(self.column)

    @property
    def p_value_columns(self) -> list[str]:
        """Columns of its p-values, one for each null that gives a test."""
        return [null.p_value_column(self.column) for null in self.nulls if null.p_value]

    @property
    def has_effect_size(self) -> bool:
        """Whether a value can be placed between what unrelated weights give and perfect alignment; no count can."""
        return self.dtype == "float64" and self.aligned is not None and abs(self.aligned) < float("inf")

    @property
    def rises_with_alignment(self) -> bool:
        """Whether aligned is the upper end of the range."""
        return self.aligned == max(self.range)

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column made of it: value, nulls, effect sizes and tests, in order."""
        name = self.column
        found = [Column(name, self.dtype, f"{self.title}, in [{self.range[0]:g}, {self.range[1]:g}]")]
        found += [column for null in self.nulls for column in null.columns(name)]
        if self.has_effect_size:
            text = f"effect size ({name} - null) / ({self.aligned:g} - null) over `{self.null_column}`"
            found.append(Column(f"{name}_effect_size", "float64", text))
        if self.further_nulls:
            strictest = "largest" if self.rises_with_alignment else "smallest"
            text = f"excess of `{name}`: its effect size over the {strictest} of its nulls"
            found.append(Column(f"{name}_excess", "float64", text))
        if self.p_value_columns:
            found += [
                Column(f"{name}_z", "float64", f"`{name}` in standard deviations above the mean of unrelated weights"),
                Column(
                    f"{name}_p_value_floor",
                    "float64",
                    "smallest p-value that the nulls can give here, whatever the alignment: above 0.01 the row cannot "
                    "become significant",
                ),
                Column(
                    f"{name}_q_value",
                    "float64",
                    "false discovery rate (Benjamini-Hochberg) among the rows of its family whose largest p-value is "
                    "as small",
                ),
            ]
        return (*found, *(column for column, _ in self.companions))

    def is_basis_independent(self, symmetry: Symmetry) -> bool:
        """Whether no change of basis of this group changes the number."""
        return self.invariance.group.contains(symmetry)
