"""What was found: tables that are saved and loaded, all or nothing."""

from pathlib import Path

from .analysis import Analysis as Analysis
from .comparison import Comparison as Comparison
from .saved import Result as Result
from .saved import found_instead
from .trace import Trace as Trace


def kind_in(folder: Path) -> type[Result]:
    """The kind of result that a folder holds.

    Raises
    ------
    FileNotFoundError
        If it holds none.
    """
    for kind in Result.__subclasses__():
        if kind.is_in(folder):
            return kind
    raise FileNotFoundError(f"{folder}: expected a result of flaggeo, found {found_instead(folder)}")
