import json

import pandas as pd
import pytest

from flaggeo import ResultError
from flaggeo.training.monitor.records import SCHEMAS, Records, read_provenance, read_record, steps_in

TABLES = {name: schema.frame() for name, schema in SCHEMAS.items()}


@pytest.fixture
def folder(tmp_path):
    records = Records(tmp_path / "run", {"family": "llama"})
    for step in (0, 100, 200):
        records.write(step, TABLES)
    records.drop(100)
    return tmp_path / "run"


def test_records_are_read_back_and_what_was_dropped_is_gone(folder):
    assert steps_in(folder) == [0, 200]
    assert read_provenance(folder) == {"family": "llama"}
    for name, table in read_record(folder, 200).items():
        pd.testing.assert_frame_equal(table, TABLES[name], check_dtype=True)
    assert sorted(path.name for path in folder.iterdir()) == ["monitor.json", "step-000000000000", "step-000000000200"]
    with pytest.raises(FileNotFoundError):
        read_record(folder, 100)


def test_what_a_killed_writer_leaves_is_no_record(folder):
    (folder / ".step-000000000300.flaggeo-new-abc").mkdir()
    (folder / ".step-000000000300.flaggeo-new-abc" / "drift.parquet").write_bytes(b"PAR1")
    (folder / ".step-000000000100.gone").mkdir()
    assert steps_in(folder) == [0, 200]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda file: file.write_bytes(b"nothing"), "cannot read this record"),
        (lambda file: file.write_bytes(file.read_bytes()[:-20]), "cannot read this record"),
        (lambda file: pd.DataFrame({"a": [1]}).to_parquet(file), "expected the columns of a monitor"),
        (lambda file: file.unlink(), "missing"),
    ],
)
def test_a_damaged_or_foreign_part_is_named(folder, spoil, message):
    spoil(folder / "step-000000000200" / "drift.parquet")
    with pytest.raises(ResultError, match=message) as error:
        read_record(folder, 200)
    assert "step-000000000200" in str(error.value)
    assert "\n" not in str(error.value)


def test_words_in_the_place_of_numbers_are_refused(folder):
    file = folder / "step-000000000200" / "drift.parquet"
    columns = {column.name: ["x"] for column in SCHEMAS["drift"].columns}
    pd.DataFrame(columns).to_parquet(file)
    with pytest.raises(ResultError, match="cannot read this record"):
        read_record(folder, 200)


@pytest.mark.parametrize("text", ["{", json.dumps({"schema_version": 99}), json.dumps({"schema_version": 1}), "[]"])
def test_a_provenance_that_cannot_be_understood_is_refused(folder, text):
    (folder / "monitor.json").write_text(text)
    with pytest.raises(ResultError, match=r"monitor\.json"):
        read_provenance(folder)
