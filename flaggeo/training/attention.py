"""One block of attention and MLP as a pure function of stacked parameters, and a task that needs both."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from .models import Parameters
from .seeds import generator
from .tasks import Task, half_squared_error
from .transformer import rotary_turns, turned


@dataclass(frozen=True)
class AttentionBlock:
    r"""Softmax attention and an MLP with ReLU, each added to a stream, and an average over the positions.

    .. math::
        s = x + \sum_h O_h V_h x \,\mathrm{softmax}(x^\top K_h^\top Q_h x / \sqrt{d_h}), \quad
        y = \tfrac1T \sum_t R (s + W_2 \,\mathrm{relu}(W_1 s))_t

    Without norms and biases, so that inside a head the laws of ridge are exact.

    Attributes
    ----------
    inputs, outputs : int
        Dimension n of the stream, and p of the outputs.
    heads, head_width, hidden : int
        Number of heads, their dimension, and the units of the MLP.
    rotary : bool
        Whether queries and keys are turned by their position, as with rotary embedding.
    scale : float
        Of the first weights: standard deviation times the root of the fan-in.
    """

    inputs: int
    outputs: int
    heads: int
    head_width: int
    hidden: int
    rotary: bool = False
    scale: float = 1.0

    def initial(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """First weights; the same with and without rotary embedding."""
        return self.drawn([generator(seed, "weights") for seed in seeds])

    def drawn(self, streams: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """Gaussian weights, one run for each stream of random numbers."""
        n, p, h, d, f = self.inputs, self.outputs, self.heads, self.head_width, self.hidden
        shapes: dict[str, tuple[int, ...]] = {"q": (h, d, n), "k": (h, d, n), "v": (h, d, n), "o": (h, n, d)}
        shapes |= {"up": (f, n), "down": (n, f), "readout": (p, n)}
        found = {}
        for name, shape in shapes.items():
            gaussian = [torch.randn(shape, generator=stream, dtype=torch.float64) for stream in streams]
            found[name] = self.scale / sqrt(shape[-1]) * torch.stack(gaussian)
        return found

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs, shape=[runs, batch, p], for inputs of shape [runs, batch, T, n]."""
        # The heads come as an axis behind the samples: [runs, batch, heads, T, d].
        q, k, v = (inputs[:, :, None] @ parameters[name][:, None].mT for name in "qkv")
        if self.rotary:
            turns = rotary_turns(inputs.shape[-2], self.head_width, inputs)
            q, k = turned(q, turns), turned(k, turns)
        read = (q @ k.mT / sqrt(self.head_width)).softmax(dim=-1) @ v
        stream = inputs + (read @ parameters["o"][:, None].mT).sum(dim=2)
        hidden = functional.relu(stream @ parameters["up"][:, None].mT)
        stream = stream + hidden @ parameters["down"][:, None].mT
        return stream.mean(dim=2) @ parameters["readout"].mT


def attention_teacher(seeds: Sequence[int], block: AttentionBlock, *, length: int = 4, count: int = 64) -> Task:
    """Standard normal sequences with the outputs of another block of the same shape.

    Parameters
    ----------
    seeds : sequence of int
        One for each run.
    block : AttentionBlock
    length, count : int
        Positions of a sequence, and number of sequences.
    """
    streams = [generator(seed, "data") for seed in seeds]
    gaussian = partial(torch.randn, (count, length, block.inputs), dtype=torch.float64)
    inputs = torch.stack([gaussian(generator=stream) for stream in streams])
    targets = block(block.drawn(streams), inputs)
    return Task(inputs, targets, half_squared_error, inputs[:, :0], targets[:, :0])
