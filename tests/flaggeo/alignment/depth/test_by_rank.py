import pandas as pd
import pytest
import torch

from flaggeo import load
from flaggeo.alignment import continuity_by_rank, continuity_table
from flaggeo.alignment.depth import layer_pair
from manifolds import overlap_moments, projection_overlap
from tests.builders import CONFIG, WIDTH, tiny_llama
from tests.flaggeo.alignment.builders import spectra_of


def measured(tensors, rank):
    network = load(tensors, config=CONFIG)
    return network.weights, spectra_of(network, rank)


@pytest.fixture(scope="module")
def tiny():
    return measured(tiny_llama(), 5)


def test_every_point_is_the_overlap_of_as_many_leading_directions(tiny):
    weights, spectra = tiny
    curves = continuity_by_rank(weights, spectra)
    for row in curves.sample(40, random_state=0).itertuples():
        ends = [spectra[f"layers.{layer}.{row.role}"] for layer in (row.layer, row.next_layer)]
        frames = [(end.right if row.side == "read" else end.left)[:, : row.k] for end in ends]
        assert row.overlap == pytest.approx(float(projection_overlap(*frames)))
        mean, spread = overlap_moments(frames[0].shape[0], row.k, row.k)
        assert (row.overlap_null_mean, row.overlap_null_sd) == (mean, spread)
        assert row.overlap_effect_size == pytest.approx((row.overlap - mean) / (1 - mean))


@pytest.mark.parametrize("made", [continuity_by_rank, continuity_table])
def test_batches_of_a_bounded_size_give_the_same_table(tiny, made, monkeypatch):
    expected, alone = made(*tiny), 0
    original = layer_pair.stacked

    def counted(spectra):
        nonlocal alone
        alone += len(spectra) == 1
        return original(spectra)

    monkeypatch.setattr(layer_pair, "_BATCH_ENTRIES", 1)
    monkeypatch.setattr(layer_pair, "stacked", counted)
    pd.testing.assert_frame_equal(made(*tiny), expected, rtol=1e-12, atol=1e-12)
    assert alone == 2 * len(expected.drop_duplicates(["role", "side", "layer"]))


def test_a_curve_ends_at_the_overlap_of_the_continuity_table(tiny):
    keys = ["role", "side", "layer", "next_layer"]
    curves, continuity = continuity_by_rank(*tiny), continuity_table(*tiny)
    ends = curves.loc[curves.groupby(keys)["k"].idxmax()].merge(continuity, on=keys)
    assert len(ends) == len(continuity)
    assert (ends["k"] == ends["rank"]).all()
    assert ends["overlap_x"].to_numpy() == pytest.approx(ends["overlap_y"].to_numpy())


def test_the_whole_space_and_a_weight_without_directions_say_nothing():
    tensors = tiny_llama()
    tensors["model.layers.1.mlp.up_proj.weight"].zero_()
    curves = continuity_by_rank(*measured(tensors, WIDTH))
    assert "up" not in set(curves["role"])
    whole = curves[(curves["role"] == "gate") & (curves["side"] == "read") & (curves["k"] == WIDTH)]
    assert len(whole)
    assert whole["overlap"].to_numpy() == pytest.approx(1.0)
    assert whole["overlap_effect_size"].isna().all()


def test_a_rank_that_is_shared_shows_as_a_peak():
    """Two weights share their first two directions and nothing else."""
    tensors = tiny_llama()
    axes = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1))).Q
    for layer, rest in ((0, [2, 3]), (1, [4, 5])):
        reads = axes[:, [0, 1, *rest]] * torch.tensor([8.0, 6, 3, 2])
        writes = torch.linalg.qr(torch.randn(40, 4, generator=torch.Generator().manual_seed(2 + layer))).Q
        tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] = writes @ reads.mT
    curves = continuity_by_rank(*measured(tensors, 4))
    curve = curves[(curves["role"] == "q") & (curves["side"] == "read") & (curves["layer"] == 0)]
    assert curve["overlap"].to_numpy() == pytest.approx([1, 1, 2 / 3, 1 / 2], abs=1e-6)
