"""The page that is written from the observables: what each number is, what it survives, and how to read it."""

import sys
from collections.abc import Iterator
from math import inf
from pathlib import Path
from typing import Any

from ..network import Symmetry
from . import OBSERVABLES
from .observable import Observable

HEAD = """\
# The observables

Every number that flaggeo measures, with its formula, its range, what unrelated weights would give, which changes of
basis leave it alone, how to read it and what it must not be used for. The linked statements are checked by `flaggeo
prove`.

A number **survives** in a space if every change of basis that leaves the network's function alone leaves the number
alone too; otherwise it **depends on the chosen basis**. All numbers are made of weights alone: they know nothing of
the data.

This page is written by `python -m flaggeo.alignment.page docs`.
"""

#: What one row of each table is about.
TABLES = {
    "continuity": "One side of a weight in two neighbouring layers",
    "path_variance": "The first directions of a role over all layers",
    "pairs": "Two subspaces of one space",
    "interfaces": "Two weights, one after the other",
    "heads": "Two attention heads",
}


def observables_page() -> str:
    """Every observable by table, as MyST Markdown."""
    parts = [HEAD]
    for table, title in TABLES.items():
        parts.append(f"## {title} (`{table}`)\n")
        parts += ["\n".join(_section(observable)) for observable in OBSERVABLES if observable.table == table]
    return "\n".join(parts)


def _section(observable: Observable[Any]) -> Iterator[str]:
    yield f"### `{observable.column}`: {_text(observable.name)}\n"
    yield f"```{{math}}\n{observable.formula}\n```\n"
    least, most = (_bound(value) for value in observable.range)
    aligned = "neither end means aligned" if observable.aligned is None else f"aligned: {observable.aligned:g}"
    yield f"Range\n: from {least} to {most}; {aligned}\n"
    yield f"Unrelated weights\n: {_text(observable.null)}{_proof(observable.null_statement)}\n"
    yield f"Left alone by\n: {_text(observable.invariance)}{_proof(observable.invariance_statement)}\n"
    changes = [symmetry for symmetry in Symmetry if symmetry is not Symmetry.TRIVIAL]
    survives = [_spelt(symmetry) for symmetry in changes if observable.survives(symmetry)]
    depends = [_spelt(symmetry) for symmetry in changes if not observable.survives(symmetry)]
    yield f"Survives where the network allows\n: {'; '.join(survives)}\n"
    if depends:
        yield f"Depends on the chosen basis where it allows\n: {'; '.join(depends)}\n"
    yield f"How to read it\n: {_text(observable.reading)}\n"
    yield f"What it must not be used for\n: {_text(observable.misuse)}\n"
    if observable.derived:
        yield f"Columns made of it\n: {', '.join(f'`{column}`' for column in observable.derived)}\n"


def _spelt(symmetry: Symmetry) -> str:
    return symmetry.value.replace("_", " ") + " maps"


def _bound(value: float) -> str:
    return ("∞" if value > 0 else "-∞") if abs(value) == inf else f"{value:g}"


def _proof(statement: str | None) -> str:
    return f" ([proved](proofs.md#statement-{statement.replace('_', '-')}))" if statement else " (measured, not proved)"


def _text(plain: str) -> str:
    """Keep Markdown from reading the plain signs of a sentence as markup."""
    return "".join(f"\\{sign}" if sign in "*_<>|[]$^" else sign for sign in plain)


def write(folder: Path) -> None:
    """Write ``observables.md`` into a folder."""
    (folder / "observables.md").write_text(observables_page(), encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
