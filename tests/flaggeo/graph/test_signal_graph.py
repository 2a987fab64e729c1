import networkx as nx
import pytest

from flaggeo.graph.signal_graph import passages, signal_graph
from tests.flaggeo.graph.builders import random_toy, toy


def test_values_reach_the_output_and_gate_and_up_reach_down_in_their_layer_only():
    network = toy({}, layers=2, roles=("q", "k", "v", "o", "gate", "up", "down"))
    assert set(passages(network.weights)) == {
        (f"layers.{layer}.{reader}.read", f"layers.{layer}.{writer}.write")
        for layer in range(2)
        for reader, writer in (("v", "o"), ("gate", "down"), ("up", "down"))
    }


def test_a_value_head_reaches_the_output_heads_of_its_group():
    found = {pair for pair in passages(toy({}, layers=1, heads=4).weights) if "heads" in pair[0] + pair[1]}
    assert found == {(f"layers.0.v.heads.{head // 2}.read", f"layers.0.o.heads.{head}.write") for head in range(4)}


def test_the_signal_graph_runs_forward_and_leaves_symmetric_edges_out():
    network = random_toy(layers=5, share=0.3)
    graph = signal_graph(network.edges, passages(network.weights))
    assert nx.is_directed_acyclic_graph(graph)
    kinds = {kind for _, _, kind in graph.edges(data="kind")}
    assert kinds == {"write-read", "passage"}
    written = network.edges[network.edges["kind"] == "write-read"]
    assert graph.number_of_edges() == len(written) + len(passages(network.weights))


def test_a_meeting_has_the_length_of_its_weight():
    graph = signal_graph(toy({("layers.0.o.write", "layers.1.q.read"): 0.25}).edges, [])
    assert graph.edges["layers.0.o.write", "layers.1.q.read"]["length"] == pytest.approx(1.3862943611)
