import json
import re
from dataclasses import replace

import pandas as pd
import pytest

from flaggeo import Comparison, analyze, compare, load, render_comparison
from flaggeo.findings import comparison_findings
from tests.builders import CONFIG, related_llama, save_folder, tiny_llama
from tests.conftest import browser_only
from tests.flaggeo.checkpoint.test_adapter import factors_of, save_adapter

HOSTILE = "a<script>alert(1)<"


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    base = save_folder(folder / HOSTILE, related_llama(), config=CONFIG)
    modules = ("model.layers.1.self_attn.q_proj", "model.layers.2.mlp.down_proj")
    return compare(base, save_adapter(folder / "adapter", factors_of(related_llama(), modules)), rank=2)


@pytest.fixture(scope="module")
def html(comparison):
    return render_comparison(comparison)


def points(html):
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html)[1])
    return data["charts"]["drift"]["datasets"]["drift"]


def test_names_from_files_are_escaped(html):
    assert HOSTILE not in html
    assert "<h1>a&lt;script&gt;alert(1)&lt; and adapter</h1>" in html


def test_every_subspace_is_on_the_heat_map_and_the_low_rank_changes_in_their_table(html, comparison):
    drawn = {(point["name"], point["panel"]) for point in points(html)}
    whole = comparison.weights[comparison.weights["layer"].notna()]
    assert len(drawn) == len(whole) == len(points(html))
    for value in comparison.deltas.query("low_rank")["read_inside"]:
        assert f"{value:.3f}" in html
    for rms in comparison.ranked["rms_angle"].head(4):
        assert any(abs(point["degrees"] * 3.141592653589793 / 180 - rms) < 1e-9 for point in points(html))


def test_nothing_points_to_a_network(html):
    outside = html.split("<script>")[0] + html.rsplit("</script>", 1)[1]
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", outside)
    assert "default-src 'none'" in html


def test_a_saved_comparison_gives_the_same_page(html, comparison, tmp_path):
    comparison.save(tmp_path / "out")
    assert render_comparison(Comparison.load(tmp_path / "out")) == html
    assert (tmp_path / "out" / "comparison.html").read_text() == html


def test_the_largest_change_is_the_one_that_stands_out_in_its_own_measurement(comparison):
    """A count moves by many and a cosine by little; what counts is how either varies over the network."""
    rows = pd.DataFrame({"observable": ["some count", "some cosine"], "a": [500.0, 0.1], "b": [520.0, 0.4]}).assign(
        change=[20.0, 0.3], relative_change=[0.5, 6.0], mean_change=0.1, rows=9, at="layers.2.q.read"
    )
    (largest,) = measured_changes(replace(comparison, observables=rows))
    assert largest.numbers == {
        "observable": "some cosine",
        "at": "layers.2.q.read",
        "before": 0.1,
        "after": 0.4,
        "mean_change": 0.1,
        "relative_mean_change": pytest.approx(2.0),
        "rows": 9,
    }
    unchanged = replace(comparison, observables=rows.assign(relative_change=[0.0, float("nan")]))
    assert measured_changes(unchanged) == []


def measured_changes(comparison):
    return [record for record in comparison_findings(comparison) if record.kind == "largest_measured_change"]


def test_identical_and_frames_alone_are_said_plainly():
    identical = compare(tiny_llama(), tiny_llama(), rank=2)
    same = render_comparison(identical)
    assert comparison_findings(identical)[0].sentence in same
    assert {point["degrees"] > 1e-9 for point in points(same)} == {False}
    network = load(tiny_llama(), config=CONFIG)
    from_frames = compare(analyze(network, rank=2), network)
    assert comparison_findings(from_frames)[-1].verdict == "undetermined"
    assert comparison_findings(from_frames)[-1].sentence in render_comparison(from_frames)


@browser_only
@pytest.mark.browser
def test_the_page_draws_offline_without_a_request_or_a_complaint(html, open_page, tmp_path):
    (tmp_path / "comparison.html").write_text(html)
    page = open_page(tmp_path / "comparison.html")
    page.locator("body[data-ready]").wait_for()
    assert page.complaints == []
    cells = page.locator("#drift-chart svg path[aria-roledescription='rect mark']")
    assert cells.count() == len(points(html))
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.close()
