"""A claim of a paper as a record: the sentence, and what it predicts in which settings."""

from dataclasses import dataclass
from math import inf

from .experiment import Experiment


@dataclass(frozen=True)
class Reference:
    """What an earlier, independent implementation measured in the same setting.

    Attributes
    ----------
    mean : float
        Over its seeds.
    deviation : float or None
        Sample standard deviation, where it was reported.
    seeds : int
        How many there were.
    """

    mean: float
    deviation: float | None = None
    seeds: int = 3


@dataclass(frozen=True)
class Case:
    """What a claim predicts of one number in one setting; it holds if it does for every seed.

    Attributes
    ----------
    experiment : Experiment
    number : str
        One of its `numbers`.
    least, most : float
        Between these the number is predicted to lie.
    minus : Experiment or None
        Where it is the difference from the same number of another experiment, seed by seed, over those of both.
    stated : bool
        Whether the source speaks of this setting, or states the number there. Otherwise its words cover the setting,
        and the case asks how far they reach.
    paper : str
        The number that the paper gives, for its larger network; empty where it gives none.
    reference : Reference or None
    """

    experiment: Experiment
    number: str
    least: float = -inf
    most: float = inf
    minus: Experiment | None = None
    stated: bool = True
    paper: str = ""
    reference: Reference | None = None

    @property
    def experiments(self) -> tuple[Experiment, ...]:
        """What has to be run."""
        return (self.experiment,) if self.minus is None else (self.experiment, self.minus)

    @property
    def setting(self) -> str:
        """The setting, or the two that are compared, in words."""
        against = "" if self.minus is None else f" minus {self.minus.setting}"
        return self.experiment.setting + against

    @property
    def quantity(self) -> str:
        """What the number is, in words."""
        return self.experiment.numbers[self.number]

    @property
    def expected(self) -> str:
        """The prediction, as a person writes it."""
        if self.least == -inf:
            return f"≤ {self.most:g}"
        if self.most == inf:
            return f"≥ {self.least:g}"
        return f"{self.least:g} to {self.most:g}"


@dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    To add one, write a record in the file of its paper.

    Attributes
    ----------
    name : str
        As the command takes it.
    sentence : str
        A paraphrase of what the paper says.
    source : str
        Paper, and section, equation or table.
    cases : tuple of Case
        What it predicts. No verdict is recorded: it follows from the measured numbers.
    proof : str or None
        Name of the statement in `proofs` that the claim or its correction rests on.
    universal : bool
        Whether the words leave no exception (all, only, absent, unique), so that one setting that contradicts them
        refutes them; otherwise it bounds their range.
    apart : bool
        Whether it is tested only when it is named: it takes long, or needs what flaggeo does not install.
    untested : str
        Why there is no case, where there is none.
    """

    name: str
    sentence: str
    source: str
    cases: tuple[Case, ...]
    proof: str | None = None
    universal: bool = False
    apart: bool = False
    untested: str = ""
