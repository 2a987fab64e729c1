"""Principal angles between subspaces, and what a product of their frames says about them.

The functions take orthonormal frames `first`, of shape ``[..., n, r]``, and `second`, of shape ``[..., n, s]``, with
r, s >= 1, under the conventions of the package. Their results do not change when one orthogonal map acts on both
subspaces; they do change under a general linear map.
"""

import torch
from torch import Tensor

from .checks import require_pair
from .derivatives import singular_values
from .frames import residual


def principal_angles(first: Tensor, second: Tensor) -> Tensor:
    r"""Principal angles between two subspaces, accurate at both ends of the range.

    Small angles are computed from sines and large ones from cosines, so that the absolute error stays at working
    precision from 1e-15 to :math:`\pi/2`, even if both kinds occur in one pair. The angles are those of
    `scipy.linalg.subspace_angles` in reverse order; scipy loses half of the digits of a small angle when there is also
    one above 45 degrees. Gradients are finite everywhere; at an angle of exactly 0 or pi/2 they are one of the
    subgradients. The cost is ``4 n r s`` multiply-adds and two sets of singular values.

    Returns
    -------
    angles : Tensor, shape=[..., min(r, s)]
        Radians, ascending, in [0, pi/2]. They are the complete invariant of the pair under orthogonal maps.

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
    cosines = singular_values(wide.mT @ narrow).clamp(max=1)
    # Descending cosines and ascending sines belong to the same ascending angles.
    sines = singular_values(residual(narrow, wide)).flip(-1).clamp(max=1)
    small = sines.square() < 0.5
    # Each branch sees a harmless 0 where the other is taken, so that neither poisons the gradient.
    return torch.where(
        small,
        torch.asin(torch.where(small, sines, 0)),
        torch.acos(torch.where(small, 0, cosines)),
    )


def projection_overlap(first: Tensor, second: Tensor) -> Tensor:
    r"""Mean squared cosine of the principal angles: how much of the smaller subspace the larger one contains.

    .. math:: \omega(A, B) = \frac{\lVert A^\top B \rVert_F^2}{\min(r, s)}

    It needs ``n * r * s`` multiply-adds a pair and no decomposition. The invariance is proved in docs/proofs.md,
    `projection_overlap_invariance`.

    Returns
    -------
    overlap : Tensor, shape=[...]
        In [0, 1] up to rounding: 0 for orthogonal subspaces, 1 when one contains the other. Independent uniform
        subspaces give ``max(r, s) / n`` on average, with the spread of `overlap_moments`.

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
    r"""Inner product of the Plücker vectors of two frames of one width, :math:`\det(A^\top B)` by Cauchy-Binet.

    It lies in [-1, 1]. Its absolute value is the product of the cosines of the principal angles; its sign changes with
    the orientation of either frame.

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
