"""Libraries that only some formats need."""

from importlib import import_module
from pathlib import Path
from typing import Any

from .protocol import CheckpointError


def required(library: str, extra: str, file: Path) -> Any:
    """A library that an extra of flaggeo installs.

    Raises
    ------
    CheckpointError
        If it is not installed; the message says how to install it.
    """
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        raise CheckpointError(
            f"{file}: expected {library}, which reads this format, found it not installed: "
            f'pip install "flaggeo[{extra}]"'
        ) from error
