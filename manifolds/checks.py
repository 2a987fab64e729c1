"""What the functions of this package ask of their arguments, and how they refuse the rest.

Every ``require_`` function raises `ValueError`; `name` and `caller` are what its message calls the argument and the
function that it speaks for.
"""

import itertools
import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor


def require_frame(frame: Tensor, name: str) -> None:
    """Raise unless the columns are orthonormal to working precision.

    The Gram matrix may differ from the identity by ``10 * n * eps``, which a QR factor of any size satisfies. A bound
    of ``n * eps`` would be too small: a 2-wide float32 factor misses it by half.
    """
    require_tall(frame, name)
    n, rank = frame.shape[-2:]
    identity = torch.eye(rank, dtype=frame.dtype, device=frame.device)
    defect = (frame.mT @ frame - identity).abs()
    if not holds(defect <= 10 * n * torch.finfo(frame.dtype).eps):  # false also for NaN
        raise ValueError(
            f"{name} with shape {tuple(frame.shape)} is not an orthonormal frame: its Gram matrix misses the "
            f"identity by {largest(defect):.1e}, expected at most {10 * n * torch.finfo(frame.dtype).eps:.1e}. "
            "Orthonormalize it first."
        )


def require_fit(first: Tensor, second: Tensor, caller: str, first_name: str, second_name: str) -> None:
    """Raise unless two tensors have one ambient dimension, dtype and device, and batch axes that broadcast."""
    require_tensor(first, first_name)
    require_tensor(second, second_name)
    found = f"{first_name} of shape {tuple(first.shape)} and {second_name} of shape {tuple(second.shape)}"
    if min(first.ndim, second.ndim) < 2:
        raise ValueError(f"{caller} expected tensors of shape [..., n, k]; got {found}.")
    if first.shape[-2] != second.shape[-2]:
        raise ValueError(
            f"{caller} compares subspaces of one space; got {found}: "
            f"dimension {first.shape[-2]} and dimension {second.shape[-2]}."
        )
    if (first.dtype, first.device) != (second.dtype, second.device):
        raise ValueError(
            f"{caller} expected one dtype and device; got {first_name} {first.dtype} on {first.device} "
            f"and {second_name} {second.dtype} on {second.device}."
        )
    try:
        common_batch(first, second)
    except ValueError:
        raise ValueError(f"{caller} expected batch axes that broadcast; got {found}.") from None


def require_pair(first: Tensor, second: Tensor, caller: str) -> None:
    """Raise unless two tensors are orthonormal frames, of at least one column each, of one space."""
    require_fit(first, second, caller, "first", "second")
    if 0 in (first.shape[-1], second.shape[-1]):
        raise ValueError(
            f"{caller} expected subspaces of dimension at least 1; got frames of shape {tuple(first.shape)} and "
            f"{tuple(second.shape)}."
        )
    require_frame(first, "first")
    require_frame(second, "second")


def require_common_space(frames: Sequence[Tensor], caller: str) -> None:
    """Raise unless all are single orthonormal frames in one space, of one dtype and device."""
    require_one_space(frames, caller)
    for frame in frames:
        require_frame(frame, "a frame")


def require_one_space(factors: Sequence[Tensor], caller: str) -> None:
    """Raise unless all are single matrices with columns in one space, of one dtype and device."""
    if any(factor.ndim != 2 or not factor.shape[1] for factor in factors):
        raise ValueError(
            f"{caller} expected tensors of shape [n, k] with k >= 1; got {[tuple(factor.shape) for factor in factors]}."
        )
    dimensions = sorted({factor.shape[0] for factor in factors})
    if len(dimensions) > 1:
        raise ValueError(f"{caller} compares subspaces of one space; got dimensions {dimensions}.")
    kinds = {(factor.dtype, factor.device) for factor in factors}
    if len(kinds) > 1:
        raise ValueError(f"{caller} expected one dtype and device; got {sorted(map(str, kinds))}.")


def require_dims(dims: Iterable[int], n: int) -> tuple[int, ...]:
    """Dimensions of a flag as a tuple of ints; raise unless ``1 <= dims[0] < dims[1] < ... < n``.

    What is no sequence of whole numbers is a `TypeError`.
    """
    try:
        checked = tuple(operator.index(dim) for dim in dims)
    except TypeError:
        raise TypeError(
            f"a flag needs a sequence of whole numbers as its dimensions, such as (1, 3); got {dims!r}."
        ) from None
    bounds = (0, *checked, n)
    if not checked or any(low >= high for low, high in itertools.pairwise(bounds)):
        raise ValueError(
            f"a flag needs dimensions that increase strictly between 1 and n - 1 = {n - 1}; got {checked} in n = {n}."
        )
    return checked


def normalized_weights(weights: Tensor | None, frames: Sequence[Tensor] | Tensor, caller: str) -> Tensor:
    """Weights of sum 1, equal by default; raise unless each frame has one that is finite and not negative."""
    kind = frames[0].dtype, frames[0].device
    if weights is None:
        return frames[0].new_full((len(frames),), 1 / len(frames))
    if weights.shape != (len(frames),) or (weights.dtype, weights.device) != kind:
        raise ValueError(
            f"{caller} expected {len(frames)} weights of {kind[0]} on {kind[1]}; got shape "
            f"{tuple(weights.shape)} of {weights.dtype} on {weights.device}."
        )
    if not bool((weights >= 0).all() & weights.isfinite().all() & (weights > 0).any()):
        raise ValueError(f"{caller} expected finite non-negative weights, not all zero; got {weights.tolist()}.")
    return weights / weights.sum()


def require_dimensions(caller: str, n: int, *dimensions: int) -> None:
    """Raise unless all are dimensions of non-zero subspaces of n-space."""
    if not all(1 <= dimension <= n for dimension in dimensions):
        raise ValueError(f"{caller} needs subspaces of dimension 1 to n = {n}; got {', '.join(map(str, dimensions))}.")


def block_slices(dims: tuple[int, ...]) -> list[slice]:
    """Columns of each block of a flag: block i holds the columns that dimension i adds."""
    return [slice(start, stop) for start, stop in zip((0, *dims), dims, strict=False)]


def common_batch(first: Tensor, second: Tensor) -> torch.Size:
    """Batch axes of two tensors ``[..., n, k]`` after broadcasting."""
    # By NumPy: torch's own function imports sympy, a second at the first call.
    return torch.Size(np.broadcast_shapes(first.shape[:-2], second.shape[:-2]))


def require_tall(matrix: Tensor, name: str) -> None:
    """Raise unless a tensor has shape ``[..., n, k]`` with k <= n, in float32 or float64."""
    require_tensor(matrix, name)
    if matrix.ndim < 2 or matrix.shape[-1] > matrix.shape[-2]:
        raise ValueError(
            f"{name} needs shape [..., n, k] with k <= n, at most as many columns as rows; "
            f"got shape {tuple(matrix.shape)}."
        )
    if matrix.dtype not in (torch.float32, torch.float64):
        hint = ": .float() makes it float32" if matrix.dtype.is_floating_point else ""
        raise ValueError(f"{name} needs dtype float32 or float64; got {matrix.dtype}{hint}.")


def require_tensor(value: Any, name: str) -> None:
    """Raise unless a value is a torch tensor."""
    if not isinstance(value, Tensor):
        hint = ": torch.as_tensor makes one of it" if isinstance(value, np.ndarray) else ""
        raise ValueError(f"{name} needs a torch tensor; got a {type(value).__name__}{hint}.")


def holds(condition: Tensor) -> bool:
    """Whether a condition holds everywhere. On the meta device there are no values that could fail."""
    return condition.is_meta or bool(_read(condition, torch.all))


def largest(values: Tensor) -> float:
    """Return the largest of some values, as a number without derivatives; 0 if there are none."""
    return float(_read(values.detach(), torch.max)) if values.numel() else 0.0


def _read(values: Tensor, reduction: Callable[[Tensor], Tensor]) -> float:
    try:
        return reduction(values).item()
    except RuntimeError:  # torch.func.vmap forbids to read a part of a batch; the whole takes 20 times longer
        return _Reduced.apply(values, reduction).item()  # type: ignore[no-untyped-call]


class _Reduced(torch.autograd.Function):
    """One number made of all entries, also of those along the axes of `torch.func.vmap`.

    All examples of a vmap pass or fail a check together, as the entries of a batch do.
    """

    @staticmethod
    def forward(values: Tensor, reduction: Callable[[Tensor], Tensor]) -> Tensor:
        return reduction(values)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        ctx.mark_non_differentiable(output)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> None:  # noqa: ARG004
        return None

    @staticmethod
    def vmap(
        info: Any,  # noqa: ARG004
        in_dims: tuple[int | None, ...],  # noqa: ARG004
        values: Tensor,
        reduction: Callable[[Tensor], Tensor],
    ) -> tuple[Tensor, None]:
        return _Reduced.apply(values, reduction), None  # type: ignore[no-untyped-call]
