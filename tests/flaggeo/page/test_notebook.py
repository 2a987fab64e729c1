import sys

import pytest

from flaggeo import analyze, load
from flaggeo.findings import Card
from flaggeo.page import render_cards
from tests.builders import CONFIG, related_llama


@pytest.fixture(scope="module")
def analysis():
    return analyze(load(related_llama(), config=CONFIG), rank=3)


def test_a_chart_is_a_picture_with_the_numbers_of_the_page(analysis):
    chart = analysis.chart("continuity")
    assert chart._repr_svg_().startswith("<svg")
    layers = {row["layer"] for rows in chart.spec["datasets"].values() for row in rows}
    assert layers == set(analysis.continuity["layer"])


def test_a_control_of_a_chart_can_be_set(analysis):
    threshold = {
        signal["name"]: signal["value"]
        for signal in analysis.chart("graph", threshold=0.3).spec["signals"]
        if "bind" in signal
    }
    assert threshold["threshold"] == 0.3
    with pytest.raises(ValueError, match="expected a figure among"):
        analysis.chart("beauty")


def test_a_chart_is_saved_in_the_format_of_its_name(analysis, tmp_path):
    analysis.chart("continuity").save(tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="expected a format among"):
        analysis.chart("continuity").save(tmp_path / "chart.txt")


def test_a_chart_in_vega_lite_is_one_of_altair(analysis):
    altair = pytest.importorskip("altair")
    chart = analysis.chart("continuity")
    assert isinstance(chart.altair(), altair.FacetChart)
    with pytest.raises(ValueError, match=r"found one in Vega.*use chart\.save"):
        analysis.chart("graph").altair()


def test_without_altair_its_extra_is_named(analysis, monkeypatch):
    monkeypatch.setitem(sys.modules, "altair", None)
    with pytest.raises(ModuleNotFoundError, match=r"flaggeo\[altair\]"):
        analysis.chart("continuity").altair()


def test_cards_escape_every_text(analysis, monkeypatch):
    hostile = Card("present", "<img src=x>", "<b>", "</li>", "&", "", "graph")
    monkeypatch.setattr("flaggeo.page.notebook.report_cards", lambda _: [hostile])
    shown = render_cards(analysis)
    assert "<img" not in shown
    assert shown.count("</li>") == 1
    assert "&amp;" in shown
