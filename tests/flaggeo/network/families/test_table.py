"""The table as a file, and what every record of it has to fulfil."""

import re
from dataclasses import replace

import pytest

from flaggeo.network.families.record import Cut, Naming, Norm, Piece, Record, Tower
from flaggeo.network.families.table import TABLE, Table, dump, load_records, load_table, parse
from tests.flaggeo.network.families.tiny_models import fits

RECORD = Record(
    model_types=("one", "two"),
    towers=(
        Tower(heads="n_head", rotary=False, unturned=4, stream_activation="act=relu", channels_apart=True),
        Tower(name="decoder", tied=True),
    ),
    saved=Naming(
        pieces=(Piece("h.{layer}.a", "q", transposed=True, cut=Cut("1", ("q", "", "k"), ("w", "x", "w"))),),
        norms=(Norm("h.{layer}.n", "layer", 1.0, on_stream=True),),
        other={"h.{layer}.b": "bias"},
    ),
    live=Naming(pieces=(Piece("h.{layer}.c", "q", stacked=True, after="d", norm="n{layer-1}", scale="s"),)),
)


def test_a_record_comes_back_from_its_text():
    table = Table("5", (RECORD,), {"three": "no weights"}, {"one": {"gated": False, "vision_config.gated": True}})
    assert parse(dump(table)) == table


def test_every_piece_stands_on_a_line_of_its_own():
    lines = dump(Table("5", (RECORD,), {})).splitlines()
    assert sum('"role"' in line for line in lines) == 2
    assert all(len(re.findall(r'"(?:role|kind)"', line)) < 2 for line in lines)


def test_records_are_ordered_by_their_model_types():
    other = replace(RECORD, model_types=("a",))
    assert parse(dump(Table("5", (RECORD, other), {}))).records == (other, RECORD)


def test_the_table_is_written_as_it_is_read():
    assert dump(load_table()) == TABLE.read_text()


def namings():
    for record in load_records():
        for name, naming in (("saved", record.saved), ("live", record.live)):
            if naming is not None:
                yield pytest.param(record, naming, id=f"{record.model_types[0]}-{name}")


def test_settings_or_names_tell_the_records_of_one_model_type_apart():
    asked: dict = {}
    for record in load_records():
        for model_type in record.model_types:
            asked.setdefault((model_type, frozenset(record.settings.items())), []).append(record)
    assert len(asked) > 180
    for records in asked.values():
        names = [{piece.tensor for piece in record.saved.pieces} for record in records]
        assert all(one - other for one in names for other in names if one is not other)


@pytest.mark.parametrize(("record", "naming"), list(namings()))
def test_a_naming_names_every_tensor_for_one_purpose(record, naming):
    pieces = {piece.tensor for piece in naming.pieces} | {piece.after for piece in naming.pieces if piece.after}
    norms = {norm.tensor for norm in naming.norms}
    assert not pieces & norms
    assert not (pieces | norms) & set(naming.other)
    towers = {tower.name for tower in record.towers}
    for piece in naming.pieces:
        assert all(any(fits(tower, name) for tower in towers) for name in {piece.tower, piece.reads_tower} - {None})
        assert {piece.norm, piece.head_norm, piece.after_norm} - {None} <= {
            *norms,
            *(norm.replace("{layer}", "{layer-1}") for norm in norms),
        }
        assert piece.cut is None or piece.role in piece.cut.order
    assert len({(piece.tensor, piece.role) for piece in naming.pieces}) == len(naming.pieces)
