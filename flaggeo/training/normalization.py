"""Normalisations before a block, with and without what they learn."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

_EPSILON = 1e-5


@dataclass(frozen=True)
class Norm:
    """A normalisation over the width.

    Attributes
    ----------
    centred : bool
        LayerNorm, which subtracts the mean; otherwise RMSNorm. Without gain, RMSNorm commutes with every rotation
        (`rmsnorm_symmetry` of docs/proofs.md).
    gain, bias : bool
        What is learned for each channel.
    """

    centred: bool
    gain: bool
    bias: bool

    def __call__(self, signal: Tensor, gain: Tensor | None, bias: Tensor | None) -> Tensor:
        """Normalise a signal of shape [runs, batch, d]; `gain` and `bias` have shape [runs, 1, d]."""
        if self.centred:
            found: Tensor = functional.layer_norm(signal, signal.shape[-1:], eps=_EPSILON)
        else:  # functional.rms_norm is the same; with its gradient it takes 1.6 times as long on a CPU
            found = signal * (signal.square().mean(dim=-1, keepdim=True) + _EPSILON).rsqrt()
        if gain is not None:
            found = found * gain
        return found if bias is None else found + bias


NORMS = {
    "rmsnorm": Norm(centred=False, gain=True, bias=False),
    "rmsnorm-no-gain": Norm(centred=False, gain=False, bias=False),
    "layernorm": Norm(centred=True, gain=True, bias=True),
    "layernorm-no-affine": Norm(centred=True, gain=False, bias=False),
}
