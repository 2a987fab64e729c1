"""MXFP4: pairs of four-bit floating-point numbers in bytes, each 32 numbers with a power of two.

gpt_oss stores the matrices of its experts so, ``*_blocks`` beside ``*_scales``, with inputs and outputs exchanged.

References
----------
OCP Microscaling Formats (MX) Specification 1.0, sections 5.3.3 (E2M1) and 5.4.1 (E8M0).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..protocol import Checkpoint, TensorHeader
from .weight import PackedWeight, Stored, refused, require_shape

if TYPE_CHECKING:
    from torch import Tensor

_BLOCKS, _SCALES = "_blocks", "_scales"
_BLOCK = 32
_EXPONENT_BIAS = 127
_NOT_A_NUMBER = 255
_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class MXFP4Experts(PackedWeight):
    """The matrices of all experts of a layer, shape=[experts, inputs, outputs], as transformers holds them."""

    @property
    def packing(self) -> str:
        """How it is stored, in words."""
        return f"MXFP4 with a scale for each {_BLOCK} inputs"

    def unpack(self, stored: Stored, rows: slice) -> "Tensor":
        """Matrices of some experts in bfloat16, which has every number of four bits times a power of two."""
        import torch

        blocks, exponents = (stored(part, rows) for part in self.parts)
        levels = torch.tensor([*_MAGNITUDES, *(-one for one in _MAGNITUDES)], dtype=torch.bfloat16)
        # Both numbers of every byte, that of its low bits first.
        pairs = torch.stack([levels.repeat(16), levels.repeat_interleave(16)], dim=-1)
        scales = torch.exp2(exponents.float() - _EXPONENT_BIAS).masked_fill(exponents == _NOT_A_NUMBER, torch.nan)
        numbers = pairs[blocks.int()].flatten(-2).mul_(scales.bfloat16()[..., None])
        return numbers.flatten(-2).mT


def mxfp4_weights(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> Iterator[MXFP4Experts]:
    """Weights of a checkpoint in MXFP4.

    Raises
    ------
    CheckpointError
        If blocks have no scales of their shape, or the settings do not say that they are MXFP4.
    """
    for name, header in checkpoint.headers.items():
        if header.dtype != "U8" or not name.endswith(_BLOCKS):
            continue
        if settings.get("quant_method") != "mxfp4":
            found = repr(settings.get("quant_method"))
            raise refused(checkpoint, name, "quant_method 'mxfp4' in quantization_config", found)
        whole = name.removesuffix(_BLOCKS)
        if len(header.shape) != 4 or header.shape[-1] != _BLOCK // 2:
            expected = f"shape (experts, outputs, blocks, {_BLOCK // 2})"
            raise refused(checkpoint, name, expected, f"{header.shape}")
        require_shape(checkpoint, whole + _SCALES, header.shape[:-1], owner=name)
        experts, outputs, blocks, _ = header.shape
        shape = (experts, blocks * _BLOCK, outputs)
        yield MXFP4Experts(TensorHeader(whole, shape, "MXFP4^T", header.file), (name, whole + _SCALES))
