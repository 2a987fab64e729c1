"""PyTorch pickles: one file of ``torch.save``, or shards with an index."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..in_memory import MemoryCheckpoint
from ..protocol import Checkpoint, CheckpointError, TensorHeader, reason
from ..shards import require_new
from .nesting import state_dict_in
from .pickles import load_pickle

PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt"})


class PickleCheckpoint(Checkpoint):
    """State dicts of one or more files of ``torch.save``; no code of theirs is executed.

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
        If a file is corrupt or cut short, asks for code, as a whole module does, claims more numbers than it holds,
        has no tensors, or two shards hold a tensor of one name.

    Notes
    -----
    Files are memory-mapped. Those from before torch 1.6 cannot be, and are read into memory whole.
    """

    def __init__(self, location: Path, files: list[Path], config: Mapping[str, Any]) -> None:
        self.location = str(location)
        self.config = config
        self.metadata = {"format": "pytorch"}
        self.headers: dict[str, TensorHeader] = {}
        self.aliases: dict[str, str] = {}
        self._opened: dict[str, MemoryCheckpoint] = {}
        for file in files:
            opened = self._open(str(file))
            for name in opened.headers:
                require_new(name, file, self.headers)
            self.headers |= opened.headers
            self.aliases |= opened.aliases
            self.metadata |= {key: value for key, value in opened.metadata.items() if key != "format"}

    def _open(self, file: str) -> MemoryCheckpoint:
        try:
            found = state_dict_in(load_pickle(Path(file)), Tensor)
        except Exception as error:  # torch raises whatever it meets first in a malformed file
            raise CheckpointError(
                f"{file}: expected a state dict that torch.save wrote, found {reason(error)}"
            ) from error
        opened = MemoryCheckpoint(file, found.tensors, {})
        opened.metadata = {**opened.metadata, **found.metadata}
        self._opened[file] = opened
        return opened

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the files itself, each when it is first read from."""
        return self.__dict__ | {"_opened": {}}

    def require_readable(self, name: str) -> None:
        """Raise, without reading, if the numbers of a tensor cannot be had, also where it repeats a smaller storage."""
        super().require_readable(name)
        tensor = self._read(name, slice(None))
        held = tensor.untyped_storage().nbytes()
        if tensor.numel() * tensor.element_size() > held:
            raise CheckpointError(
                f"{self.headers[name].file}: tensor {name!r} of shape {tuple(tensor.shape)}: expected numbers of its "
                f"own, found {held} bytes that it repeats"
            )

    def stored(self, name: str, rows: slice = slice(None)) -> Tensor:
        """Numbers of one tensor, or of a block of its rows, copied out of the mapped file.

        Whoever reads them later would be killed without a word if somebody had cut the file short by then.

        Raises
        ------
        CheckpointError
            If the tensor is missing or the file was cut short.
        """
        file = self._known(name).file
        expected, _ = self._versions.get(file, (0, 0))
        if (found := Path(file).stat().st_size) < expected:
            raise CheckpointError(
                f"{file}: tensor {name!r}: expected a file of {expected} bytes, found {found}; it was cut short "
                "after it was opened"
            )
        return super().stored(name, rows).clone()

    def _read(self, name: str, rows: slice) -> Tensor:
        file = self.headers[name].file
        opened = self._opened.get(file) or self._open(file)
        return opened._read(name, rows)
