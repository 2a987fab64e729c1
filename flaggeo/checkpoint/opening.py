"""From whatever a person has in hand to a `Checkpoint`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .hub import address_in, open_repository
from .packed import unpacked
from .protocol import Checkpoint, CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

_FORMATS = "a .safetensors or .gguf file, a model.safetensors.index.json, or a folder that holds one of them"


def open_checkpoint(
    source: "str | Path | Mapping[str, Tensor] | nn.Module", config: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Open a checkpoint; only headers are read.

    Parameters
    ----------
    source : str, Path, mapping of str to Tensor, or nn.Module
        A safetensors or GGUF file, an index of shards, a Hugging Face folder, a state dict, or a
        module (its ``config``, if it has one as transformers' modules do, is used). A string that is no
        path and reads ``org/name``, ``org/name@revision`` or ``org/name/file.gguf`` is a repository on the
        Hugging Face Hub.
    config : mapping, optional
        Settings under the names of a ``config.json`` that the source lacks or has wrong:
        ``{"num_attention_heads": 9, "num_key_value_heads": 3}``. The others are kept.

    Returns
    -------
    checkpoint : Checkpoint

    Raises
    ------
    CheckpointError
        If nothing readable is there: the message names the path, what was expected and what was found.
        `HubError` if a repository cannot be had.
    """
    checkpoint = _open(source)
    checkpoint.config = {**checkpoint.config, **(config or {})}
    return unpacked(checkpoint)


def _open(source: "str | Path | Mapping[str, Tensor] | nn.Module") -> Checkpoint:
    if isinstance(source, str) and not Path(source).exists() and (address := address_in(source)):
        return open_repository(address, _open_path)
    if isinstance(source, str | Path):
        checkpoint = _open_path(Path(source))
        checkpoint.location = str(source)
        return checkpoint
    from .in_memory import MemoryCheckpoint

    if isinstance(source, Mapping):
        return MemoryCheckpoint("state dict", source, {})
    to_dict = getattr(getattr(source, "config", None), "to_dict", dict)
    return MemoryCheckpoint(type(source).__name__, source.state_dict(), to_dict())


def _open_path(path: Path) -> Checkpoint:
    from .safetensors_files import INDEX_NAME, SafetensorsCheckpoint, shards_of

    if not path.exists():
        raise CheckpointError(f"{path}: expected {_FORMATS}, found nothing at this path")
    if path.is_dir():
        return _open_path(_weights_in(path, INDEX_NAME))
    if path.suffix == ".safetensors":
        return SafetensorsCheckpoint(path, [path], _config_beside(path))
    if path.suffix == ".json":
        return SafetensorsCheckpoint(path, shards_of(path), _config_beside(path))
    if path.suffix == ".gguf":
        from .gguf_file import GGUFCheckpoint

        return GGUFCheckpoint(path)
    hint = ": PyTorch pickles can run code, save it as safetensors" if path.suffix in {".bin", ".pt", ".pth"} else ""
    found = f"a {path.suffix} file" if path.suffix else "a file without a suffix"
    raise CheckpointError(f"{path}: expected {_FORMATS}, found {found}{hint}")


def _weights_in(folder: Path, index_name: str) -> Path:
    if (folder / index_name).is_file():
        return folder / index_name
    found = sorted(file for file in folder.iterdir() if file.suffix in {".safetensors", ".gguf"})
    preferred = [file for file in found if file.name == "model.safetensors"] or found
    if len(preferred) == 1:
        return preferred[0]
    if preferred:
        raise CheckpointError(
            f"{folder}: expected one file of weights or a {index_name}, found no index and "
            f"{_shortened([file.name for file in found])}: name the one to read"
        )
    others = _shortened(sorted(file.name for file in folder.iterdir())) or "nothing"
    raise CheckpointError(f"{folder}: expected weights ({_FORMATS}), found only {others}")


def _shortened(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _config_beside(path: Path) -> dict[str, Any]:
    file = path.parent / "config.json"
    if not file.is_file():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{file}: expected the architecture's settings as JSON, found: {error}") from error
    if not isinstance(config, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found a {type(config).__name__}")
    return config
