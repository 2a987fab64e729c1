"""Multilayer perceptrons as pure functions of stacked parameters, so that all runs of a cell are one batched model.

Products are written as `torch.bmm`, since `@` takes as long as a small product for the views that it makes.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Protocol

import torch
from torch import Tensor

from .activations import ACTIVATIONS
from .normalization import NORMS
from .seeds import generator

#: By name; the first axis of each tensor is that of the runs.
Parameters = Mapping[str, Tensor]


class Model(Protocol):
    """What can be trained: its first parameters, and its outputs as a function of them."""

    def initial(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """Parameters before training, one run for each seed: float64, on the CPU."""

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs, shape=[runs, batch, p], for inputs of shape [runs, batch, n]."""


@dataclass(frozen=True)
class Mlp:
    r"""Blocks of one width between an embedding and a head, with or without residual connections.

    .. math:: h_0 = E x + b, \quad h_{l+1} = h_l + \sigma(W_l \, \mathrm{norm}(h_l)), \quad y = H h_L + c

    Without residual connections :math:`h_{l+1} = \sigma(W_l \, \mathrm{norm}(h_l))`.

    Attributes
    ----------
    inputs, width, depth, outputs : int
        Dimension n of the data, d of the blocks, their number L, and p of the outputs.
    residual : bool
    activation : str
        One of `ACTIVATIONS`.
    norm : str or None
        One of `NORMS`.
    deviation : float or None
        Standard deviation of the first block weights, which are Gaussian; None for PyTorch's default, uniform within
        :math:`1 / \sqrt d`. Embedding and head have the default always.

    References
    ----------
    arXiv:2605.04971, section 4.1. That the norm stands before the weight is assumed: the paper does not say.
    """

    inputs: int
    width: int
    depth: int
    outputs: int
    residual: bool
    activation: str
    norm: str | None = None
    deviation: float | None = None

    def initial(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """First parameters; the same for all activations and norms, and with and without residual connections."""
        runs = [self._drawn(generator(seed, "weights")) for seed in seeds]
        found = {name: torch.stack([run[name] for run in runs]) for name in runs[0]}
        if self.norm is not None:
            norm, shape = NORMS[self.norm], (len(seeds), self.depth, 1, self.width)
            if norm.gain:
                found["gains"] = torch.ones(shape, dtype=torch.float64)
            if norm.bias:
                found["biases"] = torch.zeros(shape, dtype=torch.float64)
        return found

    def _drawn(self, stream: torch.Generator) -> dict[str, Tensor]:
        def uniform(*shape: int, fan_in: int) -> Tensor:
            return (2 * torch.rand(shape, generator=stream, dtype=torch.float64) - 1) / sqrt(fan_in)

        n, d, p = self.inputs, self.width, self.outputs
        found = {"embedding": uniform(d, n, fan_in=n), "embedding_bias": uniform(1, d, fan_in=n)}
        if self.deviation is None:
            found["blocks"] = uniform(self.depth, d, d, fan_in=d)
        else:
            gaussian = torch.randn((self.depth, d, d), generator=stream, dtype=torch.float64)
            found["blocks"] = self.deviation * gaussian
        return found | {"head": uniform(p, d, fan_in=d), "head_bias": uniform(1, p, fan_in=d)}

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs of all runs."""
        activation, norm = ACTIVATIONS[self.activation], NORMS.get(self.norm or "")
        nothing = [None] * self.depth
        gains, biases = (parameters[name].unbind(1) if name in parameters else nothing for name in ("gains", "biases"))
        stream = torch.baddbmm(parameters["embedding_bias"], inputs, parameters["embedding"].mT)
        for weight, gain, bias in zip(parameters["blocks"].mT.unbind(1), gains, biases, strict=True):
            read = norm(stream, gain, bias) if norm else stream
            written = activation(torch.bmm(read, weight))
            stream = stream + written if self.residual else written
        return torch.baddbmm(parameters["head_bias"], stream, parameters["head"].mT)


@dataclass(frozen=True)
class Chain:
    r"""A bare chain of weights :math:`W_L \sigma(W_{L-1} \cdots \sigma(W_1 x))`; a deep linear network without σ.

    Attributes
    ----------
    widths : tuple of int
        Dimension of the inputs, of every hidden layer and of the outputs.
    scales : tuple of float
        For each weight: its first entries are Gaussian with this standard deviation over the root of the fan-in.
    activation : str
        One of those of `ACTIVATIONS` that act on each unit alone.
    """

    widths: tuple[int, ...]
    scales: tuple[float, ...]
    activation: str = "linear"

    @property
    def names(self) -> list[str]:
        """Names of the weights, in order."""
        return [f"W{number}" for number in range(1, len(self.widths))]

    def initial(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """First weights; the same for all activations."""
        streams = [generator(seed, "weights") for seed in seeds]
        found = {}
        for name, scale, n, m in zip(self.names, self.scales, self.widths, self.widths[1:], strict=False):
            drawn = [torch.randn((m, n), generator=stream, dtype=torch.float64) for stream in streams]
            found[name] = scale / sqrt(n) * torch.stack(drawn)
        return found

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs of all runs."""
        outputs, _ = self.traced(parameters, inputs)
        return outputs

    def traced(self, parameters: Parameters, inputs: Tensor) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Outputs, and what every hidden layer has before and after the activation, shape=[runs, batch, d] each."""
        signal, hidden = inputs, []
        for name in self.names[:-1]:
            before = torch.bmm(signal, parameters[name].mT)
            signal = self.sigma(before)
            hidden.append((before, signal))
        return torch.bmm(signal, parameters[self.names[-1]].mT), hidden

    @property
    def sigma(self) -> Callable[[Tensor], Tensor]:
        """The activation."""
        return ACTIVATIONS[self.activation]
