"""A small transformer on the bytes of a text: continuity of each of its projections."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch

from ...training.continuity import continuity
from ...training.run import Recipe, held_out_loss, train
from ...training.tasks import library_bytes
from ...training.transformer import Transformer
from ..experiment import Experiment, Numbers, Progress, Size

PROJECTIONS = {"q": "Q", "k": "K", "v": "V", "o": "O", "gate": "Gate", "up": "Up", "down": "Down"}
_OF_WEIGHTS = {
    "read": "continuity of the first right singular vectors",
    "write": "continuity of the first left singular vectors",
    "read_overlap": "overlap of the 8 leading right singular vectors",
    "write_overlap": "overlap of the 8 leading left singular vectors",
}
_OF_EACH = {"first_gradient_read": "continuity of the first right singular vectors of the first gradient"} | _OF_WEIGHTS
_NUMBERS = {"loss": "loss on text that was not trained on, in nats a byte"} | {
    f"{name}_{number}": f"{shown}: {words}" for name, shown in PROJECTIONS.items() for number, words in _OF_EACH.items()
}


@dataclass(frozen=True)
class TransformerExperiment(Experiment):
    """Blocks of attention and gated MLP that learn the next byte of the source of Python's standard library.

    Attributes
    ----------
    residual, activation, width, hidden, depth, heads
        As in `Transformer`.
    rate, steps, batch
        As in `Recipe`.
    length : int
        Of a sequence, in bytes.
    """

    residual: bool = True
    activation: str = "silu"
    width: int = 64
    hidden: int = 176
    depth: int = 6
    heads: int = 4
    rate: float = 3e-3
    steps: int = 900
    batch: int = 8
    length: int = 64
    seeds: tuple[int, ...] = field(default=(101, 102, 103), kw_only=True)

    @property
    def settings(self) -> dict[str, Any]:
        """With the version of Python, whose source is the text."""
        return super().settings | {"python": platform.python_version()}

    @property
    def numbers(self) -> Mapping[str, str]:
        """Of each projection, mean over the pairs of neighbouring layers, and the loss."""
        return _NUMBERS

    def at(self, size: Size) -> Self:
        """The paper's width, depth, length, batch and number of steps, on the same text, which it reads 109 times.

        The paper does not state its learning rate.
        """
        if size is Size.LAPTOP:
            return self
        return replace(self, width=256, hidden=1024, depth=8, rate=1e-3, steps=10_000, batch=128, length=128)

    def run(self, *, device: str, progress: Progress) -> Numbers:
        """Train all seeds and measure."""
        task = library_bytes(self.seeds, length=self.length)
        model = Transformer(self.width, self.hidden, self.depth, self.heads, self.activation, self.residual)
        recipe = Recipe(self.steps, self.rate, "adamw", batch=self.batch, betas=(0.9, 0.95), warmup=50, clip=1.0)
        history = train(model, task, recipe, self.seeds, dtype=torch.float32, device=device, progress=progress)
        found = {"loss": held_out_loss(model, history.last, task)}
        for name in PROJECTIONS:
            weights = continuity(history.last[name])
            found |= {f"{name}_{number}": getattr(weights, number) for number in _OF_WEIGHTS}
            found[f"{name}_first_gradient_read"] = continuity(history.first_gradient[name]).read
        return {name: tuple(found[name].tolist()) for name in _NUMBERS}
