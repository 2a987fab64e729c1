"""The network layer by layer: each tensor is read once, measured and let go."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor

from .alignment import Profile, norm_profile
from .checkpoint import Checkpoint
from .network import Side, Weight
from .spectrum import Spectrum, leading_spectrum
from .threads import workers

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
    tensors : mapping of str to Tensor
        Whatever later steps compare across layers, by names that are unique in the network.
    """

    spectra: Mapping[str, Spectrum]
    profiles: Mapping[str, Profile]
    tables: Mapping[str, list[Row]] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def joined(results: Iterable["LayerResult"]) -> "LayerResult":
        """All of them as one; the rows of a table in their order."""
        spectra: dict[str, Spectrum] = {}
        profiles: dict[str, Profile] = {}
        tables: dict[str, list[Row]] = {}
        tensors: dict[str, Tensor] = {}
        for result in results:
            spectra |= result.spectra
            profiles |= result.profiles
            tensors |= result.tensors
            for name, rows in result.tables.items():
                tables.setdefault(name, []).extend(rows)
        return LayerResult(spectra, profiles, tables, tensors)


class Layer:
    """Weights whose matrices are in memory together.

    Parameters
    ----------
    weights : list of Weight
        Of one layer; or of one tensor outside all layers.
    checkpoint : Checkpoint
        Where their tensors are.
    device : torch.device
        Where their matrices go.
    earlier : Layer, optional
        The layer before.
    """

    def __init__(
        self, weights: list[Weight], checkpoint: Checkpoint, device: torch.device, earlier: "Layer | None" = None
    ) -> None:
        self.weights, self.earlier = weights, earlier
        self._checkpoint, self._device = checkpoint, device
        self._read: dict[str, dict[str, Tensor]] = {}

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
        return prod(self._checkpoint.headers[tensor].shape)

    def read(self, tensor: str) -> Mapping[str, Tensor]:
        """Matrices cut from one of the tensors, by name of the weight; the file is read at the first call."""
        if tensor not in self._read:
            stored = self._checkpoint.read(tensor, device=self._device)
            self._read[tensor] = {
                weight.name: weight.split(stored) for weight in self.weights if weight.tensor == tensor
            }
        return self._read[tensor]

    @property
    def matrices(self) -> Mapping[str, Tensor]:
        """Matrices of all weights, by name, shape=[target.dim, source.dim]; read where they are not yet."""
        return {name: matrix for tensor in self.tensors for name, matrix in self.read(tensor).items()}

    def let_go(self) -> None:
        """Free the matrices. Who asks for them again has them read again, as a run that resumes does."""
        self._read.clear()


def layers_of(weights: Iterable[Weight], checkpoint: Checkpoint, device: torch.device) -> list[Layer]:
    """The layers that have these weights, in order of depth; tensors outside all layers stand alone."""
    groups: dict[int | str, list[Weight]] = {}
    for weight in weights:
        groups.setdefault(weight.tensor if weight.layer is None else weight.layer, []).append(weight)
    layers: list[Layer] = []
    earlier: Layer | None = None
    for key, group in groups.items():
        layer = Layer(group, checkpoint, device, earlier if isinstance(key, int) else None)
        layers.append(layer)
        earlier = layer if isinstance(key, int) else earlier
    return layers


def measure_layer(
    layer: Layer, *, rank: int, profiled: Collection[str] = (), progress: Callable[[str], None] | None = None
) -> LayerResult:
    """Measure everything that needs the matrices of a layer.

    Parameters
    ----------
    layer : Layer
    rank : int
        Singular directions kept of each weight.
    profiled : collection of str
        Names of the weights whose norm profile is wanted.
    progress : callable, optional
        Called before each tensor with its name.

    Returns
    -------
    result : LayerResult
        The same bits whatever the number of threads.
    """
    with workers() as pool:
        largest_first = sorted(layer.tensors, key=layer.size, reverse=True)
        running = {tensor: pool.submit(_decompose, layer, tensor, rank, profiled) for tensor in largest_first}
        results = []
        for tensor in layer.tensors:
            if progress is not None:
                progress(tensor)
            results.append(running[tensor].result())
    return LayerResult.joined(results)


def _decompose(layer: Layer, tensor: str, rank: int, profiled: Collection[str]) -> LayerResult:
    """Spectra of the weights that are cut from a tensor, and profiles of some."""
    matrices = layer.read(tensor)
    spectra = {name: leading_spectrum(matrix, rank) for name, matrix in matrices.items()}
    profiles = {
        name: norm_profile(matrix, spectra[name].frame(Side.READ).shape[1])
        for name, matrix in matrices.items()
        if name in profiled
    }
    return LayerResult(spectra, profiles)
