"""Each reading against a run in that reading, whose first directions come from whole spectra and not from a start."""

import pandas as pd
import pytest
import torch

from flaggeo import analyze, load
from flaggeo.alignment import EITHER, FOLDED, STORED, first_direction
from flaggeo.numerics.spectrum import leading_spectrum
from tests.builders import CONFIG, related_llama, tiny_llama, with_gains

LAYERS = 4
NUMBERS = [
    "abs_cos_1",
    "abs_cos_1_null_mean",
    "abs_cos_1_mean_matched_mean",
    "abs_cos_1_norm_matched_mean",
    "abs_cos_1_sign_flip_mean",
    "significant_pairs",
]


def analysed(tensors, **options):
    network = load(tensors, config=CONFIG | {"num_hidden_layers": LAYERS})
    return analyze(network, rank=2, measure="continuity", **options)


@pytest.mark.parametrize("scale", [1e-25, 1e-7, 1.0, 1e9, 1e30])
def test_a_first_direction_is_found_at_any_scale(scale):
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(500, 400, generator=generator, dtype=torch.float64)
    matrix[:, 3] *= 4  # a first direction with a gap
    gains = 1 + torch.rand(400, generator=generator, dtype=torch.float64)
    found = first_direction(scale * matrix * gains, leading_spectrum(scale * matrix, 16))
    exact = torch.linalg.svd(matrix * gains).Vh[0]
    assert (found.right[:, 0] @ exact).abs() > 1 - 1e-6  # an angle of about 1e-3 radians, as documented


@pytest.fixture(scope="module")
def runs():
    tensors = with_gains(related_llama(layers=LAYERS))
    return {folded: analysed(tensors, fold_norms=folded) for folded in (False, True)}


def test_both_runs_have_both_readings_alike(runs):
    tables = [run.readings.sort_values(["role", "side", "reading"], ignore_index=True) for run in runs.values()]
    pd.testing.assert_frame_equal(*tables, rtol=0, atol=1e-4)
    assert set(tables[0]["reading"]) == {STORED, FOLDED, EITHER}


@pytest.mark.parametrize("folded", [False, True])
def test_a_reading_is_what_a_run_of_its_own_measures(runs, folded):
    readings = runs[not folded].readings
    rows = readings[readings["reading"] == (FOLDED if folded else STORED)].set_index(["role", "side"])
    summary = runs[folded].summary.set_index(["role", "side"]).loc[rows.index]
    assert {role for role, _ in rows.index} == {"q", "k", "v"}
    for number in NUMBERS:
        assert rows[number].astype(float).to_numpy() == pytest.approx(
            summary[number].astype(float).to_numpy(), abs=1e-4
        )
    other = readings[readings["reading"] == (STORED if folded else FOLDED)].set_index(["role", "side"])["abs_cos_1"]
    assert (rows["abs_cos_1"] - other.loc[rows.index]).abs().max() > 0.05


def test_equal_norms_give_what_draws_compute_of_them_where_outlier_channels_are_in_doubt():
    tensors = tiny_llama(layers=LAYERS)
    for layer in range(LAYERS):
        tensors[f"model.layers.{layer}.mlp.down_proj.weight"][3] *= 40
    run = analysed(tensors, draws=1)
    nulls = run.continuity_nulls.query("null == 'equalised' and measure == 'abs_cos_1'").set_index(["role", "side"])
    rows = run.readings.set_index(["role", "side"])["abs_cos_1_equalised"].dropna()
    assert list(rows.index) == [("down", "write")]
    assert rows.iloc[0] == pytest.approx(nulls["mean"].loc["down", "write"], abs=1e-4)


def test_without_norms_both_readings_are_one():
    tensors = {name: one for name, one in tiny_llama(layers=LAYERS).items() if "norm" not in name}
    assert set(analysed(tensors).readings["reading"]) == {EITHER}


def test_a_weight_of_zeros_has_no_reading_and_disturbs_none():
    tensors = with_gains(tiny_llama(layers=LAYERS))
    tensors["model.layers.2.self_attn.k_proj.weight"] *= 0
    rows = analysed(tensors).readings.query("role == 'k'")
    assert rows["layer_pairs"].tolist() == [1, 1]
    assert rows["abs_cos_1"].notna().all()


def test_a_norm_that_cannot_be_read_is_missing_from_its_reading_alone():
    tensors = with_gains(tiny_llama(layers=LAYERS))
    tensors["model.layers.3.input_layernorm.weight"][0] = float("nan")
    rows = analysed(tensors).readings.query("role == 'q'").set_index("reading")
    assert rows["layer_pairs"].to_dict() == {STORED: 3, FOLDED: 2}
    for layer in range(LAYERS):
        tensors[f"model.layers.{layer}.input_layernorm.weight"][0] = float("nan")
    run = analysed(tensors)
    assert run.readings.query("role == 'q'")["reading"].tolist() == [STORED]
    assert run.findings[0].verdict == "absent"
