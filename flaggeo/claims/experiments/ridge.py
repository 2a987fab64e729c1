"""A chain of weights trained with ridge: how its interfaces become balanced and aligned, or do not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import log
from typing import Literal

import torch
from torch import Tensor

from ...alignment import interface_pair
from ...alignment.interfaces.balance import DIAGONAL_IMBALANCE, IMBALANCE
from ...alignment.interfaces.commutator import GRAM_COMMUTATOR, RHO
from ...alignment.interfaces.leading_directions import INTERFACE_OVERLAP
from ...alignment.interfaces.stacked_ratio import STACKED_RATIO
from ...training.laws import Obstruction, decay_rate, imbalance, obstructions, outside, ridge_gradient_norm
from ...training.models import Chain, Parameters
from ...training.run import Recipe, train
from ...training.tasks import Task, gaussian_classes, teacher_regression
from ..experiment import Experiment, Numbers, Progress

TASKS: dict[str, Callable[[Sequence[int]], Task]] = {
    "linear-teacher": partial(teacher_regression, teacher="linear"),
    "relu-teacher": partial(teacher_regression, teacher="relu"),
    "gaussian-classes": gaussian_classes,
}
_NUMBERS = {
    "imbalance_rate": "rate at which the imbalance decays, over 2λ",
    "outside_rate": "rate at which the part of W_1 outside the row space of W_2 decays, over λ",
    "overlap": "overlap of the leading directions that are written and read",
    "basis": "mean squared cosine of these directions, index by index",
    "imbalance": "imbalance over the sum of the norms of both Gram matrices",
    "diagonal_imbalance": "imbalance of single units over the sum of the norms of both Gram matrices",
    "commutator": "commutator of the two Gram matrices over the product of their norms",
    "rho": "commutator of the two Gram matrices over that in unrelated orientation",
    "stacked_ratio": "singular value of the stacked weights beyond the common subspace over the last one in it",
    "law_error": "error of 2λΔ = E[[D, K] + e bᵀ + b eᵀ], relative to 2λΔ",
    "commutator_error": "error of 2λΔ = E[[D, K]], relative to 2λΔ",
}
# Times at which the decay is followed, and the relative size below which it is rounding.
_TIMES, _ROUNDING = 16, 1e-9


@dataclass(frozen=True)
class RidgeExperiment(Experiment):
    """A chain of weights, trained with ridge or weight decay.

    Attributes
    ----------
    task : str
        One of `TASKS`.
    ridge : float
        λ; with AdamW its decoupled weight decay.
    activation, widths, scales
        As in `Chain`.
    optimizer, rate, steps, batch, final_rate
        As in `Recipe`.
    window : int
        Leading directions that are compared.
    """

    task: str
    ridge: float
    activation: str = "linear"
    widths: tuple[int, ...] = (16, 24, 4)
    scales: tuple[float, ...] = (1.0, 0.7)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    rate: float = 0.02
    steps: int = 16_000
    batch: int | None = None
    final_rate: float | None = None
    window: int = 4
    seeds: tuple[int, ...] = field(default=(101, 102, 103), kw_only=True)

    @property
    def numbers(self) -> Mapping[str, str]:
        """Of every interface; those of the second of a longer chain end in ``.2``."""
        of_all = {
            name + _suffix(place): text + (f", interface {place + 1}" if place else "")
            for place in range(len(self.widths) - 2)
            for name, text in _NUMBERS.items()
        }
        return of_all | {"gradient_norm": "norm of the gradient of the loss with ridge"}

    def run(self, *, device: str, progress: Progress) -> Numbers:
        """Train all seeds and measure."""
        task = TASKS[self.task](self.seeds).to(torch.float64, device)
        model, recipe = Chain(self.widths, self.scales, self.activation), self._recipe()
        recorded = range(0, self.steps, self.steps // _TIMES)
        history = train(model, task, recipe, self.seeds, recorded=recorded, device=device, progress=progress)
        found = self._at_the_end(model, history.last, task)
        for place, law in enumerate(obstructions(model, history.last, task)):
            one, other = model.names[place : place + 2]
            pairs = [(kept[one], kept[other]) for _, kept in sorted(history.snapshots.items())]
            first, second = pairs[-1]
            of_one = self._decay(recorded, pairs) | self._scores(first, second) | self._errors(first, second, law)
            found |= {name + _suffix(place): numbers for name, numbers in of_one.items()}
        return {name: tuple(found[name].tolist()) for name in self.numbers}

    def _at_the_end(self, model: Chain, parameters: Parameters, task: Task) -> dict[str, Tensor]:
        """What is not of one interface."""
        return {"gradient_norm": ridge_gradient_norm(model, parameters, task, self.ridge)}

    def _recipe(self) -> Recipe:
        common = Recipe(self.steps, self.rate, self.optimizer, batch=self.batch, final_rate=self.final_rate)
        return replace(common, ridge=self.ridge) if self.optimizer == "sgd" else replace(common, decay=self.ridge)

    def _decay(self, steps: Sequence[int], pairs: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
        """Fitted rates; that of containment, which is an asymptotic one, over the second half."""
        sizes = torch.stack([torch.linalg.matrix_norm(imbalance(*pair)) for pair in pairs])
        beyond = torch.stack([outside(*pair) for pair in pairs])
        alive = int((sizes / sizes[0] > _ROUNDING).all(dim=1)[: len(steps)].sum())
        half, a_step = alive // 2, -log(1 - self.rate * self.ridge)
        return {
            "imbalance_rate": decay_rate(steps[:alive], sizes[:alive]) / (2 * a_step),
            "outside_rate": decay_rate(steps[half:alive], beyond[half:alive]) / a_step,
        }

    def _scores(self, first: Tensor, second: Tensor) -> dict[str, Tensor]:
        pair = interface_pair(first, second, rank=self.window)
        directions = pair.leading.products.diagonal(dim1=-2, dim2=-1)
        return {
            "overlap": INTERFACE_OVERLAP.measure(pair.leading),
            "basis": directions.square().mean(dim=-1),
            "imbalance": IMBALANCE.measure(pair),
            "diagonal_imbalance": DIAGONAL_IMBALANCE.measure(pair),
            "commutator": GRAM_COMMUTATOR.measure(pair),
            "rho": RHO.measure(pair),
            "stacked_ratio": STACKED_RATIO.measure(pair),
        }

    def _errors(self, first: Tensor, second: Tensor, law: Obstruction) -> dict[str, Tensor]:
        twice = 2 * self.ridge * imbalance(first, second)
        size = torch.linalg.matrix_norm(twice)
        return {
            "law_error": torch.linalg.matrix_norm(twice - law.whole) / size,
            "commutator_error": torch.linalg.matrix_norm(twice - law.commutator) / size,
        }


def _suffix(place: int) -> str:
    return "" if place == 0 else f".{place + 1}"
