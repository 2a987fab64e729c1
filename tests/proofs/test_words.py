"""The normal form against exact evaluation at random integer matrices, and against rules known in advance."""

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st
from sympy import Identity, Matrix, MatrixSymbol, Symbol, Trace, ZeroMatrix

from proofs.given import Exact
from proofs.words import Frame, Orthogonal, Projector, Symmetric, normal_form

SIZE = 3
EXACT = Exact(d=SIZE, k=2)
LETTERS = {
    MatrixSymbol("X", SIZE, SIZE): EXACT.matrix("X", "d", "d"),
    MatrixSymbol("g", SIZE, SIZE): EXACT.invertible("g", "d"),
    Symmetric("S", SIZE, SIZE): EXACT.symmetric("S", "d"),
    Projector("P", SIZE, SIZE): EXACT.projector("P", "d"),
    Orthogonal("Q", SIZE, SIZE): EXACT.orthogonal("Q", "d"),
}

letters = st.sampled_from(list(LETTERS))
inverses = st.sampled_from([letter.inv() for letter in LETTERS if letter.name in "gQ"])
factors = st.one_of(letters, letters.map(lambda letter: letter.T), inverses)
products = st.lists(factors, min_size=1, max_size=5).map(lambda parts: sympy.MatMul(*parts))
sums = st.lists(st.tuples(st.integers(-3, 3).filter(bool), products), min_size=1, max_size=3)


def value(expression):
    return expression.subs(LETTERS).doit() if expression.free_symbols else expression.doit()


def combine(terms):
    return sympy.MatAdd(*(coefficient * product for coefficient, product in terms))


@settings(max_examples=60)
@given(sums)
def test_normal_form_keeps_the_value(terms):
    expression = combine(terms)
    assert Matrix(value(normal_form(expression))) == Matrix(value(expression))


@settings(max_examples=60)
@given(sums)
def test_trace_normal_form_keeps_the_value(terms):
    expression = Trace(combine(terms))
    assert value(normal_form(expression)) == Matrix(value(combine(terms))).trace()


@settings(max_examples=60)
@given(st.lists(factors, min_size=2, max_size=6), st.integers(1, 5))
def test_traces_of_rotated_and_transposed_words_agree(parts, shift):
    word = sympy.MatMul(*parts)
    shift %= len(parts)
    rotated = sympy.MatMul(*parts[shift:], *parts[:shift])
    assert normal_form(Trace(word)) == normal_form(Trace(rotated)) == normal_form(Trace(word.T))


n, k = Symbol("n", integer=True, positive=True), Symbol("k", integer=True, positive=True)
X, g, U = MatrixSymbol("X", n, n), MatrixSymbol("g", n, n), Frame("U", n, k)
x, y = MatrixSymbol("x", n, 1), MatrixSymbol("y", n, 1)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (g.inv() * g - Identity(n), ZeroMatrix(n, n)),
        (g.inv().T * g.T - Identity(n), ZeroMatrix(n, n)),
        (U.T * U - Identity(k), ZeroMatrix(k, k)),
        (Trace(U * U.T) - k, 0),
        ((X + X.T) ** 2 - X**2 - X * X.T - X.T * X - (X.T) ** 2, ZeroMatrix(n, n)),
        (Trace(x * y.T * y * x.T) - Trace(x.T * x) * Trace(y.T * y), 0),
        (Trace(x.T * y) - Trace(y.T * x), 0),
    ],
)
def test_known_rules(expression, expected):
    assert normal_form(expression) == expected


@pytest.mark.parametrize(
    "expression", [U * U.T - Identity(n), X * g - g * X, X - X.T, Trace(X * g * X.T) - Trace(X * g * X)]
)
def test_what_does_not_vanish_is_left(expression):
    assert normal_form(expression) not in (0, ZeroMatrix(n, n))


def test_forms_outside_the_algebra_are_refused():
    with pytest.raises(TypeError, match="sums, products, transposes and inverses"):
        normal_form((X + g).inv())
