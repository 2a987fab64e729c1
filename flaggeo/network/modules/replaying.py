"""A forward pass run again, in which only what lies between the maps of a module is computed anew.

Maps return what they did before, norms return what they are given, and statistics of activations, by which norms of
one's own divide, keep their values. A change of the output of a map then reaches the inputs of other maps only through
what lies between them.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .linear_maps import LinearMap, Parameters
from .norms import norm_of_call
from .recording import SUMS, Recording
from .running import Inputs, plain_name, replaced, tensors_in

_STATISTICS = frozenset({"mean", "sum", "norm", "var", "std", "amax", "amin", "linalg_vector_norm", "vector_norm"})


class OtherWayError(Exception):
    """A module that applies other maps than before, or to activations of another shape."""


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


#: Which channels changed, each time that a map read them or a point was passed.
Changes = dict[LinearMap | Point, list[Tensor]]


class Replay(TorchFunctionMode):
    """One run.

    Parameters
    ----------
    parameters : Parameters
    recording : Recording
        Of the run before.
    moved : mapping of LinearMap to sequence of Tensor
        What some maps return instead, each time that they are applied.
    reference : Replay, optional
        A run without any change, for the statistics.
    """

    def __init__(
        self,
        parameters: Parameters,
        recording: Recording,
        moved: Mapping[LinearMap, Iterable[Tensor]],
        reference: "Replay | None" = None,
    ) -> None:
        super().__init__()
        self._parameters, self._recording = parameters, recording
        self._calls = iter(recording.calls)
        self._moved = {writer: iter(tensors) for writer, tensors in moved.items()}
        self._reference = reference
        self._statistics: list[Tensor] = []
        self._seen: list[tuple[LinearMap | Point, int, Tensor]] = []
        self._sums = 0

    def run(self, module: nn.Module, inputs: Inputs) -> "Replay":
        """Run the module; itself."""
        places, names = replaced(inputs, Tensor.clone)  # it may write into what it is given
        with self._without_norms(module), self:
            found = module(*places, **names)
        for number, tensor in enumerate(tensors_in(found)):
            self._look("output", number, tensor)
        return self

    def changes(self) -> Changes:
        """What is not as in the reference.

        Raises
        ------
        OtherWayError
            If it cannot be compared.
        """
        assert self._reference is not None
        if len(self._seen) != len(self._reference._seen):
            raise OtherWayError
        found: Changes = {}
        for (reader, axis, before), (_, _, after) in zip(self._reference._seen, self._seen, strict=True):
            if before.shape != after.shape:
                raise OtherWayError
            found.setdefault(reader, []).append(_changed(before, after, axis))
        return found

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        name = plain_name(func)
        call = self._parameters.find_call(name, args, named)
        if call is not None:
            before = next(self._calls, None)
            if before is None or before[0].writes != call.writes:
                raise OtherWayError
            self._seen += [(reading.map, reading.axis, reading.source.clone()) for reading in call.readings]
            return self._returned(call.writes, before[1])
        if norm_of_call(self._parameters, name, args, named) is not None:
            return next(tensors_in([*args, *named.values()])).clone()
        found = func(*args, **named)
        if name in SUMS:
            if self._sums in self._recording.sums:
                for tensor in tensors_in(found):
                    self._look("sum", self._sums, tensor.clone())
            self._sums += 1
        return self._statistic(found) if name in _STATISTICS and isinstance(found, Tensor) else found

    def _returned(self, writer: LinearMap, before: Any) -> Any:
        """What a map returns; whoever gets it may write into it."""
        first = next(self._moved[writer]) if writer in self._moved else next(tensors_in(before)).clone()
        return first if isinstance(before, Tensor) else (first, *before[1:])

    def _statistic(self, found: Tensor) -> Tensor:
        """The statistic as it was, if a change of some channels has changed it at every place.

        One over other axes than that of the channels, as a pooling is, changes in these channels alone.
        """
        number = len(self._statistics)
        self._statistics.append(found)
        if self._reference is None or number >= len(self._reference._statistics):
            return found
        before = self._reference._statistics[number]
        if before.shape != found.shape or not found.ndim:
            return found
        whole = all(bool(_changed(before, found, axis).all()) for axis in range(found.ndim))
        return before.clone() if whole else found

    def _look(self, kind: str, number: int, tensor: Tensor) -> None:
        """Look at activations along all of their axes."""
        if tensor.is_floating_point():
            self._seen += [(Point(kind, number, axis), axis, tensor) for axis in range(tensor.ndim)]

    @contextmanager
    def _without_norms(self, module: nn.Module) -> Iterator[None]:
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


def _changed(before: Tensor, after: Tensor, axis: int) -> Tensor:
    """Which channels differ anywhere."""
    differ = before != after
    return (differ.movedim(axis, 0).flatten(1).any(1) if differ.ndim > 1 else differ).cpu()
