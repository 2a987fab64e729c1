"""The table of experts of networks whose experts are planted, random, permuted or zero."""

import numpy as np
import pytest
import torch

from flaggeo import load
from flaggeo.alignment import expert_table
from flaggeo.alignment.experts.expert_table import expert_schema
from flaggeo.numerics.spectrum import leading_spectrum
from tests.builders import CONFIG as LLAMA
from tests.builders import tiny_llama
from tests.mixtures import (
    CONFIG,
    EXPERT_SHAPES,
    EXPERTS,
    LAYERS,
    WIDTH,
    continued,
    expert_tensor,
    order,
    tiny_mixtral,
)

ROLES = {"expert_gate": "read", "expert_up": "read", "expert_down": "write"}


def table_of(tensors, *, rank=4, config=CONFIG, **options):
    network = load(tensors, config=config)
    experts = [weight for weight in network.weights if weight.expert is not None]
    spectra = {weight.name: leading_spectrum(network.matrix(weight), rank) for weight in experts}
    return expert_table(network.weights, spectra, **options)


@pytest.fixture(scope="module")
def random_experts():
    return table_of(tiny_mixtral())


@pytest.fixture(scope="module")
def continued_experts():
    return table_of(continued())


def test_there_is_a_row_for_each_layer_pair_and_each_layer_of_each_role(random_experts):
    rows = random_experts[["kind", "role", "side", "layer", "next_layer"]].itertuples(index=False, name=None)
    assert set(rows) == {
        *(("across", role, side, layer, layer + 1) for role, side in ROLES.items() for layer in range(LAYERS - 1)),
        *(("within", role, side, layer, layer) for role, side in ROLES.items() for layer in range(LAYERS)),
    }
    assert len(random_experts) == 3 * (2 * LAYERS - 1)
    assert (random_experts[["experts", "next_experts"]] == EXPERTS).all(axis=None)
    assert set(random_experts["space"]) == {"stream"}
    assert (random_experts["rank"] == 4).all()


def test_only_layer_pairs_have_matched_experts(random_experts):
    matched = [name for name in random_experts if name.startswith("matched")]
    assert random_experts.loc[random_experts["kind"] == "within", matched].isna().all(axis=None)
    assert random_experts.loc[random_experts["kind"] == "across", matched].notna().all(axis=None)


def test_continued_experts_are_found_in_whatever_order_they_stand(continued_experts):
    across = continued_experts[continued_experts["kind"] == "across"]
    assert (across["matched_overlap"] > 0.95).all()
    assert (across[["matched_overlap_q_value", "matched_gain_q_value"]] < 1e-4).all(axis=None)
    for row in across.to_dict("records"):
        earlier, later = row["closest_expert"], row["closest_next_expert"]
        assert order(row["layer"])[earlier] == order(row["next_layer"])[later]
        assert row["alike"] == EXPERTS


def test_experts_of_equal_numbers_are_unrelated_in_the_same_layers():
    """What a pairing by number would have said."""
    tensors, overlaps = continued(), []
    for layer in range(LAYERS - 1):
        for expert in range(EXPERTS):
            first, second = (
                leading_spectrum(tensors[expert_tensor(place, expert, "w1")], 4).right for place in (layer, layer + 1)
            )
            overlaps.append(float((first.mT @ second).square().sum()) / 4)
    assert np.mean(overlaps) == pytest.approx(4 / WIDTH, abs=0.03)


def test_random_experts_are_in_no_row_significant(random_experts):
    q_values = [name for name in random_experts if name.endswith("q_value")]
    assert len(q_values) == 4
    assert (random_experts[q_values].min() > 0.01).all()
    across = random_experts[random_experts["kind"] == "across"]
    assert (across["matched_overlap"] - across["matched_overlap_null_mean"]).abs().max() < 0.05


def test_another_order_of_the_experts_changes_their_numbers_alone(random_experts):
    tensors, turned = tiny_mixtral(), tiny_mixtral()
    for expert in range(EXPERTS):
        for name in EXPERT_SHAPES:
            turned[expert_tensor(1, expert, name)] = tensors[expert_tensor(1, EXPERTS - 1 - expert, name)]
    again = table_of(turned)
    numbers = random_experts.select_dtypes("number").columns.drop(["closest_expert", "closest_next_expert"])
    before, after = (table[numbers].astype(float) for table in (random_experts, again))
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-6)
    moved = random_experts["next_layer"] == 1
    ends = random_experts.loc[moved & (random_experts["kind"] == "across"), "closest_next_expert"]
    assert (again.loc[ends.index, "closest_next_expert"] == EXPERTS - 1 - ends).all()


def test_a_zero_expert_has_no_partner_and_one_expert_alone_no_row():
    tensors = tiny_mixtral()
    tensors[expert_tensor(1, 2, "w1")] = torch.zeros_like(tensors[expert_tensor(1, 2, "w1")])
    for expert in range(1, EXPERTS):
        tensors[expert_tensor(2, expert, "w3")] = torch.zeros_like(tensors[expert_tensor(2, expert, "w3")])
    table = table_of(tensors)
    gates = table[(table["role"] == "expert_gate") & (table["kind"] == "across")]
    assert gates["experts"].tolist() == [4, 3]
    assert gates["next_experts"].tolist() == [3, 4]
    assert gates["matched_overlap"].notna().all()
    ups = table[table["role"] == "expert_up"]
    assert set(zip(ups["layer"], ups["next_layer"], strict=True)) == {(0, 1), (0, 0), (1, 1)}


def test_a_dense_network_has_no_row():
    table = table_of(tiny_llama(), config=LLAMA)
    assert table.empty
    assert list(table.columns) == expert_schema().names


def test_overlaps_are_basis_independent_where_only_permutations_act_on_the_units():
    folded = table_of(tiny_mixtral(), folded=True).groupby("role")["basis_independent"].all()
    assert folded.to_dict() == {"expert_gate": True, "expert_up": False, "expert_down": False}
    assert not table_of(tiny_mixtral())["basis_independent"].any()


def test_a_seed_gives_the_same_draws():
    one, again, other = (table_of(tiny_mixtral(), seed=seed) for seed in (0, 0, 1))
    name = "matched_overlap_sign_flip_mean"
    across = one["kind"] == "across"
    assert one[name].equals(again[name])
    assert not np.isclose(one.loc[across, name], other.loc[across, name], rtol=1e-6).any()
