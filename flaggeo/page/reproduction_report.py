"""Puts a reproduction, with a chart for each claim and Vega itself, into one file; and the charts into files."""

import math
from collections import Counter
from collections.abc import Iterable
from copy import deepcopy
from textwrap import wrap
from typing import Any

import pandas as pd

from ..claims import Claim, Judgement, Outcome, Reproduction, Verdict
from ..claims.catalogue import PAPERS
from .charts import Spec
from .figure import Format, drawn_all
from .parts import number, page_template, provenance_tables, read_spec, script

# Share of the range of the numbers of a chart that it leaves free at each end.
_MARGIN = 0.06
# Characters that stand beside each other in a chart as wide as a telephone.
_LINE, _LINE_HEIGHT = 56, 13


def render_reproduction(found: Reproduction) -> str:
    """Page of a reproduction: verdicts, and for each claim what was measured beside what it predicts.

    Parameters
    ----------
    found : Reproduction
        Measured just now, or loaded from its file.

    Returns
    -------
    html : str
        Self-contained: no request to a network.
    """
    judgements = {judgement.claim.name: judgement for judgement in found.judgements}
    counts = Counter(judgement.verdict for judgement in judgements.values())
    papers = {
        f"paper-{place}": (title, of_paper)
        for place, (title, claims) in enumerate(PAPERS.items(), start=1)
        if (of_paper := [judgements[name] for name in _names(claims) if name in judgements])
    }
    return page_template("reproduction.html.j2").render(
        title="What the papers claim, and what holds",
        about="reproduction",
        sections={"findings": "Verdicts"}
        | {anchor: title for anchor, (title, _) in papers.items()}
        | {"reading": "How to read the numbers"},
        subtitle=f"{len(judgements)} claims, {len(found.measured)} experiments of size {found.size}",
        counts=[(verdict, counts[verdict]) for verdict in Verdict if counts[verdict]],
        papers=papers,
        cases=_case_table,
        provenance=provenance_tables({"size": str(found.size), "versions": dict(found.versions)}),
        data=script({"charts": {name: chart for name, one in judgements.items() if (chart := claim_chart(one))}}),
    )


def claim_figures(found: Reproduction, file_format: Format = "svg") -> dict[str, bytes]:
    """The chart of every claim that was tested, on a white ground, by name of the claim.

    Raises
    ------
    PageError
        If Vega cannot draw them here.
    """
    charts = {one.claim.name: chart for one in found.judgements if (chart := claim_chart(one))}
    titled = [spec | {"background": "white", "title": _title(name)} for name, spec in charts.items()]
    return dict(zip(charts, drawn_all(titled, file_format), strict=True))


def claim_chart(judgement: Judgement) -> Spec | None:
    """Every seed of every case inside or outside the predicted range, a panel for each quantity; None without cases."""
    if not judgement.outcomes:
        return None
    by_quantity: dict[str, list[Outcome]] = {}
    for outcome in judgement.outcomes:
        by_quantity.setdefault(outcome.case.quantity, []).append(outcome)
    spec = read_spec("reproduction.vl.json")
    (panel,) = spec["concat"]
    spec["concat"] = [_panel(deepcopy(panel), quantity, outcomes) for quantity, outcomes in by_quantity.items()]
    return spec


def _panel(panel: Spec, quantity: str, outcomes: list[Outcome]) -> Spec:
    low, high = _span(outcomes)
    # Lines of a setting stand above its bar, each a mark of its own: the last is the nearest.
    settings = [wrap(_setting(outcome), _LINE) for outcome in outcomes]
    most = max(map(len, settings))
    lines = [[*reversed(of_setting), *[""] * (most - len(of_setting))] for of_setting in settings]
    text, *marks = panel["layer"]
    panel["layer"] = [_shifted(deepcopy(text), line) for line in range(most)] + marks
    panel["height"]["step"] += _LINE_HEIGHT * most
    panel["title"]["text"] = wrap(quantity, _LINE)
    panel["encoding"]["x"]["scale"]["domain"] = [low, high]
    panel["data"] = {
        "values": [
            {"setting": _setting(outcome), "expected": case.expected, "case": "holds" if outcome.holds else "fails"}
            | {"low": max(case.least, low), "high": min(case.most, high)}
            | {"earlier": None if case.reference is None else case.reference.mean}
            | {"seeds": list(case.experiment.seeds), "values": list(map(number, outcome.values))}
            | {f"line_{place}": line for place, line in enumerate(of_setting)}
            for outcome, of_setting in zip(outcomes, lines, strict=True)
            for case in [outcome.case]
        ]
    }
    return panel


def _shifted(text: Spec, line: int) -> Spec:
    text["mark"]["dy"] -= _LINE_HEIGHT * line
    text["encoding"]["text"] = {"field": f"line_{line}"}
    return text


def _span(outcomes: Iterable[Outcome]) -> tuple[float, float]:
    """What a panel shows, which is where an open range of a claim ends."""
    shown: list[float] = []
    for outcome in outcomes:
        earlier = [] if outcome.case.reference is None else [outcome.case.reference.mean]
        shown += filter(math.isfinite, [*outcome.values, outcome.case.least, outcome.case.most, *earlier])
    low, high = min(shown), max(shown)
    margin = _MARGIN * ((high - low) or abs(high) or 1)
    return low - margin, high + margin


def _setting(outcome: Outcome) -> str:
    return outcome.case.setting + ("" if outcome.case.stated else " (beyond the source)")


def _case_table(judgement: Judgement) -> pd.DataFrame:
    """Every case with all its seeds, as text."""
    columns: dict[str, list[Any]] = {
        "setting": [_setting(one) for one in judgement.outcomes],
        "number": [one.case.quantity for one in judgement.outcomes],
        "expected": [one.case.expected for one in judgement.outcomes],
        "measured": [one.measured for one in judgement.outcomes],
        "by seed": [", ".join(map(_digits, one.values)) for one in judgement.outcomes],
        "holds": [one.holds for one in judgement.outcomes],
        "paper": [one.case.paper for one in judgement.outcomes],
        "earlier": [_earlier(one) for one in judgement.outcomes],
    }
    return pd.DataFrame({name: cells for name, cells in columns.items() if any(cell != "" for cell in cells)})


def _earlier(outcome: Outcome) -> str:
    reference = outcome.case.reference
    if reference is None:
        return ""
    spread = "" if reference.deviation is None else f" ± {_digits(reference.deviation)}"
    return _digits(reference.mean) + spread


def _digits(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"


def _title(name: str) -> Spec:
    return {"text": name.replace("_", " "), "anchor": "start", "fontWeight": "normal", "fontSize": 13}


def _names(claims: Iterable[Claim]) -> list[str]:
    return [claim.name for claim in claims]
