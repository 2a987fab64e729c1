"""Sums and intersections of subspaces, as decisions about rank.

Dimensions of intersections survive every linear change of basis of the space, unlike angles. Each comes
with the tolerance it was taken at and the sines on either side of it, so that a reader can see how clear
the decision was.

The functions take orthonormal frames `first` (or `outer`), of shape ``[..., n, r]``, and `second` (or `inner`), of
shape ``[..., n, s]``, under the conventions of the package. Their `tolerance` is the largest sine of a principal angle
that counts as zero, in [0, 1). By default it is ``40 * n * eps``, the rounding errors of two well-separated
factorizations. For singular subspaces use the sum of their `singular_subspace_error`, for noisy data the noise.
The computation is that of G. H. Golub and C. F. Van Loan, Matrix Computations, 4th edition (2013), section 6.4.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .angles import principal_angles
from .checks import require_fit, require_frame, require_pair
from .frames import residual

# Rounding errors of a factorization, in units of n * eps, that a tolerance allows for.
_ROUNDING_UNITS = 20


@dataclass(frozen=True)
class IntersectionDimension:
    """Dimension of an intersection, with the evidence for it.

    Attributes
    ----------
    dimension : Tensor of int, shape=[...]
        Number of principal angles whose sine is at most `tolerance`.
    largest_zero : Tensor, shape=[...]
        Largest sine counted as zero; 0 if there is none.
    smallest_nonzero : Tensor, shape=[...]
        Smallest sine counted as different from zero; 1 if there is none.
    tolerance : float
        Where the line was drawn.
    """

    dimension: Tensor
    largest_zero: Tensor
    smallest_nonzero: Tensor
    tolerance: float


def singular_subspace_error(singular_values: Tensor, rank: int, shape: tuple[int, int]) -> Tensor:
    r"""Bound for the sine between an exact and a computed leading singular subspace.

    A backward-stable decomposition is exact for a matrix within ``20 * max(shape) * eps * norm``; Wedin's
    theorem divides that by the gap of the singular values. The sum of two such bounds is the tolerance for
    `intersection_dimension`.

    Parameters
    ----------
    singular_values : Tensor, shape=[..., p]
        Descending. Their dtype is that of the decomposition.
    rank : int
        Dimension of the subspace, 1 <= rank <= p.
    shape : (int, int)
        Shape of the matrix; a value behind the last counts as 0.

    Raises
    ------
    ValueError
        If `rank` is out of range, or if the gap behind it is below ``1000 * eps`` times the largest value: the
        subspace is then undetermined.

    References
    ----------
    .. [1] P.-Å. Wedin, Perturbation bounds in connection with singular value decomposition, BIT 12 (1972).

    Examples
    --------
    >>> bool(singular_subspace_error(torch.tensor([2.0, 1.0]), 1, (4, 2)) < 1e-4)
    True
    """
    count = singular_values.shape[-1]
    if not 1 <= rank <= count:
        raise ValueError(f"singular_subspace_error expected a rank from 1 to {count}; got {rank}.")
    eps = torch.finfo(singular_values.dtype).eps
    largest = singular_values[..., 0]
    following = singular_values[..., rank] if rank < count else torch.zeros_like(largest)
    gap = singular_values[..., rank - 1] - following
    if not bool((gap >= 1e3 * eps * largest).all() & (largest > 0).all()):
        raise ValueError(
            f"singular_subspace_error: the leading {rank} directions are undetermined, expected a gap of at least "
            f"{1e3 * eps:.1e} of the largest singular value; found {float((gap / largest).min()):.1e}."
        )
    return _ROUNDING_UNITS * max(shape) * eps * largest / gap


def intersection_dimension(first: Tensor, second: Tensor, tolerance: float | None = None) -> IntersectionDimension:
    """Dimension of the intersection of two subspaces, and the sines on either side of the tolerance.

    With the two dimensions it is the complete invariant of the pair under invertible linear maps. For data in which no
    angle is exactly 0, `largest_cosine_edge` gives the cosine that chance alone reaches.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> intersection_dimension(axes[:, [0, 1]], axes[:, [1, 2]]).dimension
    tensor(1)
    """
    sines = torch.sin(principal_angles(first, second))
    tolerance = sine_tolerance(tolerance, first)
    zero = sines <= tolerance
    return IntersectionDimension(
        dimension=zero.sum(dim=-1),
        largest_zero=torch.where(zero, sines, 0).amax(dim=-1),
        smallest_nonzero=torch.where(zero, 1, sines).amin(dim=-1),
        tolerance=tolerance,
    )


def subspace_sum(first: Tensor, second: Tensor, tolerance: float | None = None) -> Tensor:
    """Orthonormal frame of the sum of two subspaces.

    Its shape is ``[n, r + s - c]``, with c the dimension of the intersection. The frame of the wider subspace comes
    first. Batches are refused: a batch has no one width.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> subspace_sum(axes[:, [0, 1]], axes[:, [1, 2]]).shape
    torch.Size([4, 3])
    """
    wide, _, left, sines, _ = _outside(first, second, "subspace_sum")
    # Left vectors of a tiny sine have lost their orthogonality to the wider subspace, so they are cut off again.
    beyond = residual(left[:, sines > sine_tolerance(tolerance, first)], wide)
    return torch.cat([wide, torch.linalg.qr(beyond).Q], dim=1)


def subspace_intersection(first: Tensor, second: Tensor, tolerance: float | None = None) -> Tensor:
    """Orthonormal frame, of shape ``[n, c]``, of the intersection of two subspaces.

    It consists of vectors of the narrower subspace within the tolerance of the wider one; c may be 0. Batches are
    refused: a batch has no one width.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> subspace_intersection(axes[:, [0, 1]], axes[:, [1, 2]]).abs()
    tensor([[0.],
            [1.],
            [0.],
            [0.]])
    """
    _, narrow, _, sines, right = _outside(first, second, "subspace_intersection")
    return narrow @ right[:, sines <= sine_tolerance(tolerance, first)]


def contains(outer: Tensor, inner: Tensor, tolerance: float | None = None) -> Tensor:
    """Whether every direction of the subspace `inner` lies in the subspace `outer`.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> contains(axes[:, :2], axes[:, :1]), contains(axes[:, :1], axes[:, :2])
    (tensor(True), tensor(False))
    """
    require_fit(outer, inner, "contains", "outer", "inner")
    require_frame(outer, "outer")
    require_frame(inner, "inner")
    return torch.linalg.matrix_norm(residual(inner, outer), ord=2) <= sine_tolerance(tolerance, outer)


def _outside(first: Tensor, second: Tensor, caller: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Wider and narrower frame, and the singular value decomposition of the part of the latter outside the former."""
    require_pair(first, second, caller)
    if first.ndim != 2 or second.ndim != 2:
        raise ValueError(f"{caller} expected frames [n, k]; got shapes {tuple(first.shape)} and {tuple(second.shape)}.")
    wide, narrow = (first, second) if first.shape[-1] >= second.shape[-1] else (second, first)
    left, sines, right = torch.linalg.svd(residual(narrow, wide), full_matrices=False)
    return wide, narrow, left, sines, right.mT


def sine_tolerance(tolerance: float | None, frame: Tensor) -> float:
    """Largest sine that counts as zero: the one asked for, or the rounding of two factorizations."""
    if tolerance is None:
        return 2 * _ROUNDING_UNITS * frame.shape[-2] * torch.finfo(frame.dtype).eps
    if not 0 <= tolerance < 1:
        raise ValueError(f"expected a tolerance for sines in [0, 1); got {tolerance}.")
    return float(tolerance)
