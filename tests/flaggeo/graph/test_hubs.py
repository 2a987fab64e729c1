import networkx as nx
import numpy as np
import pytest

from flaggeo.graph.hubs import HUB_COLUMNS, hub_table
from flaggeo.graph.null_graphs import rewired
from flaggeo.graph.signal_graph import passages, signal_graph
from tests.flaggeo.graph.builders import random_toy, strengths_of, toy


def hubs_of(network, *, draws=10, graphs=10, seed=0):
    edges, possible = network.edges, network.possible
    nulls = rewired(edges, possible, draws=graphs, seed=seed)
    return hub_table(network.nodes, edges, nulls, possible, passages(network.weights), draws=draws, seed=seed)


def strengths(table, kind="write-read"):
    return table[(table["measure"] == "strength") & (table["kind"] == kind)].set_index("subspace")


@pytest.fixture(scope="module")
def planted():
    """Among random edges, nearly every later reading meets what the second layer's down writes."""
    background = random_toy(layers=6, share=0.05)
    hub = "layers.1.down.write"
    readers = [f"layers.{layer}.{role}.read" for layer in range(2, 6) for role in ("q", "v", "up")]
    return hub, toy(strengths_of(background) | {(hub, reader): 0.5 for reader in readers}, layers=6)


def test_a_planted_hub_is_found_by_each_measure(planted):
    hub, network = planted
    table = hubs_of(network)
    assert tuple(table.columns) == HUB_COLUMNS
    row = strengths(table).loc[hub]
    assert row["value"] > row["null_largest"]
    assert row["z"] > 4
    assert strengths(table).index[0] == hub
    for measure in ("source pagerank", "betweenness"):
        assert table.loc[table["measure"] == measure, "subspace"].head(3).eq(hub).any()


def test_random_graphs_hardly_ever_have_a_hub():
    exceeded = 0
    for seed in range(10):
        table = strengths(hubs_of(random_toy(layers=3, share=0.2, seed=seed), graphs=0, seed=seed))
        exceeded += (table["value"] > table["null_largest"]).any()
    assert exceeded <= 4  # one in eleven graphs is expected to, in 10 seeds


def test_strengths_are_the_weighted_degrees_of_networkx(planted):
    network = planted[1]
    table = hubs_of(network, draws=0, graphs=0)
    for kind in network.edges["kind"].unique():
        graph = nx.Graph()
        rows = network.edges[network.edges["kind"] == kind]
        graph.add_weighted_edges_from(zip(rows["source"], rows["target"], rows["weight"], strict=True))
        values = strengths(table, kind)
        assert values["value"].to_dict() == pytest.approx(dict(graph.degree(weight="weight")))
        assert values["edges"].to_dict() == dict(graph.degree())
        assert values["null_largest"].isna().all()


def test_betweenness_counts_strongest_paths(planted):
    network = planted[1]
    table = hubs_of(network, draws=0, graphs=0)
    graph = signal_graph(network.edges, passages(network.weights))
    assert len(graph) <= 64
    counts = dict.fromkeys(graph, 0.0)
    for source in graph:
        for target in nx.descendants(graph, source):
            paths = list(nx.all_shortest_paths(graph, source, target, weight="length"))
            for path in paths:
                for inner in path[1:-1]:
                    counts[inner] += 1 / len(paths)
    number = len(graph)
    expected = {name: count / ((number - 1) * (number - 2)) for name, count in counts.items()}
    found = table[table["measure"] == "betweenness"].set_index("subspace")["value"].to_dict()
    assert found == pytest.approx(expected)


def test_a_graph_without_signals_has_strengths_alone():
    network = toy({("layers.0.q.read", "layers.1.q.read"): 0.5})
    table = hubs_of(network, draws=2, graphs=2)
    assert set(table["measure"]) == {"strength"}
    assert np.isfinite(table["null_mean"]).all()
