import networkx as nx
import pandas as pd
import pytest

from flaggeo.graph.alignment_graph import alignment_graph
from flaggeo.graph.stability import STABLE, STANDS, standing
from tests.flaggeo.graph.builders import random_toy
from tests.flaggeo.graph.test_hubs import hubs_of, strengths

CASES = {  # excess and q-value at half and twice the rank and after rounding; whether each stands
    "stands": ([0.3, 0.0, 0.2, 0.01, 0.1, 0.005], [True, True, True]),
    "insignificant at half the rank": ([0.3, 0.02, 0.2, 0.0, 0.1, 0.0], [False, True, True]),
    "no excess at twice the rank": ([0.3, 0.0, 0.0, 0.0, 0.1, 0.0], [True, False, True]),
    "explained by rounding": ([0.3, 0.0, 0.2, 0.0, -0.1, 0.3], [True, True, False]),
    "not tested at half the rank": ([0.3, None, 0.2, 0.0, 0.1, 0.0], [False, True, True]),
}


def stability(cases):
    names = [f"{condition}_{number}" for condition in STANDS for number in ("excess", "q_value")]
    table = pd.DataFrame(cases, columns=names, dtype="float64")
    return table.assign(source=[f"a{row}" for row in range(len(table))], target="b", kind="write-read")


@pytest.mark.parametrize("case", CASES)
def test_an_edge_stands_where_it_passes_both_tests_and_is_stable_where_it_always_does(case):
    numbers, expected = CASES[case]
    row = standing(stability([numbers]), 0.01).iloc[0]
    assert row[list(STANDS.values())].tolist() == expected
    assert row[STABLE] == all(expected)


def test_edges_of_the_graph_say_whether_they_stand():
    weights = pd.DataFrame(
        {"name": ["a0", "a1", "b"], "tensor": ["a0", "a1", "b"], "role": "q", "layer": [0, 0, 1], "head": None}
        | {
            "expert": None,
            "stacked": None,
            "source": "x",
            "target": "y",
            "source_dim": 8,
            "target_dim": 8,
            "rank": 2,
            "effective_rank": 2.0,
        }
    )
    cases = stability([CASES["stands"][0], CASES["explained by rounding"][0]])
    cases = cases.assign(source=cases["source"] + ".write", target="b.read")
    measures = ["overlap", "overlap_effect_size", "overlap_excess", "overlap_z", "smallest_angle", "geodesic_distance"]
    pairs = cases[["source", "target", "kind"]].assign(overlap_q_value=0.0, intersection_dimension=0)
    pairs = pairs.assign(basis_independent=True, lag=1, **dict.fromkeys(measures, 0.5))
    edges = alignment_graph(weights, pairs, cases).edges
    stands = {source: edge[STABLE] for source, _, edge in edges(data=True)}
    assert stands == {"a0.write": True, "a1.write": False}
    assert not edges["a1.write", "b.read", "write-read"]["stands_after_rounding"]
    assert all(STABLE not in edge for _, _, edge in alignment_graph(weights, pairs).edges(data=True))


def test_the_strength_from_stable_edges_is_theirs_alone():
    network = random_toy(layers=3, share=0.2)
    assert hubs_of(network, draws=0, graphs=0)["stable_value"].isna().all()
    for place, edge in enumerate(network.graph.edges):
        network.graph.edges[edge].update(dict.fromkeys((*STANDS.values(), STABLE), place % 2 == 0))
    table = strengths(hubs_of(network, draws=0, graphs=0))
    stable = nx.Graph()
    rows = network.edges[network.edges[STABLE] & (network.edges["kind"] == "write-read")]
    stable.add_weighted_edges_from(zip(rows["source"], rows["target"], rows["weight"], strict=True))
    expected = {name: stable.degree(name, weight="weight") if name in stable else 0 for name in table.index}
    assert table["stable_value"].to_dict() == pytest.approx(expected)
    assert (table["stable_value"] < table["value"]).any()
