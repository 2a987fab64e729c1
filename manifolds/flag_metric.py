"""The canonical metric of flag manifolds."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .backend import RiemannianMetric
from .checks import holds, largest, require_fit
from .derivatives import safe_sqrt
from .flag_logarithm import AlignmentError, FlagLogarithm, solve_flag_logarithm
from .geodesics import (
    change_representative,
    exponential,
    grassmannian_exponential,
    off_blocks,
    parallel_transport,
    polar_retraction,
    qr_retraction,
    skew,
    split,
    tangent_part,
)
from .logarithm_derivatives import differentiable_logarithm, differentiable_squared_length

# Numbers held at a time while the logarithms of many pairs are computed: 2^23 float64 are 64 MiB.
_TILE_ENTRIES = 2**23
# Two seconds for one pair of flags.
_LONGEST_TRANSPORT = 1000


class FlagMetric(RiemannianMetric):  # type: ignore[misc]  # geomstats is untyped
    r"""Canonical metric of a flag manifold, from half the trace form on so(n).

    .. math:: \langle D, E \rangle_P = \mathrm{tr}\, D^\top E - \tfrac12 \mathrm{tr}\, (P^\top D)^\top (P^\top E)

    Lengths are in radians: a rotation by theta in one plane has length theta, whichever blocks it joins.
    Sectional curvatures lie in [0, 2], the injectivity radius is pi/2 everywhere.

    Parameters
    ----------
    space : Flag
        The manifold.

    Notes
    -----
    In all methods the points and the tangent vectors at `base_point` have shape ``[..., n, k]``, under the conventions
    of the package, and results that are numbers have shape ``[...]``. No method depends on the frame that stands for a
    point, except that a tangent vector is expressed in the frame of its point.

    The shortest geodesic between two flags is the shortest one found. `solve_flag_logarithm` says for which pairs it is
    certainly the shortest, and bounds the distance of the others from below.

    A vector that is not tangent is refused with a `ValueError` by all methods but `inner_product` and the norms. The
    methods that need the logarithm of two points (`log`, `dist`, `squared_dist`, `dist_pairwise`, and those given an
    `end_point`) raise `AlignmentError` if no geodesic was found for some pair; `solve_flag_logarithm` reports on each.

    References
    ----------
    .. [1] K. Ye, K. S.-W. Wong and L.-H. Lim, Optimization on flag manifolds, Math. Program. 194 (2022).
    """

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._space!r})"

    def inner_product(self, tangent_vec_a: Tensor, tangent_vec_b: Tensor, base_point: Tensor) -> Tensor:
        """Inner product of two tangent vectors at a point, in radians squared."""
        self._space.require_vector(tangent_vec_a, base_point, "tangent_vec_a")
        self._space.require_vector(tangent_vec_b, base_point, "tangent_vec_b")
        inside_a, inside_b = base_point.mT @ tangent_vec_a, base_point.mT @ tangent_vec_b
        return (tangent_vec_a * tangent_vec_b).sum(dim=(-2, -1)) - (inside_a * inside_b).sum(dim=(-2, -1)) / 2

    def norm(self, vector: Tensor, base_point: Tensor) -> Tensor:
        """Length of a tangent vector in radians; its gradient is 0 at the zero vector, where a second one raises."""
        return safe_sqrt(self.squared_norm(vector, base_point))

    def normalize(self, vector: Tensor, base_point: Tensor) -> Tensor:
        """Tangent vector divided by its length; the zero vector is left as it is."""
        norm = self.norm(vector, base_point)[..., None, None]
        return vector / torch.where(norm == 0, 1, norm)

    def random_unit_tangent_vec(
        self, base_point: Tensor, n_vectors: int = 1, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Uniform unit tangent vectors, `n_vectors` of them as in `Flag.random_tangent_vec`."""
        unit = self.normalize(self._space.random_tangent_vec(base_point, n_vectors, generator=generator), base_point)
        # Lengthening a short vector lengthens its rounding errors, which need not be tangent.
        return self._space.to_tangent(unit, base_point)

    def riemannian_gradient(self, euclidean_gradient: Tensor, base_point: Tensor) -> Tensor:
        """Gradient of a function of flags from its derivative as a function of n x k matrices, such as autograd's.

        It is the direction of steepest ascent. Its in-plane part is twice that of `Flag.to_tangent`.
        """
        self._space.require_point(base_point, "base_point")
        self._space.require_vector(euclidean_gradient, base_point, "euclidean_gradient")
        inside, normal = split(euclidean_gradient, base_point)
        gradient = normal + 2 * base_point @ off_blocks(skew(inside), self._space.dims)
        # Near an optimum the normal part is short, and has the rounding errors of a long Euclidean gradient.
        return tangent_part(gradient, base_point, self._space.dims)

    def exp(self, tangent_vec: Tensor, base_point: Tensor) -> Tensor:
        """Point reached after unit time on the geodesic with a given initial velocity.

        It is differentiable in both arguments, at any order. The angle of a long rotation has an error of its length
        times that of a number: `ValueError` is raised for a vector of norm above ``1e-3 / eps`` (8e3 in float32, 5e12
        in float64), and `ArithmeticError` by a derivative above ``0.03 / sqrt(eps)`` (90 in float32, 2e6 in float64).
        """
        self._space.require_point(base_point, "base_point")
        self._space.require_tangent(tangent_vec, base_point, "tangent_vec")
        _require_angles(tangent_vec, f"{self._space}.metric.exp")
        return self._exponential(tangent_vec, base_point)

    def log(self, point: Tensor, base_point: Tensor) -> Tensor:
        """Find the initial velocity of the shortest geodesic from one point to another.

        It is one of several where the shortest geodesic is not unique. It is differentiable in both points, at any
        order; `ArithmeticError` is raised by a derivative between conjugate points, to working precision, and for one
        block at the cut locus. A derivative takes ``O(k^6)`` multiply-adds and ``O(k^4)`` numbers more than the search.
        """
        self._require_points(point, base_point, "point", "base_point")
        return differentiable_logarithm(self._logarithm, point, base_point, self._space.dims)

    def geodesic(
        self, initial_point: Tensor, end_point: Tensor | None = None, initial_tangent_vec: Tensor | None = None
    ) -> Callable[[Any], Tensor]:
        """Geodesic as a function of time, from two points or from a point and a velocity.

        Parameters
        ----------
        initial_point : Tensor
            Point at time 0.
        end_point, initial_tangent_vec : Tensor, optional
            Point at time 1, or velocity at time 0. Exactly one of the two is given.

        Returns
        -------
        path : callable
            Takes times of shape ``[n_times]`` (or one number) to points of shape ``[..., n_times, n, k]``.
        """
        if (end_point is None) == (initial_tangent_vec is None):
            raise ValueError("geodesic expected either end_point or initial_tangent_vec; got both or neither.")
        velocity = initial_tangent_vec if end_point is None else self.log(end_point, initial_point)
        assert velocity is not None
        self._space.require_point(initial_point, "initial_point")
        self._space.require_tangent(velocity, initial_point, "initial_tangent_vec")

        def path(t: Any) -> Tensor:
            times = torch.as_tensor(t, dtype=velocity.dtype, device=velocity.device).reshape(-1, 1, 1)
            travelled = times * velocity[..., None, :, :]
            _require_angles(travelled, f"{self._space}.metric.geodesic")
            return self._exponential(travelled, initial_point[..., None, :, :])

        return path

    def squared_dist(self, point_a: Tensor, point_b: Tensor) -> Tensor:
        """Squared geodesic distance, whose gradient in either point is minus twice the logarithm.

        It is differentiable at any order, at coinciding points too; from the second one on as `log` is. Where several
        shortest geodesics join the points it has a kink, and its gradient is the slope along the one that was found.
        """
        self._require_points(point_a, point_b, "point_a", "point_b")
        dims = self._space.dims
        tangent_vec = differentiable_logarithm(self._logarithm, point_b, point_a, dims)
        return differentiable_squared_length(tangent_vec, point_b, point_a, dims)

    def dist(self, point_a: Tensor, point_b: Tensor) -> Tensor:
        """Geodesic distance; where the points coincide to working precision its gradient is 0.

        Where several shortest geodesics join the points, the gradient is that of `squared_dist`, the slope on one side.
        A second derivative raises `ArithmeticError` there; `squared_dist` has one.
        """
        squared = self.squared_dist(point_a, point_b)
        # Closer than rounding moves a frame, the direction from one to the other is noise.
        return safe_sqrt(squared, (self._space.n * torch.finfo(squared.dtype).eps) ** 2)

    def dist_pairwise(self, points: Tensor, n_jobs: int = 1, **joblib_kwargs: Any) -> Tensor:  # noqa: ARG002
        """Distances of all pairs of points of shape ``[n_samples, n, k]``, in batches of bounded memory.

        The matrix is symmetric with zeros on the diagonal and carries no gradient. geomstats' arguments `n_jobs` and
        `joblib_kwargs` are ignored: torch runs the batches in parallel.
        """
        self._space.require_point(points, "points")
        if points.ndim != 3:
            raise ValueError(f"dist_pairwise expected points of shape [n_samples, n, k]; got {tuple(points.shape)}.")
        with torch.no_grad():
            return self._all_lengths(points)

    def injectivity_radius(self, base_point: Tensor | None = None) -> Tensor:
        """Radius pi/2 within which geodesics are the only shortest ones, the same at every point."""
        if base_point is None:
            return torch.tensor(math.pi / 2)
        return base_point.new_full(base_point.shape[:-2], math.pi / 2)

    def parallel_transport(
        self, tangent_vec: Tensor, base_point: Tensor, direction: Tensor | None = None, end_point: Tensor | None = None
    ) -> Tensor:
        """Parallel transport along a geodesic, given by its initial velocity or by its end point.

        Parameters
        ----------
        tangent_vec, base_point : Tensor
            Tangent vector to transport, and the point to start from.
        direction, end_point : Tensor, optional
            Initial velocity or end of the geodesic. Exactly one of the two is given.

        Returns
        -------
        tangent_vec : Tensor, shape=[..., n, k]
            Tangent vector at the end, of the same length, expressed in the frame ``exp(direction, base_point)``
            or `end_point`.

        Notes
        -----
        For several blocks the time is proportional to the length of the geodesic, and a `direction` of norm above 1000
        is refused. For one block it may be as long as in `exp`.
        """
        if (end_point is None) == (direction is None):
            raise ValueError("parallel_transport expected either direction or end_point; got both or neither.")
        self._space.require_point(base_point, "base_point")
        self._space.require_tangent(tangent_vec, base_point, "tangent_vec")
        dims: Sequence[int] = self._space.dims
        if end_point is None:
            assert direction is not None
            self._space.require_tangent(direction, base_point, "direction")
            self._require_length(direction)
            return parallel_transport(tangent_vec, base_point, direction, dims)
        direction = self.log(end_point, base_point)
        transported = parallel_transport(tangent_vec, base_point, direction, dims)
        return change_representative(transported, self._exponential(direction, base_point), end_point, dims)

    def polar_retraction(self, tangent_vec: Tensor, base_point: Tensor) -> Tensor:
        """Approximate `exp` by the polar factor of ``base_point + tangent_vec``.

        The approximation is of first order, and of second order for one block. When the frame of the base point is
        turned inside its blocks, that of the result turns with it.
        """
        self._space.require_point(base_point, "base_point")
        self._space.require_tangent(tangent_vec, base_point, "tangent_vec")
        return polar_retraction(tangent_vec, base_point)

    def qr_retraction(self, tangent_vec: Tensor, base_point: Tensor) -> Tensor:
        """Approximate `exp` by the Q factor of ``base_point + tangent_vec``.

        The approximation is of the order of `polar_retraction`. The resulting flag depends on the flag of the base
        point alone, but its frame does not turn with that of the base point.
        """
        self._space.require_point(base_point, "base_point")
        self._space.require_tangent(tangent_vec, base_point, "tangent_vec")
        return qr_retraction(tangent_vec, base_point)

    def sectional_curvature(self, tangent_vec_a: Tensor, tangent_vec_b: Tensor, base_point: Tensor) -> Tensor:
        """Sectional curvature of the plane of two tangent vectors, in [0, 2]; NaN if they are linearly dependent."""
        self._space.require_point(base_point, "base_point")
        self._space.require_tangent(tangent_vec_a, base_point, "tangent_vec_a")
        self._space.require_tangent(tangent_vec_b, base_point, "tangent_vec_b")
        inside_a, normal_a = split(tangent_vec_a, base_point)
        inside_b, normal_b = split(tangent_vec_b, base_point)
        cross = normal_a.mT @ normal_b
        # The bracket of the lifts in so(n), by blocks: in the plane, across, and in the complement.
        bracket = inside_a @ inside_b - inside_b @ inside_a - cross + cross.mT
        between = off_blocks(bracket, self._space.dims)
        across = normal_a @ inside_b - normal_b @ inside_a
        complement = ((normal_a.mT @ normal_a) * (normal_b.mT @ normal_b)).sum(dim=(-2, -1)) - (cross * cross.mT).sum(
            dim=(-2, -1)
        )
        horizontal = _square(between) / 2 + _square(across)
        vertical = _square(bracket - between) / 2 + complement
        area = (
            self.squared_norm(tangent_vec_a, base_point) * self.squared_norm(tangent_vec_b, base_point)
            - self.inner_product(tangent_vec_a, tangent_vec_b, base_point) ** 2
        )
        return (horizontal / 4 + vertical) / area

    def _require_length(self, direction: Tensor) -> None:
        """Raise for a direction along which a vector is not transported to any precision, or not in seconds."""
        _require_angles(direction, f"{self._space}.metric.parallel_transport")
        norm = torch.linalg.matrix_norm(direction.detach())
        if len(self._space.dims) > 1 and not holds(norm <= _LONGEST_TRANSPORT):
            raise ValueError(
                f"{self._space}.metric.parallel_transport expected a direction of norm at most {_LONGEST_TRANSPORT}, "
                f"since its time grows with the length; got {largest(norm):.1e}. Go in shorter steps."
            )

    def _exponential(self, tangent_vec: Tensor, base_point: Tensor) -> Tensor:
        one_block = len(self._space.dims) == 1
        return (grassmannian_exponential if one_block else exponential)(tangent_vec, base_point)

    def _logarithm(self, point: Tensor, base_point: Tensor) -> Tensor:
        return self._solve(point, base_point).tangent_vec

    def _length(self, point_a: Tensor, point_b: Tensor) -> Tensor:
        return self._solve(point_b, point_a).length

    def _all_lengths(self, points: Tensor) -> Tensor:
        count, n, k = points.shape
        rows, columns = torch.triu_indices(count, count, offset=1, device=points.device)
        # Per pair: two frames, the basis, and about a dozen 2k x 2k matrices, half of them complex.
        step = max(1, _TILE_ENTRIES // (4 * n * k + 20 * (2 * k) ** 2))
        lengths = points.new_zeros(count, count)
        for first, second in zip(rows.split(step), columns.split(step), strict=True):
            lengths[first, second] = self._length(points[first], points[second])
        return lengths + lengths.mT

    def _solve(self, point: Tensor, base_point: Tensor) -> FlagLogarithm:
        logarithm = solve_flag_logarithm(point, base_point, self._space.dims)
        if not bool(logarithm.converged.all()):
            failed = ~logarithm.converged
            raise AlignmentError(
                f"{self._space}: no geodesic found for {int(failed.sum())} of {failed.numel()} pairs; the largest "
                f"residual is {float(logarithm.residual.max()):.1e}. solve_flag_logarithm reports on each pair."
            )
        return logarithm

    def _require_points(self, first: Tensor, second: Tensor, first_name: str, second_name: str) -> None:
        self._space.require_point(first, first_name)
        self._space.require_point(second, second_name)
        require_fit(first, second, repr(self._space), first_name, second_name)


def _require_angles(vector: Tensor, caller: str) -> None:
    """Raise `ValueError` for a vector so long that rounding leaves less than three digits of its angles."""
    norm, limit = torch.linalg.matrix_norm(vector.detach()), 1e-3 / torch.finfo(vector.dtype).eps
    if not holds(norm <= limit):
        raise ValueError(
            f"{caller} expected a tangent vector of norm at most {limit:.1e} in {vector.dtype}, beyond which rounding "
            f"hides its angles; got {largest(norm):.1e}."
        )


def _square(matrix: Tensor) -> Tensor:
    return matrix.square().sum(dim=(-2, -1))
