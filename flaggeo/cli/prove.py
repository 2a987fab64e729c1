"""`flaggeo prove`: check the statements that the measurements rest on, and say what was found."""

import json
import sys
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from proofs import Verdict


class Format(StrEnum):
    """How the verdicts are printed."""

    TABLE = "table"
    JSON = "json"
    LATEX = "latex"


# Longer algebra than this says less than its length; `--format json` has all of it.
SHOWN_CHARACTERS = 400


def prove(
    name: Annotated[str | None, typer.Argument(help="Name of one statement; all of them without it.")] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Show hypotheses and algebra below the table.")
    ] = False,
    output_format: Annotated[Format, typer.Option("--format", help="How to print the verdicts.")] = Format.TABLE,
) -> None:
    """Check the symbolic identities and say how much each check shows; exit 1 if a verdict is not the recorded one."""
    from rich.console import Console
    from rich.progress import track

    import proofs

    progress = Console(stderr=True)
    try:
        if name is None:
            every = proofs.statements()
            hidden = not progress.is_terminal
            steps = track(every, "checking statements", console=progress, transient=True, disable=hidden)
            verdicts = tuple(statement.check() for statement in steps)
        else:
            verdicts = (proofs.check(name),)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if output_format is Format.JSON:
        typer.echo(json.dumps([verdict.as_dict() for verdict in verdicts], indent=2, ensure_ascii=False))
    elif output_format is Format.LATEX:
        typer.echo("\n".join(latex_lines(verdicts)))
    else:
        # A pipe gets wide lines, so that no table is cut.
        console = Console(width=None if sys.stdout.isatty() else 160)
        print_table(verdicts, console, verbose=verbose)
    if not all(verdict.as_recorded for verdict in verdicts):
        raise typer.Exit(code=1)


def print_table(verdicts: "Sequence[Verdict]", console: "Console", *, verbose: bool) -> None:
    """Print one row for each statement, and with `verbose` a paragraph for each below."""
    from rich.markup import escape
    from rich.table import Column, Table

    names = [verdict.statement.name for verdict in verdicts]
    first = Column("statement", no_wrap=True, min_width=max(map(len, names)))
    table = Table(first, "verdict", "kind of proof", "dimensions", "seconds")
    for verdict in verdicts:
        style = "green" if verdict.as_recorded else "bold red"
        shown = f"[{style}]{escape(verdict.conclusion)}[/]"
        kinds, dimensions = "; ".join(verdict.kinds), "; ".join(verdict.dimensions)
        table.add_row(verdict.statement.name, shown, kinds, dimensions, f"{verdict.seconds:.2f}")
    console.print(table)
    if verbose:
        for verdict in verdicts:
            console.print(escape("\n".join(detail_lines(verdict))), highlight=False)
    deviating = [verdict.statement.name for verdict in verdicts if not verdict.as_recorded]
    found = f"not as recorded: {', '.join(deviating)}" if deviating else "all verdicts as recorded"
    console.print(f"{len(verdicts)} checked in {sum(v.seconds for v in verdicts):.1f} s, {found}", highlight=False)
    console.print("\n".join(count_lines(verdicts)), highlight=False)


def count_lines(verdicts: "Sequence[Verdict]") -> "Iterator[str]":
    """How many verdicts rest on each kind of evidence, the strongest first, and how many are not as recorded."""
    from proofs import Evidence

    counts = Counter(verdict.evidence for verdict in verdicts if verdict.as_recorded)
    yield from (f"{counts[kind]:4} {kind}" for kind in Evidence if counts[kind])
    if len(verdicts) > counts.total():
        yield f"{len(verdicts) - counts.total():4} not as recorded"


def detail_lines(verdict: "Verdict") -> "Iterator[str]":
    """Sentence, hypotheses and algebra of one verdict."""
    statement = verdict.statement
    yield f"\n{statement.name}: {statement.sentence}"
    if statement.remark:
        yield f"  {statement.remark}"
    yield f"  source: {statement.source} ({statement.label})"
    for hypothesis in statement.hypotheses:
        yield f"  assumes{' (essential)' if hypothesis.essential else ''}: {hypothesis.text}"
    if statement.wording is not None:
        yield f"  said: {statement.wording.said}\n  holds: {statement.wording.holds}"
        yield f"  counterexample: {statement.wording.counterexample}"
    for citation in statement.cites:
        yield f"  cites, without a check: {citation.lemma} ({citation.source})"
    if statement.computed_by:
        yield f"  computed by: {', '.join(statement.computed_by)}"
    yield f"  verdict: {verdict.conclusion}"
    for finding in verdict.findings:
        role = "example: " if finding.proof.example else ""
        yield f"  {role}{finding.proof.sentence}"
        yield f"    {finding.proof.given.kind}, {finding.proof.given.dimensions}: {finding.goals}, {finding.evidence}"
        for step in finding.steps:
            before, after = (_shortened(str(side)) for side in (step.difference, step.reduced))
            yield f"    {step.claim}: {step.outcome}\n      {before}\n      -> {after}"


def _shortened(text: str) -> str:
    """An expression, cut where it would fill the terminal."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]} ... ({len(text)} characters)"


def escaped(plain: str) -> str:
    """Plain text for LaTeX."""
    return plain.replace("_", r"\_")


def latex_lines(verdicts: "Sequence[Verdict]") -> "Iterator[str]":
    """One LaTeX paragraph for each verdict: name, formula, hypotheses, and how it was checked."""
    for verdict in verdicts:
        statement = verdict.statement
        yield f"\\paragraph{{{escaped(statement.name)}}}"
        yield f"\\[ {statement.latex} \\]"
        texts = [hypothesis.text for hypothesis in statement.hypotheses]
        if texts:
            yield f"Assumes: {'; '.join(texts)}."
        checked = "; ".join(f"{f.proof.given.kind} ({f.proof.given.dimensions})" for f in verdict.findings)
        yield f"Verdict: {escaped(verdict.conclusion)}. Checked with {escaped(checked)}.\n"
