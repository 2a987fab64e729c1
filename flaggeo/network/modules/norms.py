"""Normalisations in a forward pass: torch's own by the function that is called, others by what they compute."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .linear_maps import Parameters
from .steps import Norm

# By the name of the torch function: the kind, and the places of the gain, the running variance and the epsilon.
_FUNCTIONS: Mapping[str, tuple[str, int | None, int | None, int | None]] = {
    "layer_norm": ("layer", 2, None, None),
    "rms_norm": ("rms", 2, None, None),
    "normalize": ("rms", None, None, None),
    "group_norm": ("group", 2, None, None),
    "instance_norm": ("group", 3, None, None),
    "batch_norm": ("batch", 3, 2, 7),
}
_NAMES = {2: ("weight", "running_var"), 3: ("weight",), 7: ("eps",)}

# Vectors that a norm of one's own is tried on, and how close its answers must be: an epsilon moves them a little.
_TRIALS = 8
_TOLERANCE = 1e-2


def norm_of_call(
    parameters: Parameters, function: str, arguments: Sequence[Any], named: Mapping[str, Any]
) -> Norm | None:
    """The norm that a call of a torch function is; None if it is none."""
    if function not in _FUNCTIONS:
        return None

    def argument(place: int | None) -> Any:
        if place is None:
            return None
        given = (named[name] for name in _NAMES[place] if name in named)
        return arguments[place] if len(arguments) > place else next(given, None)

    kind, gain, variance, epsilon = _FUNCTIONS[function]
    weight = argument(gain)
    if isinstance(weight, Tensor) and weight.ndim != 1:
        return Norm("unknown", None)  # each position has gains of its own
    return Norm(
        kind,
        parameters.name(weight),
        variance=parameters.name(argument(variance)),
        epsilon=float(argument(epsilon) or 0.0),
    )


def own_norms(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules that may be norms of one's own: called so, with vectors as parameters and nothing inside."""
    for name, inner in module.named_modules():
        called_so = "norm" in type(inner).__name__.lower()
        if called_so and not any(inner.children()) and all(p.ndim == 1 for p in inner.parameters()):
            yield name, inner


def norm_of_module(name: str, module: nn.Module) -> Norm:
    """The kind of a norm of one's own and the offset of its gains, from what it does to a few vectors."""
    unknown = Norm("unknown", None)
    gains = [(f"{name}.{own}", tensor.detach().double()) for own, tensor in module.named_parameters() if own != "bias"]
    if len(gains) != 1:
        return unknown
    gain, stored = gains[0]
    vectors = torch.randn(_TRIALS, len(stored), generator=torch.Generator().manual_seed(0))
    vectors = vectors.to(device=stored.device, dtype=next(module.parameters()).dtype)

    def answer(given: Tensor) -> Tensor:
        return module(given).double()

    try:
        constant = answer(torch.zeros_like(vectors))
        kept, scaled, moved = (answer(given) - constant for given in (vectors, 4 * vectors, vectors + 1))
    except (RuntimeError, TypeError, ValueError):
        return unknown
    if not _close(scaled, kept):
        return unknown
    kind = "layer" if _close(moved, kept) else "rms"
    centred = vectors.double()
    if kind == "layer":
        centred = centred - centred.mean(-1, keepdim=True)
    length = centred.square().mean(-1, keepdim=True).sqrt()
    for offset in (0.0, 1.0):
        if _close(kept, centred / length * (stored + offset)):
            return Norm(kind, gain, offset)
    return unknown


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _TOLERANCE * other.abs().max())
