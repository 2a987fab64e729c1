"""One relation between two expressions, and the way it is decided."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import sympy
from sympy import Dummy, Lambda, MatrixBase, MatrixExpr, Rational, Symbol, Trace, ZeroMatrix
from sympy.core.function import AppliedUndef

from .words import normal_form


class Outcome(StrEnum):
    """What a check found; how much it shows where it holds is its `Evidence`."""

    HOLDS = "holds"
    REFUTED = "refuted"
    UNDECIDED = "undecided"


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """Outcome of several goals: refuted if one is, else undecided if one is or there is none, else held."""
    found = set(outcomes) or {Outcome.UNDECIDED}
    return next((o for o in (Outcome.REFUTED, Outcome.UNDECIDED) if o in found), Outcome.HOLDS)


class Relation(StrEnum):
    """How the two sides of a goal compare."""

    EQUAL = "="
    DIFFERENT = "≠"
    AT_LEAST = "≥"


@dataclass(frozen=True)
class Step:
    """A decided goal: what was simplified to what."""

    claim: str
    relation: Relation
    difference: Any
    reduced: Any
    outcome: Outcome

    def as_dict(self) -> dict[str, str]:
        """The step as plain text, ready for JSON."""
        return {
            "claim": self.claim,
            "relation": self.relation,
            "difference": str(self.difference),
            "reduced": str(self.reduced),
            "outcome": self.outcome,
        }


@dataclass(frozen=True)
class Goal:
    """A relation between two expressions of the same shape.

    Parameters
    ----------
    claim : str
        The relation in words or signs, for a person.
    left, right : expressions
        Both scalars, both matrices with entries, or both matrices without sizes.
    relation : Relation
        Equal, different, or at least.
    """

    claim: str
    left: Any
    right: Any
    relation: Relation = Relation.EQUAL

    def decide(self) -> Step:
        """Simplify the difference of the two sides and compare it with zero."""
        difference = self.left - self.right
        if isinstance(difference, MatrixBase):
            reduced, equal = _compare_matrix(difference)
        elif isinstance(difference, MatrixExpr) or difference.has(Trace):
            # A word that is left over need not be non-zero for every size: only explicit matrices refute.
            reduced = _over_one_denominator(normal_form(difference))
            zero = isinstance(reduced, ZeroMatrix) or reduced == 0
            equal = Outcome.HOLDS if zero else Outcome.UNDECIDED
        else:
            reduced, equal = _compare_scalar(difference)
        if self.relation is Relation.AT_LEAST:
            outcome = Outcome.HOLDS if equal is Outcome.HOLDS else _sign(difference, reduced)
        elif self.relation is Relation.DIFFERENT:
            outcome = {Outcome.HOLDS: Outcome.REFUTED, Outcome.REFUTED: Outcome.HOLDS}.get(equal, equal)
        else:
            outcome = equal
        return Step(self.claim, self.relation, difference, reduced, outcome)


Goals = Iterator[Goal]


def equal(claim: str, left: Any, right: Any) -> Goal:
    """Both sides are equal, entry by entry."""
    return Goal(claim, _expression(left), _expression(right))


def differ(claim: str, left: Any, right: Any) -> Goal:
    """The sides are not equal: some entry differs at some rational point."""
    return Goal(claim, _expression(left), _expression(right), Relation.DIFFERENT)


def at_least(claim: str, larger: Any, smaller: Any) -> Goal:
    """The first scalar is never smaller than the second."""
    return Goal(claim, _expression(larger), _expression(smaller), Relation.AT_LEAST)


def holds(claim: str, condition: bool) -> Goal:
    """A fact about a finite set or an exact instance that has been computed already."""
    return equal(claim, sympy.Integer(bool(condition)), sympy.S.One)


def _expression(side: Any) -> Any:
    return side if isinstance(side, MatrixExpr) else sympy.sympify(side)


def _over_one_denominator(normal: Any) -> Any:
    """A scalar with fractions and traces, cancelled; a matrix as it is."""
    if isinstance(normal, MatrixExpr):
        return normal
    names = {trace: Dummy() for trace in normal.atoms(Trace)}
    return sympy.cancel(normal.xreplace(names)).xreplace({name: trace for trace, name in names.items()})


def _compare_matrix(difference: Any) -> tuple[Any, Outcome]:
    """Reduce every entry; one witness against an entry is one against the matrix."""
    compared = [_compare_scalar(entry) for entry in difference]
    reduced = sympy.ImmutableMatrix(*difference.shape, [entry for entry, _ in compared])
    return reduced, together(outcome for _, outcome in compared)


def _compare_scalar(difference: Any) -> tuple[Any, Outcome]:
    """Reduce a scalar; it is zero, non-zero at a rational witness, or neither can be told."""
    expanded = sympy.expand(difference)
    if expanded == 0:
        return sympy.S.Zero, Outcome.HOLDS
    if any(_is_nonzero(value) for value in _values(expanded)):
        return expanded, Outcome.REFUTED
    simplified = sympy.simplify(expanded)
    return simplified, Outcome.HOLDS if simplified == 0 else Outcome.UNDECIDED


def _sign(difference: Any, reduced: Any) -> Outcome:
    """Whether the difference is never negative: visibly so in one of its forms, or negative at a witness."""
    if any(form.is_nonnegative for form in (difference, reduced, sympy.factor(reduced))):
        return Outcome.HOLDS
    if any(value.is_comparable and value < 0 and _is_nonzero(value) for value in _values(reduced)):
        return Outcome.REFUTED
    return Outcome.UNDECIDED


def _is_nonzero(value: Any) -> bool:
    """Whether a number is certainly not zero: exactly if rational, else by far more than its 30 digits' error."""
    if value.is_Rational:
        return bool(value != 0)
    digits = sympy.N(value, 30)
    return bool(digits.is_comparable and abs(digits) > Rational(1, 10**15))


def _values(expression: Any) -> Iterator[Any]:
    """The expression at a few rational points; undefined functions become a fixed cubic."""
    z = Symbol("z")
    for function in {applied.func for applied in expression.atoms(AppliedUndef)}:
        expression = expression.subs(function, Lambda(z, z**3 / 3 + z + 1)).doit()
    symbols = sorted(expression.free_symbols, key=str)
    for seed in range(8):
        generator = random.Random(seed)
        yield expression.subs({symbol: _rational(symbol, generator) for symbol in symbols})


def _rational(symbol: Any, generator: random.Random) -> Any:
    value = Rational(generator.randint(1, 9), 1 if symbol.is_integer else generator.randint(1, 9))
    return value if symbol.is_nonnegative or generator.random() < 0.5 else -value
