import json
import math
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from flaggeo import Monitor, ResultError, Trace, trace
from flaggeo.training.monitor.traced import monitored_trace
from tests.conftest import browser_only
from tests.flaggeo.tracing.planted_run import SHARES, checkpoint
from tests.flaggeo.training.monitor.builders import Residual, assign, module_of, trained

PAIR = ("layers.0.up.read", "layers.1.up.read")
HOSTILE = "<img src=x onerror='window.hacked=1'>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / HOSTILE
    module = module_of(checkpoint(SHARES[0]))
    with Monitor(module, run, every=1, rank=3, pairs=[PAIR]) as monitor:
        for share in SHARES[1:]:
            assign(module, checkpoint(share))
            monitor.step()
    return run


@pytest.fixture(scope="module")
def traced(folder):
    return monitored_trace(folder)


def test_it_agrees_with_a_trace_of_the_same_weights(traced):
    saved = trace([checkpoint(share) for share in SHARES], rank=3)
    keys = {"continuity": ["step", "role", "side", "layer"], "drift": ["step", "name", "side", "since"]}
    keys |= {"weights": ["step", "name"], "updates": ["step", "name"], "summary": ["step", "role", "side"]}
    numbers = {"continuity": ["abs_cos_1", "abs_cos_2", "sigma2_weighted", "overlap", "overlap_effect_size"]}
    numbers |= {"drift": ["rms_angle", "angle_1", "geodesic_distance", "overlap", "overlap_null_mean"]}
    numbers |= {"weights": ["stable_rank", "frobenius_norm", "energy", "gap_1"]}
    numbers |= {"updates": ["since_step", "relative_norm", "stable_rank"]}
    numbers |= {"summary": ["abs_cos_1", "abs_cos_1_null_mean", "abs_cos_1_effect_size", "abs_cos_1_z", "overlap"]}
    moved = saved.updates[saved.updates["relative_norm"] > 1e-6]
    saved = replace(saved, updates=moved)
    for name, columns in numbers.items():
        expected, found = (getattr(one, name).set_index(keys[name])[columns] for one in (saved, traced))
        assert np.allclose(found.loc[expected.index], expected, atol=1e-6, equal_nan=True), name
        assert set(found.index) >= set(expected.index)


def test_its_findings_are_those_of_the_weights(traced):
    drift = next(one for one in traced.findings if one.kind == "drift")
    assert (drift.numbers["role"], drift.numbers["side"]) == ("up", "read")
    assert math.degrees(drift.numbers["rms_angle"]) == pytest.approx(90 / 3**0.5)
    rose = next(one for one in traced.findings if one.kind == "continuity_change")
    (up,) = [row for row in rose.numbers["roles"] if row["role"] == "up"]
    assert [up["first"], up["last"]] == pytest.approx([0, 1], abs=1e-5)
    assert set(traced.summary["role"]) >= {"up", "update.up"}
    update = next(one for one in traced.findings if one.kind == "update_rank")
    assert update.numbers["measure"] == "stable"
    assert traced.events.empty  # by 36 degrees at most


def test_it_tells_where_a_new_first_direction_took_over(tmp_path):
    module = module_of(checkpoint(0.0))
    with Monitor(module, tmp_path / "run", every=1, rank=3, updates=False) as monitor:
        assign(module, checkpoint(0.7))
        monitor.step()
    found = monitored_trace(tmp_path / "run")
    assert found.updates.empty
    assert set(found.events["role"] + "." + found.events["side"]) == {"up.read"}
    assert found.events["first_direction_degrees"].tolist() == pytest.approx([63] * 3, abs=1e-3)
    assert found.findings[0].kind == "first_direction_replaced"


def test_it_is_saved_and_loaded_and_its_page_shows_pairs_and_interfaces(traced, tmp_path):
    traced.save(tmp_path / "out")
    again = Trace.load(tmp_path / "out")
    assert again.pairs["overlap"].tolist() == pytest.approx(traced.pairs["overlap"].tolist())
    html = again.to_html()
    assert {"pairs", "interfaces", "drift", "weights"} <= set(re.findall(r'<h2 id="(\w+)"', html))
    assert "imbalance on the common window" in html
    assert "Kempf-Ness" not in html
    assert HOSTILE not in html
    charts = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', html)[1])["charts"]
    assert {"heat", "training", "layers", "drift", "weights"} == set(charts)


@browser_only
@pytest.mark.browser
def test_its_page_draws(traced, open_page, tmp_path):
    (tmp_path / "trace.html").write_text(traced.to_html())
    page = open_page(tmp_path / "trace.html")
    page.locator("body[data-ready=yes]").wait_for()
    assert page.complaints == []
    page.close()


def test_long_runs_are_shown_in_part_and_what_is_stale_is_missing(folder, monkeypatch):
    monkeypatch.setattr("flaggeo.training.monitor.traced._MOST_SHOWN", 3)
    few = monitored_trace(folder)
    assert few.checkpoints["step"].tolist() == [0, 2, 4]
    assert any("3 of 5 records" in remark for remark in few.provenance["remarks"])
    assert few.drift.query("since == 'previous'")["rms_angle"].isna().all()
    assert few.drift.query("since == 'first'")["rms_angle"].notna().all()
    few.to_html()


def test_one_record_is_no_course(tmp_path):
    Monitor(module_of(checkpoint(0)), tmp_path, rank=3).close()
    with pytest.raises(ResultError, match="expected at least 2 records of a monitor, found 1"):
        monitored_trace(tmp_path)


@pytest.mark.parametrize("spoilt", [{"remarks": 3}, {"settings": None}, {"settings": {"rank": "many"}}])
def test_a_provenance_that_makes_no_sense_is_one_line_that_names_the_run(folder, tmp_path, spoilt):
    run = tmp_path / "run"
    shutil.copytree(folder, run)
    record = json.loads((run / "monitor.json").read_text())
    record["provenance"] |= spoilt
    (run / "monitor.json").write_text(json.dumps(record))
    with pytest.raises(ResultError) as error:
        monitored_trace(run).to_html()
    assert str(run) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("depth", [1, 3])
def test_networks_without_interfaces_and_late_references_have_a_page(tmp_path, depth):
    module = Residual(depth=depth)
    with Monitor(module, tmp_path, every=2, rank=3, example=torch.zeros(2, 24), reference=3) as monitor:
        trained(module, monitor.step, steps=6)
    found = monitored_trace(tmp_path)
    assert found.interfaces.empty
    assert found.drift.query("since == 'first'")["step"].unique().tolist() == [4, 6]
    assert {"interfaces", "pairs"}.isdisjoint(re.findall(r'<h2 id="(\w+)"', found.to_html()))
