"""Experiments that train nothing."""

from dataclasses import dataclass
from math import nan

from flaggeo.claims import Experiment

RUNS = []


@dataclass(frozen=True)
class Planted(Experiment):
    """Gives the numbers that are planted in it, None for an undefined one, and notes that it was run."""

    values: tuple[float | None, float] = (0.4, 0.6)
    seeds: tuple[int, ...] = (1, 2)

    @property
    def numbers(self):
        return {"value": "what was planted"}

    def run(self, *, device, progress):  # noqa: ARG002
        progress(1, 1)
        RUNS.append(self.name)
        return {"value": tuple(nan if value is None else value for value in self.values)}
