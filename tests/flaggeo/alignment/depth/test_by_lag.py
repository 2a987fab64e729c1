from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from flaggeo import load
from flaggeo.alignment import continuity_by_lag, continuity_table
from manifolds import overlap_moments, projection_overlap, uniform_frame
from tests.builders import CONFIG, chain_of, random_frame, tiny_llama
from tests.flaggeo.alignment.builders import spectra_of

LAYERS = 7


def gaussians(count, rows=20, columns=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, columns, generator=generator, dtype=torch.float64) for _ in range(count)]


def turning(angle, layers=LAYERS):
    """A first direction that turns by the same angle from each layer to the next."""
    right, left = random_frame(30, 3, seed=1), random_frame(20, 2, seed=2)
    directions = [np.cos(angle * i) * right[:, 0] + np.sin(angle * i) * right[:, 1] for i in range(layers)]
    return [5 * torch.outer(left[:, 0], v) + torch.outer(left[:, 1], right[:, 2]) for v in directions]


def read(table):
    return table[table["side"] == "read"].set_index("lag")


def test_a_turning_direction_decays_with_distance_and_its_companion_stays():
    table = read(continuity_by_lag(*chain_of(turning(0.2))))
    assert list(table.index) == [1, 2, 3, 4, 5, 6]
    assert list(table["pairs"]) == [6, 5, 4, 3, 2, 1]
    for lag, row in table.iterrows():
        assert row["abs_cos_1"] == pytest.approx(abs(np.cos(0.2 * lag)))
        assert row["overlap"] == pytest.approx((1 + np.cos(0.2 * lag) ** 2) / 2)
    assert list(table["distant"]) == [False, False, True, True, True, True]


def test_against_a_loop_over_pairs():
    weights, spectra = chain_of(gaussians(5))
    table = continuity_by_lag(weights, spectra)
    for row in table.itertuples():
        frames = [spectra[w.name].right if row.side == "read" else spectra[w.name].left for w in weights]
        pairs = list(zip(frames, frames[row.lag :], strict=False))
        assert row.abs_cos_1 == pytest.approx(np.mean([abs(float(a[:, 0] @ b[:, 0])) for a, b in pairs]))
        assert row.overlap == pytest.approx(np.mean([float(projection_overlap(a, b)) for a, b in pairs]))


def test_lag_one_is_the_mean_of_the_continuity_table():
    network = load(tiny_llama(), config=CONFIG)
    spectra = spectra_of(network)
    lags = continuity_by_lag(network.weights, spectra)
    means = continuity_table(network.weights, spectra).groupby(["role", "side"])[["abs_cos_1", "overlap"]].mean()
    first = lags[lags["lag"] == 1].set_index(["role", "side"])
    assert set(first.index) == set(means.index)
    np.testing.assert_allclose(first.loc[means.index, ["abs_cos_1", "overlap"]], means, rtol=1e-6)
    assert set(lags[lags["shared_space"]]["space"]) == {"stream"}
    assert set(lags[~lags["shared_space"] & (lags["role"] == "up")]["space"]) == {"layers.0.hidden and layers.2.hidden"}


def test_the_spread_of_a_mean_is_that_of_independent_pairs():
    """Of 5000 random chains, at a lag whose pairs share layers."""
    generator = torch.Generator().manual_seed(0)
    frames = uniform_frame(8, 2, (5000, LAYERS), generator=generator, dtype=torch.float64)
    products = frames[:, :-2].mT @ frames[:, 2:]
    row = read(continuity_by_lag(*chain_of(gaussians(LAYERS, 6, 8), rank=2))).loc[2]
    for null, found in (
        ("abs_cos_1_null", products[..., 0, 0].abs().mean(dim=1)),
        ("overlap_null", products.square().sum(dim=(-2, -1)).mean(dim=1) / 2),
    ):
        assert abs(float(found.mean()) - row[f"{null}_mean"]) < 4 * row[f"{null}_sd"] / 5000**0.5
        assert float(found.std()) == pytest.approx(row[f"{null}_sd"], rel=0.04)


def test_one_rotation_of_the_space_changes_nothing_and_one_of_each_layer_does():
    matrices = turning(0.2)
    plain = read(continuity_by_lag(*chain_of(matrices)))["abs_cos_1"]
    turn = random_frame(30, 30, seed=3)
    same = read(continuity_by_lag(*chain_of([w @ turn for w in matrices])))["abs_cos_1"]
    own = read(continuity_by_lag(*chain_of([w @ random_frame(30, 30, seed=i) for i, w in enumerate(matrices)])))[
        "abs_cos_1"
    ]
    np.testing.assert_allclose(same, plain, atol=1e-9)
    assert own.max() < 0.7


def test_a_zero_weight_is_left_out_and_layers_keep_their_distance():
    matrices = turning(0.2, layers=4)
    matrices[1] = torch.zeros(20, 30)
    table = read(continuity_by_lag(*chain_of(matrices)))
    assert dict(table["pairs"]) == {1: 1, 2: 1, 3: 1}
    assert table.loc[2, "abs_cos_1"] == pytest.approx(np.cos(0.4))


def test_weights_of_different_rank():
    matrices = [*gaussians(2), torch.outer(torch.ones(20), torch.ones(30)).double()]
    table = read(continuity_by_lag(*chain_of(matrices)))
    null = (overlap_moments(30, 4, 4)[0] + overlap_moments(30, 4, 1)[0]) / 2
    assert table.loc[1, "overlap_null_mean"] == pytest.approx(null)
    assert table.loc[2, "overlap_null_mean"] == pytest.approx(4 / 30)


def test_a_subspace_that_fills_the_space_says_nothing():
    table = continuity_by_lag(*chain_of(gaussians(3, 20, 4)))
    assert table[table["side"] == "read"]["overlap"].isna().all()
    assert table[table["side"] == "read"]["abs_cos_1"].notna().all()
    assert table[table["side"] == "write"]["overlap"].notna().all()


@pytest.mark.parametrize(
    "matrices",
    [[torch.ones(4, 6)], [torch.zeros(4, 6)] * 3, [torch.ones(1, 1)] * 3, []],
    ids=["one layer", "zero", "one dimension", "none"],
)
def test_no_rows_where_there_is_nothing_to_compare(matrices):
    assert continuity_by_lag(*chain_of(matrices)).empty


def test_a_side_whose_width_changes_with_depth_has_no_rows():
    matrices = [torch.ones(4, 6), torch.ones(5, 6), torch.ones(4, 6)]
    assert set(continuity_by_lag(*chain_of(matrices))["side"]) == {"read"}


def test_distance_is_counted_along_the_role_where_layers_are_left_out():
    weights, spectra = chain_of(gaussians(5))
    apart = [replace(weight, layer=3 * weight.layer) for weight in weights]
    pd.testing.assert_frame_equal(continuity_by_lag(apart, spectra), continuity_by_lag(weights, spectra))
