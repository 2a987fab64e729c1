"""Derivatives of the logarithm and the squared distance of flags, by implicit differentiation.

The logarithm Z of Q at P is the root of a smooth function F(Z, Q, P) of n x k matrices, `_mismatch`. Its derivative is
``-F_Z^-1 (F_Q dQ + F_P dP)``, where ``F_Z^-1`` is the inverse of the differential of the exponential, found in
the span of P and Z, of dimension at most 2k. Derivatives of that inverse are again such solutions, which gives every
order. `ArithmeticError` is raised where there is no derivative: at conjugate points, for one block at the cut locus.

The functions trust their arguments.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .checks import block_slices, common_batch, holds
from .derivatives import BatchedFunction, forward_rule, or_zeros, pull_back
from .geodesics import off_blocks, skew, smooth_exponential, split, tangent_part

# Below this, relative to its largest value 1, the differential of the exponential counts as singular.
_SINGULAR = 1e-7
# Numbers held at a time while the Hessian of the alignment problem is put together: 2^23 complex ones are 128 MiB.
_TILE_ENTRIES = 2**23


def differentiable_logarithm(
    search: Callable[[Tensor, Tensor], Tensor], point: Tensor, base_point: Tensor, dims: Sequence[int]
) -> Tensor:
    """Tangent vector that `search` finds for ``(point, base_point)``, with its derivatives in both."""
    tangent_vec: Tensor = _Logarithm.apply(search, tuple(dims), *_same_batch(point, base_point))  # type: ignore[no-untyped-call]
    return tangent_vec


def differentiable_squared_length(
    tangent_vec: Tensor, point: Tensor, base_point: Tensor, dims: Sequence[int]
) -> Tensor:
    """Squared length of a logarithm as a function of the points alone, whose gradient is minus twice the logarithm."""
    squared: Tensor = _SquaredLength.apply(tuple(dims), tangent_vec, *_same_batch(point, base_point))  # type: ignore[no-untyped-call]
    return squared


def _same_batch(point: Tensor, base_point: Tensor) -> tuple[Tensor, Tensor]:
    batch = common_batch(point, base_point)
    return point.expand(*batch, *point.shape[-2:]), base_point.expand(*batch, *base_point.shape[-2:])


class _Logarithm(BatchedFunction):
    @staticmethod
    def forward(
        search: Callable[[Tensor, Tensor], Tensor],
        dims: tuple[int, ...],  # noqa: ARG004
        point: Tensor,
        base_point: Tensor,
    ) -> Tensor:
        return search(point, base_point)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, ctx.dims, point, base_point = inputs
        # The squared length needs no gradient of the logarithm: it gives None, which costs nothing.
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(output, point, base_point)
        ctx.save_for_forward(output, point, base_point)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return None, None, None, None
        tangent_vec, *points = ctx.saved_tensors
        weight = _solve_differential(ctx.dims, True, gradient, tangent_vec, *points)
        return None, None, *pull_back(lambda *points: _mismatch(ctx.dims, tangent_vec, *points), tuple(points), -weight)

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor, ...], _search: None, _dims: Any, *tangents: Tensor | None) -> Tensor:
        tangent_vec, *points = saved
        rates = tuple(map(or_zeros, tangents, points))
        rate = torch.func.jvp(lambda *points: _mismatch(ctx.dims, tangent_vec, *points), tuple(points), rates)[1]
        return _solve_differential(ctx.dims, False, -rate, tangent_vec, *points)


class _SquaredLength(BatchedFunction):
    """Its backward rule gives the logarithm no gradient: what the points get is already the whole of it."""

    @staticmethod
    def forward(dims: tuple[int, ...], tangent_vec: Tensor, point: Tensor, base_point: Tensor) -> Tensor:  # noqa: ARG004
        inside = base_point.mT @ tangent_vec
        return tangent_vec.square().sum(dim=(-2, -1)) - inside.square().sum(dim=(-2, -1)) / 2

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.dims, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *(gradient[..., None, None] * slope for slope in _slopes(ctx.dims, *ctx.saved_tensors))

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor, ...], _dims: Any, _tangent_vec: Any, *tangents: Tensor | None) -> Tensor:
        first, second = (
            (slope * or_zeros(tangent, slope)).sum(dim=(-2, -1))
            for slope, tangent in zip(_slopes(ctx.dims, *saved), tangents, strict=True)
        )
        return first + second


def _slopes(dims: tuple[int, ...], tangent_vec: Tensor, point: Tensor, base_point: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of the squared length of the logarithm in the point and in the base point, as n x k matrices."""
    end = smooth_exponential(tangent_vec, base_point)
    normal = split(tangent_vec, base_point)[1]
    velocity = tangent_vec @ (base_point.mT @ end) - base_point @ (normal.mT @ end)
    in_frame = [velocity[..., block] @ (end[..., block].mT @ point[..., block]) for block in block_slices(dims)]
    return 2 * _cotangent(torch.cat(in_frame, dim=-1), point), -2 * _cotangent(tangent_vec, base_point)


def _cotangent(tangent_vec: Tensor, point: Tensor) -> Tensor:
    """Matrix whose Frobenius product with any tangent vector is the inner product of the metric."""
    return tangent_vec - point @ (point.mT @ tangent_vec) / 2


def _mismatch(dims: tuple[int, ...], tangent_vec: Tensor, point: Tensor, base_point: Tensor) -> Tensor:
    """What an n x k matrix Z lacks to be the logarithm: tangent at the base point, with its end at the point.

    The first term is the part of Z that is not tangent, moved to the end E of the geodesic. The second one is the
    tangent vector at E towards the frame of the point's flag that is nearest to it; dE changes it by -dE.
    """
    end = smooth_exponential(tangent_part(tangent_vec, base_point, dims), base_point)
    nearest = [point[..., block] @ (point[..., block].mT @ end[..., block]) for block in block_slices(dims)]
    return end @ _not_tangent(base_point.mT @ tangent_vec, dims) - tangent_part(torch.cat(nearest, dim=-1), end, dims)


def _not_tangent(inside: Tensor, dims: tuple[int, ...]) -> Tensor:
    return inside - off_blocks(skew(inside), dims)


def _solve_differential(
    dims: tuple[int, ...], transposed: bool, right: Tensor, tangent_vec: Tensor, point: Tensor, base_point: Tensor
) -> Tensor:
    """Solution X of ``F_Z X = B`` or ``F_Z' X = B`` for the differential F_Z of `_mismatch` at the logarithm."""
    solution: Tensor = _Solution.apply(dims, transposed, right, tangent_vec, point, base_point)  # type: ignore[no-untyped-call]
    return solution


def _differential(
    dims: tuple[int, ...], transposed: bool, vector: Tensor, tangent_vec: Tensor, point: Tensor, base_point: Tensor
) -> Tensor:
    def mismatch(tangent_vec: Tensor) -> Tensor:
        return _mismatch(dims, tangent_vec, point, base_point)

    if transposed:
        return pull_back(mismatch, (tangent_vec,), vector)[0]
    return torch.func.jvp(mismatch, (tangent_vec,), (vector,))[1]


class _Solution(BatchedFunction):
    @staticmethod
    def forward(
        dims: tuple[int, ...],
        transposed: bool,
        right: Tensor,
        tangent_vec: Tensor,
        point: Tensor,  # noqa: ARG004
        base_point: Tensor,
    ) -> Tensor:
        exact = (tensor.double() for tensor in (right, tangent_vec, base_point))
        return _invert_differential(dims, transposed, *exact).to(right.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.dims, ctx.transposed, _, *place = inputs
        ctx.save_for_backward(output, *place)
        ctx.save_for_forward(output, *place)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        solution, *place = ctx.saved_tensors
        weight = _solve_differential(ctx.dims, not ctx.transposed, gradient, *place)

        def image(*place: Tensor) -> Tensor:
            return _differential(ctx.dims, ctx.transposed, solution, *place)

        return None, None, weight, *pull_back(image, tuple(place), -weight)

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor, ...], _dims: Any, _transposed: Any, *tangents: Tensor | None) -> Tensor:
        solution, *place = saved
        right, *rates = map(or_zeros, tangents, saved)

        def image(*place: Tensor) -> Tensor:
            return _differential(ctx.dims, ctx.transposed, solution, *place)

        rate = torch.func.jvp(image, tuple(place), tuple(rates))[1]
        return _solve_differential(ctx.dims, ctx.transposed, right - rate, *place)


def _invert_differential(
    dims: tuple[int, ...], transposed: bool, right: Tensor, tangent_vec: Tensor, base_point: Tensor
) -> Tensor:
    """`_solve_differential` in float64.

    With Omega the lift of Z to so(n), a tangent vector dZ of lift X moves the end by the horizontal part of
    ``exp(Omega) psi(ad Omega)(X) P``, with ``psi(t) = (1 - exp(-t)) / t``. Here V, vertical, is chosen so that
    ``psi(ad Omega)^-1 (B + V)`` is horizontal. The transposed differential has ad Omega with the other sign and goes
    from the end to the base point; in it an in-plane part counts twice, once for each of the two entries of the lift.
    """
    n, k = base_point.shape[-2:]
    width = min(2 * k, n)
    inside, normal = split(tangent_vec, base_point)
    # Householder vectors complete the base point to a basis whatever the rank of the normal part.
    beyond = torch.linalg.qr(torch.cat([base_point, normal], dim=-1)).Q[..., k:width]
    basis = torch.cat([base_point, beyond], dim=-1)
    reduced_dims = dims if width == k else (*dims, width)
    omega = _lift(torch.cat([skew(inside), beyond.mT @ normal], dim=-2))
    turn = torch.linalg.matrix_exp(omega)
    frequencies, vectors = torch.linalg.eigh(torch.complex(torch.zeros_like(omega), -omega))
    if len(dims) == 1 and not holds(frequencies.abs() < math.pi / 2 - _SINGULAR):
        raise ArithmeticError("The logarithm has no derivative at the cut locus, where a principal angle is pi/2.")
    half = (frequencies[..., :, None] - frequencies[..., None, :]) / 2
    shrinkage = torch.sinc(half / math.pi)
    _require_regular(shrinkage.abs())
    weights = torch.polar(1 / shrinkage.abs(), -half if transposed else half) * shrinkage.sign()

    def unwind(lift: Tensor) -> Tensor:
        in_eigenbasis = vectors.mH @ (lift.to(vectors.dtype) @ vectors)
        return (vectors @ (weights * in_eigenbasis) @ vectors.mH).real

    coordinates = basis.mT @ right
    outside = right - basis @ coordinates
    if not transposed:
        coordinates = turn.mT @ coordinates
    factor = 2 if transposed else 1
    not_tangent = _not_tangent(coordinates[..., :k, :], dims)
    top = coordinates[..., :k, :] - not_tangent
    unwound = unwind(_lift(torch.cat([factor * top, coordinates[..., k:, :]], dim=-2)))
    corrected = unwound - unwind(_vertical_solution(unwind, unwound, reduced_dims))
    solved = corrected[..., :k]
    solved = torch.cat([solved[..., :k, :] / factor + not_tangent, solved[..., k:, :]], dim=-2)
    if transposed:
        solved = turn @ solved
    # Outside the span the columns turn by the mean of exp(s Omega) over 0 <= s <= 1.
    phases = torch.polar(torch.sinc(frequencies / (2 * math.pi)), frequencies / 2)
    mean_turn = ((vectors * phases[..., None, :]) @ vectors.mH).real[..., :k, :k]
    _require_regular(torch.linalg.svdvals(mean_turn))
    columns = mean_turn.mT if not transposed else mean_turn
    return basis @ solved + torch.linalg.solve(columns, outside.mT).mT


def _lift(columns: Tensor) -> Tensor:
    """Skew m x m matrix with these k columns, the first k rows of them skew, and zeros in the last block."""
    m, k = columns.shape[-2:]
    below = columns[..., k:, :]
    rest = torch.cat([-below.mT, below.new_zeros(*below.shape[:-2], m - k, m - k)], dim=-2)
    return torch.cat([columns, rest], dim=-1)


def _vertical_solution(unwind: Callable[[Tensor], Tensor], right: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Skew block-diagonal V for which ``unwind(V)`` and `right` have the same diagonal blocks."""
    m = right.shape[-1]
    pairs = [
        (row, column)
        for block in block_slices(dims)
        for row in range(block.start, block.stop)
        for column in range(row + 1, block.stop)
    ]
    if not pairs:
        return torch.zeros_like(right)
    rows, columns = torch.tensor(pairs, device=right.device).T
    units = right.new_zeros(len(pairs), m, m)
    each = torch.arange(len(pairs), device=right.device)
    units[each, rows, columns], units[each, columns, rows] = 1, -1
    step = max(1, _TILE_ENTRIES // (m * m * max(1, right[..., 0, 0].numel())))
    images = [unwind(some[(slice(None), *[None] * (right.ndim - 2))])[..., rows, columns] for some in units.split(step)]
    hessian = torch.cat(images).movedim(0, -1)
    # Odd powers of ad Omega take vertical to horizontal vectors, so this matrix is symmetric.
    values, vectors = torch.linalg.eigh((hessian + hessian.mT) / 2)
    _require_regular(values.abs())
    components = vectors.mT @ right[..., rows, columns, None]
    solution = (vectors @ (components / values[..., None]))[..., 0]
    vertical = torch.zeros_like(right)
    vertical[..., rows, columns], vertical[..., columns, rows] = solution, -solution
    return vertical


def _require_regular(factors: Tensor) -> None:
    if not holds(factors > _SINGULAR):
        raise ArithmeticError(
            "The logarithm has no derivative here: the points are conjugate along the geodesic, to working precision."
        )
