"""What ``torch.save`` wrote, loaded as data: never code, and never more than the file holds."""

import io
import os
import pickletools
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch

_ZIP_MAGIC = b"PK\x03\x04"
# Magic number, version, system, the object, and the names of the storages, of which the numbers follow.
_PICKLES_BEFORE_TORCH_1_6 = 5
# In front of the numbers of each storage.
_SIZE_BYTES = 8
_DATA_RECORD = re.compile(r"[^/]+/data/[^/]+")
# Fewer than torch admits: none of these makes a tensor, or bytes, but from the storages of the file.
_DATA = re.compile(
    r"collections (OrderedDict|Counter)|(builtins|__builtin__) (set|complex)|torch\.serialization _get_layout"
    r"|torch\._utils _rebuild_(tensor(_v2)?|parameter)|torch\.nn\.parameter Parameter"
    r"|torch(\.cuda)? \w+Storage|torch (Size|device|bool|b?float\w+|u?int\d+|complex\d+)"
)


def load_pickle(source: Path | io.BytesIO) -> Any:
    """Load a file of ``torch.save``; a zip archive, its format since torch 1.6, on disk is memory-mapped.

    Parameters
    ----------
    source : Path or BytesIO
        A file, or its bytes.

    Returns
    -------
    saved : Any
        Tensors on the CPU, in the containers in which they were saved.

    Raises
    ------
    ValueError
        If the pickle asks for anything but tensors and plain containers, or the file does not hold the storages
        that it claims. Damaged files raise other exceptions too, whatever the readers of their parts meet first.

    Notes
    -----
    torch trusts a memory-mapped archive to hold at each place as many bytes as the pickle says, and takes those of
    the next storage for them. So the storages are held against the records of the archive.
    """
    with _opened(source) as stream:
        zipped = stream.read(len(_ZIP_MAGIC)) == _ZIP_MAGIC
        size = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        if zipped:
            records = _storage_records(stream, size)
        else:
            for _ in range(_PICKLES_BEFORE_TORCH_1_6):
                _require_data(stream)
            behind_pickles = size - stream.tell()
    storages = _Storages(size)
    loaded = torch.load(source, map_location=storages, weights_only=True, mmap=zipped and isinstance(source, Path))
    if zipped and storages.in_memory_order() != records:
        raise ValueError(f"storages of {storages.claimed} bytes in all that are not those of its records")
    if not zipped and storages.claimed + _SIZE_BYTES * len(storages.all) != behind_pickles:
        raise ValueError(f"storages of {storages.claimed} bytes in all where the file has {behind_pickles}")
    return loaded


class _Storages:
    """The storages of a file, each of which torch shows before any number is read into it."""

    def __init__(self, limit: int) -> None:
        self.all: list[Any] = []
        self.claimed = 0
        self._limit = limit

    def __call__(self, storage: Any, _: str) -> Any:
        self.all.append(storage)
        self.claimed += storage.nbytes()
        if self.claimed > self._limit:
            raise ValueError(f"storages of {self.claimed} bytes or more in a file of {self._limit}")
        return storage

    def in_memory_order(self) -> list[int]:
        """Bytes of those that are not empty; the order is that of the file where it is memory-mapped."""
        sizes = sorted((storage.data_ptr(), storage.nbytes()) for storage in self.all)
        return [size for _, size in sizes if size]


@contextmanager
def _opened(source: Path | io.BytesIO) -> Iterator[IO[bytes]]:
    if isinstance(source, io.BytesIO):
        yield source
        source.seek(0)
    else:
        with source.open("rb") as stream:
            yield stream


def _storage_records(stream: IO[bytes], size: int) -> list[int]:
    """Bytes of each storage, in the order of the file, none of them empty.

    Raises
    ------
    ValueError
        If the archive is compressed, of another byte order, TorchScript, or asks for code.
    """
    with zipfile.ZipFile(stream) as archive:
        records = sorted(archive.infolist(), key=lambda record: record.header_offset)
        for record in records:
            if record.compress_type != zipfile.ZIP_STORED or record.file_size > size:
                raise ValueError(f"a record {record.filename!r} that claims {record.file_size} bytes when unpacked")
        by_name = {record.filename.partition("/")[2]: record for record in records}
        if "constants.pkl" in by_name:
            raise ValueError("a TorchScript archive, which holds code: save the state dict of the module")
        if len(by_name) < len(records) or "data.pkl" not in by_name:
            raise ValueError("an archive without one 'data.pkl'")
        if "byteorder" in by_name and archive.read(by_name["byteorder"]) != sys.byteorder.encode():
            raise ValueError("numbers in another byte order than this machine's")
        with archive.open(by_name["data.pkl"]) as pickled:
            _require_data(pickled)
    return [record.file_size for record in records if _DATA_RECORD.fullmatch(record.filename) and record.file_size]


def _require_data(stream: IO[bytes]) -> None:
    """Go through one pickle without executing it.

    Raises
    ------
    ValueError
        If it asks for anything but tensors and plain containers, or is none.
    """
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(stream):
        if isinstance(argument, str):
            strings = [*strings[-1:], argument]
        if opcode.name in ("GLOBAL", "INST", "STACK_GLOBAL"):
            asked = " ".join(strings) if opcode.name == "STACK_GLOBAL" else str(argument)
            if not _DATA.fullmatch(asked):
                raise ValueError(
                    f"a pickle that asks for {asked.replace(' ', '.')!r}, which may be code: save the state dict "
                    "alone, as torch.save(model.state_dict(), ...)"
                )
