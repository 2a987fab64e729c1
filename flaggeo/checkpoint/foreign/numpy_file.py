"""NumPy archives: an ``.npz`` file, compressed or not, of which no pickle is loaded."""

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from torch import Tensor

from ..dtypes import as_tensor, numpy_spelling
from ..protocol import Checkpoint, CheckpointError, TensorHeader, reason
from .inflation import require_plausible


@dataclass(frozen=True)
class _Array:
    """Where the numbers of an array are, and in what order."""

    member: str
    start: int
    dtype: np.dtype[Any]
    by_columns: bool


class NumpyCheckpoint(Checkpoint):
    """Arrays of one ``.npz`` file, by their names there.

    Parameters
    ----------
    location : Path
        The file.
    config : mapping
        Contents of ``config.json``.

    Raises
    ------
    CheckpointError
        If the file is corrupt or cut short, holds Python objects, or an array claims another size than it has.

    Notes
    -----
    NumPy stores bfloat16 as two bytes without a type. Such arrays are listed and not read.
    """

    def __init__(self, location: Path, config: Mapping[str, Any]) -> None:
        self.location = str(location)
        self.config = config
        self.metadata = {"format": "numpy"}
        self._file = location
        self._arrays: dict[str, _Array] = {}
        self.headers: dict[str, TensorHeader] = {}
        try:
            with zipfile.ZipFile(location) as archive:
                members = archive.infolist()
                require_plausible(sum(member.file_size for member in members), location.stat().st_size)
                for member in members:
                    with archive.open(member) as stream:
                        self._add(member, stream)
        except CheckpointError:
            raise
        except Exception as error:  # zipfile and zlib raise whatever they meet first in a malformed file
            raise CheckpointError(f"{location}: expected a complete .npz file, found: {reason(error)}") from error

    def _add(self, member: zipfile.ZipInfo, stream: IO[bytes]) -> None:
        name = member.filename.removesuffix(".npy")
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        version = npy.read_magic(stream)
        if version not in readers:
            raise ValueError(f"array {name!r} of version {version} of the format")
        shape, by_columns, dtype = readers[version](stream)
        claimed = stream.tell() + math.prod(shape) * dtype.itemsize
        problems = {
            "a second one of this name": name in self.headers,
            "Python objects, which may be code": dtype.hasobject,
            f"shape {shape}": any(size < 0 for size in shape),
            f"{member.file_size} bytes for {claimed}": member.file_size != claimed,
        }
        found = next((problem for problem, there in problems.items() if there), None)
        if found:
            raise CheckpointError(
                f"{self.location}: array {name!r}: expected as many numbers as its header says, found {found}"
            )
        self._arrays[name] = _Array(member.filename, stream.tell(), dtype, by_columns)
        self.headers[name] = TensorHeader(name, shape, numpy_spelling(dtype), self.location)

    def require_readable(self, name: str) -> None:
        """Raise, from the header alone, if the numbers of an array cannot be had."""
        if self._arrays[name].dtype.kind == "V":
            raise CheckpointError(
                f"{self.location}: array {name!r}: expected numbers, found {self._arrays[name].dtype.itemsize} bytes "
                "each without a type, as NumPy stores bfloat16: save them as float32"
            )
        super().require_readable(name)

    def _read(self, name: str, rows: slice) -> Tensor:
        array, shape = self._arrays[name], self.headers[name].shape
        with zipfile.ZipFile(self._file) as archive, archive.open(array.member) as stream:
            stream.seek(array.start)
            if array.by_columns or rows == slice(None):
                whole = np.frombuffer(stream.read(), array.dtype).reshape(shape, order="F" if array.by_columns else "C")
                return as_tensor(whole if rows == slice(None) else whole[rows])
            first, behind, _ = rows.indices(shape[0])
            row_bytes = math.prod(shape[1:]) * array.dtype.itemsize
            stream.seek(first * row_bytes, 1)
            block = stream.read((behind - first) * row_bytes)
            return as_tensor(np.frombuffer(block, array.dtype).reshape(behind - first, *shape[1:]))
