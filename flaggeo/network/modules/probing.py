"""Which channels of which maps lie in one space: asked of the module itself.

The forward pass is run again with every map replaced by what it returned before, and norms left out. A change of some
channels of one output then reaches the inputs of other maps only through what lies between them. Where the same channels
of an input change, and no others, the two maps face one space, coordinate by coordinate.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .linear_maps import LinearMap, Parameters
from .norms import norm_of_call
from .recording import SUMS, Inputs, Recording, plain_name, tensors_in


class UnsteadyModuleError(Exception):
    """A module that returns different numbers for the same input, so that it cannot be asked."""


@dataclass(frozen=True)
class Point:
    """An axis of activations that no map reads.

    Attributes
    ----------
    kind : str
        ``sum`` of the activations of several maps, or ``output`` or ``input`` of the module.
    number : int
    axis : int
    """

    kind: str
    number: int
    axis: int


@dataclass(frozen=True)
class Link:
    """A map whose output channels are, one by one, what another reads.

    Attributes
    ----------
    writer, reader : LinearMap or Point
    positions : int
        Inputs of the reader for each channel: several where an image is flattened before it is read.
    positions_first : bool
        Whether the inputs of one position stand together, rather than those of one channel.
    """

    writer: LinearMap | Point
    reader: LinearMap | Point
    positions: int = 1
    positions_first: bool = False


#: By what reads them, which channels changed, each time that it reads.
_Changes = dict[LinearMap | Point, list[Tensor]]

#: The positions of each channel and whether they come first, as in `Link`; empty where nothing is read, None where
#: the channels are not found again one by one.
_Match = tuple[int, bool] | tuple[()] | None


class Questioner:
    """Runs a module again and again, each time with another change.

    Parameters
    ----------
    module : nn.Module
        `evaluating`.
    inputs : Inputs
    parameters : Parameters
    recording : Recording
        Of the same module and inputs.

    Raises
    ------
    UnsteadyModuleError
        If the module computes other numbers without any change.
    """

    def __init__(self, module: nn.Module, inputs: Inputs, parameters: Parameters, recording: Recording) -> None:
        self._module, self._inputs, self._parameters, self._recording = module, inputs, parameters, recording
        self._reference = self._run(inputs, {})
        for changes in self._compared(self._run(inputs, {})).values():
            if any(bool(channels.any()) for channels in changes):
                raise UnsteadyModuleError(
                    f"{type(module).__name__}: expected the same numbers for the same input, found others each time"
                )

    def links_from(self, writer: LinearMap) -> Iterator[Link]:
        """All that reads what a map writes, channel by channel."""
        calls = [(call.axis, found) for call, found in self._recording.calls if call.writes == writer]

        def ask(code: Tensor, sign: int) -> _Changes:
            moved = [_moved(next(tensors_in(found)), code, axis, sign) for axis, found in calls]
            return self._ask(self._inputs, {writer: moved})

        yield from _links(writer, writer.writes, ask)

    def links_from_inputs(self) -> Iterator[Link]:
        """All that reads an input of the module as it is, along any of its axes."""
        for number, given in enumerate(tensors_in([*self._inputs[0], *self._inputs[1].values()])):
            for axis in range(given.ndim) if given.is_floating_point() else ():

                def ask(code: Tensor, sign: int, given: Tensor = given, axis: int = axis) -> _Changes:
                    return self._ask(_replaced(self._inputs, {id(given): _moved(given, code, axis, sign)}), {})

                links = _links(Point("input", number, axis), given.shape[axis], ask)
                yield from (link for link in links if link.positions == 1)

    def _ask(self, inputs: Inputs, moved: Mapping[LinearMap, list[Tensor]]) -> _Changes:
        """What changes; nothing is known where the module takes another way then."""
        try:
            return self._compared(self._run(inputs, moved))
        except (RuntimeError, IndexError, ValueError, _OtherWayError):
            return {}

    def _run(self, inputs: Inputs, moved: Mapping[LinearMap, list[Tensor]]) -> "_Replay":
        replay = _Replay(self._parameters, self._recording, moved)
        with replay.without_norms(self._module), replay:
            found = self._module(*inputs[0], **inputs[1])
        replay.show("output", tensors_in(found))
        return replay

    def _compared(self, replay: "_Replay") -> _Changes:
        changes: _Changes = {}
        if len(replay.seen) != len(self._reference.seen):
            raise _OtherWayError
        for (reader, axis, before), (_, _, after) in zip(self._reference.seen, replay.seen, strict=True):
            if before.shape != after.shape:
                raise _OtherWayError
            differ = (before != after).movedim(axis, 0).flatten(1).any(1) if before.ndim > 1 else before != after
            changes.setdefault(reader, []).append(differ.cpu())
        return changes


class _OtherWayError(Exception):
    """A module that applies other maps than before."""


class _Replay(TorchFunctionMode):
    """A forward pass in which maps return what they did before, and norms what they are given.

    `seen` has what is read, added or returned, each with the axis of its channels, in order.
    """

    def __init__(
        self, parameters: Parameters, recording: Recording, moved: Mapping[LinearMap, list[Tensor]]
    ) -> None:
        super().__init__()
        self.seen: list[tuple[LinearMap | Point, int, Tensor]] = []
        self._parameters, self._recording = parameters, recording
        self._calls = iter(recording.calls)
        self._moved = {writer: iter(tensors) for writer, tensors in moved.items()}
        self._added = -1

    def show(self, kind: str, tensors: Iterator[Tensor]) -> None:
        """Look at activations along all of their axes."""
        for number, tensor in enumerate(tensors):
            if tensor.is_floating_point():
                self.seen += [(Point(kind, number, axis), axis, tensor) for axis in range(tensor.ndim)]

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        name = plain_name(func)
        call = self._parameters.find_call(name, args, named)
        if call is None:
            if norm_of_call(self._parameters, name, args, named) is not None:
                return next(tensors_in([*args, *named.values()])).clone()
            found = func(*args, **named)
            if name in SUMS:
                self._added += 1
                if self._added in self._recording.sums:
                    copies = (tensor.clone() for tensor in tensors_in(found))
                    self.show(f"sum {self._added}", copies)
            return found
        before, found = next(self._calls, (None, None))
        if before is None or before.writes != call.writes:
            raise _OtherWayError
        self.seen += [(reading.map, reading.axis, reading.source.clone()) for reading in call.readings]
        first = next(self._moved[call.writes]) if call.writes in self._moved else next(tensors_in(found)).clone()
        return first if isinstance(found, Tensor) else (first, *found[1:])

    @contextmanager
    def without_norms(self, module: nn.Module) -> Iterator[None]:
        """Let norms of one's own return what they are given."""

        def pass_on(_: nn.Module, given: tuple[Any, ...], __: Any) -> Tensor:
            return next(tensors_in(given)).clone()

        modules = dict(module.named_modules())
        handles = [modules[name].register_forward_hook(pass_on) for name in self._recording.own_norms]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def _code(channels: int) -> Tensor:
    """Random half of the channels, which no rearrangement is likely to leave alone."""
    code = torch.zeros(channels, dtype=torch.bool)
    code[torch.randperm(channels, generator=torch.Generator().manual_seed(channels))[: (channels + 1) // 2]] = True
    return code


def _moved(tensor: Tensor, code: Tensor, axis: int, sign: int) -> Tensor:
    """Some channels of an output moved far, at each position by another amount."""
    amount = 1 + torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0)).to(tensor)
    along = [1] * tensor.ndim
    along[axis] = len(code)
    reach = 1 + 2 * float(tensor.abs().max())
    return tensor + sign * reach * amount * code.to(tensor).view(along)


def _links(writer: LinearMap | Point, channels: int, ask: Callable[[Tensor, int], _Changes]) -> Iterator[Link]:
    """Links of a writer, from what changes with half of its channels."""
    code = _code(channels)
    changes = ask(code, 1)
    matches = {reader: _match(code, found) for reader, found in changes.items()}
    if None in matches.values() or not any(matches.values()):
        # A function may be constant on one side, for some entries or for all.
        other = ask(code, -1)
        for reader in changes.keys() & other.keys():
            matches[reader] = _match(code, [a | b for a, b in zip(changes[reader], other[reader], strict=True)])
    for reader, match in matches.items():
        if match:
            yield Link(writer, reader, *match)


def _match(code: Tensor, changes: list[Tensor]) -> _Match:
    """How the channels of a code are found again; a map may be applied several times, and may read nothing of them."""
    found: set[_Match] = {()}
    for channels in changes:
        if channels.any():
            count, rest = divmod(len(channels), len(code))
            if rest == 0 and torch.equal(channels, code.repeat_interleave(count)):
                found.add((count, False))
            elif rest == 0 and torch.equal(channels, code.repeat(count)):
                found.add((count, True))
            else:
                return None
    return max(found) if len(found) < 3 else None


def _replaced(inputs: Inputs, moved: Mapping[int, Tensor]) -> Inputs:
    """The same inputs with other tensors in the places of some."""

    def replace(value: Any) -> Any:
        if isinstance(value, Tensor):
            return moved.get(id(value), value)
        if isinstance(value, Mapping):
            return {name: replace(item) for name, item in value.items()}
        return type(value)(map(replace, value)) if isinstance(value, list | tuple) else value

    return tuple(map(replace, inputs[0])), {name: replace(value) for name, value in inputs[1].items()}
