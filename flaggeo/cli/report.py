"""`flaggeo report`: the page of a saved result once more, from the saved files alone."""

from pathlib import Path
from typing import Annotated

import typer

from .options import QuietPath, Verbose
from .terminal import errors_reported, full_disk_named

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a saved result.")]


def report(folder: Folder, quiet: QuietPath = False, verbose: Verbose = False) -> None:
    """Make the page of a saved analysis, comparison or trace again; no checkpoint is read."""
    with errors_reported(verbose):
        from ..results import kind_in
        from ..results.storage import replace_file

        result = kind_in(folder).load(folder)
        page = folder / result.KIND.page_file
        with full_disk_named(page):
            replace_file(page, result.to_html().encode())
        if not quiet:
            typer.echo(page)
