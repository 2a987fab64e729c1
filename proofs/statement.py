"""A statement with its hypotheses, its proofs or counterexamples, and the one way to check them."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from .evidence import Citation, Evidence, strongest, weakest
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


def weakest_link(proofs: Iterable[tuple[Proof, Evidence]]) -> Evidence:
    """Evidence of a chain of arguments: each has the strongest of what it was run on, and the chain the weakest.

    An example is no link, since the statement does not rest on it.
    """
    links: dict[Argument, list[Evidence]] = {}
    for proof, evidence in proofs:
        if not proof.example:
            links.setdefault(proof.argument, []).append(evidence)
    return weakest(strongest(kinds) for kinds in links.values())


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
        """Holds if every proof succeeds, refuted as soon as one fails or a counterexample stands."""
        return together(finding.proof.verdict(finding.goals) for finding in self.findings)

    @property
    def as_recorded(self) -> bool:
        """Whether outcome and evidence are those recorded with the statement."""
        return self.outcome is self.statement.recorded and self.evidence is self.statement.evidence

    @property
    def checked(self) -> Evidence:
        """The weakest link among the arguments that were checked."""
        if self.statement.recorded is Outcome.REFUTED:
            return Evidence.COUNTEREXAMPLE
        return weakest_link((finding.proof, finding.evidence) for finding in self.findings)

    @property
    def evidence(self) -> Evidence:
        """The weakest link of all: cited as soon as the statement rests on a lemma that is not checked."""
        return Evidence.CITED if self.statement.cites else self.checked

    @property
    def conclusion(self) -> str:
        """What the check shows, in words: the outcome, and where it is the expected one the weakest link."""
        if self.outcome is not self.statement.recorded:
            return f"{self.outcome}, not {self.statement.evidence}"
        if not self.as_recorded:
            return f"{self.evidence}, not {self.statement.evidence}"
        return self.statement.evidence_in_words

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
            "outcome": self.outcome,
            "recorded": self.statement.recorded,
            "evidence": self.evidence,
            "verdict": self.conclusion,
            "cites": [asdict(citation) for citation in self.statement.cites],
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
        The outcome that `check` must reproduce.
    cites : tuple of Citation
        Lemmas that the statement rests on and that are not checked here.
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
    cites: tuple[Citation, ...] = ()
    computed_by: tuple[str, ...] = ()
    proofs: list[Proof] = field(default_factory=list)

    @property
    def checked(self) -> Evidence:
        """The weakest link among the arguments, by what they are given."""
        if self.recorded is Outcome.REFUTED:
            return Evidence.COUNTEREXAMPLE
        return weakest_link((proof, proof.given.evidence) for proof in self.proofs)

    @property
    def evidence(self) -> Evidence:
        """The evidence that `check` must reproduce: cited where the statement rests on a lemma that is not checked."""
        return Evidence.CITED if self.cites else self.checked

    @property
    def evidence_in_words(self) -> str:
        """The evidence, with the source of what is cited and what is shown of the rest."""
        if not self.cites:
            return str(self.evidence)
        return f"cited: {'; '.join(citation.source for citation in self.cites)}; the rest {self.checked}"

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

    def also(self, *over: Given, example: bool = False) -> Callable[[Argument], Argument]:
        """Attach a further argument, for a part of the statement that needs its own.

        Parameters
        ----------
        *over : Given
            What the argument is given, once for each kind of proof.
        example : bool
            Whether it is an example on which the statement does not rest: a case that attains a bound or shows that
            something exists, or a second derivation beside a complete one.
        """

        def attach(argument: Argument) -> Argument:
            proof = Counterexample if self.recorded is Outcome.REFUTED else Proof
            self.proofs.extend(proof(argument, given, example) for given in over)
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
    recorded: Outcome = Outcome.HOLDS,
    cites: Sequence[Citation] = (),
    computed_by: Sequence[str] = (),
) -> Callable[[Argument], Statement]:
    """Make a statement of the argument that proves it, or refutes it if so recorded.

    The first line of the argument's docstring is the sentence, the rest the remark. Its keyword parameters
    are what a mutant may change; one that is named like an essential hypothesis drops it when False.

    Parameters
    ----------
    *over : Given
        What the argument is given, once for each kind of proof.
    latex, source, mutants, hypotheses, label, wording, recorded, cites, computed_by
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
            cites=tuple(cites),
            computed_by=tuple(computed_by),
        )
        result.also(*over)(argument)
        return result

    return define
