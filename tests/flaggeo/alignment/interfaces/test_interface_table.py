import math

import numpy as np
import pytest
import torch

from flaggeo import load
from flaggeo.alignment import (
    balanced,
    interface_pair,
    interface_rows,
    interface_table,
    interfaces_of,
    neuron_balanced,
)
from flaggeo.alignment.interfaces.interface_table import INTERFACE_OBSERVABLES
from flaggeo.alignment.interfaces.leading_directions import LEADING_OBSERVABLES, WINDOW_RHO
from tests.builders import CONFIG, tiny_llama
from tests.flaggeo.alignment.builders import gaussian, matrices, part_of

OBSERVABLES = (*INTERFACE_OBSERVABLES, *LEADING_OBSERVABLES)


def measure(tensors, **settings):
    network = load(tensors, config=CONFIG)
    layer = [weight for weight in network.weights if weight.layer == 0]
    return interface_table(interface_rows(layer, matrices(network), **{"rank": 4, "draws": 0, "seed": 0} | settings))


def of_up(table, *, gauge_fixed=False):
    return table[(table["kind"] == "up-down") & (table["gauge_fixed"] == gauge_fixed)].iloc[0]


@pytest.fixture(scope="module")
def table():
    return measure(tiny_llama(), draws=20)


def test_every_row_agrees_with_the_pair_measured_alone(table):
    network = load(tiny_llama(), config=CONFIG)
    of = matrices(network)
    members = {member.name: member for member in interfaces_of(network.weights)}
    for row in table.itertuples():
        pair = [matrix.double() for matrix in members[row.name].matrices(of)]
        alone = interface_pair(*(neuron_balanced(*pair) if row.gauge_fixed else pair), 4)
        for observable in OBSERVABLES:
            made_of, name = part_of(observable, alone), observable.column
            assert getattr(row, name) == pytest.approx(float(observable.measure(made_of)), rel=1e-8, abs=1e-7)
            for null in observable.nulls:
                if null.law:
                    moments = [float(moment) for moment in null.law(made_of) if moment is not None]
                    found = [getattr(row, column.name) for column in null.columns(name)]
                    assert found == pytest.approx(moments, nan_ok=True, abs=1e-9)


def test_effect_sizes_run_from_the_first_moment_of_the_null_to_perfect_alignment(table):
    for observable in OBSERVABLES:
        if observable.has_effect_size:
            null = table[f"{observable.column}_null_{observable.null.moment}"]
            expected = (table[observable.column] - null) / (observable.aligned - null)
            found = table[f"{observable.column}_effect_size"]
            assert found.notna().any()
            np.testing.assert_allclose(found.dropna(), expected[found.notna()], rtol=1e-9)
    largest = table[["overlap_null_mean", "overlap_sign_flip_mean", "overlap_mean_matched_mean"]].max(axis=1)
    np.testing.assert_allclose(table["overlap_excess"], (table["overlap"] - largest) / (1 - largest))


def test_rows_stand_in_order_and_a_rescalable_pair_has_two(table):
    assert list(table["kind"][:3]) == ["up-down", "up-down", "gate-down"]
    names = [f"layers.0.{name}" for name in ("heads.0.q-k", "heads.1.q-k", "groups.0.q-k")]
    assert list(table["name"][3:6]) == names
    assert list(table.loc[table["gauge_fixed"], "kind"]) == ["up-down"]
    raw, fixed = of_up(table), of_up(table, gauge_fixed=True)
    assert fixed["diagonal_imbalance"] == pytest.approx(0, abs=1e-12) != raw["diagonal_imbalance"]
    assert fixed["product_rank"] == raw["product_rank"]


def test_a_gauge_fixed_row_forgets_scalings_of_units(table):
    tensors = tiny_llama()
    scale = torch.randn(40, generator=torch.Generator().manual_seed(1)).exp()
    tensors["model.layers.0.mlp.up_proj.weight"] *= scale[:, None]
    tensors["model.layers.0.mlp.down_proj.weight"] /= scale
    scaled = measure(tensors)
    numbers = [observable.column for observable in OBSERVABLES]
    for state in (False, True):
        before, after = (of_up(one, gauge_fixed=state)[numbers] for one in (table, scaled))
        same = (abs(before.to_numpy(float) - after.to_numpy(float)) < 1e-4).all()
        assert same == state


def test_random_weights_lie_near_their_nulls(table):
    raw = table[~table["gauge_fixed"]]
    columns = {one.column: f"{one.column}_null_{one.null.moment}" for one in OBSERVABLES}
    for column in ("kempf_ness_gap", "imbalance", "overlap", "stacked_ratio", "gram_cosine"):
        z = (raw[column] - raw[columns[column]]) / raw[f"{column}_null_sd"]
        assert abs(z.median()) < 1.5
        assert z.abs().max() < 6
    assert raw["rho"].between(0.6, 1.4).all()


def test_an_aligned_pair_stands_out():
    """Down is made the transpose of up: a balanced interface."""
    tensors = tiny_llama()
    tensors["model.layers.0.mlp.down_proj.weight"] = tensors["model.layers.0.mlp.up_proj.weight"].mT.clone()
    row = of_up(measure(tensors, draws=5))
    assert row["kempf_ness_gap"] == pytest.approx(1)
    assert row["overlap"] == pytest.approx(1)
    assert row["rho"] == pytest.approx(0, abs=1e-6)
    assert row["kempf_ness_gap"] < row["kempf_ness_gap_null_mean"] - 10 * row["kempf_ness_gap_null_sd"]


def test_draws_are_those_of_the_seed(table):
    again = measure(tiny_llama(), draws=20)
    other = measure(tiny_llama(), draws=20, seed=1)
    drawn = ["window_contrast_null_mean", "window_rho_null_sd"]
    assert again[drawn].equals(table[drawn])
    assert not (other[drawn] == table[drawn]).any(axis=None)


def test_no_draw_is_lost():
    """Of 16 angles between random subspaces of 64 dimensions some draw has one that float32 takes for a right one."""
    pair = interface_pair(gaussian(64, 40, seed=1), gaussian(40, 64, seed=2), 16)
    order = torch.stack([torch.randperm(64, generator=torch.Generator().manual_seed(s)) for s in range(3000)])
    turned = pair.reordered(order, torch.ones(3000, 64))
    assert (torch.linalg.svdvals(turned.products)[:, -1] < 50 * 16 * torch.finfo(torch.float32).eps).any()
    assert WINDOW_RHO.measure(turned).isfinite().all()


def test_without_draws_the_nulls_that_need_them_are_unknown():
    table = measure(tiny_llama())
    assert (table["draws"] == 0).all()
    for observable in OBSERVABLES:
        unknown = table[f"{observable.column}_null_{observable.null.moment}"].isna()
        assert unknown.all() if observable.null.law is None else not unknown.any()


def test_a_zero_weight_is_reported_as_such():
    tensors = tiny_llama()
    tensors["model.layers.0.mlp.up_proj.weight"].zero_()
    row = of_up(measure(tensors, draws=3))
    assert (row["rank"], row["first_rank"], row["product_rank"]) == (0, 0, 0)
    assert math.isnan(row["overlap"])
    assert math.isnan(row["kempf_ness_gap_null_mean"])


def test_balanced_rows_stand_for_units_that_may_be_scaled(table):
    kept = balanced(table)
    assert len(kept) == len(table) - 1
    assert kept.loc[kept["kind"] == "up-down", "gauge_fixed"].tolist() == [True]
