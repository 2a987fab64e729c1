"""torch.distributed.checkpoint: a folder of pieces of tensors, and a pickle that says which is where."""

import io
import math
import pickle
import pickletools
from collections import Counter, OrderedDict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..dtypes import spelling
from ..protocol import Checkpoint, CheckpointError, TensorHeader, reason
from .nesting import state_dict_in
from .pickles import load_pickle

#: The file that makes a folder such a checkpoint.
METADATA_NAME = ".metadata"
_RECORDS = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.distributed._shard.sharded_tensor.metadata": {"TensorProperties", "MEM_FORMAT_ENCODING"},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"PosixPath", "WindowsPath"},
    "pathlib._local": {"PosixPath", "WindowsPath"},
}


class _Record:
    """Stands for an object of torch.distributed: what was saved of it, and none of its code."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)
        else:
            self.arguments = state if isinstance(state, tuple) else (state,)


class _MetadataUnpickler(pickle.Unpickler):
    """Admits what the metadata of a checkpoint is made of, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if name in _RECORDS.get(module, ()):
            return _Record
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        admitted = vars(torch).get(name) if module == "torch" else None
        if admitted is torch.Size or isinstance(admitted, torch.dtype):
            return admitted
        raise pickle.UnpicklingError(f"a pickle that asks for {f'{module}.{name}'!r}, which may be code")


@dataclass(frozen=True)
class _Piece:
    """A box of a tensor, and the bytes of a file that ``torch.save`` wrote of it."""

    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    file: Path
    start: int
    length: int


@dataclass(frozen=True)
class _Stored:
    """A tensor: its pieces cover it."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    pieces: tuple[_Piece, ...]


class DistributedCheckpoint(Checkpoint):
    """Tensors of a folder of torch.distributed.checkpoint, put together from their pieces.

    Parameters
    ----------
    location : Path
        The folder.
    config : mapping
        Contents of ``config.json``.

    Raises
    ------
    CheckpointError
        If the metadata is corrupt, asks for code, or the pieces it names do not cover the tensors or are not there.

    Notes
    -----
    torch's own reader executes whatever the metadata asks for, so it is not used: the metadata is unpickled into
    records, and the pieces by ``torch.load(weights_only=True)``. A block of rows reads the pieces that it touches.
    """

    def __init__(self, location: Path, config: Mapping[str, Any]) -> None:
        self.location = str(location)
        self.config = config
        self._folder = location
        file = location / METADATA_NAME
        try:
            found = state_dict_in(self._tree(_unpickled(file.read_bytes())), _Stored)
        except Exception as error:  # records may lack any field, and fields may be anything
            raise CheckpointError(
                f"{file}: expected the metadata of a torch.distributed checkpoint, found {reason(error)}"
            ) from error
        self._tensors = found.tensors
        self.metadata = {"format": "torch.distributed.checkpoint", **found.metadata}
        self.headers = {
            name: TensorHeader(name, stored.shape, spelling(stored.dtype), str(stored.pieces[0].file))
            for name, stored in found.tensors.items()
        }

    def _tree(self, metadata: Any) -> dict[str, Any]:
        """Tensors as they were nested when saved, one level deep."""
        places = {
            (index.fqn, tuple(getattr(index, "offset", None) or ())): info
            for index, info in metadata.storage_data.items()
        }
        self._require_places(places.values())
        paths = metadata.planner_data or {}
        tree: dict[str, Any] = {}
        for name, record in metadata.state_dict_metadata.items():
            entry = self._stored(name, record, places) if hasattr(record, "chunks") else None
            first, *rest = map(str, paths.get(name, (name,)))
            if rest:
                tree.setdefault(first, {})[".".join(rest)] = entry
            else:
                tree[first] = entry
        return tree

    def _require_places(self, places: Collection[Any]) -> None:
        """Each entry lies in a file of the folder, and no more of a file is claimed than there is."""
        claimed: Counter[str] = Counter()
        for info in places:
            name, start, length = info.relative_path, info.offset, info.length
            file = self._folder / name
            if file.name != name or not file.is_file():
                raise ValueError(f"an entry in {name!r}, which is no file of the folder")
            if getattr(info, "transform_descriptors", None):
                raise ValueError(f"an entry in {name!r} that was transformed by {info.transform_descriptors}")
            claimed[name] += length
            size = file.stat().st_size
            if start < 0 or length < 0 or start + length > size or claimed[name] > size:
                raise ValueError(f"an entry of {length} bytes at byte {start} of {name!r}, which has {size}")

    def _stored(self, name: str, record: Any, places: Mapping[tuple[str, tuple[int, ...]], Any]) -> _Stored:
        shape, dtype = tuple(record.size), record.properties.arguments[0]
        pieces = []
        for chunk in record.chunks:
            offsets, sizes = tuple(chunk.offsets), tuple(chunk.sizes)
            info = places[name, offsets]
            piece = _Piece(offsets, sizes, self._folder / info.relative_path, info.offset, info.length)
            inside = all(
                first >= 0 and count >= 0 and first + count <= size
                for first, count, size in zip(offsets, sizes, shape, strict=True)
            )
            if not inside or math.prod(sizes) * dtype.itemsize > piece.length:
                raise ValueError(f"tensor {name!r} of shape {shape} with a piece of shape {sizes} at {offsets}")
            pieces.append(piece)
        if sum(math.prod(piece.sizes) for piece in pieces) != math.prod(shape) or not pieces:
            raise ValueError(f"tensor {name!r} of shape {shape} whose {len(pieces)} pieces do not cover it")
        return _Stored(shape, dtype, tuple(pieces))

    def _read(self, name: str, rows: slice) -> Tensor:
        stored = self._tensors[name]
        if not stored.shape:
            return self._piece(name, stored.pieces[0])
        first, behind, _ = rows.indices(stored.shape[0])
        # Pieces that overlap leave a gap elsewhere, which NaN gives away.
        numbers = torch.full((behind - first, *stored.shape[1:]), torch.nan, dtype=stored.dtype)
        for piece in stored.pieces:
            start, stop = max(first, piece.offsets[0]), min(behind, piece.offsets[0] + piece.sizes[0])
            if start < stop:
                others = [slice(at, at + size) for at, size in zip(piece.offsets[1:], piece.sizes[1:], strict=True)]
                own = slice(start - piece.offsets[0], stop - piece.offsets[0])
                numbers[(slice(start - first, stop - first), *others)] = self._piece(name, piece)[own]
        return numbers

    def _piece(self, name: str, piece: _Piece) -> Tensor:
        with piece.file.open("rb") as stream:
            stream.seek(piece.start)
            saved = load_pickle(io.BytesIO(stream.read(piece.length)))
        expected = self._tensors[name].dtype, piece.sizes
        found = (saved.dtype, tuple(saved.shape)) if isinstance(saved, Tensor) else (type(saved).__name__, ())
        if found != expected:
            raise CheckpointError(
                f"{piece.file}: tensor {name!r}: expected a piece of {expected[0]} and shape {expected[1]} at byte "
                f"{piece.start}, found {found[0]} and shape {found[1]}"
            )
        piece_of: Tensor = saved.detach()
        return piece_of


def _unpickled(data: bytes) -> Any:
    """The records of a pickle.

    Raises
    ------
    ValueError
        If a number in it would make the unpickler allocate more than the pickle's size.
    """
    for opcode, argument, _ in pickletools.genops(data):
        if "PUT" in opcode.name and isinstance(argument, int) and argument > len(data):
            raise ValueError(f"a pickle of {len(data)} bytes that claims {argument} objects")
    return _MetadataUnpickler(io.BytesIO(data)).load()
