import pytest

from flaggeo.graph.edges import EDGE_COLUMNS, STABILITY_COLUMNS, edge_table, node_table, possible_pairs
from tests.flaggeo.graph.builders import toy

MEETING = ("layers.0.o.write", "layers.1.q.read")


def test_edges_have_their_weight_and_their_space():
    edges = toy({MEETING: 0.3}).edges
    assert tuple(edges.columns) == (*EDGE_COLUMNS, *STABILITY_COLUMNS)
    assert edges.iloc[0][list(EDGE_COLUMNS)].tolist() == [*MEETING, "write-read", "stream", 0.3]
    assert edges[list(STABILITY_COLUMNS)].isna().all(axis=None)


@pytest.mark.parametrize("strength", [0.0, -0.1])
def test_an_edge_no_stronger_than_chance_is_none(strength):
    assert toy({MEETING: strength}).edges.empty


def test_spaces_that_are_not_asked_for_are_left_out():
    network = toy({MEETING: 0.3})
    nodes = node_table(network.graph, ["vocabulary"])
    assert set(nodes.index) == {"embed.read", "unembed.write"}
    assert edge_table(network.graph, nodes).empty
    assert possible_pairs(network.pairs, nodes).empty


def test_pairs_that_say_nothing_are_left_out_and_the_others_know_their_ends():
    network = toy({MEETING: 0.3})
    network.pairs.loc[0, "overlap_excess"] = float("nan")
    possible = network.possible
    assert len(possible) == len(network.pairs) - 1
    row = possible.set_index(["source", "target"]).loc[MEETING]
    assert (row["source_role"], row["target_layer"], row["target_head"]) == ("o", 1, -1)


def test_subspaces_of_rank_zero_are_left_out():
    network = toy({MEETING: 0.3})
    network.graph.nodes[MEETING[0]]["rank"] = 0
    assert MEETING[0] not in network.nodes.index
