"""Distances between subspaces, all of them functions of the principal angles.

The functions take orthonormal frames `first`, of shape ``[..., n, r]``, and `second`, of shape ``[..., n, s]``, with
r, s >= 1, under the conventions of the package, and return one distance for each pair: a tensor of the batch shape.
The formulas are those of table 2 of K. Ye and L.-H. Lim, Schubert varieties and distances between subspaces of
different dimensions, SIAM J. Matrix Anal. Appl. 37 (2016), which also treats r != s. The section "How two subspaces are
aligned" of docs/grassmannians-and-flags.md puts them side by side.

The distances have derivatives of every order, also where angles agree; the Asimov distance has only the first there.
A derivative that does not exist raises `ArithmeticError`: at an angle of pi/2, where only the chordal distance is
smooth, and from the second one on where the subspaces coincide. The Asimov and, for r = s, the geodesic distance have a
kink at pi/2: they fall on both sides, and their gradient there is the slope on one of them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .angles import principal_angles
from .checks import block_slices, common_batch, holds, require_dims, require_pair
from .derivatives import evaluate, nearest_frame, safe_sqrt
from .frames import residual
from .geodesics import grassmannian_logarithm
from .logarithm_derivatives import differentiable_logarithm, differentiable_squared_length


def chordal_distance(first: Tensor, second: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    r"""Chordal (extrinsic) distance between subspaces or flags, in [0, sqrt(min(r, s))].

    .. math:: d_c^2 = \sum_i \sin^2 \theta_i = \tfrac12 \lVert P_A - P_B \rVert_F^2

    The second form holds for equal dimensions. For flags the squared distances of the blocks are added. The distance is
    computed from what lies outside the other subspace, so that small distances keep their digits.

    Parameters
    ----------
    first, second : Tensor
        Orthonormal frames.
    dims : sequence of int, optional
        Dimensions of the nested subspaces when the frames stand for flags; then ``r = s = dims[-1]``.

    References
    ----------
    .. [1] J. H. Conway, R. H. Hardin and N. J. A. Sloane, Packing lines, planes, etc.: packings in
       Grassmannian spaces, Experiment. Math. 5 (1996).

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> chordal_distance(axes[:, [0, 1]], axes[:, [1, 2]])
    tensor(1.)
    >>> chordal_distance(axes[:, [0, 1]], axes[:, [1, 0]], dims=(1, 2))
    tensor(1.4142)
    """
    require_pair(first, second, "chordal_distance")
    if dims is None:
        wide, narrow = (first, second) if first.shape[-1] >= second.shape[-1] else (second, first)
        return torch.linalg.matrix_norm(residual(narrow, wide))
    dims = require_dims(dims, first.shape[-2])
    if not first.shape[-1] == second.shape[-1] == dims[-1]:
        raise ValueError(
            f"chordal_distance expected frames with dims[-1] = {dims[-1]} columns; got shapes {tuple(first.shape)} "
            f"and {tuple(second.shape)}."
        )
    blocks = [residual(second[..., block], first[..., block]) for block in block_slices(dims)]
    return torch.linalg.matrix_norm(torch.cat(blocks, dim=-1))


def geodesic_distance(first: Tensor, second: Tensor) -> Tensor:
    r"""Length of the shortest path between two subspaces: the Euclidean norm of the principal angles.

    It lies in [0, sqrt(min(r, s)) pi/2]. For r = s it is the distance of `Grassmannian`; geomstats' own Grassmannian
    measures projectors, and its distance is ``sqrt(2)`` times this one. For r != s it is the distance from the smaller
    subspace to the nearest one inside the larger, which is no metric: it is 0 when one contains the other.

    Examples
    --------
    >>> axes = torch.eye(4, dtype=torch.float64)
    >>> geodesic_distance(axes[:, [0, 1]], axes[:, [1, 2]]) / torch.pi
    tensor(0.5000, dtype=torch.float64)
    """
    return _root(_of_angles(lambda angles: angles.square().sum(dim=-1), _squared_geodesic, first, second), first)


def asimov_distance(first: Tensor, second: Tensor) -> Tensor:
    """Largest principal angle between two subspaces, in radians, in [0, pi/2].

    Examples
    --------
    >>> axes = torch.eye(4, dtype=torch.float64)
    >>> asimov_distance(axes[:, [0, 1]], axes[:, [1, 2]])
    tensor(1.5708, dtype=torch.float64)
    """
    return principal_angles(first, second)[..., -1]


def procrustes_distance(first: Tensor, second: Tensor) -> Tensor:
    r"""Smallest Frobenius distance between frames of the two subspaces, in [0, sqrt(2 min(r, s))].

    .. math:: 2 \lVert \sin(\theta / 2) \rVert_2 = \min_O \lVert A - B O \rVert_F

    The second form holds for equal dimensions.

    Examples
    --------
    >>> axes = torch.eye(4, dtype=torch.float64)
    >>> procrustes_distance(axes[:, [0, 1]], axes[:, [1, 2]])
    tensor(1.4142, dtype=torch.float64)
    """
    squared = _of_angles(
        lambda angles: 4 * torch.sin(angles / 2).square().sum(dim=-1), _squared_procrustes, first, second
    )
    return _root(squared, first)


def martin_distance(first: Tensor, second: Tensor) -> Tensor:
    r"""Minus the logarithm of the product of squared cosines, :math:`-\log \prod_i \cos^2 \theta_i`, in [0, inf].

    A cosine below 4 units of rounding counts as zero and gives infinity: a pair with an orthogonal direction has no
    finite Martin distance.

    References
    ----------
    .. [1] R. J. Martin, A metric for ARMA processes, IEEE Trans. Signal Process. 48 (2000), whose distance is the
       square root of this.

    Examples
    --------
    >>> axes = torch.eye(4, dtype=torch.float64)
    >>> martin_distance(axes[:, [0, 1]], axes[:, [1, 2]])
    tensor(inf, dtype=torch.float64)
    """
    return -_log_squared_cosines(first, second)


def fubini_study_distance(first: Tensor, second: Tensor) -> Tensor:
    r"""Angle between the subspaces' Plücker vectors, :math:`\arccos \prod_i \cos \theta_i`, in [0, pi/2].

    Examples
    --------
    >>> axes = torch.eye(4, dtype=torch.float64)
    >>> fubini_study_distance(axes[:, [0, 1]], axes[:, [1, 2]])
    tensor(1.5708, dtype=torch.float64)
    """
    logarithm = _log_squared_cosines(first, second)
    return torch.atan2(_root(-torch.expm1(logarithm), first), torch.exp(logarithm / 2))


def binet_cauchy_distance(first: Tensor, second: Tensor) -> Tensor:
    r"""Sine of the Fubini-Study distance, :math:`\sqrt{1 - \prod_i \cos^2 \theta_i}`, in [0, 1].

    References
    ----------
    .. [1] L. Wolf and A. Shashua, Learning over sets using kernel principal angles, J. Mach. Learn. Res. 4 (2003).

    Examples
    --------
    >>> axes = torch.eye(4, dtype=torch.float64)
    >>> binet_cauchy_distance(axes[:, [0, 1]], axes[:, [1, 2]])
    tensor(1., dtype=torch.float64)
    """
    return _root(-torch.expm1(_log_squared_cosines(first, second)), first)


def _log_squared_cosines(first: Tensor, second: Tensor) -> Tensor:
    """Sum of log cos^2 over the principal angles; from sines where they are small, to keep small distances."""

    def value(angles: Tensor) -> Tensor:
        small = angles < torch.pi / 4
        cosines = torch.cos(torch.where(small, 0, angles))
        cosines = torch.where(cosines < 4 * torch.finfo(angles.dtype).eps, 0, cosines)
        sines = torch.sin(torch.where(small, angles, 0))
        return torch.where(small, torch.log1p(-sines.square()), 2 * torch.log(cosines)).sum(dim=-1)

    def smooth(wide: Tensor, narrow: Tensor) -> Tensor:
        overlap = wide.mT @ narrow
        if not holds(torch.linalg.svdvals(overlap.detach()) >= 4 * torch.finfo(overlap.dtype).eps):
            raise ArithmeticError("The product of the cosines has no derivatives here: a principal angle is pi/2.")
        return 2 * torch.linalg.qr(overlap).R.diagonal(dim1=-2, dim2=-1).abs().log().sum(dim=-1)

    return _of_angles(value, smooth, first, second)


def _of_angles(
    value: Callable[[Tensor], Tensor], smooth: Callable[[Tensor, Tensor], Tensor], first: Tensor, second: Tensor
) -> Tensor:
    """Symmetric function of the principal angles, with the derivatives of a formula for the wide and the narrow frame.

    Single angles have no derivatives where they are equal; their symmetric functions have.
    """
    require_pair(first, second, "principal_angles")
    wide, narrow = (first, second) if first.shape[-1] >= second.shape[-1] else (second, first)
    batch = common_batch(wide, narrow)
    whole = (frame.expand(*batch, *frame.shape[-2:]) for frame in (wide, narrow))
    return evaluate(lambda *frames: value(principal_angles(*frames)), smooth, *whole)


def _root(squared: Tensor, frame: Tensor) -> Tensor:
    """Square root of a squared distance, without a direction where it is below what rounding moves a frame."""
    return safe_sqrt(squared, (frame.shape[-2] * torch.finfo(frame.dtype).eps) ** 2)


def _squared_geodesic(wide: Tensor, narrow: Tensor) -> Tensor:
    dims = narrow.shape[-1:]
    nearest = wide if wide.shape[-1] == narrow.shape[-1] else wide @ nearest_frame(wide.mT @ narrow)
    logarithm = differentiable_logarithm(grassmannian_logarithm, nearest, narrow, dims)
    return differentiable_squared_length(logarithm, nearest, narrow, dims)


def _squared_procrustes(wide: Tensor, narrow: Tensor) -> Tensor:
    overlap = wide.mT @ narrow
    return 2 * narrow.shape[-1] - 2 * (nearest_frame(overlap) * overlap).sum(dim=(-2, -1))
