"""safetensors: one file, or shards with an index."""

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from .files import read_into
from .protocol import Checkpoint, CheckpointError, TensorHeader
from .shards import require_new

if TYPE_CHECKING:
    from torch import Tensor


class SafetensorsCheckpoint(Checkpoint):
    """Tensors of one or more safetensors files.

    Parameters
    ----------
    location : Path
        What the caller opened.
    files : sequence of Path
        The file, or all shards.
    config : mapping
        Contents of ``config.json``.

    Raises
    ------
    CheckpointError
        If a file is corrupt or cut short, or two shards hold a tensor of one name.

    Notes
    -----
    The library holds each header against the length of the file: at most 100 MB, and tensors that lie one behind the
    other, each as long as its shape and dtype say, to the end of the file. The numbers are read as from any file. The
    library would map the file into memory: all that was ever read of it counts as memory of the process then, and the
    process is killed without a word if somebody cuts the file short.
    """

    def __init__(self, location: Path, files: list[Path], config: Mapping[str, Any]) -> None:
        self.location = str(location)
        self.config = config
        self._starts: dict[str, int] = {}
        self.headers: dict[str, TensorHeader] = {}
        self.metadata = {"format": "safetensors"}
        for file in files:
            handle = _opened(file)
            starts = _starts(file)
            self.metadata |= {key: value for key, value in (handle.metadata() or {}).items() if key != "format"}
            for name in handle.offset_keys():
                view = handle.get_slice(name)
                require_new(name, file, self.headers)
                self.headers[name] = TensorHeader(name, tuple(view.get_shape()), view.get_dtype(), str(file))
                self._starts[name] = starts[name]

    def _read(self, name: str, rows: slice) -> "Tensor":
        import torch

        from .dtypes import from_spelling

        header = self.headers[name]
        shape, start, dtype = header.shape, self._starts[name], from_spelling(header.dtype)
        if rows != slice(None):
            first, behind, _ = rows.indices(shape[0])
            shape = (max(0, behind - first), *shape[1:])
            start += first * prod(shape[1:]) * dtype.itemsize
        numbers = torch.empty(shape, dtype=dtype)
        read_into(numbers.view(-1).view(torch.uint8).numpy().data, Path(header.file), start, name)
        return numbers


def _opened(file: Path) -> Any:
    try:
        return safe_open(file, framework="np")  # headers alone do not need torch, which takes seconds to import
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: expected a complete safetensors file, found: {error}") from error


def _starts(path: Path) -> dict[str, int]:
    """Where in a file, whose header the library found to be right, each tensor begins."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entries = json.loads(file.read(length))
    return {name: 8 + length + entry["data_offsets"][0] for name, entry in entries.items() if name != "__metadata__"}
