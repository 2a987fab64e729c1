"""The table of questions and commands, as Markdown: a page of the site, and a part of the README."""

from flaggeo.page.questions import QUESTIONS

HEAD = """\
# Which question, which command

"""

TAIL = """
`flaggeo PATH` alone analyses. Capitals stand for what you put in: `PATH`, `BASE` and `TUNED` are
[checkpoints](tutorial.md#other-models-other-questions) (`TUNED` may be the folder of a LoRA adapter), `RUN` is a folder
of checkpoints or that of a [monitor](monitor.md), `NAME` is one of [the statements](proofs.md), and `DIR` a saved
analysis. What the geometry of weights says of their function, and what it does not, was
[measured](claims.md#does-geometry-predict-function) on one model.

`python -m docs.build` writes this page.
"""


def questions_table() -> str:
    """One row a question."""
    rows = [f"| {one.question} | `flaggeo {one.command}` | {one.answer} |" for one in QUESTIONS]
    return "\n".join(["| question | command | what it says |", "|---|---|---|", *rows, ""])


def questions_page() -> str:
    """The page, as MyST Markdown."""
    return HEAD + questions_table() + TAIL
