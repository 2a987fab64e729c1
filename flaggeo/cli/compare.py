"""`flaggeo compare`: how far the subspaces of two checkpoints lie apart."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .run import Run, measuring, stem
from .terminal import errors_reported, usage_errors

if TYPE_CHECKING:
    from rich.console import Console

    from ..results import Comparison

# Rows of the ranked table that a terminal gets; the page and the tables have all.
SHOWN_ROWS = 12


@measuring(lambda first, second: f"{stem(first)}-{stem(second)}-comparison")
def compare(
    first: Annotated[
        Path, typer.Argument(metavar="A", help="The base: a checkpoint, or the folder of a saved analysis.")
    ],
    second: Annotated[
        Path, typer.Argument(metavar="B", help="The other: the same, or the folder of a LoRA adapter of A.")
    ],
    run: Run,
) -> None:
    """Measure how far the subspaces of two versions of a network are apart, and write a page and tables.

    Settings that are not given are those of a saved analysis, if one of the two is one.
    """
    with errors_reported(run.verbose):
        from ..comparison import Comparison, MismatchError
        from ..comparison import compare as measure

        options = run.options(Comparison)
        with usage_errors((MismatchError,)):
            comparison = run.measured(partial(measure, first, second, **options))
        run.tell(comparison, ["ranked", "observables"], _show)


def _show(console: "Console", comparison: "Comparison") -> None:
    from rich.table import Table

    from ..findings import SAME_ANGLE

    for remark in comparison.provenance["remarks"]:
        console.print(f"note: {remark}")
    for item in comparison.skipped.itertuples():
        console.print(f"note: {item.name} was not compared: {item.reason}")
    ranked = comparison.ranked
    moved = ranked[ranked["rms_angle"] >= SAME_ANGLE].head(SHOWN_ROWS)
    numbers = {"rms angle": "rms_angle", "overlap": "overlap", "unrelated": "overlap_null_mean"}
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
