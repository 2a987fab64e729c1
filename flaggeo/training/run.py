"""The one trainer: all runs of a cell side by side, with what the laws need recorded on the way."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import cos, pi
from typing import Literal

import torch
from torch import Tensor

from .models import Model, Parameters
from .seeds import generator
from .tasks import Task

# Steps between two reports of progress, and test samples of a run that are held in memory with all their layers.
_REPORTED, _HELD_OUT = 50, 16


@dataclass(frozen=True)
class Recipe:
    r"""How a network is trained.

    Attributes
    ----------
    steps : int
        Number of updates.
    rate : float
        Learning rate η.
    optimizer : {"sgd", "adam", "adamw"}
    momentum : float
        Of SGD.
    ridge : float or tuple of float
        λ of the penalty :math:`\tfrac{\lambda}{2} |\theta|^2` of all parameters, which is part of the gradient (coupled
        weight decay); one for all runs, or one for each.
    decay : float
        Decoupled weight decay of AdamW.
    batch : int or None
        Samples of a step, drawn with replacement; None for all.
    final_rate : float or None
        Learning rate of the last fifth of the steps, where it is another.
    betas : tuple of float
        Of Adam and AdamW.
    warmup : int or None
        Where it is given, the rate rises through so many steps and falls along a cosine, to a tenth at the end.
    clip : float or None
        Largest norm of the gradient of a run over all its parameters; a longer one is shortened.
    """

    steps: int
    rate: float
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    momentum: float = 0.0
    ridge: float | tuple[float, ...] = 0.0
    decay: float = 0.0
    batch: int | None = None
    final_rate: float | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int | None = None
    clip: float | None = None

    def rate_at(self, step: int) -> float:
        """Learning rate of a step; the first is 1."""
        if self.final_rate is not None and step > self.steps - self.steps // 5:
            return self.final_rate
        if self.warmup is None:
            return self.rate
        return self.rate * min(1, step / self.warmup) * (0.1 + 0.45 * (1 + cos(pi * step / self.steps)))

    def made(self, parameters: list[Tensor]) -> torch.optim.Optimizer:
        """The optimiser of these parameters."""
        if self.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.rate, momentum=self.momentum, fused=True)
        if self.optimizer == "adam":
            return torch.optim.Adam(parameters, lr=self.rate, betas=self.betas, fused=True)
        return torch.optim.AdamW(parameters, lr=self.rate, betas=self.betas, weight_decay=self.decay, fused=True)


@dataclass(frozen=True)
class History:
    """What is recorded of a training.

    Attributes
    ----------
    snapshots : dict
        Parameters by step: before training, at the steps that were asked for, and at the end.
    first_gradient, last_gradient : dict
        Gradient of the loss on the task's first samples before and after training, without ridge.
    gradient_sum : dict
        Sum of the gradients of all steps, before ridge, clipping and what the optimiser makes of them.
    smoothed : dict
        Moving averages of these gradients at the end, by their β: each step keeps β of the average and adds 1 - β of
        the gradient.
    """

    snapshots: dict[int, dict[str, Tensor]]
    first_gradient: dict[str, Tensor]
    last_gradient: dict[str, Tensor]
    gradient_sum: dict[str, Tensor]
    smoothed: dict[float, dict[str, Tensor]]

    @property
    def first(self) -> dict[str, Tensor]:
        """Parameters before training."""
        return self.snapshots[0]

    @property
    def last(self) -> dict[str, Tensor]:
        """Parameters at the end."""
        return self.snapshots[max(self.snapshots)]


def train(
    model: Model,
    task: Task,
    recipe: Recipe,
    seeds: Sequence[int],
    *,
    recorded: Sequence[int] = (),
    smoothed: Sequence[float] = (),
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    progress: Callable[[int, int], object] = lambda *_: None,
) -> History:
    """Train one run for each seed, as one batched model.

    The loss is the sum of those of the runs, so that no run sees another: each has the weights, data and batches that
    its seed gives, alone or beside others, up to the rounding of batched products.

    Parameters
    ----------
    model : Model
    task : Task
        With as many runs as there are seeds.
    recipe : Recipe
    seeds : sequence of int
        One for each run; of first weights and batches.
    recorded : sequence of int
        Steps after which parameters are kept.
    smoothed : sequence of float
        β of the moving averages of gradients that are kept.
    dtype : torch.dtype
    device : str
        Weights, data and batches are drawn on the CPU, the same for every device.
    progress : callable
        Told how many steps are done, of how many.

    Returns
    -------
    history : History

    Raises
    ------
    ValueError
        If the task has another number of runs than there are seeds.
    """
    if len(task.inputs) != len(seeds):
        raise ValueError(f"train expected data of {len(seeds)} runs, one for each seed; found {len(task.inputs)}")
    task = task.to(dtype, device)
    parameters = {name: tensor.to(device, dtype).requires_grad_() for name, tensor in model.initial(seeds).items()}
    weights = list(parameters.values())
    ridges = [_ridge(recipe, weight) for weight in weights]
    total = _zeros(parameters)
    averages = {beta: _zeros(parameters) for beta in smoothed}
    first_gradient, snapshots = _probe_gradient(model, task, parameters), {0: _kept(parameters)}
    optimizer = recipe.made(weights)
    for step, (inputs, targets) in enumerate(_batches(task, recipe, seeds), start=1):
        loss = task.loss(model(parameters, inputs), targets).sum()
        # In the order of memory: fused optimisers read numbers so, whatever the strides, and sums are faster.
        gradients = [gradient.contiguous() for gradient in torch.autograd.grad(loss, weights)]
        for of_all, gradient in zip(total.values(), gradients, strict=True):
            of_all += gradient
        clipped = gradients if recipe.clip is None else _clipped(gradients, recipe.clip)
        for weight, gradient, ridge in zip(weights, clipped, ridges, strict=True):
            weight.grad = gradient if ridge is None else torch.addcmul(gradient, ridge, weight.detach())
        for beta, average in averages.items():
            for of_weight, gradient in zip(average.values(), gradients, strict=True):
                of_weight.lerp_(gradient, 1 - beta)
        optimizer.param_groups[0]["lr"] = recipe.rate_at(step)
        optimizer.step()
        if step in recorded or step == recipe.steps:
            snapshots[step] = _kept(parameters)
        if step % _REPORTED == 0:
            progress(step, recipe.steps)
    return History(snapshots, first_gradient, _probe_gradient(model, task, parameters), total, averages)


def accuracy(model: Model, parameters: Parameters, task: Task) -> Tensor:
    """Share of the test samples that each run classifies correctly, shape=[runs]."""
    some = next(iter(parameters.values()))
    task = task.to(some.dtype, str(some.device))
    with torch.no_grad():
        found = model(parameters, task.test_inputs).argmax(dim=-1)
    return (found == task.test_targets).double().mean(dim=1)


def held_out_loss(model: Model, parameters: Parameters, task: Task) -> Tensor:
    """Mean loss of each run on the test samples, shape=[runs]."""
    some = next(iter(parameters.values()))
    task = task.to(some.dtype, str(some.device))
    parts = zip(*(tensor.split(_HELD_OUT, dim=1) for tensor in (task.test_inputs, task.test_targets)), strict=True)
    with torch.no_grad():
        sums = [task.loss(model(parameters, inputs), targets) * targets.shape[1] for inputs, targets in parts]
    return torch.stack(sums).double().sum(dim=0) / task.test_targets.shape[1]


def _clipped(gradients: Sequence[Tensor], longest: float) -> tuple[Tensor, ...]:
    """Gradients of which no run's are longer than this together."""
    squares = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients])
    factors = (longest / (squares.sum(dim=0).sqrt() + 1e-6)).clamp(max=1)
    return tuple(gradient * factors.view(-1, *(1,) * (gradient.ndim - 1)) for gradient in gradients)


def _ridge(recipe: Recipe, weight: Tensor) -> Tensor | None:
    """Ridge of each run beside a weight; None where there is none."""
    of_runs = torch.as_tensor(recipe.ridge, dtype=weight.dtype, device=weight.device).expand(len(weight))
    return of_runs.view(-1, *(1,) * (weight.ndim - 1)) if of_runs.any() else None


def _batches(task: Task, recipe: Recipe, seeds: Sequence[int]) -> Iterator[tuple[Tensor, Tensor]]:
    if recipe.batch is None:
        for _ in range(recipe.steps):
            yield task.inputs, task.targets
        return
    count, device = task.inputs.shape[1], task.inputs.device
    shape = (recipe.steps, recipe.batch)
    drawn = [torch.randint(count, shape, generator=generator(seed, "batches")) for seed in seeds]
    chosen = torch.stack(drawn, dim=1).to(device)
    runs = torch.arange(len(seeds), device=device)[:, None]
    for indices in chosen:
        yield task.inputs[runs, indices], task.targets[runs, indices]


def _probe_gradient(model: Model, task: Task, parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    loss = task.loss(model(parameters, task.inputs[:, : task.probe]), task.targets[:, : task.probe]).sum()
    return dict(zip(parameters, torch.autograd.grad(loss, list(parameters.values())), strict=True))


def _zeros(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.zeros_like(weight) for name, weight in parameters.items()}


def _kept(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in parameters.items()}
