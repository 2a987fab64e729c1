"""One weight in two layers: what continuity compares, and the chains of layers that it walks along."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property, wraps
from math import nan
from typing import Any

import numpy as np
from torch import Tensor

from ...network import Side, SpaceKind, Weight
from ...numerics.spectrum import Spectrum
from ..chance.mean_matched import mean_matched_moments, mean_part
from ..chance.sign_flip import sign_flips_of_lines
from ..observable import Observable
from ..schema import Column
from ..table import Array

ROLE = Column("role", "str", "role of the weights")
SIDE = Column("side", "str", "read compares right singular vectors, write left ones")
#: Which two layers a row compares.
LAYERS = (
    Column("layer", "int64", "the earlier layer"),
    Column("next_layer", "int64", "the next layer that has the role"),
)
#: Where the sides of more than two layers lie.
COMMON_SPACE = (
    Column("space", "str", "space that the sides lie in, or the first and the last one"),
    Column("shared_space", "bool", "whether all layers share the space"),
)


@dataclass(frozen=True)
class LayerPair:
    """One side of a weight in two layers, and what is kept of the two matrices.

    Attributes
    ----------
    earlier, later : Spectrum
        Of weights of equal shape on this side.
    side : Side
        READ compares right singular vectors v, WRITE left ones u.
    """

    earlier: Spectrum
    later: Spectrum
    side: Side

    @cached_property
    def products(self) -> Tensor:
        """Inner products of all singular vectors of the two, shape=[k, l].

        All that a rotation of the space leaves alone; empty where one of the two weights is zero.
        """
        return (self.earlier.frame(self.side).mT @ self.later.frame(self.side)).clamp(-1, 1)

    @property
    def cosines(self) -> Tensor:
        """Absolute cosines of the singular vectors, index by index, shape=[min(k, l)]."""
        return self.products.diagonal().abs()

    @cached_property
    def sign_flips(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, p-value and least p-value of the first cosine over random signs, see `sign_flips_of_lines`."""
        if not self.products.numel():
            undefined = self.products.new_tensor(nan)
            return undefined, undefined, undefined
        first, second = (spectrum.frame(self.side)[:, 0] for spectrum in (self.earlier, self.later))
        return sign_flips_of_lines(first, second)

    @cached_property
    def mean_matched(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same where what the means of the two directions account for keeps its sign, see `mean_part`."""
        if not self.products.numel():
            undefined = self.products.new_tensor(nan)
            return undefined, undefined, undefined
        spectra = self.earlier, self.later
        first, second = (spectrum.frame(self.side)[:, :1] for spectrum in spectra)
        of_first, of_second = (
            mean_part(line, spectrum.channel_norms(self.side))
            for line, spectrum in zip((first, second), spectra, strict=True)
        )
        return sign_flips_of_lines(first[:, 0], second[:, 0], kept=of_first[:, 0] * of_second[:, 0])

    @property
    def mean_matched_overlap(self) -> Tensor:
        """Mean overlap of the two leading subspaces under the same null, see `mean_matched_moments`."""
        if not self.products.numel():
            return self.products.new_tensor(nan)
        spectra = self.earlier, self.later
        mean, _ = mean_matched_moments(
            [spectrum.frame(self.side) for spectrum in spectra],
            [spectrum.channel_norms(self.side) for spectrum in spectra],
        )
        return (mean[0, 1] / min(self.ranks)).clamp(max=1)

    @property
    def ranks(self) -> tuple[int, int]:
        """Dimensions of the two leading subspaces."""
        first, second = self.products.shape
        return first, second

    @property
    def dim(self) -> int:
        """Dimension of the common space."""
        return self.earlier.frame(self.side).shape[0]


def of_directions(measure: Callable[[LayerPair], Tensor]) -> Callable[[LayerPair], Tensor]:
    """Make a measure NaN where one of the two weights is zero and has no direction."""

    @wraps(measure)
    def measured(pair: LayerPair) -> Tensor:
        return measure(pair) if pair.products.numel() else pair.products.new_tensor(nan)

    return measured


def unless_forced(observables: Iterable[Observable[Any]], columns: dict[str, Array]) -> dict[str, Array]:
    """The columns of `measured`, with NaN for a number that can have one value only, and so says nothing.

    A subspace that is the whole space contains every other, and two multiples of an orthogonal matrix have equal Gram
    matrices, whatever the weights are.
    """
    forced = {one.column for one in observables if columns.get(f"{one.column}_null_sd", np.ones(())) == 0}
    return columns | dict.fromkeys(forced, np.asarray(np.nan))


def layer_chains(weights: Iterable[Weight]) -> dict[str, list[Weight]]:
    """Weights of each role that are `comparable_across_layers`, in order of depth."""
    chains: dict[str, list[Weight]] = {}
    for weight in sorted(weights, key=lambda weight: weight.stage):
        if comparable_across_layers(weight):
            chains.setdefault(weight.role, []).append(weight)
    return chains


def comparable_across_layers(weight: Weight) -> bool:
    """Whether a weight has one counterpart in each other layer.

    Tables are in no layer, and heads and experts are numbered in each layer on its own; the stack of all experts has
    one.
    """
    return weight.layer is not None and weight.head is None and weight.expert is None


def comparable_sides(*weights: Weight) -> list[Side]:
    """Sides along which no coordinate stands for an expert: experts are never paired by their numbers."""
    return [
        side
        for side in Side
        if all(side in weight.sides and weight.space(side).kind is not SpaceKind.EXPERTS for weight in weights)
    ]


def even_sides(weights: Iterable[Weight]) -> Iterator[tuple[Side, list[Weight]]]:
    """Every side of every chain of several layers whose width is the same at all depths, and more than 1.

    Directions of a space of one dimension all coincide, which says nothing.
    """
    for chain in layer_chains(weights).values():
        for side in comparable_sides(*chain):
            dims = {weight.space(side).dim for weight in chain}
            if len(chain) > 1 and len(dims) == 1 and dims != {1}:
                yield side, chain


def is_shared(chain: Iterable[Weight], side: Side) -> bool:
    """Whether a side of all these weights lies in one space of the network."""
    return len({weight.space(side) for weight in chain}) == 1


def space_name(chain: Iterable[Weight], side: Side) -> str:
    """Name of the space, or of the first and the last one."""
    names = list(dict.fromkeys(weight.space(side).name for weight in chain))
    return names[0] if len(names) == 1 else f"{names[0]} and {names[-1]}"
