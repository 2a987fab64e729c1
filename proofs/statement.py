"""A statement with its hypotheses, its proofs or counterexamples, and the one way to check them."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from .given import Given
from .goal import Outcome, together
from .proof import Argument, Counterexample, Finding, Proof, parameters


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
        Whether the statement fails without it; otherwise it fixes a convention, such as a factor in a definition.
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
        return together(finding.proof.verdict(finding.goals) for finding in self.findings)

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

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain text and numbers, ready for JSON."""
        return {
            "name": self.statement.name,
            "sentence": self.statement.sentence,
            "latex": self.statement.latex,
            "source": self.statement.source,
            "label": self.statement.label,
            "hypotheses": [asdict(hypothesis) for hypothesis in self.statement.hypotheses],
            "wording": asdict(self.statement.wording) if self.statement.wording else None,
            "verdict": self.outcome,
            "recorded": self.statement.recorded,
            "computed_by": list(self.statement.computed_by),
            "seconds": self.seconds,
            "proofs": [finding.as_dict() for finding in self.findings],
        }


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
    computed_by : tuple of str
        Functions outside this package that compute what the statement is about, such as ``manifolds.FlagMetric.exp``.
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
    computed_by: tuple[str, ...] = ()
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
    computed_by: Sequence[str] = (),
) -> Callable[[Argument], Statement]:
    """Make a statement of the argument that proves it, or refutes it if so recorded.

    The first line of the argument's docstring is the sentence, the rest the remark. Its keyword parameters
    are what a mutant may change; one that is named like an essential hypothesis drops it when False.

    Parameters
    ----------
    *over : Given
        What the argument is given, once for each kind of proof.
    latex, source, mutants, hypotheses, label, wording, recorded, computed_by
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
            computed_by=tuple(computed_by),
        )
        result.also(*over)(argument)
        return result

    return define
