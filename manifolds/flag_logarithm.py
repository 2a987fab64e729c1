"""The alignment problem behind the flag logarithm.

Every frame of the end flag is Q diag(O_1, ..., O_r). In the span of the two frames, of dimension m <= 2k, the
relative rotation V is an m x m orthogonal matrix, and the logarithm asks for the block-diagonal orthogonal D
that minimises ``f(D) = |log(V D)|^2 / 2``. At a minimum the diagonal blocks of log(V D) vanish: the rest is the
tangent vector. A truncated Newton method with backtracking finds it in a few steps; the fixed-point
iterations of the literature converge linearly, and not at all for many far pairs.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from .checks import block_slices, common_batch, require_dims, require_pair
from .frames import residual
from .geodesics import refine, same_block, skew

# Angles at which the Hermitian part of a rotated V is taken; a second and a third for eigenvalue collisions.
_PHASES = (1.0123, 0.5257, 2.2371)
_CG_PRODUCTS = 60
_SHORTEST_STEP = 1e-4
# An eigenvalue -1 of V has no logarithm to follow; such a start is redrawn at most this often.
_NEAR_PI = 1e-7
_REDRAWS = 20


@dataclass(frozen=True)
class FlagLogarithm:
    """A flag logarithm and what is known about it, one entry for each pair of the batch.

    Attributes
    ----------
    tangent_vec : Tensor, shape=[..., n, k]
        Horizontal vector at the base point whose exponential is the end point, in the frame of the base point.
    length : Tensor, shape=[...]
        Its norm, in radians.
    residual : Tensor, shape=[...]
        Norm of the diagonal blocks that should vanish, relative to the larger of 1 and the norm of the whole.
    newton_steps : Tensor of int, shape=[...]
        Newton steps taken by the start that gave the result.
    converged : Tensor of bool, shape=[...]
        Whether the residual is below the tolerance: the vector is then a geodesic from point to point.
    certified : Tensor of bool, shape=[...]
        Whether it is converged and no longer than the injectivity radius pi/2, up to the tolerance: it is then
        the shortest geodesic, and `length` is the distance. Beyond pi/2 a shorter one may exist.
    """

    tangent_vec: Tensor
    length: Tensor
    residual: Tensor
    newton_steps: Tensor
    converged: Tensor
    certified: Tensor


class AlignmentError(ArithmeticError):
    """The search for a geodesic between two flags did not converge."""


@torch.no_grad()
def solve_flag_logarithm(
    point: Tensor,
    base_point: Tensor,
    dims: Sequence[int],
    *,
    tolerance: float = 1e-12,
    max_steps: int = 60,
    n_restarts: int = 0,
    generator: torch.Generator | None = None,
) -> FlagLogarithm:
    r"""Shortest known geodesic between two flags, with a convergence report and a certificate.

    Parameters
    ----------
    point, base_point : Tensor, shape=[..., n, k]
        Orthonormal frames of the end flag and of the flag to start from.
    dims : sequence of int
        Dimensions of the nested subspaces, increasing, ``dims[-1] = k < n``.
    tolerance : float
        Residual at which an alignment counts as found.
    max_steps : int
        Largest number of Newton steps from one start.
    n_restarts : int
        Further starts, drawn uniformly from the block rotations; the shortest geodesic is kept.
    generator : torch.Generator, optional
        Source of the restarts; seeded with 0 when absent, so that results repeat.

    Returns
    -------
    logarithm : FlagLogarithm
        The tangent vector, its length, and the report. It carries no gradient; the distances of `Flag` do.

    Notes
    -----
    The reduction costs ``O(n k^2)``, and each product with the Hessian ``O(k^3)`` after it. The reduced
    problem is solved in float64 for every input dtype; the tangent vector is cast back.
    The start aligns each block by the orthogonal Procrustes solution. That start led to the shortest
    geodesic in all but rare pairs far beyond the injectivity radius; for those use `n_restarts`. If all
    blocks are lines, the alignment is a choice of signs and only restarts explore it.

    References
    ----------
    .. [1] X. Ma, M. Kirby and C. Peterson, The flag manifold as a tool for analyzing and comparing sets of data
       sets, ICCV Workshops (2021), for the alignment problem and a fixed-point iteration.
    .. [2] T. Szwagier and X. Pennec, Rethinking the Riemannian logarithm on flag manifolds as an orthogonal
       alignment problem, GSI (2023).
    .. [3] T. Steihaug, The conjugate gradient method and trust regions in large scale optimization, SIAM J.
       Numer. Anal. 20 (1983), for the truncation.

    Examples
    --------
    Two lines that trade places in their plane are a quarter turn apart:

    >>> axes = torch.eye(4, dtype=torch.float64)
    >>> logarithm = solve_flag_logarithm(axes[:, [1, 0]], axes[:, [0, 1]], dims=(1, 2))
    >>> logarithm.length / torch.pi, logarithm.certified
    (tensor(0.5000, dtype=torch.float64), tensor(True))
    """
    require_pair(point, base_point, "solve_flag_logarithm")
    n, k = base_point.shape[-2:]
    dims = require_dims(dims, n)
    if not point.shape[-1] == k == dims[-1]:
        raise ValueError(
            f"solve_flag_logarithm expected frames with dims[-1] = {dims[-1]} columns; got shapes "
            f"{tuple(point.shape)} and {tuple(base_point.shape)}."
        )
    batch = common_batch(point, base_point)
    # One refinement brings frames that are orthonormal in float32 to float64.
    starts, ends = (refine(frame.double()).expand(*batch, n, k).reshape(-1, n, k) for frame in (base_point, point))
    basis, rotation = _reduce(starts, ends)
    size = rotation.shape[-1]
    reduced_dims = dims if size == k else (*dims, size)
    if generator is None:
        generator = torch.Generator().manual_seed(0)
    first = _procrustes_start(rotation, reduced_dims)
    restarts = [first @ _random_alignment(rotation, reduced_dims, generator) for _ in range(n_restarts)]

    blocks = same_block(reduced_dims, rotation.device)
    alignment, steps = _align(torch.cat([first, *restarts]), blocks, reduced_dims, generator, tolerance, max_steps)
    horizontal = alignment.log.masked_fill(blocks, 0)
    length = torch.linalg.matrix_norm(horizontal) / math.sqrt(2)
    error = alignment.error(blocks)
    converged = (error < tolerance) & ~alignment.half_turn()

    count = len(starts)
    rank = torch.where(converged, length, torch.inf).view(n_restarts + 1, count)
    best = rank.argmin(dim=0) * count + torch.arange(count, device=rank.device)
    tangent_vec = basis @ horizontal[best][..., :k]
    return FlagLogarithm(
        tangent_vec=tangent_vec.to(point.dtype).view(*batch, n, k),
        length=length[best].to(point.dtype).view(batch),
        residual=error[best].to(point.dtype).view(batch),
        newton_steps=steps[best].view(batch),
        converged=converged[best].view(batch),
        certified=(converged & (length <= math.pi / 2 + tolerance))[best].view(batch),
    )


def _reduce(base_point: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """Basis [..., n, m] of a space that holds both frames, and the rotation [..., m, m] between them in it.

    Some minimal geodesic stays in that space: the reflection in it is an isometry that fixes both flags.
    """
    k = base_point.shape[-1]
    width = min(2 * k, base_point.shape[-2])
    # The Householder factor of [P, W] is orthogonal to P whatever the rank of W; the singular vectors of a
    # rank-deficient W are not, and would give wrong lengths for frames that share columns.
    spanning = torch.cat([base_point, residual(point, base_point)], dim=-1)
    beyond = torch.linalg.qr(spanning).Q[..., k:width]
    basis = torch.cat([base_point, beyond], dim=-1)
    columns = basis.mT @ point
    completion = torch.linalg.qr(columns, mode="complete").Q[..., k:]
    return basis, refine(torch.cat([columns, completion], dim=-1))


def _procrustes_start(rotation: Tensor, dims: Sequence[int]) -> Tensor:
    """Turn each block towards the identity, then, if the determinant is -1, flip the cheapest direction."""
    turned, flipped, costs = [], [], []
    for block in block_slices(tuple(dims)):
        left, stretch, right = torch.linalg.svd(rotation[..., block, block].mT)
        columns = rotation[..., block]
        turned.append(columns @ (left @ right))
        reflected = torch.cat([left[..., :-1], -left[..., -1:]], dim=-1)
        flipped.append(columns @ (reflected @ right))
        costs.append(stretch[..., -1])
    negative = torch.linalg.det(torch.cat(turned, dim=-1)) < 0
    cheapest = torch.stack(costs, dim=-1).argmin(dim=-1)
    chosen = [
        torch.where((negative & (cheapest == i))[..., None, None], flipped[i], turned[i]) for i in range(len(turned))
    ]
    return torch.cat(chosen, dim=-1)


def _random_alignment(like: Tensor, dims: Sequence[int], generator: torch.Generator) -> Tensor:
    """Uniform block-diagonal orthogonal matrices of determinant 1, one for each matrix of `like`."""
    blocks = []
    for block in block_slices(tuple(dims)):
        size = block.stop - block.start
        gaussian = torch.randn(
            (*like.shape[:-2], size, size), generator=generator, device=generator.device, dtype=like.dtype
        )
        factor, triangle = torch.linalg.qr(gaussian.to(like.device))
        blocks.append(factor * triangle.diagonal(dim1=-2, dim2=-1).sign()[..., None, :])
    determinant = torch.stack([torch.linalg.det(block) for block in blocks]).prod(dim=0)
    blocks[-1] = torch.cat([blocks[-1][..., :-1], blocks[-1][..., -1:] * determinant.sign()[..., None, None]], dim=-1)
    alignment = torch.zeros_like(like)
    for block, matrix in zip(block_slices(tuple(dims)), blocks, strict=True):
        alignment[..., block, block] = matrix
    return alignment


@dataclass
class _Alignment:
    """Rotations V D of a batch with their logarithms and eigendecompositions."""

    rotation: Tensor
    log: Tensor
    vectors: Tensor
    angles: Tensor

    @classmethod
    def of(cls, rotation: Tensor) -> "_Alignment":
        alignment, defect = cls._at_phase(rotation, _PHASES[0])
        tolerance = 1e3 * rotation.shape[-1] * torch.finfo(rotation.dtype).eps
        for phase in _PHASES[1:]:
            colliding = (defect > tolerance).nonzero()[:, 0]
            if not len(colliding):
                break
            repeated, defect[colliding] = cls._at_phase(rotation[colliding], phase)
            alignment.store(colliding, repeated)
        return alignment

    @classmethod
    def _at_phase(cls, rotation: Tensor, phase: float) -> tuple["_Alignment", Tensor]:
        """Eigendecomposition by that of a Hermitian matrix with eigenvalues cos(angle - phase), and its defect.

        Two angles symmetric about the phase share an eigenvalue there; the defect shows the mixture.
        """
        symmetric, antisymmetric = (rotation + rotation.mT) / 2, (rotation - rotation.mT) / 2
        hermitian = torch.complex(math.cos(phase) * symmetric, -math.sin(phase) * antisymmetric)
        vectors = torch.linalg.eigh(hermitian).eigenvectors
        images = rotation.to(vectors.dtype) @ vectors
        angles = (vectors.conj() * images).sum(dim=-2).angle()
        defect = (
            (images - vectors * torch.polar(torch.ones_like(angles), angles)[..., None, :]).abs().amax(dim=(-2, -1))
        )
        log = skew((vectors * torch.complex(torch.zeros_like(angles), angles)[..., None, :] @ vectors.mH).real)
        return cls(rotation, log, vectors, angles), defect

    @property
    def energy(self) -> Tensor:
        return self.angles.square().sum(dim=-1) / 2

    def error(self, blocks: Tensor) -> Tensor:
        vertical = torch.linalg.matrix_norm(self.log.masked_fill(~blocks, 0))
        return vertical / torch.linalg.matrix_norm(self.log).clamp(min=1)

    def half_turn(self) -> Tensor:
        """Whether an eigenvalue is -1 to working precision, where the logarithm means nothing."""
        return self.angles.abs().amax(dim=-1) > math.pi - _NEAR_PI

    def select(self, index: Tensor) -> "_Alignment":
        return _Alignment(*(getattr(self, field.name)[index] for field in fields(self)))

    def store(self, index: Tensor, other: "_Alignment") -> None:
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)


def _align(
    rotation: Tensor,
    blocks: Tensor,
    dims: Sequence[int],
    generator: torch.Generator,
    tolerance: float,
    max_steps: int,
) -> tuple[_Alignment, Tensor]:
    """Newton's method on each rotation of the batch until the diagonal blocks of its logarithm vanish."""
    alignment = _Alignment.of(rotation)
    for _ in range(_REDRAWS):
        lost = alignment.half_turn().nonzero()[:, 0]
        if not len(lost):
            break
        start = rotation[lost]
        alignment.store(lost, _Alignment.of(start @ _random_alignment(start, dims, generator)))
    steps = torch.zeros(len(rotation), dtype=torch.int64, device=rotation.device)
    for _ in range(max_steps):
        active = (alignment.error(blocks) >= tolerance).nonzero()[:, 0]
        if not len(active):
            break
        alignment.store(active, _newton_step(alignment.select(active), blocks))
        steps[active] += 1
    return alignment, steps


def _newton_step(alignment: _Alignment, blocks: Tensor) -> _Alignment:
    """Follow the truncated Newton direction as far as Armijo's rule allows."""
    gradient = alignment.log.masked_fill(~blocks, 0)
    direction = _newton_direction(alignment, gradient, blocks)
    slope = (gradient * direction).sum(dim=(-2, -1))
    energy = alignment.energy
    result = alignment.select(torch.arange(len(energy), device=energy.device))
    pending = torch.arange(len(energy), device=energy.device)
    step = 1.0
    while len(pending):
        turned = alignment.rotation[pending] @ torch.linalg.matrix_exp(step * direction[pending])
        trial = _Alignment.of(refine(turned))
        # The last term absorbs rounding near the minimum. A step too short to matter is taken as it is.
        bound = energy[pending] + 1e-4 * step * slope[pending] + 1e-13 * energy[pending]
        accepted = (trial.energy <= bound) if step > _SHORTEST_STEP else torch.ones_like(pending, dtype=torch.bool)
        result.store(pending[accepted], trial.select(accepted))
        pending = pending[~accepted]
        step /= 2
    return result


def _newton_direction(alignment: _Alignment, gradient: Tensor, blocks: Tensor) -> Tensor:
    """Solution of Hessian z = -gradient by conjugate gradients, truncated where the curvature is not positive."""
    vectors = alignment.vectors
    half = (alignment.angles[..., :, None] - alignment.angles[..., None, :]) / 2
    near = half.abs() < 1e-6
    weights = torch.where(near, 1 - half.square() / 3, half / torch.where(near, 1, half).tan())

    def hessian(turn: Tensor) -> Tensor:
        in_eigenbasis = vectors.mH @ (turn.to(vectors.dtype) @ vectors)
        return (vectors @ (weights * in_eigenbasis) @ vectors.mH).real.masked_fill(~blocks, 0)

    def inner(first: Tensor, second: Tensor) -> Tensor:
        return (first * second).sum(dim=(-2, -1), keepdim=True)

    solution = torch.zeros_like(gradient)
    remainder = search = -gradient
    square = inner(remainder, remainder)
    size = square.sqrt()
    goal = (size.clamp(max=0.1) * size).square()
    running = torch.ones_like(square, dtype=torch.bool)
    for product in range(_CG_PRODUCTS):
        image = hessian(search)
        curvature = inner(search, image)
        convex = curvature > 1e-3 * inner(search, search)
        if product == 0:
            solution = torch.where(convex, solution, search)
        running = running & convex
        step = torch.where(running, square / torch.where(running, curvature, 1), 0)
        solution = solution + step * search
        remainder = remainder - step * image
        previous, square = square, inner(remainder, remainder)
        running = running & (square >= goal)
        if not running.any():
            break
        search = remainder + torch.where(running, square / previous, 0) * search
    return solution
