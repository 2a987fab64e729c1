"""Which gradient the first direction of a weight follows: that of the last step, or one smoothed over many."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from ...training.continuity import read_agreement
from ...training.run import train
from ..experiment import Numbers, Progress
from .mlp import MlpExperiment

_AVERAGES = {"latest": 0.0, "smoothed_10": 0.9, "smoothed_100": 0.99, "smoothed_1000": 0.999}


@dataclass(frozen=True)
class SmoothingExperiment(MlpExperiment):
    """The same network and training, with moving averages of its gradients."""

    @property
    def numbers(self) -> Mapping[str, str]:
        """For each average, mean over the layers; and what the longest adds to the latest gradient."""
        agreement = "|cos| of the first right singular vectors of the weights and the gradient, β = {:g}"
        gain = "the same with β = 0.999 minus that with β = 0"
        return {name: agreement.format(beta) for name, beta in _AVERAGES.items()} | {"gain": gain}

    def run(self, *, device: str, progress: Progress) -> Numbers:
        """Train all seeds and measure."""
        task = self.data_of_runs()
        history = train(
            self.model(task),
            task,
            self.recipe,
            self.seeds,
            smoothed=tuple(_AVERAGES.values()),
            dtype=torch.float32,
            device=device,
            progress=progress,
        )
        weights = history.last["blocks"]
        found = {name: read_agreement(weights, history.smoothed[beta]["blocks"]) for name, beta in _AVERAGES.items()}
        found["gain"] = found["smoothed_1000"] - found["latest"]
        return {name: tuple(values.tolist()) for name, values in found.items()}
