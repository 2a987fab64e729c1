"""Vega, run in a process of its own: where memory is limited, its V8 aborts the whole process that it runs in."""

import json
import subprocess
import sys
from typing import Any

from ..results.storage import PageError

_CALL = """
import json, sys
import vl_convert
function, argument, options = json.load(sys.stdin)
made = getattr(vl_convert, function)(argument, **options)
sys.stdout.buffer.write(made.encode() if isinstance(made, str) else made)
"""


def vega(function: str, argument: Any, **options: Any) -> bytes:
    """What a function of vl-convert makes of an argument, both as JSON has them.

    Raises
    ------
    PageError
        If it fails, or the system has no room for it.
    """
    # Without -P, a vl_convert.py in the working folder would run in place of the installed one.
    command = [sys.executable, "-P", "-c", _CALL]
    try:
        done = subprocess.run(command, input=json.dumps([function, argument, options]).encode(), capture_output=True)
    except OSError as error:
        raise PageError(f"Vega cannot be run: {error}") from None
    if done.returncode < 0:
        raise PageError(f"Vega was ended by signal {-done.returncode}, as where too little memory is allowed")
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise PageError(f"Vega cannot be run: {said[-1] if said else f'it ended with {done.returncode}'}")
    return done.stdout
