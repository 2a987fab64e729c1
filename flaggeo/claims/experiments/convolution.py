"""A small convolutional network on digits: continuity of its kernels as matrices."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from ...training.continuity import continuity
from ...training.convolution import ConvNet, reads, writes
from ...training.run import Recipe, accuracy, train
from ...training.tasks import digits
from ..experiment import Experiment, Numbers, Progress

_NUMBERS = {
    "accuracy": "share of test samples classified correctly",
    "read": "continuity of the first direction of the input channels",
    "write": "continuity of the first direction of the output channels",
    "flattened": "continuity of the first right singular vectors of the flattened kernels",
    "first_gradient_read": "continuity of the first direction of the input channels in the first gradient",
    "first_gradient_flattened": "continuity of the first right singular vectors of the flattened first gradient",
}


@dataclass(frozen=True)
class ConvolutionExperiment(Experiment):
    """Blocks of 3 x 3 convolutions on scikit-learn's digits.

    Attributes
    ----------
    residual, activation, channels, depth
        As in `ConvNet`.
    rate, steps, batch
        As in `Recipe`, with Adam.
    """

    residual: bool
    activation: str
    channels: int = 32
    depth: int = 6
    rate: float = 3e-3
    steps: int = 600
    batch: int = 32
    seeds: tuple[int, ...] = field(default=(101, 102, 103), kw_only=True)

    @property
    def numbers(self) -> Mapping[str, str]:
        """Of the kernels of the blocks, mean over the pairs of neighbouring layers."""
        return _NUMBERS

    def run(self, *, device: str, progress: Progress) -> Numbers:
        """Train all seeds and measure."""
        task = digits(self.seeds)
        model = ConvNet(8, self.channels, self.depth, 10, self.residual, self.activation)
        recipe = Recipe(self.steps, self.rate, "adam", batch=self.batch)
        history = train(model, task, recipe, self.seeds, dtype=torch.float32, device=device, progress=progress)
        kernels, gradients = history.last["blocks"], history.first_gradient["blocks"]
        found = {
            "accuracy": accuracy(model, history.last, task),
            "read": continuity(reads(kernels)).read,
            "write": continuity(writes(kernels)).write,
            "flattened": continuity(writes(kernels)).read,
            "first_gradient_read": continuity(reads(gradients)).read,
            "first_gradient_flattened": continuity(writes(gradients)).read,
        }
        return {name: tuple(found[name].tolist()) for name in _NUMBERS}
