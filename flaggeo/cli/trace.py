"""`flaggeo trace`: how alignment comes about over the checkpoints of one run."""

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from ..display import printable
from .run import Run, measuring, stem
from .terminal import LOADING, errors_reported, number, usage_errors, waiting

if TYPE_CHECKING:
    from rich.console import Console

    from ..results import Trace


@measuring(lambda checkpoints: f"{stem(checkpoints[0])}-trace")
def trace(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Checkpoints of one run, or one folder with numbered checkpoints in it; ordered by the numbers in "
            "their names, else as given.",
        ),
    ],
    run: Run,
) -> None:
    """Follow continuity, drift and spectra over the checkpoints of one run, and write a page and tables.

    Settings that are not given are those of a saved analysis, if one of the checkpoints is one.
    """
    with errors_reported(run.verbose):
        with waiting(LOADING, run.quiet, in_lines=False):
            from ..comparison import MismatchError
            from ..results import Trace
            from ..tracing import trace as measure
            from ..tracing.run import steps_of

            options = run.options(Trace)
        with usage_errors():
            steps = steps_of(checkpoints)
        sources, numbers = [step.source for step in steps], [step.number for step in steps]
        with usage_errors((MismatchError,)):
            found = run.measured(partial(measure, sources, steps=numbers, **options), checkpoints)
        run.tell(found, ["checkpoints", "milestones", "summary"], _show)


def _show(console: "Console", found: "Trace") -> None:
    from rich.table import Table

    for remark in found.provenance["remarks"]:
        console.print(printable(f"note: {remark}"))
    for item in found.skipped.itertuples():
        console.print(printable(f"note: drift of {item.name} was not measured: {item.reason}"))
    rows = found.milestones[found.milestones["quantity"] == "abs_cos_1"]
    if len(rows):
        table = Table("role", "side", "first", "last", "change", "half done by step", box=None, header_style="bold")
        table.title = "continuity across layers over training: mean |cos| over the layer pairs"
        table.title_justify = "left"
        for column in table.columns[2:]:
            column.justify = "right"
        for row in rows.to_dict("records"):
            numbers = (number(row[column], ".3f") for column in ("first", "last", "change"))
            table.add_row(row["role"], row["side"], *numbers, number(row["half_step"]))
        console.print(table)
        console.print(
            f"Unrelated (Haar) directions give {found.summary['abs_cos_1_null_mean'].iloc[0]:.3f} on average.\n"
        )
