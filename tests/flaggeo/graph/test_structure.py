import dataclasses
import json

import networkx as nx
import numpy as np
import pandas as pd
import pytest

from flaggeo import analyze, load
from flaggeo.findings import graph_findings
from flaggeo.graph import Structure, structure
from tests.builders import CONFIG, related_llama, tiny_llama
from tests.flaggeo.graph.builders import random_toy, toy

TABLES = [field.name for field in dataclasses.fields(Structure)]


@pytest.mark.parametrize("heads", [False, True])
def test_a_real_analysis_is_measured_whole(heads):
    # The plane that all weights face most, and no more: further directions of 24 leave the nulls little room.
    analysis = analyze(load(related_llama(), config=CONFIG), rank=2, measure=("pairs", "heads") if heads else "pairs")
    found = structure(analysis.graph, analysis.weights, analysis.spaces, analysis.pairs, draws=3)
    assert not found.hubs.empty
    assert not found.bottlenecks.empty
    assert not found.distances.empty
    assert len(found.blocks) == 2
    assert found.comparisons["value"].notna().all()
    assert found.bottlenecks["share_of_null"].iloc[0] < 0.9
    assert graph_findings(found)


def test_a_random_network_says_little():
    analysis = analyze(load(tiny_llama(), config=CONFIG), rank=4)
    found = structure(analysis.graph, analysis.weights, analysis.spaces, analysis.pairs, draws=3)
    assert found.hubs.empty
    assert found.signal_paths.empty
    assert found.decay["length"].isna().all()
    assert found.bottlenecks["share_of_null"].between(0.9, 1.1).all()


def test_the_same_seed_gives_the_same_tables():
    network = random_toy(layers=3, heads=2, share=0.1)
    first, again = (structure(*network.tables, draws=2, seed=3) for _ in range(2))
    for name in TABLES:
        pd.testing.assert_frame_equal(getattr(first, name), getattr(again, name))


def test_spaces_whose_angles_do_not_survive_are_left_out():
    network = random_toy(layers=4)
    spaces = network.spaces.assign(overlap_basis_independent=False)
    found = structure(network.graph, network.weights, spaces, network.pairs, draws=2)
    assert all(getattr(found, name).empty for name in TABLES)


@pytest.mark.parametrize(
    "shape",
    [
        {"layers": 0, "embed": False, "unembed": False},
        {"layers": 1},
        {"layers": 4},
        {"layers": 4, "heads": 2, "embed": False},
        {"layers": 4, "unembed": False},
    ],
    ids=["nothing", "one layer", "no edges", "no embedding", "no unembedding"],
)
def test_networks_that_lack_something_give_empty_tables(shape):
    found = structure(*toy({}, **shape).tables, draws=2)
    assert found.hubs.empty
    assert found.signal_paths.empty
    assert found.cliques.empty
    assert all(finding.sentence for finding in graph_findings(found))


def test_without_draws_the_nulls_are_undefined_and_nothing_else():
    network = random_toy(layers=5, heads=4, share=0.2)
    found = structure(*network.tables, draws=0)
    drawn = found.comparisons[found.comparisons["null"] != "permuted labels"]
    assert drawn[["null_mean", "null_sd", "z"]].isna().all(axis=None)
    assert drawn["value"].notna().all()
    assert not any({"nan", "None"} & set(finding.sentence.split()) for finding in graph_findings(found))


@pytest.mark.parametrize("options", [{"draws": -1}, {"redundant": 0.0}, {"redundant": 1.5}])
def test_impossible_settings_are_refused(options):
    with pytest.raises(ValueError, match=r"structure needs .*; got"):
        structure(*toy({}).tables, **options)


def test_five_thousand_subspaces_and_twenty_thousand_edges():
    """Sparse pairs, since the dense table of so many would be the larger part of the work."""
    rng = np.random.default_rng(0)
    layers, roles = 357, ("q", "k", "v", "o", "gate", "up", "down")
    names = [f"layers.{layer}.{role}" for layer in range(layers) for role in roles]
    weights = pd.DataFrame({"name": names, "role": list(roles) * layers, "layer": np.repeat(range(layers), len(roles))})
    weights = weights.assign(head=pd.NA, expert=pd.NA, source="stream", target="stream", rank=4).astype(
        {"head": "Int64"}
    )
    graph = nx.MultiDiGraph()
    for name, role, layer in zip(weights["name"], weights["role"], weights["layer"], strict=True):
        for side in ("read", "write"):
            attributes = {"weight": name, "side": side, "role": role, "layer": layer, "head": -1}
            graph.add_node(f"{name}.{side}", **attributes, space="stream", dimension=64, rank=4)
    nodes = list(graph)
    first, second = np.sort(rng.integers(len(nodes), size=(2, 60_000)), axis=0)
    pairs = pd.DataFrame({"source": [nodes[i] for i in first], "target": [nodes[i] for i in second]})
    pairs["lag"] = [graph.nodes[b]["layer"] - graph.nodes[a]["layer"] for a, b in pairs.to_numpy()]
    kinds = pairs["source"].str.split(".").str[-1] + "-" + pairs["target"].str.split(".").str[-1]
    pairs = pairs.assign(kind=kinds)[(kinds != "read-write") & (pairs["lag"] > 0)].drop_duplicates(["source", "target"])
    strength = rng.uniform(0, 1, len(pairs))
    pairs = pairs.assign(space="stream", overlap=strength, overlap_null_mean=0.06, overlap_excess=strength)
    pairs = pairs.assign(
        overlap_sign_flip_mean=0.06,
        overlap_mean_matched_mean=0.06,
        overlap_norm_matched_mean=np.nan,
        overlap_q_value=1.0,
    )
    for source, target, kind, weight in pairs[["source", "target", "kind", "overlap_excess"]].head(20_000).to_numpy():
        graph.add_edge(source, target, key=kind, kind=kind, overlap_excess=weight)
    assert len(graph) == 4998
    assert graph.number_of_edges() == 20_000
    spaces = pd.DataFrame({"name": ["stream"], "overlap_basis_independent": [True]})
    found = structure(graph, weights, spaces, pairs, draws=1)
    assert len(found.members) > 5000
    assert set(found.hubs["measure"]) == {"strength", "pagerank", "source pagerank", "betweenness"}


def test_tables_hold_plain_numbers_and_text():
    found = structure(*random_toy(layers=4, heads=2).tables, draws=2)
    for name in TABLES:
        json.loads(getattr(found, name).to_json(orient="records"))
