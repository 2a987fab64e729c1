"""Relative position of flags: the integers that survive every linear change of basis of the space.

All of them are decisions about rank; each result carries the tolerance and how clear the decision was. The tolerance is
the largest sine that counts as zero, as in `intersection_dimension`; frames follow the conventions of the package.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import require_dims, require_pair
from .intersection import intersection_dimension, sine_tolerance


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
    first, second : Tensor, shape=[..., n, k] and [..., n, m]
        Orthonormal frames whose leading columns span the subspaces of the flags.
    first_dims, second_dims : sequence of int
        Dimensions of the flags, increasing, the last ones k < n and m < n.
    tolerance : float, optional
        Largest sine that counts as zero. `ValueError` is raised if the decisions contradict each other at this
        tolerance, so that no pair of flags has this table.

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
    """Schubert symbol and partition of a subspace relative to a complete flag, constant on each Schubert cell.

    Parameters
    ----------
    subspace : Tensor, shape=[n, k]
        Orthonormal frame; batches are refused.
    flag : Tensor, shape=[n, n]
        Orthonormal basis whose first j columns span the j-th subspace of the flag.
    tolerance : float, optional
        Largest sine that counts as zero.

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
    tolerance = sine_tolerance(tolerance, subspace)
    coordinates = flag.mT @ subspace
    intersections, gap = [], float("inf")
    for j in range(1, n + 1):
        # The sines between W and F_j are the singular values of the coordinates beyond j, padded with zeros.
        sines = torch.linalg.svdvals(coordinates[j:])
        nonzero = sines > tolerance
        intersections.append(k - int(nonzero.sum()))
        smallest = float(torch.where(nonzero, sines, 1).amin()) if len(sines) else 1.0
        largest = float(torch.where(nonzero, 0, sines).amax()) if len(sines) else 0.0
        if max(tolerance, largest) > 0:
            gap = min(gap, smallest / max(tolerance, largest))
    symbol = tuple(j + 1 for j in range(n) if intersections[j] > (intersections[j - 1] if j else 0))
    return SchubertPosition(
        symbol=symbol,
        partition=tuple(n - k + i - jump for i, jump in enumerate(symbol, start=1)),
        intersections=tuple(intersections),
        gap=gap,
        tolerance=tolerance,
    )
