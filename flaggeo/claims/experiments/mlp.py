"""A multilayer perceptron of blocks on a classification task: how continuity arises, or does not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self

import torch
from torch import Tensor

from ...training.continuity import continuity, drift, update_ratio
from ...training.models import Mlp
from ...training.run import History, Recipe, accuracy, train
from ...training.tasks import Task, digits, prototypes
from ..experiment import Experiment, Numbers, Progress, Size

TASKS: dict[str, Callable[[Sequence[int]], Task]] = {"prototypes": prototypes, "digits": digits}
_NUMBERS = {
    "accuracy": "share of test samples classified correctly",
    "read": "continuity of the first right singular vectors of the weights",
    "write": "continuity of the first left singular vectors of the weights",
    "second_share": "continuity of the second right singular vectors over that of the first",
    "read_overlap": "overlap of the 8 leading right singular vectors",
    "first_gradient_read": "continuity of the first right singular vectors of the first gradient",
    "first_gradient_write": "continuity of the first left singular vectors of the first gradient",
    "last_gradient_read": "continuity of the first right singular vectors of the last gradient",
    "coherence_gap": "continuity of the first right singular vectors, of the gradient sum minus the weights (Δ_GW)",
    "update_read": "continuity of the first right singular vectors of the whole update",
    "update_ratio": "norm of the whole update over that of the first weights",
    "highest_read": "largest continuity of the first right singular vectors during training",
    "lowest_read": "smallest continuity of the first right singular vectors during training",
    "drift": "angle of the first right singular vectors from those after 2 % of the steps, in degrees",
}
# Shares of the training after which weights are kept; drift is measured from the first.
_RECORDED = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85)


@dataclass(frozen=True)
class MlpExperiment(Experiment):
    """Blocks of equal width with one set of causes switched on.

    Attributes
    ----------
    task : str
        One of `TASKS`.
    residual, activation, norm, deviation, width, depth
        As in `Mlp`.
    optimizer, rate, momentum, steps, batch
        As in `Recipe`.
    """

    task: str
    residual: bool
    activation: str
    norm: str | None = None
    deviation: float | None = None
    width: int = 64
    depth: int = 8
    optimizer: Literal["sgd", "adam"] = "adam"
    rate: float = 3e-3
    momentum: float = 0.0
    steps: int = 2500
    batch: int = 64

    @property
    def numbers(self) -> Mapping[str, str]:
        """Of the weights of the blocks, mean over the pairs of neighbouring layers."""
        return _NUMBERS

    def at(self, size: Size) -> Self:
        """The paper's width, depth, batch and number of steps, and its learning rate for Adam."""
        if size is Size.LAPTOP:
            return self
        rate = 1e-3 if self.optimizer == "adam" else self.rate
        return replace(self, width=256, depth=16, batch=128, steps=self.steps * 15 // 4, rate=rate)

    def data_of_runs(self) -> Task:
        """What each seed learns."""
        return TASKS[self.task](self.seeds)

    def model(self, task: Task) -> Mlp:
        """The network for a task."""
        inputs, classes = task.inputs.shape[-1], int(task.targets.max()) + 1
        return Mlp(inputs, self.width, self.depth, classes, self.residual, self.activation, self.norm, self.deviation)

    @property
    def recipe(self) -> Recipe:
        """How it is trained."""
        return Recipe(self.steps, self.rate, self.optimizer, self.momentum, batch=self.batch)

    def run(self, *, device: str, progress: Progress) -> Numbers:
        """Train all seeds and measure."""
        task = self.data_of_runs()
        model, recipe = self.model(task), self.recipe
        recorded = [max(1, round(share * self.steps)) for share in _RECORDED]
        history = train(
            model, task, recipe, self.seeds, recorded=recorded, dtype=torch.float32, device=device, progress=progress
        )
        found = {"accuracy": accuracy(model, history.last, task)} | _measured(history, recorded)
        return {name: tuple(found[name].tolist()) for name in _NUMBERS}


def _measured(history: History, recorded: Sequence[int]) -> dict[str, Tensor]:
    first, last = history.first["blocks"], history.last["blocks"]
    weights, first_gradient = continuity(last), continuity(history.first_gradient["blocks"])
    path = torch.stack([continuity(history.snapshots[step]["blocks"]).read for step in recorded] + [weights.read])
    return {
        "read": weights.read,
        "write": weights.write,
        "second_share": weights.read_second / weights.read,
        "read_overlap": weights.read_overlap,
        "first_gradient_read": first_gradient.read,
        "first_gradient_write": first_gradient.write,
        "last_gradient_read": continuity(history.last_gradient["blocks"]).read,
        "coherence_gap": continuity(history.gradient_sum["blocks"]).read - weights.read,
        "update_read": continuity(last - first).read,
        "update_ratio": update_ratio(last, first),
        "highest_read": path.amax(dim=0),
        "lowest_read": path.amin(dim=0),
        "drift": drift(last, history.snapshots[recorded[0]]["blocks"]),
    }
