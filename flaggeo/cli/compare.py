"""`flaggeo compare`: what changed from one checkpoint to another, and how far the subspaces lie apart."""

from dataclasses import replace
from enum import StrEnum
from math import degrees
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..display import printable
from .inspect import print_remarks
from .run import Run, measuring, stem
from .terminal import (
    DIFFERENT,
    FAILED,
    INCOMPLETE,
    LOADING,
    errors_reported,
    fail,
    number,
    say,
    usage_errors,
    waiting,
)

if TYPE_CHECKING:
    from rich.console import Console

    from ..results import Comparison

# Rows of a table that a terminal gets; the page and the tables have all.
SHOWN_ROWS = 12

_LEGEND = (
    "rms angle: root mean square of the principal angles between the leading subspaces; first angle: angle between\n"
    "the first singular vectors; flag distance: length of the shortest path from the nested subspaces of the leading\n"
    "1, 2, 4 ... directions in A to those in B; unrelated: mean overlap of unrelated (Haar) subspaces.\n"
)


_INSIDE = ("read_inside", "read_inside_null", "write_inside", "write_inside_null")


class Recipe(StrEnum):
    """What other tools take."""

    MERGEKIT = "mergekit"
    PEFT_RANK_PATTERN = "peft-rank-pattern"


@measuring(lambda first, second, other, **_: "-".join([*map(stem, filter(None, (first, second, other))), "comparison"]))
def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="The base: a checkpoint, or the folder of a saved analysis.")
    ],
    second: Annotated[
        str, typer.Argument(metavar="B", help="The other: the same, or the folder of a LoRA adapter of A.")
    ],
    other: Annotated[
        str | None,
        typer.Argument(metavar="C", help="A further fine-tuning of A: do its changes share subspaces with those of B?"),
    ] = None,
    *,
    recipe: Annotated[
        Recipe | None,
        typer.Option(
            "--to",
            help="Print nothing but what this tool takes: which tensors changed, or of which rank. A folder is written "
            "only if --output names it.",
        ),
    ] = None,
    exit_code: Annotated[
        bool,
        typer.Option(
            "--exit-code", help="Exit with 4 if a tensor changed beyond storage precision, with 0 if none did."
        ),
    ] = False,
    run: Run,
) -> None:
    """Say which tensors of a checkpoint changed, by how much and of which rank, and how far its subspaces moved.

    Settings that are not given are those of a saved analysis, if one of the two is one.
    """
    run = replace(run, saves=recipe is None or not run.is_default)
    with errors_reported(run.verbose):
        with waiting(LOADING, run.quiet):
            from ..checkpoint import is_adapter
            from ..comparison import Comparison, MismatchError
            from ..comparison import compare as measure
            from ..comparison.recipes import RECIPES, require_versions, without_rank
            from ..comparison.tensors import CHANGED

            options = run.options(Comparison)
        sources = [first, second, *([] if other is None else [other])]
        with usage_errors():
            if recipe is not None or exit_code:
                _require_tensors(sources)
            if recipe is not None:
                adapters = [source for source in sources[1:] if is_adapter(Path(source))]
                require_versions(recipe, tuned=len(sources[1:]), adapters=adapters)

        def measured(**how: Any) -> Comparison:
            found = measure(first, second, other=other, **options, **how)
            if recipe is not None:
                try:
                    RECIPES[recipe](found)
                except ValueError as error:  # before anything is saved
                    fail(error, FAILED, run.verbose)
            return found

        with usage_errors((MismatchError,)):
            comparison = run.measured(measured, sources)
        if recipe is None:
            run.tell(comparison, ["tensors", "interference", "ranked", "observables"], _show, sentences=False)
        else:
            typer.echo(RECIPES[recipe](comparison), nl=False)
            if recipe is Recipe.PEFT_RANK_PATTERN:
                print_remarks(filter(None, [without_rank(comparison)]), run.quiet)
        for failure in comparison.provenance["failed"]:
            say(f"flaggeo: {failure}; what needs it is left out")
        if exit_code and comparison.tensors["change"].isin(CHANGED).any():
            raise typer.Exit(DIFFERENT)
        if comparison.provenance["failed"] and not exit_code:
            raise typer.Exit(INCOMPLETE)


def _require_tensors(sources: list[str]) -> None:
    """Raise unless there are tensors to say something of."""
    from ..comparison import MismatchError
    from ..results import Analysis

    for source in sources:
        if Analysis.is_in(source):
            raise MismatchError(f"{source}: expected a checkpoint for --to and --exit-code, found a saved analysis")


def _show(console: "Console", comparison: "Comparison") -> None:
    of_files = [finding for finding in comparison.findings if finding.place in ("tensors", "interference")]
    first = of_files or comparison.findings[:1]
    for finding in first:
        console.print(printable(str(finding)), soft_wrap=True)
    console.print()
    for remark in comparison.provenance["remarks"]:
        console.print(printable(f"note: {remark}"))
    for item in comparison.skipped.itertuples():
        console.print(printable(f"note: {item.name} was not compared: {item.reason}"))
    _show_tensors(console, comparison)
    _show_moves(console, comparison)
    for finding in comparison.findings:
        if finding not in first:
            console.print(printable(f"- {finding}"))


def _show_tensors(console: "Console", comparison: "Comparison") -> None:
    from rich.table import Table

    from ..comparison.tensors import CHANGED

    changed = comparison.tensors[comparison.tensors["change"].isin(CHANGED)]
    if changed.empty:
        return
    columns = ("|B - A|/|A|", "rank", "90 % in", "99 % in", "inputs inside", "unrelated", "outputs inside", "unrelated")
    table = Table("of", "tensor", "change", *columns, box=None, header_style="bold")
    table.title = f"largest changes: {min(SHOWN_ROWS, len(changed))} of the {len(changed)} tensors that changed"
    table.title_justify = "left"
    for column in table.columns[3:]:
        column.justify = "right"
    for row in changed.nlargest(SHOWN_ROWS, "relative_norm").to_dict("records"):
        inside = (number(row[name], ".2f") for name in _INSIDE)
        table.add_row(
            row["version"].upper(),
            row["tensor"],
            row["change"].replace("_", " "),
            number(row["relative_norm"], ".3g"),
            *(number(row[name]) for name in ("rank", "rank_90", "rank_99")),
            *inside,
        )
    console.print(table)
    console.print()


def _show_moves(console: "Console", comparison: "Comparison") -> None:
    from rich.table import Table

    from ..findings import moves

    moved = moves(comparison)
    columns = ("rms angle (°)", "first angle (°)", "flag distance (rad)", "overlap", "unrelated", "|B - A|/|A|")
    table = Table("weight", "side", *columns, "rank of B - A", box=None, header_style="bold")
    table.title = (
        f"largest moves: {min(SHOWN_ROWS, len(moved))} of the {len(moved)} subspaces that moved by more than rounding"
    )
    table.title_justify = "left"
    for column in table.columns[2:]:
        column.justify = "right"
    for row in moved.head(SHOWN_ROWS).to_dict("records"):
        angles = (number(degrees(row[column]), ".2f") for column in ("rms_angle", "angle_1"))
        others = ("flag_distance", "overlap", "overlap_null_mean", "relative_norm")
        numbers = (number(row[column], ".3f") for column in others)
        table.add_row(row["name"], row["side"], *angles, *numbers, number(row["change_rank"]))
    if len(moved):
        console.print(table)
        console.print(_LEGEND, soft_wrap=True)
