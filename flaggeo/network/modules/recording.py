"""One forward pass, watched: which maps it applies, in which order, and what activations pass in between."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .linear_maps import Call, LinearMap, Parameters
from .norms import may_be_norms, norm_of_call, norm_of_module
from .running import Inputs, plain_name, replaced, tensors_in
from .steps import Filter, Function, Gate, Norm, Scale, Step

#: Functions that add activations.
SUMS = frozenset({"add", "sub", "subtract", "rsub", "radd", "iadd", "isub"})
_PRODUCTS = frozenset({"mul", "multiply", "div", "divide", "truediv", "true_divide", "rmul", "imul", "itruediv"})
# Operations that move entries, repeat them or keep them, even where the result has the shape of the argument.
_MOVES = re.compile(
    r"view|reshape|transpose|permute|swapaxes|swapdims|movedim|moveaxis|t|T|mT|H|mH|flatten|unflatten|squeeze|unsqueeze|"
    r"expand|expand_as|broadcast_to|repeat|repeat_interleave|tile|view_as|reshape_as|chunk|split|tensor_split|unbind|"
    r"narrow|select|index_select|gather|getitem|setitem|flip|roll|cat|concat|concatenate|stack|pad|unfold|fold|"
    r"as_strided|pixel_shuffle|pixel_unshuffle|masked_fill|masked_select|where|index_put|index_add|scatter|scatter_add|"
    r"copy|to|type|type_as|float|double|half|bfloat16|contiguous|clone|detach|dropout|alpha_dropout|feature_dropout|"
    r"dropout[123]d|neg|pos|requires_grad|cpu|cuda|data|interpolate|upsample|mean|sum|(adaptive_)?avg_pool[123]d"
)

# Operations whose result has nothing of the numbers that they are given.
_FRESH = re.compile(
    r"(zeros|ones|empty|full|rand|randn|randint)_like|new_\w+|bernoulli|size|shape|argmax|argsort|nonzero"
)


@dataclass(frozen=True)
class Path:
    """How activations came to a point since the last map or sum.

    Attributes
    ----------
    origins : frozenset of LinearMap
        Maps that wrote them, however far back, as far as no other map lies between.
    steps : tuple of Step
        Since the last map or sum, in order.
    summed : bool
        Whether a sum of activations of different maps lies between.
    """

    origins: frozenset[LinearMap]
    steps: tuple[Step, ...] = ()
    summed: bool = False

    def and_then(self, step: Step) -> "Path":
        """The same, a step further."""
        return self if self.steps[-1:] == (step,) else replace(self, steps=(*self.steps, step))


@dataclass
class Recording:
    """What a forward pass did.

    Attributes
    ----------
    calls : list of (Call, output)
        In order. The outputs are copies of what each call returned.
    read_through : mapping of LinearMap to Path
        How what a map reads came to it; missing where no map wrote it.
    written_through : mapping of LinearMap to tuple of Step
        What its output passes before it is added to other activations or read, first steps first.
    added : set of LinearMap
        Maps whose output is added to the activations of others.
    on_stream : list of (origins, steps)
        What sums pass before they are added to other activations.
    heads : mapping of LinearMap to (queries, keys, values, number of heads)
        By output projection, of whole attentions.
    uses : mapping of str to set of str
        Names of the functions that each parameter was given to, and buffers.
    filters : mapping of str to int
        Numbers of groups of the convolutions that have several.
    own_norms : mapping of str to Norm
        By name of the module, of norms that no function of torch computes.
    sums : set of int
        Which of the calls of `SUMS`, counted from 0, add activations of different maps.
    outputs : list of (tensor, path or None)
        What the module returned.
    """

    calls: list[tuple[Call, Any]] = field(default_factory=list)
    read_through: dict[LinearMap, Path] = field(default_factory=dict)
    written_through: dict[LinearMap, tuple[Step, ...]] = field(default_factory=dict)
    added: set[LinearMap] = field(default_factory=set)
    on_stream: list[tuple[frozenset[LinearMap], tuple[Step, ...]]] = field(default_factory=list)
    heads: dict[LinearMap, tuple[LinearMap, LinearMap, LinearMap, int]] = field(default_factory=dict)
    uses: dict[str, set[str]] = field(default_factory=dict)
    filters: dict[str, int] = field(default_factory=dict)
    own_norms: dict[str, Norm] = field(default_factory=dict)
    sums: set[int] = field(default_factory=set)
    outputs: list[tuple[Tensor, Path | None]] = field(default_factory=list)

    @property
    def writers(self) -> list[LinearMap]:
        """Every map whose output others can read, in the order in which they are applied first."""
        return list(dict.fromkeys(call.writes for call, _ in self.calls))

    @property
    def maps(self) -> list[LinearMap]:
        """Every map, in the order in which they are applied first."""
        ordered: dict[LinearMap, None] = {}
        for call, _ in self.calls:
            ordered |= dict.fromkeys([*(reading.map for reading in call.readings), call.writes])
        return list(ordered)


def record(module: nn.Module, inputs: Inputs, parameters: Parameters) -> Recording:
    """Run a module once and note what it does.

    Parameters
    ----------
    module : nn.Module
        `evaluating`.
    inputs : Inputs
    parameters : Parameters
        Of the module.
    """
    places, names = replaced(inputs, Tensor.clone)  # a module may write into what it is given
    recorder = _Recorder(parameters, tensors_in([*places, *names.values()]))
    with recorder.watching_norms(module), recorder:
        found = module(*places, **names)
    recorder.finish(found)
    return recorder.recording


class _Recorder(TorchFunctionMode):
    def __init__(self, parameters: Parameters, inputs: Iterable[Tensor]) -> None:
        super().__init__()
        self.recording = Recording()
        self._parameters = parameters
        # With the tensors, or others would get their ids.
        self._paths = {id(given): (given, Path(frozenset())) for given in inputs if given.is_floating_point()}
        self._normed = 0
        self._added = -1

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        name = plain_name(func)
        self._added += name in SUMS
        given = list(tensors_in([*args, *named.values()]))
        before = [(tensor, path) for tensor in given if (path := self._path(tensor)) is not None]
        found = func(*args, **named)
        if next(tensors_in(found), None) is not None:  # otherwise it was only asked for its shape or type
            for parameter in filter(None, map(self._parameters.name, given)):
                self.recording.uses.setdefault(parameter, set()).add(name)
        call = self._parameters.find_call(name, args, named)
        if call is not None:
            self._apply(call, found)
            return found
        norm = norm_of_call(self._parameters, name, args, named)
        if norm is not None:
            self._normed += 1
        for out in self._results(name, args, found):
            path = self._after(name, given, before, out, norm)
            if path is not None:
                self._paths[id(out)] = (out, path)
        return found

    def _path(self, tensor: Tensor) -> Path | None:
        return self._paths[id(tensor)][1] if id(tensor) in self._paths else None

    @staticmethod
    def _results(name: str, arguments: Sequence[Any], found: Any) -> list[Tensor]:
        """Tensors that an operation returned or changed, of which activations can be made."""
        written = arguments[:1] if name == "setitem" else ()
        return [tensor for tensor in tensors_in([found, *written]) if tensor.is_floating_point()]

    def _apply(self, call: Call, found: Any) -> None:
        recording = self.recording
        for reading in call.readings:
            path = self._path(reading.source)
            if path is not None:
                recording.read_through.setdefault(reading.map, path)
                self._reach(path)
        out = next(tensors_in(found))
        recording.calls.append((call, _copied(found)))
        if call.heads is not None:
            queries, keys, values = (reading.map for reading in call.readings)
            recording.heads[call.writes] = (queries, keys, values, call.heads)
        self._paths[id(out)] = (out, Path(frozenset({call.writes})))

    def _reach(self, path: Path) -> None:
        """What a map reads is how the output of the maps before was passed on, if nothing is added to it."""
        if not path.summed:
            for origin in path.origins:
                self.recording.written_through.setdefault(origin, path.steps)

    def _after(
        self, name: str, given: list[Tensor], before: list[tuple[Tensor, Path]], out: Tensor, norm: Norm | None
    ) -> Path | None:
        """Path of what an operation returned."""
        if not before or _FRESH.fullmatch(name):
            return None
        paths = list(dict.fromkeys(path for _, path in before))
        longest = max(paths, key=lambda path: len(path.steps))
        origins = frozenset().union(*(path.origins for path in paths))
        path = Path(origins, longest.steps, any(path.summed for path in paths))
        if norm is not None:
            return path.and_then(norm)
        several = len({one.origins for one in paths}) > 1 and len(before) == 2
        if name in SUMS:
            return self._sum(paths, path) if several else path
        if name in _PRODUCTS:
            return self._times(before, path) if several else self._scaled(given, path)
        if name.startswith("conv") and name.endswith("d"):
            return self._filter(given, path, before[0][0])
        if _MOVES.fullmatch(name):
            return path
        if "max_pool" in name:
            return path.and_then(Function("max_pool"))
        same = any(tensor.shape == out.shape for tensor, _ in before)
        return path.and_then(Function(name)) if same or len(before) > 1 else path

    def _sum(self, paths: list[Path], joint: Path) -> Path:
        self.recording.sums.add(self._added)
        for path in paths:
            if path.summed:
                self.recording.on_stream.append((path.origins, path.steps))
            else:
                new = path.origins - self.recording.added
                self.recording.written_through |= dict.fromkeys(new, path.steps)
                self.recording.added |= new
        return Path(joint.origins, summed=True)

    @staticmethod
    def _times(before: list[tuple[Tensor, Path]], joint: Path) -> Path:
        """Activations times others: a gate, unless the one multiplies all channels of the other alike."""
        for (factor, _), (other, path) in (before, before[::-1]):
            axis = 1 if other.ndim == 4 else -1  # of images, the channels stand before the two axes of positions
            if factor.ndim == other.ndim and factor.shape[axis] == 1 < other.shape[axis]:
                return path
        return joint.and_then(Gate())

    def _scaled(self, given: list[Tensor], path: Path) -> Path:
        """Activations times numbers, which are perhaps learned."""
        scales = (self._parameters.name(tensor) for tensor in given if tensor.numel() > 1)
        scale = next((one for one in scales if one in self._parameters.learned), None)
        return path if scale is None else path.and_then(Scale(scale))

    def _filter(self, given: list[Tensor], path: Path, source: Tensor) -> Path:
        kernel = next((tensor for tensor in given if self._parameters.name(tensor) and tensor.ndim > 2), None)
        if kernel is None:
            return path.and_then(Function("convolution"))
        name = self._parameters.name(kernel)
        assert name is not None
        groups = source.shape[1 - kernel.ndim] // kernel.shape[1]
        self.recording.filters[name] = groups
        return path.and_then(Filter(name, groups))

    @contextmanager
    def watching_norms(self, module: nn.Module) -> Iterator[None]:
        """See to it that norms of one's own are taken for norms, and not for what they are computed by."""
        entered: list[tuple[Path | None, int]] = []

        def enter(_: nn.Module, given: tuple[Any, ...]) -> None:
            source = next(tensors_in(given), None)
            entered.append((None if source is None else self._path(source), self._normed))

        def leave(name: str) -> Callable[..., None]:
            def hook(inner: nn.Module, _: Any, found: Any) -> None:
                path, normed = entered.pop()
                if self._normed > normed or path is None or not isinstance(found, Tensor):
                    return
                with torch._C.DisableTorchFunction():
                    norm = norm_of_module(name, inner)
                if norm is not None:
                    self.recording.own_norms[name] = norm
                    self._paths[id(found)] = (found, path.and_then(norm))

            return hook

        handles = []
        for name, inner in may_be_norms(module):
            handles += [inner.register_forward_pre_hook(enter), inner.register_forward_hook(leave(name))]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def finish(self, found: Any) -> None:
        """Note what the module returned."""
        for tensor in tensors_in(found):
            path = self._path(tensor)
            if path is not None:
                self._reach(path)
            self.recording.outputs.append((tensor, path))


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, list | tuple):
        return type(value)(map(_copied, value))
    return value
