"""What was found: tables that are saved and loaded, all or nothing."""

from pathlib import Path

from .analysis import Analysis as Analysis
from .comparison import Comparison as Comparison
from .saved import Result as Result
from .trace import Trace as Trace

_KINDS: tuple[type[Result], ...] = (Analysis, Comparison, Trace)


def kind_in(folder: Path) -> type[Result]:
    """The kind of result that a folder holds.

    Raises
    ------
    FileNotFoundError
        If it holds none.
    """
    for kind in _KINDS:
        if kind.is_in(folder):
            return kind
    records = ", ".join(kind.KIND.record_file for kind in _KINDS)
    raise FileNotFoundError(f"{folder}: expected a result of flaggeo, found none of {records}")
