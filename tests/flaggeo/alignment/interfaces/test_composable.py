import torch

from flaggeo import load
from flaggeo.alignment import interfaces_of
from flaggeo.network import Symmetry
from tests.builders import CONFIG, HEAD_WIDTH, HIDDEN, WIDTH, tiny_llama
from tests.flaggeo.alignment.builders import matrices


def test_every_interface_of_a_gated_layer_with_grouped_queries():
    network = load(tiny_llama(), config=CONFIG)
    found = interfaces_of(weight for weight in network.weights if weight.layer == 1)
    kinds = {"gate-down", "up-down"}
    heads = {f"heads.{head}.{kind}" for head in range(4) for kind in ("q-k", "v-o")}
    groups = {f"groups.{group}.{kind}" for group in range(2) for kind in ("q-k", "v-o")}
    assert {member.name for member in found} == {f"layers.1.{name}" for name in kinds | heads | groups}
    assert len(found) == 2 + 8 + 4
    by_name = {member.name: member for member in found}
    query = by_name["layers.1.heads.3.q-k"]
    assert ([w.name for w in query.first], [w.name for w in query.second]) == (
        ["layers.1.q.heads.3"],
        ["layers.1.k.heads.1"],
    )
    group = by_name["layers.1.groups.0.v-o"]
    assert (group.kind, group.head, len(group.first), len(group.second)) == ("v-o-group", 0, 1, 2)


def test_they_meet_in_the_spaces_of_the_network():
    network = load(tiny_llama(), config=CONFIG)
    symmetry = {member.kind: member.space.symmetry for member in interfaces_of(network.weights)}
    assert symmetry == {
        "up-down": Symmetry.SCALED_PERMUTATION,
        "gate-down": Symmetry.SCALED_PERMUTATION,
        "q-k": Symmetry.ROTARY_BLOCK,
        "q-k-group": Symmetry.ROTARY_BLOCK,
        "v-o": Symmetry.GENERAL_LINEAR,
        "v-o-group": Symmetry.GENERAL_LINEAR,
    }


def test_matrices_compose_as_the_layer_does():
    """Logits of head 3, and what it writes; a group stacks the heads that share a key."""
    network = load(tiny_llama(), config=CONFIG)
    of = matrices(network)
    by_name = {member.name: member for member in interfaces_of(network.weights)}
    first, second = by_name["layers.0.heads.3.q-k"].matrices(of)
    torch.testing.assert_close(second @ first, of["layers.0.k.heads.1"].mT @ of["layers.0.q.heads.3"])
    first, second = by_name["layers.0.heads.3.v-o"].matrices(of)
    torch.testing.assert_close(second @ first, of["layers.0.o.heads.3"] @ of["layers.0.v.heads.1"])
    first, second = by_name["layers.0.up-down"].matrices(of)
    assert (first.shape, second.shape) == ((HIDDEN, WIDTH), (WIDTH, HIDDEN))
    first, second = by_name["layers.0.groups.1.q-k"].matrices(of)
    queries = [of[f"layers.0.q.heads.{head}"] for head in (2, 3)]
    assert first.shape == (HEAD_WIDTH, 2 * WIDTH)
    torch.testing.assert_close(first @ first.mT, sum(query @ query.mT for query in queries))
    first, second = by_name["layers.0.groups.1.v-o"].matrices(of)
    outputs = [of[f"layers.0.o.heads.{head}"] for head in (2, 3)]
    torch.testing.assert_close(second.mT @ second, sum(output.mT @ output for output in outputs))


def test_without_head_counts_only_the_mlp_composes():
    network = load(tiny_llama())
    assert {member.kind for member in interfaces_of(network.weights)} == {"up-down", "gate-down"}


def test_no_weights_have_no_interfaces():
    assert interfaces_of([]) == []
