from itertools import combinations

import numpy as np
import pytest
import scipy.linalg
import torch

from flaggeo import load
from flaggeo.alignment.overlap import PAIR_COLUMNS, pair_table, subspaces_of
from flaggeo.spectrum import leading_spectrum
from manifolds import overlap_moments, overlap_p_value
from tests.builders import CONFIG, WIDTH, tiny_llama


@pytest.fixture(scope="module")
def network():
    return load(tiny_llama(), config=CONFIG)


def spectra_of(network, rank=4):
    return {w.name: leading_spectrum(w.split(network.checkpoint.read(w.tensor)), rank) for w in network.weights}


@pytest.fixture(scope="module")
def table(network):
    return pair_table(network.weights, spectra_of(network))


def test_every_overlap_agrees_with_scipy(network, table):
    """Brute force over all pairs of all spaces; SciPy's angles share no code with the package."""
    assert tuple(table.columns) == PAIR_COLUMNS
    frames = {subspace.name: subspace.frame.numpy() for subspace in subspaces_of(network.weights, spectra_of(network))}
    sample = table.sample(200, random_state=0)
    for row in sample.itertuples():
        angles = scipy.linalg.subspace_angles(frames[row.source], frames[row.target])
        assert row.overlap == pytest.approx(np.mean(np.cos(angles) ** 2), abs=1e-7)


def test_pairs_are_exactly_those_that_share_a_space_and_follow_the_signal(network, table):
    expected = set()
    for first, second in combinations(subspaces_of(network.weights, spectra_of(network)), 2):
        if first.space != second.space:
            continue
        if first.weight.tensor == second.weight.tensor and (first.weight.head is None) != (second.weight.head is None):
            continue
        if first.weight.stage > second.weight.stage:
            first, second = second, first
        kinds = (first.side.value, second.side.value)
        if kinds[0] == kinds[1] or (kinds == ("write", "read") and first.weight.stage < second.weight.stage):
            expected.add(frozenset((first.name, second.name)))
    assert {frozenset(pair) for pair in zip(table["source"], table["target"], strict=True)} == expected
    assert len(table) == len(expected)
    flows = table[table["kind"] == "write-read"]
    assert flows["source"].str.endswith(".write").all()
    assert flows["target"].str.endswith(".read").all()
    assert (table["lag"].dropna() >= 0).all()


def test_null_and_effect_size_stand_beside_each_overlap(table):
    row = table[(table["source"] == "layers.0.q.read") & (table["target"] == "layers.1.q.read")].iloc[0]
    mean, spread = overlap_moments(WIDTH, 4, 4)
    assert (row["null_mean"], row["null_sd"]) == (mean, spread)
    assert row["adjusted_overlap"] == pytest.approx((row["overlap"] - mean) / (1 - mean))
    assert row["z"] == pytest.approx((row["overlap"] - mean) / spread)
    assert row["lag"] == 1
    assert row["p_value"] == float(overlap_p_value(row["overlap"], WIDTH, 4, 4))


def test_a_planted_meeting_is_found():
    """What layer 0 writes with `down` is made what layer 2 reads with `q`."""
    tensors = tiny_llama()
    frame = leading_spectrum(tensors["model.layers.0.mlp.down_proj.weight"], 4).left.float()
    tensors["model.layers.2.self_attn.q_proj.weight"] = torch.randn(40, 4) @ frame.mT
    planted = load(tensors, config=CONFIG)
    table = pair_table(planted.weights, spectra_of(planted))
    row = table[(table["source"] == "layers.0.down.write") & (table["target"] == "layers.2.q.read")].iloc[0]
    assert row["overlap"] == pytest.approx(1.0, abs=1e-6)
    assert (row["kind"], row["lag"], row["space"]) == ("write-read", 2, "stream")


def test_a_subspace_that_is_the_whole_space_says_nothing(network):
    table = pair_table(network.weights, spectra_of(network, rank=WIDTH))
    whole = table[table["space"] == "stream"]
    full = whole[whole["source"].str.contains(r"\.up\.") & whole["target"].str.contains(r"\.gate\.")]
    assert len(full)
    assert full["overlap"].to_numpy() == pytest.approx(1.0)
    assert full[["adjusted_overlap", "z"]].isna().all(axis=None)
    assert (full["p_value"] == 1).all()


def test_a_zero_weight_has_no_subspace():
    tensors = tiny_llama()
    tensors["model.layers.1.mlp.up_proj.weight"].zero_()
    network = load(tensors, config=CONFIG)
    table = pair_table(network.weights, spectra_of(network))
    assert not table["source"].str.startswith("layers.1.up.").any()


def test_no_pairs_give_an_empty_table_with_the_columns():
    table = pair_table([], {})
    assert tuple(table.columns) == PAIR_COLUMNS
    assert table.empty
