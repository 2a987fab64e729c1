"""Matrix expressions without sizes: their normal form as sums of words in the free algebra with transposition.

A word is a product of letters, a letter a matrix symbol that may be transposed or inverted. The species of a
symbol (symmetric, projector, orthonormal frame, orthogonal) is a rule for two neighbouring letters. Traces are
taken up to rotation and transposition of the word, so equal traces get equal normal forms.
"""

from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise, product
from typing import Any, NamedTuple

import sympy
from sympy import Identity, MatAdd, MatMul, MatPow, MatrixExpr, MatrixSymbol, Trace, Transpose, ZeroMatrix
from sympy.matrices.exceptions import ShapeError
from sympy.matrices.expressions import Inverse


class Symmetric(MatrixSymbol):  # type: ignore[misc]  # sympy carries no types
    """A symbol that equals its transpose."""


class Projector(Symmetric):
    """A symmetric symbol that equals its square."""


class Frame(MatrixSymbol):  # type: ignore[misc]
    """A symbol with orthonormal columns: its transpose is a left inverse."""


class Orthogonal(Frame):
    """A square frame: its transpose is its inverse."""


class Letter(NamedTuple):
    """One factor of a word."""

    symbol: Any
    transposed: bool = False
    inverted: bool = False

    @property
    def transpose(self) -> "Letter":
        """The letter of the transposed factor."""
        return self if isinstance(self.symbol, Symmetric) else self._replace(transposed=not self.transposed)

    @property
    def inverse(self) -> "Letter":
        """The letter of the inverted factor."""
        return self.transpose if isinstance(self.symbol, Orthogonal) else self._replace(inverted=not self.inverted)

    @property
    def rows(self) -> Any:
        """Number of rows of the factor."""
        return self.symbol.shape[1 if self.transposed else 0]

    @property
    def expression(self) -> Any:
        """The factor as a sympy expression."""
        factor = self.symbol.inv() if self.inverted else self.symbol
        return factor.T if self.transposed else factor


Word = tuple[Letter, ...]
Polynomial = dict[Word, Any]


def _collect(terms: Iterable[tuple[Word, Any]]) -> Polynomial:
    total: defaultdict[Word, Any] = defaultdict(lambda: sympy.S.Zero)
    for word, coefficient in terms:
        total[word] += coefficient
    expanded = {word: sympy.expand(coefficient) for word, coefficient in total.items()}
    return {word: coefficient for word, coefficient in expanded.items() if coefficient != 0}


def _product(left: Polynomial, right: Polynomial) -> Polynomial:
    for a, b in product(left, right):
        # sympy lets symbolic sizes pass that are not known to differ; here they have to be the same symbol.
        if a and b and a[-1].transpose.rows != b[0].rows:
            raise ShapeError(f"{a[-1].expression} and {b[0].expression} do not fit: the inner sizes differ")
    return _collect((a + b, p * q) for a, p in left.items() for b, q in right.items())


def words(expression: Any) -> Polynomial:
    """Expand a matrix expression into words with scalar coefficients.

    Parameters
    ----------
    expression : MatrixExpr
        Sums, products, integer powers, transposes and inverses of matrix symbols.

    Returns
    -------
    polynomial : dict of word to coefficient
        Empty for the zero matrix; the empty word stands for the identity.

    Raises
    ------
    TypeError
        If the expression has another form, such as the inverse of a sum.
    ShapeError
        If the inner sizes of two factors are not the same.
    """
    match expression:
        case MatrixSymbol():
            return {(Letter(expression),): sympy.S.One}
        case Identity():
            return {(): sympy.S.One}
        case ZeroMatrix():
            return {}
        case MatAdd():
            return _collect(term for part in expression.args for term in words(part).items())
        case MatMul():
            total: Polynomial = {(): sympy.S.One}
            for factor in expression.args:
                total = _product(total, words(factor) if isinstance(factor, MatrixExpr) else {(): factor})
            return total
        case Transpose():
            parts = words(expression.arg).items()
            return _collect((tuple(x.transpose for x in reversed(word)), c) for word, c in parts)
        case Inverse():
            parts = words(expression.arg).items()
            if len(parts) == 1:
                return {tuple(x.inverse for x in reversed(word)): 1 / c for word, c in parts}
        case MatPow() if expression.exp.is_Integer:
            base = words(expression.base if expression.exp > 0 else expression.base.inv())
            power = base
            for _ in range(abs(int(expression.exp)) - 1):
                power = _product(power, base)
            return power
    raise TypeError(f"the free algebra has sums, products, transposes and inverses of symbols; got {expression}")


def _contract(left: Letter, right: Letter) -> Word | None:
    """Product of two neighbours where the species of their common symbol simplifies it."""
    symbol = left.symbol
    if symbol != right.symbol:
        return None
    if left == right.inverse:
        return ()
    if isinstance(symbol, Projector):
        return (left,)
    if isinstance(symbol, Frame) and left.transposed and not right.transposed:
        return ()
    return None


def _shorten(word: Word) -> Word:
    """Contract neighbours until none is left to contract."""
    for place in range(len(word) - 1):
        contracted = _contract(word[place], word[place + 1])
        if contracted is not None:
            return _shorten(word[:place] + contracted + word[place + 2 :])
    return word


def _rotations(word: Word) -> list[Word]:
    return [word[k:] + word[:k] for k in range(len(word))]


def _trace_normal(word: Word, size: Any) -> Any:
    """Trace of one word, contracted around the circle and named by its least rotation."""
    if not word:
        return size
    rotations = _rotations(word)
    for rotation in rotations:
        shorter = _shorten(rotation)
        if shorter != rotation:
            return _trace_normal(shorter, rotation[0].rows)
    joints = [place for place, letter in enumerate(word) if letter.rows == 1]
    if len(joints) > 1:
        # Between two vectors' ends stands a number: the trace is the product of the numbers around the circle.
        circle, first = word[joints[0] :] + word[: joints[0]], joints[0]
        cuts = [joint - first for joint in joints] + [len(word)]
        return sympy.prod(_trace_normal(circle[a:b], sympy.S.One) for a, b in pairwise(cuts))
    mirrored = _rotations(tuple(letter.transpose for letter in reversed(word)))
    least = min(rotations + mirrored, key=lambda w: [(str(x.symbol), x.transposed, x.inverted) for x in w])
    return Trace(MatMul(*(letter.expression for letter in least)))


def _scalar_normal(expression: Any) -> Any:
    """Expand a scalar after every trace in it has been brought to normal form."""
    traces = {}
    for trace in expression.atoms(Trace):
        terms = words(trace.arg).items()
        traces[trace] = sum((_scalar_normal(c) * _trace_normal(w, trace.arg.rows) for w, c in terms), sympy.S.Zero)
    return sympy.expand(expression.xreplace(traces))


def _rebuild(polynomial: Polynomial, shape: tuple[Any, Any]) -> Any:
    terms = [
        MatMul(coefficient, *(letter.expression for letter in word)) if word else coefficient * Identity(shape[0])
        for word, coefficient in polynomial.items()
    ]
    return MatAdd(*terms).doit() if terms else ZeroMatrix(*shape)


def normal_form(expression: Any) -> Any:
    """Normal form of a matrix expression, or of a scalar expression with traces of such.

    Parameters
    ----------
    expression : MatrixExpr or Expr
        Over symbols of any species.

    Returns
    -------
    normal : MatrixExpr or Expr
        The zero matrix or 0 if the expression vanishes for all sizes.

    Examples
    --------
    >>> U = Frame("U", 5, 2)
    >>> normal_form(Trace(U * U.T * U * U.T))
    2
    """
    if isinstance(expression, MatrixExpr):
        shortened = _collect((_shorten(word), _scalar_normal(c)) for word, c in words(expression).items())
        return _rebuild(shortened, expression.shape)
    return _scalar_normal(expression)
