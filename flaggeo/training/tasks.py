"""What the networks learn: data for every run, and the loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt

import torch
from torch import Tensor
from torch.nn import functional

from .seeds import generator


@dataclass(frozen=True)
class Task:
    """Samples of every run and the loss on them.

    Attributes
    ----------
    inputs : Tensor, shape=[runs, N, n]
    targets : Tensor, shape=[runs, N] or [runs, N, p]
        Classes or numbers.
    loss : callable
        From outputs of shape [runs, batch, p] and targets to the mean loss of each run, shape=[runs].
    test_inputs, test_targets : Tensor
        Samples that are not trained on; empty where the task has none.
    """

    inputs: Tensor
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    test_inputs: Tensor
    test_targets: Tensor

    def to(self, dtype: torch.dtype, device: str) -> "Task":
        """The same with floating-point numbers of this kind, on a device."""
        moved = {}
        for name in ("inputs", "targets", "test_inputs", "test_targets"):
            tensor = getattr(self, name)
            moved[name] = tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
        return replace(self, **moved)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of each run."""
    each = functional.cross_entropy(outputs.flatten(0, 1), targets.flatten(), reduction="none")
    return each.view_as(targets).mean(dim=1)


def half_squared_error(outputs: Tensor, targets: Tensor) -> Tensor:
    r"""Mean over the samples of :math:`\tfrac12 |y - t|^2`, for each run."""
    return (outputs - targets).square().sum(dim=-1).mean(dim=1) / 2


def prototypes(seeds: Sequence[int], *, train: int = 20_000, test: int = 4_000) -> Task:
    """Noisy prototypes over a common background: 10 classes of 6 in 64 dimensions, not linearly separable.

    It stands in for MNIST, which would have to be fetched. Every run has prototypes, background and samples of its own,
    so that the spread over seeds includes that of the data.
    """
    dim, classes, each = 64, 10, 6
    samples = []
    for seed in seeds:
        stream = generator(seed, "data")
        sparse = torch.rand((classes * each, dim), generator=stream) * (
            torch.rand((classes * each, dim), generator=stream) < 0.35
        )
        background = torch.rand(dim, generator=stream) * (torch.rand(dim, generator=stream) < 0.5)
        which = torch.randint(classes * each, (train + test,), generator=stream)
        noise = torch.randn((train + test, dim), generator=stream)
        samples.append(((0.8 * sparse[which] + 0.5 * background + 0.3 * noise).clamp(0, 1), which % classes))
    inputs, targets = (torch.stack(parts) for parts in zip(*samples, strict=True))
    return Task(inputs[:, :train], targets[:, :train], cross_entropy, inputs[:, train:], targets[:, train:])


def digits(seeds: Sequence[int], *, train: int = 1_500) -> Task:
    """Handwritten digits of 8 x 8 pixels, 1,797 of them, as scikit-learn has them; every run with its own division."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    inputs, targets = torch.from_numpy(pixels) / 16, torch.from_numpy(classes)
    orders = torch.stack([torch.randperm(len(targets), generator=generator(seed, "data")) for seed in seeds])
    inputs, targets = inputs[orders], targets[orders]
    return Task(inputs[:, :train], targets[:, :train], cross_entropy, inputs[:, train:], targets[:, train:])


def gaussian_classes(seeds: Sequence[int], *, classes: int = 4, dim: int = 16, count: int = 240) -> Task:
    """Standard normal noise around standard normal class means, as many samples of every class."""
    samples = []
    for seed in seeds:
        stream = generator(seed, "data")
        means = torch.randn((classes, dim), generator=stream, dtype=torch.float64)
        noise = torch.randn((count, dim), generator=stream, dtype=torch.float64)
        samples.append(means[torch.arange(count) % classes] + noise)
    inputs = torch.stack(samples)
    targets = (torch.arange(count) % classes).expand(len(seeds), count)
    return Task(inputs, targets, cross_entropy, inputs[:, :0], targets[:, :0])


def teacher_regression(
    seeds: Sequence[int], teacher: str, *, dim: int = 16, outputs: int = 4, count: int = 200
) -> Task:
    """Standard normal inputs with the outputs of a random teacher network.

    Parameters
    ----------
    seeds : sequence of int
        One for each run.
    teacher : {"linear", "relu"}
        A linear map, or one hidden layer of 8 ReLU units, which a linear network cannot fit.
    dim, outputs, count : int
        n, p and the number of samples.
    """
    hidden = 8
    samples = []
    for seed in seeds:
        gaussian = partial(torch.randn, generator=generator(seed, "data"), dtype=torch.float64)
        inputs = gaussian((count, dim))
        if teacher == "linear":
            targets = inputs @ gaussian((dim, outputs)) / sqrt(dim)
        else:
            read, write = gaussian((dim, hidden)) / sqrt(dim), gaussian((hidden, outputs)) / sqrt(hidden)
            targets = 2 * (inputs @ read).clamp(min=0) @ write
        samples.append((inputs, targets))
    inputs, targets = (torch.stack(parts) for parts in zip(*samples, strict=True))
    return Task(inputs, targets, half_squared_error, inputs[:, :0], targets[:, :0])
