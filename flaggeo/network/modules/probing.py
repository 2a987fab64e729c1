"""Which channels of which maps lie in one space: asked of the module itself.

Some channels of the output of one map are changed. Where the same channels of what another map reads change, and no
others, the two face one space, coordinate by coordinate.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .linear_maps import LinearMap, Parameters
from .recording import Recording
from .replaying import Changes, OtherWayError, Point, Replay
from .running import Inputs, replaced, tensors_in

# How far channels are moved, in turn: a function may be constant on one side, or for large arguments.
_MOVES = (1.0, -1.0, 30.0, -30.0, 0.03, -0.03)
# Share of the channels that must be found again: some may be dead, as where a filter is zero.
_FOUND = 0.5
# With fewer channels than this, one half of them is too likely to be left alone by a rearrangement by chance.
_MANY = 64


class UnsteadyModuleError(Exception):
    """A module that returns different numbers for the same input, so that it cannot be asked."""


@dataclass(frozen=True)
class Pattern:
    """Where the channels of a writer are found in what is read.

    Attributes
    ----------
    positions : int
        Columns for each channel: several where an image is flattened before it is read.
    positions_first : bool
        Whether the columns of one position stand together, rather than those of one channel.
    offset : int
        Channels of others before them: where activations are read side by side.
    """

    positions: int = 1
    positions_first: bool = False
    offset: int = 0

    def of(self, code: Tensor, width: int) -> Tensor:
        """A code of channels as it is read, shape=[width]."""
        found = torch.zeros(width, dtype=torch.bool)
        read = code.repeat(self.positions) if self.positions_first else code.repeat_interleave(self.positions)
        found[self.offset : self.offset + len(read)] = read
        return found


@dataclass(frozen=True)
class Link:
    """A map whose output channels are, one by one, what another reads.

    Attributes
    ----------
    writer, reader : LinearMap or Point
    pattern : Pattern
        Where in what the reader reads.
    channels : int
        Of the writer.
    width : int
        Of what the reader reads.
    """

    writer: LinearMap | Point
    reader: LinearMap | Point
    pattern: Pattern
    channels: int
    width: int

    @property
    def is_whole(self) -> bool:
        """Whether the reader has nothing else."""
        return self.channels * self.pattern.positions == self.width


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
        self._reference = Replay(parameters, recording, {}).run(module, inputs)
        if any(bool(channels.any()) for found in self._run(inputs, {}).values() for channels in found):
            raise UnsteadyModuleError("expected the same numbers for the same input, found others each time")

    def links_from(self, writer: LinearMap) -> Iterator[Link]:
        """All that reads what a map writes, channel by channel."""
        calls = [(call.axis, found) for call, found in self._recording.calls if call.writes == writer]

        def ask(code: Tensor, move: float) -> Changes:
            moved = [_moved(next(tensors_in(found)), code, axis, move) for axis, found in calls]
            return self._ask(self._inputs, {writer: moved})

        yield from _links(writer, writer.writes, ask)

    def links_from_inputs(self) -> Iterator[Link]:
        """All that reads an input of the module as it is, along any of its axes."""
        for number, given in enumerate(tensors_in([*self._inputs[0], *self._inputs[1].values()])):
            for axis in range(given.ndim) if given.is_floating_point() else ():

                def ask(code: Tensor, move: float, given: Tensor = given, axis: int = axis) -> Changes:
                    moved = _moved(given, code, axis, move)
                    return self._ask(replaced(self._inputs, lambda tensor: moved if tensor is given else tensor), {})

                links = _links(Point("input", number, axis), given.shape[axis], ask)
                yield from (link for link in links if link.channels == link.width)

    def _ask(self, inputs: Inputs, moved: Mapping[LinearMap, list[Tensor]]) -> Changes:
        """What changes; nothing is known where the module takes another way then."""
        try:
            return self._run(inputs, moved)
        except (RuntimeError, IndexError, ValueError, OtherWayError):
            return {}

    def _run(self, inputs: Inputs, moved: Mapping[LinearMap, list[Tensor]]) -> Changes:
        replay = Replay(self._parameters, self._recording, moved, self._reference)
        return replay.run(self._module, inputs).changes()


def _moved(tensor: Tensor, code: Tensor, axis: int, move: float) -> Tensor:
    """Some channels of an output moved, at each position by another amount, up or down."""
    amount = 4 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(0)) - 2
    along = [1] * tensor.ndim
    along[axis] = len(code)
    reach = move * (1 + 2 * float(tensor.abs().max()))
    return tensor + reach * (amount + amount.sign()).to(tensor) * code.to(tensor).view(along)


def _codes(channels: int) -> Iterator[Tensor]:
    """Random halves of the channels."""
    generator = torch.Generator().manual_seed(channels)
    for _ in range(1 if channels >= _MANY else 3):
        code = torch.zeros(channels, dtype=torch.bool)
        code[torch.randperm(channels, generator=generator)[: (channels + 1) // 2]] = True
        yield code


def _links(writer: LinearMap | Point, channels: int, ask: Callable[[Tensor, float], Changes]) -> Iterator[Link]:
    """Links of a writer, by the patterns that hold for every code of its channels."""
    patterns: dict[LinearMap | Point, set[Pattern]] = {}
    widths: dict[LinearMap | Point, int] = {}
    for number, code in enumerate(_codes(channels)):
        answer: Changes = {}
        for move in _MOVES:
            _join(answer, ask(code, move))
            if not any(_is_unsettled(code, found) for found in answer.values()) and _any(answer):
                break
        found = {reader: _matching(code, changes) for reader, changes in answer.items()}
        widths |= {reader: len(changes[0]) for reader, changes in answer.items()}
        known = patterns if number else found
        patterns = {reader: fitting & found.get(reader, set()) for reader, fitting in known.items()}
    for reader, fitting in patterns.items():
        if fitting:
            pattern = min(fitting, key=lambda pattern: (pattern.positions, pattern.offset))
            yield Link(writer, reader, pattern, channels, widths[reader])


def _join(answer: Changes, other: Changes) -> None:
    """Add what changed in another run."""
    for reader, changes in other.items():
        known = answer.get(reader, changes)
        answer[reader] = [one | more for one, more in zip(known, changes, strict=True)]


def _any(answer: Changes) -> bool:
    return any(bool(channels.any()) for changes in answer.values() for channels in changes)


def _whole(channels: int, width: int) -> list[Pattern]:
    """Patterns in which a reader has nothing else."""
    count, rest = divmod(width, channels)
    return [] if rest or not count else [Pattern(count), *([Pattern(count, positions_first=True)] if count > 1 else [])]


def _is_unsettled(code: Tensor, changes: list[Tensor]) -> bool:
    """Whether only a part of the channels was found, all of them in their places."""
    for channels in changes:
        expected = [pattern.of(code, len(channels)) for pattern in _whole(len(code), len(channels))]
        inside = any(bool((channels <= one).all()) for one in expected)
        if channels.any() and inside and not any(torch.equal(channels, one) for one in expected):
            return True
    return False


def _matching(code: Tensor, changes: list[Tensor]) -> set[Pattern]:
    """Patterns that hold each time that a map reads anything of the channels."""
    found: set[Pattern] | None = None
    for channels in changes:
        if channels.any():
            patterns = _whole(len(code), len(channels))
            offset = int(channels.long().argmax() - code.long().argmax())
            if 0 <= offset <= len(channels) - len(code) and len(channels) > len(code):
                patterns.append(Pattern(offset=offset))
            here = {pattern for pattern in patterns if _fits(channels, pattern.of(code, len(channels)))}
            found = here if found is None else found & here
    return found or set()


def _fits(channels: Tensor, expected: Tensor) -> bool:
    return bool((channels <= expected).all()) and int(channels.sum()) >= _FOUND * int(expected.sum())
