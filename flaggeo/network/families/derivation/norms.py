"""Which modules are norms, found by asking them."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_CLOSE = 1e-3
# Gains of a tiny model are fewer: more are those of a table or a projection.
_LARGEST = 4096


@dataclass(frozen=True)
class NormModule:
    """A module that divides by the root mean square and multiplies by a gain.

    Attributes
    ----------
    name : str
    gain : str
        Name of the parameter.
    bias : str or None
    kind : str
        ``rms``, or ``layer`` where it subtracts the mean first.
    offset : float
        Added to the stored gain.
    """

    name: str
    gain: str
    bias: str | None
    kind: str
    offset: float


def norm_modules(model: nn.Module) -> Iterator[NormModule]:
    """Every norm of a model, in the order of its modules."""
    for name, module in model.named_modules():
        parameters = dict(module.named_parameters())
        shapes = {parameter.shape for parameter in parameters.values()}
        if len(parameters) in (1, 2) and len(shapes) == 1 and not list(module.children()):
            gain, *bias = parameters
            found = _asked(module, parameters[gain], parameters[bias[0]] if bias else None)
            if found is not None:
                prefix = f"{name}." if name else ""
                yield NormModule(name, prefix + gain, prefix + bias[0] if bias else None, *found)


@torch.no_grad()
def _asked(module: nn.Module, gain: Tensor, bias: Tensor | None) -> tuple[str, float] | None:
    """Kind and offset, if the module is a norm."""
    if gain.ndim not in (1, 2) or gain.shape[-1] == 1 or gain.numel() > _LARGEST or not gain.is_floating_point():
        return None
    generator = torch.Generator().manual_seed(0)
    x = 100 * (1 + torch.randn(5, *gain.shape, generator=generator, dtype=gain.dtype))
    kept = gain.clone()
    try:
        gain.fill_(0.0)
        at_zero = _called(module, x)
        gain.fill_(1.0)
        at_one, scaled = _called(module, x), _called(module, 3 * x)
    finally:
        gain.copy_(kept)
    if at_zero is None or at_one is None or scaled is None or not torch.allclose(scaled, at_one, atol=_CLOSE):
        return None
    direction = at_one - at_zero
    size = direction.square().mean(-1)
    if not torch.allclose(size, torch.ones_like(size), atol=_CLOSE):
        return None
    offset = ((at_zero - (0 if bias is None else bias)) * direction).mean().item() / size.mean().item()
    centred = bool((direction.mean(-1).abs() < _CLOSE).all())
    return ("layer" if centred else "rms"), float(round(offset))


def _called(module: nn.Module, x: Tensor) -> Tensor | None:
    # Channels come last, or first before an image of one point.
    for given in (x, x[..., None, None]):
        try:
            out = module(given)
        except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
            continue  # it wants other inputs than a norm
        if isinstance(out, Tensor) and out.shape == given.shape:
            return out.reshape(x.shape)
    return None
