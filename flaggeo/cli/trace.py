"""`flaggeo trace`: how alignment comes about over the checkpoints of one run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .terminal import (
    Device,
    Draws,
    FoldNorms,
    Format,
    Heads,
    Layers,
    OutputFormat,
    Quiet,
    Roles,
    SavedRank,
    Seed,
    Verbose,
    errors_reported,
    parse_layers,
    parse_roles,
    progress_bar,
    require_settings,
    scratch_beside,
    standard_output,
    usage_errors,
)

if TYPE_CHECKING:
    from ..tracing import Trace


def trace(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="Checkpoints of one run, or one folder with numbered checkpoints in it; ordered by the numbers in "
            "their names, else as given.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for the page and the tables.  [default: NAME-trace]"
        ),
    ] = None,
    rank: SavedRank = None,
    roles: Roles = None,
    layers: Layers = None,
    heads: Heads = False,
    fold_norms: FoldNorms = False,
    draws: Draws = 0,
    seed: Seed = 0,
    device: Device = "cpu",
    output_format: Format = OutputFormat.TABLE,
    quiet: Quiet = False,
    verbose: Verbose = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier trace in DIR.")] = False,
) -> None:
    """Follow continuity, drift and spectra over the checkpoints of one run; write a page and tables."""
    folder = output or Path(f"{checkpoints[0].stem or checkpoints[0].resolve().name}-trace")
    with errors_reported(verbose):
        with usage_errors():
            from ..results.storage import TRACE_NAMES, require_replaceable
            from ..tracing.run import steps_of

            require_replaceable(folder, overwrite=overwrite, names=TRACE_NAMES)
            require_settings(rank, draws, device)
            steps = steps_of(checkpoints)
        from ..comparison import MismatchError
        from ..page import render_trace
        from ..tracing import trace as run

        with progress_bar(quiet) as show, scratch_beside(folder) as scratch, usage_errors((MismatchError,)):
            found = run(
                [step.source for step in steps],
                steps=[step.number for step in steps],
                rank=rank,
                roles=parse_roles(roles),
                layers=None if layers is None else [layer for part in parse_layers(layers) for layer in part],
                heads=heads or None,
                fold_norms=fold_norms or None,
                draws=draws or None,
                seed=seed or None,
                device=device,
                progress=show,
                scratch=scratch,
            )
            found.save(folder, report=render_trace(found), overwrite=overwrite)
        if output_format is OutputFormat.JSON:
            typer.echo(json.dumps(_record(found, folder), indent=2))
        elif not quiet:
            _print(found, folder)


def _record(found: "Trace", folder: Path) -> dict[str, object]:
    from ..findings import trace_findings

    return {
        "output": str(folder),
        "provenance": dict(found.provenance),
        "findings": [finding.as_dict() for finding in trace_findings(found)],
        "checkpoints": json.loads(found.checkpoints.to_json(orient="records")),
        "milestones": json.loads(found.milestones.to_json(orient="records")),
        "summary": json.loads(found.summary.to_json(orient="records")),
    }


def _print(found: "Trace", folder: Path) -> None:
    from rich.table import Table

    from ..findings import trace_findings
    from ..results.storage import TRACE_REPORT_FILE

    console = standard_output()
    for remark in found.provenance["remarks"]:
        console.print(f"note: {remark}")
    for item in found.skipped.itertuples():
        console.print(f"note: drift of {item.name} was not measured: {item.reason}")
    rows = found.milestones[found.milestones["quantity"] == "abs_cos_1"]
    if len(rows):
        table = Table("role", "side", "first", "last", "change", "half of it by step", box=None, header_style="bold")
        table.title, table.title_justify = (
            "continuity across layers over training: mean |cos| over the layer pairs",
            "left",
        )
        for column in table.columns[2:]:
            column.justify = "right"
        for row in rows.to_dict("records"):
            numbers = (f"{row[column]:.3f}" for column in ("first", "last", "change"))
            table.add_row(row["role"], row["side"], *numbers, str(row["half_step"]).replace("<NA>", "–"))
        console.print(table)
        console.print(f"Unrelated (Haar) directions give {found.summary['null_mean'].iloc[0]:.3f} on average.\n")
    for finding in trace_findings(found):
        console.print(f"- {finding}")
    console.print(f"\ntables: {folder}\npage:   {folder / TRACE_REPORT_FILE}", soft_wrap=True)
