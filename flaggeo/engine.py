"""The network layer by layer: each tensor is read once, measured and let go."""

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from .alignment import (
    Profile,
    ProjectionHeads,
    gram_cosines,
    gram_matrix,
    interface_rows,
    norm_profile,
    projection_heads,
)
from .network import Network, Side, Weight
from .numerics.spectrum import Spectrum, leading_spectrum

#: One row of a table: plain numbers, strings and None.
Row = dict[str, Any]


@dataclass(frozen=True)
class LayerResult:
    """What is kept of a layer, or of several, once the matrices are gone.

    Attributes
    ----------
    spectra : mapping of str to Spectrum
        By name of the weight.
    profiles : mapping of str to Profile
        By name of the weight, of those whose continuity gets seeded nulls.
    tables : mapping of str to list of rows
        By name of the table.
    heads : list of ProjectionHeads
        Of the projections that are cut into heads.
    """

    spectra: Mapping[str, Spectrum]
    profiles: Mapping[str, Profile]
    tables: Mapping[str, list[Row]] = field(default_factory=dict)
    heads: list[ProjectionHeads] = field(default_factory=list)

    @staticmethod
    def joined(results: Iterable["LayerResult"]) -> "LayerResult":
        """All of them as one; the rows of a table in their order."""
        spectra: dict[str, Spectrum] = {}
        profiles: dict[str, Profile] = {}
        tables: dict[str, list[Row]] = {}
        heads: list[ProjectionHeads] = []
        for result in results:
            spectra |= result.spectra
            profiles |= result.profiles
            heads += result.heads
            for name, rows in result.tables.items():
                tables.setdefault(name, []).extend(rows)
        return LayerResult(spectra, profiles, tables, heads)


class Layer:
    """Weights whose matrices are in memory together.

    Parameters
    ----------
    weights : list of Weight
        Of one layer; or of one tensor outside all layers.
    network : Network
        That they belong to.
    device : torch.device
        Where their matrices go.
    folded : bool, optional
        Whether the norms beside a weight are folded into its matrix.
    earlier : Layer, optional
        The layer before.
    """

    def __init__(
        self,
        weights: list[Weight],
        network: Network,
        device: torch.device,
        *,
        folded: bool = False,
        earlier: "Layer | None" = None,
    ) -> None:
        self.weights, self.earlier = weights, earlier
        self._network, self._device, self._folded = network, device, folded
        self._read: dict[str, dict[str, Tensor]] = {}
        self._grams: dict[tuple[str, Side], Tensor] = {}

    @property
    def name(self) -> str:
        """The first of its weights, which no other layer has."""
        return self.weights[0].name

    @property
    def tensors(self) -> list[str]:
        """Names of the tensors that the weights are cut from."""
        return list(dict.fromkeys(weight.tensor for weight in self.weights))

    def size(self, tensor: str) -> int:
        """Number of entries of one of the tensors."""
        return prod(self._network.checkpoint.headers[tensor].shape)

    def read(self, tensor: str) -> Mapping[str, Tensor]:
        """Matrices cut from one of the tensors, by name of the weight; the file is read at the first call."""
        if tensor not in self._read:
            stored = self._network.checkpoint.read(tensor, device=self._device)
            self._read[tensor] = {
                weight.name: self._network.matrix(weight, stored, folded=self._folded)
                for weight in self.weights
                if weight.tensor == tensor
            }
        return self._read[tensor]

    @property
    def matrices(self) -> Mapping[str, Tensor]:
        """Matrices of all weights, by name, shape=[target.dim, source.dim]; read where they are not yet."""
        return {name: matrix for tensor in self.tensors for name, matrix in self.read(tensor).items()}

    def gram(self, weight: Weight, side: Side) -> Tensor:
        """Gram matrix of one side of a weight, see `gram_matrix`; formed once for both neighbours."""
        if (weight.name, side) not in self._grams:
            self._grams[weight.name, side] = gram_matrix(self.read(weight.tensor)[weight.name], side)
        return self._grams[weight.name, side]

    def let_go(self) -> None:
        """Free the matrices. Who asks for them again has them read again, as a run that resumes does."""
        self._read.clear()
        self._grams.clear()


def layers_of(
    weights: Iterable[Weight], network: Network, device: torch.device, *, folded: bool = False
) -> list[Layer]:
    """The layers that have these weights, in order of depth; tensors outside all layers stand alone."""
    groups: dict[int | str, list[Weight]] = {}
    for weight in weights:
        groups.setdefault(weight.tensor if weight.layer is None else weight.layer, []).append(weight)
    layers: list[Layer] = []
    earlier: Layer | None = None
    for key, group in groups.items():
        layer = Layer(group, network, device, folded=folded, earlier=earlier if isinstance(key, int) else None)
        layers.append(layer)
        earlier = layer if isinstance(key, int) else earlier
    return layers


@dataclass(frozen=True)
class Measures:
    """What is measured of each layer.

    Attributes
    ----------
    decomposed : frozenset of str
        Names of the weights whose leading spectrum is wanted.
    profiled : frozenset of str
        Names of those among them whose norm profile is wanted.
    rank : int
        Singular directions kept of each weight.
    heads : bool
        Whether attention heads are kept for comparison.
    folded : bool
        Whether the norms beside the weights are folded into the matrices.
    draws, seed : int
        Of the nulls of interfaces that have no closed form.
    continuity, interfaces : bool
        Whether Gram cosines with the layer before, and interfaces, are measured.
    """

    decomposed: frozenset[str]
    profiled: frozenset[str] = frozenset()
    rank: int = 16
    heads: bool = False
    folded: bool = False
    draws: int = 0
    seed: int = 0
    continuity: bool = True
    interfaces: bool = True


class LayerTasks:
    """A layer that is being measured: what needs its matrices, spread over a pool.

    Parameters
    ----------
    layer : Layer
        Read when this returns, so that an unreadable tensor raises here.
    measures : Measures
    pool : Executor
        Of `workers`. Tasks of the next layer may wait there behind those of this one.
    """

    def __init__(self, layer: Layer, measures: Measures, pool: Executor) -> None:
        self._layer = layer
        largest_first = sorted(layer.tensors, key=layer.size, reverse=True)
        list(pool.map(layer.read, largest_first))
        measured = (False, True) if measures.interfaces else ()
        interfaces = [pool.submit(_interfaces, layer, measures, heads=heads) for heads in measured]
        self._decomposed = {tensor: pool.submit(_decompose, layer, tensor, measures) for tensor in largest_first}
        others = [pool.submit(_grams, layer)] * measures.continuity + [pool.submit(_heads, layer)] * measures.heads
        self._others = interfaces + others

    def result(self, progress: Callable[[str], None]) -> LayerResult:
        """Wait for all of it; the same bits whatever the number of threads.

        Parameters
        ----------
        progress : callable
            Called with the name of each tensor before its spectra are waited for.
        """
        results = []
        for tensor in self._layer.tensors:
            progress(tensor)
            results.append(self._decomposed[tensor].result())
        return LayerResult.joined(results + [task.result() for task in self._others])


def _decompose(layer: Layer, tensor: str, measures: Measures) -> LayerResult:
    """Spectra of the weights that are cut from a tensor, and profiles of some."""
    matrices = {name: matrix for name, matrix in layer.read(tensor).items() if name in measures.decomposed}
    spectra = {name: leading_spectrum(matrix, measures.rank) for name, matrix in matrices.items()}
    profiles = {
        name: norm_profile(matrix, spectra[name].frame(Side.READ).shape[1])
        for name, matrix in matrices.items()
        if name in measures.profiled
    }
    return LayerResult(spectra, profiles)


def _interfaces(layer: Layer, measures: Measures, *, heads: bool) -> LayerResult:
    """Where one weight of the layer meets the next, inside the MLP or inside the heads."""
    weights = [weight for weight in layer.weights if (weight.head is not None) == heads]
    rows = interface_rows(
        weights, layer.matrices, rank=measures.rank, draws=measures.draws, seed=measures.seed, folded=measures.folded
    )
    return LayerResult({}, {}, {"interfaces": rows})


def _grams(layer: Layer) -> LayerResult:
    """Gram cosines with the layer before, of the sides that lie in one space in both."""
    if layer.earlier is None:
        return LayerResult({}, {})
    earlier = {weight.role: weight for weight in layer.earlier.weights if weight.head is None}
    rows = [
        {"earlier": earlier[weight.role].name, "side": side.value}
        | gram_cosines(layer.earlier.gram(earlier[weight.role], side), layer.gram(weight, side))
        for weight in layer.weights
        if weight.head is None and weight.role in earlier
        for side in Side
        if weight.space(side) == earlier[weight.role].space(side)
    ]
    return LayerResult({}, {}, {"gram_cosines": rows})


def _heads(layer: Layer) -> LayerResult:
    """The attention heads of the layer, reduced to what they read and write in the stream."""
    return LayerResult({}, {}, heads=projection_heads(layer.weights, layer.matrices))
