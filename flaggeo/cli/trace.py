"""`flaggeo trace`: what happened over the checkpoints of one run."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..display import printable
from .run import Run, measuring, stem
from .terminal import LOADING, errors_reported, number, usage_errors, waiting

if TYPE_CHECKING:
    from rich.console import Console

    from ..results import Trace

_TABLES = ["checkpoints", "events", "updates", "milestones", "summary"]
# Seconds between two looks at whether there are new records.
_BETWEEN_LOOKS = 1.0


@measuring(lambda checkpoints, **_: f"{stem(checkpoints[0])}-trace")
def trace(
    checkpoints: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Checkpoints of one run, or one folder with numbered checkpoints in it, ordered by the numbers in "
            "their names, else as given; or the folder of a flaggeo.Monitor.",
        ),
    ],
    *,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Write the page of a monitor's folder again with each new record, until it ends."),
    ] = False,
    run: Run,
) -> None:
    """Say what happened over the checkpoints of one run: new first directions, ranks of the updates, drift, continuity.

    Settings that are not given are those of a saved analysis, if one of the checkpoints is one. The records of a
    monitor have the settings of their run.
    """
    with errors_reported(run.verbose):
        with waiting(LOADING, run.quiet):
            from ..comparison import MismatchError
            from ..results import Trace
            from ..tracing import trace as measure
            from ..tracing.run import steps_of
            from ..training.monitor.records import is_monitored

            options = run.options(Trace)
        if len(checkpoints) == 1 and is_monitored(checkpoints[0]):
            _of_monitor(Path(checkpoints[0]), options, run, watch=watch)
            return
        with usage_errors():
            if watch:
                raise ValueError(f"--watch: expected the folder of a monitor; found {checkpoints[0]}")
            steps = steps_of(checkpoints)
        sources, numbers = [step.source for step in steps], [step.number for step in steps]
        with usage_errors((MismatchError,)):
            found = run.measured(partial(measure, sources, steps=numbers, **options), checkpoints)
        run.tell(found, _TABLES, _show, sentences=False)


def _of_monitor(folder: Path, options: dict[str, Any], run: Run, *, watch: bool) -> None:
    """The page of what a monitor has recorded, and again while it goes on recording."""
    from ..training.monitor.records import has_ended, steps_in
    from ..training.monitor.traced import monitored_trace

    with usage_errors():
        if options:
            given = ", ".join(f"--{name.replace('_', '-')}" for name in options)
            raise ValueError(
                f"{folder}: expected no {given} for the records of a monitor, which has settings of its own"
            )
    try:
        while True:
            has_been, there = has_ended(folder), steps_in(folder)
            if len(there) > 1 or has_been or not watch:
                found = run.measured(lambda **_: monitored_trace(folder))
                run.tell(found, _TABLES, _show, sentences=False)
            if not watch or has_been:
                return
            run = replace(run, overwrite=True, quiet=True) if len(there) > 1 else run
            while steps_in(folder) == there and not has_ended(folder):
                sleep(_BETWEEN_LOOKS)
    except KeyboardInterrupt:
        if not watch:
            raise


def _show(console: "Console", found: "Trace") -> None:
    from rich.table import Table

    first, *others = found.findings
    console.print(printable(str(first)), soft_wrap=True)
    console.print()
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
    for finding in others:
        console.print(printable(f"- {finding}"))
