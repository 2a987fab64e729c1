"""A small convolutional network as a pure function of stacked parameters, like the perceptrons."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from .activations import ACTIVATIONS
from .models import Parameters
from .seeds import generator


@dataclass(frozen=True)
class ConvNet:
    r"""Blocks of 3 x 3 convolutions on square images of one channel, with or without residual connections.

    .. math:: h_0 = E * x + b, \quad h_{l+1} = h_l + \sigma(K_l * h_l), \quad y = H \, \mathrm{mean}(h_L) + c

    Without residual connections :math:`h_{l+1} = \sigma(K_l * h_l)`. The mean is over all places.

    Attributes
    ----------
    side, channels, depth, outputs : int
        Of the images in pixels, of every block, number of blocks L, and p of the outputs.
    residual : bool
    activation : str
        One of those of `ACTIVATIONS` that act on each unit alone.
    """

    side: int
    channels: int
    depth: int
    outputs: int
    residual: bool
    activation: str

    def initial(self, seeds: Sequence[int]) -> dict[str, Tensor]:
        """First parameters, PyTorch's default; the same with and without residual connections and activation."""
        runs = [self._drawn(generator(seed, "weights")) for seed in seeds]
        return {name: torch.stack([run[name] for run in runs]) for name in runs[0]}

    def _drawn(self, stream: torch.Generator) -> dict[str, Tensor]:
        def uniform(*shape: int, fan_in: int) -> Tensor:
            return (2 * torch.rand(shape, generator=stream, dtype=torch.float64) - 1) / sqrt(fan_in)

        d, p = self.channels, self.outputs
        return {
            "embedding": uniform(d, 1, 3, 3, fan_in=9),
            "embedding_bias": uniform(d, fan_in=9),
            "blocks": uniform(self.depth, d, d, 3, 3, fan_in=9 * d),
            "head": uniform(p, d, fan_in=d),
            "head_bias": uniform(1, p, fan_in=d),
        }

    def __call__(self, parameters: Parameters, inputs: Tensor) -> Tensor:
        """Outputs, shape=[runs, batch, p], of images of shape [runs, batch, side²]."""
        runs, batch, _ = inputs.shape
        activation = ACTIVATIONS[self.activation]
        images = inputs.transpose(0, 1).reshape(batch, runs, self.side, self.side)
        stream = _convolved(images, parameters["embedding"]) + parameters["embedding_bias"].view(1, -1, 1, 1)
        for kernel in parameters["blocks"].unbind(1):
            written = activation(_convolved(stream, kernel))
            stream = stream + written if self.residual else written
        means = stream.mean(dim=(-2, -1)).view(batch, runs, self.channels).transpose(0, 1)
        return means @ parameters["head"].mT + parameters["head_bias"]


def _convolved(images: Tensor, kernels: Tensor) -> Tensor:
    """Every run's images by its own kernel: the runs are the groups of one convolution, one behind the other."""
    return functional.conv2d(images, kernels.flatten(0, 1), padding=1, groups=len(kernels))


def reads(kernels: Tensor) -> Tensor:
    """Kernels as matrices of the input channels, shape=[..., d_out * k * k, d_in] for [..., d_out, d_in, k, k]."""
    return kernels.movedim(-3, -1).flatten(-4, -2)


def writes(kernels: Tensor) -> Tensor:
    """Kernels as matrices of the output channels, shape=[..., d_out, d_in * k * k]."""
    return kernels.flatten(-3)
