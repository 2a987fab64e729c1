"""Attention heads trained with ridge beside an MLP: which pairs of weights become balanced."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Literal

import torch
from torch import Tensor

from ...alignment import interface_pair
from ...alignment.interfaces.balance import IMBALANCE
from ...alignment.interfaces.commutator import RHO
from ...training.attention import AttentionBlock, attention_teacher
from ...training.laws import decay_rate, imbalance
from ...training.models import Parameters
from ...training.run import Recipe, train
from ..experiment import Experiment, Numbers, Progress

_PAIRS = {
    "query_key": "queries and keys, mean over the heads",
    "value_output": "values and outputs, mean over the heads",
    "mlp": "the two weights of the MLP",
}
_MEASURED = {
    "rate": "rate at which the imbalance decays, over 2λ",
    "imbalance": "imbalance over the sum of the norms of both Gram matrices",
    "rho": "commutator of the two Gram matrices over that in unrelated orientation",
}
# Times at which the decay is followed, and the relative size below which the size of a step shows in it.
_TIMES, _SMALLEST = 16, 1e-3


@dataclass(frozen=True)
class HeadsExperiment(Experiment):
    """One block of attention and MLP on the outputs of another, trained with ridge or weight decay.

    Attributes
    ----------
    block : AttentionBlock
    ridge : float
        λ; with AdamW its decoupled weight decay.
    optimizer, rate, steps
        As in `Recipe`.
    """

    block: AttentionBlock
    ridge: float
    optimizer: Literal["sgd", "adamw"] = "sgd"
    rate: float = 0.05
    steps: int = 3_200

    @property
    def numbers(self) -> Mapping[str, str]:
        """Of every pair of weights that compose."""
        return {
            f"{pair}_{name}": f"{what}, {which}" for pair, which in _PAIRS.items() for name, what in _MEASURED.items()
        }

    def run(self, *, device: str, progress: Progress) -> Numbers:
        """Train all seeds and measure."""
        recipe = Recipe(self.steps, self.rate, self.optimizer)
        recipe = replace(recipe, ridge=self.ridge) if self.optimizer == "sgd" else replace(recipe, decay=self.ridge)
        recorded = range(0, self.steps, self.steps // _TIMES)
        task = attention_teacher(self.seeds, self.block)
        history = train(self.block, task, recipe, self.seeds, recorded=recorded, device=device, progress=progress)
        steps, kept = zip(*sorted(history.snapshots.items()), strict=True)
        paths = [_pairs(parameters) for parameters in kept]
        found: Numbers = {}
        for pair in _PAIRS:
            sizes = torch.stack([torch.linalg.matrix_norm(imbalance(*path[pair])) for path in paths])
            alive = int((sizes / sizes[0] > _SMALLEST).flatten(1).all(dim=1).cumprod(0).sum())
            rate = decay_rate(steps[:alive], sizes[:alive]) / (-2 * log(1 - self.rate * self.ridge))
            last = interface_pair(*paths[-1][pair], rank=min(4, self.block.head_width))
            measured = {"rate": rate, "imbalance": IMBALANCE.measure(last), "rho": RHO.measure(last)}
            found |= {f"{pair}_{name}": _of_runs(values) for name, values in measured.items()}
        return found


def _pairs(parameters: Parameters) -> dict[str, tuple[Tensor, Tensor]]:
    """First and second weight of every pair; keys enter transposed, so that both Grams are of the space of the head."""
    return {
        "query_key": (parameters["q"], parameters["k"].mT),
        "value_output": (parameters["v"], parameters["o"]),
        "mlp": (parameters["up"], parameters["down"]),
    }


def _of_runs(values: Tensor) -> tuple[float, ...]:
    """Mean over the heads, where there are any."""
    return tuple(values.flatten(1).mean(dim=1).tolist() if values.ndim > 1 else values.tolist())
