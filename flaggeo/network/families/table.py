"""The table of records as a file: readable JSON, one piece, norm or other tensor a line."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Any

from .record import Cut, Naming, Norm, Piece, Record, Tower

#: Written by ``python -m flaggeo.network.families.derive``, never by hand.
TABLE = Path(__file__).with_name("derived.json")

# Depth of a piece in the file.
_LINES = 5


@cache
def load_records() -> tuple[Record, ...]:
    """Every record of the table.

    Returns
    -------
    records : tuple of Record
        In the order of their first model types.
    """
    return parse(TABLE.read_text())


def parse(text: str) -> tuple[Record, ...]:
    """Records of a file's text, as `dump` writes it."""
    return tuple(
        Record(
            model_types=tuple(record["model_types"]),
            towers=tuple(Tower(**tower) for tower in record["towers"]),
            saved=_naming(record["saved"]),
            live=_naming(record["live"]) if "live" in record else None,
        )
        for record in json.loads(text)["records"]
    )


def dump(records: Iterable[Record], *, transformers: str) -> str:
    """Text of a table.

    Parameters
    ----------
    records : iterable of Record
    transformers : str
        Version of the library from whose models the records were derived.

    Returns
    -------
    text : str
        Fields at their defaults are left out.
    """
    rows = [_plain(record) for record in sorted(records, key=lambda record: record.model_types)]
    return _indented({"transformers": transformers, "records": rows}) + "\n"


def _naming(values: Mapping[str, Any]) -> Naming:
    return Naming(
        pieces=tuple(_piece(piece) for piece in values["pieces"]),
        norms=tuple(Norm(**norm) for norm in values.get("norms", ())),
        other=values.get("other", {}),
    )


def _piece(values: Mapping[str, Any]) -> Piece:
    cut = values.get("cut")
    if cut is None:
        return Piece(**values)
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
    is_word_list = isinstance(value, list) and all(isinstance(item, str) for item in value)
    if depth == _LINES or is_word_list or not isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    items: Iterable[str]
    if isinstance(value, dict):
        brackets, items = "{}", (f"{json.dumps(key)}: {_indented(item, depth + 1)}" for key, item in value.items())
    else:
        brackets, items = "[]", (_indented(item, depth + 1) for item in value)
    indent = "\n" + " " * depth
    return brackets[0] + ",".join(f"{indent} {item}" for item in items) + indent + brackets[1]
