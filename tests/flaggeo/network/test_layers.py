"""Layers are lists of blocks with whatever weights they have."""

import pandas as pd
import pytest

from flaggeo import analyze, render_report
from flaggeo.alignment import interfaces_of, layer_chains
from flaggeo.graph.signal_graph import passages
from flaggeo.network import BlockKind, Stack
from tests.flaggeo.network.hybrid import hybrid

ATTENTION, MLP, EXPERTS = BlockKind.ATTENTION, BlockKind.MLP, BlockKind.EXPERTS


@pytest.fixture(scope="module")
def network():
    return hybrid()


@pytest.fixture(scope="module")
def analysis(network):
    return analyze(network, rank=3, measure="all", draws=2)


def test_a_layer_has_the_blocks_that_it_has(network):
    assert [layer.name for layer in network.layers] == [
        "embedding",
        *(f"layers.{number}" for number in range(6)),
        "unembedding",
    ]
    blocks = [[block.kind for block in layer.blocks] for layer in network.layers[1:-1]]
    assert blocks == [[ATTENTION], [EXPERTS], [ATTENTION, MLP], [MLP], [EXPERTS], [MLP]]
    assert [weight.name for weight in network.layers[4].weights] == ["layers.3.down"]
    weights = [weight for layer in network.layers for weight in layer.weights]
    assert [weight for weight in weights if not isinstance(weight, Stack)] == list(network.weights)
    assert network.layer_numbers == list(range(6))


def test_each_expert_composes_in_a_hidden_space_of_its_own(network):
    found = {member.name: member for member in interfaces_of(network.weights) if member.layer == 1}
    assert set(found) == {f"layers.1.experts.{expert}.expert_up-expert_down" for expert in range(2)}
    for expert in range(2):
        member = found[f"layers.1.experts.{expert}.expert_up-expert_down"]
        assert [weight.expert for weight in (*member.first, *member.second)] == [expert, expert]
    assert not [member for member in interfaces_of(network.weights) if member.layer == 3]


def test_experts_are_in_no_chain_and_their_stacks_are(network):
    chains = {role: [weight.layer for weight in chain] for role, chain in layer_chains(network.weights).items()}
    dense = {"down": [2, 3, 5], "gate": [2, 5], "up": [2, 5]}
    assert chains == dense
    weights = [weight for layer in network.layers for weight in layer.weights]
    chains = {role: [weight.layer for weight in chain] for role, chain in layer_chains(weights).items()}
    assert chains == dense | {"expert_up": [1, 4], "expert_down": [1, 4]}


def test_the_stack_of_a_layers_experts_reaches_that_of_their_outputs_alone(analysis):
    found = {pair for pair in passages(analysis.weights) if "expert" in pair[0]}
    assert found == {(f"layers.{layer}.expert_up.read", f"layers.{layer}.expert_down.write") for layer in (1, 4)}


def test_what_can_be_measured_is_measured(network, analysis):
    weights = analysis.weights.set_index("name")
    assert list(weights.index[weights["stacked"].isna()]) == [weight.name for weight in network.weights]
    assert weights.loc["layers.4.expert_up.experts.1", "expert"] == 1
    assert weights["expert"].notna().sum() == 8
    assert weights["stacked"].dropna().to_dict() == {
        f"layers.{layer}.expert_{end}": 2 for layer in (1, 4) for end in ("up", "down")
    }
    steps = analysis.continuity.query("shared_space")[["role", "layer", "next_layer"]].drop_duplicates()
    assert set(steps.itertuples(index=False, name=None)) == {
        ("down", 2, 3),
        ("down", 3, 5),
        ("gate", 2, 5),
        ("up", 2, 5),
        ("expert_up", 1, 4),
        ("expert_down", 1, 4),
    }
    # Also over layers in between that have no such weight.
    assert analysis.continuity.query("shared_space")["gram_cosine"].notna().all()
    assert set(analysis.interfaces["layer"]) == {0, 1, 2, 4, 5}
    in_experts = analysis.interfaces[analysis.interfaces["space"] == "layers.1.experts.1.hidden"]
    assert in_experts["name"].tolist() == ["layers.1.experts.1.expert_up-expert_down"]
    assert set(analysis.heads["source_layer"]) == {0, 2}


def test_its_graph_and_page_are_made(analysis):
    assert analysis.structure.comparisons is not None
    assert "experts.1" in render_report(analysis)


def test_spaces_say_of_what_kind_they_are(analysis):
    kinds = analysis.spaces.set_index("name")["kind"]
    assert kinds["layers.1.experts.0.hidden"] == "hidden"
    assert kinds.value_counts().to_dict() == {"keys": 4, "values": 4, "hidden": 7, "stream": 1, "vocabulary": 1}
    assert pd.api.types.is_string_dtype(kinds)
