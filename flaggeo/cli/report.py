"""`flaggeo report`: the page of a saved result once more, from the saved files alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from .options import Quiet, Verbose
from .terminal import UNREADABLE, errors_reported, fail

R = TypeVar("R")

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a saved result.")]


def report(folder: Folder, quiet: Quiet = False, verbose: Verbose = False) -> None:
    """Make the page of a saved analysis, comparison or trace again; no checkpoint is read."""
    with errors_reported(verbose):
        from ..results import kind_in
        from ..results.storage import replace_file

        result = loaded(lambda folder: kind_in(folder).load(folder), folder, verbose)
        page = folder / result.KIND.page_file
        replace_file(page, result.to_html().encode())
        if not quiet:
            typer.echo(page)


def loaded(load: Callable[[Path], R], folder: Path, verbose: bool) -> R:
    """What is saved in a folder; exit with `UNREADABLE` where it cannot be read."""
    try:
        return load(folder)
    except FileNotFoundError as error:
        fail(error, UNREADABLE, verbose)
    except Exception as error:  # whatever the libraries of the formats raise about a damaged file
        fail(ValueError(f"{folder}: cannot read what is saved here: {error}"), UNREADABLE, verbose)
