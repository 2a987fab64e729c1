from collections import Counter
from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from flaggeo.graph.null_graphs import compared, placed_strengths, rewired
from tests.flaggeo.graph.builders import random_toy


def degrees(edges):
    ends = pd.concat([edges.assign(end=edges[side]) for side in ("source", "target")])
    return Counter(zip(ends["kind"], ends["end"], strict=True))


def unordered(table):
    return {frozenset(pair) for pair in zip(table["source"], table["target"], strict=True)}


@pytest.mark.parametrize("seed", range(3))
def test_rewired_graphs_keep_degrees_kinds_and_weights_and_stay_possible(seed):
    network = random_toy(seed=seed, layers=5)
    edges, possible = network.edges, network.possible
    tables = rewired(edges, possible, draws=4, seed=seed)
    assert len(tables) == 4
    for table in tables:
        assert degrees(table) == degrees(edges)
        assert len(unordered(table)) == len(table)
        assert unordered(table) <= unordered(possible)
        for kind, group in table.groupby("kind"):
            before = edges.loc[edges["kind"] == kind, "weight"]
            assert sorted(group["weight"]) == sorted(before)
        shared = unordered(table) & unordered(edges)
        assert len(shared) < 0.6 * len(edges)


def test_rewired_signals_still_run_forward():
    network = random_toy(layers=5)
    forward = set(zip(network.possible["source"], network.possible["target"], strict=True))
    for table in rewired(network.edges, network.possible, draws=3, seed=0):
        written = table[table["kind"] == "write-read"]
        assert set(zip(written["source"], written["target"], strict=True)) <= forward


def test_the_seed_alone_decides():
    network = random_toy()
    first, again, other = (rewired(network.edges, network.possible, draws=2, seed=seed) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first[1], again[1])
    assert unordered(first[1]) != unordered(other[1])
    assert unordered(first[0]) != unordered(first[1])


def bipartite(pairs):
    sources, targets = zip(*pairs, strict=True)
    return pd.DataFrame({"source": sources, "target": targets, "kind": "write-read", "space": "stream"})


def test_every_graph_of_the_same_degrees_is_as_frequent():
    """Three writings, three readings, one forbidden pair: all graphs of these degrees, by enumeration."""
    allowed = [(a, b) for a in "abc" for b in "xyz" if (a, b) != ("a", "x")]
    start = [("a", "y"), ("b", "x"), ("b", "z"), ("c", "z")]
    wanted = Counter(end for pair in start for end in pair)
    graphs = [
        frozenset(chosen)
        for chosen in combinations(allowed, len(start))
        if Counter(end for pair in chosen for end in pair) == wanted
    ]
    draws = 1000
    drawn = rewired(bipartite(start).assign(weight=1.0), bipartite(allowed), draws=draws, seed=0)
    seen = Counter(frozenset(zip(table["source"], table["target"], strict=True)) for table in drawn)
    assert set(seen) == set(graphs)
    expected = draws / len(graphs)
    assert max(abs(count - expected) for count in seen.values()) < 4.5 * np.sqrt(expected)


def test_a_graph_without_a_possible_switch_stays():
    edges = bipartite([("a", "x"), ("b", "y")]).assign(weight=[0.2, 0.4])
    (table,) = rewired(edges, edges, draws=1, seed=0)
    assert unordered(table) == unordered(edges)


def test_placed_strengths_equal_the_enumeration_of_all_placements():
    possible = bipartite([("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("b", "z"), ("c", "z")])
    edges = possible.iloc[[0, 3, 4]].assign(weight=[0.2, 0.5, 0.9])
    strengths = {name: [] for name in "abcxyz"}
    for slots in combinations(range(len(possible)), 3):
        for order in (
            [0.2, 0.5, 0.9],
            [0.2, 0.9, 0.5],
            [0.5, 0.2, 0.9],
            [0.5, 0.9, 0.2],
            [0.9, 0.2, 0.5],
            [0.9, 0.5, 0.2],
        ):
            placed = dict(zip(slots, order, strict=True))
            for name in strengths:
                met = (possible["source"] == name) | (possible["target"] == name)
                strengths[name].append(sum(weight for slot, weight in placed.items() if met[slot]))
    table = placed_strengths(edges, possible, draws=200, seed=0).set_index("subspace")
    for name, values in strengths.items():
        assert table.loc[name, "null_mean"] == pytest.approx(np.mean(values))
        assert table.loc[name, "null_sd"] == pytest.approx(np.std(values))
    assert table["null_largest"].unique() == pytest.approx([max(max(values) for values in strengths.values())])


def test_comparison_with_no_null_one_null_and_a_constant_null():
    none = compared({"a": 1.0}, [])
    assert none.drop(columns="value").isna().all(axis=None)
    one = compared({"a": 1.0}, [{"a": 0.5}])
    assert one.loc["a", "null_mean"] == 0.5
    assert np.isnan(one.loc["a", "null_sd"])
    constant = compared({"a": 1.0}, [{"a": 0.5}, {"a": 0.5}])
    assert np.isnan(constant.loc["a", "z"])
    several = compared({"a": 4.0, "b": 0.0}, [{"a": 1.0}, {"a": 3.0, "b": 5.0}])
    assert several.loc["a", ["null_mean", "null_sd", "z"]].tolist() == pytest.approx([2, np.sqrt(2), np.sqrt(2)])
    assert several.loc["b", "null_mean"] == 2.5
    assert (several["null_largest"] == 5).all()
