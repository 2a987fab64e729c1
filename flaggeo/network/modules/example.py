"""What a module is called with: an example that was given, or one that is made up from its first layers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from ...checkpoint import CheckpointError
from .running import Inputs, evaluating

#: One tensor, several in order, or several by name.
Example = Tensor | Sequence[Any] | Mapping[str, Any]

# Sizes of images and lengths of sequences that are tried, the smallest first.
_SIZES = (8, 16, 28, 32, 64, 96, 128, 224)


class NoExampleError(CheckpointError):
    """A module that needs an example of its input."""


def find_inputs(module: nn.Module, example: Example | None) -> Inputs:
    """The arguments of a call of a module.

    Raises
    ------
    NoExampleError
        If there is no example and none could be made up.
    """
    if isinstance(example, Tensor):
        return (example,), {}
    if isinstance(example, Mapping):
        return (), dict(example)
    if example is not None:
        return tuple(example), {}
    for inputs in _guesses(module):
        try:
            with evaluating(module):
                module(*inputs)
        except Exception:  # a guess that does not fit may fail in any way
            continue
        return inputs, {}
    raise NoExampleError(
        f"{type(module).__name__}: expected an example of its input, found none, and none that could be made up from "
        "its first layers: pass example=, a tensor or whatever the module is called with"
    )


def _guesses(module: nn.Module) -> Iterator[tuple[Tensor, ...]]:
    """Inputs that fit the layers which read them, of several sizes."""
    try:
        graph = fx.symbolic_trace(module).graph
    except Exception:  # control flow, or whatever else tracing cannot follow
        return
    wanted = [_reader(node, module) for node in graph.nodes if node.op == "placeholder"]
    if wanted and None not in wanted:
        for size in _SIZES:
            yield tuple(_made_up(reader, size) for reader in wanted if reader is not None)


def _reader(node: fx.Node, module: nn.Module) -> nn.Module | None:
    """The layer that reads an input, perhaps behind others that keep its channels."""
    waiting, modules = list(node.users), dict(module.named_modules())
    while waiting:
        user = waiting.pop(0)
        found = modules.get(str(user.target)) if user.op == "call_module" else None
        if isinstance(found, nn.Linear | nn.Embedding | nn.Conv1d | nn.Conv2d | nn.Conv3d):
            return found
        waiting += user.users
    return None


def _made_up(reader: nn.Module, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    weight = next(reader.parameters())
    if isinstance(reader, nn.Embedding):
        made = torch.randint(reader.num_embeddings, (1, min(size, reader.num_embeddings)), generator=generator)
        return made.to(weight.device)
    shape = [2, reader.in_features] if isinstance(reader, nn.Linear) else None
    if shape is None:
        assert isinstance(reader, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        shape = [1, reader.in_channels, *[size] * len(reader.kernel_size)]
    return torch.randn(shape, generator=generator).to(weight)
