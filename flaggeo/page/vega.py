"""Vega, run in a process of its own: where memory is limited, its V8 aborts the whole process that it runs in."""

import json
import struct
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..results.storage import PageError

_CALL = """
import json, struct, sys
import vl_convert
function, arguments, options = json.load(sys.stdin)
for argument in arguments:
    made = getattr(vl_convert, function)(argument, **options)
    made = made.encode() if isinstance(made, str) else made
    sys.stdout.buffer.write(struct.pack("<Q", len(made)) + made)
"""
_LENGTH = struct.Struct("<Q")


def vega(function: str, argument: Any, **options: Any) -> bytes:
    """What a function of vl-convert makes of an argument, both as JSON has them.

    Raises
    ------
    PageError
        If it fails, or the system has no room for it.
    """
    return vega_all(function, [argument], **options)[0]


def vega_all(function: str, arguments: Sequence[Any], **options: Any) -> list[bytes]:
    """The same for several arguments in one process, whose start takes longer than most charts.

    Raises
    ------
    PageError
        If it fails, or the system has no room for it.
    """
    # Without -P, a vl_convert.py in the working folder would run in place of the installed one.
    command = [sys.executable, "-P", "-c", _CALL]
    try:
        done = subprocess.run(command, input=json.dumps([function, arguments, options]).encode(), capture_output=True)
    except OSError as error:
        raise PageError(f"Vega cannot be run: {error}") from None
    if done.returncode < 0:
        raise PageError(f"Vega was ended by signal {-done.returncode}, as where too little memory is allowed")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise PageError(f"Vega cannot be run: {said[-1] if said else f'it ended with {done.returncode}'}")
    return list(_parts(done.stdout))


def _parts(written: bytes) -> Iterator[bytes]:
    """Each behind its length."""
    place = 0
    while place < len(written):
        (length,) = _LENGTH.unpack_from(written, place)
        place += _LENGTH.size + length
        yield written[place - length : place]
