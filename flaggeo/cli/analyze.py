"""`flaggeo analyze`: how the subspaces of one checkpoint are aligned."""

from functools import partial
from typing import TYPE_CHECKING

import typer

from ..display import printable
from .inspect import Source, opened, print_remarks
from .options import HeadsPerLayer
from .run import Run, measuring, stem
from .terminal import INCOMPLETE, LOADING, errors_reported, number, say, usage_errors, waiting

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    from ..results import Analysis


_LEGEND = (
    "unrelated: exact mean for unrelated (Haar) directions; effect size: (|cos| - unrelated) / (1 - unrelated);\n"
    "significant: layer pairs whose |cos| 1st has a q-value of at most {rate:.0%}; channels: how many coordinates\n"
    "carry the first vector. A rotation of the stream changes the channels, not the cosines and overlaps.\n"
    "mean-matched: the part that a common mean of the entries makes is kept, the rest gets random signs;\n"
    "norm-matched: random matrices with the same row and column norms; sign-flip: random signs of the coordinates;\n"
    "excess: effect size over the largest null."
)
_EQUALISED_LEGEND = "equalised: |cos| with all channels brought to one norm."


@measuring(lambda path, **_: f"{stem(path)}-alignment")
def analyze(path: Source, heads_per_layer: HeadsPerLayer = None, *, run: Run) -> None:
    """Measure how the subspaces of a checkpoint are aligned, and write a page and tables."""
    with errors_reported(run.verbose):
        with waiting(LOADING, run.quiet, in_lines=False):
            from ..analysis import analyze as measure
            from ..results import Analysis
            from ..settings import Settings

            options = run.options(Analysis)
        network = opened(path, run.quiet, heads_per_layer)
        settings = Settings(**options)
        with usage_errors():
            chosen = settings.chosen(network)
        print_remarks(settings.remarks(chosen), run.quiet)
        analysis = run.measured(partial(measure, network, **options))
        run.tell(analysis, ["summary"], partial(_show, verbose=run.verbose))
        for failure in analysis.provenance["failed"]:
            say(f"flaggeo: {failure}; what needs it is left out")
        if analysis.provenance["failed"]:
            raise typer.Exit(INCOMPLETE)


def _show(console: "Console", analysis: "Analysis", *, verbose: bool) -> None:
    from ..graph.alignment_graph import FALSE_DISCOVERY_RATE

    if not analysis.summary.empty:
        console.print(_summary_table(analysis.summary))
        console.print(_LEGEND.format(rate=FALSE_DISCOVERY_RATE), soft_wrap=True)
        if analysis.settings.draws:
            console.print(_EQUALISED_LEGEND, soft_wrap=True)
        console.print()
    if verbose:
        console.print(f"largest residual of a singular triplet: {analysis.weights['residual'].max():.1e}")
        for item in analysis.skipped.itertuples():
            console.print(printable(f"not used: {item.tensor}: {item.reason}"))
    console.print(f"{len(analysis.skipped)} tensors not used; run flaggeo inspect to see why\n")


def _summary_table(summary: "pd.DataFrame") -> "Table":
    from rich.table import Table

    numbers = {"|cos| 1st": "abs_cos_1", "unrelated": "abs_cos_1_null_mean", "effect size": "abs_cos_1_effect_size"}
    numbers |= {"mean-matched": "abs_cos_1_mean_matched_mean"}
    numbers |= {"norm-matched": "abs_cos_1_norm_matched_mean", "sign-flip": "abs_cos_1_sign_flip_mean"}
    numbers |= {"excess": "abs_cos_1_excess"}
    if summary["abs_cos_1_equalised"].notna().any():
        numbers |= {"equalised": "abs_cos_1_equalised"}
    numbers |= {"|cos| 2nd": "abs_cos_2", "overlap": "overlap", "unrelated overlap": "overlap_null_mean"}
    table = Table(
        "role",
        "side",
        *numbers,
        "significant",
        "channels",
        box=None,
        header_style="bold",
        title="mean over neighbouring layers",
        title_justify="left",
    )
    for column in table.columns[2:]:
        column.justify = "right"
    for row in summary[summary["shared_space"]].to_dict("records"):
        table.add_row(
            str(row["role"]),
            str(row["side"]),
            *(number(row[column], ".3f") for column in numbers.values()),
            f"{row['significant_pairs']} of {row['layer_pairs']}",
            f"{row['channels']:.0f} of {row['dim']}",
        )
    return table
