"""safetensors: one file, or shards with an index."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from .protocol import Checkpoint, CheckpointError, TensorHeader
from .shards import require_new

if TYPE_CHECKING:
    from torch import Tensor


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

    Notes
    -----
    The library holds each header against the length of the file: at most 100 MB, and tensors that lie one behind the
    other, each as long as its shape and dtype say, to the end of the file.
    """

    def __init__(self, location: Path, files: list[Path], config: Mapping[str, Any]) -> None:
        self.location = str(location)
        self.config = config
        self._handles: dict[str, Any] = {}
        self.headers: dict[str, TensorHeader] = {}
        self.metadata = {"format": "safetensors"}
        for file in files:
            handle = _opened(file, "np")  # headers alone do not need torch, which takes seconds to import
            self.metadata |= {key: value for key, value in (handle.metadata() or {}).items() if key != "format"}
            for name in handle.offset_keys():
                view = handle.get_slice(name)
                require_new(name, file, self.headers)
                self.headers[name] = TensorHeader(name, tuple(view.get_shape()), view.get_dtype(), str(file))

    def __getstate__(self) -> dict[str, Any]:
        """Another process opens the files itself, each when it is first read from."""
        return self.__dict__ | {"_handles": {}}

    def _read(self, name: str, rows: slice) -> "Tensor":
        file = self.headers[name].file
        handle = self._handles.get(file) or self._handles.setdefault(file, _opened(Path(file), "pt"))
        tensor: Tensor = handle.get_tensor(name) if rows == slice(None) else handle.get_slice(name)[rows]
        return tensor


def _opened(file: Path, framework: str) -> Any:
    try:
        return safe_open(file, framework=framework)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{file}: expected a complete safetensors file, found: {error}") from error
