import json

import networkx as nx
import pytest
import torch

from flaggeo import analyze, load
from flaggeo.graph.alignment_graph import alignment_graph
from tests.builders import CONFIG, random_frame, tiny_llama


@pytest.fixture(scope="module")
def analysis():
    """Random weights, with one planted path: layer 0's down writes what layer 2's gate reads."""
    tensors = tiny_llama()
    shared = random_frame(24, 4, seed=7).float()
    generator = torch.Generator().manual_seed(8)
    tensors["model.layers.0.mlp.down_proj.weight"] = shared @ torch.randn(4, 40, generator=generator)
    tensors["model.layers.2.mlp.gate_proj.weight"] = torch.randn(40, 4, generator=generator) @ shared.mT
    return analyze(load(tensors, config=CONFIG), rank=4, measure=("pairs", "spectra"))


def test_the_planted_path_is_an_edge_and_unrelated_weights_hardly_any(analysis):
    graph = analysis.graph
    assert graph.has_edge("layers.0.down.write", "layers.2.gate.read", key="write-read")
    edge = graph.edges["layers.0.down.write", "layers.2.gate.read", "write-read"]
    assert edge["overlap"] == pytest.approx(1.0, abs=1e-6)
    assert (edge["lag"], edge["intersection_dimension"]) == (2, 4)
    assert edge["overlap_excess"] == pytest.approx(1.0, abs=1e-6)
    assert (edge["smallest_angle"], edge["geodesic_distance"]) == pytest.approx((0, 0), abs=1e-6)
    assert edge["overlap_q_value"] < 1e-2
    unrelated = [pair for pair in graph.edges() if pair != ("layers.0.down.write", "layers.2.gate.read")]
    assert unrelated == []


@pytest.mark.parametrize("rank", [1, 2, 8])
def test_random_networks_have_no_edges_at_any_rank(rank):
    """100 pairs of lines in ten thousand would lie 5 standard deviations out; the exact tail knows that."""
    network = load(tiny_llama(layers=24, seed=5), config=CONFIG | {"num_hidden_layers": 24})
    analysis = analyze(network, rank=rank)
    assert len(analysis.pairs) > 10_000
    assert analysis.graph.number_of_edges() == 0


def test_edges_are_the_strongest_of_the_pairs_that_pass_both_tests(analysis):
    graph = alignment_graph(analysis.weights, analysis.pairs, false_discovery_rate=0.995, strongest=2)
    eligible = analysis.pairs[(analysis.pairs["overlap_q_value"] <= 0.995) & (analysis.pairs["overlap_excess"] > 0)]
    assert 20 < len(eligible) < len(analysis.pairs) / 2
    expected = set()
    for row in eligible.itertuples():
        for end in (row.source, row.target):
            rivals = eligible[
                ((eligible["source"] == end) | (eligible["target"] == end)) & (eligible["kind"] == row.kind)
            ]
            if (rivals["overlap_excess"] > row.overlap_excess).sum() < 2:
                expected.add((row.source, row.target, row.kind))
    assert set(graph.edges(keys=True)) == expected


def test_loud_channels_alone_make_no_edge():
    """Reads of four loud coordinates overlap far beyond chance, and by no more than random signs would give."""
    tensors = tiny_llama()
    loud = torch.ones(24)
    loud[:4] = 100
    for layer in range(3):
        for role in ("q", "k", "v"):
            tensors[f"model.layers.{layer}.self_attn.{role}_proj.weight"] *= loud
    analysis = analyze(load(tensors, config=CONFIG), rank=4)
    reads = analysis.pairs[analysis.pairs["source"].str.fullmatch(r"layers\.\d\.[qkv]\.read")]
    reads = reads[reads["target"].str.fullmatch(r"layers\.\d\.[qkv]\.read")]
    assert len(reads) == 36
    assert (reads["overlap_p_value"] < 1e-6).all()
    assert (reads["overlap_excess"] > 0).any()
    edges = {(source, target) for source, target in analysis.graph.edges()}
    assert not edges & set(zip(reads["source"], reads["target"], strict=True))


def test_nodes_carry_where_they_stand(analysis):
    node = analysis.graph.nodes["layers.2.gate.read"]
    assert node == {"weight": "layers.2.gate", "side": "read", "role": "gate", "layer": 2, "head": -1} | {
        "space": "stream",
        "dimension": 24,
        "rank": 4,
        "effective_rank": analysis.weights.set_index("name").loc["layers.2.gate", "effective_rank"],
    }
    assert analysis.graph.nodes["embed.write"]["layer"] == -1
    assert analysis.graph.nodes["unembed.read"]["layer"] == 3


@pytest.mark.parametrize("suffix", ["graphml", "gexf", "json"])
def test_graph_survives_each_format(analysis, tmp_path, suffix):
    graph, file = analysis.graph, tmp_path / f"graph.{suffix}"
    if suffix == "json":
        file.write_text(json.dumps(nx.node_link_data(graph, edges="edges"), allow_nan=False))
        back = nx.node_link_graph(json.loads(file.read_text()), edges="edges")
    elif suffix == "graphml":
        nx.write_graphml(graph, file)
        back = nx.read_graphml(file, force_multigraph=True)
    else:
        nx.write_gexf(graph, file)
        back = nx.read_gexf(file)
    assert set(back.nodes) == set(graph.nodes)
    assert set(back.edges()) == set(graph.edges())
    assert back.nodes["layers.2.gate.read"]["role"] == "gate"
