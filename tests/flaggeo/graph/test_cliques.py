from itertools import combinations

import pytest

from flaggeo.graph.cliques import CLIQUE_COLUMNS, clique_tables
from tests.flaggeo.graph.builders import random_toy, toy


def cliques_of(network, threshold=0.5, draws=5):
    return clique_tables(network.possible, network.nodes, threshold=threshold, draws=draws, seed=0)


def members(cliques):
    return [set(group["subspace"]) for _, group in cliques.groupby("clique")]


def test_a_planted_clique_of_heads_is_found_with_its_weakest_meeting():
    group = [f"layers.{layer}.q.heads.{head}.read" for layer, head in ((0, 1), (0, 3), (1, 0), (2, 2))]
    strengths = dict.fromkeys(combinations(group, 2), 0.8) | {(group[0], group[3]): 0.6}
    strengths[("layers.0.o.heads.0.write", "layers.1.o.heads.1.write")] = 0.9
    strengths[("layers.0.o.heads.0.write", "layers.2.o.heads.1.write")] = 0.4
    for head in range(4):  # pairs, with which rewiring can break the clique
        strengths[(f"layers.3.q.heads.{head}.read", f"layers.4.q.heads.{head}.read")] = 0.55
    cliques, comparisons = cliques_of(toy(strengths, layers=5, heads=4))
    assert tuple(cliques.columns) == CLIQUE_COLUMNS
    assert members(cliques)[:2] == [set(group), {"layers.0.o.heads.0.write", "layers.1.o.heads.1.write"}]
    assert cliques.loc[cliques["clique"] == 0, "least"].unique() == pytest.approx([0.6])
    assert cliques["side"].tolist() == ["read"] * 4 + ["write"] * 2 + ["read"] * 8
    assert comparisons["value"].to_dict() == {
        "redundant pairs": 5,
        "redundant groups": 1,
        "largest redundant group": 4,
    }
    assert comparisons.loc["largest redundant group", "null_mean"] < 4


def test_cliques_of_a_random_graph_equal_brute_force():
    network = random_toy(share=0.5, layers=2, heads=4)
    strong = network.edges[network.edges["weight"] >= 0.3]
    adjacent = {frozenset(pair) for pair in zip(strong["source"], strong["target"], strict=True)}
    expected = set()
    for role, side in (("q", "read"), ("v", "read"), ("o", "write")):
        heads = [
            f"layers.{layer}.{role}.heads.{h}.{side}" for layer in range(2) for h in range(4 if role != "v" else 2)
        ]
        whole = [
            frozenset(chosen)
            for size in range(2, len(heads) + 1)
            for chosen in combinations(heads, size)
            if all(frozenset(pair) in adjacent for pair in combinations(chosen, 2))
        ]
        expected |= {clique for clique in whole if not any(clique < larger for larger in whole)}
    assert {frozenset(clique) for clique in members(cliques_of(network, threshold=0.3)[0])} == expected
    assert len(expected) > 5


def test_heads_of_different_roles_are_not_redundant():
    cliques, comparisons = cliques_of(toy({("layers.0.q.heads.0.read", "layers.1.v.heads.0.read"): 0.9}, heads=4))
    assert cliques.empty
    assert (comparisons["value"] == 0).all()


def test_without_heads_both_tables_are_empty():
    cliques, comparisons = cliques_of(toy({("layers.0.q.read", "layers.1.q.read"): 0.9}))
    assert cliques.empty
    assert comparisons.empty
