"""The page of models: every model type of the table with what is known of it."""

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
    if table.not_derived:
        page += "\n## Not derived\n\nOf these types of transformers the weights could not be found out.\n\n"
        page += "| model type | reason |\n|---|---|\n"
        page += "".join(f"| `{name}` | {reason} |\n" for name, reason in sorted(table.not_derived.items()))
    return page


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
