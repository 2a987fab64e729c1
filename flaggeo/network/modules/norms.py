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
    weight, source = argument(gain), arguments[0] if arguments else named["input"]
    if isinstance(weight, Tensor) and weight.ndim != 1:
        return Norm("unknown", weight.numel())  # each position has gains of its own
    axis = 1 if kind in ("group", "batch") and source.ndim > 1 else -1
    return Norm(
        kind,
        source.shape[axis],
        parameters.name(weight),
        variance=parameters.name(argument(variance)),
        epsilon=float(argument(epsilon) or 0.0),
    )


def may_be_norms(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Modules with vectors as parameters and nothing inside, which may be norms of one's own."""
    for name, inner in module.named_modules():
        parameters = list(inner.parameters())
        if parameters and not any(inner.children()) and all(parameter.ndim == 1 for parameter in parameters):
            yield name, inner


def norm_of_module(name: str, module: nn.Module) -> Norm | None:
    """The norm that a module is, from what it does to a few vectors; None if it does not normalise them.

    A module that is called a norm and is none of the known kinds is an unknown one.
    """
    gains = [(f"{name}.{own}", tensor.detach().double()) for own, tensor in module.named_parameters() if own != "bias"]
    gain, stored = gains[0] if gains else ("", torch.ones(1))
    called_so = "norm" in type(module).__name__.lower()
    unknown = Norm("unknown", len(stored)) if called_so else None
    if len(gains) != 1:
        return unknown
    vectors = torch.randn(_TRIALS, len(stored), generator=torch.Generator().manual_seed(0))
    vectors = vectors.to(device=stored.device, dtype=next(module.parameters()).dtype)

    def answer(given: Tensor) -> Tensor:
        found: Tensor = module(given)
        return found.double()

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
            return Norm(kind, len(stored), gain, offset)
    return unknown


def _close(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() <= _TOLERANCE * other.abs().max())
