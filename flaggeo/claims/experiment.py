"""What an experiment is: settings that give numbers, one for each seed."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, ClassVar, Self

#: Told how many steps are done, of how many.
Progress = Callable[[int, int], object]
#: A number for each seed, by name; NaN where it is undefined.
Numbers = dict[str, tuple[float, ...]]


class Size(StrEnum):
    """How large the networks of arXiv:2605.04971 are; other experiments have one size."""

    LAPTOP = "laptop"
    PAPER = "paper"


@dataclass(frozen=True)
class Experiment(ABC):
    """A network trained on a task, or another way to numbers that a claim is about.

    A subclass adds its settings as fields, so that two experiments are the same exactly if all settings are.

    Attributes
    ----------
    name : str
        Short, of letters, digits and hyphens; names the file of the result.
    setting : str
        What is special about it, for people.
    seeds : tuple of int
        No bound of a claim was chosen on these: those of the earlier runs are 0 to 99, 123, 777 and
        301 to 303.
    """

    #: Packages whose versions the numbers depend on.
    packages: ClassVar[tuple[str, ...]] = ("flaggeo", "torch", "scikit-learn")

    name: str
    setting: str
    seeds: tuple[int, ...] = field(default=(101, 102, 103, 104, 105), kw_only=True)

    def at(self, _: Size) -> Self:
        """The same experiment in another size, where it has several."""
        return self

    def reading(self, _: Path | None) -> Self:
        """The same on the data set of a folder, where it takes one."""
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """Everything that the numbers depend on, as plain data."""
        fields = {name: value for name, value in asdict(self).items() if name not in ("name", "setting")}
        return {"kind": type(self).__name__} | fields

    @property
    @abstractmethod
    def numbers(self) -> Mapping[str, str]:
        """Every number that it measures, by name, and what it is in words."""

    @abstractmethod
    def run(self, *, device: str, progress: Progress) -> Numbers:
        """Measure all `numbers`, for every one of the seeds."""

    def resumed(self, _scratch: Path, *, device: str, progress: Progress) -> Numbers:
        """The same, going on from what an interrupted run left in a folder; most leave nothing, and start anew."""
        return self.run(device=device, progress=progress)
