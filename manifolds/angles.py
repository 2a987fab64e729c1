"""Principal angles between subspaces, and what a product of their frames says about them."""

import torch
from torch import Tensor

from .checks import require_pair
from .frames import residual


def principal_angles(first: Tensor, second: Tensor) -> Tensor:
    r"""Principal angles between two subspaces, accurate at both ends of the range.

    Small angles come from sines, large ones from cosines, so that the absolute error stays at working
    precision from 1e-15 to :math:`\pi/2`, also when both kinds occur in one pair. Equal to
    `scipy.linalg.subspace_angles` in reverse order, which loses half of the digits of small angles in
    the company of angles above 45 degrees.

    Parameters
    ----------
    first : Tensor, shape=[..., n, r]
        Orthonormal frame. float32 or float64.
    second : Tensor, shape=[..., n, s]
        Orthonormal frame in the same space, with the dtype and device of `first`.

    Returns
    -------
    angles : Tensor, shape=[..., min(r, s)]
        Radians, ascending, in [0, pi/2].

    Raises
    ------
    ValueError
        If the frames do not lie in one space, or if one is not orthonormal to working precision.

    See Also
    --------
    projection_overlap : One number, without a decomposition.
    geodesic_distance : The Euclidean norm of the angles.

    Notes
    -----
    The complete invariant of a pair of subspaces under one orthogonal map of the space; unchanged when
    either frame is replaced by another frame of the same span. Gradients are finite everywhere;
    at an angle of exactly 0 or pi/2 they are one of the subgradients.
    Cost: ``4 n r s`` multiply-adds and two sets of singular values.

    References
    ----------
    .. [1] A. V. Knyazev and M. E. Argentati, Principal angles between subspaces in an A-based scalar
       product, SIAM J. Sci. Comput. 23 (2002), Algorithm 3.1.

    Examples
    --------
    >>> axes = torch.eye(4, dtype=torch.float64)
    >>> principal_angles(axes[:, [0, 1]], axes[:, [1, 2]])
    tensor([0.0000, 1.5708], dtype=torch.float64)
    """
    require_pair(first, second, "principal_angles")
    wide, narrow = (first, second) if first.shape[-1] >= second.shape[-1] else (second, first)
    cosines = torch.linalg.svdvals(wide.mT @ narrow).clamp(max=1)
    # Descending cosines and ascending sines belong to the same ascending angles.
    sines = torch.linalg.svdvals(residual(narrow, wide)).flip(-1).clamp(max=1)
    small = sines.square() < 0.5
    # Each branch sees a harmless 0 where the other is taken, so that neither poisons the gradient.
    return torch.where(
        small,
        torch.asin(torch.where(small, sines, 0)),
        torch.acos(torch.where(small, 0, cosines)),
    )


def projection_overlap(first: Tensor, second: Tensor) -> Tensor:
    r"""Mean squared cosine of the principal angles between two subspaces.

    Use it to ask how much of the smaller subspace the larger one contains.

    .. math:: \omega(A, B) = \frac{\lVert A^\top B \rVert_F^2}{\min(r, s)}

    Parameters
    ----------
    first : Tensor, shape=[..., n, r]
        Orthonormal frame. float32 or float64.
    second : Tensor, shape=[..., n, s]
        Orthonormal frame in the same space, with the dtype and device of `first`.

    Returns
    -------
    overlap : Tensor, shape=[...]
        Dimensionless, in [0, 1] up to rounding: 0 for orthogonal subspaces, 1 when one contains the other.

    Raises
    ------
    ValueError
        If the frames do not lie in one space, or if one is not orthonormal to working precision.

    See Also
    --------
    pairwise_overlap : All pairs of many subspaces at once.
    overlap_moments : Mean and spread for unrelated subspaces.

    Notes
    -----
    Unchanged when one orthogonal map acts on both subspaces and when either frame is replaced by
    another frame of the same span; changed by a general linear map of the space. Independent uniform
    subspaces give ``max(r, s) / n`` on average. Cost: ``n * r * s`` multiply-adds a pair.

    References
    ----------
    theory/alignment, section 2.5: under the orthogonal group the principal angles are the complete
    invariant of a pair of subspaces.

    Examples
    --------
    Two planes in four dimensions that share one line:

    >>> axes = torch.eye(4)
    >>> projection_overlap(axes[:, [0, 1]], axes[:, [1, 2]])
    tensor(0.5000)
    """
    require_pair(first, second, "projection_overlap")
    return (first.mT @ second).square().sum(dim=(-2, -1)) / min(first.shape[-1], second.shape[-1])


def plucker_inner_product(first: Tensor, second: Tensor) -> Tensor:
    r"""Inner product of the Plücker vectors of two frames, :math:`\det(A^\top B)` by Cauchy-Binet.

    Parameters
    ----------
    first, second : Tensor, shape=[..., n, k]
        Orthonormal frames in one space, of one width, dtype and device.

    Returns
    -------
    product : Tensor, shape=[...]
        Dimensionless, in [-1, 1]. Its absolute value is the product of the cosines of the principal
        angles; its sign changes with the orientation of either frame.

    Raises
    ------
    ValueError
        If the frames do not lie in one space, differ in width, or are not orthonormal.

    Examples
    --------
    >>> axes = torch.eye(3)
    >>> plucker_inner_product(axes[:, [0, 1]], axes[:, [1, 0]])
    tensor(-1.)
    """
    require_pair(first, second, "plucker_inner_product")
    if first.shape[-1] != second.shape[-1]:
        raise ValueError(
            f"plucker_inner_product expected subspaces of one dimension; got {first.shape[-1]} and {second.shape[-1]}."
        )
    return torch.linalg.det(first.mT @ second)
