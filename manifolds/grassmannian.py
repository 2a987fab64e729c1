"""Grassmannians: the manifolds of all subspaces of one dimension."""

import torch
from torch import Tensor

from .checks import holds, largest
from .flag import Flag
from .flag_metric import FlagMetric
from .geodesics import grassmannian_angles, grassmannian_logarithm
from .pairwise import pairwise_geodesic_distance


class GrassmannianMetric(FlagMetric):
    """Canonical metric of a Grassmannian: `FlagMetric` with the closed forms that one block allows.

    The distance is the Euclidean norm of the principal angles.

    References
    ----------
    .. [1] T. Bendokat, R. Zimmermann and P.-A. Absil, A Grassmann manifold handbook: basic geometry and
       computational aspects, Adv. Comput. Math. 50 (2024), Algorithm 5.3 for the logarithm.
    """

    def _logarithm(self, point: Tensor, base_point: Tensor) -> Tensor:
        return grassmannian_logarithm(point, base_point)

    def _length(self, point_a: Tensor, point_b: Tensor) -> Tensor:
        return torch.linalg.vector_norm(grassmannian_angles(point_b, point_a), dim=-1)

    def _all_lengths(self, points: Tensor) -> Tensor:
        return pairwise_geodesic_distance(list(points)) if len(points) else points.new_zeros(0, 0)

    def inverse_polar_retraction(self, point: Tensor, base_point: Tensor) -> Tensor:
        """Tangent vector that `polar_retraction` takes to a point Q: ``Q (P'Q)^-1 - P``.

        Its singular values are the tangents of the principal angles. `ValueError` is raised if one of the angles is
        pi/2 to working precision.
        """
        self._require_points(point, base_point, "point", "base_point")
        overlap = base_point.mT @ point
        smallest = torch.linalg.svdvals(overlap)[..., -1]
        limit = self._space.n * torch.finfo(point.dtype).eps
        if not holds(smallest > limit):
            raise ValueError(
                f"inverse_polar_retraction expected principal angles below pi/2; found a cosine of "
                f"{-largest(-smallest):.1e}."
            )
        # Not by torch.linalg.solve, whose second derivatives torch 2.13 gets wrong inside a vmap.
        return point @ torch.linalg.inv(overlap) - base_point


class Grassmannian(Flag):
    r"""Manifold of the k-dimensional subspaces of n-space: flags of one block.

    A point is an orthonormal frame ``[n, k]``; every frame of a subspace is the same point. A tangent vector
    is an n x k matrix orthogonal to the subspace. No n x n projector is formed. The methods are those of `Flag`.
    geomstats' own Grassmannian takes the Frobenius norm of projectors: its distances are ``sqrt(2)`` times these.

    Parameters
    ----------
    n : int
        Dimension of the space.
    k : int
        Dimension of the subspaces, 1 <= k < n; `ValueError` otherwise.
    equip : bool
        Whether to equip the manifold with `GrassmannianMetric`.

    Examples
    --------
    >>> planes = Grassmannian(n=4, k=2)
    >>> axes = torch.eye(4, dtype=torch.float64)
    >>> planes.dim, planes.metric.dist(axes[:, [0, 1]], axes[:, [1, 2]])
    (4, tensor(1.5708, dtype=torch.float64))
    """

    def __init__(self, n: int, k: int, equip: bool = True) -> None:
        if not 1 <= k < n:
            raise ValueError(f"Grassmannian needs a dimension k between 1 and n - 1 = {n - 1}; got {k} in n = {n}.")
        super().__init__(n, (k,), equip=equip)
        self.k = k

    def __repr__(self) -> str:
        return f"Grassmannian(n={self.n}, k={self.dims[0]}{self._equip_option()})"

    @staticmethod
    def default_metric() -> type[GrassmannianMetric]:
        """Metric that the manifold is equipped with."""
        return GrassmannianMetric
