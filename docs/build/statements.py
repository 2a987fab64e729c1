"""The pages that are written from the statements: every statement typeset, and the notes on the papers' wording."""

import importlib
import re
from collections import Counter
from collections.abc import Iterator

from proofs import Evidence, Statement, statements
from proofs.catalogue import TOPICS, topic_statements
from proofs.proof import Argument, Proof

from .markdown import escaped

PROOFS_HEAD = """\
# The statements and their proofs

Every statement that flaggeo rests on, with its hypotheses. `flaggeo prove` checks all of them, `flaggeo prove NAME
--verbose` shows the algebra of one. {counts}.

How much a check shows is said in its verdict, by the weakest link of the argument:

proved for all dimensions
: every identity in the algebra of words in matrix symbols, or in symbols for the sizes, so for all sizes at once;

proved for generic symbols at these sizes
: some step with every entry an independent symbol, at the sizes named;

proved for every case at these sizes
: some step by going through all members of a finite set, at the sizes named;

checked on instances
: some step in exact arithmetic at single points, seeded or chosen: no proof;

cited
: some step is a lemma that is not checked here. The verdict names its source, and says what is shown of the rest.

Each argument has the strongest evidence of what it was run on: a derivation for all sizes that is also run on exact
numbers, on which a wrong variant can fail, counts as the derivation. An *example* shows a case that attains a bound or
derives something a second time; the statement does not rest on it.

The algebra is checked, not the text around it. What an argument encodes, such as that a change of basis makes two
subspaces orthogonal, and how its identities lead to a statement about norms, limits, closed sets or minima, stands in
the remarks, for a person to follow.

A statement recorded as **refuted** is a popular wording, kept with its counterexample. Without a hypothesis marked
*essential* the statement fails, and so do the variants listed under *fails as*; the tests check both. The other
assumptions fix conventions.

A function of `manifolds` that computes what a statement says is named under *computed by*; the tests evaluate the
formula of the statement with numbers and compare the two to twelve digits.

Sources are papers, or the sections of this site that derive what is stated.

`python -m docs.build` writes this page.
"""


def proofs_page() -> str:
    """Every statement by topic, as MyST Markdown with mathematics between dollars."""
    counts = Counter(statement.evidence for statement in statements())
    listed = "; ".join(f"{counts[kind]} {kind}" for kind in Evidence if counts[kind])
    parts = [PROOFS_HEAD.replace("{counts}", f"Of {counts.total()} statements: {listed}")]
    for topic in TOPICS:
        summary, _, _ = (importlib.import_module(f"proofs.{topic}").__doc__ or "").partition("\n")
        parts.append(f"## {topic.replace('_', ' ').capitalize()}\n\n{summary}\n")
        parts.extend("\n".join(_section(statement)) for statement in topic_statements(topic))
    return "\n".join(parts)


def wordings(letter: str) -> str:
    """The notes on one paper's wording by point, each with a link to its statement."""
    noted = [s for s in statements() if s.wording is not None and s.wording.point.startswith(letter)]
    return "\n".join("\n".join(_claim(statement)) for statement in sorted(noted, key=_point))


def _section(statement: Statement) -> Iterator[str]:
    yield f"(statement-{statement.name.replace('_', '-')})=\n### `{statement.name}`\n"
    yield f"{escaped(statement.sentence)}\n"
    yield f"```{{math}}\n{statement.latex}\n```\n"
    if statement.remark:
        yield f"{escaped(statement.remark)}\n"
    for hypothesis in statement.hypotheses:
        yield f"- assumes{' (essential)' if hypothesis.essential else ''}: {hypothesis.text}"
    yield f"- **{escaped(statement.evidence_in_words)}**; {statement.label}; {_linked(statement.source)}"
    for citation in statement.cites:
        yield f"- cites, without a check: {escaped(citation.lemma)} ({escaped(citation.source)})"
    arguments: dict[Argument, list[Proof]] = {}
    for proof in statement.proofs:
        arguments.setdefault(proof.argument, []).append(proof)
    main = statement.proofs[0].argument
    for argument, proofs in arguments.items():
        shows = "" if argument is main else f" {escaped(proofs[0].sentence)}"
        yield f"- {'example' if proofs[0].example else 'checked'} with {_given(proofs)}.{shows}"
    yield f"- fails as: {'; '.join(statement.mutants)}"
    if statement.computed_by:
        yield f"- computed by: {', '.join(f'`{function}`' for function in statement.computed_by)}"
    if statement.wording is not None:
        yield f"- wording: {escaped(statement.wording.holds)}"
    yield ""


def _linked(source: str) -> str:
    """A source, whose sections of this site are links."""
    return re.sub(r'docs/([\w/-]+\.md), "([^"]+)"', lambda cited: f"[{cited[2]}]({cited[1]}#{_slug(cited[2])})", source)


def _slug(heading: str) -> str:
    return heading.lower().replace(",", "").replace(" ", "-")


def _given(proofs: list[Proof]) -> str:
    """What an argument is given, by kind, each with its dimensions."""
    kinds: dict[str, list[str]] = {}
    for proof in proofs:
        kinds.setdefault(proof.given.kind, []).append(proof.given.dimensions)
    return ", ".join(f"{kind} ({'; '.join(dimensions)})" for kind, dimensions in kinds.items())


def _claim(statement: Statement) -> Iterator[str]:
    wording = statement.wording
    assert wording is not None
    yield f"#### {wording.point}, {statement_link(statement.name)}\n"
    yield f"Said\n: {escaped(wording.said)}\n"
    yield f"Holds\n: {escaped(wording.holds)}\n"
    yield f"Counterexample\n: {escaped(wording.counterexample)}\n"
    yield f"Checked\n: {escaped(statement.sentence)} **{escaped(statement.evidence_in_words)}**.\n"


def statement_link(name: str) -> str:
    """A link to a statement on the page of proofs."""
    return f"[`{name}`](#statement-{name.replace('_', '-')})"


def _point(statement: Statement) -> int:
    assert statement.wording is not None
    return int(statement.wording.point[1:])
