"""Reading files that are not trusted, and that may change while they are read."""

import json
from pathlib import Path
from typing import Any

from .protocol import CheckpointError


def require_regular(file: Path) -> None:
    """Raise unless a path that exists is a regular file, or a link to one: a pipe or device may never end.

    Raises
    ------
    CheckpointError
    """
    if not file.is_file():
        kinds = {file.is_dir: "a folder", file.is_fifo: "a named pipe", file.is_socket: "a socket"}
        found = next((kind for test, kind in kinds.items() if test()), "a device")
        raise CheckpointError(f"{file}: expected a file, found {found}")


def load_json_object(file: Path, meaning: str) -> dict[str, Any]:
    """The object in a file of JSON.

    Parameters
    ----------
    file : Path
    meaning : str
        What the object says, for errors.

    Raises
    ------
    CheckpointError
        If it is no regular file, or holds anything else.
    """
    require_regular(file)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: expected {meaning} as JSON, found: {error}") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found a {type(found).__name__}")
    return found


def read_into(room: memoryview, file: Path, start: int, tensor: str) -> None:
    """Fill the room with the bytes of a file from this place on.

    Raises
    ------
    CheckpointError
        If the file ends before, since it was cut short after it was opened.
    """
    with file.open("rb") as stream:
        stream.seek(start)
        read = stream.readinto(room)
    if read != room.nbytes:
        raise CheckpointError(
            f"{file}: tensor {tensor!r}: expected {room.nbytes} bytes, found {read}; the file was cut short "
            "after it was opened"
        )
