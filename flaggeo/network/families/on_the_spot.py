"""Records of model types that the table lacks, derived from the installed transformers when they are met."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...checkpoint import Progress
from .record import Record
from .table import load_table, parse

#: Stands in the name that progress is told of while a structure is derived.
DERIVING = "deriving"
# Of a reason so much is told.
_LONGEST = 100
#: Seconds for the process that derives one model type, its imports included; it bounds the derivation itself to less.
LIMIT = 60

_DERIVE = "import json, sys; from flaggeo.network.families.derive import main; main(sys.argv[1:], json.load(sys.stdin))"
_MODEL_TYPE = re.compile(r"\w[\w.-]{0,99}", re.ASCII)


@dataclass(frozen=True)
class Attempt:
    """What came of deriving a model type.

    Attributes
    ----------
    records : tuple of Record
        Empty if nothing.
    remark : str
        From what they were derived, or why they were not.
    """

    records: tuple[Record, ...]
    remark: str


def derive_on_the_spot(model_type: str, config: Mapping[str, Any], progress: Progress | None = None) -> Attempt:
    """Derive a model type from the code that transformers has for it.

    Parameters
    ----------
    model_type : str
        As a checkpoint says.
    config : mapping
        Its settings. Of these count switches that the code of the type has: never a size, and no code of its own.
    progress : callable, optional
        Is told that it may take a while.

    Returns
    -------
    attempt : Attempt
        The same in every call of one process.

    Notes
    -----
    The models are built and run in a process of their own: its time and memory are bounded in every thread, and
    neither torch nor transformers are imported in this one.
    """
    library = find_spec("transformers")
    if library is None or library.origin is None:
        hint = 'pip install "flaggeo[transformers]"'
        return Attempt((), f"transformers, which may have its code, is not installed ({hint})")
    installed = f"transformers {version('transformers')}"
    if not _has(Path(library.origin).parent, model_type):
        return Attempt((), f"{installed} has no code for it")
    if installed == f"transformers {load_table().transformers}" and model_type in load_table().not_derived:
        return Attempt((), f"it cannot be derived from {installed}")  # docs/models.md has the reason
    tell = progress or (lambda *_: None)
    tell(f"{DERIVING} the structure of {model_type} from {installed}", 0, 1)
    # Of several models in one the language model, as for all settings.
    text = config.get("text_config")
    settings = _plain({**config, **(text if isinstance(text, Mapping) else {})})
    attempt = _derived(model_type, json.dumps(settings, sort_keys=True), installed)
    tell(f"{DERIVING} the structure of {model_type} from {installed}", 1, 1)
    return attempt


def _has(library: Path, model_type: str) -> bool:
    """Whether transformers lists a model of this type; its import would take seconds."""
    listing = library / "models" / "auto" / "modeling_auto.py"
    named = _MODEL_TYPE.fullmatch(model_type) is not None and listing.is_file()
    return named and f'"{model_type}"' in listing.read_text(encoding="utf-8")


def _plain(config: Mapping[str, Any], *, sections: bool = True) -> dict[str, Any]:
    """What may be a switch, in the settings themselves and one section down."""
    found: dict[str, Any] = {
        name: value for name, value in config.items() if value is None or isinstance(value, bool | str)
    }
    if sections:
        found |= {name: _plain(value, sections=False) for name, value in config.items() if isinstance(value, Mapping)}
    return {name: value for name, value in found.items() if isinstance(name, str)}


@cache
def _derived(model_type: str, settings: str, installed: str) -> Attempt:
    # What this process would import, but nothing from the folder that it happens to be in.
    places = [place for place in sys.path if place] + [str(Path(__file__).parents[3])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, "-P", "-W", "ignore", "-c", _DERIVE, model_type]
    with TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=environment,
                input=settings,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=LIMIT,
            )
        except subprocess.TimeoutExpired:
            return _failed(installed, f"not finished in {LIMIT} s")
        except OSError as error:
            return _failed(installed, str(error))
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"the process ended with {done.returncode}"]
        return _failed(installed, last[0])
    try:
        table = parse(done.stdout)
    except ValueError as error:  # a library printed something else
        return _failed(installed, str(error))
    if model_type in table.not_derived:
        return _failed(installed, table.not_derived[model_type])
    return Attempt(table.records, f"its structure is derived from the code of {installed}")


def _failed(installed: str, reason: str) -> Attempt:
    return Attempt((), f"it cannot be derived from {installed} ({reason[:_LONGEST]})")
