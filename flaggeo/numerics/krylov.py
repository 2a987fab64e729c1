"""Leading singular directions of a large matrix from products with a few vectors."""

from collections.abc import Callable

import torch
from torch import Tensor

from .eigensolver import leading_eigenpairs
from .products import matrix_product

# A narrow block needs fewer products in all, and below this width a product takes no less time. Where it may have
# missed copies of a repeated eigenvalue, the one after it is wider than the number of pairs.
_WIDTH, _SPARE = 8, 7
# Steps between two looks at what has converged, and the largest basis: LAPACK is faster where it does not suffice.
_BETWEEN_LOOKS, _MOST_VECTORS = 3, 960
# A vector counts as found if the sine of its angle to the true one is bounded by this ...
_SINE = 1e-7
# ... or its residual is as small as rounding leaves it, relative to the largest eigenvalue.
_ROUNDING = 1e-12
# Rows of a block whose parts outside of the others are this far apart in size get orthogonalised once more.
_NEARLY_DEPENDENT = 0.1
# Eigenvalues within this share of each other may be copies of one.
_COPIES = 1e-6
_SEED = 0


def krylov_eigenpairs(
    product: Callable[[Tensor], Tensor], like: Tensor, size: int, count: int, least: float = 0.0
) -> tuple[Tensor, Tensor] | None:
    r"""Largest eigenvalues of a positive semi-definite operator and their vectors, from its products alone.

    Parameters
    ----------
    product : callable
        From vectors in rows, shape=[b, n], to what the operator makes of them.
    like : Tensor
        Of the device and dtype in which to work.
    size : int
        The n of the operator.
    count : int
        Number of pairs.
    least : float, optional
        Pairs of smaller values need not be found: where they are those of noise, that would take most of the time.

    Returns
    -------
    values : Tensor, shape=[count]
        Descending; those below `least` may be too small.
    vectors : Tensor, shape=[n, count]
        Orthonormal to 1e-14 in float64. The sine of the angle of all but the last, and those of values below `least`,
        to the true vector is below 1e-7, or their residual is below 1e-12 of the largest eigenvalue.

        None if that is not reached before the basis would fill the space or has 960 vectors.

    Notes
    -----
    Block Lanczos with full reorthogonalisation, from a seeded start: the vectors depend on the operator alone. A
    block of b vectors finds at most b copies of a repeated eigenvalue. So if the first block, 8 wide, finds 8 equal
    ones, more may exist, and a second attempt has a block wider than `count`. So it has if it stopped at `least` and
    other vectors, in the complement of what was found, lead to more above it: values that are nearly equal are told
    apart late.

    References
    ----------
    .. [1] G. H. Golub and C. F. Van Loan, Matrix Computations (4th edition, 2013), section 10.3.6.
    """
    found = _by_blocks(product, like, size, count, least, _WIDTH)
    if found is not None and (_may_miss_copies(found[0], _WIDTH) or _leaves_some(product, found, least)):
        found = _by_blocks(product, like, size, count, least, -(-(count + _SPARE) // _WIDTH) * _WIDTH)
    return found


def _leaves_some(product: Callable[[Tensor], Tensor], found: tuple[Tensor, Tensor], least: float) -> bool:
    """Whether there is more above the least value than was found; never where all that was asked for is above it."""
    values, vectors = found
    wanted = _wanted(values, least)
    if wanted[-1]:
        return False
    known = vectors[:, wanted].mT

    def elsewhere(rows: Tensor) -> Tensor:
        return outside(known, product(outside(known, rows)[1]))[1]

    more = _by_blocks(elsewhere, vectors, len(vectors), _WIDTH * _BETWEEN_LOOKS + 1, float("inf"), _WIDTH, _SEED + 1)
    return more is None or bool(more[0][0] >= least)


def _by_blocks(
    product: Callable[[Tensor], Tensor],
    like: Tensor,
    size: int,
    count: int,
    least: float,
    width: int,
    seed: int = _SEED,
) -> tuple[Tensor, Tensor] | None:
    steps = max(0, min(_MOST_VECTORS, size - width) // width)
    generator = torch.Generator().manual_seed(seed)
    start = torch.randn(size, width, dtype=torch.float64, generator=generator).to(like)
    basis = like.new_empty(width * steps, size)  # vectors in rows, so that memory grows with their number
    projected = like.new_zeros(width * steps, width * steps)
    block = torch.linalg.qr(start).Q.mT
    for step in range(steps):
        done, end = step * width, (step + 1) * width
        basis[done:end] = block
        known = basis[:end]
        coefficients, image = outside(known, product(basis[done:end]))
        projected[done:end, :end] = coefficients
        projected[:end, done:end] = coefficients.mT
        block, beyond = orthonormal_rows(image)
        sizes = beyond.diagonal().abs()
        if sizes.min() < _NEARLY_DEPENDENT * sizes.max():
            # Where little is left, rows are made larger with their rounding errors, which lie in the basis as well.
            block, _ = orthonormal_rows(outside(known, block)[1])
        if step % _BETWEEN_LOOKS == _BETWEEN_LOOKS - 1 and end >= count:
            values, vectors = leading_eigenpairs(projected[:end, :end].clone(), min(count + _SPARE, end))
            residuals = torch.linalg.vector_norm(matrix_product(beyond, vectors[done:end]), dim=0)
            if _is_found(values, residuals, min(count - 1, int(_wanted(values, least).sum()))):
                return values[:count], matrix_product(known.mT, vectors[:, :count])
    return None


def _wanted(values: Tensor, least: float) -> Tensor:
    """Which values are asked for; those of a positive semi-definite operator are negative by rounding alone."""
    return values.clamp(min=0) >= least


def outside(basis: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of vectors in a basis, and what is left of them; once more, since the first time leaves a rest."""
    first = matrix_product(vectors, basis.mT)
    vectors = vectors - matrix_product(first, basis)
    second = matrix_product(vectors, basis.mT)
    return first + second, vectors - matrix_product(second, basis)


def orthonormal_rows(vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Orthonormal rows of the same span, and the triangle that makes columns of the vectors from them."""
    frame, triangle = torch.linalg.qr(vectors.mT)
    return frame.mT, triangle


def _is_found(values: Tensor, residuals: Tensor, wanted: int) -> bool:
    r"""Whether the first vectors are as good as wanted, given the values and residuals of a few more.

    Vectors from one basis are coupled to each other only through what lies outside of it. So the first order of the
    error of vector i is :math:`r_i / d_i` with the distance :math:`d_i` of its value to those outside, taken to start
    at the last known one; its part along vector j is of second order, :math:`r_i r_j / (d_i |\lambda_i - \lambda_j|)`.
    """
    found, rest = values[:wanted], residuals[:wanted]
    apart = (found[:, None] - values).abs().fill_diagonal_(float("inf"))
    sines = rest / (found - values[-1]) * (1 + (residuals / apart).sum(dim=1))
    return bool(((sines <= _SINE) | (rest <= _ROUNDING * values[0])).all())


def _may_miss_copies(values: Tensor, width: int) -> bool:
    """Whether as many values as a block is wide are equal; copies of zero are of no interest."""
    firsts, lasts = values[: 1 - width], values[width - 1 :]
    return bool(((firsts - lasts <= _COPIES * firsts) & (firsts > _ROUNDING * values[0])).any())
