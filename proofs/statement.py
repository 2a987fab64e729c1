"""A statement with its hypotheses, its proofs or counterexamples, and the one way to check them."""

import inspect
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .given import Given
from .goal import Goal, Outcome, Step

Argument = Callable[..., Iterable[Goal]]


class Label(StrEnum):
    """Where a statement is known from."""

    DERIVED = "derived"
    TEXTBOOK = "textbook"
    PAPER = "paper"


@dataclass(frozen=True)
class Hypothesis:
    """An assumption of a statement.

    Parameters
    ----------
    name : str
        If essential, also the keyword of the proof that drops the assumption when it is False.
    text : str
        The assumption in words.
    essential : bool
        Whether the statement fails without it.
    """

    name: str
    text: str
    essential: bool = True


@dataclass(frozen=True)
class Wording:
    """What a paper's abstract says where the statement says less or something else.

    Parameters
    ----------
    point : str
        Number of the point under which the wording is discussed.
    said : str
        The claim as worded there.
    holds : str
        What holds.
    counterexample : str
        The case that the wording overlooks.
    """

    point: str
    said: str
    holds: str
    counterexample: str


@dataclass(frozen=True)
class Proof:
    """An argument whose goals all hold exactly when the statement does.

    Parameters
    ----------
    argument : callable
        Takes a `Given` and keywords, and yields the goals.
    given : Given
        The matrices and numbers that the argument is about.
    """

    argument: Argument
    given: Given

    def verdict(self, goals: Outcome) -> Outcome:
        """What the outcome of the goals says about the statement."""
        return goals

    def run(self, **changes: Any) -> "Finding":
        """Decide the goals, with keywords of the argument changed where it has them."""
        accepted = {name: value for name, value in changes.items() if name in parameters(self.argument)}
        start = time.perf_counter()
        steps = tuple(goal.decide() for goal in self.argument(self.given, **accepted))
        return Finding(self, steps, time.perf_counter() - start)


class Counterexample(Proof):
    """An argument whose goals hold in a case where the statement fails."""

    def verdict(self, goals: Outcome) -> Outcome:
        """What the outcome of the goals says about the statement."""
        return Outcome.REFUTED if goals is Outcome.PROVED else Outcome.UNDECIDED


@dataclass(frozen=True)
class Finding:
    """What one proof or counterexample came to."""

    proof: Proof
    steps: tuple[Step, ...]
    seconds: float

    @property
    def goals(self) -> Outcome:
        """Outcome of all goals together."""
        return _together(step.outcome for step in self.steps)


@dataclass(frozen=True)
class Verdict:
    """The result of checking a statement.

    Parameters
    ----------
    statement : Statement
        What was checked.
    findings : tuple of Finding
        One for each proof or counterexample, in order.
    """

    statement: "Statement"
    findings: tuple[Finding, ...]

    @property
    def outcome(self) -> Outcome:
        """Proved if every proof succeeds, refuted as soon as one fails or a counterexample stands."""
        return _together(finding.proof.verdict(finding.goals) for finding in self.findings)

    @property
    def as_recorded(self) -> bool:
        """Whether the outcome is the one recorded with the statement."""
        return self.outcome is self.statement.recorded

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of proof, without repetition."""
        return tuple(dict.fromkeys(finding.proof.given.kind for finding in self.findings))

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The dimensions that each proof is about."""
        return tuple(dict.fromkeys(finding.proof.given.dimensions for finding in self.findings))

    @property
    def seconds(self) -> float:
        """Wall time of all proofs together."""
        return sum(finding.seconds for finding in self.findings)


@dataclass(frozen=True)
class Statement:
    """A mathematical statement that can be checked.

    Parameters
    ----------
    name : str
        Stable identifier, under which `check` finds it.
    sentence : str
        The statement in one sentence.
    remark : str
        How the argument goes, or what it leaves out; may be empty.
    latex : str
        The statement as a formula.
    hypotheses : tuple of Hypothesis
        Its assumptions.
    source : str
        Where it is stated or derived.
    label : Label
        Whether it is textbook, a paper's, or derived here.
    mutants : mapping of str to keywords
        Wrong variants, each a change of keywords that some argument must refute.
    wording : Wording or None
        Note on a paper's wording.
    recorded : Outcome
        The verdict that `check` must reproduce.
    proofs : list of Proof
        Proofs, or counterexamples if it is recorded as refuted.
    """

    name: str
    sentence: str
    remark: str
    latex: str
    hypotheses: tuple[Hypothesis, ...]
    source: str
    label: Label
    mutants: Mapping[str, Mapping[str, Any]]
    wording: Wording | None
    recorded: Outcome
    proofs: list[Proof] = field(default_factory=list)

    def check(self, **changes: Any) -> Verdict:
        """Run every proof.

        Parameters
        ----------
        **changes
            Keywords of the arguments to change; none for the statement itself.

        Returns
        -------
        verdict : Verdict
            With the algebra of every proof.

        Raises
        ------
        TypeError
            If no argument of the statement has one of the keywords.
        """
        for name in changes:
            if not any(name in parameters(proof.argument) for proof in self.proofs):
                raise TypeError(f"no argument of {self.name} has the keyword {name!r}")
        return Verdict(self, tuple(proof.run(**changes) for proof in self.proofs))

    def without(self, hypothesis: Hypothesis) -> Verdict:
        """Check the statement with one essential hypothesis dropped."""
        return self.check(**{hypothesis.name: False})

    def also(self, *over: Given) -> Callable[[Argument], Argument]:
        """Attach a further argument, for a part of the statement that needs its own."""

        def attach(argument: Argument) -> Argument:
            evidence = Counterexample if self.recorded is Outcome.REFUTED else Proof
            self.proofs.extend(evidence(argument, given) for given in over)
            return argument

        return attach


def statement(
    *over: Given,
    latex: str,
    source: str,
    mutants: Mapping[str, Mapping[str, Any]],
    hypotheses: Sequence[Hypothesis] = (),
    label: Label = Label.DERIVED,
    wording: Wording | None = None,
    recorded: Outcome = Outcome.PROVED,
) -> Callable[[Argument], Statement]:
    """Make a statement of the argument that proves it, or refutes it if so recorded.

    The first line of the argument's docstring is the sentence, the rest the remark. Its keyword parameters
    are what a mutant may change; one that is named like an essential hypothesis drops it when False.

    Parameters
    ----------
    *over : Given
        What the argument is given, once for each kind of proof.
    latex, source, mutants, hypotheses, label, wording, recorded
        As in `Statement`.

    Returns
    -------
    decorator : callable
        From the argument to the `Statement`.
    """

    def define(argument: Argument) -> Statement:
        sentence, _, remark = (inspect.getdoc(argument) or "").partition("\n")
        result = Statement(
            name=argument.__name__,
            sentence=sentence,
            remark=remark.strip(),
            latex=latex,
            hypotheses=tuple(hypotheses),
            source=source,
            label=label,
            mutants=mutants,
            wording=wording,
            recorded=recorded,
        )
        result.also(*over)(argument)
        return result

    return define


def parameters(argument: Argument) -> tuple[str, ...]:
    """Names of the keywords that an argument lets a mutant or a dropped hypothesis change."""
    kinds = inspect.signature(argument).parameters.values()
    return tuple(parameter.name for parameter in kinds if parameter.kind is parameter.KEYWORD_ONLY)


def _together(outcomes: Iterable[Outcome]) -> Outcome:
    found = set(outcomes)
    if not found:
        return Outcome.UNDECIDED
    return next((o for o in (Outcome.REFUTED, Outcome.UNDECIDED) if o in found), Outcome.PROVED)
