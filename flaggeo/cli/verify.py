"""`flaggeo verify`: a saved analysis measured again, and held against what was saved."""

from typing import TYPE_CHECKING, Annotated

import typer

from .options import Device, Quiet, Verbose
from .report import Folder
from .terminal import (
    FAILED,
    LOADING,
    chosen_device,
    errors_reported,
    progress_bar,
    standard_output,
    usage_errors,
    waiting,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pandas as pd

    from ..results import Analysis

# Numbers of two machines differ by rounding, which a p-value in the tail makes larger; of one machine not at all.
_RELATIVE, _ABSOLUTE = 1e-3, 1e-6


def verify(
    folder: Folder,
    checkpoint: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Where the checkpoint is now.", show_default="where it was analysed"),
    ] = None,
    device: Device = "cpu",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a saved analysis again with its settings, and compare every table; exit 1 if a number differs.

    Tables that are there as CSV too have to be the same in both.
    """
    with errors_reported(verbose):
        with waiting(LOADING, quiet), usage_errors():
            from ..analysis import analyze, headers_fingerprint, load
            from ..results import Analysis
            from ..results.storage import ResultError, altered_texts

            device = chosen_device(device)
        saved = Analysis.load(folder)
        source = checkpoint or saved.provenance["checkpoint"]
        network = load(source)
        if headers_fingerprint(network) != saved.provenance["headers_sha256"]:
            raise ResultError(f"{folder}: expected the checkpoint that it is of, found another at {source}")
        with progress_bar(quiet) as show:
            again = analyze(network, saved.settings, device=device, progress=show)
        differing = dict(differences(saved, again))
        texts = dict(altered_texts(folder, {name: getattr(saved, name) for name in saved.table_names()}))
        if not quiet:
            _show(saved, differing, texts)
        if differing or texts:
            raise typer.Exit(FAILED)


def differences(saved: "Analysis", again: "Analysis") -> "Iterator[tuple[str, str]]":
    """Each table that is not the same in both, to within rounding, and how it differs."""
    for name in saved.table_names():
        before, after = getattr(saved, name), getattr(again, name)
        if list(before.columns) != list(after.columns) or len(before) != len(after):
            yield name, f"{len(after)} rows of {len(after.columns)} columns, not {len(before)} of {len(before.columns)}"
        elif columns := [column for column in before if not _same(before[column], after[column])]:
            yield name, f"other values in {', '.join(columns)}"


def _same(before: "pd.Series", after: "pd.Series") -> bool:
    from pandas.testing import assert_series_equal

    try:
        assert_series_equal(before, after, check_dtype=False, rtol=_RELATIVE, atol=_ABSOLUTE)
    except AssertionError:
        return False
    return True


def _show(saved: "Analysis", differing: dict[str, str], texts: dict[str, str]) -> None:
    from rich.table import Table

    table = Table("table", "rows", "measured again", box=None, header_style="bold")
    for name in saved.table_names():
        table.add_row(name, str(len(getattr(saved, name))), differing.get(name, "the same"))
    for file, difference in texts.items():
        table.add_row(file, "", difference)
    standard_output().print(table)
