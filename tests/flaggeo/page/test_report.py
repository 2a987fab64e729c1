import json
import re

import pytest
import torch

from flaggeo import Analysis, analyze, load, render_report
from tests.builders import CONFIG, related_llama, save_folder, tiny_llama
from tests.flaggeo.page.conftest import browser_only

HOSTILE = {
    "</script><script>window.hacked=1</script>": torch.ones(2),
    "<img src=x onerror='window.hacked=1'>": torch.ones(2),
    "\u2028'\"`${window.hacked=1}{{7*7}}": torch.ones(2),
}


@pytest.fixture(scope="module")
def analysis():
    return analyze(load(related_llama(layers=4) | HOSTILE, config=CONFIG | {"num_hidden_layers": 4}), rank=2)


@pytest.fixture(scope="module")
def html(analysis):
    return render_report(analysis)


@pytest.fixture
def page(html, open_page, tmp_path):
    (tmp_path / "report.html").write_text(html)
    page = open_page(tmp_path / "report.html")
    yield page
    page.close()


def arcs(page):
    return page.locator("#graph-chart g.arcs path").count()


@browser_only
@pytest.mark.browser
def test_the_page_draws_offline_without_a_request_or_a_complaint(page, analysis):
    assert page.complaints == []
    assert arcs(page) == analysis.graph.number_of_edges()  # fewer than the first view shows
    drawn = page.locator("#graph-chart g.dots path")
    assert drawn.count() == sum(degree > 0 for _, degree in analysis.graph.degree())
    label = drawn.first.get_attribute("aria-label")
    assert re.fullmatch(r"\S+\.(read|write), \d+ edges", label)
    assert page.locator("#continuity-chart svg").get_by_text("down writes").count() == 1


@browser_only
@pytest.mark.browser
def test_the_controls_do_what_they_say(page, analysis):
    edges = [edge for *_, edge in analysis.graph.edges(data=True)]
    page.locator("select").select_option("read-read")
    assert arcs(page) == sum(edge["kind"] == "read-read" for edge in edges)
    page.locator("select").select_option("all kinds")

    slider = page.locator("input[type=range]")
    middle = sorted(edge["adjusted_overlap"] for edge in edges)[len(edges) // 2]
    slider.fill(f"{middle:.2f}")
    shown = float(slider.input_value())
    assert arcs(page) == sum(round(edge["adjusted_overlap"], 4) >= shown for edge in edges)
    slider.fill("0")

    busiest, degree = max(analysis.graph.degree(), key=lambda item: item[1])
    page.locator(f'#graph-chart g.dots path[aria-label="{busiest}, {degree} edges"]').click()
    assert arcs(page) == degree < len(edges)
    page.locator("#graph-chart svg").click(position={"x": 5, "y": 5})
    assert arcs(page) == len(edges)
    assert page.complaints == []


@browser_only
@pytest.mark.browser
def test_hostile_names_stay_text(page):
    assert page.evaluate("window.hacked") is None
    page.locator("summary", has_text="not used").click()
    cells = page.locator("details[open] td").all_text_contents()
    for name in HOSTILE:
        assert any(name.strip() in cell for cell in cells)


@browser_only
@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_never_scrolls_sideways(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@browser_only
@pytest.mark.browser
def test_the_page_of_the_real_model_draws(smollm2_file, open_page, tmp_path):
    html = render_report(analyze(load(smollm2_file)))
    assert len(html) < 2_000_000
    (tmp_path / "report.html").write_text(html)
    page = open_page(tmp_path / "report.html")
    assert page.complaints == []
    assert 200 < arcs(page) <= 400
    page.close()


def test_a_page_without_pairs_still_renders(tmp_path, open_page):
    lonely = analyze(load(tiny_llama(), config=CONFIG), roles=["down"], layers=[1])
    (tmp_path / "report.html").write_text(render_report(lonely))
    page = open_page(tmp_path / "report.html")
    assert page.complaints == []
    assert "Too few weights share a space" in page.content()
    page.close()


def test_nothing_points_to_a_network(html):
    assert not re.findall(
        r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", html.split("<script>")[0] + html.rsplit("</script>", 1)[1]
    )
    assert "default-src 'none'" in html


def test_every_number_of_the_tables_is_on_the_page(html, analysis):
    for value in analysis.summary["abs_cos_1"]:
        assert f"{value:.3f}" in html
    specs = re.findall(r'vegaEmbed\("#\w+-chart", (\{.*\}), options\)', html)
    points = json.loads(specs[0])["datasets"]["continuity"]
    shared = analysis.continuity[analysis.continuity["shared_space"]]
    assert sorted(point["value"] for point in points) == sorted([*shared["abs_cos_1"], *shared["overlap"]])


@pytest.mark.parametrize("draws", [0, 2])
def test_the_margin_matched_null_is_drawn_where_it_was_measured(draws, open_page, tmp_path):
    measured = analyze(load(related_llama(), config=CONFIG), rank=2, draws=draws)
    html = render_report(measured)
    points = json.loads(re.search(r'vegaEmbed\("#continuity-chart", (\{.*\}), options\)', html)[1])
    values = {point["margin_matched"] for point in points["datasets"]["continuity"]}
    means = measured.nulls.query("null == 'margin_matched'")["mean"]
    assert values <= set(means) if draws else values == {None}
    assert ("margin-matched</th>" in html) == bool(draws)
    assert ("--draws 20" in html) == (not draws)
    (tmp_path / "report.html").write_text(html)
    page = open_page(tmp_path / "report.html")
    assert page.complaints == []
    lines = page.locator("#continuity-chart path[stroke-dasharray='1,3']").count()
    assert lines == (2 * 7 if draws else 0)
    page.close()


def test_the_page_can_be_made_from_a_saved_result(analysis, html, tmp_path):
    analysis.save(tmp_path / "out")
    assert render_report(Analysis.load(tmp_path / "out")) == html


def test_the_page_of_a_folder_is_titled_by_its_name(tmp_path):
    folder = save_folder(tmp_path / "my-model <b>", tiny_llama())
    assert "<h1>my-model &lt;b&gt;</h1>" in render_report(analyze(load(folder), roles=["q"]))
