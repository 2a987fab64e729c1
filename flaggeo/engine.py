"""The network layer by layer: each tensor is read once, measured and let go."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import BrokenExecutor, Executor, Future
from contextlib import suppress
from dataclasses import dataclass, field, fields, is_dataclass, replace
from math import prod
from queue import SimpleQueue
from typing import Any, Protocol

import torch
from torch import Tensor

from .alignment import (
    Profile,
    ProjectionHeads,
    first_direction,
    gram_cosines,
    gram_matrix,
    interface_rows,
    norm_profile,
    projection_heads,
    read_twice,
    unit_trace,
)
from .alignment.depth.layer_pair import comparable_across_layers
from .checkpoint import Checkpoint, CheckpointError
from .checkpoint.rounding import rounding_error
from .network import Layer, Side, Space, Stack, Weight
from .numerics.memory import give_back_freed
from .numerics.spectrum import Spectrum, gram_spectrum, leading_spectrum, side_gram
from .numerics.threads import ahead, coordinators, workers
from .settings import Settings

# Gram cosines are columns of continuity, and take whole Gram matrices.
_GRAM_COSINES = {"continuity", "spectra"}

# Numbers of a tensor, half a gigabyte or more, for which room is made before it is read.
_LARGE = 2**28

#: One row of a table: plain numbers, strings and None.
Row = dict[str, Any]


@dataclass(frozen=True)
class LayerResult:
    """What is kept of a layer, or of several, once the matrices are gone.

    Attributes
    ----------
    spectra : mapping of str to Spectrum
        By name of the weight, with `Settings.kept_rank` directions.
    profiles : mapping of str to Profile
        By name of the weight, of those whose continuity gets seeded nulls.
    heads : list of ProjectionHeads
        Of the projections that are cut into heads.
    interfaces : list of rows
        For `interface_table`.
    grams : mapping of (str, Side) to Tensor
        Gram matrices by name of the weight and side, of the sides that lie in a space which layers share.
    rounding_errors : mapping of str to float
        By name of the weight, see `flaggeo.checkpoint.rounding.rounding_error`; where stability is measured.
    failed : mapping of str to str
        Tensors that turned out to be unreadable or not finite, to what is wrong with them. Nothing that needs them
        is measured.
    gram_cosines : list of rows
        Of these with the next of their role, under the name of the ``earlier`` weight and the ``side``. No layer
        knows another one: `measure_layers` fills it in, and drops the Gram matrices.
    refolded : mapping of str to Spectrum
        First direction of each weight with the norms folded in where they are not, and the other way round, by name of
        those that this changes.
    """

    spectra: Mapping[str, Spectrum] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    heads: list[ProjectionHeads] = field(default_factory=list)
    interfaces: list[Row] = field(default_factory=list)
    grams: Mapping[tuple[str, Side], Tensor] = field(default_factory=dict)
    rounding_errors: Mapping[str, float] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    gram_cosines: list[Row] = field(default_factory=list)
    refolded: Mapping[str, Spectrum] = field(default_factory=dict)

    def measured(self, weights: Iterable[Weight]) -> list[Weight]:
        """Those of these weights of which no tensor failed."""
        return [
            weight
            for weight in weights
            if not any(one.tensor in self.failed for one in (weight.experts if isinstance(weight, Stack) else [weight]))
        ]

    @staticmethod
    def joined(results: Iterable["LayerResult"]) -> "LayerResult":
        """All of them as one; rows in their order."""
        parts = list(results)
        return LayerResult(
            {name: one for part in parts for name, one in part.spectra.items()},
            {name: one for part in parts for name, one in part.profiles.items()},
            [one for part in parts for one in part.heads],
            [row for part in parts for row in part.interfaces],
            {place: gram for part in parts for place, gram in part.grams.items()},
            {name: error for part in parts for name, error in part.rounding_errors.items()},
            {tensor: why for part in parts for tensor, why in part.failed.items()},
            [row for part in parts for row in part.gram_cosines],
            {name: one for part in parts for name, one in part.refolded.items()},
        )


class Memory(Protocol):
    """What remembers layers that an interrupted run has measured."""

    def recall_layer(self, layer: str, device: torch.device) -> LayerResult | None:
        """What was kept under this name, if anything was."""

    def keep_layer(self, layer: str, result: LayerResult) -> None:
        """Keep a result under the name of its layer."""


def measure_layer(
    settings: Settings,
    layer: Layer,
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[str], object] | None = None,
) -> LayerResult:
    """Measure whatever needs the matrices of a layer, and nothing but them.

    The arguments and the result can be pickled, so that a layer can be measured in another process.

    Parameters
    ----------
    settings : Settings
    layer : Layer
        Of `Network.layers`. Weights that the settings do not include are left out.
    device : str or torch.device, optional
        Where the linear algebra runs.
    progress : callable, optional
        Called with the name of each tensor before its spectra are waited for.

    Returns
    -------
    result : LayerResult
        The same bits whatever the number of threads. Without Gram cosines, for which it takes two layers.
    """
    # Interfaces inside heads are measured whether or not heads are weights of their own.
    with_heads = settings.heads or "interfaces" in settings.measure
    weights = [weight for weight in layer.weights if settings.includes(weight, heads=with_heads)]
    stacks = [_Stacking(weight) for weight in weights if isinstance(weight, Stack)]
    tell = _once(progress)
    results = []
    with workers() as pool:
        for part in _parts(weights):
            results.append(_measure_part(settings, layer.checkpoint, part, stacks, pool, device, tell))
        results += pool.map(lambda stack: stack.result(settings), [stack for stack in stacks if stack.is_complete])
        # As they come back from another process or a scratch, so that what follows gives the same bits.
        result: LayerResult = _laid_out_anew(LayerResult.joined(results))
        return result


def _laid_out_anew(value: Any) -> Any:
    """The same with all tensors in it row-major, each in memory of its own.

    Products of matrices depend in their last bits on strides, and on where in a cache line a matrix begins.
    """
    if isinstance(value, Tensor):
        return value.clone(memory_format=torch.contiguous_format)
    if isinstance(value, Mapping):
        return {key: _laid_out_anew(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_laid_out_anew(one) for one in value]
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{part.name: _laid_out_anew(getattr(value, part.name)) for part in fields(value)})
    return value


def _once(progress: Callable[[str], object] | None) -> Callable[[str], None]:
    """The same, but silent about a name that it was told before."""
    told: set[str] = set()

    def tell(name: str) -> None:
        if progress is not None and name not in told:
            told.add(name)
            progress(name)

    return tell


def _parts(weights: Iterable[Weight]) -> list[list[Weight]]:
    """Weights whose matrices are needed together: all but the experts, then each expert of a mixture alone."""
    parts: dict[int | None, list[Weight]] = {}
    for weight in weights:
        if not isinstance(weight, Stack):
            parts.setdefault(weight.expert, []).append(weight)
    return sorted(parts.values(), key=lambda part: part[0].expert is not None)


def _tensors(weights: Iterable[Weight]) -> list[str]:
    """Names of the tensors of a layer in the order in which they are measured."""
    return list(dict.fromkeys(weight.tensor for part in _parts(weights) for weight in part))


def _measure_part(
    settings: Settings,
    checkpoint: Checkpoint,
    weights: list[Weight],
    stacks: "list[_Stacking]",
    pool: Executor,
    device: str | torch.device,
    tell: Callable[[str], None],
) -> LayerResult:
    """Measure weights tensor by tensor, then what several of them are needed for, and add them to their stacks."""
    by_tensor: dict[str, list[Weight]] = {}
    for weight in weights:
        by_tensor.setdefault(weight.tensor, []).append(weight)
    headers = checkpoint.headers
    rounding_errors: dict[str, float] = {}
    failed: dict[str, str] = {}
    largest_first = sorted(by_tensor, key=lambda tensor: prod(headers[tensor].shape), reverse=True)

    def matrices_of(tensor: str) -> tuple[Tensor | None, dict[str, Tensor]]:
        if prod(headers[tensor].shape) > _LARGE:
            give_back_freed()
        try:
            stored = by_tensor[tensor][0].read(checkpoint, device=device)
            found = {
                weight.name: weight.matrix(checkpoint, stored, folded=settings.fold_norms)
                for weight in by_tensor[tensor]
            }
        except CheckpointError as error:
            failed[tensor] = str(error)
            return None, {}
        if "stability" in settings.measure:
            rounding = rounding_error(stored, headers[tensor].dtype)
            rounding_errors.update({weight.name: rounding for weight in by_tensor[tensor] if settings.includes(weight)})
        return stored, found

    # Only heads and interfaces need the matrices of several tensors: else one is let go before the next is read.
    held: dict[str, Tensor] = {}
    is_together = settings.heads or "interfaces" in settings.measure

    def measure(tensor: str) -> tuple[LayerResult, list[tuple[_Stacking, str, tuple[Tensor, Tensor]]]]:
        stored, matrices = matrices_of(tensor)
        if stored is None:
            return LayerResult(), []
        if is_together:
            held.update(matrices)
        grams = [
            (stack, weight.name, side_gram(matrices[weight.name], stack.side))
            for stack in stacks
            for weight in by_tensor[tensor]
            if weight.expert is not None and weight.role == stack.weight.role
        ]
        alone = _alone(settings, by_tensor[tensor], matrices)
        refolded = _refolded(settings, checkpoint, by_tensor[tensor], stored, alone.spectra)
        return replace(alone, refolded=refolded), grams

    tasks = {tensor: pool.submit(measure, tensor) for tensor in largest_first}
    results = []
    for tensor in by_tensor:
        tell(tensor)
        result, grams = tasks.pop(tensor).result()
        results.append(result)
        for stack, name, gram in grams:
            stack.add(*gram, rounding_errors.get(name))
    for stack in stacks:
        stack.is_complete &= not any(weight.tensor in failed and weight in stack.weight.experts for weight in weights)
    weights = [weight for weight in weights if weight.tensor not in failed]
    heads = pool.submit(projection_heads, weights, held) if settings.heads else None
    together = LayerResult(
        interfaces=_interfaces(settings, weights, held),
        heads=heads.result() if heads else [],
        rounding_errors=rounding_errors,
        failed=failed,
    )
    return LayerResult.joined([*results, together])


class _Stacking:
    """A stack of experts whose matrices come one by one: the sum of their Gram matrices is all that is held."""

    def __init__(self, weight: Stack) -> None:
        self.weight = weight
        self.is_complete = True
        [self.side] = weight.sides
        self._sum: Tensor | None = None
        self._norms: list[Tensor] = []
        self._rounding_errors: list[float] = []

    def add(self, gram: Tensor, norms: Tensor, rounding_error: float | None = None) -> None:
        """The next expert, from `side_gram`."""
        self._sum = gram if self._sum is None else self._sum.add_(gram)
        self._norms.append(norms)
        if rounding_error is not None:
            self._rounding_errors.append(rounding_error)

    @property
    def gram(self) -> Tensor:
        """Of the stack, as `gram_matrix` gives it of a weight."""
        assert self._sum is not None
        return unit_trace(self._sum).float()

    def result(self, settings: Settings) -> LayerResult:
        """What is kept of the stack. The errors of its entries are no larger than those of one expert."""
        assert self._sum is not None
        name = self.weight.name
        errors = {name: max(self._rounding_errors)} if self._rounding_errors else {}
        whole = "spectra" in settings.measure
        spectra = {name: gram_spectrum(self._sum, self.side, torch.cat(self._norms), settings.kept_rank, whole=whole)}
        grams = {(name, side): self.gram for _, side in _shared(settings, [self.weight])}
        return LayerResult(spectra, grams=grams, rounding_errors=errors)


def _alone(settings: Settings, weights: list[Weight], matrices: Mapping[str, Tensor]) -> LayerResult:
    """What each weight needs but its own matrix for."""
    measured = [weight for weight in weights if settings.includes(weight)]
    whole = "spectra" in settings.measure
    spectra = {
        weight.name: leading_spectrum(matrices[weight.name], settings.kept_rank, whole=whole) for weight in measured
    }
    profiles = {
        weight.name: norm_profile(
            matrices[weight.name], spectra[weight.name].leading(settings.rank).frame(Side.READ).shape[1]
        )
        for weight in measured
        if settings.draws_surrogates and comparable_across_layers(weight)
    }
    grams = {
        (weight.name, side): gram_matrix(matrices[weight.name], side) for weight, side in _shared(settings, measured)
    }
    return LayerResult(spectra, profiles, grams=grams)


def _refolded(
    settings: Settings, checkpoint: Checkpoint, weights: list[Weight], stored: Tensor, spectra: Mapping[str, Spectrum]
) -> dict[str, Spectrum]:
    """First directions of weights cut from one tensor, with norms folded in where they are not and the other way."""
    if "continuity" not in settings.measure:
        return {}
    found = {}
    for weight in weights:
        if settings.includes(weight) and read_twice(weight):
            # A norm that cannot be read is missing from this reading alone.
            with suppress(CheckpointError):
                matrix = weight.matrix(checkpoint, stored, folded=not settings.fold_norms)
                found[weight.name] = first_direction(matrix, spectra[weight.name])
    return found


def _interfaces(settings: Settings, weights: list[Weight], matrices: Mapping[str, Tensor]) -> list[Row]:
    """Where one weight of the layer meets another, inside an MLP or inside the heads."""
    if "interfaces" not in settings.measure:
        return []
    return interface_rows(
        weights,
        matrices,
        rank=settings.rank,
        draws=settings.draws,
        seed=settings.seed,
        folded=settings.fold_norms,
    )


def _shared(settings: Settings, weights: Iterable[Weight]) -> Iterator[tuple[Weight, Side]]:
    """Sides of weights that are compared with the next layer's by their Gram matrices."""
    for weight in weights:
        if _GRAM_COSINES.issubset(settings.measure) and settings.includes(weight) and comparable_across_layers(weight):
            yield from ((weight, side) for side in weight.sides if weight.space(side).depth is None)


def measure_layers(
    settings: Settings,
    layers: Iterable[Layer],
    *,
    device: str | torch.device = "cpu",
    progress: Callable[[str], object] | None = None,
    memory: Memory | None = None,
    executor: Executor | None = None,
) -> LayerResult:
    """Measure layers one after the other, and neighbours by their Gram matrices.

    In this process two layers are in progress at most, so that no core waits for the last pieces of one. An executor is
    given all layers at once, as names of tensors that its workers read themselves.

    Parameters
    ----------
    settings : Settings
    layers : iterable of Layer
        In order of depth. Those without a weight that the settings include are passed over.
    device : str or torch.device, optional
        Where the linear algebra runs.
    progress : callable, optional
        Called with the name of each tensor, in order.
    memory : Memory, optional
        Asked for each layer before it is measured, and told its result.
    executor : Executor, optional
        Measures the layers. Those that it loses with a process that is killed are measured here.

    Returns
    -------
    result : LayerResult
        Of all of them.
    """
    device = torch.device(device)
    tell = progress or (lambda _: None)
    layers = [layer for layer in layers if any(map(settings.includes, layer.weights))]
    recalled = {layer.name: memory.recall_layer(layer.name, device) if memory else None for layer in layers}
    neighbours = _Neighbours(settings, device)
    results = []
    with coordinators() as threads:
        missing = [layer for layer in layers if recalled[layer.name] is None]
        begun = ahead(
            (_begin(threads, executor, settings, layer, device) for layer in missing),
            len(missing) if executor else 1,
        )
        for layer in layers:
            result = recalled[layer.name]
            if result is not None:
                for tensor in _measured_tensors(settings, layer):
                    tell(tensor)
                neighbours.pass_over(layer, result)
            else:
                tensors, measured = next(begun)
                for tensor in iter(tensors.get, None):
                    tell(tensor)
                try:
                    result = measured.result()
                except BrokenExecutor:
                    result = threads.submit(measure_layer, settings, layer, device=device).result()
                cosines = threads.submit(neighbours.compare, layer, result).result()
                result = replace(result, grams={}, gram_cosines=cosines)
                if memory is not None:
                    memory.keep_layer(layer.name, result)
            results.append(result)
    return LayerResult.joined(results)


def _begin(
    threads: Executor, executor: Executor | None, settings: Settings, layer: Layer, device: torch.device
) -> "tuple[SimpleQueue[str | None], Future[LayerResult]]":
    """A layer that is being measured: the tensors that it comes to, None after the last, and the result.

    An executor outside of this process cannot tell of each tensor: they come all at the end.
    """
    tensors: SimpleQueue[str | None] = SimpleQueue()
    if executor is not None:
        with suppress(BrokenExecutor):
            result = executor.submit(measure_layer, settings, layer, device=device)
            result.add_done_callback(lambda _: [*map(tensors.put, (*_measured_tensors(settings, layer), None))])
            return tensors, result
    result = threads.submit(measure_layer, settings, layer, device=device, progress=tensors.put)
    result.add_done_callback(lambda _: tensors.put(None))
    return tensors, result


def _measured_tensors(settings: Settings, layer: Layer) -> list[str]:
    return _tensors(filter(settings.includes, layer.weights))


class _Neighbours:
    """The last weight of each role and its Gram matrices, with which the next of the role is compared."""

    def __init__(self, settings: Settings, device: torch.device) -> None:
        self._settings, self._device = settings, device
        self._last: dict[tuple[str, Side, Space], tuple[Weight, Tensor | None]] = {}

    def pass_over(self, layer: Layer, result: LayerResult) -> None:
        """Go on behind a layer whose Gram matrices are not at hand."""
        for weight, side in _shared(self._settings, result.measured(layer.weights)):
            self._last[weight.role, side, weight.space(side)] = weight, None

    def compare(self, layer: Layer, result: LayerResult) -> list[Row]:
        """Gram cosines of a layer with the weights before, which are read again where they were passed over."""
        rows = []
        for weight, side in _shared(self._settings, result.measured(layer.weights)):
            gram, place = result.grams[weight.name, side], (weight.role, side, weight.space(side))
            if place in self._last:
                earlier, before = self._last[place]
                if before is None:
                    before = self._gram(earlier, side, layer.checkpoint)
                rows.append({"earlier": earlier.name, "side": side.value} | gram_cosines(before, gram))
            self._last[place] = weight, gram
        return rows

    def _gram(self, weight: Weight, side: Side, checkpoint: Checkpoint) -> Tensor:
        """Gram matrix of a weight that is read once more, of a stack expert by expert."""
        folded = self._settings.fold_norms
        if not isinstance(weight, Stack):
            return gram_matrix(weight.matrix(checkpoint, folded=folded, device=self._device), side)
        stacking = _Stacking(weight)
        for expert in weight.experts:
            stacking.add(*side_gram(expert.matrix(checkpoint, folded=folded, device=self._device), side))
        return stacking.gram
