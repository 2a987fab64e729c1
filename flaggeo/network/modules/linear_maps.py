"""The linear maps of a module as a forward pass meets them: calls that apply a parameter to activations."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from torch import Tensor, nn


@dataclass(frozen=True)
class LinearMap:
    """A parameter, or rows of one, that a module applies to activations.

    Attributes
    ----------
    tensor : str
        Name in the state dict.
    reads, writes : int
        Numbers of channels; of a table `reads` is the number of its rows.
    kernel : int
        Positions that the kernel of a convolution covers; 1 for any other map.
    rows : tuple of int or None
        Half-open range of its rows in a parameter that several maps share.
    transposed : bool
        The parameter stores (reads, writes, ...), as tables do.
    is_table : bool
        Its rows are looked up: it reads no activations.
    """

    tensor: str
    reads: int
    writes: int
    kernel: int = 1
    rows: tuple[int, int] | None = None
    transposed: bool = False
    is_table: bool = False


@dataclass(frozen=True)
class Reading:
    """What a map reads in one call: the activations, and the axis of their channels."""

    map: LinearMap
    source: Tensor
    axis: int


@dataclass(frozen=True)
class Call:
    """One call that applies parameters.

    Attributes
    ----------
    readings : tuple of Reading
        Those of the queries, keys and values of an attention; at most one otherwise.
    writes : LinearMap
        The map whose rows the output has along `axis`.
    axis : int
    heads : int or None
        Where it is a whole attention.
    """

    readings: tuple[Reading, ...]
    writes: LinearMap
    axis: int
    heads: int | None = None


class Parameters:
    """Knows the parameters and buffers of a module by their tensors, whole or as a part that a view shows.

    Parameters
    ----------
    module : nn.Module

    Attributes
    ----------
    learned : frozenset of str
        Names of those that are no buffers.
    """

    def __init__(self, module: nn.Module) -> None:
        self.learned = frozenset(name for name, _ in module.named_parameters())
        self._tensors = dict([*module.named_buffers(), *module.named_parameters()])
        self._names: dict[int, list[str]] = {}
        for name, tensor in self._tensors.items():
            if tensor.numel():
                self._names.setdefault(tensor.untyped_storage().data_ptr(), []).append(name)

    def name(self, tensor: object) -> str | None:
        """Name of the parameter or buffer that a tensor is, or is a part of."""
        if not isinstance(tensor, Tensor) or not tensor.numel():
            return None
        for name in self._names.get(tensor.untyped_storage().data_ptr(), ()):
            whole = self._tensors[name]
            if whole.data_ptr() <= tensor.data_ptr() < whole.data_ptr() + whole.numel() * whole.element_size():
                return name
        return None

    def map(self, tensor: object, *, transposed: bool = False, is_table: bool = False) -> LinearMap | None:
        """The map of a whole parameter, of some of its rows, or of its transpose.

        Parameters
        ----------
        tensor : object
            What a call was given as its weight.
        transposed : bool, optional
            Whether the call takes the first axis for the channels that it reads.
        is_table : bool, optional
            Whether it looks rows up.
        """
        name = self.name(tensor)
        if name is None or not isinstance(tensor, Tensor) or tensor.ndim < 2:
            return None
        whole = self._tensors[name]
        first, second = tensor.shape[:2]
        reads, writes = (first, second) if transposed else (second, first)
        found = LinearMap(name, reads, writes, prod(tensor.shape[2:]), transposed=transposed, is_table=is_table)
        if tensor.shape == whole.shape and tensor.stride() == whole.stride():
            return found
        if (*tensor.shape, *tensor.stride()) == (*whole.shape[::-1], *whole.stride()[::-1]) and whole.ndim == 2:
            return replace(found, transposed=not transposed)
        if not transposed and tensor.shape[1:] == whole.shape[1:] and tensor.stride() == whole.stride():
            row = (tensor.storage_offset() - whole.storage_offset()) // whole.stride(0)
            return replace(found, rows=(row, row + first))
        return None

    def find_call(self, function: str, arguments: Sequence[Any], named: Mapping[str, Any]) -> Call | None:
        """The call that a function makes of a parameter; None where it applies none in a way that is known.

        Parameters
        ----------
        function : str
            Name of the torch function.
        arguments, named : sequence and mapping
            As it was called.
        """
        find = _CALLS.get(function)
        return None if find is None else find(self, _Arguments(arguments, named))


@dataclass(frozen=True)
class _Arguments:
    places: Sequence[Any]
    names: Mapping[str, Any]

    def __call__(self, place: int, name: str, default: Any = None) -> Any:
        return self.places[place] if len(self.places) > place else self.names.get(name, default)


def _call(source: Any, found: LinearMap | None, axis: int) -> Call | None:
    """A map applied to activations."""
    return None if found is None else Call((Reading(found, source, axis),), found, axis)


def _linear(parameters: Parameters, given: _Arguments) -> Call | None:
    return _call(given(0, "input"), parameters.map(given(1, "weight")), -1)


def _product(parameters: Parameters, given: _Arguments) -> Call | None:
    """Activations times a matrix, whose rows are then the channels that are read."""
    source, weight = given(0, "input"), given(1, "other")
    is_matrix = isinstance(weight, Tensor) and weight.ndim == 2 and parameters.name(source) is None
    return _call(source, parameters.map(weight, transposed=True) if is_matrix else None, -1)


def _sum_with_product(parameters: Parameters, given: _Arguments) -> Call | None:
    return _call(given(1, "mat1"), parameters.map(given(2, "mat2"), transposed=True), -1)


def _convolution(parameters: Parameters, given: _Arguments) -> Call | None:
    return _any_convolution(parameters, given, groups=given(6, "groups", 1), transposed=False)


def _transposed_convolution(parameters: Parameters, given: _Arguments) -> Call | None:
    return _any_convolution(parameters, given, groups=given(6, "groups", 1), transposed=True)


def _any_convolution(parameters: Parameters, given: _Arguments, *, groups: int, transposed: bool) -> Call | None:
    # With groups no single matrix maps all channels: such a convolution is left to the module itself.
    weight = given(1, "weight")
    found = parameters.map(weight, transposed=transposed) if groups == 1 else None
    return _call(given(0, "input"), found, 1 - weight.ndim)


def _lookup(parameters: Parameters, given: _Arguments) -> Call | None:
    found = parameters.map(given(1, "weight"), transposed=True, is_table=True)
    return None if found is None else Call((), found, -1)


def _attention(parameters: Parameters, given: _Arguments) -> Call | None:
    """A whole attention: its three input projections may share a parameter, as equal parts of its rows."""
    sources = [given(place, name) for place, name in enumerate(("query", "key", "value"))]
    if given(17, "use_separate_proj_weight", False):
        weights = [given(place, f"{name}_proj_weight") for place, name in ((18, "q"), (19, "k"), (20, "v"))]
    else:
        weights = list(given(5, "in_proj_weight").chunk(3))
    projections = [parameters.map(weight) for weight in weights]
    output = parameters.map(given(11, "out_proj_weight"))
    if output is None or None in projections:
        return None
    readings = tuple(Reading(found, source, -1) for found, source in zip(projections, sources, strict=True) if found)
    return Call(readings, output, -1, heads=given(4, "num_heads"))


_CALLS: Mapping[str, Callable[[Parameters, _Arguments], Call | None]] = {
    "linear": _linear,
    **dict.fromkeys(("matmul", "__matmul__", "mm"), _product),
    "addmm": _sum_with_product,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _transposed_convolution),
    "embedding": _lookup,
    "multi_head_attention_forward": _attention,
}
