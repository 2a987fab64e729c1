"""Leading singular directions of a large matrix from products with a few vectors."""

from collections.abc import Callable

import torch
from torch import Tensor

from .eigensolver import leading_eigenpairs
from .products import matrix_product

# Columns of a block beyond those asked for, at least: with them the last one converges as fast as the others.
_SPARE = 6
# A multiple of this many columns is what matrix products are fast with.
_COLUMNS = 8
# Steps between two looks at what has converged, and the most made: LAPACK is faster where they do not suffice.
_BETWEEN_LOOKS, _MOST_STEPS = 3, 60
# A vector counts as found if the residual of the Gram matrix is this share of the distance to its neighbours ...
_SHARE_OF_GAP = 1e-7
# ... or as small as rounding leaves it, relative to the largest eigenvalue.
_ROUNDING = 1e-12
_SEED = 0


def krylov_eigenpairs(
    product: Callable[[Tensor], Tensor], like: Tensor, size: int, count: int
) -> tuple[Tensor, Tensor] | None:
    r"""Largest eigenvalues of a positive semi-definite operator and their vectors, from its products alone.

    Parameters
    ----------
    product : callable
        From vectors, shape=[n, b], to what the operator makes of them.
    like : Tensor
        Of the device and dtype in which to work.
    size : int
        The n of the operator.
    count : int
        Number of pairs.

    Returns
    -------
    values : Tensor, shape=[count]
        Descending.
    vectors : Tensor, shape=[n, count]
        Orthonormal to 1e-14 in float64. The residual of all but the last is below 1e-7 of the distance to the next
        eigenvalues, which bounds the sine of the angle to the true vector, or below 1e-12 of the largest one.

        None if that is not reached before the basis would fill the space, or in 60 steps.

    Notes
    -----
    Block Lanczos with full reorthogonalisation, from a seeded start: the vectors depend on the operator alone. A
    block finds all copies of an eigenvalue whose multiplicity is at most its width, ``count + 6`` or more.

    References
    ----------
    .. [1] G. H. Golub and C. F. Van Loan, Matrix Computations (4th edition, 2013), section 10.3.6.
    """
    width = -(-(count + _SPARE) // _COLUMNS) * _COLUMNS
    steps = max(0, min(_MOST_STEPS, size // width - 1))
    generator = torch.Generator().manual_seed(_SEED)
    start = torch.randn(size, width, dtype=torch.float64, generator=generator).to(like)
    basis = like.new_empty(size, width * steps)
    projected = like.new_zeros(width * steps, width * steps)
    block = torch.linalg.qr(start).Q
    for step in range(steps):
        done, end = step * width, (step + 1) * width
        basis[:, done:end] = block
        known = basis[:, :end]
        image = product(block)
        coefficients, image = _outside(known, image)
        projected[:end, done:end] = coefficients
        projected[done:end, :end] = coefficients.mT
        block, beyond = torch.linalg.qr(image)
        # Where nothing is left, the columns are rounding errors, which lie in the basis as well.
        block = torch.linalg.qr(_outside(known, block)[1]).Q
        if step % _BETWEEN_LOOKS == _BETWEEN_LOOKS - 1:
            values, vectors = leading_eigenpairs(projected[:end, :end].clone(), count)
            residuals = torch.linalg.vector_norm(matrix_product(beyond, vectors[done:end]), dim=0)
            if _is_found(values, residuals):
                return values, matrix_product(known, vectors)
    return None


def _outside(basis: Tensor, vectors: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of vectors in a basis, and what is left of them; once more, since the first time leaves a rest."""
    first = matrix_product(basis.mT, vectors)
    vectors = vectors - matrix_product(basis, first)
    second = matrix_product(basis.mT, vectors)
    return first + second, vectors - matrix_product(basis, second)


def _is_found(values: Tensor, residuals: Tensor) -> bool:
    """Whether all vectors but the last are as good as their distance to the neighbouring eigenvalues asks for."""
    down = values[:-1] - values[1:]
    up = torch.cat([down.new_full((1,), float("inf")), down[:-1]])
    allowed = (_SHARE_OF_GAP * torch.minimum(up, down)).clamp(min=_ROUNDING * float(values[0]))
    return bool((residuals[:-1] <= allowed).all())
