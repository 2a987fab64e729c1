import re

import pytest

from flaggeo import Analysis, Comparison, Trace, analyze, compare, load, trace
from flaggeo.page.figure import FIGURES, render_figure
from tests.builders import CONFIG, related_llama

MAGIC = {"svg": b"<svg", "png": b"\x89PNG\r\n", "pdf": b"%PDF-"}


@pytest.fixture(scope="module")
def analysis():
    return analyze(load(related_llama(layers=4), config=CONFIG | {"num_hidden_layers": 4}), rank=2, measure="all")


@pytest.mark.parametrize("file_format", MAGIC)
@pytest.mark.parametrize("name", FIGURES[Analysis])
def test_every_figure_comes_in_every_format(analysis, name, file_format):
    assert render_figure(analysis, name, file_format).startswith(MAGIC[file_format])


def test_a_figure_has_the_marks_of_its_data(analysis):
    graph = analysis.graph
    drawn = render_figure(analysis, "graph").decode()
    nodes = sum(degree > 0 for _, degree in graph.degree())
    dots = re.search(r'<g class="mark-symbol role-mark dots".*?</g>', drawn, re.DOTALL)[0]
    assert dots.count("<path") == nodes
    shared = analysis.continuity[analysis.continuity["shared_space"]]
    points = render_figure(analysis, "continuity").decode().count('aria-roledescription="point"')
    curves = analysis.interfaces_by_rank
    means = len(curves[~curves["kind"].str.contains("group")].groupby(["kind", "k"]))
    assert render_figure(analysis, "interface-curves").decode().count('aria-roledescription="point"') == means
    assert points == shared["abs_cos_1"].notna().sum() + shared["overlap"].notna().sum()


@pytest.fixture(scope="module")
def others():
    states = [related_llama(), related_llama(seed=1)]
    options = {"rank": 2, "roles": ["q"], "measure": "continuity"}
    return {Comparison: compare(*states, **options), Trace: trace(states, **options)}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in (Comparison, Trace) for name in FIGURES[kind]])
def test_comparisons_and_traces_have_figures_of_their_own(others, kind, name):
    assert render_figure(others[kind], name).startswith(MAGIC["svg"])


def test_figures_of_other_results_have_the_marks_of_their_data(others):
    cells = 'aria-roledescription="rect mark"'
    drawn = render_figure(others[Comparison], "tensors").decode()
    assert drawn.count(cells) == others[Comparison].tensors["layer"].notna().sum()
    drift = others[Trace].drift
    for since in ("first", "previous"):
        drawn = render_figure(others[Trace], "drift", settings={"from": since}).decode()
        assert drawn.count(cells) == (drift["since"] == since).sum()


def arcs(drawn):
    return re.search(r'<g class="mark-path role-mark arcs".*?</g>', drawn.decode(), re.DOTALL)[0].count("<path")


def test_controls_can_be_set_and_the_figure_says_how_they_are(analysis):
    edges = [edge for *_, edge in analysis.graph.edges(data=True)]
    kept = render_figure(analysis, "graph", settings={"threshold": 0, "kind": "write-read"})
    assert arcs(kept) == sum(edge["kind"] == "write-read" and edge["overlap_excess"] >= 0 for edge in edges)
    assert "Kind write-read" in kept.decode()
    assert arcs(render_figure(analysis, "graph", settings={"threshold": "0"})) > arcs(kept) > 0


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (("poem",), {}, "figure among continuity, graph, matrix, heads, interfaces, interface-curves; found 'poem'"),
        (("graph", "gif"), {}, "expected a format among svg, png, pdf; found 'gif'"),
        (("graph",), {"threshold": "much"}, "threshold: expected a number from 0 to .*; found 'much'"),
        (("graph",), {"threshold": 7}, "threshold: expected a number"),
        (("graph",), {"kind": "odd"}, "kind: expected one of all kinds, write-read, .*; found 'odd'"),
        (("graph",), {"colour": 1}, "graph: expected a setting among threshold, kind, spaces, search; found 'colour'"),
        (("continuity",), {"kind": 1}, "continuity: expected a setting among none; found 'kind'"),
    ],
)
def test_what_is_not_there_is_named(analysis, arguments, settings, words):
    with pytest.raises(ValueError, match=words):
        render_figure(analysis, *arguments, settings=settings)


def test_an_analysis_without_heads_has_no_figure_of_them():
    without = analyze(load(related_llama(), config=CONFIG), rank=2, roles=["q"])
    with pytest.raises(ValueError, match=r"nothing to draw in 'heads': it measured continuity, pairs$"):
        render_figure(without, "heads")


def test_an_empty_chart_of_what_was_measured_says_why():
    """One weight has no other to be compared with."""
    measure = ["continuity", "pairs", "interfaces"]
    alone = analyze(load(related_llama(), config=CONFIG), rank=2, roles=["q"], layers=0, measure=measure)
    figures = {name: figure for name, figure in FIGURES[Analysis].items() if figure.needs in measure and figure.empty}
    assert len(figures) == 5
    for name, figure in figures.items():
        with pytest.raises(ValueError, match=f"nothing to draw in '{name}': {figure.empty}$"):
            render_figure(alone, name)
