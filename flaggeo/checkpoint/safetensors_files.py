"""safetensors: one file, or shards with an index."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from .protocol import Checkpoint, CheckpointError, TensorHeader
from .shards import require_new


class SafetensorsCheckpoint(Checkpoint):
    """Tensors of one or more safetensors files, memory-mapped.

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
    """

    def __init__(self, location: Path, files: list[Path], config: Mapping[str, Any]) -> None:
        self.location = str(location)
        self.config = config
        self._handles: dict[str, Any] = {}
        self.headers: dict[str, TensorHeader] = {}
        self.metadata = {"format": "safetensors"}
        for file in files:
            handle = self._open(file)
            self.metadata |= {key: value for key, value in (handle.metadata() or {}).items() if key != "format"}
            for name in handle.offset_keys():
                view = handle.get_slice(name)
                require_new(name, file, self.headers)
                self.headers[name] = TensorHeader(name, tuple(view.get_shape()), view.get_dtype(), str(file))

    def _open(self, file: Path) -> Any:
        try:
            handle = safe_open(file, framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{file}: expected a complete safetensors file, found: {error}") from error
        self._handles[str(file)] = handle
        return handle

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the files itself, each when it is first read from."""
        return self.__dict__ | {"_handles": {}}

    def _read(self, name: str, rows: slice) -> Tensor:
        file = self.headers[name].file
        handle = self._handles.get(file) or self._open(Path(file))
        tensor: Tensor = handle.get_tensor(name) if rows == slice(None) else handle.get_slice(name)[rows]
        return tensor
