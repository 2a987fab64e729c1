"""GGUF: one file, de-quantised tensor by tensor with the ``gguf`` package."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import gguf
import numpy as np

from .files import read_into
from .protocol import Checkpoint, CheckpointError, TensorHeader

if TYPE_CHECKING:
    from torch import Tensor

# Settings of the architecture: the name in the file, after "<architecture>.", and in a config.json.
_CONFIG_NAMES = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
}

# A file has a few dozen. Each takes the library 60 microseconds.
_MOST_SETTINGS = 10_000


class _BoundedReader(gguf.GGUFReader):
    """A reader that holds every tensor to its place, stops at the end of the file and passes over lists of strings.

    The library adds offsets and multiplies shapes modulo 2**64 and takes any place in the file for a tensor. Its own
    slices past the end come back empty, so a hostile count would keep it looping. Its own way through the words of a
    tokenizer, which nothing here needs, takes seconds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        super().__init__(path)

    def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
        self._require(int(offset) + np.dtype(dtype).itemsize * int(count))
        return super()._get(offset, dtype, count, override_order)

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> tuple[int, list[Any], list[int], list[Any]]:
        header = 12  # type and number of the items
        if raw_type != gguf.GGUFValueType.ARRAY:
            return super()._get_field_parts(orig_offs, raw_type)
        kind = gguf.GGUFValueType(self._get(orig_offs, np.uint32)[0])
        count = self._get(orig_offs + 4, np.uint64)
        types = [gguf.GGUFValueType.ARRAY, kind]
        if kind in self.gguf_scalar_to_np:
            items = self._get(orig_offs + header, self.gguf_scalar_to_np[kind], int(count[0]))
            return header + items.nbytes, [count, items], [1], types
        if kind != gguf.GGUFValueType.STRING:
            return super()._get_field_parts(orig_offs, raw_type)
        stop = orig_offs + header
        length = np.dtype(np.uint64).newbyteorder(self.byte_order)
        for _ in range(int(count[0])):
            self._require(stop + 8)
            stop += 8 + int(np.frombuffer(self.data, length, 1, stop)[0])
        return stop - orig_offs, [count], [], types

    def _build_fields(self, offs: int, count: int) -> int:
        if count > _MOST_SETTINGS:
            raise ValueError(f"{count} settings, where at most {_MOST_SETTINGS} are read")
        found: int = super()._build_fields(offs, count)
        return found

    def _build_tensors(self, start_offs: int, fields: list[gguf.ReaderField]) -> None:
        self._require_places(int(start_offs), fields)
        super()._build_tensors(start_offs, fields)

    def _require_places(self, start: int, fields: list[gguf.ReaderField]) -> None:
        """Each tensor begins where the one before it ends, padded to the alignment, and the last ends the file.

        This order is the header's, as in llama.cpp's ``gguf_init_from_file``: no other check would see that two
        tensors have each other's offset, or one of them a type of another width.

        Raises
        ------
        CheckpointError
            If a tensor is elsewhere, or the file ends before or after the last one.
        """
        available, alignment = self.data.nbytes - start, int(self.alignment)
        expected = stop = 0
        for field in fields:
            _, _, _, sizes, kind, offset = field.parts
            place = int(offset[0])
            if place != expected:
                raise self._misplaced(field, f"its data at byte {expected} behind the header", f"byte {place}")
            block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind[0])]
            stop = place + math.prod(sizes.tolist()) // block * block_bytes
            if stop > available:
                raise self._misplaced(field, f"data up to byte {stop} behind the header", f"{max(available, 0)} bytes")
            expected = _padded(stop, alignment)
        if fields and available > expected:
            raise self._misplaced(fields[-1], f"the end of the file behind its {stop} bytes", f"{available} bytes")

    def _misplaced(self, field: gguf.ReaderField, expected: str, found: str) -> CheckpointError:
        return CheckpointError(f"{self._path}: tensor {field.name!r}: expected {expected}, found {found}")

    def _require(self, stop: int) -> None:
        if stop > self.data.nbytes:
            raise ValueError(f"a header that reaches byte {stop} of {self.data.nbytes}")


def _padded(stop: int, alignment: int) -> int:
    return -(-stop // alignment) * alignment


def _can_dequantize(kind: gguf.GGMLQuantizationType) -> bool:
    _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    try:
        gguf.dequantize(np.zeros((1, block_bytes), dtype=np.uint8), kind)
    except NotImplementedError:
        return False
    return True


class GGUFCheckpoint(Checkpoint):
    """Tensors of one GGUF file; the quantisation types stand in the metadata.

    Parameters
    ----------
    location : Path
        The file.

    Raises
    ------
    CheckpointError
        If the file is corrupt or cut short, or its tensors do not lie one behind the other in the order of the header.

    Notes
    -----
    De-quantised tensors are not the trained ones; `metadata` says in what types they were stored.
    """

    naming: ClassVar[str] = "gguf"
    readable_dtypes: ClassVar[frozenset[str]] = frozenset(
        kind.name for kind in gguf.GGMLQuantizationType if _can_dequantize(kind)
    )

    def __init__(self, location: Path) -> None:
        self.location = str(location)
        self._file = location
        try:
            reader = _BoundedReader(location)
            scalars = {
                name: field.contents() for name, field in reader.fields.items() if not name.startswith("tokenizer.")
            }
        # The reader raises whatever its arithmetic meets first in a malformed file.
        except (ValueError, KeyError, IndexError, TypeError, OverflowError, RecursionError, OSError) as error:
            raise CheckpointError(f"{location}: expected a complete GGUF file, found: {error}") from error
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self.headers = {
            tensor.name: TensorHeader(
                tensor.name,
                tuple(int(size) for size in reversed(tensor.shape)),  # GGUF counts axes from the fastest
                tensor.tensor_type.name,
                self.location,
            )
            for tensor in reader.tensors
        }
        architecture = str(scalars.get("general.architecture", ""))
        self.config: Mapping[str, Any] = {"model_type": architecture} | {
            ours: scalars[f"{architecture}.{theirs}"]
            for theirs, ours in _CONFIG_NAMES.items()
            if f"{architecture}.{theirs}" in scalars
        }
        quantisation = sorted({header.dtype for header in self.headers.values()})
        self.metadata = {"format": "gguf", "tensor types": ", ".join(quantisation)}
        if "general.name" in scalars:
            self.metadata["name"] = str(scalars["general.name"])

    def __getstate__(self) -> dict[str, Any]:
        """Another process maps the file itself."""
        return {name: value for name, value in self.__dict__.items() if name != "_tensors"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tensors = {tensor.name: tensor for tensor in _BoundedReader(self._file).tensors}

    def _read(self, name: str, rows: slice) -> "Tensor":
        import torch

        stored = self._tensors[name]
        part = stored.data[rows]  # a view of the mapped file, which is not touched: somebody may cut it short
        numbers = np.empty(part.shape, part.dtype)
        before = rows.indices(len(stored.data))[0] * (stored.data.nbytes // max(1, len(stored.data)))
        read_into(numbers.reshape(-1).view(np.uint8).data, self._file, int(stored.data_offset) + before, name)
        numbers = gguf.dequantize(numbers, stored.tensor_type)
        shape = (-1, *self.headers[name].shape[1:])
        return torch.from_numpy(np.array(numbers, copy=not numbers.flags.writeable)).reshape(shape)
