"""GPTQ, AWQ and compressed-tensors: integers of few bits in 32-bit words, a scale and a zero for each group of inputs.

The number that an integer q stands for is ``(q - zero) * scale``. GPTQ and AWQ store the transpose of a weight.
GPTQ fills its words with successive inputs and AWQ with outputs, in an order that suits its kernels.
compressed-tensors fills them with inputs too, and its zero is the middle of the integers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..protocol import Checkpoint, CheckpointError, TensorHeader
from .weight import PackedWeight, Stored, compressed_settings, refused, require_shape, whole_number

if TYPE_CHECKING:
    from torch import Tensor

_WORD = 32
# Where AWQ has the outputs 0 to 7 among the eight integers of a word, from the lowest bits.
_AWQ_PLACES = (0, 4, 1, 5, 2, 6, 3, 7)
# The layouts that are read, as the settings spell them, and what was taken off the zeros before they were stored.
_ZERO_OFFSETS = {("gptq", "gptq"): 1, ("gptq", "gptq_v2"): 0, ("awq", "gemm"): 0}
_BITS = {"gptq": (2, 4, 8), "awq": (4,), "compressed-tensors": (4, 8)}
_INTEGERS, _ZEROS, _SCALES, _GROUPS = ".qweight", ".qzeros", ".scales", ".g_idx"
_PACKED, _SHAPE, _SCALE = ".weight_packed", ".weight_shape", ".weight_scale"
_UNREAD = (".weight_zero_point", ".weight_g_idx")


@dataclass(frozen=True)
class IntegerWeight(PackedWeight):
    """A matrix in integers.

    Attributes
    ----------
    method : str
        As the settings call it.
    bits : int
    group_size : int
        Inputs that share a scale, where they are not listed.
    """

    method: str
    bits: int
    group_size: int

    @property
    def packing(self) -> str:
        """How it is stored, in words."""
        return f"{self.bits}-bit integers of {self.method} with a scale for each {self.group_size} inputs"


@dataclass(frozen=True)
class TransposedWeight(IntegerWeight):
    """As GPTQ and AWQ store it. Parts: integers, zeros, scales, and the group of each input where they are listed.

    Attributes
    ----------
    zero_offset : int
        What was taken off the zeros before they were stored.
    """

    zero_offset: int

    def unpack(self, stored: Stored, rows: slice) -> "Tensor":
        """Rows of the matrix in float32."""
        import torch

        integers, zeros = (_integers(stored(part), self.bits) for part in self.parts[:2])
        if self.method == "awq":
            places = list(_AWQ_PLACES)
            integers, zeros = integers[..., places].flatten(1), zeros[..., places].flatten(1)
        else:
            integers, zeros = integers.transpose(1, 2).flatten(0, 1), zeros.flatten(1)
        # An offset zero of 0 was stored as the largest integer.
        zeros = (zeros + self.zero_offset) & (2**self.bits - 1)
        scales = stored(self.parts[2]).float()
        groups = torch.arange(len(integers)) // self.group_size
        if len(self.parts) > 3:
            groups = self._listed_groups(stored, len(scales))
        integers, zeros, scales = integers[:, rows], zeros[:, rows].float(), scales[:, rows]
        return integers.float().sub_(zeros[groups]).mul_(scales[groups]).mT

    def _listed_groups(self, stored: Stored, count: int) -> "Tensor":
        groups = stored(self.parts[3]).long()
        first, last = int(groups.min()), int(groups.max())
        if first < 0 or last >= count:
            raise CheckpointError(
                f"{self.header.file}: tensor {self.parts[3]!r}: expected groups from 0 to {count - 1}, "
                f"found {first} to {last}"
            )
        return groups


@dataclass(frozen=True)
class CompressedWeight(IntegerWeight):
    """As compressed-tensors stores it. Parts: integers, scales, and the shape."""

    def unpack(self, stored: Stored, rows: slice) -> "Tensor":
        """Rows of the matrix in float32."""
        integers = _integers(stored(self.parts[0], rows), self.bits).flatten(1).float()
        scales = stored(self.parts[1], rows).float().repeat_interleave(self.group_size, dim=1)
        return integers.sub_(2 ** (self.bits - 1)).mul_(scales)


def integer_weights(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> Iterator[IntegerWeight]:
    """Weights of a checkpoint in integers of few bits.

    Raises
    ------
    CheckpointError
        If the settings do not say how they are packed, or it is not known, or the parts do not fit together.
    """
    for name in checkpoint.headers:
        if name.endswith(_INTEGERS):
            yield _transposed(checkpoint, settings, name)
        elif name.endswith(_PACKED):
            yield _compressed(checkpoint, settings, name)


def _transposed(checkpoint: Checkpoint, settings: Mapping[str, Any], name: str) -> TransposedWeight:
    method = settings.get("quant_method")
    names = ("version", "format") if method == "awq" else ("checkpoint_format", "format")
    layout = next((str(settings[key]).lower() for key in names if settings.get(key)), None)
    layout = layout or {"awq": "gemm", "gptq": "gptq"}.get(str(method))
    if settings.get("is_marlin_format"):
        layout = "marlin"
    if (method, layout) not in _ZERO_OFFSETS:
        known = ", ".join(" ".join(one) for one in _ZERO_OFFSETS)
        expected = f"a quantization_config with one of the methods and layouts {known}"
        raise refused(checkpoint, name, expected, f"{method!r} {layout or ''}".strip())
    bits, group_size = _bits_and_group(checkpoint, settings, name, str(method), "bits")
    fields = _WORD // bits
    height, width = _words(checkpoint, name)
    inputs, outputs = (height, width * fields) if method == "awq" else (height * fields, width)
    group_size = inputs if group_size == -1 else group_size
    groups = -(-inputs // group_size)
    whole = name.removesuffix(_INTEGERS)
    require_shape(checkpoint, whole + _ZEROS, (groups, outputs // fields), owner=name)
    require_shape(checkpoint, whole + _SCALES, (groups, outputs), owner=name)
    parts: tuple[str, ...] = (name, whole + _ZEROS, whole + _SCALES)
    _words(checkpoint, parts[1])
    checkpoint.require_readable(parts[2])
    if whole + _GROUPS in checkpoint.headers:
        require_shape(checkpoint, whole + _GROUPS, (inputs,), owner=name)
        parts += (whole + _GROUPS,)
    header = _header(checkpoint, name, whole, (outputs, inputs), f"{str(method).upper()}{bits}:{group_size}")
    return TransposedWeight(header, parts, str(method), bits, group_size, _ZERO_OFFSETS[str(method), str(layout)])


def _compressed(checkpoint: Checkpoint, settings: Mapping[str, Any], name: str) -> CompressedWeight:
    method, said = "compressed-tensors", compressed_settings(settings)
    found = (settings.get("quant_method"), settings.get("format"), said.get("type"), said.get("symmetric", True))
    if found != (method, "pack-quantized", "int", True):
        expected = f"a quantization_config of {method}, format pack-quantized, with one symmetric int for all weights"
        raise refused(checkpoint, name, expected, " ".join(map(str, found)))
    whole = name.removesuffix(_PACKED)
    for unread in _UNREAD:
        if whole + unread in checkpoint.headers:
            raise refused(checkpoint, name, "integers, scales and a shape", f"also {whole + unread!r}")
    if said.get("strategy") == "channel":
        said = {**said, "group_size": -1}
    bits, group_size = _bits_and_group(checkpoint, said, name, method, "num_bits")
    outputs, width = _words(checkpoint, name)
    inputs = width * (_WORD // bits)
    group_size = inputs if group_size == -1 else group_size
    require_shape(checkpoint, whole + _SCALE, (outputs, inputs // group_size), owner=name)
    checkpoint.require_readable(whole + _SCALE)
    parts = (name, whole + _SCALE, *([whole + _SHAPE] if whole + _SHAPE in checkpoint.headers else []))
    return CompressedWeight(
        _header(checkpoint, name, whole, (outputs, inputs), f"INT{bits}:{group_size}"), parts, method, bits, group_size
    )


def _bits_and_group(
    checkpoint: Checkpoint, settings: Mapping[str, Any], name: str, method: str, bits_name: str
) -> tuple[int, int]:
    bits, group_size = whole_number(settings, bits_name), whole_number(settings, "group_size")
    if bits not in _BITS[method]:
        known = " or ".join(map(str, _BITS[method]))
        raise refused(
            checkpoint, name, f"{bits_name} of {known} in quantization_config", f"{settings.get(bits_name)!r}"
        )
    if group_size is None or not (group_size == -1 or group_size > 0):
        found = f"{settings.get('group_size')!r}"
        raise refused(checkpoint, name, "a group_size above 0, or -1 for all inputs, in quantization_config", found)
    return bits, group_size


def _words(checkpoint: Checkpoint, name: str) -> tuple[int, int]:
    """Shape of a matrix of 32-bit words."""
    header = checkpoint.headers[name]
    if header.dtype != "I32" or len(header.shape) != 2 or 0 in header.shape:
        raise refused(checkpoint, name, "a matrix in I32", f"shape {header.shape}")
    return header.shape[0], header.shape[1]


def _header(checkpoint: Checkpoint, name: str, whole: str, shape: tuple[int, int], dtype: str) -> TensorHeader:
    if f"{whole}.weight" in checkpoint.headers:
        raise refused(checkpoint, name, "one weight of a module", f"also {whole + '.weight'!r}")
    return TensorHeader(f"{whole}.weight", shape, dtype, checkpoint.headers[name].file)


def _integers(words: "Tensor", bits: int) -> "Tensor":
    """The integers of each word along a new last axis, from the lowest bits."""
    import torch

    shifts = torch.arange(0, _WORD, bits, dtype=torch.int32)
    integers: Tensor = (words[..., None] >> shifts) & (2**bits - 1)
    return integers.to(torch.uint8)
