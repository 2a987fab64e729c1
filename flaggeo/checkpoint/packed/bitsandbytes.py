"""bitsandbytes: eight-bit rows with their largest entry, or pairs of four-bit codes in blocks with theirs."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from operator import index
from typing import TYPE_CHECKING, Any

from ..protocol import Checkpoint, CheckpointError, TensorHeader
from .weight import PackedWeight, Stored, refused, require_shape

if TYPE_CHECKING:
    from torch import Tensor

_ROW_MAXIMA, _LAYOUT = "SCB", "weight_format"
_STATE = ".quant_state.bitsandbytes__"
_KINDS = ("nf4", "fp4")
_LARGEST_INTEGER = 127
_ROWS = 0
# A state has a few settings; no more than this is read of one.
_LONGEST_STATE = 4096


@dataclass(frozen=True)
class RowMaxima(PackedWeight):
    """Integers of eight bits, of which 127 stands for the largest entry of the row. Parts: integers, maxima, layout."""

    @property
    def packing(self) -> str:
        """How it is stored, in words."""
        return "8-bit integers of bitsandbytes with a scale for each row"

    def unpack(self, stored: Stored, rows: slice) -> "Tensor":
        """Rows of the matrix in float32."""
        for part in self.parts[2:]:
            if (layout := int(stored(part).item())) != _ROWS:
                raise CheckpointError(
                    f"{self.header.file}: tensor {part!r}: expected the layout {_ROWS} (rows), found {layout}"
                )
        maxima = stored(self.parts[1], rows).float()
        return stored(self.parts[0], rows).float().mul_(maxima[:, None] / _LARGEST_INTEGER)


@dataclass(frozen=True)
class Codes(PackedWeight):
    """Four-bit codes of levels between -1 and 1, row after row, the first of a pair in the high bits of a byte.

    Parts: codes, levels, largest entries of the blocks, their levels and the largest of their blocks where they are
    codes themselves, and the state.

    Attributes
    ----------
    kind : str
    block : int
        Numbers that share a scale.
    nested_block : int
        Largest entries that share a scale, where they are codes themselves.
    nested_offset : float
        Their mean, which was taken off.
    """

    kind: str
    block: int
    nested_block: int
    nested_offset: float

    @property
    def packing(self) -> str:
        """How it is stored, in words."""
        return f"{self.kind.upper()} of bitsandbytes with a scale for each {self.block} numbers"

    def unpack(self, stored: Stored, rows: slice) -> "Tensor":
        """Rows of the matrix in float32."""
        import torch

        pairs = stored(self.parts[0]).flatten()
        levels, maxima = stored(self.parts[1]).float(), stored(self.parts[2])
        if self.nested_block:
            nested_levels, nested_maxima = (stored(part).float() for part in self.parts[3:5])
            nested = nested_maxima.repeat_interleave(self.nested_block)[: len(maxima)]
            maxima = nested_levels[maxima.int()] * nested + self.nested_offset
        codes = torch.stack([pairs >> 4, pairs & 15], dim=-1).flatten()[: prod(self.header.shape)]
        scales = maxima.float().repeat_interleave(self.block)[: len(codes)]
        return levels[codes.int()].mul_(scales).reshape(self.header.shape)[rows]


def bitsandbytes_weights(checkpoint: Checkpoint, _: Mapping[str, Any]) -> Iterator[PackedWeight]:
    """Weights of a checkpoint that bitsandbytes packed: the parts say how, whatever the settings do.

    Raises
    ------
    CheckpointError
        If the parts do not fit together.

    Notes
    -----
    The shape of a matrix in codes is among the numbers of its state, which are read.
    """
    for name in checkpoint.headers:
        if name.endswith(f".{_ROW_MAXIMA}"):
            yield _row_maxima(checkpoint, name.removesuffix(_ROW_MAXIMA))
        elif _STATE in name:
            yield _codes(checkpoint, name)


def _row_maxima(checkpoint: Checkpoint, module: str) -> RowMaxima:
    name = f"{module}weight"
    if name not in checkpoint.headers or checkpoint.headers[name].dtype != "I8":
        raise refused(checkpoint, module + _ROW_MAXIMA, f"{name!r} in I8 beside it", "no such tensor")
    header = checkpoint.headers[name]
    if len(header.shape) != 2:
        raise refused(checkpoint, name, "a matrix", f"shape {header.shape}")
    require_shape(checkpoint, module + _ROW_MAXIMA, header.shape[:1], owner=name)
    layout = [module + _LAYOUT] if module + _LAYOUT in checkpoint.headers else []
    return RowMaxima(replace(header, dtype=f"INT8:{header.shape[1]}"), (name, module + _ROW_MAXIMA, *layout))


def _codes(checkpoint: Checkpoint, state_name: str) -> Codes:
    name, _, kind = state_name.partition(_STATE)
    if kind not in _KINDS:
        raise refused(checkpoint, state_name, f"one of the kinds {', '.join(_KINDS)}", kind)
    if name not in checkpoint.headers or checkpoint.headers[name].dtype != "U8":
        raise refused(checkpoint, state_name, f"{name!r} in U8 beside it", "no such tensor")
    state = _state(checkpoint, state_name)
    shape, block, nested = state.shape, state.block, state.nested_block
    numbers = prod(shape)
    if prod(checkpoint.headers[name].shape) != -(-numbers // 2):
        raise refused(
            checkpoint, name, f"{-(-numbers // 2)} bytes for shape {shape}", f"{checkpoint.headers[name].shape}"
        )
    blocks = -(-numbers // block)
    require_shape(checkpoint, f"{name}.quant_map", (16,), owner=name)
    require_shape(checkpoint, f"{name}.absmax", (blocks,), owner=name)
    parts: tuple[str, ...] = (name, f"{name}.quant_map", f"{name}.absmax")
    if nested:
        require_shape(checkpoint, f"{name}.nested_quant_map", (256,), owner=name)
        require_shape(checkpoint, f"{name}.nested_absmax", (-(-blocks // nested),), owner=name)
        parts += (f"{name}.nested_quant_map", f"{name}.nested_absmax")
    header = TensorHeader(name, shape, f"{kind.upper()}:{block}", checkpoint.headers[name].file)
    return Codes(header, (*parts, state_name), kind, block, nested, state.nested_offset)


@dataclass(frozen=True)
class _State:
    """What a state says of the codes that it stands beside."""

    shape: tuple[int, ...]
    block: int
    nested_block: int
    nested_offset: float


def _state(checkpoint: Checkpoint, name: str) -> _State:
    header = checkpoint.headers[name]
    expected = "the shape and the block size of a weight as JSON"
    if header.dtype != "U8" or prod(header.shape) > _LONGEST_STATE:
        raise refused(checkpoint, name, f"{expected} in at most {_LONGEST_STATE} U8", f"shape {header.shape}")
    try:
        said = json.loads(bytes(checkpoint.stored(name).flatten().tolist()))
        sizes = [index(size) for size in (*said["shape"], said["blocksize"], said.get("nested_blocksize", 1))]
        offset = float(said.get("nested_offset", 0.0))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise refused(checkpoint, name, expected, repr(error)) from error
    if min(sizes) < 1:
        raise refused(checkpoint, name, expected, f"sizes {sizes}")
    *shape, block, nested = sizes
    return _State(tuple(shape), block, nested if "nested_blocksize" in said else 0, offset)
