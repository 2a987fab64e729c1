"""An argument run on what it is given: a proof or a counterexample, and what it came to."""

import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .evidence import Evidence
from .given import Given, draws
from .goal import Goal, Outcome, Step, together

Argument = Callable[..., Iterable[Goal]]


def parameters(argument: Argument) -> tuple[str, ...]:
    """Names of the keywords that an argument lets a mutant or a dropped hypothesis change."""
    kinds = inspect.signature(argument).parameters.values()
    return tuple(parameter.name for parameter in kinds if parameter.kind is parameter.KEYWORD_ONLY)


@dataclass(frozen=True)
class Proof:
    """An argument whose goals all hold exactly when the statement does.

    Parameters
    ----------
    argument : callable
        Takes a `Given` and keywords, and yields the goals.
    given : Given
        The matrices and numbers that the argument is about.
    example : bool
        Whether it only shows an example, on which the statement does not rest.
    """

    argument: Argument
    given: Given
    example: bool = False

    def verdict(self, goals: Outcome) -> Outcome:
        """What the outcome of the goals says about the statement."""
        return goals

    def run(self, **changes: Any) -> "Finding":
        """Decide the goals, with keywords of the argument changed where it has them."""
        accepted = {name: value for name, value in changes.items() if name in parameters(self.argument)}
        start, drawn = time.perf_counter(), draws.get()
        steps = tuple(goal.decide() for goal in self.argument(self.given, **accepted))
        evidence = self.given.evidence if draws.get() == drawn else Evidence.INSTANCES
        return Finding(self, steps, evidence, time.perf_counter() - start)

    @property
    def sentence(self) -> str:
        """What the argument shows, in the first line of its docstring."""
        return (inspect.getdoc(self.argument) or "").partition("\n")[0]


class Counterexample(Proof):
    """An argument whose goals hold in a case where the statement fails."""

    def verdict(self, goals: Outcome) -> Outcome:
        """What the outcome of the goals says about the statement."""
        return Outcome.REFUTED if goals is Outcome.HOLDS else Outcome.UNDECIDED


@dataclass(frozen=True)
class Finding:
    """What one proof or counterexample came to.

    Parameters
    ----------
    proof : Proof
        What was run.
    steps : tuple of Step
        Its goals, decided.
    evidence : Evidence
        What goals that hold show: what the given allows, and instances alone where seeded numbers were drawn.
    seconds : float
        Wall time.
    """

    proof: Proof
    steps: tuple[Step, ...]
    evidence: Evidence
    seconds: float

    @property
    def goals(self) -> Outcome:
        """Outcome of all goals together."""
        return together(step.outcome for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain text and numbers, ready for JSON."""
        return {
            "argument": self.proof.sentence,
            "kind": self.proof.given.kind,
            "evidence": self.evidence,
            "example": self.proof.example,
            "dimensions": self.proof.given.dimensions,
            "verdict": self.proof.verdict(self.goals),
            "seconds": self.seconds,
            "steps": [step.as_dict() for step in self.steps],
        }
