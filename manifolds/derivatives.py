"""Derivatives of every order where those of a decomposition fail, as at repeated singular values.

Backward and forward rules are themselves made of differentiable operations, so that they can be differentiated again,
by `torch.autograd` and by the transforms of `torch.func`. The functions trust their arguments. Where a derivative does
not exist they raise `ArithmeticError`.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from .checks import holds


class BatchedFunction(torch.autograd.Function):
    """Function of tensors with the same batch axes, to which `torch.func.vmap` adds one."""

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Tensor, int]:
        """Evaluate all examples at once."""
        pairs = zip(arguments, in_dims, strict=True)
        whole = [_lead_with_axis(argument, axis, info.batch_size) for argument, axis in pairs]
        return cls.apply(*whole), 0  # type: ignore[no-untyped-call]


def _lead_with_axis(argument: Any, axis: int | None, size: int) -> Any:
    if not isinstance(argument, Tensor):
        return argument
    # A copy, since forward mode refuses tensors whose entries share memory.
    return argument.expand(size, *argument.shape).clone() if axis is None else argument.movedim(axis, 0)


def forward_rule(rule: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make a `jvp` from ``rule(ctx, saved, *tangents)`` that can itself be differentiated in forward mode.

    torch turns forward mode off inside a `jvp`, so that the tangents of a second one around it would silently be lost.
    It is turned on again here, and the saved tensors come without the tangents of the pass that the rule serves, those
    of a pass around it being kept.
    """

    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        with forward_ad._set_fwd_grad_enabled(True):
            saved = tuple(forward_ad.unpack_dual(tensor).primal for tensor in ctx.saved_tensors)
            return rule(ctx, saved, *tangents)

    return jvp


def or_zeros(tangent: Tensor | None, tensor: Tensor) -> Tensor:
    """Tangent of an input of a forward rule; torch gives None for constants."""
    return torch.zeros_like(tensor) if tangent is None else tangent


def pull_back(function: Callable[..., Tensor], tensors: tuple[Tensor, ...], gradient: Tensor) -> tuple[Tensor, ...]:
    """Gradients of ``<function(*tensors), gradient>``, within one transform.

    `torch.func.vjp` leaves its transform before its result is called; functions with rules of their own, inside
    another transform, do not survive that.
    """
    return torch.func.grad(lambda *given: (function(*given) * gradient).sum(), tuple(range(len(tensors))))(*tensors)


def evaluate(value: Callable[..., Tensor], smooth: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """Value of one formula with the derivatives of another one for the same function of `tensors`.

    The tensors have the same batch axes.
    """
    result: Tensor = _Evaluated.apply(value, smooth, *tensors)  # type: ignore[no-untyped-call]
    return result


class _Evaluated(BatchedFunction):
    @staticmethod
    def forward(value: Callable[..., Tensor], smooth: Callable[..., Tensor], *tensors: Tensor) -> Tensor:  # noqa: ARG004
        return value(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        _, ctx.smooth, *tensors = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        return None, None, *pull_back(ctx.smooth, ctx.saved_tensors, gradient)

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor, ...], _value: None, _smooth: None, *tangents: Tensor | None) -> Tensor:
        return torch.func.jvp(ctx.smooth, saved, tuple(map(or_zeros, tangents, saved)))[1]


def nearest_frame(matrix: Tensor) -> Tensor:
    """Polar factor U of ``M = U H`` for ``[..., n, k]`` matrices, k <= n, that have derivatives at full rank."""
    frame: Tensor = _NearestFrame.apply(matrix)  # type: ignore[no-untyped-call]
    return frame


class _NearestFrame(BatchedFunction):
    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        left, _, right = torch.linalg.svd(matrix, full_matrices=False)
        return left @ right

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs, output)
        ctx.save_for_forward(*inputs, output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _turn_of_frame(gradient, *ctx.saved_tensors)

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor, ...], tangent: Tensor) -> Tensor:  # noqa: ARG004
        return _turn_of_frame(tangent, *saved)


def _turn_of_frame(direction: Tensor, matrix: Tensor, frame: Tensor) -> Tensor:
    """Differential of the polar factor, a self-adjoint map of the direction."""
    inside = frame.mT @ direction
    stretch = frame.mT @ matrix
    stretch = (stretch + stretch.mT) / 2
    turn = _solve_lyapunov(stretch, inside - inside.mT)
    # Not by torch.linalg.solve, whose second derivatives torch 2.13 gets wrong inside a vmap.
    return frame @ turn + (direction - frame @ inside) @ torch.linalg.inv(stretch)


def _solve_lyapunov(symmetric: Tensor, right: Tensor) -> Tensor:
    """Solution X of ``H X + X H = B`` for positive definite H."""
    solution: Tensor = _Lyapunov.apply(symmetric, right)  # type: ignore[no-untyped-call]
    return solution


class _Lyapunov(BatchedFunction):
    @staticmethod
    def forward(symmetric: Tensor, right: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(symmetric)
        if not holds(values[..., 0] > values.shape[-1] * torch.finfo(values.dtype).eps * values[..., -1]):
            raise ArithmeticError("The nearest frame to a matrix that has not full rank cannot be differentiated.")
        sums = values[..., :, None] + values[..., None, :]
        return vectors @ ((vectors.mT @ right @ vectors) / sums) @ vectors.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)
        ctx.save_for_forward(inputs[0], output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        symmetric, solution = ctx.saved_tensors
        weight = _solve_lyapunov(symmetric, gradient)
        return -(weight @ solution.mT + solution.mT @ weight), weight

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor, Tensor], stretch: Tensor | None, right: Tensor | None) -> Tensor:  # noqa: ARG004
        symmetric, solution = saved
        stretch, right = or_zeros(stretch, symmetric), or_zeros(right, solution)
        return _solve_lyapunov(symmetric, right - stretch @ solution - solution @ stretch)


def singular_values(matrix: Tensor) -> Tensor:
    """Singular values, descending; their second derivatives raise where two of them, or one and 0, nearly agree."""
    values: Tensor = _SingularValues.apply(matrix)  # type: ignore[no-untyped-call]
    return values


class _SingularValues(BatchedFunction):
    @staticmethod
    def forward(matrix: Tensor) -> Tensor:
        return torch.linalg.svdvals(matrix)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ARG004
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        left, right = _singular_vectors(*ctx.saved_tensors)
        return (left * gradient[..., None, :]) @ right.mT

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor], tangent: Tensor) -> Tensor:  # noqa: ARG004
        left, right = _singular_vectors(*saved)
        return (left * (tangent @ right)).sum(dim=-2)


def _singular_vectors(matrix: Tensor) -> tuple[Tensor, Tensor]:
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    gaps = values - torch.nn.functional.pad(values[..., 1:], (0, 1))
    # Rounding errors of a singular vector's derivative are eps / gap.
    separated = gaps > torch.finfo(values.dtype).eps ** 0.5 * values[..., :1]
    message = (
        "Single principal angles have no second derivatives where two of them agree, or one is 0 or pi/2, to half of "
        "the working precision."
    )
    return _guard(left, separated, message), _guard(right.mT, separated, message)


def safe_sqrt(square: Tensor, negligible: Tensor | float = 0.0) -> Tensor:
    """Square root whose derivative is 0 where the square is negligible, and whose second derivative raises there."""
    root: Tensor = _SafeSqrt.apply(square, square > negligible)  # type: ignore[no-untyped-call]
    return root


class _SafeSqrt(BatchedFunction):
    @staticmethod
    def forward(square: Tensor, regular: Tensor) -> Tensor:  # noqa: ARG004
        return square.clamp(min=0).sqrt()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output, inputs[1])
        ctx.save_for_forward(output, inputs[1])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * _slope_of_root(*ctx.saved_tensors), None

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor, Tensor], tangent: Tensor, _regular: None) -> Tensor:  # noqa: ARG004
        return tangent * _slope_of_root(*saved)


def _slope_of_root(root: Tensor, regular: Tensor) -> Tensor:
    root = _guard(root, regular, "A distance or norm has no second derivative where it is 0 to working precision.")
    return torch.where(regular, 0.5 / torch.where(regular, root, 1), 0)


def _guard(tensor: Tensor, regular: Tensor, message: str) -> Tensor:
    """Pass a tensor on, unchanged; a derivative through it raises unless all of `regular` holds."""
    same: Tensor = _Guarded.apply(tensor, regular, message)  # type: ignore[no-untyped-call]
    return same


class _Guarded(BatchedFunction):
    @staticmethod
    def forward(tensor: Tensor, regular: Tensor, message: str) -> Tensor:  # noqa: ARG004
        return tensor.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, str], output: Tensor) -> None:  # noqa: ARG004
        _, regular, ctx.message = inputs
        ctx.save_for_backward(regular)
        ctx.save_for_forward(regular)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        _require(ctx.saved_tensors[0], ctx.message)
        return gradient, None, None

    @staticmethod
    @forward_rule
    def jvp(ctx: Any, saved: tuple[Tensor], tangent: Tensor, _regular: None, _message: None) -> Tensor:
        _require(saved[0], ctx.message)
        return tangent.clone()


def _require(regular: Tensor, message: str) -> None:
    if not holds(regular):
        raise ArithmeticError(message)
