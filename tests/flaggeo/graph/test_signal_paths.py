from itertools import pairwise
from math import prod

import networkx as nx
import numpy as np
import pytest

from flaggeo.graph.signal_graph import passages, signal_graph
from flaggeo.graph.signal_paths import PATH_COLUMNS, TIED_END, path_tables
from tests.flaggeo.graph.builders import random_toy, strengths_of, toy


def paths_of(network, draws=5, **options):
    return path_tables(network.possible, network.nodes, passages(network.weights), draws=draws, seed=0, **options)


def chains(paths):
    return [[*group["source"], group["target"].iloc[-1]] for _, group in paths.groupby("path")]


PLANTED = {
    ("embed.write", "layers.0.v.read"): 0.9,
    ("layers.0.o.write", "layers.2.up.read"): 0.8,
    ("layers.2.down.write", "unembed.read"): 0.7,
}


def test_the_planted_path_is_the_strongest_and_stronger_than_by_chance():
    background = random_toy(layers=4, share=0.05)
    weak = {pair: weight / 6 for pair, weight in strengths_of(background).items() if pair[1] != "unembed.read"}
    paths, comparisons = paths_of(toy(weak | PLANTED), draws=20)
    assert tuple(paths.columns) == PATH_COLUMNS
    assert chains(paths)[0] == [
        "embed.write",
        "layers.0.v.read",
        "layers.0.o.write",
        "layers.2.up.read",
        "layers.2.down.write",
        "unembed.read",
    ]
    best = paths[paths["path"] == 0]
    assert best["kind"].tolist() == ["write-read", "passage", "write-read", "passage", "write-read"]
    assert best["weight"].tolist() == pytest.approx([0.9, 1, 0.8, 1, 0.7])
    assert best["strength"].iloc[0] == pytest.approx(0.9 * 0.8 * 0.7)
    row = comparisons.loc["strength of the strongest path"]
    assert row["value"] == pytest.approx(0.504)
    assert row["value"] > row["null_largest"]


@pytest.mark.parametrize("seed", range(5))
def test_the_strongest_paths_equal_brute_force_over_all_paths(seed):
    network = random_toy(layers=3, share=0.9, seed=seed)
    graph = signal_graph(network.edges, passages(network.weights))
    every = sorted(
        (
            prod(graph.edges[step]["weight"] for step in pairwise(path))
            for path in nx.all_simple_paths(graph, "embed.write", "unembed.read")
        ),
        reverse=True,
    )
    assert len(every) > 10
    paths, comparisons = paths_of(network, count=5)
    found = paths.groupby("path")["strength"].first()
    assert found.tolist() == pytest.approx(every[:5])
    assert comparisons["value"].iloc[0] == pytest.approx(every[0])
    steps = paths.groupby("path")["weight"].prod()
    assert steps.tolist() == pytest.approx(found.tolist())


def test_queries_and_keys_lead_nowhere():
    dead_end = {("embed.write", "layers.0.q.read"): 0.9, ("layers.0.o.write", "unembed.read"): 0.9}
    paths, comparisons = paths_of(toy(dead_end))
    assert paths.empty
    assert comparisons["value"].tolist() == [0]


def test_a_pair_within_chance_is_no_step():
    network = toy(PLANTED)
    network.pairs.loc[network.pairs["target"] == "unembed.read", "overlap_q_value"] = 0.5
    assert paths_of(network)[0].empty


def test_without_an_unembedding_the_embedding_is_read_back():
    strengths = {
        ("embed.write", "layers.0.up.read"): 0.5,
        ("embed.write", "layers.0.down.write"): 0.4,
        ("embed.write", "layers.1.o.write"): 0.9,
    }
    paths, _ = paths_of(toy(strengths, unembed=False))
    assert chains(paths) == [["embed.write", "layers.0.up.read", "layers.0.down.write", TIED_END]]
    assert paths["kind"].tolist() == ["write-read", "passage", "write-write"]
    assert paths["strength"].iloc[0] == pytest.approx(0.2)


def test_with_an_unembedding_writings_alike_the_embedding_are_no_end():
    strengths = {("embed.write", "layers.0.up.read"): 0.5, ("embed.write", "layers.0.down.write"): 0.4}
    assert paths_of(toy(strengths))[0].empty


def test_without_an_embedding_there_is_no_start():
    paths, comparisons = paths_of(toy({("layers.0.o.write", "unembed.read"): 0.5}, embed=False))
    assert paths.empty
    assert comparisons.empty


def test_an_overlap_of_one_has_no_negative_length():
    strengths = {("embed.write", "unembed.read"): float(np.nextafter(1, 2))}
    paths, _ = paths_of(toy(strengths), draws=1)
    assert paths["strength"].tolist() == [1.0]
