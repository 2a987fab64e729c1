import pandas as pd
import pytest

from flaggeo.alignment import Column, Schema

SCHEMA = Schema(
    "One row for each place",
    (
        Column("name", "str", "name"),
        Column("layer", "Int64", "layer"),
        Column("count", "int64", "number of them"),
        Column("value", "float64", "how large it is"),
        Column("shared", "bool", "whether it is shared"),
    ),
)
TYPES = {column.name: column.dtype for column in SCHEMA.columns}
ROW = {"name": "q", "layer": 3, "count": 2, "value": 0.5, "shared": True}


def types(table):
    return {name: str(dtype) for name, dtype in table.dtypes.items()}


@pytest.mark.parametrize(
    ("data", "rows"),
    [([ROW, ROW], 2), (iter([ROW]), 1), ({name: [value] * 3 for name, value in ROW.items()}, 3), ([], 0), ({}, 0)],
    ids=["rows", "iterator", "columns", "no rows", "no columns"],
)
def test_a_table_has_the_columns_and_types_of_its_schema(data, rows):
    table = SCHEMA.frame(data)
    assert types(table) == TYPES
    assert list(table.columns) == SCHEMA.names
    assert len(table) == rows


def test_one_value_stands_for_all_rows_beside_a_column():
    table = SCHEMA.frame(ROW | {"value": [0.1, 0.2]})
    assert table["value"].tolist() == [0.1, 0.2]
    assert table["name"].tolist() == ["q", "q"]


def test_what_a_row_lacks_is_missing_and_what_the_schema_lacks_is_left_out():
    table = SCHEMA.frame([ROW, {"name": "k", "count": 1, "shared": False, "curve": [1, 2]}])
    assert types(table) == TYPES
    assert table.loc[1, ["layer", "value"]].isna().all()
    assert table.loc[0].to_dict() == ROW


def test_tables_are_joined_and_none_at_all_are_an_empty_one():
    one, empty = SCHEMA.frame([ROW]), SCHEMA.frame()
    pd.testing.assert_frame_equal(SCHEMA.concatenated([empty, one, empty, one]), SCHEMA.frame([ROW, ROW]))
    without_layer = {"name": "k", "count": [1, 2], "value": 0.1, "shared": False}
    columns = SCHEMA.concatenated([one, {}, without_layer])
    assert types(columns) == TYPES
    assert columns["layer"].tolist() == [3, pd.NA, pd.NA]
    assert columns["count"].tolist() == [2, 1, 2]
    for none in ([], [empty, empty]):
        pd.testing.assert_frame_equal(SCHEMA.concatenated(none), empty)
