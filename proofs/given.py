"""What a proof is given: matrices of any size, of generic entries, or of exact numbers.

A proof is written once, as a function of `given`; each class here makes one kind of proof of it.
"""

import random
from contextvars import ContextVar
from math import prod
from typing import Any, ClassVar

import sympy
from sympy import Matrix, MatrixSymbol, Rational, Symbol, Trace

from .evidence import Evidence
from .words import Frame, Orthogonal, Projector, Symmetric

Size = str | int

# How often seeded numbers were drawn: an argument that draws any, whatever it is given, shows no more than instances.
draws: ContextVar[int] = ContextVar("draws", default=0)


class Given:
    """The matrices and numbers of one kind of proof; a kind that has no matrices of some sort does not define them.

    Parameters
    ----------
    **sizes : int
        Value of each named dimension.
    """

    kind: ClassVar[str]
    evidence: ClassVar[Evidence]

    def __init__(self, **sizes: int) -> None:
        self.sizes = sizes

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.dimensions})"

    @property
    def dimensions(self) -> str:
        """The dimensions in words, such as ``d = 2, n = 3``."""
        return ", ".join(f"{name} = {value}" for name, value in self.sizes.items())

    def size(self, name: Size) -> Any:
        """Value of a named dimension; an integer stands for itself."""
        return name if isinstance(name, int) else self.sizes[name]

    def matrix(self, name: str, rows: Size, columns: Size) -> Any:
        """Arbitrary matrix."""
        raise NotImplementedError

    def symmetric(self, name: str, size: Size) -> Any:
        """Symmetric matrix."""
        raise NotImplementedError

    def diagonal(self, name: str, size: Size) -> Any:
        """Diagonal matrix."""
        raise NotImplementedError

    def projector(self, name: str, size: Size) -> Any:
        """Orthogonal projector."""
        raise NotImplementedError

    def frame(self, name: str, rows: Size, columns: Size) -> Any:
        """Matrix with orthonormal columns."""
        raise NotImplementedError

    def orthogonal(self, name: str, size: Size) -> Any:
        """Orthogonal matrix."""
        raise NotImplementedError

    def invertible(self, name: str, size: Size) -> Any:
        """Invertible matrix."""
        raise NotImplementedError

    def identity(self, size: Size) -> Any:
        """Identity matrix."""
        return sympy.eye(self.size(size))

    def zeros(self, rows: Size, columns: Size) -> Any:
        """Zero matrix."""
        return sympy.zeros(self.size(rows), self.size(columns))

    def real(self, names: str) -> Any:
        """Real numbers, one for each name."""
        return sympy.symbols(names, real=True)

    def positive(self, names: str) -> Any:
        """Positive numbers, one for each name."""
        return sympy.symbols(names, positive=True)


class DimensionFree(Given):
    """Matrix symbols whose sizes are symbols too: an identity holds for all sizes at once."""

    kind = "dimension-free symbols"
    evidence = Evidence.ALL_DIMENSIONS

    @property
    def dimensions(self) -> str:
        """The dimensions in words."""
        return "all"

    def size(self, name: Size) -> Any:
        """Value of a named dimension, a symbol."""
        return name if isinstance(name, int) else Symbol(name, integer=True, positive=True)

    def identity(self, size: Size) -> Any:
        """Identity matrix."""
        return sympy.Identity(self.size(size))

    def zeros(self, rows: Size, columns: Size) -> Any:
        """Zero matrix."""
        return sympy.ZeroMatrix(self.size(rows), self.size(columns))

    def matrix(self, name: str, rows: Size, columns: Size) -> Any:
        """Arbitrary matrix."""
        return MatrixSymbol(name, self.size(rows), self.size(columns))

    def symmetric(self, name: str, size: Size) -> Any:
        """Symmetric matrix."""
        return Symmetric(name, self.size(size), self.size(size))

    def diagonal(self, name: str, size: Size) -> Any:
        """Diagonal matrix; without sizes only its symmetry is used."""
        return self.symmetric(name, size)

    def projector(self, name: str, size: Size) -> Any:
        """Orthogonal projector."""
        return Projector(name, self.size(size), self.size(size))

    def frame(self, name: str, rows: Size, columns: Size) -> Any:
        """Matrix with orthonormal columns."""
        return Frame(name, self.size(rows), self.size(columns))

    def orthogonal(self, name: str, size: Size) -> Any:
        """Orthogonal matrix."""
        return Orthogonal(name, self.size(size), self.size(size))

    def invertible(self, name: str, size: Size) -> Any:
        """Invertible matrix."""
        return self.matrix(name, size, size)


class Generic(Given):
    """Matrices of given size whose entries are independent real symbols."""

    kind = "generic symbols"
    evidence = Evidence.GENERIC_SYMBOLS

    def matrix(self, name: str, rows: Size, columns: Size) -> Any:
        """Arbitrary matrix."""
        return Matrix(self.size(rows), self.size(columns), lambda i, j: self.real(f"{name}_{i}{j}"))

    def symmetric(self, name: str, size: Size) -> Any:
        """Symmetric matrix."""
        return Matrix(self.size(size), self.size(size), lambda i, j: self.real(f"{name}_{min(i, j)}{max(i, j)}"))

    def diagonal(self, name: str, size: Size) -> Any:
        """Diagonal matrix."""
        return sympy.diag(*(self.real(f"{name}_{i}") for i in range(self.size(size))))

    def invertible(self, name: str, size: Size) -> Any:
        """Invertible matrix: generic entries have a non-zero determinant."""
        return self.matrix(name, size, size)


class Exact(Given):
    """Matrices of given size with rational entries, drawn from a generator seeded by their name."""

    kind = "exact rational instances"
    evidence = Evidence.INSTANCES

    def _generator(self, name: str) -> random.Random:
        draws.set(draws.get() + 1)
        return random.Random(f"{name} {self.dimensions}")

    def positive(self, names: str) -> Any:
        """Positive rational numbers, one for each name."""
        generators = [self._generator(name) for name in names.split()]
        values = tuple(Rational(generator.randint(1, 97), generator.randint(1, 97)) for generator in generators)
        return values[0] if len(values) == 1 else values

    def real(self, names: str) -> Any:
        """Non-zero rational numbers, one for each name, of alternating sign."""
        values = self.positive(names)
        return tuple(v * (-1) ** k for k, v in enumerate(values)) if isinstance(values, tuple) else -values

    def matrix(self, name: str, rows: Size, columns: Size) -> Any:
        """Integer matrix without zero entries."""
        shape = self.size(rows), self.size(columns)
        return Matrix(*shape, self._generator(name).choices([*range(-9, 0), *range(1, 10)], k=prod(shape)))

    def symmetric(self, name: str, size: Size) -> Any:
        """Symmetric integer matrix."""
        square = self.matrix(name, size, size)
        return square + square.T

    def diagonal(self, name: str, size: Size) -> Any:
        """Diagonal integer matrix with distinct entries."""
        return sympy.diag(*self._generator(name).sample(range(-9, 10), self.size(size)))

    def orthogonal(self, name: str, size: Size) -> Any:
        """Rational orthogonal matrix: the Cayley transform of a skew one."""
        lower = self.matrix(name, size, size).lower_triangular(-1)
        skew, identity = lower - lower.T, self.identity(size)
        return (identity - skew) * (identity + skew).inv()

    def frame(self, name: str, rows: Size, columns: Size) -> Any:
        """Orthonormal columns: the first ones of a rational orthogonal matrix."""
        return self.orthogonal(name, rows)[:, : self.size(columns)]

    def projector(self, name: str, size: Size) -> Any:
        """Projector onto half of the dimensions, rounded up."""
        frame = self.frame(name, size, (self.size(size) + 1) // 2)
        return frame * frame.T

    def invertible(self, name: str, size: Size) -> Any:
        """Invertible integer matrix, far from orthogonal: lower triangular times upper triangular, unit diagonals."""
        square, identity = self.matrix(name, size, size), self.identity(size)
        return (identity + square.lower_triangular(-1)) * (identity + square.upper_triangular(1))


class Exhaustive(Given):
    """All members of a finite set, named by the sizes that bound it; a sample of seeded numbers is none."""

    kind = "every case of a finite set"
    evidence = Evidence.EVERY_CASE


def tr(matrix: Any) -> Any:
    """Trace of a matrix with or without entries."""
    return matrix.trace() if isinstance(matrix, sympy.MatrixBase) else Trace(matrix)


def inner(left: Any, right: Any) -> Any:
    """Frobenius inner product."""
    return tr(left.T * right)


def square_norm(matrix: Any) -> Any:
    """Squared Frobenius norm."""
    return inner(matrix, matrix)


def bracket(left: Any, right: Any) -> Any:
    """Commutator of two square matrices."""
    return left * right - right * left


def rotation(angle: Any) -> Any:
    """Rotation of the plane by an angle."""
    return Matrix([[sympy.cos(angle), -sympy.sin(angle)], [sympy.sin(angle), sympy.cos(angle)]])
