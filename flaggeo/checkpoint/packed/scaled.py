"""Eight-bit numbers with a scale beside them: for the whole tensor, for each row, or for each block.

DeepSeek-V3 has one for each block of 128x128 (``weight_scale_inv``, which multiplies in spite of its name),
compressed-tensors, FBGEMM and ModelOpt one for the tensor or for each row (``weight_scale``).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from ..protocol import Checkpoint
from .weight import PackedWeight, Stored, compressed_settings, refused

if TYPE_CHECKING:
    from torch import Tensor

# The dtypes, and how a config.json calls them where it says that they are the numbers themselves.
_FLOATS = {"F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2"}
_SUFFIXES = ("_scale_inv", "_scale")
_SCALE_DTYPES = ("F32", "F16", "BF16", "F8_E8M0")


@dataclass(frozen=True)
class ScaledWeight(PackedWeight):
    """Eight-bit numbers times their scales.

    Attributes
    ----------
    blocks : tuple of int
        How many numbers share a scale along each axis; empty where there are no scales.
    """

    blocks: tuple[int, ...]

    @property
    def packing(self) -> str:
        """How it is stored, in words."""
        dtype = self.header.dtype.partition(":")[0]
        if len(self.parts) == 1:
            return f"{dtype} without scales"
        if self.blocks == self.header.shape:
            return f"{dtype} with one scale each"
        if prod(self.blocks) == self.header.shape[-1] == self.blocks[-1]:
            return f"{dtype} with a scale for each row"
        return f"{dtype} with a scale for each block of {'x'.join(map(str, self.blocks))}"

    def unpack(self, stored: Stored, rows: slice) -> "Tensor":
        """Rows of the matrix in float32."""
        numbers = stored(self.parts[0], rows).float()
        if len(self.parts) == 1:
            return numbers
        shape = self.header.shape
        scale = stored(self.parts[1]).float()
        scale = scale.reshape([-(-size // block) for size, block in zip(shape, self.blocks, strict=True)])
        for axis, (size, block) in enumerate(zip(shape, self.blocks, strict=True)):
            if scale.shape[axis] > 1:  # one that is shared by all is broadcast
                scale = scale.repeat_interleave(block, dim=axis).narrow(axis, 0, size)
        product: Tensor = numbers.mul_(scale[rows] if scale.shape[0] > 1 else scale)
        return product


def scaled_weights(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> Iterator[ScaledWeight]:
    """Weights of a checkpoint in eight-bit numbers.

    Raises
    ------
    CheckpointError
        If floating-point numbers of eight bits have no scale and the settings do not say that they are the numbers
        themselves, if scales do not fit, or if what they belong to is no numbers of eight bits.
    """
    headers = checkpoint.headers
    for name, header in headers.items():
        scale = next((name + suffix for suffix in _SUFFIXES if name + suffix in headers), None)
        if scale is not None and header.dtype not in checkpoint.readable_dtypes:
            _require_known(checkpoint, settings, name)
            blocks = _blocks(checkpoint, settings, name, scale)
            sharing = prod(blocks) if blocks == header.shape else blocks[-1]
            dtype = f"INT8:{sharing}" if header.dtype == "I8" else header.dtype
            yield ScaledWeight(replace(header, dtype=dtype), (name, scale), blocks)
        elif header.dtype in _FLOATS and not _is_scale(checkpoint, name):
            declared = checkpoint.config.get("dtype") or checkpoint.config.get("torch_dtype")
            if declared != _FLOATS[header.dtype]:
                raise refused(
                    checkpoint,
                    name,
                    f"its scales as {' or '.join(repr(name + suffix) for suffix in _SUFFIXES)}, or a config.json whose "
                    f"dtype is {_FLOATS[header.dtype]!r}",
                    f"neither: the dtype there is {declared!r}",
                )
            yield ScaledWeight(header, (name,), ())


def _is_scale(checkpoint: Checkpoint, name: str) -> bool:
    owners = (name.removesuffix(suffix) for suffix in _SUFFIXES if name.endswith(suffix))
    return any(owner in checkpoint.headers for owner in owners)


def _require_known(checkpoint: Checkpoint, settings: Mapping[str, Any], name: str) -> None:
    dtype = checkpoint.headers[name].dtype
    integers = dtype == "I8" and settings.get("format") == "int-quantized"
    if dtype not in _FLOATS and not integers:
        said = f"quant_method {settings.get('quant_method')!r} and format {settings.get('format')!r}"
        known = f"{', '.join(_FLOATS)} beside scales, or I8 with the format 'int-quantized' in quantization_config"
        raise refused(checkpoint, name, known, f"{dtype} with {said}")
    if f"{name}_zero_point" in checkpoint.headers:
        raise refused(checkpoint, name, "scales alone", f"also {name + '_zero_point'!r}")


def _blocks(checkpoint: Checkpoint, settings: Mapping[str, Any], name: str, scale: str) -> tuple[int, ...]:
    """How many numbers share a scale along each axis."""
    shape, found = checkpoint.headers[name].shape, checkpoint.headers[scale]
    if found.dtype not in _SCALE_DTYPES:
        raise refused(checkpoint, scale, f"a scale in one of {', '.join(_SCALE_DTYPES)}", found.dtype)
    if prod(found.shape) == 1:
        return shape
    scales = found.shape if len(found.shape) > 1 else (*found.shape, *[1] * (len(shape) - 1))
    given = _block_size(settings)
    declared = (*[1] * (len(shape) - len(given)), *given)
    blocks = []
    for axis, size in enumerate(shape if len(scales) == len(shape) else ()):
        candidates = (max(size, 1), 1, *declared[axis : axis + 1])
        blocks += [block for block in candidates if -(-size // block) == scales[axis]][:1]
    if len(blocks) < len(shape):
        said = f"{'x'.join(map(str, given))}" if given else "which no config.json gives"
        raise refused(
            checkpoint,
            scale,
            f"one scale for {name!r} of shape {shape}, for each row, or for each block of weight_block_size ({said})",
            f"shape {found.shape}",
        )
    return tuple(blocks)


def _block_size(settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Rows and columns of a block that share a scale, where the settings give them."""
    given = settings.get("weight_block_size") or compressed_settings(settings).get("block_structure")
    if isinstance(given, list) and len(given) == 2 and all(isinstance(size, int) and size > 0 for size in given):
        return tuple(given)
    return ()
