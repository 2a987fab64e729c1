"""From measured numbers to a verdict; the one place where verdicts are made."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, isnan, nan, sqrt
from statistics import fmean, stdev
from typing import Any

from .claim import Case, Claim
from .experiment import Experiment, Numbers


class Verdict(StrEnum):
    """What the numbers say of a claim."""

    HOLDS = "holds"
    CONDITIONAL = "holds under conditions"
    NOT_REPRODUCED = "not reproduced"
    FALSE = "false as worded"
    UNTESTED = "not tested"


@dataclass(frozen=True)
class Outcome:
    """What was measured in one case.

    Attributes
    ----------
    case : Case
    values : tuple of float
        One for each seed; of a difference, for each seed of both experiments.
    """

    case: Case
    values: tuple[float, ...]

    @property
    def holds(self) -> bool:
        """Whether the prediction is right for every seed; an undefined or infinite number is never right."""
        return all(isfinite(value) and self.case.least <= value <= self.case.most for value in self.values)

    @property
    def mean(self) -> float:
        """Over the seeds."""
        return fmean(self.values)

    @property
    def deviation(self) -> float:
        """Sample standard deviation over the seeds; NaN where there is one, or a number is undefined."""
        return stdev(self.values) if len(self.values) > 1 and all(map(isfinite, self.values)) else nan

    @property
    def measured(self) -> str:
        """Mean and spread, as a person writes them; a dash where the number is undefined."""
        spread = "" if len(self.values) == 1 else f" ± {_digits(self.deviation)}"
        return _digits(self.mean) + spread

    @property
    def distance(self) -> float | None:
        """Distance of the mean from that of the reference, in standard errors of their difference.

        The two deviations are pooled, as in Student's test of two samples: what either has from two or three seeds
        alone would be too uncertain.
        """
        reference, seeds = self.case.reference, len(self.values)
        if reference is None or reference.deviation is None or not isfinite(self.mean):
            return None
        own = 0 if seeds == 1 else (seeds - 1) * self.deviation**2
        variance = (own + (reference.seeds - 1) * reference.deviation**2) / (seeds + reference.seeds - 2)
        return (self.mean - reference.mean) / sqrt(variance * (1 / seeds + 1 / reference.seeds))

    def as_dict(self) -> dict[str, Any]:
        """For JSON; missing bounds and undefined numbers are None."""
        case = self.case
        return {
            "setting": case.setting,
            "experiments": [experiment.name for experiment in case.experiments],
            "number": case.number,
            "expected": case.expected,
            "stated": case.stated,
            "values": [value if isfinite(value) else None for value in self.values],
            "holds": self.holds,
            "paper": case.paper,
            "standard_errors_from_reference": self.distance,
        }


@dataclass(frozen=True)
class Judgement:
    """A claim with what was measured in each of its cases."""

    claim: Claim
    outcomes: tuple[Outcome, ...]

    @property
    def verdict(self) -> Verdict:
        """What follows from the outcomes, by one rule for all claims.

        A claim that fails where its source states it is not reproduced. One that holds there and fails elsewhere is
        false as worded if its words leave no exception, and otherwise holds under conditions. Without a case nothing is
        tested.
        """
        if not self.outcomes:
            return Verdict.UNTESTED
        if not all(outcome.holds for outcome in self.outcomes if outcome.case.stated):
            return Verdict.NOT_REPRODUCED
        if all(outcome.holds for outcome in self.outcomes):
            return Verdict.HOLDS
        return Verdict.FALSE if self.claim.universal else Verdict.CONDITIONAL

    @property
    def against(self) -> list[Outcome]:
        """The outcomes that contradict the claim: its conditions, or why it is not reproduced."""
        return [outcome for outcome in self.outcomes if not outcome.holds]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        claim = self.claim
        return {
            "claim": claim.name,
            "sentence": claim.sentence,
            "source": claim.source,
            "proof": claim.proof,
            "universal": claim.universal,
            "untested": claim.untested,
            "verdict": str(self.verdict),
            "cases": [outcome.as_dict() for outcome in self.outcomes],
        }


def _digits(value: float) -> str:
    return "–" if isnan(value) else f"{value:.3g}"


def judge(claim: Claim, measured: Mapping[str, Numbers]) -> Judgement:
    """Hold a claim against numbers.

    Parameters
    ----------
    claim : Claim
    measured : mapping of str to dict
        The numbers of every experiment of the claim, by name of the experiment.

    Returns
    -------
    judgement : Judgement
    """
    return Judgement(claim, tuple(_outcome(case, measured) for case in claim.cases))


def _outcome(case: Case, measured: Mapping[str, Numbers]) -> Outcome:
    values = _by_seed(case.experiment, case.number, measured)
    if case.minus is not None:
        less = _by_seed(case.minus, case.number, measured)
        values = {seed: value - less[seed] for seed, value in values.items() if seed in less}
    return Outcome(case, tuple(values.values()))


def _by_seed(experiment: Experiment, number: str, measured: Mapping[str, Numbers]) -> dict[int, float]:
    return dict(zip(experiment.seeds, measured[experiment.name][number], strict=True))
