"""`flaggeo analyze`: how the subspaces of one checkpoint are aligned."""

from collections.abc import Iterable, Mapping
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

    from ..findings import Card
    from ..results import Analysis


# Columns of the table, by their headings: those of every run, and those that --verbose adds.
_SHOWN = {
    "|cos| 1st": "abs_cos_1",
    "largest null": "largest_null",
    "excess": "abs_cos_1_excess",
    "overlap": "overlap",
    "unrelated": "overlap_null_mean",
}
_VERBOSE = {
    "|cos| 1st": "abs_cos_1",
    "unrelated": "abs_cos_1_null_mean",
    "effect size": "abs_cos_1_effect_size",
    "mean-matched": "abs_cos_1_mean_matched_mean",
    "norm-matched": "abs_cos_1_norm_matched_mean",
    "sign-flip": "abs_cos_1_sign_flip_mean",
    "excess": "abs_cos_1_excess",
    "equalised": "abs_cos_1_equalised",
    "|cos| 2nd": "abs_cos_2",
    "overlap": "overlap",
    "unrelated overlap": "overlap_null_mean",
}
# Nulls of |cos|, of which the first is that of unrelated directions.
_NULLS = tuple(f"abs_cos_1_{null}_mean" for null in ("null", "mean_matched", "norm_matched", "sign_flip"))
# Colours of the verdicts, which a pipe does not get.
_COLOURS = {"present": "green", "small": "dim", "absent": "dim", "not_measured": "cyan"}
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
        with waiting(LOADING, run.quiet):
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
        has_card = any(card.verdict != "not_measured" for card in _cards(analysis))
        run.tell(analysis, ["summary"], partial(_show, verbose=run.verbose), sentences=run.verbose or not has_card)
        for failure in analysis.provenance["failed"]:
            say(f"flaggeo: {failure}; what needs it is left out, and the layers beside it count as neighbours")
        if analysis.provenance["failed"]:
            raise typer.Exit(INCOMPLETE)


def _show(console: "Console", analysis: "Analysis", *, verbose: bool) -> None:
    if not analysis.summary.empty:
        console.print(_summary_table(analysis.summary, _VERBOSE if verbose else _SHOWN))
        console.print()
    if not verbose:
        console.print(_verdicts(_cards(analysis)))
        return
    from ..graph.alignment_graph import FALSE_DISCOVERY_RATE

    console.print(_LEGEND.format(rate=FALSE_DISCOVERY_RATE), soft_wrap=True)
    if analysis.settings.draws:
        console.print(_EQUALISED_LEGEND, soft_wrap=True)
    console.print(f"\nlargest residual of a singular triplet: {analysis.weights['residual'].max():.1e}")
    for item in analysis.skipped.itertuples():
        console.print(printable(f"not used: {item.tensor}: {item.reason}"))
    console.print(f"{len(analysis.skipped)} tensors not used; run flaggeo inspect to see why\n")


def _cards(analysis: "Analysis") -> "list[Card]":
    """Those of the page, and what the graph answers that has none there."""
    from ..findings import graph_findings
    from ..findings.cards import cards
    from ..page import report_cards

    of_graph = graph_findings(analysis.structure) if "structure" in analysis.settings.measure else []
    return report_cards(analysis) + cards(of_graph, {})


def _verdicts(cards: "Iterable[Card]") -> "Table":
    """What the page opens with, a line each."""
    from rich.table import Column, Table
    from rich.text import Text

    verdicts = Table(Column(no_wrap=True), Column(), box=None, show_header=False)
    for card in cards:
        badge = Text(printable(card.badge), style=_COLOURS.get(card.verdict, "yellow"))
        verdicts.add_row(badge, f"{card.title}: {card.told} ({card.baseline})")
    return verdicts


def _summary_table(summary: "pd.DataFrame", columns: Mapping[str, str]) -> "Table":
    from rich.table import Table

    shown = summary.assign(largest_null=summary[list(_NULLS)].max(axis=1))[summary["shared_space"]]
    numbers = {heading: column for heading, column in columns.items() if not shown[column].isna().all()}
    title = "mean over neighbouring layers"
    table = Table("role", "side", *numbers, "significant", "channels", box=None, header_style="bold", title=title)
    table.title_justify = "left"
    for column in table.columns[2:]:
        column.justify = "right"
    for row in shown.to_dict("records"):
        table.add_row(
            str(row["role"]),
            str(row["side"]),
            *(number(row[column], ".3f") for column in numbers.values()),
            f"{row['significant_pairs']} of {row['layer_pairs']}",
            f"{row['channels']:.0f} of {row['dim']}",
        )
    return table
