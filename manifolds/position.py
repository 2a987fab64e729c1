"""Relative position of subspaces and flags: the integers that survive every change of basis of the space.

All of them are rank decisions. Each comes with the tolerance it was taken at and the sines on either
side of it, so that a reader can see how clear the decision was.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .angles import principal_angles
from .frames import require_dims, require_pair, residual

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


@dataclass(frozen=True)
class RelativePosition:
    """Relative position of two flags, each completed by the whole space.

    Attributes
    ----------
    first_dims, second_dims : tuple of int
        Dimensions of the flags' subspaces, with n at the end.
    intersections : Tensor of int, shape=[..., r + 1, s + 1]
        ``dim(A_i ∩ B_j)``.
    double_coset : Tensor of int, shape=[..., r + 1, s + 1]
        Mixed second differences of the intersections: non-negative, with row sums the steps of the first flag and
        column sums those of the second; for complete flags a permutation matrix. The complete
        invariant of the pair under invertible linear maps.
    gap : Tensor, shape=[...]
        Smallest ratio, over all intersections, of the smallest sine counted as nonzero to the larger of the
        tolerance and the largest sine counted as zero: above 1, and large for a clear decision.
    tolerance : float
        Largest sine counted as zero.
    """

    first_dims: tuple[int, ...]
    second_dims: tuple[int, ...]
    intersections: Tensor
    double_coset: Tensor
    gap: Tensor
    tolerance: float

    def is_generic(self) -> Tensor:
        """Whether all intersections are as small as the dimensions allow, as for almost all pairs."""
        n = self.first_dims[-1]
        least = [[max(0, a + b - n) for b in self.second_dims] for a in self.first_dims]
        return (self.intersections == torch.tensor(least, device=self.intersections.device)).all(dim=-1).all(dim=-1)

    def is_opposite(self) -> Tensor:
        """Whether the flags are opposite: generic, with complementary dimensions, so that A_i ⊕ B_j is the space."""
        n = self.first_dims[-1]
        complementary = self.second_dims[:-1] == tuple(n - a for a in reversed(self.first_dims[:-1]))
        return self.is_generic() & complementary


@dataclass(frozen=True)
class SchubertPosition:
    """Schubert cell of a subspace relative to a complete flag.

    Attributes
    ----------
    symbol : tuple of int
        Where ``dim(W ∩ F_j)`` increases: ``1 <= j_1 < ... < j_k <= n``.
    partition : tuple of int
        ``n - k + i - j_i``, decreasing from at most n - k: the codimensions of the conditions. All zero for a generic
        subspace.
    intersections : tuple of int
        ``dim(W ∩ F_j)`` for j = 1, ..., n.
    gap : float
        As in `RelativePosition`.
    tolerance : float
        Largest sine counted as zero.
    """

    symbol: tuple[int, ...]
    partition: tuple[int, ...]
    intersections: tuple[int, ...]
    gap: float
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

    Returns
    -------
    error : Tensor, shape=[...]
        Dimensionless sine.

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
    """Dimension of the intersection of two subspaces.

    Parameters
    ----------
    first : Tensor, shape=[..., n, r]
        Orthonormal frame. float32 or float64.
    second : Tensor, shape=[..., n, s]
        Orthonormal frame in the same space, with the dtype and device of `first`.
    tolerance : float, optional
        Largest sine of a principal angle that counts as zero, in [0, 1). By default ``40 * n * eps``: the rounding
        errors of two well-separated factorizations. For singular subspaces use the sum of their
        `singular_subspace_error`, for noisy data the noise.

    Returns
    -------
    intersection : IntersectionDimension
        The dimension and the sines on either side of the tolerance.

    Raises
    ------
    ValueError
        If the frames do not lie in one space or are not orthonormal, or if the tolerance is out of range.

    See Also
    --------
    largest_cosine_edge : The cosine that chance alone reaches, for data in which no angle is exactly 0.

    Notes
    -----
    With the two dimensions it is the complete invariant of the pair under invertible linear maps.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> intersection_dimension(axes[:, [0, 1]], axes[:, [1, 2]]).dimension
    tensor(1)
    """
    sines = torch.sin(principal_angles(first, second))
    tolerance = _tolerance(tolerance, first)
    zero = sines <= tolerance
    return IntersectionDimension(
        dimension=zero.sum(dim=-1),
        largest_zero=torch.where(zero, sines, 0).amax(dim=-1),
        smallest_nonzero=torch.where(zero, 1, sines).amin(dim=-1),
        tolerance=tolerance,
    )


def relative_position(
    first: Tensor,
    second: Tensor,
    first_dims: Sequence[int],
    second_dims: Sequence[int],
    tolerance: float | None = None,
) -> RelativePosition:
    """Relative position of two flags (Bruhat): the dimensions of all intersections of their subspaces.

    Parameters
    ----------
    first : Tensor, shape=[..., n, k]
        Orthonormal frame whose leading columns span the subspaces of the first flag.
    second : Tensor, shape=[..., n, m]
        The same for the second flag.
    first_dims : sequence of int
        Dimensions of the first flag, increasing, the last one k < n.
    second_dims : sequence of int
        Dimensions of the second flag, increasing, the last one m < n.
    tolerance : float, optional
        Largest sine that counts as zero, as in `intersection_dimension`.

    Returns
    -------
    position : RelativePosition
        Table of intersections, double coset, and the clarity of the decisions.

    Raises
    ------
    ValueError
        If the frames do not lie in one space, are not orthonormal or do not fit the dimensions; or if the
        decisions contradict each other at this tolerance, so that no pair of flags has this table.

    References
    ----------
    .. [1] W. Fulton, Young Tableaux, Cambridge University Press (1997), chapter 10.

    Examples
    --------
    Two complete flags of a plane in general position, and the permutation that relates them:

    >>> axes = torch.eye(2)
    >>> position = relative_position(axes[:, :1], axes[:, 1:], (1,), (1,))
    >>> position.double_coset
    tensor([[0, 1],
            [1, 0]])
    >>> position.is_opposite()
    tensor(True)
    """
    require_pair(first, second, "relative_position")
    n = first.shape[-2]
    first_dims, second_dims = require_dims(first_dims, n), require_dims(second_dims, n)
    if (first.shape[-1], second.shape[-1]) != (first_dims[-1], second_dims[-1]):
        raise ValueError(
            f"relative_position expected frames with {first_dims[-1]} and {second_dims[-1]} columns; got shapes "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
    found = [
        [intersection_dimension(first[..., :a], second[..., :b], tolerance) for b in second_dims] for a in first_dims
    ]
    dimensions = torch.stack([torch.stack([cell.dimension for cell in row], dim=-1) for row in found], dim=-2)
    # The intersections with the whole space.
    whole_row = torch.tensor(second_dims, device=first.device).expand(*dimensions.shape[:-2], 1, -1)
    whole_column = torch.tensor([*first_dims, n], device=first.device)[:, None].expand(*dimensions.shape[:-2], -1, 1)
    table = torch.cat([torch.cat([dimensions, whole_row], dim=-2), whole_column], dim=-1)
    padded = torch.nn.functional.pad(table, (1, 0, 1, 0))
    double_coset = padded.diff(dim=-1).diff(dim=-2)
    if bool((double_coset < 0).any()):
        raise ValueError(
            f"relative_position: at the tolerance {found[0][0].tolerance:.1e} the intersections contradict each other; "
            "expected a tolerance inside a gap of the sines."
        )
    gaps = [cell.smallest_nonzero / cell.largest_zero.clamp(min=cell.tolerance) for row in found for cell in row]
    return RelativePosition(
        first_dims=(*first_dims, n),
        second_dims=(*second_dims, n),
        intersections=table,
        double_coset=double_coset,
        gap=torch.stack(gaps, dim=-1).amin(dim=-1),
        tolerance=found[0][0].tolerance,
    )


def schubert_position(subspace: Tensor, flag: Tensor, tolerance: float | None = None) -> SchubertPosition:
    """Schubert symbol and partition of a subspace relative to a complete flag.

    Parameters
    ----------
    subspace : Tensor, shape=[n, k]
        Orthonormal frame. float32 or float64.
    flag : Tensor, shape=[n, n]
        Orthonormal basis whose first j columns span the j-th subspace of the flag.
    tolerance : float, optional
        Largest sine that counts as zero, as in `intersection_dimension`.

    Returns
    -------
    position : SchubertPosition
        Constant on each Schubert cell.

    Raises
    ------
    ValueError
        If the frames do not lie in one space, are not orthonormal, are batched, or if `flag` is not square.

    References
    ----------
    .. [1] W. Fulton, Young Tableaux, Cambridge University Press (1997), section 9.4.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> position = schubert_position(axes[:, [0, 2]], axes)
    >>> position.symbol, position.partition
    ((1, 3), (2, 1))
    """
    require_pair(subspace, flag, "schubert_position")
    n, k = subspace.shape[-2:]
    if subspace.ndim != 2 or flag.shape != (n, n):
        raise ValueError(
            f"schubert_position expected one subspace [n, k] and one basis [n, n]; got shapes {tuple(subspace.shape)} "
            f"and {tuple(flag.shape)}."
        )
    tolerance = _tolerance(tolerance, subspace)
    coordinates = flag.mT @ subspace
    intersections, gap = [], float("inf")
    for j in range(1, n + 1):
        # The sines between W and F_j are the singular values of the coordinates beyond j, padded with zeros.
        sines = torch.linalg.svdvals(coordinates[j:])
        nonzero = sines > tolerance
        intersections.append(k - int(nonzero.sum()))
        smallest = float(torch.where(nonzero, sines, 1).amin()) if len(sines) else 1.0
        largest = float(torch.where(nonzero, 0, sines).amax()) if len(sines) else 0.0
        gap = min(gap, smallest / max(tolerance, largest))
    symbol = tuple(j + 1 for j in range(n) if intersections[j] > (intersections[j - 1] if j else 0))
    return SchubertPosition(
        symbol=symbol,
        partition=tuple(n - k + i - jump for i, jump in enumerate(symbol, start=1)),
        intersections=tuple(intersections),
        gap=gap,
        tolerance=tolerance,
    )


def subspace_sum(first: Tensor, second: Tensor, tolerance: float | None = None) -> Tensor:
    """Orthonormal frame of the sum of two subspaces.

    Parameters
    ----------
    first : Tensor, shape=[n, r]
        Orthonormal frame. float32 or float64.
    second : Tensor, shape=[n, s]
        Orthonormal frame in the same space, with the dtype and device of `first`.
    tolerance : float, optional
        Largest sine that counts as zero, as in `intersection_dimension`.

    Returns
    -------
    frame : Tensor, shape=[n, r + s - c]
        With c the dimension of the intersection. The frame of the wider subspace comes first.

    Raises
    ------
    ValueError
        If the frames do not lie in one space, are not orthonormal, or are batched: a batch has no one width.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> subspace_sum(axes[:, [0, 1]], axes[:, [1, 2]]).shape
    torch.Size([4, 3])
    """
    wide, _, left, sines, _ = _outside(first, second, "subspace_sum")
    return torch.cat([wide, left[:, sines > _tolerance(tolerance, first)]], dim=1)


def subspace_intersection(first: Tensor, second: Tensor, tolerance: float | None = None) -> Tensor:
    """Orthonormal frame of the intersection of two subspaces.

    Parameters
    ----------
    first : Tensor, shape=[n, r]
        Orthonormal frame. float32 or float64.
    second : Tensor, shape=[n, s]
        Orthonormal frame in the same space, with the dtype and device of `first`.
    tolerance : float, optional
        Largest sine that counts as zero, as in `intersection_dimension`.

    Returns
    -------
    frame : Tensor, shape=[n, c]
        Vectors of the narrower subspace within the tolerance of the wider one; c may be 0.

    Raises
    ------
    ValueError
        If the frames do not lie in one space, are not orthonormal, or are batched: a batch has no one width.

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
    return narrow @ right[:, sines <= _tolerance(tolerance, first)]


def contains(outer: Tensor, inner: Tensor, tolerance: float | None = None) -> Tensor:
    """Whether one subspace contains another.

    Parameters
    ----------
    outer : Tensor, shape=[..., n, r]
        Orthonormal frame. float32 or float64.
    inner : Tensor, shape=[..., n, s]
        Orthonormal frame in the same space, with the dtype and device of `outer`.
    tolerance : float, optional
        Largest sine that counts as zero, as in `intersection_dimension`.

    Returns
    -------
    contained : Tensor of bool, shape=[...]
        Whether every direction of `inner` lies in `outer`.

    Raises
    ------
    ValueError
        If the frames do not lie in one space or are not orthonormal.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> contains(axes[:, :2], axes[:, :1]), contains(axes[:, :1], axes[:, :2])
    (tensor(True), tensor(False))
    """
    require_pair(outer, inner, "contains")
    return torch.linalg.matrix_norm(residual(inner, outer), ord=2) <= _tolerance(tolerance, outer)


def _outside(first: Tensor, second: Tensor, caller: str) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Wider and narrower frame, and the singular value decomposition of the part of the latter outside the former."""
    require_pair(first, second, caller)
    if first.ndim != 2 or second.ndim != 2:
        raise ValueError(f"{caller} expected frames [n, k]; got shapes {tuple(first.shape)} and {tuple(second.shape)}.")
    wide, narrow = (first, second) if first.shape[-1] >= second.shape[-1] else (second, first)
    left, sines, right = torch.linalg.svd(residual(narrow, wide), full_matrices=False)
    return wide, narrow, left, sines, right.mT


def _tolerance(tolerance: float | None, frame: Tensor) -> float:
    if tolerance is None:
        return 2 * _ROUNDING_UNITS * frame.shape[-2] * torch.finfo(frame.dtype).eps
    if not 0 <= tolerance < 1:
        raise ValueError(f"expected a tolerance for sines in [0, 1); got {tolerance}.")
    return float(tolerance)
