from itertools import combinations

import pytest

from flaggeo.graph.communities import find_communities
from flaggeo.graph.null_graphs import rewired
from tests.flaggeo.graph.builders import random_toy, toy

READERS = [f"layers.{layer}.{role}.read" for layer in range(8) for role in ("q", "v", "up")]


def communities_of(network, draws=8):
    nulls = rewired(network.edges, network.possible, draws=draws, seed=0)
    return find_communities(network.nodes, network.edges, nulls, seed=0)


def within(groups):
    """Every two of a group meet, with the rank in the list of readers as the order of depth."""
    return {pair: 0.4 for group in groups for pair in combinations(sorted(group, key=READERS.index), 2)}


def measured(found, edges="symmetric"):
    return found.comparisons[found.comparisons["edges"] == edges].set_index("measure")


def partition(found, edges="symmetric"):
    members = found.members[found.members["edges"] == edges]
    return {frozenset(group) for _, group in members.groupby("community")["subspace"]}


def test_planted_bands_of_layers_are_found_and_told_from_roles():
    bands = [[name for name in READERS if int(name.split(".")[1]) // 2 == band] for band in range(4)]
    found = communities_of(toy(within(bands), layers=8))
    assert partition(found) == {frozenset(band) for band in bands}
    assert measured(found).loc["modularity", "value"] == pytest.approx(0.75)
    assert measured(found).loc["modularity", "z"] > 5
    assert measured(found).loc["depth", "value"] > 0.9
    assert measured(found).loc["ami layer", "value"] > 0.5
    assert measured(found).loc["ami role", "value"] < 0.01
    row = found.table[found.table["edges"] == "symmetric"].iloc[0]
    assert (row["size"], row["last_layer"] - row["first_layer"]) == (6, 1)


def test_planted_roles_are_found_and_told_from_layers():
    roles = [[name for name in READERS if f".{role}." in name] for role in ("q", "v", "up")]
    found = communities_of(toy(within(roles), layers=8))
    assert partition(found) == {frozenset(role) for role in roles}
    assert measured(found).loc["ami role", "value"] == pytest.approx(1)
    assert measured(found).loc["nmi role", "value"] == pytest.approx(1)
    assert measured(found).loc["ami layer", "value"] < 0.01
    assert set(found.table["main_role_share"]) == {1.0}


@pytest.mark.parametrize("seed", range(2))
def test_random_graphs_have_no_more_modularity_than_rewired_ones(seed):
    found = communities_of(random_toy(layers=6, share=0.12, seed=seed), draws=8)
    for edges in ("symmetric", "all"):
        assert abs(measured(found, edges).loc["modularity", "z"]) < 5


def test_signals_join_communities_only_among_all_edges():
    found = communities_of(toy({("layers.0.o.write", "layers.1.q.read"): 0.5}), draws=2)
    assert set(found.members["edges"]) == {"all"}
    assert partition(found, "all") == {frozenset({"layers.0.o.write", "layers.1.q.read"})}


def test_without_edges_there_are_none():
    found = communities_of(toy({}), draws=2)
    assert found.members.empty
    assert found.table.empty
    assert found.comparisons.empty
