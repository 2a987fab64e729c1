"""Fine-tuning on tasks that differ more and more from the first one: whether early drift tells what is forgotten."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ...training.continuity import drift, update_ratio
from ...training.models import Mlp, Parameters
from ...training.run import Recipe, accuracy, train
from ...training.seeds import generator
from ...training.tasks import Task, prototypes
from ..experiment import Experiment, Numbers, Progress

#: Shares of the inputs that change places; the first is the control, which goes on with the same task.
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
_NUMBERS = {
    "accuracy": "share of test samples of the first task classified correctly before fine-tuning",
    "control_forgetting": "accuracy on the first task that fine-tuning on the same task costs",
    "largest_forgetting": "accuracy on the first task that fine-tuning on the most different task costs",
    "control_drift": "early drift of the first right singular vectors on the same task, in degrees",
    "drift_excess": "smallest early drift on another task minus that on the same task, in degrees",
    "drift_rank": "rank correlation of early drift with what is forgotten in the end, over the tasks",
    "update_rank": "rank correlation of the early size of the update with what is forgotten in the end",
    "rank_gain": "rank correlation of drift minus that of the size of the update",
}


@dataclass(frozen=True)
class ForgettingExperiment(Experiment):
    """A residual network trained on noisy prototypes, then on the same with a share of the inputs in other places.

    Attributes
    ----------
    width, depth
        As in `Mlp`.
    rate, batch
        As in `Recipe`, of both trainings.
    steps, tuning_steps, early : int
        Of the first training and of fine-tuning, and those of the latter after which drift is measured.
    """

    width: int = 64
    depth: int = 4
    rate: float = 3e-3
    batch: int = 64
    steps: int = 1500
    tuning_steps: int = 500
    early: int = 25

    @property
    def numbers(self) -> Mapping[str, str]:
        """Of the weights of the blocks, mean over the layers."""
        return _NUMBERS

    def run(self, *, device: str, progress: Progress) -> Numbers:
        """Train all seeds, fine-tune each on all tasks, and measure."""
        whole = prototypes(self.seeds)
        half = whole.inputs.shape[1] // 2
        first = replace(whole, inputs=whole.inputs[:, :half], targets=whole.targets[:, :half])
        other = replace(whole, inputs=whole.inputs[:, half:], targets=whole.targets[:, half:])
        model = Mlp(whole.inputs.shape[-1], self.width, self.depth, 10, residual=True, activation="relu")
        recipe = Recipe(self.steps, self.rate, "adam", batch=self.batch)
        trainer = partial(train, dtype=torch.float32, device=device, progress=progress)
        trained = trainer(model, first, recipe, self.seeds).last

        tasks = len(_SHARES)
        begun = {name: weight.repeat_interleave(tasks, dim=0) for name, weight in trained.items()}
        tuned = trainer(
            _Continued(model, begun),
            _changed(other, self.seeds),
            replace(recipe, steps=self.tuning_steps),
            [seed for seed in self.seeds for _ in _SHARES],
            recorded=[self.early],
        )
        before = accuracy(model, trained, whole)
        after = accuracy(model, tuned.last, _repeated(whole, tasks)).view(-1, tasks)
        lost = (before[:, None] - after).cpu()
        early = tuned.snapshots[self.early]["blocks"]
        moved, updated = (of(early, begun["blocks"]).view(-1, tasks) for of in (drift, update_ratio))
        ranks = {"drift": _rank_correlation(moved, lost), "update": _rank_correlation(updated, lost)}
        found = {
            "accuracy": before,
            "control_forgetting": lost[:, 0],
            "largest_forgetting": lost[:, -1],
            "control_drift": moved[:, 0],
            "drift_excess": moved[:, 1:].amin(dim=1) - moved[:, 0],
            "drift_rank": ranks["drift"],
            "update_rank": ranks["update"],
            "rank_gain": ranks["drift"] - ranks["update"],
        }
        return {name: tuple(found[name].tolist()) for name in _NUMBERS}


@dataclass(frozen=True)
class _Continued:
    """A network that begins with trained parameters."""

    model: Mlp
    parameters: Parameters

    def initial(self, _: Sequence[int]) -> dict[str, Tensor]:
        return {name: weight.clone() for name, weight in self.parameters.items()}

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        return self.model(parameters, inputs)


def _repeated(task: Task, times: int) -> Task:
    """Every run so many times."""
    inputs, targets, test_inputs, test_targets = (
        tensor.repeat_interleave(times, dim=0)
        for tensor in (task.inputs, task.targets, task.test_inputs, task.test_targets)
    )
    return Task(inputs, targets, task.loss, test_inputs, test_targets)


def _changed(task: Task, seeds: Sequence[int]) -> Task:
    """For every seed the task once with each share of its inputs in other places."""
    inputs = []
    for seed, samples in zip(seeds, task.inputs, strict=True):
        order = torch.randperm(samples.shape[-1], generator=generator(seed, "places"))
        for share in _SHARES:
            chosen = order[: round(share * len(order))]
            places = torch.arange(len(order))
            places[chosen] = chosen.roll(1)
            inputs.append(samples[:, places])
    return replace(_repeated(task, len(_SHARES)), inputs=torch.stack(inputs))


def _rank_correlation(first: Tensor, second: Tensor) -> Tensor:
    """Spearman's, over the last axis; NaN where all numbers are equal."""
    from scipy.stats import rankdata

    ranks = (torch.from_numpy(rankdata(numbers.numpy(), axis=-1)) for numbers in (first, second))
    one, other = (rank - rank.mean(dim=-1, keepdim=True) for rank in ranks)
    lengths: Tensor = torch.linalg.vector_norm(one, dim=-1) * torch.linalg.vector_norm(other, dim=-1)
    return (one * other).sum(dim=-1) / lengths
