"""How a module is run: on its inputs, in evaluation mode, and what its functions are called."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

#: What a module is called with: by place and by name.
Inputs = tuple[Sequence[Any], Mapping[str, Any]]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """A module in evaluation mode and without gradients, as it was afterwards."""
    training = [inner for inner in module.modules() if inner.training]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for inner in training:
            inner.training = True


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Every tensor in nested lists, tuples, mappings and dataclasses."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        yield from tensors_in(list(value.values()))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value) and not isinstance(value, type):
        yield from tensors_in(vars(value))


@cache
def plain_name(function: Callable[..., Any]) -> str:
    """Name of a torch function without what tells operators and operations in place apart: ``__iadd__``, ``relu_``."""
    name = function.__name__
    if name == "__get__":
        name = function.__self__.__name__  # type: ignore[attr-defined]
    return name if name == "__matmul__" else name.strip("_")


def replaced(inputs: Inputs, by: Callable[[Tensor], Tensor]) -> Inputs:
    """The same inputs with other tensors in the places of theirs."""

    def replace(value: Any) -> Any:
        if isinstance(value, Tensor):
            return by(value)
        if isinstance(value, Mapping):
            return {name: replace(item) for name, item in value.items()}
        return type(value)(map(replace, value)) if isinstance(value, list | tuple) else value

    places, names = inputs
    return tuple(map(replace, places)), {name: replace(value) for name, value in names.items()}
