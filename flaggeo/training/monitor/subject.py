"""The module that is watched: its network, and the matrices of its weights, updates and gradients as they are now."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
from torch import Tensor, nn

from ...analysis import load
from ...checkpoint import CheckpointError
from ...checkpoint.in_memory import MemoryCheckpoint
from ...network import Network, Stack, Weight
from ...network.modules import Example
from ...network.roles import in_tower
from ...settings import Settings

#: Towers in which updates and gradients stand beside the weights: they are matrices between the same spaces.
UPDATE, GRADIENT = "update", "gradient"


class Subject:
    """A module and those of its weights that are watched.

    Parameters
    ----------
    model : nn.Module
        Perhaps compiled, or wrapped for several processes: the module inside is read.
    settings : Settings
    example
        As for `load`.
    experts : bool
        Whether every expert of a mixture is watched.

    Attributes
    ----------
    network : Network
    weights : list of Weight
        In order of depth.

    Raises
    ------
    ValueError
        If its parameters are spread over processes, or no weight has the roles and layers.
    CheckpointError
        As `load` raises.
    """

    def __init__(self, model: nn.Module, settings: Settings, example: Example | None, *, experts: bool) -> None:
        self._module = unwrapped(model)
        self._folded = settings.fold_norms
        _require_whole(self._module)
        with _same_random_numbers(self._module):
            self.network: Network = load(self._module, example=example)
        chosen = settings.chosen(self.network)
        self.weights = [one for one in chosen if not isinstance(one, Stack) and (experts or one.expert is None)]
        if not self.weights:
            raise ValueError("roles: expected some besides those of experts, or experts=True; got none")
        self._needed = {name for weight in self.weights for name in _tensors_of(weight)}
        self._before: MemoryCheckpoint | None = None

    @property
    def dtypes(self) -> list[str]:
        """How the numbers of the weights are stored."""
        headers = self.network.checkpoint.headers
        return sorted({headers[weight.tensor].dtype for weight in self.weights})

    @property
    def device(self) -> torch.device:
        """Where the first weight is."""
        return self._tensors()[self.weights[0].tensor].device

    def matrices(self) -> Iterator[tuple[Weight, Tensor]]:
        """Every weight and its matrix, shape=[target.dim, source.dim]; without those that are not finite."""
        yield from _matrices(self.weights, self._as_they_are(), folded=self._folded)

    def updates(self) -> Iterator[tuple[Weight, Tensor]]:
        """By what each weight has moved since `remember` was called, as a weight of its own."""
        if self._before is None:
            return
        ends = (_read(self.weights, one, folded=self._folded) for one in (self._before, self._as_they_are()))
        for weight, before, now in zip(self.weights, *ends, strict=True):
            if before is not None and now is not None:
                yield beside(weight, UPDATE), now - before.to(now)

    def gradients(self) -> Iterator[tuple[Weight, Tensor]]:
        """The gradient of each weight whose tensor has one, as a weight of its own; no norm is folded into it."""
        gradients = ((name, one.grad) for name, one in self._tensors().items() if one.grad is not None)
        found = {name: one for name, one in gradients if one.layout == torch.strided}  # of tables they may be sparse
        now = MemoryCheckpoint(self.network.checkpoint.location, found, {})
        reached = [weight for weight in self.weights if weight.tensor in found and not weight.after]
        for weight, matrix in _matrices(reached, now, folded=False):
            yield beside(weight, GRADIENT), matrix

    def remember(self) -> None:
        """Keep a copy of all that is watched, from which updates are measured."""
        self._before = None  # never two copies at once
        copies = {name: one.detach().clone() for name, one in self._tensors().items()}
        self._before = MemoryCheckpoint(self.network.checkpoint.location, copies, {})

    def _as_they_are(self) -> MemoryCheckpoint:
        return MemoryCheckpoint(self.network.checkpoint.location, self._tensors(), {})

    def _tensors(self) -> Mapping[str, Tensor]:
        """What is watched, by name; asked anew each time, since others may have taken the places of parameters."""
        named = [*self._module.named_parameters(remove_duplicate=False), *self._module.named_buffers()]
        return {name: one for name, one in named if name in self._needed}


def unwrapped(model: nn.Module) -> nn.Module:
    """The module inside of what `torch.compile` and data parallelism made of it."""
    parallel = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    while True:
        inner = getattr(model, "_orig_mod", None) or (model.module if isinstance(model, parallel) else None)
        if inner is None:
            return model
        model = inner


def _require_whole(module: nn.Module) -> None:
    for name, parameter in module.named_parameters():
        if hasattr(parameter, "placements"):  # a DTensor, whose class is there only where torch was built with it
            raise ValueError(f"model: expected parameters that this process has whole, found {name!r} spread over many")


def _same_random_numbers(module: nn.Module) -> AbstractContextManager[None]:
    """Reading may run the module: what it draws is drawn again later."""
    devices = {parameter.device for parameter in module.parameters() if parameter.device.type == "cuda"}
    return torch.random.fork_rng(devices=list(devices))


def _tensors_of(weight: Weight) -> Iterator[str]:
    yield weight.tensor
    yield from (gain.tensor for gain in weight.folding.gains)
    if weight.after is not None:
        yield weight.after.tensor
        if weight.after.gain is not None:
            yield weight.after.gain.tensor


def _matrices(
    weights: Sequence[Weight], checkpoint: MemoryCheckpoint, *, folded: bool
) -> Iterator[tuple[Weight, Tensor]]:
    """The weights that are finite, and their matrices."""
    for weight, matrix in zip(weights, _read(weights, checkpoint, folded=folded), strict=True):
        if matrix is not None:
            yield weight, matrix


def _read(weights: Sequence[Weight], checkpoint: MemoryCheckpoint, *, folded: bool) -> Iterator[Tensor | None]:
    """None where numbers are not finite: a run that diverges is not stopped by who watches it."""
    origin, stored = None, None
    for weight in weights:
        try:
            if (weight.tensor, weight.split.expert) != origin:  # the heads of a projection are cut from one tensor
                origin, stored = (weight.tensor, weight.split.expert), None
                stored = weight.read(checkpoint, device=checkpoint.stored(weight.tensor).device)
            yield None if stored is None else weight.matrix(checkpoint, stored, folded=folded)
        except CheckpointError:
            yield None


def beside(weight: Weight, tower: str) -> Weight:
    """The update or gradient of a weight, as a weight of its own."""
    return replace(weight, name=in_tower(tower, weight.name), role=in_tower(tower, weight.role))
