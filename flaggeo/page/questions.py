"""The questions that people bring, and the command that answers each: README, site and pages have them from here."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """A question and its command.

    Attributes
    ----------
    question, command : str
        Plain text; the command without ``flaggeo``, capitals stand for what the reader puts in.
    answer : str
        What the command says, and how far that goes.
    """

    question: str
    command: str
    answer: str


QUESTIONS = (
    Question("What is in this file?", "inspect PATH", "each tensor, its role, and what is not read and why"),
    Question(
        "How are my model's weights aligned?",
        "analyze PATH",
        "which directions persist across layers and which subspaces overlap, beside what unrelated weights give",
    ),
    Question(
        "Did my fine-tune change anything, where, and of which rank?",
        "compare BASE TUNED",
        "how far each subspace moved, and the rank of each change",
    ),
    Question(
        "Which heads repeat each other?",
        "analyze PATH --measure heads",
        "groups of heads with nearly the same subspace; in SmolLM2 that did not predict what a head is worth",
    ),
    Question(
        "Which head feeds which?",
        "analyze PATH --measure heads",
        "heads that write what later heads read; in SmolLM2 such links predicted, weakly, which heads change when the "
        "first is taken out",
    ),
    Question(
        "Which layers are most alike?",
        "analyze PATH --measure structure",
        "candidates only: in SmolLM2, leaving out such a layer cost less; putting its neighbour in its place "
        "showed no clear relation",
    ),
    Question(
        "Is my run drifting?",
        "trace RUN",
        "drift, continuity and spectra over its checkpoints; flaggeo.Monitor records them while it trains",
    ),
    Question("How do I test an identity?", "prove NAME", "the symbolic check, and how much it shows"),
    Question("Are the numbers of a saved analysis right?", "verify DIR", "every table, measured again"),
)
