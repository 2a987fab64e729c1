"""The page of models: every model type of the table with what is known of it."""

from collections.abc import Mapping

from flaggeo.network import ROLE_RECORDS
from flaggeo.network.families.record import Record
from flaggeo.network.families.table import load_table

HEAD = """\
# Models

flaggeo knows the weights of these model types: which of them read and write which stream, which rows belong to which
head, and which norm stands beside them. All of this was derived from the models of transformers {version} themselves,
by forward passes without trained weights, and is kept in `flaggeo/network/families/derived.json`. With the extra
`flaggeo[transformers]` a type that is not listed is derived in the same way when it is met. A checkpoint of any other
type is read by the names of its tensors where they are those of a known type, and otherwise by names and shapes, which
the remarks say; see [My model is not read](unread-models.md).

{counts}

*Heads* says whether attention heads are split: **yes**; **not known** where the derivation did not find out which rows
belong to which head; **none** where a model has no attention. *Streams* are the towers of a model that has several.
`python -m docs.build` writes this page.

| model type | streams | heads | weights in a layer |
|---|---|---|---|
"""

NOT_SUPPORTED = """
## Not supported

These {count} types of transformers are not in the table. A checkpoint of one is read by the names of its tensors where
they are those of a known type, and otherwise by names and shapes, as any other checkpoint; a module of one can be
[followed with an example of its input](unread-models.md).

| why | model types |
|---|---|
"""
# What ended the derivation of a type, by the beginning of its reason; the last one is any other.
_ENDS = {
    "DerivationError": "its weights do something that the derivation does not know: it has blocks of another "
    "kind, norms in other places, or layers that share weights",
    "ImportError": "its code needs a package that was not installed",
    "TimeoutError": "its derivation takes too long",
    "": "no small model of it could be built and run from its settings alone",
}


def models_page() -> str:
    """Every model type with its streams, heads and roles, as MyST Markdown."""
    table = load_table()
    pairs = ((model_type, record) for record in table.records for model_type in record.model_types)
    rows = sorted(pairs, key=lambda pair: pair[0])
    split = sum(_heads(record) == "yes" for _, record in rows)
    types = len({model_type for model_type, _ in rows})
    counts = f"{types} model types, some of them with several structures; heads are split in {split} of {len(rows)}."
    lines = [
        f"| `{model_type}` | {_towers(record)} | {_heads(record)} | {_roles(record)} |" for model_type, record in rows
    ]
    page = HEAD.format(version=table.transformers, counts=counts) + "\n".join(lines) + "\n"
    return page + _not_supported(table.not_derived)


def _not_supported(reasons: Mapping[str, str]) -> str:
    """The types that were tried and left out, by the kind of the reason."""
    by_end: dict[str, list[str]] = {}
    for name, reason in sorted(reasons.items()):
        by_end.setdefault(next(end for end in _ENDS if reason.startswith(end)), []).append(f"`{name}`")
    rows = [f"| {why} | {', '.join(by_end[end])} |\n" for end, why in _ENDS.items() if end in by_end]
    return NOT_SUPPORTED.format(count=len(reasons)) + "".join(rows) if rows else ""


def _towers(record: Record) -> str:
    return ", ".join(tower.name for tower in record.towers if tower.name)


def _heads(record: Record) -> str:
    attention = [piece for piece in record.saved.pieces if ROLE_RECORDS[piece.role].heads]
    if not attention:
        return "none"
    return "yes" if all(tower.heads for tower in record.towers) else "not known"


def _roles(record: Record) -> str:
    present = {piece.role for piece in record.saved.pieces}
    return ", ".join(role for role, known in ROLE_RECORDS.items() if role in present and not known.is_table)
