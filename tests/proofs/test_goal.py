import pytest
import sympy
from sympy import Matrix, Rational, cos, diag, sin, sqrt, symbols

from proofs.goal import Outcome, at_least, differ, equal, holds, together

x, y = symbols("x y", real=True)
p, q = symbols("p q", positive=True)
f = sympy.Function("f")


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((x + y) ** 2, x**2 + 2 * x * y + y**2),
        (sin(x) ** 2 + cos(x) ** 2, 1),
        (sqrt(p) * sqrt(q), sqrt(p * q)),
        (f(x * y).diff(x).doit() * x, f(x * y).diff(y).doit() * y),
        (Matrix([[x, 1]]) * Matrix([1, -x]), Matrix([0])),
    ],
)
def test_equal_is_proved(left, right):
    assert equal("", left, right).decide().outcome is Outcome.HOLDS
    assert differ("", left, right).decide().outcome is Outcome.REFUTED


@pytest.mark.parametrize(
    ("left", "right"),
    [(x**2, x), (sin(2 * x), 2 * sin(x)), (f(x), f(-x)), (Matrix([[x, 1]]), Matrix([[x, 2]])), (Rational(1, 3), 0)],
)
def test_equal_is_refuted_by_a_witness(left, right):
    assert equal("", left, right).decide().outcome is Outcome.REFUTED
    assert differ("", left, right).decide().outcome is Outcome.HOLDS


def test_witness_respects_the_sign_of_a_symbol():
    assert equal("", abs(p), p).decide().outcome is Outcome.HOLDS
    assert equal("", abs(x), x).decide().outcome is Outcome.REFUTED


@pytest.mark.parametrize(
    ("difference", "outcome"),
    [
        (x**2 + y**2, Outcome.HOLDS),
        (x**2 - 2 * x * y + y**2, Outcome.HOLDS),
        (p * q + 1, Outcome.HOLDS),
        (x * y, Outcome.REFUTED),
        (-p, Outcome.REFUTED),
        (0, Outcome.HOLDS),
        (x**4 - x**2 + 1, Outcome.UNDECIDED),
    ],
)
def test_at_least(difference, outcome):
    assert at_least("", difference, 0).decide().outcome is outcome


def test_matrix_is_refuted_by_one_entry():
    step = equal("", diag(x, y), diag(x, 0)).decide()
    assert step.outcome is Outcome.REFUTED
    assert step.reduced == diag(0, y)


def test_holds():
    assert holds("", True).decide().outcome is Outcome.HOLDS
    assert holds("", False).decide().outcome is Outcome.REFUTED


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([], Outcome.UNDECIDED),
        ([Outcome.HOLDS, Outcome.HOLDS], Outcome.HOLDS),
        ([Outcome.HOLDS, Outcome.UNDECIDED], Outcome.UNDECIDED),
        ([Outcome.UNDECIDED, Outcome.REFUTED], Outcome.REFUTED),
    ],
)
def test_together(outcomes, expected):
    assert together(outcomes) is expected
