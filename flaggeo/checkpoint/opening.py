"""From whatever a person has in hand to a `Checkpoint`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import load_json_object, require_regular
from .hub import address_in, open_repository
from .packed import unpacked
from .protocol import Checkpoint, CheckpointError, shortened
from .shards import shards_of

if TYPE_CHECKING:
    from torch import Tensor, nn

# What folders of Hugging Face call the same weights; the first that is there is read.
_WEIGHTS_NAMES = (
    "model.safetensors.index.json",
    "model.safetensors",
    "pytorch_model.bin.index.json",
    "pytorch_model.bin",
)
# By preference, where files of one name hold the same weights.
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".gguf", ".npz", ".h5", ".onnx")
_FORMATS = (
    f"a {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]} file, an index of shards such as {_WEIGHTS_NAMES[0]}, a folder "
    "that holds one of them, or a torch.distributed checkpoint"
)
_PICKLE_SUFFIXES = frozenset({".bin", ".pt", ".pth", ".ckpt"})
_DISTRIBUTED_METADATA_NAME = ".metadata"
# What stands in the place of a file that git has not fetched.
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# What training runs keep beside the weights.
_NO_WEIGHTS = re.compile(r"(optimizer|scheduler|scaler|training_args|rng_state\w*)\.(bin|pt|pth|ckpt)")

# Mixtures of hundreds of experts in few bits have a hundred thousand.
_MOST_TENSORS = 200_000
_LONGEST_NAME, _NUMBER, _LARGE_NUMBER = 1000, re.compile(r"\d"), re.compile(r"\d{10}")


def open_checkpoint(
    source: "str | Path | Mapping[str, Tensor] | nn.Module", config: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Open a checkpoint; only headers are read.

    Parameters
    ----------
    source : str, Path, mapping of str to Tensor, or nn.Module
        A file of any format that errors list, an index of shards, a Hugging Face folder, a torch.distributed
        checkpoint, a state dict, or a module (its ``config``, if it has one as transformers' modules do, is used).
        A string that is no path and reads ``org/name``, ``org/name@revision`` or ``org/name/file.gguf`` is a
        repository on the Hugging Face Hub.
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
    TypeError
        If the source is none of these.
    """
    checkpoint = _open(source)
    checkpoint.config = {**checkpoint.config, **(config or {})}
    _require_names(checkpoint)
    checkpoint = unpacked(checkpoint)
    checkpoint.remember_files()
    return checkpoint


def _require_names(checkpoint: Checkpoint) -> None:
    """Raise for more tensors, or larger numbers in their names, than any network has."""
    if len(checkpoint.headers) > _MOST_TENSORS:
        raise CheckpointError(
            f"{checkpoint.location}: expected at most {_MOST_TENSORS} tensors, found {len(checkpoint.headers)}"
        )
    for name, header in checkpoint.headers.items():
        if len(name) > _LONGEST_NAME or _LARGE_NUMBER.search(name):
            raise CheckpointError(
                f"{header.file}: tensor {name[:60]!r}...: expected a name of at most {_LONGEST_NAME} characters and "
                f"numbers of at most nine digits, found {len(name)} characters"
            )


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
    if not hasattr(source, "state_dict"):
        raise TypeError(f"expected a checkpoint, as a path, a state dict or a module; got {type(source).__name__}")
    to_dict = getattr(getattr(source, "config", None), "to_dict", dict)
    return MemoryCheckpoint(type(source).__name__, source.state_dict(), to_dict())


def _open_path(path: Path) -> Checkpoint:
    if not path.exists():
        raise CheckpointError(f"{path}: expected {_FORMATS}, found nothing at this path")
    if path.is_dir():
        return _open_folder(path)
    require_regular(path)
    if path.suffix == ".json":
        return _open_index(path)
    _require_fetched(path)
    if path.suffix in (".safetensors", *sorted(_PICKLE_SUFFIXES)):
        return _open_shards(path, [path])
    if path.suffix == ".gguf":
        from .gguf_file import GGUFCheckpoint

        return GGUFCheckpoint(path)
    if path.suffix == ".npz":
        from .foreign.numpy_file import NumpyCheckpoint

        return NumpyCheckpoint(path, _config_beside(path))
    if path.suffix == ".h5":
        from .foreign.keras_file import KerasCheckpoint

        return KerasCheckpoint(path, _config_beside(path))
    if path.suffix == ".onnx":
        from .foreign.onnx_file import OnnxCheckpoint

        return OnnxCheckpoint(path, _config_beside(path))
    found = f"a {path.suffix} file" if path.suffix else "a file without a suffix"
    raise CheckpointError(f"{path}: expected {_FORMATS}, found {found}")


def _require_fetched(file: Path) -> None:
    require_regular(file)
    with file.open("rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise CheckpointError(f"{file}: expected weights, found a pointer of Git LFS to them: run git lfs pull")


def _open_index(index: Path) -> Checkpoint:
    files = shards_of(index)
    checkpoint = _open_shards(index, list(dict.fromkeys(files.values())))
    lost = [name for name in files if name not in checkpoint.headers and name not in checkpoint.aliases]
    if lost:
        raise CheckpointError(
            f"{index}: expected tensor {lost[0]!r} in {files[lost[0]].name}, found no such tensor there; {len(lost)} "
            f"of {len(files)} are lost"
        )
    return checkpoint


def _open_shards(path: Path, files: list[Path]) -> Checkpoint:
    for file in files:
        _require_fetched(file)
    suffixes = {file.suffix for file in files}
    if suffixes == {".safetensors"}:
        from .safetensors_files import SafetensorsCheckpoint

        return SafetensorsCheckpoint(path, files, _config_beside(path))
    if suffixes and suffixes <= _PICKLE_SUFFIXES:
        from .pytorch.pickle_files import PickleCheckpoint

        return PickleCheckpoint(path, files, _config_beside(path))
    found = ", ".join(sorted(suffixes)) or "none"
    raise CheckpointError(f"{path}: expected shards that are all .safetensors or all PyTorch pickles, found {found}")


def _open_folder(folder: Path) -> Checkpoint:
    preferred = next((folder / name for name in _WEIGHTS_NAMES if (folder / name).is_file()), None)
    if preferred:
        return _open_path(preferred)
    if (folder / _DISTRIBUTED_METADATA_NAME).is_file():
        from .pytorch.distributed_folder import DistributedCheckpoint

        return DistributedCheckpoint(folder, _config_beside(folder / _DISTRIBUTED_METADATA_NAME))
    found = _weights_in(folder)
    if found and len({file.stem for file in found}) == 1:
        return _open_path(found[0])
    if found:
        raise CheckpointError(
            f"{folder}: expected one file of weights or a {_WEIGHTS_NAMES[0]}, found no index and "
            f"{shortened([file.name for file in found])}: name the one to read"
        )
    if inside := checkpoints_in(folder):
        raise CheckpointError(
            f"{folder}: expected a checkpoint, found a folder of {len(inside)}: flaggeo trace {folder} follows them, "
            f"flaggeo analyze {inside[-1]} takes one"
        )
    others = shortened(sorted(file.name for file in folder.iterdir()))
    found_instead = f"only {others}" if others else "an empty folder"
    raise CheckpointError(f"{folder}: expected weights ({_FORMATS}), found {found_instead}")


def holds_weights(folder: Path) -> bool:
    """Whether a folder is, or has in it, something that `open_checkpoint` reads."""
    return (folder / _DISTRIBUTED_METADATA_NAME).is_file() or bool(_weights_in(folder))


def checkpoints_in(folder: Path) -> list[Path]:
    """Subfolders with a number in the name and weights inside; empty if there are none."""
    if not folder.is_dir():
        return []
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and _NUMBER.search(entry.name))
    return [entry for entry in inside if holds_weights(entry)]


def _weights_in(folder: Path) -> list[Path]:
    """Files of weights by name, the preferred of each name first."""
    found = [file for file in folder.iterdir() if file.suffix in _SUFFIXES and not _NO_WEIGHTS.fullmatch(file.name)]
    return sorted(found, key=lambda file: (file.stem, _SUFFIXES.index(file.suffix)))


def _config_beside(path: Path) -> dict[str, Any]:
    file = path.parent / "config.json"
    return load_json_object(file, "the architecture's settings") if file.exists() else {}
