"""The pages that are written from the statements: every statement typeset, and the notes on the papers' wording."""

import importlib
from collections.abc import Iterator

from proofs.catalogue import TOPICS, statements, topic_statements
from proofs.goal import Outcome
from proofs.statement import Statement

from .markdown import escaped

PAPERS = {
    "D": "arXiv:2605.09861, Flag Varieties: A Geometric Framework for Deep Network Alignment",
    "C": "arXiv:2605.04971, Why Geometric Continuity Emerges in Deep Neural Networks",
}

PROOFS_HEAD = """\
# The statements and their proofs

Every statement that flaggeo rests on, with its hypotheses. `flaggeo prove` checks all of them, `flaggeo prove NAME
--verbose` shows the algebra of one. A proof is of one of four kinds:

dimension-free
: in the algebra of words in matrix symbols, for all sizes at once;

generic symbols
: every entry an independent symbol, at the sizes named;

exact rational instance
: exact arithmetic at one point;

exhaustive over a finite set
: every member of the set named by its bounds.

A statement recorded as **refuted** is a popular wording, kept with its counterexample. Without a hypothesis marked
*essential* the statement fails, and so do the variants listed under *fails as*; the tests check both. The other
assumptions fix conventions.

Sources named *alignment* and *continuity* are sections of the notes that the project was derived from; S numbers are
the identities there. Each statement is complete as it stands here.

`python -m docs.build` writes this page.
"""

CLAIMS_HEAD = """\
# What the papers' abstracts say, and what holds

Each entry gives the wording, the version that flaggeo implements, and the case that the wording overlooks. The linked
statement is checked by `flaggeo prove`. The body of a paper may supply hypotheses that its abstract leaves
out; of the second paper a published summary is quoted.

`python -m docs.build` writes this page.
"""


def proofs_page() -> str:
    """Every statement by topic, as MyST Markdown with mathematics between dollars."""
    parts = [PROOFS_HEAD]
    for topic in TOPICS:
        summary, _, _ = (importlib.import_module(f"proofs.{topic}").__doc__ or "").partition("\n")
        parts.append(f"## {topic.replace('_', ' ').capitalize()}\n\n{summary}\n")
        parts.extend("\n".join(_section(statement)) for statement in topic_statements(topic))
    return "\n".join(parts)


def claims_page() -> str:
    """The notes on wording by paper and point, each with a link to its statement."""
    parts = [CLAIMS_HEAD]
    for letter, paper in PAPERS.items():
        parts.append(f"## {paper}\n")
        noted = [s for s in statements() if s.wording is not None and s.wording.point.startswith(letter)]
        parts.extend("\n".join(_claim(statement)) for statement in sorted(noted, key=_point))
    return "\n".join(parts)


def _section(statement: Statement) -> Iterator[str]:
    yield f"(statement-{statement.name.replace('_', '-')})=\n### `{statement.name}`\n"
    yield f"{escaped(statement.sentence)}\n"
    yield f"```{{math}}\n{statement.latex}\n```\n"
    if statement.remark:
        yield f"{escaped(statement.remark)}\n"
    for hypothesis in statement.hypotheses:
        yield f"- assumes{' (essential)' if hypothesis.essential else ''}: {hypothesis.text}"
    evidence = "counterexample" if statement.recorded is Outcome.REFUTED else "proof"
    kinds: dict[str, list[str]] = {}
    for proof in statement.proofs:
        kinds.setdefault(proof.given.kind, []).append(proof.given.dimensions)
    for kind, dimensions in kinds.items():
        yield f"- {evidence}: {kind} ({'; '.join(dict.fromkeys(dimensions))})"
    yield f"- recorded: **{statement.recorded}**, {statement.label}; {statement.source}"
    yield f"- fails as: {'; '.join(statement.mutants)}"
    if statement.wording is not None:
        yield f"- wording: {escaped(statement.wording.holds)}"
    yield ""


def _claim(statement: Statement) -> Iterator[str]:
    wording = statement.wording
    assert wording is not None
    link = f"[`{statement.name}`](#statement-{statement.name.replace('_', '-')})"
    yield f"### {wording.point}, {link}\n"
    yield f"Said\n: {escaped(wording.said)}\n"
    yield f"Holds\n: {escaped(wording.holds)}\n"
    yield f"Counterexample\n: {escaped(wording.counterexample)}\n"
    yield f"Checked\n: {escaped(statement.sentence)} **{statement.recorded.capitalize()}**.\n"


def _point(statement: Statement) -> int:
    assert statement.wording is not None
    return int(statement.wording.point[1:])
