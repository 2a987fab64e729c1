"""Means and medians of subspaces and flags.

The functions take these arguments, under the conventions of the package, and return a `Mean`.

frames : Tensor, shape=[n_samples, n, k]
    Orthonormal frames of the samples.
dims : sequence of int, optional
    Dimensions of the nested subspaces when the frames stand for flags, ``dims[-1] = k``.
weights : Tensor, shape=[n_samples], optional
    Non-negative finite weights, not all zero; equal by default.
tolerance : float, optional
    Value of `Mean.residual` at which the iteration stops.
max_iterations : int
    Largest number of steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import block_slices, normalized_weights, require_dims, require_frame, require_tensor
from .distances import chordal_distance
from .flag_logarithm import AlignmentError, solve_flag_logarithm
from .geodesics import exponential, grassmannian_logarithm


@dataclass(frozen=True)
class Mean:
    """A mean and how it was reached.

    Attributes
    ----------
    point : Tensor, shape=[n, k]
        Orthonormal frame.
    objective : float
        The weighted mean that the point minimises: of squared chordal distances, of chordal distances for the median,
        of squared geodesic distances for the Fréchet mean.
    residual : float
        What the stopping rule looks at: for the Fréchet mean the norm of the weighted mean of the logarithms, in
        radians, half of the gradient of the objective; for the chordal mean and median the chordal distance that
        the last step moved.
    iterations : int
        Steps taken.
    converged : bool
        Whether `residual` fell to the tolerance.
    """

    point: Tensor
    objective: float
    residual: float
    iterations: int
    converged: bool


@torch.no_grad()
def chordal_mean(
    frames: Tensor,
    dims: Sequence[int] | None = None,
    weights: Tensor | None = None,
    *,
    tolerance: float | None = None,
    max_iterations: int = 500,
) -> Mean:
    """Chordal (extrinsic) mean: the subspace or flag of least mean squared chordal distance.

    For subspaces it is the global minimum, spanned by the leading left singular vectors of all frames side by side. For
    flags it is a stationary point, found from a start that favours the smaller subspaces. The sum of the blocks'
    overlaps is convex in the frame, so that each step, to the polar factor of its gradient, cannot raise the objective;
    where the gradient has not full rank, any completion will do. The tolerance is ``100 * sqrt(k) * eps`` by default.

    References
    ----------
    .. [1] T. Marrinan, J. R. Beveridge, B. Draper, M. Kirby and C. Peterson, Finding the subspace mean or
       median to fit your need, CVPR (2014).
    .. [2] N. Mankovich and T. Birdal, Chordal averaging on flag manifolds and its applications, ICCV (2023).

    Examples
    --------
    >>> lines = torch.tensor([[[1.0], [0.0]], [[0.6], [0.8]]])
    >>> chordal_mean(lines).point.abs()
    tensor([[0.8944],
            [0.4472]])
    """
    dims, weights = _require_samples(frames, dims, weights, "chordal_mean")
    point = _leading_frame(frames, dims, weights)
    step, iterations = 0.0, 0
    if tolerance is None:
        tolerance = 100 * len(point[0]) ** 0.5 * torch.finfo(frames.dtype).eps
    if len(dims) > 1:
        step = float("inf")
        while step > tolerance and iterations < max_iterations:
            left, _, right = torch.linalg.svd(_weighted_projections(frames, dims, weights, point), full_matrices=False)
            following = left @ right
            step = float(chordal_distance(point, following, dims))
            point, iterations = following, iterations + 1
    squares = chordal_distance(frames, point, dims).square()
    return Mean(point, float(weights @ squares), step, iterations, step <= tolerance)


@torch.no_grad()
def chordal_median(
    frames: Tensor,
    dims: Sequence[int] | None = None,
    weights: Tensor | None = None,
    *,
    tolerance: float | None = None,
    max_iterations: int = 500,
) -> Mean:
    """Chordal median: the subspace or flag of least mean chordal distance, by reweighted means (Weiszfeld).

    It is a stationary point; fewer than half of the samples may lie anywhere without carrying it away. The tolerance is
    the square root of eps by default, since the iteration converges linearly.

    References
    ----------
    .. [1] N. Mankovich, E. J. King, C. Peterson and M. Kirby, The flag median and FlagIRLS, CVPR (2022).

    Examples
    --------
    Two equal lines outvote a third:

    >>> lines = torch.tensor([[[1.0], [0.0]], [[1.0], [0.0]], [[0.6], [0.8]]])
    >>> chordal_median(lines).point.abs().round(decimals=3)
    tensor([[1.],
            [0.]])
    """
    dims, weights = _require_samples(frames, dims, weights, "chordal_median")
    eps = torch.finfo(frames.dtype).eps
    if tolerance is None:
        tolerance = eps**0.5
    point = chordal_mean(frames, dims, weights).point
    step, iterations = float("inf"), 0
    # A sample at the point itself would get an infinite weight and hold it there, whether or not it is the
    # median. So distances are bounded below, first by the largest of them, then by less and less.
    least = float(chordal_distance(frames, point, dims).max())
    while (step > tolerance or least > eps**0.5) and iterations < max_iterations:
        least = max(least / 2, eps**0.5)
        distances = chordal_distance(frames, point, dims).clamp(min=least)
        following = chordal_mean(frames, dims, weights / distances).point
        step = float(chordal_distance(point, following, dims))
        point, iterations = following, iterations + 1
    distances = chordal_distance(frames, point, dims)
    return Mean(point, float(weights @ distances), step, iterations, step <= tolerance)


@torch.no_grad()
def frechet_mean(
    frames: Tensor,
    dims: Sequence[int] | None = None,
    weights: Tensor | None = None,
    *,
    tolerance: float | None = None,
    max_iterations: int = 200,
) -> Mean:
    """Fréchet (Karcher) mean: the subspace or flag of least mean squared geodesic distance.

    It is a stationary point, found from the chordal mean, and unique if all samples lie within pi/4 of some point. Each
    step follows the mean logarithm; a step that would raise the objective is halved. The tolerance is the larger of
    1e-11 and ``100 * eps`` by default. `AlignmentError` is raised if no geodesic to some sample was found. geomstats'
    `FrechetMean` runs on `Flag` too; its default stopping rule grows with the dimension of the manifold.

    References
    ----------
    .. [1] H. Karcher, Riemannian center of mass and mollifier smoothing, Comm. Pure Appl. Math. 30 (1977).

    Examples
    --------
    The mean of two lines is half way between them:

    >>> lines = torch.tensor([[[1.0], [0.0]], [[0.0], [1.0]], [[0.6], [0.8]]], dtype=torch.float64)[[0, 2]]
    >>> frechet_mean(lines).point.abs()
    tensor([[0.8944],
            [0.4472]], dtype=torch.float64)
    """
    dims, weights = _require_samples(frames, dims, weights, "frechet_mean")
    if tolerance is None:
        tolerance = max(1e-11, 100 * torch.finfo(frames.dtype).eps)

    def evaluate(point: Tensor) -> tuple[Tensor, float]:
        if len(dims) == 1:
            logarithms = grassmannian_logarithm(frames, point)
        else:
            solved = solve_flag_logarithm(frames, point, dims)
            if not bool(solved.converged.all()):
                raise AlignmentError(f"frechet_mean: no geodesic to {int((~solved.converged).sum())} samples found.")
            logarithms = solved.tangent_vec
        squares = logarithms.square().sum(dim=(-2, -1)) - (point.mT @ logarithms).square().sum(dim=(-2, -1)) / 2
        return torch.einsum("l,lij->ij", weights, logarithms), float(weights @ squares)

    point = chordal_mean(frames, dims, weights).point
    direction, objective = evaluate(point)
    iterations = 0
    while (norm := _norm(direction, point)) > tolerance and iterations < max_iterations:
        step = 1.0
        while True:
            following = exponential(step * direction, point)
            candidate, value = evaluate(following)
            # Near the minimum the objective no longer resolves a step; the gradient still does.
            if value <= objective or _norm(candidate, following) < norm or step < 1e-3:
                break
            step /= 2
        point, direction, objective, iterations = following, candidate, value, iterations + 1
    return Mean(point, objective, norm, iterations, norm <= tolerance)


def _norm(tangent_vec: Tensor, point: Tensor) -> float:
    inside = point.mT @ tangent_vec
    return float((tangent_vec.square().sum() - inside.square().sum() / 2).clamp(min=0).sqrt())


def _leading_frame(frames: Tensor, dims: tuple[int, ...], weights: Tensor) -> Tensor:
    """Leading left singular vectors of all frames side by side, the first blocks weighing most."""
    importance = torch.cat(
        [
            frames.new_full((block.stop - block.start,), (len(dims) - i) ** 0.5)
            for i, block in enumerate(block_slices(dims))
        ]
    )
    scaled = frames * weights.sqrt()[:, None, None] * importance
    columns = scaled.permute(1, 0, 2).flatten(1)
    return torch.linalg.svd(columns, full_matrices=False).U[:, : dims[-1]]


def _weighted_projections(frames: Tensor, dims: tuple[int, ...], weights: Tensor, point: Tensor) -> Tensor:
    """For each block of the point its weighted mean projection onto that block of the samples."""
    blocks = [
        torch.einsum("l,lij->ij", weights, frames[..., block] @ (frames[..., block].mT @ point[:, block]))
        for block in block_slices(dims)
    ]
    return torch.cat(blocks, dim=-1)


def _require_samples(
    frames: Tensor, dims: Sequence[int] | None, weights: Tensor | None, caller: str
) -> tuple[tuple[int, ...], Tensor]:
    """Check samples and weights; return the dimensions of the flag and weights of sum 1."""
    require_tensor(frames, f"{caller}: frames")
    if frames.ndim != 3 or not len(frames):
        raise ValueError(f"{caller} expected frames of shape [n_samples >= 1, n, k]; got {tuple(frames.shape)}.")
    require_frame(frames, "frames")
    n, k = frames.shape[-2:]
    checked = require_dims((k,) if dims is None else dims, n)
    if checked[-1] != k:
        raise ValueError(f"{caller} expected frames with dims[-1] = {checked[-1]} columns; got {tuple(frames.shape)}.")
    return checked, normalized_weights(weights, frames, caller)
