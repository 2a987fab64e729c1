"""The page of observables: what each number is, what leaves it unchanged, and how to read it."""

from collections.abc import Iterator
from math import inf
from typing import Any

from flaggeo.alignment import Null, Observable, observables
from flaggeo.network import CHANGES_OF_BASIS, Symmetry
from proofs import statements

from .markdown import escaped

HEAD = """\
# The observables

Every number that flaggeo measures, with its formula, its range, what unrelated weights would give, which changes of
basis leave it unchanged, how to read it and what it must not be used for. The linked statements are checked by `flaggeo
prove`; each link says how much the check shows ([the kinds of evidence](proofs.md)).

A number is **basis-independent** in a space if no change of basis that leaves the network's function unchanged alters
it; otherwise it depends on the basis that training happened to choose. All numbers are made of weights alone: they know
nothing of the data.

`python -m docs.build` writes this page.
"""

#: What one row of each table is about.
TABLES = {
    "continuity": "One side of a weight in two neighbouring layers",
    "trajectory_variance": "The first directions of a role over all layers",
    "pairs": "Two subspaces of one space",
    "heads": "Two attention heads",
    "experts": "The experts of one role in two neighbouring layers, or in one",
    "interfaces": "Two weights that compose",
}


def observables_page() -> str:
    """Every observable by table, as MyST Markdown."""
    parts = [HEAD]
    for table, title in TABLES.items():
        parts.append(f"## {title} (`{table}`)\n")
        parts += ["\n".join(_section(observable)) for observable in observables() if observable.table == table]
    return "\n".join(parts)


def _section(observable: Observable[Any]) -> Iterator[str]:
    yield f"### `{observable.column}`: {escaped(observable.title)}\n"
    yield f"```{{math}}\n{observable.formula}\n```\n"
    least, most = (_bound(value) for value in observable.range)
    aligned = "neither end means aligned" if observable.aligned is None else f"aligned: {_bound(observable.aligned)}"
    yield f"Range\n: from {least} to {most}; {aligned}\n"
    yield f"Unrelated weights\n: {_null(observable.null)}\n"
    for null in observable.further_nulls:
        yield f"{null.name.replace('_', '-').capitalize()} null\n: {_null(null)}\n"
    yield f"Unchanged by\n: {escaped(observable.invariance.text)}{_proof(observable.invariance.statement)}\n"
    changes = [symmetry for symmetry in Symmetry if symmetry is not Symmetry.TRIVIAL]
    independent = [CHANGES_OF_BASIS[one.value] for one in changes if observable.is_basis_independent(one)]
    depends = [CHANGES_OF_BASIS[one.value] for one in changes if not observable.is_basis_independent(one)]
    yield f"Basis-independent where the network allows\n: {'; '.join(independent)}\n"
    if depends:
        yield f"Depends on the chosen basis where it allows\n: {'; '.join(depends)}\n"
    yield f"How to read it\n: {escaped(observable.reading)}\n"
    yield f"What it must not be used for\n: {escaped(observable.misuse)}\n"
    yield f"Columns\n: {', '.join(f'`{column.name}`' for column in observable.columns)}\n"


def _null(null: Null[Any]) -> str:
    return f"{escaped(null.text)}{_proof(null.statement)}"


def _bound(value: float) -> str:
    return ("∞" if value > 0 else "-∞") if abs(value) == inf else f"{value:g}"


def _proof(name: str | None) -> str:
    if name is None:
        return " (measured, not proved)"
    (statement,) = (statement for statement in statements() if statement.name == name)
    return f" ([{escaped(statement.evidence_in_words)}](proofs.md#statement-{name.replace('_', '-')}))"
