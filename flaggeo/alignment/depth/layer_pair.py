"""One weight in two layers: what continuity compares, and the chains of layers that it walks along."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import wraps
from itertools import pairwise
from math import nan
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...network import Side, SpaceKind, Weight
from ...numerics.spectrum import Spectrum
from ...numerics.threads import cached_property
from ..chance.mean_matched import mean_matched_moments, mean_part
from ..chance.sign_flip import sign_flips_of_lines
from ..observable import Observable
from ..schema import Column
from ..table import Array

ROLE = Column("role", "str", "role of the weights")
SIDE = Column("side", "str", "read compares right singular vectors, write left ones")
# Numbers of the frames that are copied to one batch: 16 MiB in float64. What is made of it takes several times that.
_BATCH_ENTRIES = 2**21
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
    """One side of a weight in two layers, and what is kept of the two matrices; or of a batch of such pairs.

    Attributes
    ----------
    earlier, later : Spectrum
        Of weights of equal shape on this side; `stacked` for a batch, whose frames have one width.
    side : Side
        READ compares right singular vectors v, WRITE left ones u.
    """

    earlier: Spectrum
    later: Spectrum
    side: Side

    @cached_property
    def products(self) -> Tensor:
        """Inner products of all singular vectors of the two, shape=[..., k, l].

        All that a rotation of the space leaves alone; empty where one of the two weights is zero.
        """
        first, second = self.frames
        return (first.mT @ second).clamp(-1, 1)

    @cached_property
    def frames(self) -> tuple[Tensor, Tensor]:
        """Both frames, shape=[..., n, k] and [..., n, l]."""
        return self.earlier.frame(self.side), self.later.frame(self.side)

    @property
    def undefined(self) -> Tensor:
        """A missing number for each pair."""
        return self.products.new_full(self.products.shape[:-2], nan)

    @property
    def cosines(self) -> Tensor:
        """Absolute cosines of the singular vectors, index by index, shape=[..., min(k, l)]."""
        return self.products.diagonal(dim1=-2, dim2=-1).abs()

    @cached_property
    def sign_flips(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, p-value and least p-value of the first cosine over random signs, see `sign_flips_of_lines`."""
        if not self.products.numel():
            return self.undefined, self.undefined, self.undefined
        first, second = (frame[..., 0] for frame in self.frames)
        return sign_flips_of_lines(first, second)

    @cached_property
    def mean_matched(self) -> tuple[Tensor, Tensor, Tensor]:
        """The same where what the means of the two directions account for keeps its sign, see `mean_part`."""
        if not self.products.numel():
            return self.undefined, self.undefined, self.undefined
        first, second = (frame[..., :1] for frame in self.frames)
        of_first, of_second = map(mean_part, (first, second), self.channel_norms)
        return sign_flips_of_lines(first[..., 0], second[..., 0], kept=of_first[..., 0] * of_second[..., 0])

    @property
    def mean_matched_overlap(self) -> Tensor:
        """Mean overlap of the two leading subspaces under the same null, see `mean_matched_moments`."""
        if not self.products.numel():
            return self.undefined
        frames, norms = (
            [one for both in pairs for one in both.reshape(-1, *both.shape[-axes:])]
            for pairs, axes in ((self.frames, 2), (self.channel_norms, 1))
        )
        mean, _ = mean_matched_moments(frames, norms)
        of_pairs = mean.diagonal(len(frames) // 2).view(self.products.shape[:-2])
        return (of_pairs / min(self.ranks)).clamp(max=1)

    @property
    def channel_norms(self) -> tuple[Tensor, Tensor]:
        """Norms of both weights at each coordinate, shape=[..., n]."""
        return self.earlier.channel_norms(self.side), self.later.channel_norms(self.side)

    @property
    def ranks(self) -> tuple[int, int]:
        """Dimensions of the two leading subspaces."""
        first, second = self.products.shape[-2:]
        return first, second

    @property
    def dim(self) -> int:
        """Dimension of the common space."""
        return self.frames[0].shape[-2]


def stacked(spectra: Sequence[Spectrum]) -> Spectrum:
    """Spectra of weights of one shape and rank as one, each of whose numbers has a leading axis."""
    columns = {field.name: [getattr(one, field.name) for one in spectra] for field in fields(Spectrum)}
    numbers: dict[str, Any] = {
        name: torch.stack(column) if isinstance(column[0], Tensor) else torch.tensor(column, dtype=torch.float64)
        for name, column in columns.items()
    }
    return Spectrum(**numbers)


def of_directions(measure: Callable[[LayerPair], Tensor]) -> Callable[[LayerPair], Tensor]:
    """Make a measure NaN where one of the two weights is zero and has no direction."""

    @wraps(measure)
    def measured(pair: LayerPair) -> Tensor:
        return measure(pair) if pair.products.numel() else pair.undefined

    return measured


def unless_forced(observables: Iterable[Observable[Any]], columns: dict[str, Array]) -> dict[str, Array]:
    """The columns of `measured`, with NaN for a number that can have one value only, and so says nothing.

    A subspace that is the whole space contains every other, and two multiples of an orthogonal matrix have equal Gram
    matrices, whatever the weights are.
    """
    spreads = {one.column: columns.get(f"{one.column}_null_sd", np.ones(())) for one in observables}
    return columns | {name: np.where(spread == 0, np.nan, columns[name]) for name, spread in spreads.items()}


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


class Meeting(NamedTuple):
    """One side of a weight and of the same weight in the next layer."""

    earlier: Weight
    later: Weight
    side: Side

    @property
    def dim(self) -> int:
        """Dimension of the space, or of the two."""
        return self.earlier.space(self.side).dim

    @property
    def two_sided(self) -> bool:
        """Whether the weights can be compared along the other side too."""
        return len(comparable_sides(self.earlier, self.later)) == 2


def meetings_of(weights: Iterable[Weight]) -> list[Meeting]:
    """Every side of every two neighbours in a chain whose widths are equal there."""
    return [
        Meeting(earlier, later, side)
        for chain in layer_chains(weights).values()
        for side in Side
        for earlier, later in pairwise(chain)
        if side in comparable_sides(earlier, later) and earlier.space(side).dim == later.space(side).dim
    ]


def in_batches(meetings: Sequence[Meeting], spectra: Mapping[str, Spectrum]) -> Iterator[tuple[list[int], LayerPair]]:
    """Places of meetings of equal shapes, and these as one batch: one by one they take four times as long."""
    batches: dict[Any, list[int]] = {}
    for place, (earlier, later, side) in enumerate(meetings):
        layouts = [
            (one.left.shape, one.right.shape, one.known_values.shape, one.frame(side).shape)
            for one in (spectra[earlier.name], spectra[later.name])
        ]
        batches.setdefault((side, meetings[place].two_sided, *layouts), []).append(place)
    for (side, *_), alike in batches.items():
        one = spectra[meetings[alike[0]][0].name]
        count = max(1, _BATCH_ENTRIES // max(1, one.left.numel() + one.right.numel()))
        for start in range(0, len(alike), count):
            places = alike[start : start + count]
            first, second = (stacked([spectra[meetings[place][end].name] for place in places]) for end in (0, 1))
            yield places, LayerPair(first, second, side)


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
