import numpy as np
import pytest

from flaggeo.graph.similar_layers import BLOCK_COLUMNS, block_table
from tests.flaggeo.graph.builders import toy

SIDES = [("q", "read"), ("v", "read"), ("up", "read"), ("o", "write"), ("down", "write")]


def alike(first, second, strength):
    return {(f"layers.{first}.{role}.{side}", f"layers.{second}.{role}.{side}"): strength for role, side in SIDES}


def test_the_planted_neighbours_come_first_beside_layers_that_are_none():
    table = block_table(toy(alike(2, 3, 0.6) | alike(0, 4, 0.2), layers=6, noise=0.01).possible)
    assert tuple(table.columns) == BLOCK_COLUMNS
    first = table.iloc[0]
    assert (first["layer"], first["next_layer"], first["roles"]) == (2, 3, 5)
    assert first["value"] == pytest.approx(0.6)
    assert len(table) == 5
    assert first["null_largest"] == pytest.approx(0.2)
    assert first["value"] > first["null_largest"] > table["value"].iloc[1]


def test_reads_and_writes_are_told_apart():
    strengths = {pair: value for pair, value in alike(0, 1, 0.5).items() if pair[0].endswith("read")}
    row = block_table(toy(strengths, layers=2).possible).iloc[0]
    assert row["reads"] == pytest.approx(0.5)
    assert row["writes"] == pytest.approx(0)
    assert row["value"] == pytest.approx(0.3)
    assert np.isnan(row["null_mean"])


def test_roles_that_differ_and_heads_do_not_count():
    strengths = {
        ("layers.0.q.read", "layers.1.v.read"): 0.9,
        ("layers.0.q.heads.0.read", "layers.1.q.heads.0.read"): 0.9,
    }
    assert block_table(toy(strengths, layers=2, heads=2).possible)["value"].tolist() == pytest.approx([0])


@pytest.mark.parametrize("layers", [0, 1])
def test_fewer_than_two_layers_have_no_neighbours(layers):
    assert block_table(toy({}, layers=layers).possible).empty
