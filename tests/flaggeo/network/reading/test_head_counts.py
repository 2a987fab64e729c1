"""Rows of the roles that share a tensor, against rows that are labelled one by one."""

import pytest

from flaggeo.network import HeadGroup
from flaggeo.network.families.record import Cut
from flaggeo.network.reading.head_counts import HeadCounts, segment

WIDTH = 3
GROUPED = HeadCounts({HeadGroup.QUERY: 6, HeadGroup.KEY_VALUE: 2})
EQUAL = HeadCounts({HeadGroup.QUERY: 4, HeadGroup.KEY_VALUE: 4})


def labelled(order, groups, per_group):
    """(role, head, row) of every row of a fused tensor, written out block by block."""
    rows = []
    for group in range(groups):
        for role in order:
            count = per_group[role]
            rows += [(role, group * count + place, row) for place in range(count) for row in range(WIDTH)]
    return rows


CASES = {
    "contiguous": (Cut("1", ("q", "k", "v")), GROUPED, 1, {"q": 6, "k": 2, "v": 2}),
    "per head": (Cut("heads", ("q", "k", "v")), EQUAL, 4, {"q": 1, "k": 1, "v": 1}),
    "grouped": (Cut("key_value_heads", ("q", "k", "v")), GROUPED, 2, {"q": 3, "k": 1, "v": 1}),
    "two blocks, values first": (Cut("2", ("v", "k", "q")), EQUAL, 2, {"q": 2, "k": 2, "v": 2}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("role", ["q", "k", "v"])
def test_rows_of_every_head_are_the_labelled_ones(case, role):
    cut, counts, groups, per_group = CASES[case]
    rows = labelled(cut.order, groups, per_group)
    found = segment(cut, role, len(rows), counts, lambda _: None)
    for head in range(counts.count(role)):
        first, last = found.of_head(head)
        assert rows[first:last] == [(role, head, row) for row in range(WIDTH)]
    block = len(rows) // groups
    first, last = found.rows
    whole = [row for group in range(groups) for row in rows[group * block + first : group * block + last]]
    assert whole == [row for row in rows if row[0] == role]


def test_roles_without_heads_have_equal_shares_of_each_block():
    stacked, interleaved = Cut("1", ("gate", "up")), Cut("rows", ("gate", "up"))
    one = segment(stacked, "up", 10, None, lambda _: None)
    assert (one.groups, one.rows) == (1, (5, 10))
    other = segment(interleaved, "up", 10, None, lambda _: None)
    assert (other.groups, other.rows) == (5, (1, 2))


def test_a_gate_stands_behind_each_query_head():
    found = segment(Cut("heads", ("q", "attention_gate")), "attention_gate", 24, EQUAL, lambda _: None)
    assert (found.groups, found.rows, found.width) == (4, (3, 6), 3)


def test_segments_of_unlike_width_take_theirs_from_the_settings():
    cut = Cut("heads", ("k", "v"), ("nope", "value"))
    settings = {"nope": 5, "value": 2}
    found = segment(cut, "v", 28, EQUAL, settings.get)
    assert found.of_head(3) == (26, 28)
    assert segment(cut, "v", 28, EQUAL, {"nope": 5}.get) is None
    with pytest.raises(ValueError, match="4 blocks of 7 rows"):
        segment(cut, "v", 32, EQUAL, settings.get)


def test_without_the_number_of_heads_nothing_is_cut():
    assert segment(Cut("1", ("q", "k", "v")), "q", 12, None, lambda _: None) is None


@pytest.mark.parametrize(("cut", "rows"), [(Cut("heads", ("q", "k", "v")), 26), (Cut("1", ("q", "k", "v")), 25)])
def test_rows_that_cannot_be_divided_are_refused(cut, rows):
    with pytest.raises(ValueError, match="a height divisible by"):
        segment(cut, "q", rows, EQUAL, lambda _: None)
