"""`flaggeo compare`: how far the subspaces of two checkpoints lie apart."""

from functools import partial
from math import degrees
from typing import TYPE_CHECKING, Annotated

import typer

from ..display import printable
from .run import Run, measuring, stem
from .terminal import LOADING, errors_reported, number, usage_errors, waiting

if TYPE_CHECKING:
    from rich.console import Console

    from ..results import Comparison

# Rows of the ranked table that a terminal gets; the page and the tables have all.
SHOWN_ROWS = 12

_LEGEND = (
    "rms angle: root mean square of the principal angles between the leading subspaces; first angle: angle between\n"
    "the first singular vectors; flag distance: length of the shortest path from the nested subspaces of the leading\n"
    "1, 2, 4 ... directions in A to those in B; unrelated: mean overlap of unrelated (Haar) subspaces.\n"
)


@measuring(lambda first, second: f"{stem(first)}-{stem(second)}-comparison")
def compare(
    first: Annotated[
        str, typer.Argument(metavar="A", help="The base: a checkpoint, or the folder of a saved analysis.")
    ],
    second: Annotated[
        str, typer.Argument(metavar="B", help="The other: the same, or the folder of a LoRA adapter of A.")
    ],
    run: Run,
) -> None:
    """Measure how far the subspaces of two versions of a network are apart, and write a page and tables.

    Settings that are not given are those of a saved analysis, if one of the two is one.
    """
    with errors_reported(run.verbose):
        with waiting(LOADING, run.quiet, in_lines=False):
            from ..comparison import Comparison, MismatchError
            from ..comparison import compare as measure

            options = run.options(Comparison)
        with usage_errors((MismatchError,)):
            comparison = run.measured(partial(measure, first, second, **options), [first, second])
        run.tell(comparison, ["ranked", "observables"], _show)


def _show(console: "Console", comparison: "Comparison") -> None:
    from rich.table import Table

    from ..findings import SAME_ANGLE

    for remark in comparison.provenance["remarks"]:
        console.print(printable(f"note: {remark}"))
    for item in comparison.skipped.itertuples():
        console.print(printable(f"note: {item.name} was not compared: {item.reason}"))
    ranked = comparison.ranked
    moved = ranked[ranked["rms_angle"] >= SAME_ANGLE]
    columns = ("rms angle (°)", "first angle (°)", "flag distance (rad)", "overlap", "unrelated", "|B - A|/|A|")
    table = Table("weight", "side", *columns, "rank of B - A", box=None, header_style="bold")
    table.title = f"largest moves: {min(SHOWN_ROWS, len(moved))} of the {len(moved)} subspaces that moved"
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
