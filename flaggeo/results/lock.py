"""One run at a time for each output folder, and what a killed run left beside it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .storage import clear_remains


class LockedError(RuntimeError):
    """Another run writes to the same folder."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other runs away from a folder until the block ends, and clear what a killed one left beside it.

    The operating system lets go of the lock when the process ends, however it ends, so that none is ever stale.

    Raises
    ------
    LockedError
        If another run is at it.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.with_name(f".{folder.name}.lock")
    lock = FileLock(file, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise LockedError(f"{folder}: expected no other run, found one that writes to this folder") from None
    try:
        clear_remains(folder)
        yield
    finally:
        file.unlink(missing_ok=True)  # before the lock goes: afterwards it may be another run's
        lock.release()
