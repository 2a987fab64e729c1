"""Angles between two subspaces as distances: the smallest one, and the length of the shortest path."""

from functools import cache
from math import asin, inf, nan, pi, sin, sqrt

import numpy as np
import torch
from torch import Tensor

from manifolds import largest_cosine_p_value, overlap_p_value

from ...network import Symmetry
from ..observable import Invariance, Null, Observable
from .subspace_pair import SubspacePair

# Nodes of the integrals; with a tenth as many the moments agree to 1e-5.
_NODES = 2000


@cache
def smallest_angle_moments(n: int, r: int, s: int) -> tuple[float, float]:
    """Mean and standard deviation of the smallest principal angle of two unrelated subspaces.

    Parameters
    ----------
    n : int
        Dimension of the space.
    r, s : int
        Dimensions of the subspaces, 1 <= r, s <= n.

    Returns
    -------
    mean, standard_deviation : float
        Radians, over independent uniform (Haar) subspaces. Exact where one is a line and for r + s > n,
        where the angle is 0; otherwise NaN for r + s = n, and below by the Tracy-Widom law of
        `manifolds.largest_cosine_p_value`. In simulations with r + s up to n / 2 the mean was off by at most a fifth of
        a standard deviation and that by 6 %; close to r + s = n the law fails.

    Examples
    --------
    >>> tuple(round(value, 2) for value in smallest_angle_moments(576, 16, 16))
    (1.26, 0.02)
    """
    if r + s > n:
        return 0.0, 0.0
    angles = np.linspace(0, pi / 2, _NODES + 1)
    if min(r, s) == 1:
        beyond = 1 - overlap_p_value(np.cos(angles) ** 2, n, r, s)
    elif r + s == n:
        return nan, nan
    else:
        beyond = 1 - largest_cosine_p_value(np.cos(angles), n, r, s)
    mean = float(np.trapezoid(beyond, angles))
    return mean, sqrt(float(np.trapezoid(2 * angles * beyond, angles)) - mean**2)


@cache
def geodesic_distance_moments(n: int, r: int, s: int) -> tuple[float, float]:
    r"""Mean and standard deviation of the geodesic distance of two unrelated subspaces.

    Parameters
    ----------
    n : int
        Dimension of the space.
    r, s : int
        Dimensions of the subspaces, 1 <= r, s <= n.

    Returns
    -------
    mean, standard_deviation : float
        Radians, over independent uniform (Haar) subspaces. Exact where one is a line; otherwise a limit law for large
        dimensions. In simulations from n = 20, r = s = 2 on the mean was off by at most a quarter of a
        standard deviation, and that by a tenth.

    Notes
    -----
    The sum of squared angles is a linear statistic of the squared cosines, whose density is Wachter's [1]_
    with the dimensions centred as in [2]_. Its variance is :math:`\tfrac12 \sum_j j\, a_j^2` with
    the cosine coefficients a_j of the squared angle over the support [3]_. Subspaces of r + s > n
    share r + s - n directions; their other angles are those of the complements.

    References
    ----------
    .. [1] K. W. Wachter, The limiting empirical measure of multiple discriminant ratios, Ann. Statist. 8 (1980).
    .. [2] I. M. Johnstone, Multivariate analysis and Jacobi ensembles: largest eigenvalue, Tracy-Widom limits
       and rates of convergence, Ann. Statist. 36 (2008).
    .. [3] I. Dumitriu and E. Paquette, Global fluctuations for linear statistics of beta-Jacobi ensembles,
       Random Matrices Theory Appl. 1 (2012).

    Examples
    --------
    >>> tuple(round(value, 2) for value in geodesic_distance_moments(192, 16, 16))
    (5.32, 0.04)
    """
    if r + s > n:
        r, s = n - s, n - r
    smaller, larger = min(r, s), max(r, s)
    if smaller == 0:
        return 0.0, 0.0
    if smaller == 1:
        return smallest_angle_moments(n, r, s)
    gamma, phi = (asin(sqrt((rank - 0.5) / (n - 1))) for rank in (smaller, larger))
    least, most = sin(phi - gamma) ** 2, sin(phi + gamma) ** 2
    turn = (np.arange(_NODES) + 0.5) * pi / _NODES
    squared_cosines = (least + most) / 2 + (most - least) / 2 * np.cos(turn)
    squared_angles = np.arccos(np.sqrt(squared_cosines)) ** 2
    density = np.sin(turn) ** 2 / (squared_cosines * (1 - squared_cosines))
    mean = smaller * float(np.average(squared_angles, weights=density))
    order = np.arange(1, 200)
    coefficients = 2 * (squared_angles * np.cos(order[:, None] * turn)).mean(axis=1)
    variance = float((order * coefficients**2).sum()) / 2
    # From the square to its root, to second order.
    return sqrt(mean) - variance / (8 * mean**1.5), sqrt(variance / mean) / 2


def _uniform_smallest_angle(pair: SubspacePair) -> tuple[Tensor, Tensor]:
    mean, spread = smallest_angle_moments(pair.dim, *pair.ranks)
    return pair.first.new_tensor(mean), pair.first.new_tensor(spread)


def _uniform_geodesic_distance(pair: SubspacePair) -> tuple[Tensor, Tensor]:
    mean, spread = geodesic_distance_moments(pair.dim, *pair.ranks)
    return pair.first.new_tensor(mean), pair.first.new_tensor(spread)


_ROTATIONS = "the choice of frames, and one orthogonal map of the space on both subspaces; not a general linear map"

SMALLEST_ANGLE = Observable(
    title="smallest principal angle in radians",
    table="pairs",
    column="smallest_angle",
    pair=SubspacePair,
    measure=lambda pair: pair.angles[..., 0],
    formula=r"\theta_1 = \arccos \sigma_1(A^\top B)",
    range=(0.0, pi / 2),
    aligned=0.0,
    invariance=Invariance(Symmetry.ORTHOGONAL, _ROTATIONS, "projection_overlap_invariance"),
    null=Null(
        text="independent uniform subspaces, by the Tracy-Widom limit law; exact for lines; 0 where r + s exceeds n",
        law=_uniform_smallest_angle,
    ),
    tolerance=1e-5,
    reading="Radians between the two closest directions: 0 when the subspaces share one.",
    misuse="Do not compare it across ranks: unrelated subspaces come closer the wider they are, up to 0 where "
    "r + s exceeds n.",
)
GEODESIC_DISTANCE = Observable(
    title="Grassmann geodesic distance in radians",
    table="pairs",
    column="geodesic_distance",
    pair=SubspacePair,
    measure=lambda pair: torch.linalg.vector_norm(pair.angles, dim=-1),
    formula=r"\Bigl( \sum_{i \le \min(r, s)} \theta_i^2 \Bigr)^{1/2}",
    range=(0.0, inf),
    aligned=0.0,
    invariance=Invariance(Symmetry.ORTHOGONAL, _ROTATIONS, "projection_overlap_invariance"),
    null=Null(
        text="independent uniform subspaces, by the limit law of large dimensions; exact for lines",
        law=_uniform_geodesic_distance,
    ),
    tolerance=1e-5,
    reading="Radians along the shortest path from one subspace to the other; divided by the root of min(r, s) it is "
    "the root mean square angle, at most π/2.",
    misuse="Do not compare it across ranks without its null. It is no metric between subspaces of different "
    "dimensions, where it is 0 when one contains the other.",
)
