"""The alignment problem behind the flag logarithm.

Every frame of the end flag is Q diag(O_1, ..., O_r). In the span of the two frames, of dimension m <= 2k, the
relative rotation V is an m x m orthogonal matrix, and the logarithm asks for the block-diagonal orthogonal D
that minimises ``f(D) = |log(V D)|^2 / 2``. At a minimum the diagonal blocks of log(V D) vanish: the rest is the
tangent vector. A truncated Newton method with backtracking finds it in a few steps; the fixed-point
iterations of the literature converge linearly, and not at all for many far pairs.

Newton's method turns the blocks continuously, so the signs of their determinants stay what they were at the start, and
even among rotations with the same signs it may end in one of several minima. The search therefore starts from many
block rotations: the nearest one to the identity, and that with some of its singular directions reversed.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import pad

from .checks import block_slices, common_batch, require_dims, require_pair
from .frames import residual
from .geodesics import grassmannian_angles, refine, same_block, skew

# Angles at which the Hermitian part of a rotated V is taken; a second and a third for eigenvalue collisions.
_PHASES = (1.0123, 0.5257, 2.2371)
_CG_PRODUCTS = 60
_SHORTEST_STEP = 1e-4
_NEAR_PI = 1e-7
# Sixteen starts missed nothing that 200 random ones found, in 200 uniform pairs each of six flags; eight missed five of
# the 200 in Fl(1, ..., 6; 20).
# Signs of lines cost one eigendecomposition each. The one that led to the shortest geodesic was the 75th nearest to the
# identity at most, of 512, in 200 uniform pairs in n = 10.
_MOST_STARTS = 32
_MOST_SIGNS = 256
# Newton's model predicts that the energy falls by half the slope. The start that led to the shortest geodesic was
# never further from the least energy than 1.1 slopes in 396 uniform pairs of six signatures.
_REACH_IN_SLOPES = 3
# Relative difference of lengths and energies that decides nothing.
_ROUNDING = 1e-12
# Numbers held at a time while the starts of many pairs are followed: 2^23 float64 are 64 MiB.
_TILE_ENTRIES = 2**23
# Of a start, in m x m matrices of real numbers: the state, its trial and the search direction, half of them complex.
_MATRICES_PER_START = 20


@dataclass(frozen=True)
class FlagLogarithm:
    """A flag logarithm and what is known about it, one entry for each pair of the batch.

    Attributes
    ----------
    tangent_vec : Tensor, shape=[..., n, k]
        Horizontal vector at the base point whose exponential is the end point, in the frame of the base point.
    length : Tensor, shape=[...]
        Its norm, in radians: an upper bound of the distance.
    lower_bound : Tensor, shape=[...]
        Lower bound of the distance, at most `length`.
    residual : Tensor, shape=[...]
        Norm of the diagonal blocks that should vanish, relative to the larger of 1 and the norm of the whole.
    newton_steps : Tensor of int, shape=[...]
        Newton steps taken by the start that gave the result.
    converged : Tensor of bool, shape=[...]
        Whether the residual is below the tolerance: the vector is then a geodesic from point to point.
    certified : Tensor of bool, shape=[...]
        Whether it is converged and, up to the tolerance, no longer than the injectivity radius pi/2 or the lower
        bound: it is then a shortest geodesic, and `length` is the distance. Otherwise a shorter one may exist.
    """

    tangent_vec: Tensor
    length: Tensor
    lower_bound: Tensor
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
) -> FlagLogarithm:
    r"""Shortest known geodesic between two flags, with bounds of the distance and a convergence report.

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

    Returns
    -------
    logarithm : FlagLogarithm
        The tangent vector, its length, and the report. It carries no gradient; the distances of `Flag` do.

    Notes
    -----
    The reduction costs ``O(n k^2)``, and each product with the Hessian ``O(k^3)`` after it. The reduced
    problem is solved in float64 for every input dtype; the tangent vector is cast back.

    The first start is the orthogonal Procrustes solution in each block. If its geodesic is not certified, singular
    directions of the blocks are reversed, in the 32 choices that leave V nearest to the identity. A start is given up
    once three times its slope would not bring its energy below that of another one.

    For complete flags these are choices of signs, and nothing else is to choose. Up to n = 9 all are tried, beyond it
    the 256 nearest to the identity: they missed none of 100 uniform pairs each in n = 10 and 12. For other flags a
    shorter geodesic may exist; docs/grassmannians-and-flags.md, "Flags", says how the search compares with random
    starts.

    The result for a pair does not depend on the batch that it stands in.

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
    bases, ends = (refine(frame.double()).expand(*batch, n, k).reshape(-1, n, k) for frame in (base_point, point))
    basis, rotation = _reduce(bases, ends)
    reduced_dims = (*dims, rotation.shape[-1])
    lower_bound = _lower_bound(rotation, reduced_dims)
    starts = _Starts.of(rotation, reduced_dims)
    blocks = same_block(reduced_dims, rotation.device)
    nothing = torch.full_like(lower_bound, torch.inf)
    found = _shortest(starts.part(0, 1), nothing, blocks, tolerance, max_steps)
    # A geodesic that is no longer than this is certainly shortest: then the other starts can add nothing.
    certain = torch.clamp(lower_bound, min=math.pi / 2) + tolerance
    unsure = (found.rank > certain).nonzero()[:, 0]
    if len(unsure):
        others = _shortest(starts.select(unsure).part(1, None), found.rank[unsure], blocks, tolerance, max_steps)
        found.store(unsure, found.select(unsure).or_shorter(others))
    tangent_vec = basis @ found.horizontal[..., :k]
    return FlagLogarithm(
        tangent_vec=tangent_vec.to(point.dtype).view(*batch, n, k),
        length=found.length.to(point.dtype).view(batch),
        lower_bound=torch.minimum(lower_bound, found.length).to(point.dtype).view(batch),
        residual=found.residual.to(point.dtype).view(batch),
        newton_steps=found.newton_steps.view(batch),
        converged=found.converged.view(batch),
        certified=(found.rank <= certain).view(batch),
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


def _lower_bound(rotation: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Lower bound of the distance, from Grassmann distances.

    Let X_ij be the blocks of the velocity of a shortest geodesic, X_ii = 0. The subspace that block i spans moves with
    the velocity (X_ij)_j, so that its Grassmann distance d_i is at most the norm of that row. Each X_ij stands in two
    rows: ``length^2 >= (d_1^2 + ... + d_{r+1}^2) / 2``. In the same way the distance of a block or of a nested subspace
    is at most the norm of the X_ij from inside to outside, hence at most the length.
    """
    axes = torch.eye(rotation.shape[-1], dtype=rotation.dtype, device=rotation.device)

    def distance(columns: slice) -> Tensor:
        return torch.linalg.vector_norm(grassmannian_angles(rotation[..., columns], axes[:, columns]), dim=-1)

    blocks = torch.stack([distance(block) for block in block_slices(dims)])
    # The least and the largest nested subspace are the first block and the complement of the last one.
    nested = [distance(slice(dim)) for dim in dims[1:-2]]
    return torch.stack([torch.linalg.vector_norm(blocks, dim=0) / math.sqrt(2), *blocks, *nested]).amax(dim=0)


@dataclass
class _Rows:
    """Tensors whose first axis runs over pairs or starts, of which some can be taken out and put back."""

    def select(self, index: Tensor) -> Self:
        return replace(self, **{field.name: getattr(self, field.name)[index] for field in fields(self)})

    def store(self, index: Tensor, other: Self) -> None:
        for field in fields(self):
            getattr(self, field.name)[index] = getattr(other, field.name)


@dataclass
class _Starts(_Rows):
    """Rotations V D to start from, those nearest to the identity first.

    The singular value decomposition ``L S R`` of the transpose of a diagonal block of V gives the rotation ``L R`` that
    brings the block nearest to the identity (orthogonal Procrustes). To reverse a column of L costs its singular value.

    `left` holds V with L in every block, `right` has every R on its diagonal, and ``flips[pair, start, column]`` says
    which columns to reverse.
    """

    left: Tensor
    right: Tensor
    flips: Tensor

    @classmethod
    def of(cls, rotation: Tensor, dims: tuple[int, ...]) -> "_Starts":
        right = torch.zeros_like(rotation)
        columns, costs = [], []
        for block in block_slices(dims):
            left, stretch, right[..., block, block] = torch.linalg.svd(rotation[..., block, block].mT)
            columns.append(rotation[..., block] @ left)
            costs.append(stretch)
        left = torch.cat(columns, dim=-1)
        most = _MOST_SIGNS if len(dims) == dims[-1] else _MOST_STARTS
        return cls(left, right, _cheapest_flips(torch.cat(costs, dim=-1), torch.linalg.det(left @ right) < 0, most))

    def part(self, first: int, last: int | None) -> "_Starts":
        """Some of the starts of each pair."""
        return replace(self, flips=self.flips[:, first:last])

    def rotations(self) -> Tensor:
        """All starts, shape=[pairs, starts, m, m]."""
        left = self.left[:, None]
        return torch.where(self.flips[:, :, None, :], -left, left) @ self.right[:, None]


def _cheapest_flips(costs: Tensor, odd: Tensor, most: int) -> Tensor:
    """Choices of an even number of columns, or of an odd one, with the least sums of costs, in their order.

    Parameters
    ----------
    costs : Tensor, shape=[pairs, columns]
    odd : Tensor of bool, shape=[pairs]
    most : int
        Largest number of choices.

    Returns
    -------
    choices : Tensor of bool, shape=[pairs, choices, columns]
        All of them, or the cheapest.
    """
    pairs = len(costs)
    # Column by column: a cheapest choice begins with a cheapest one of its parity.
    sums = [costs.new_zeros(pairs, 1), costs.new_zeros(pairs, 0)]
    choices = [odd.new_zeros(pairs, 1, 0), odd.new_zeros(pairs, 0, 0)]
    for cost in costs.unbind(dim=-1):
        longer_sums, longer_choices = [], []
        for parity in (0, 1):
            total = torch.cat([sums[parity], sums[1 - parity] + cost[:, None]], dim=1)
            chosen = torch.cat(
                [pad(choices[parity], (0, 1), value=False), pad(choices[1 - parity], (0, 1), value=True)], dim=1
            )
            order = total.argsort(dim=1, stable=True)[:, :most]
            longer_sums.append(total.gather(1, order))
            longer_choices.append(chosen.take_along_dim(order[..., None], dim=1))
        sums, choices = longer_sums, longer_choices
    return torch.where(odd[:, None, None], choices[1], choices[0])


@dataclass
class _Geodesics(_Rows):
    """Geodesics in the span of the two frames, one for each start or each pair."""

    horizontal: Tensor
    length: Tensor
    residual: Tensor
    newton_steps: Tensor
    converged: Tensor

    @property
    def rank(self) -> Tensor:
        return torch.where(self.converged, self.length, torch.inf)

    def or_shorter(self, other: "_Geodesics") -> "_Geodesics":
        """The other geodesic of a pair where it is shorter by more than rounding."""
        shorter = other.rank * (1 + _ROUNDING) < self.rank
        merged = self.select(torch.arange(len(shorter), device=shorter.device))
        merged.store(shorter, other.select(shorter))
        return merged


def _shortest(starts: _Starts, known: Tensor, blocks: Tensor, tolerance: float, max_steps: int) -> _Geodesics:
    """Shortest of the geodesics that the starts of each pair lead to, in tiles of bounded memory.

    Only those count that improve on the `known` length of their pair.
    """
    pairs, count, size = starts.flips.shape
    tile = max(1, _TILE_ENTRIES // (_MATRICES_PER_START * size**2))
    results = []
    for rows in torch.arange(pairs, device=known.device).split(max(1, tile // count)):
        some, length = starts.select(rows), known[rows]
        best: _Geodesics | None = None
        for first in range(0, count, tile):
            rotation = some.part(first, first + tile).rotations()
            found = _follow(rotation, length, blocks, tolerance, max_steps)
            rank = found.rank.view(rotation.shape[:2])
            # The first of those that differ by rounding alone, so that rounding does not choose between them.
            chosen = (rank <= rank.amin(dim=1, keepdim=True) * (1 + _ROUNDING)).int().argmax(dim=1)
            candidate = found.select(torch.arange(len(rows), device=known.device) * rank.shape[1] + chosen)
            best = candidate if best is None else best.or_shorter(candidate)
            length = torch.minimum(length, best.rank)
        assert best is not None
        results.append(best)
    return _Geodesics(*(torch.cat([getattr(part, field.name) for part in results]) for field in fields(_Geodesics)))


def _follow(rotation: Tensor, known: Tensor, blocks: Tensor, tolerance: float, max_steps: int) -> _Geodesics:
    """Newton's method on all starts [pairs, starts, m, m] until the diagonal blocks of their logarithms vanish.

    A start is given up where its slope shows that it will not get below the energy of another start of its pair, or
    of the geodesic whose length is `known`.
    """
    pairs, starts = rotation.shape[:2]
    alignment = _Alignment.of(rotation.flatten(0, 1))
    # An eigenvalue -1 has no logarithm to follow. The turn is the same for all, so that no pair depends on another.
    lost = alignment.half_turn().nonzero()[:, 0]
    alignment.store(lost, _Alignment.of(alignment.rotation[lost] @ _fixed_turn(blocks)))
    steps = torch.zeros(pairs * starts, dtype=torch.int64, device=rotation.device)
    given_up = torch.zeros_like(steps, dtype=torch.bool)
    for _ in range(max_steps):
        active = ((alignment.error(blocks) >= tolerance) & ~given_up).nonzero()[:, 0]
        if not len(active):
            break
        current = alignment.select(active)
        gradient = current.log.masked_fill(~blocks, 0)
        direction = _newton_direction(current, gradient, blocks)
        slope = (gradient * direction).sum(dim=(-2, -1))
        energy = torch.where(alignment.half_turn(), torch.inf, alignment.energy).view(pairs, starts)
        least = torch.minimum(energy.amin(dim=1), known.square()) * (1 + _ROUNDING)
        promising = current.energy + _REACH_IN_SLOPES * slope <= least[active // starts]
        given_up[active[~promising]] = True
        active = active[promising]
        alignment.store(active, _line_search(current.select(promising), direction[promising], slope[promising]))
        steps[active] += 1
    horizontal = alignment.log.masked_fill(blocks, 0)
    error = alignment.error(blocks)
    return _Geodesics(
        horizontal=horizontal,
        length=torch.linalg.matrix_norm(horizontal) / math.sqrt(2),
        residual=error,
        newton_steps=steps,
        converged=(error < tolerance) & ~alignment.half_turn(),
    )


@dataclass
class _Alignment(_Rows):
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


def _fixed_turn(blocks: Tensor) -> Tensor:
    """Turn all blocks by a generic rotation, always the same one."""
    entries = torch.randn(blocks.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    return torch.linalg.matrix_exp(skew(entries).to(blocks.device).masked_fill(~blocks, 0))


def _line_search(alignment: _Alignment, direction: Tensor, slope: Tensor) -> _Alignment:
    """Follow a direction as far as Armijo's rule allows."""
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
