"""Moments of uniform (Haar) orientations, from which the nulls are proved."""

from functools import cache
from itertools import product
from math import prod
from typing import Any

from sympy import Integer, Matrix, Rational, factorial2, solve, symbols

from .given import Given, Size, square_norm, tr
from .statement import Hypothesis

UNIFORM = Hypothesis("uniform", "the relative orientation is uniform (Haar)")


@cache
def haar_coefficients(d: Any) -> tuple[Any, Any]:
    """Coefficients (alpha, beta) of the second moments of Y = Q B Q^T for traceless symmetric B with |B| = 1.

    By invariance E[Y_ij Y_kl] = alpha d_ij d_kl + beta (d_ik d_jl + d_il d_jk); tr Y = 0 and |Y| = 1 fix both.
    """
    alpha, beta_ = symbols("alpha beta")
    solution = solve([alpha * d + 2 * beta_, alpha * d + beta_ * (d**2 + d) - 1], [alpha, beta_], dict=True)
    return solution[0][alpha], solution[0][beta_]


def mean_under_rotations(given: Given, trace: Any, size: Size = "d") -> Any:
    """E[Q B Q^T], which commutes with every rotation: a multiple of the identity, with the trace of B."""
    multiple = symbols("c")
    (found,) = solve(multiple * given.size(size) - trace, multiple)
    return found * given.identity(size)


def paired_moments(d: Any, gram: Any) -> Any:
    """E <A, Y>^2 for symmetric A, Y = Q B Q^T and traceless B with |B| = 1: the second moments paired with A twice."""
    alpha, beta_ = haar_coefficients(d)
    return alpha * tr(gram) ** 2 + 2 * beta_ * square_norm(gram)


def second_moment(d: int, i: int, j: int, k: int, m: int, *, uniform: bool = True) -> Any:
    """E[Y_ij Y_km] for traceless symmetric B with |B| = 1 in dimension d.

    Where the orientation is not uniform, the value at Y = diag(1, -1, 0, ..)/sqrt(2) instead.
    """
    if not uniform:
        return Rational((-1) ** (i + k), 2) * int(i == j and k == m and max(i, k) < 2)
    alpha, beta_ = haar_coefficients(Integer(d))
    crossed = int(i == k and j == m) + int(i == m and j == k)
    return alpha * int(i == j and k == m) + beta_ * crossed


def sphere_moment(exponents: tuple[int, ...], *, uniform: bool = True) -> Any:
    """Mean of a monomial over the unit sphere of R^d, d the number of exponents (Folland's formula).

    Where the orientation is not uniform, the value at the first axis instead.
    """
    if not uniform:
        return Integer(not any(exponents[1:]))
    if any(exponent % 2 for exponent in exponents):
        return Integer(0)
    d, degree = len(exponents), sum(exponents)
    return Rational(
        prod(int(factorial2(exponent - 1)) for exponent in exponents),
        prod(range(d, d + degree, 2)),
    )


def mean_outer_product(d: int, *, uniform: bool) -> Any:
    """E q q^T for a unit vector q."""
    moments = {
        (i, j): sphere_moment(tuple((axis == i) + (axis == j) for axis in range(d)), uniform=uniform)
        for i, j in product(range(d), repeat=2)
    }
    return Matrix(d, d, lambda i, j: moments[i, j])
