"""Flag manifolds: nested families of subspaces of fixed dimensions."""

import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from .backend import LevelSet, Matrices
from .checks import block_slices, holds, largest, require_dims, require_fit, require_frame, require_tensor
from .derivatives import nearest_frame
from .flag_metric import FlagMetric
from .frames import polar_factor
from .geodesics import off_blocks, same_block, skew, tangent_part
from .haar import uniform_frame


class Flag(LevelSet):  # type: ignore[misc]  # geomstats is untyped
    r"""Manifold of flags: nested subspaces of dimensions :math:`d_1 < \dots < d_r` in n-space.

    A point is an orthonormal frame P of shape ``[n, k]``, ``k = dims[-1]``, whose first ``d_i`` columns span the
    i-th subspace. Frames that differ by an orthogonal map inside a block of columns are the same point, so
    compare points by `FlagMetric.dist`, or frames by the spans of their blocks. A tangent vector is an n x k matrix
    that does not turn the columns of a block into each other.

    Parameters
    ----------
    n : int
        Dimension of the space.
    dims : sequence of int
        Dimensions of the subspaces, strictly increasing between 1 and n - 1; `ValueError` otherwise.
    equip : bool
        Whether to equip the manifold with `FlagMetric`.

    Attributes
    ----------
    dim : int
        Dimension of the manifold: the number of pairs of basis vectors in different blocks.
    metric : FlagMetric
        The canonical metric.

    Notes
    -----
    This is a geomstats space, and geomstats' learning algorithms run on it. In its methods `point` and `base_point` are
    points, and `vector` and `tangent_vec` are matrices at `base_point`, all of shape ``[..., n, k]`` under the
    conventions of the package. A `generator` is a `torch.Generator` on the device of the result; torch's own is used
    when it is absent.

    References
    ----------
    .. [1] K. Ye, K. S.-W. Wong and L.-H. Lim, Optimization on flag manifolds, Math. Program. 194 (2022).
    .. [2] A. Edelman, T. A. Arias and S. T. Smith, The geometry of algorithms with orthogonality
       constraints, SIAM J. Matrix Anal. Appl. 20 (1998), for one block.

    Examples
    --------
    >>> flags = Flag(n=5, dims=(1, 3))
    >>> flags.dim, flags.shape
    (8, (5, 3))
    >>> generator = torch.Generator().manual_seed(0)
    >>> start, end = flags.random_point(2, generator=generator, dtype=torch.float64)
    >>> tangent_vec = flags.metric.log(end, start)
    >>> bool(flags.metric.dist(flags.metric.exp(tangent_vec, start), end) < 1e-12)
    True
    """

    def __init__(self, n: int, dims: Sequence[int], equip: bool = True) -> None:
        self.n = operator.index(n)
        self.dims = require_dims(dims, self.n)
        starts = (0, *self.dims)
        dimension = sum((stop - start) * (self.n - stop) for start, stop in zip(starts, self.dims, strict=False))
        super().__init__(dim=dimension, equip=equip)

    def __repr__(self) -> str:
        return f"Flag(n={self.n}, dims={self.dims}{self._equip_option()})"

    def __eq__(self, other: object) -> bool:
        """Whether the other is the same manifold with a metric of the same kind."""
        return isinstance(other, Flag) and self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[type, int, tuple[int, ...], type | None]:
        return type(self), self.n, self.dims, type(self.metric) if hasattr(self, "metric") else None

    def _equip_option(self) -> str:
        return "" if hasattr(self, "metric") else ", equip=False"

    @staticmethod
    def default_metric() -> type[FlagMetric]:
        """Metric that the manifold is equipped with."""
        return FlagMetric

    def _define_embedding_space(self) -> Matrices:
        return Matrices(self.n, self.dims[-1], equip=False)

    def submersion(self, point: Tensor) -> Tensor:
        """``P' P - I`` for any matrix P, shape=[..., k, k]; it vanishes on frames."""
        return point.mT @ point - torch.eye(point.shape[-1], dtype=point.dtype, device=point.device)

    def tangent_submersion(self, vector: Tensor, point: Tensor) -> Tensor:
        """``M + M'`` outside the diagonal blocks and ``2 M`` in them, with ``M = P' V``, shape=[..., k, k].

        It is defined for any matrix V and vanishes on tangent vectors.
        """
        inside = point.mT @ vector
        return torch.where(same_block(self.dims, inside.device), 2 * inside, inside + inside.mT)

    def belongs(self, point: Tensor, atol: float | None = None) -> Tensor:
        """Whether a matrix is an orthonormal frame of the right shape; false for any other shape.

        `atol` is the largest entry of `submersion` allowed; by default ``10 * n * eps``, which the other methods ask
        for.
        """
        require_tensor(point, "point")
        if point.shape[-2:] != self.shape:
            return torch.zeros(point.shape[:-2], dtype=torch.bool, device=point.device)
        if atol is None:
            atol = 10 * self.n * torch.finfo(point.dtype).eps
        return self.submersion(point).abs().amax(dim=(-2, -1)) <= atol

    def is_tangent(self, vector: Tensor, base_point: Tensor, atol: float | None = None) -> Tensor:
        """Whether a matrix is tangent at a point; false for any other shape.

        `atol` is the largest entry of `tangent_submersion` allowed; by default ``10 * n * eps`` times the larger of 1
        and the norm of the vector, which the methods of the metric ask for.
        """
        if vector.shape[-2:] != self.shape:
            return torch.zeros(vector.shape[:-2], dtype=torch.bool, device=vector.device)
        defect = self.tangent_submersion(vector, base_point).abs().amax(dim=(-2, -1))
        if atol is not None:
            return defect <= atol
        eps = torch.finfo(vector.dtype).eps
        return defect <= 10 * self.n * eps * torch.linalg.matrix_norm(vector).clamp(min=1)

    def to_tangent(self, vector: Tensor, base_point: Tensor) -> Tensor:
        """Orthogonal projection of any matrix onto the tangent space at a point.

        The nearest tangent vector is not the Riemannian gradient of a Euclidean one: that is
        `FlagMetric.riemannian_gradient`, which counts the in-plane part twice.
        """
        self.require_point(base_point, "base_point")
        self.require_vector(vector, base_point, "vector")
        return tangent_part(vector, base_point, self.dims)

    def projection(self, point: Tensor) -> Tensor:
        """Nearest point to a matrix of full column rank: its polar factor. See `polar_factor`."""
        if point.shape[-2:] != self.shape:
            raise ValueError(f"{self} expected matrices of shape {self.shape}; got {tuple(point.shape)}.")
        return polar_factor(point)

    def regularize(self, point: Tensor) -> Tensor:
        """Choose the representative whose diagonal sub-blocks are symmetric positive semidefinite.

        It serves display and export. The choice jumps where a sub-block is singular, so compare points by
        `FlagMetric.dist` instead.
        """
        self.require_point(point, "point")
        columns = []
        for block in block_slices(self.dims):
            columns.append(point[..., block] @ nearest_frame(point[..., block, block]).mT)
        return torch.cat(columns, dim=-1)

    def random_point(
        self,
        n_samples: int = 1,
        bound: float = 1.0,  # noqa: ARG002  # geomstats' signature; the manifold is compact
        *,
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Independent uniform (Haar) flags, drawn by `uniform_frame`; `bound` is ignored.

        Returns
        -------
        point : Tensor, shape=[n_samples, n, k], or [n, k] for one sample
            Frames of the flags.
        """
        batch = () if n_samples == 1 else (n_samples,)
        return uniform_frame(self.n, self.dims[-1], batch, generator=generator, dtype=dtype, device=device)

    def random_tangent_vec(
        self, base_point: Tensor, n_samples: int = 1, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw standard normal tangent vectors: independent, of unit variance along every unit direction.

        Returns
        -------
        tangent_vec : Tensor, shape=[..., n, k]
            At one base point, `n_samples` vectors along a leading axis if there is more than 1. Several base points get
            one vector each; another number of samples is refused.
        """
        self.require_point(base_point, "base_point")
        several = base_point.ndim > 2
        if n_samples > 1 and several and n_samples != len(base_point):
            raise ValueError(f"expected one sample for each of {len(base_point)} base points; got {n_samples}.")
        shape = (n_samples, *base_point.shape) if n_samples > 1 and not several else base_point.shape
        gaussian = torch.randn(shape, generator=generator, dtype=base_point.dtype, device=base_point.device)
        inside = base_point.mT @ gaussian
        # An in-plane entry occurs twice, with opposite signs, and the metric counts it once.
        rotation = 2**0.5 * off_blocks(skew(inside), self.dims)
        return gaussian - base_point @ (inside - rotation)

    def require_point(self, point: Tensor, name: str) -> None:
        """Raise `ValueError` unless a tensor holds points of the manifold, to working precision."""
        require_tensor(point, name)
        if point.shape[-2:] != self.shape:
            raise ValueError(
                f"{self} expected {name} of shape [..., {self.n}, {self.dims[-1]}]; got {tuple(point.shape)}."
            )
        require_frame(point, name)

    def require_vector(self, vector: Tensor, base_point: Tensor, name: str) -> None:
        """Raise `ValueError` unless a tensor has the shape, dtype and device of vectors at a point."""
        require_tensor(vector, name)
        if vector.shape[-2:] != self.shape:
            raise ValueError(
                f"{self} expected {name} of shape [..., {self.n}, {self.dims[-1]}]; got {tuple(vector.shape)}."
            )
        require_fit(vector, base_point, repr(self), name, "base_point")

    def require_tangent(self, vector: Tensor, base_point: Tensor, name: str) -> None:
        """Raise `ValueError` unless a tensor holds tangent vectors at a point, to working precision."""
        self.require_vector(vector, base_point, name)
        tangent = self.is_tangent(vector, base_point)
        if not holds(tangent):  # false also for NaN
            if not holds(vector.isfinite()):
                raise ValueError(f"{self} expected a finite {name}; found NaN or infinity.")
            defect = largest(self.tangent_submersion(vector, base_point).abs())
            raise ValueError(
                f"{self} expected {name} tangent at the base point; its normal part has an entry of {defect:.1e}. "
                "Project it with to_tangent first."
            )
