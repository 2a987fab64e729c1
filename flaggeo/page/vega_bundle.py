"""Vega's JavaScript for the pages: made once for each version of vl-convert, then read from the user's cache."""

import os
from contextlib import suppress
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

from ..results.storage import replace_file
from .vega import vega


def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script.

    To make it takes more than a second, every time the same. It is kept behind its SHA-256, so that a damaged file is
    made anew; where nothing can be read or written, it is made each time.

    Raises
    ------
    PageError
        If it has to be made and cannot be.
    """
    # Without a home folder there is a RuntimeError.
    with suppress(OSError, RuntimeError):
        digest, _, kept = _cache_file().read_bytes().partition(b"\n")
        if _digest(kept) == digest:
            return kept.decode()
    made = vega("javascript_bundle", None)
    with suppress(OSError, RuntimeError):
        replace_file(_cache_file(), _digest(made) + b"\n" + made)
    return made.decode()


def _digest(content: bytes) -> bytes:
    return sha256(content).hexdigest().encode()


def _cache_file() -> Path:
    """In the user's cache folder, as the XDG base directory specification has it."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    base = named if named.is_absolute() else Path.home() / ".cache"
    return base / "flaggeo" / f"vega-{version('vl-convert-python')}.js"
