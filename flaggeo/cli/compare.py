"""`flaggeo compare`: how far the subspaces of two checkpoints lie apart."""

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
    from ..comparison import Comparison

# Rows of the ranked table that a terminal gets; the page and the tables have all.
SHOWN_ROWS = 12


def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="The base: a checkpoint, or the folder of a saved analysis.")
    ],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="The other: the same, or the folder of a LoRA adapter of A.")
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="DIR", help="Folder for the page and the tables.  [default: A-B-comparison]"
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
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier comparison in DIR.")] = False,
) -> None:
    """Measure how far the subspaces of two versions of a network are apart; write a page and tables."""
    folder = output or Path(f"{_name(first)}-{_name(second)}-comparison")
    with errors_reported(verbose):
        with usage_errors():
            from ..results.storage import COMPARISON_NAMES, require_replaceable

            require_replaceable(folder, overwrite=overwrite, names=COMPARISON_NAMES)
            require_settings(rank, draws, device)
        from ..comparison import MismatchError
        from ..comparison import compare as run
        from ..page import render_comparison

        with progress_bar(quiet) as show, scratch_beside(folder) as scratch, usage_errors((MismatchError,)):
            comparison = run(
                first,
                second,
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
            comparison.save(folder, report=render_comparison(comparison), overwrite=overwrite)
        if output_format is OutputFormat.JSON:
            typer.echo(json.dumps(_record(comparison, folder), indent=2))
        elif not quiet:
            _print(comparison, folder)


def _name(path: Path) -> str:
    return path.stem or path.resolve().name


def _record(comparison: "Comparison", folder: Path) -> dict[str, object]:
    from ..findings import comparison_findings

    return {
        "output": str(folder),
        "provenance": dict(comparison.provenance),
        "findings": [finding.as_dict() for finding in comparison_findings(comparison)],
        "ranked": json.loads(comparison.ranked.to_json(orient="records")),
        "observables": json.loads(comparison.observables.to_json(orient="records")),
    }


def _print(comparison: "Comparison", folder: Path) -> None:
    from rich.table import Table

    from ..findings import SAME_ANGLE, comparison_findings
    from ..results.storage import COMPARISON_REPORT_FILE

    console = standard_output()
    for remark in comparison.provenance["remarks"]:
        console.print(f"note: {remark}")
    for item in comparison.skipped.itertuples():
        console.print(f"note: {item.name} was not compared: {item.reason}")
    ranked = comparison.ranked
    moved = ranked[ranked["rms_angle"] >= SAME_ANGLE].head(SHOWN_ROWS)
    numbers = {"rms angle": "rms_angle", "overlap": "overlap", "unrelated": "null_mean"}
    numbers |= {"flag distance": "flag_distance", "first angle": "angle_1", "|B - A|/|A|": "relative_norm"}
    table = Table("weight", "side", *numbers, "rank of B - A", box=None, header_style="bold")
    for column in table.columns[2:]:
        column.justify = "right"
    for row in moved.to_dict("records"):
        table.add_row(
            row["name"],
            row["side"],
            *("–" if row[column] != row[column] else f"{row[column]:.3f}" for column in numbers.values()),
            str(row["change_rank"]).replace("<NA>", "–"),
        )
    if len(moved):
        console.print(table)
        console.print("Angles and distances are those of the leading subspaces, in radians; unrelated ones overlap by")
        console.print("the value in the column unrelated.\n")
    for finding in comparison_findings(comparison):
        console.print(f"- {finding}")
    console.print(f"\ntables: {folder}\npage:   {folder / COMPARISON_REPORT_FILE}", soft_wrap=True)
