"""Checkpoints in several files, with an index that says which file holds which tensor."""

from collections.abc import Mapping
from pathlib import Path

from .files import load_json_object
from .protocol import CheckpointError, TensorHeader

# Of file names on most file systems, in bytes.
_LONGEST_NAME = 255


def shards_of(index: Path) -> dict[str, Path]:
    """The file of each tensor that an index names, in the order of the files, all of them present.

    Raises
    ------
    CheckpointError
        If the index cannot be understood, points outside its folder, or names a missing shard.
    """
    try:
        weight_map: dict[str, str] = load_json_object(index, "an index")["weight_map"]
        names = sorted({Path(shard).as_posix() for shard in weight_map.values()})
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index}: expected an index with a 'weight_map' from tensors to shards, found: {error!r}"
        ) from error
    for name in names:
        if Path(name).name != name or len(name.encode()) > _LONGEST_NAME:
            raise CheckpointError(f"{index}: expected shards beside the index, found the path {name[:60]!r}")
        if not (index.parent / name).is_file():
            lost = [tensor for tensor, shard in weight_map.items() if shard == name]
            raise CheckpointError(
                f"{index.parent / name}: expected a shard that {index.name} names, found no such file; "
                f"{len(lost)} tensors are lost with it, {lost[0]!r} first"
            )
    in_order = sorted(weight_map.items(), key=lambda entry: Path(entry[1]).as_posix())
    return {tensor: index.parent / Path(shard).as_posix() for tensor, shard in in_order}


def require_new(name: str, file: Path | str, headers: Mapping[str, TensorHeader]) -> None:
    """Raise if a tensor of one shard has the name of another one's.

    Raises
    ------
    CheckpointError
        If `headers` has the name.
    """
    if name in headers:
        raise CheckpointError(f"{file}: tensor {name!r}: expected once, found also in {headers[name].file}")
