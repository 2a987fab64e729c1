"""An argument run on what it is given: a proof or a counterexample, and what it came to."""

import inspect
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from .given import Given
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
        return together(step.outcome for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain text and numbers, ready for JSON."""
        return {
            "argument": (inspect.getdoc(self.proof.argument) or "").partition("\n")[0],
            "kind": self.proof.given.kind,
            "dimensions": self.proof.given.dimensions,
            "verdict": self.proof.verdict(self.goals),
            "seconds": self.seconds,
            "steps": [step.as_dict() for step in self.steps],
        }
