"""Activations of the blocks: what breaks the symmetry under rotations, and what keeps it."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional


def linear(signal: Tensor) -> Tensor:
    """No activation."""
    return signal


def radial(signal: Tensor) -> Tensor:
    r"""The rotation-equivariant control of the paper, :math:`x \tanh |x|`; nearly linear once :math:`|x| \gg 1`.

    References
    ----------
    arXiv:2605.04971, section 4.1; `radial_control_nearly_linear` of docs/proofs.md.
    """
    return signal * torch.tanh(_length(signal))


def bounded_radial(signal: Tensor) -> Tensor:
    r"""Rotation-equivariant and nonlinear at every scale: :math:`(x / |x|) \tanh |x|`, 0 at 0."""
    length = _length(signal)
    return signal * (torch.tanh(length) / length.clamp(min=torch.finfo(signal.dtype).tiny))


def _length(signal: Tensor) -> Tensor:
    length: Tensor = torch.linalg.vector_norm(signal, dim=-1, keepdim=True)
    return length


#: By name. All but the two radial ones act on each unit alone.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": linear,
    "relu": functional.relu,
    "leaky-relu": partial(functional.leaky_relu, negative_slope=0.3),
    "gelu": functional.gelu,
    "silu": functional.silu,
    "tanh": torch.tanh,
    "radial": radial,
    "bounded-radial": bounded_radial,
}
