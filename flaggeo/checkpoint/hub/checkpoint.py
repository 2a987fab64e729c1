"""A checkpoint in a repository on the Hub: its headers at once, its numbers file by file."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..protocol import Checkpoint, CheckpointError, Progress
from ..shards import shards_of
from .address import Address
from .repository import HubError, Repository, UnreachableError, cached_snapshot

if TYPE_CHECKING:
    from torch import Tensor

INDEX_NAME = "model.safetensors.index.json"
_CONFIG_NAME, _ADAPTER_CONFIG_NAME = "config.json", "adapter_config.json"
_WEIGHTS = frozenset({".safetensors", ".gguf"})
# Most headers have fewer bytes than the first part; none has more than the largest, which is that of a large tokenizer
# several times over.
_FIRST_PART, _GROWTH, _LARGEST_PART = 2**14, 8, 2**26
# Requests that wait for answers at the same time.
_REQUESTS = 8
_MEGABYTE = 1_000_000

#: Opens a file or a folder on this machine.
Opener = Callable[[Path], Checkpoint]


def open_repository(address: Address, open_path: Opener) -> Checkpoint:
    """Open a checkpoint on the Hub, or its copy on this machine where the Hub cannot be reached.

    Raises
    ------
    HubError
        If it cannot be had.
    CheckpointError
        If it is there and cannot be read.
    """
    try:
        return HubCheckpoint(Repository(address), open_path)
    except UnreachableError as error:
        copy = cached_snapshot(address)
        if copy is None:
            raise
        try:
            checkpoint = open_path(copy)
        except CheckpointError as incomplete:
            raise HubError(f"{error}; the copy on this machine: {incomplete}") from error
        checkpoint.location = str(address)
        return checkpoint


class HubCheckpoint(Checkpoint):
    """The tensors of a repository.

    Parameters
    ----------
    repository : Repository
    open_path : callable

    Raises
    ------
    HubError
        If the repository has no weights, or a file cannot be had.
    CheckpointError
        If a file is corrupt.

    Notes
    -----
    Headers are read by the formats' own readers: from a copy of each file that has its beginning and its length, and
    takes no more room on the disk than the beginning does.
    """

    def __init__(self, repository: Repository, open_path: Opener) -> None:
        self._repository, self._open_path = repository, open_path
        self._opened: dict[str, Checkpoint] = {}
        self.location = str(repository.address)
        with TemporaryDirectory(prefix="flaggeo-") as folder:
            described = self._described(Path(folder))
            self._files = {
                name: Path(header.file).relative_to(folder).as_posix() for name, header in described.headers.items()
            }
        self.headers = {
            name: replace(header, file=f"{repository.address.repository}/{self._files[name]}")
            for name, header in described.headers.items()
        }
        self.config = described.config
        self.naming = described.naming  # type: ignore[misc]  # of the class everywhere else
        self.readable_dtypes = described.readable_dtypes  # type: ignore[misc]
        self.metadata = {
            **described.metadata,
            "repository": repository.address.repository,
            "commit": repository.commit,
        }

    def _described(self, folder: Path) -> Checkpoint:
        """The checkpoint without its numbers."""
        address, sizes = self._repository.address, self._repository.sizes
        inside = PurePosixPath(address.file or _CONFIG_NAME).parent
        beside = [file for file in sizes if PurePosixPath(file).parent == inside]
        weights = [file for file in beside if PurePosixPath(file).suffix in _WEIGHTS]
        if address.file:
            weights = [file for file in weights if file == address.file]
        self._require(weights, sizes)
        for file in weights:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).touch()
        small = {(inside / name).as_posix() for name in (_CONFIG_NAME, *([] if address.file else [INDEX_NAME]))}
        for file in small & set(beside):
            (folder / file).symlink_to(self._repository.fetched(file))
        try:
            needed = _needed(folder, weights)
            with ThreadPoolExecutor(_REQUESTS) as pool:
                list(pool.map(lambda file: self._copy_header(file, folder / file), needed))
            return self._open_path(folder / (address.file or ""))
        except HubError:
            raise
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(folder), address.repository)) from error

    def _require(self, weights: list[str], sizes: dict[str, int]) -> None:
        address = self._repository.address
        if _ADAPTER_CONFIG_NAME in sizes and _CONFIG_NAME not in sizes:
            raise HubError(
                f"{address}: expected the weights of a network, found those of an adapter: download it with "
                f"'hf download {address.repository}' and compare its base with that folder"
            )
        if not weights:
            others = ", ".join(sorted(sizes, key=lambda file: -sizes[file])[:4]) or "nothing"
            expected = address.file or "a .safetensors or .gguf file"
            raise HubError(f"{address}: expected {expected} in this repository, found none; its largest are {others}")

    def _copy_header(self, file: str, copy: Path) -> None:
        """Make a file with the header of one in the repository, and zeros for its numbers."""
        if (cached := self._repository.cached(file)) is not None:
            copy.unlink()
            copy.symlink_to(cached)
            return
        size = self._repository.sizes[file]
        have, wanted = 0, min(_FIRST_PART, size)
        while have < wanted:
            with copy.open("r+b") as stream:
                stream.seek(have)
                stream.write(self._repository.part(file, have, wanted))
                stream.truncate(size)
            have, wanted = wanted, min(wanted * _GROWTH, _LARGEST_PART, size)
            try:
                self._open_path(copy)
            except CheckpointError:  # zeros in the place of a header's end are in no format a header
                continue
            return

    def fetch(self, names: Iterable[str], progress: Progress | None = None) -> None:
        """Bring the files of these tensors onto this machine."""
        files = list(dict.fromkeys(self._files[name] for name in names))
        missing = [file for file in files if self._repository.cached(file) is None]
        total, arrived = sum(self._repository.sizes[file] for file in missing), 0
        for file in missing:

            def told(count: int, file: str = file) -> None:
                nonlocal arrived
                arrived += count
                if progress is not None:
                    progress(f"{self.FETCHING} {file} (MB)", arrived // _MEGABYTE, total // _MEGABYTE)

            told(0)
            self._repository.fetched(file, told if progress else None)

    def stamp(self) -> list[Any]:
        """The commit, by which the numbers are known."""
        return [self._repository.address.repository, self._repository.commit]

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the files itself."""
        return self.__dict__ | {"_opened": {}}

    def _read(self, name: str, rows: slice) -> "Tensor":
        file = self._files[name]
        opened = self._opened.get(file)
        if opened is None:
            opened = self._opened[file] = self._open_path(self._repository.fetched(file))
        return opened.stored(name, rows)


def _needed(folder: Path, weights: list[str]) -> list[str]:
    """The files that make up the checkpoint; none if there are several without an index, which are not read."""
    if (folder / INDEX_NAME).is_file():
        return list(dict.fromkeys(file.name for file in shards_of(folder / INDEX_NAME).values()))
    preferred = [file for file in weights if file == "model.safetensors"] or weights
    return preferred if len(preferred) == 1 else []
