"""Leading singular directions of a matrix that has changed a little since they were found last."""

import torch
from torch import Tensor

from .blocks import NEAR_ENTRIES, row_blocks
from .eigensolver import leading_eigenpairs
from .krylov import orthonormal_rows, outside
from .products import matrix_product
from .spectrum import Spectrum, leading_spectrum, orthonormal_columns, resolved, spectrum_of_sides

# Directions that are kept beyond those asked for, and random ones that join them each time. Without the random ones a
# subspace that the matrix leaves invariant would never be left, whatever comes up outside of it.
_SPARE, _FRESH = 4, 4
# Applications of the matrix before a result is looked at, for the random vectors to turn towards what is new, and after
# which a cold start is no slower.
_LEAST_STEPS, _MOST_STEPS = 3, 10
# A direction counts as found if its residual is this share of the distance to its neighbours, which bounds its angle to
# the true one (0.06 degrees), or this small beside the largest value: below, only directions move that a gap of less
# than `DEGENERATE_GAP` leaves undetermined.
_SHARE_OF_GAP, _SHARE_OF_LARGEST = 1e-3, 1e-5
# For a smaller side of up to so many times the vectors that the matrix is applied to, LAPACK finds all anew in less
# time on a CPU: 6 against 12 ms for 16 vectors at 688 x 256, on one thread, but 111 against 32 ms at 1024 x 1024, and
# 9 against 5 ms for 8 vectors at 384 x 384.
_SMALL_ON_CPU = 32


def followed_spectrum(
    matrix: Tensor, rank: int, start: Tensor | None, generator: torch.Generator
) -> tuple[Spectrum, Tensor]:
    """Leading singular triplets of a matrix, from those of a similar one.

    Equal to `leading_spectrum` within the tolerance below, from a few products of the matrix with 16 vectors at rank 8.
    Where these do not suffice, and on a CPU for a smaller side of up to 512, it is `leading_spectrum` itself. The
    products have the precision of the start.

    Parameters
    ----------
    matrix : Tensor, shape=[m, n]
        Any floating dtype, on any device.
    rank : int
        Number of triplets, at least 1; capped at min(m, n).
    start : Tensor, shape=[min(m, n), s], or None
        What the call before gave to start from. Without it there is nothing to follow.
    generator : torch.Generator
        On the CPU: draws the vectors that find what is new.

    Returns
    -------
    spectrum : Spectrum
        The residual of each triplet, relative to the largest singular value, is below 1e-5, or below 1e-3 of its
        distance to its neighbours. The value after the last may be a few per cent too small.
    start : Tensor, shape=[min(m, n), s]
        For the next call: the directions of the smaller side, and up to four more.

    Notes
    -----
    Block Lanczos with full reorthogonalisation, as `krylov_eigenpairs`, from the known directions and four random ones.
    The residual vouches for the triplets that were found, not that no larger one exists: that rests on the random
    vectors, to which the matrix is applied three times at least, and on the four spare directions, which go on from
    call to call and turn to whatever is largest beyond.

    References
    ----------
    .. [1] G. H. Golub and C. F. Van Loan, Matrix Computations (4th edition, 2013), section 10.3.6.

    Examples
    --------
    >>> generator = torch.Generator().manual_seed(0)
    >>> matrix = torch.diag(torch.cat([torch.tensor([9.0, 7.0]), torch.ones(598)]))
    >>> _, start = followed_spectrum(matrix, 2, None, generator)
    >>> matrix[5, 5] = 8.0
    >>> spectrum, _ = followed_spectrum(matrix, 2, start, generator)
    >>> spectrum.values.round(decimals=4)
    tensor([9., 8.], dtype=torch.float64)
    """
    is_tall = matrix.shape[0] >= matrix.shape[1]
    tall = matrix if is_tall else matrix.mT
    rank = min(rank, tall.shape[1])
    found = None if start is None or _is_small(tall, start) else _followed(tall, rank, start, generator)
    if found is None:
        spectrum = leading_spectrum(matrix, rank)
        return spectrum, spectrum.right if is_tall else spectrum.left
    squares, inner, images, residual = found
    known_values = resolved(squares[: rank + 1], tall.shape[1])
    frames = inner[:, :rank], orthonormal_columns(images[:, :rank])
    return spectrum_of_sides(known_values, frames, _norms(tall), residual, is_tall=is_tall), inner


def _is_small(tall: Tensor, start: Tensor) -> bool:
    """Whether it takes less time to find all directions anew."""
    return tall.device.type == "cpu" and tall.shape[1] <= _SMALL_ON_CPU * (start.shape[1] + _FRESH)


def _followed(
    tall: Tensor, rank: int, start: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, float] | None:
    """Squared singular values, vectors of the smaller side, what the matrix makes of them, and the residual."""
    size, width = tall.shape[1], start.shape[1] + _FRESH
    steps = min(_MOST_STEPS, size // (2 * width))
    fresh = torch.randn(size, _FRESH, dtype=torch.float64, generator=generator).to(start)
    block, _ = orthonormal_rows(torch.cat([start, fresh], dim=1).mT)
    basis, images = block[:0], tall.new_empty(0, len(tall), dtype=block.dtype)
    for step in range(1, steps + 1):
        image, back = _there_and_back(tall, block)
        basis, images = torch.cat([basis, block]), torch.cat([images, image])
        _, beyond = outside(basis, back)
        if step >= _LEAST_STEPS:
            squares, vectors = leading_eigenpairs(matrix_product(images, images.mT), rank + _SPARE)
            values = squares.clamp(min=0).sqrt()
            residuals = torch.linalg.vector_norm(matrix_product(beyond.mT, vectors[-width:]), dim=0)[:rank]
            residuals /= values[:rank]
            if _is_found(values[: rank + 1], residuals):
                inner, images = (matrix_product(rows.mT, vectors) for rows in (basis, images))
                return squares, orthonormal_columns(inner), images, float((residuals / values[0]).max())
        block, _ = orthonormal_rows(beyond)
        block, _ = orthonormal_rows(outside(basis, block)[1])
        # Vectors of which nothing was left outside of the basis lie in it.
        if float(matrix_product(basis, block.mT).abs().max()) > torch.finfo(block.dtype).eps ** 0.5:
            return None
    return None


def _is_found(values: Tensor, residuals: Tensor) -> bool:
    """Whether these residuals are small enough; never where a value is 0, whose residual is NaN or infinite."""
    down = values[:-1] - values[1:]
    up = torch.cat([down.new_full((1,), float("inf")), down[:-1]])
    allowed = (_SHARE_OF_GAP * torch.minimum(up, down)).clamp(min=_SHARE_OF_LARGEST * float(values[0]))
    return bool((residuals <= allowed).all())


def _there_and_back(tall: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """What a matrix makes of vectors in rows, shape=[b, m], and what its transpose makes of that, shape=[b, n]."""
    images, back = [], torch.zeros_like(rows)
    for block in row_blocks(tall, NEAR_ENTRIES, rows.dtype):
        images.append(matrix_product(rows, block.mT))
        back += matrix_product(images[-1], block)
    return torch.cat(images, dim=1), back


def _norms(tall: Tensor) -> tuple[Tensor, Tensor]:
    """Norms of the columns and of the rows."""
    parts = [
        (block.square().sum(dim=0), torch.linalg.vector_norm(block, dim=1)) for block in row_blocks(tall, NEAR_ENTRIES)
    ]
    columns, rows = zip(*parts, strict=True)
    return torch.stack(columns).sum(dim=0).sqrt(), torch.cat(rows)
