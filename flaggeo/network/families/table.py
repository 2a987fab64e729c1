"""The table of records as a file: readable JSON, one piece, norm or other tensor a line."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .record import Cut, Naming, Norm, Piece, Record, Tower

#: Written by ``python -m flaggeo.network.families.derive``, never by hand.
TABLE = Path(__file__).with_name("derived.json")

# Depth of a piece in the file.
_LINES = 5


@dataclass(frozen=True)
class Table:
    """What was derived.

    Attributes
    ----------
    transformers : str
        Version of the library from whose models.
    records : tuple of Record
        In the order of their first model types.
    not_derived : mapping of str to str
        Model types that were tried and left out, to the reason.
    switches : mapping of str to mapping of str to bool
        Of each model type that was derived, what its settings switch on or off by default.
    """

    transformers: str
    records: tuple[Record, ...]
    not_derived: Mapping[str, str]
    switches: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)


@cache
def load_table() -> Table:
    """The table of this version of flaggeo."""
    return parse(TABLE.read_text(encoding="utf-8"))


def load_records() -> tuple[Record, ...]:
    """Every record of the table."""
    return load_table().records


def parse(text: str) -> Table:
    """Table of a file's text, as `dump` writes it."""
    values = json.loads(text)
    records = tuple(
        Record(
            model_types=tuple(record["model_types"]),
            towers=tuple(Tower(**tower) for tower in record["towers"]),
            saved=_naming(record["saved"]),
            live=_naming(record["live"]) if "live" in record else None,
            settings=record.get("settings", {}),
        )
        for record in values["records"]
    )
    return Table(values["transformers"], records, values.get("not_derived", {}), values.get("switches", {}))


def dump(table: Table) -> str:
    """Text of a table; fields at their defaults are left out."""
    rows = [_plain(record) for record in sorted(table.records, key=lambda record: record.model_types)]
    plain: dict[str, Any] = {"transformers": table.transformers, "records": rows}
    if table.not_derived:
        plain["not_derived"] = dict(sorted(table.not_derived.items()))
    if table.switches:
        plain["switches"] = dict(sorted(table.switches.items()))
    return _indented(plain) + "\n"


def _naming(values: Mapping[str, Any]) -> Naming:
    return Naming(
        pieces=tuple(_piece(piece) for piece in values["pieces"]),
        norms=tuple(Norm(**norm) for norm in values.get("norms", ())),
        other=values.get("other", {}),
    )


def _piece(values: Mapping[str, Any]) -> Piece:
    if "cut" not in values:
        return Piece(**values)
    cut = values["cut"]
    return Piece(**{**values, "cut": Cut(cut["groups"], tuple(cut["order"]), tuple(cut.get("widths", ())))})


def _plain(value: Any) -> Any:
    """Value as JSON has it, without the fields that are at their defaults."""
    if is_dataclass(value):
        given = {field.name: (getattr(value, field.name), field) for field in fields(value)}
        return {
            name: _plain(content)
            for name, (content, field) in given.items()
            if content != (field.default_factory() if field.default_factory is not MISSING else field.default)
        }
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _indented(value: Any, depth: int = 0) -> str:
    """JSON with one piece, one norm or one other tensor a line."""
    line = json.dumps(value, ensure_ascii=False)
    if depth == _LINES or not isinstance(value, dict | list) or line == json.dumps(sorted(map(str, value))):
        return line
    items: Iterable[str]
    if isinstance(value, dict):
        brackets, items = "{}", (f"{json.dumps(key)}: {_indented(item, depth + 1)}" for key, item in value.items())
    else:
        brackets, items = "[]", (_indented(item, depth + 1) for item in value)
    indent = "\n" + " " * depth
    return brackets[0] + ",".join(f"{indent} {item}" for item in items) + indent + brackets[1]
