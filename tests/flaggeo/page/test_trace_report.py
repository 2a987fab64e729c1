import json
import math
import re

import pytest

from flaggeo import Trace, render_trace, trace
from flaggeo.findings import trace_findings
from flaggeo.page.trace_report import heat_chart
from tests.builders import save_folder, tiny_llama
from tests.conftest import browser_only
from tests.flaggeo.tracing.planted_run import SHARES, STEPS, checkpoint

HOSTILE = "<img src=x onerror='window.hacked=1'>"


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / HOSTILE
    for step, share in zip(STEPS, SHARES, strict=True):
        save_folder(run / f"checkpoint-{step}", checkpoint(share))
    return trace(run, rank=3)


@pytest.fixture(scope="module")
def html(planted):
    return render_trace(planted)


@pytest.fixture
def page(html, open_page, tmp_path):
    (tmp_path / "trace.html").write_text(html)
    page = open_page(tmp_path / "trace.html")
    page.locator("body[data-ready=yes]").wait_for()
    yield page
    page.close()


def charts(html):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html)[1])["charts"]


def test_the_findings_say_when_continuity_rose_who_moved_and_how_far(planted):
    records = {record.kind: record for record in trace_findings(planted)}
    rose = records["continuity_change"]
    (up,) = [row for row in rose.numbers["roles"] if row["role"] == "up"]
    assert (rose.verdict, rose.numbers["side"], up["half_step"]) == ("rose", "read", 200)
    assert [up["first"], up["last"]] == pytest.approx([0, 1], abs=1e-5)
    steepest = records["steepest_change"].numbers
    assert [steepest[name] for name in ("role", "side", "from_step", "to_step")] == ["up", "read", 100, 200]
    # Directions that have gone a share of the way meet at sin^2 of it.
    sines = [math.sin(share * math.pi / 2) ** 2 for share in (0.2, 0.6)]
    assert [steepest["before"], steepest["after"]] == pytest.approx(sines, abs=1e-5)
    drift = records["drift"].numbers
    assert (drift["role"], drift["side"]) == ("up", "read")
    assert math.degrees(drift["rms_angle"]) == pytest.approx(90 / 3**0.5)
    move = records["largest_move_of_a_role"].numbers
    assert [move[name] for name in ("role", "side", "from_step", "to_step")] == ["up", "read", 100, 200]
    assert math.degrees(move["rms_angle"]) == pytest.approx(40 * 0.9 / 3**0.5)
    farthest = planted.drift.query("step == 1000 and since == 'first'").nlargest(1, "rms_angle").iloc[0]
    named = records["farthest_subspace"].numbers
    assert (named["name"], named["side"]) == (farthest["name"], farthest["side"])


def test_what_did_not_change_is_said_plainly():
    still = trace_findings(trace([tiny_llama()] * 2, rank=2))
    assert [(r.kind, r.verdict) for r in still] == [("continuity_change", "absent"), ("drift", "absent")]
    lonely = trace([tiny_llama(), tiny_llama(seed=1)], rank=2, roles=["q"], layers=[1])
    first = next(found for found in trace_findings(lonely) if found.kind == "continuity_change")
    assert first.verdict == "undetermined"
    assert first.sentence in render_trace(lonely)
    assert 'id="training-chart"' not in render_trace(lonely)


def test_a_heat_map_has_as_many_steps_as_can_be_told_apart(monkeypatch, planted):
    monkeypatch.setattr("flaggeo.page.trace_report._HEAT_STEPS", 3)
    assert {cell["step"] for cell in heat_chart(planted)["datasets"]["heat"]} == {0, 200, 1000}


def test_the_step_at_which_a_new_first_direction_took_over_comes_first():
    """The first direction of up turns by a right angle, and with it a third of the subspace."""
    states = [checkpoint(0.0), checkpoint(0.1), checkpoint(0.9)]
    found = trace_findings(trace(states, steps=(0, 7, 9), rank=3, roles=["up"], measure="continuity"))
    assert found[0].kind == "first_direction_replaced"
    (named,) = found[0].numbers["named"]
    assert (named["step"], named["since_step"], named["weights"]) == (9, 7, 3)
    assert named["where"] == [{"role": "up", "layers": [0, 1, 2]}]
    assert named["first_direction_degrees"] == pytest.approx(72, abs=1e-3)
    assert named["subspace_degrees"] == pytest.approx(72 / 3**0.5, abs=1e-3)
    update = next(one for one in found if one.kind == "update_rank").numbers
    assert (update["measure"], update["updates"], update["low_rank"], update["ranks"]) == ("effective", 6, 6, [2])


def test_a_falling_role_falls():
    found = trace_findings(trace([checkpoint(1.0), checkpoint(0.0)], rank=3))
    fell = next(one for one in found if one.kind == "continuity_change")
    (up,) = [row for row in fell.numbers["roles"] if row["role"] == "up"]
    assert (fell.kind, fell.verdict, fell.numbers["side"]) == ("continuity_change", "fell", "read")
    assert [up["first"], up["last"]] == pytest.approx([1, 0], abs=1e-5)


def test_the_charts_hold_the_numbers_of_the_tables(planted, html):
    found = charts(html)
    shared = planted.summary[planted.summary["shared_space"]]
    means = [row["value"] for row in found["training"]["datasets"]["rows"]]
    assert sorted(means) == sorted([*shared["abs_cos_1"].round(4), *shared["overlap"].round(4)])
    layers = planted.continuity[planted.continuity["shared_space"]]
    assert len(found["layers"]["datasets"]["rows"]) == 2 * len(layers)
    whole = planted.drift.query("since == 'first' and layer.notna()")
    assert len(found["drift"]["datasets"]["drift"]) == len(whole)
    cells = {(cell["panel"], cell["layer"], cell["step"]): cell for cell in found["heat"]["datasets"]["heat"]}
    assert len(cells) == len(whole)
    for name, angle in (("subspace", 36 / 3**0.5), ("direction", 36)):
        assert cells["up reads", 1, 200][f"{name}_previous"] == pytest.approx(angle, abs=0.01)
        assert cells["up reads", 1, 200][f"{name}_first"] == pytest.approx(1.5 * angle, abs=0.01)


def test_steps_over_orders_of_magnitude_get_a_logarithmic_axis():
    states = [tiny_llama(), tiny_llama(seed=1), tiny_llama(seed=2)]
    for steps, scale in (((0, 1, 5000), "symlog"), ((0, 1000, 5000), None)):
        found = charts(render_trace(trace(states, steps=steps, rank=2, roles=["q"])))
        assert found["training"]["spec"]["encoding"]["x"].get("scale", {}).get("type") == scale


def test_the_norm_matched_null_is_shown():
    html = render_trace(trace([tiny_llama(), tiny_llama(seed=1)], rank=2, roles=["q"]))
    assert ">norm-matched</th>" in html
    assert "norm_matched" in [layer.get("name") for layer in charts(html)["training"]["spec"]["layer"]]


def test_a_saved_trace_gives_the_same_page(planted, html, tmp_path):
    planted.save(tmp_path / "out")
    assert render_trace(Trace.load(tmp_path / "out")) == html
    assert (tmp_path / "out" / "trace.html").read_text() == html


def test_nothing_points_to_a_network_and_names_are_escaped(html):
    outside = html.split("<script>")[0] + html.rsplit("</script>", 1)[1]
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?\s*(?:https?:)?//""", outside)
    assert "default-src 'none'" in html
    assert HOSTILE not in html
    assert "<h1>&lt;img src=x" in html


@browser_only
@pytest.mark.browser
def test_the_slider_changes_what_is_shown(page, planted):
    cells = "#drift-chart svg path[aria-roledescription='rect mark']"
    dots = "#layers-chart svg path[aria-roledescription='point']"
    shared = planted.continuity[planted.continuity["shared_space"]]
    assert page.locator("#step-name").text_content() == "step 1000 (checkpoint-1000)"
    for place, step in enumerate(STEPS):
        page.locator("#step").fill(str(place))
        assert page.locator("#step-name").text_content() == f"step {step} (checkpoint-{step})"
        assert page.locator("#step").get_attribute("aria-valuetext") == f"step {step} (checkpoint-{step})"
        rows = planted.drift.query(f"step == {step} and since == 'first' and name == 'layers.1.up' and side == 'read'")
        angle = rows["rms_angle"].item() * 180 / 3.141592653589793
        label = f"layer: 1; role: up; root mean square angle, degrees: {round(angle, 2):g}"
        page.locator(f'{cells}[aria-label^="{label}"]').first.wait_for()
        values = sorted(shared.query(f"step == {step}")["abs_cos_1"].round(3))
        labels = [dot.get_attribute("aria-label") for dot in page.locator(dots).all()]
        shown = sorted(float(re.search(r"; value: ([\d.]+)", label)[1]) for label in labels if "|cos|" in label)
        assert shown == pytest.approx(values, abs=6e-4)
    assert page.complaints == []


@browser_only
@pytest.mark.browser
def test_the_distance_can_be_taken_from_the_checkpoint_before(page, planted):
    cells = page.locator("#drift-chart svg path[aria-roledescription='rect mark']")
    whole = planted.drift.query("step == 0 and since == 'first' and layer.notna()")
    assert cells.count() == len(whole)
    page.locator("#drift-controls select").select_option("previous")
    row = planted.drift.query("step == 1000 and since == 'previous' and name == 'layers.1.up' and side == 'read'")
    angle = round(row["rms_angle"].item() * 180 / 3.141592653589793, 2)
    label = f"layer: 1; role: up; root mean square angle, degrees: {angle:g}"
    page.locator(f'#drift-chart svg path[aria-label^="{label}"]').first.wait_for()
    page.locator("#step").fill("0")
    page.wait_for_function(
        "document.querySelectorAll(\"#drift-chart svg path[aria-roledescription='rect mark']\").length == 0"
    )
    assert page.complaints == []


@browser_only
@pytest.mark.browser
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_is_accessible_and_never_scrolls_sideways(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("window.hacked") is None
    assert page.get_by_role("slider", name="Checkpoint").count() == 1
    charts = page.locator("figure[aria-label] [role=graphics-document]")
    assert charts.count() == 5
    assert all(chart.get_attribute("aria-label") for chart in charts.all())
    assert page.complaints == []
