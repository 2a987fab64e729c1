"""Pairs of experts: how much two of them share on average, and which two share most."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifolds import pairwise_gram_inner_product

from ...network import Symmetry
from ...numerics.threads import cached_property
from ..chance.haar import Array, haar_overlap
from ..chance.heaviest_tail import heavy_tailed_null
from ..chance.overlaps import Overlaps, overlaps_against_nulls
from ..chance.sign_flip import sign_flip_spread
from ..observable import Invariance, Observable
from ..pairs.overlap import PROJECTION_OVERLAP
from ..schema import Column
from ..table import beside_nulls, q_values

#: Largest q-value of two experts that are counted as alike.
FALSE_DISCOVERY_RATE = 0.01


@dataclass(frozen=True)
class Experts:
    """Leading subspaces of what the experts of one role in a layer read from the stream, or write to it.

    Attributes
    ----------
    frames : tuple of Tensor, shape=[n, k]
        Orthonormal; k is at least 1, and may differ.
    channel_norms : tuple of Tensor, shape=[n]
        Norm of each expert's matrix at each coordinate.
    numbers : tuple of int
        Of the experts in their layer.
    """

    frames: tuple[Tensor, ...]
    channel_norms: tuple[Tensor, ...]
    numbers: tuple[int, ...]

    @property
    def dim(self) -> int:
        """Dimension of the stream."""
        return self.frames[0].shape[0]

    @property
    def ranks(self) -> NDArray[np.int64]:
        """Dimension of each subspace, shape=[experts]."""
        return np.array([frame.shape[1] for frame in self.frames])


@dataclass(frozen=True)
class ExpertPairs:
    """Every expert of a layer with every one of the next, or every two experts of one layer.

    Attributes
    ----------
    earlier, later : Experts
        The same object for the pairs of one layer.
    """

    earlier: Experts
    later: Experts

    @property
    def is_within(self) -> bool:
        """Whether they are of one layer."""
        return self.later is self.earlier

    @cached_property
    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Of both experts of each pair among the earlier and the later ones, shape=[pairs]."""
        shape = len(self.earlier.frames), len(self.later.frames)
        first, second = np.triu_indices(shape[0], k=1) if self.is_within else np.indices(shape).reshape(2, -1)
        return first, second

    @cached_property
    def smaller_ranks(self) -> NDArray[np.int64]:
        """The smaller rank of each pair, shape=[pairs]."""
        first, second = self.places
        return np.minimum(self.earlier.ranks[first], self.later.ranks[second])

    @cached_property
    def shared(self) -> Tensor:
        """Sum of the squared cosines of each pair, shape=[pairs]: at most its smaller rank."""
        later = None if self.is_within else self.later.frames
        return pairwise_gram_inner_product(self.earlier.frames, later)[self.places]

    @cached_property
    def overlaps(self) -> Overlaps:
        """The overlap of each pair against every null."""
        frames, norms, (first, second) = self.earlier.frames, self.earlier.channel_norms, self.places
        if not self.is_within:
            frames, norms = frames + self.later.frames, norms + self.later.channel_norms
            second = second + len(self.earlier.frames)
        values = (self.shared.cpu().double().numpy() / self.smaller_ranks).clip(0, 1)
        return overlaps_against_nulls(frames, norms, (first, second), values)

    def mean(self, of_pairs: Array) -> float:
        """Mean over the pairs, each by its smaller rank: shared dimensions as a share of the most possible."""
        return float((of_pairs * self.smaller_ranks).sum() / self.smaller_ranks.sum())

    @cached_property
    def spreads(self) -> tuple[float, float]:
        """Exact standard deviations of the mean overlap over random turns, and over random signs of the coordinates.

        Two layers are turned against each other as a whole, whatever the experts of each have in common. In one layer
        each expert is turned for itself, and then no two pairs are correlated, even if they share one.
        """
        total = self.smaller_ranks.sum()
        if self.is_within:
            of_pairs = np.stack([haar_overlap(self.overlaps)[1], self.overlaps.sign_flips.sd])
            turns, signs = np.linalg.norm(of_pairs * self.smaller_ranks, axis=1) / total
            return float(turns), float(signs)
        n, sides = self.earlier.dim, (self.earlier, self.later)
        # Squared norms of the sums of all projectors of a layer, without their traces.
        squares = [float(pairwise_gram_inner_product(one.frames).sum()) - one.ranks.sum() ** 2 / n for one in sides]
        turns = np.sqrt(2 * np.prod(np.clip(squares, 0, None)) / max((n - 1) * (n + 2), 1)) / total
        signs = sign_flip_spread([torch.cat(one.frames, dim=1) for one in sides])[0][0, 1] / int(total)
        return float(turns), float(signs)

    @cached_property
    def closest(self) -> int:
        """Place of the pair that overlaps most."""
        return int(self.overlaps.values.argmax())

    @cached_property
    def q_values(self) -> Array:
        """False discovery rate of each pair among all of these, by the tests of the table of pairs, shape=[pairs]."""
        columns = beside_nulls(PROJECTION_OVERLAP, self.overlaps.values, self.overlaps)
        found = q_values(pd.DataFrame(columns).assign(family=0), PROJECTION_OVERLAP, "family")
        return np.asarray(found, dtype=np.float64)


def _mean_overlap(pairs: ExpertPairs) -> Tensor:
    return (pairs.shared.sum() / int(pairs.smaller_ranks.sum())).clamp(max=1)


def _unrelated(pairs: ExpertPairs) -> tuple[float, float]:
    return pairs.mean(haar_overlap(pairs.overlaps)[0]), pairs.spreads[0]


def _sign_flip(pairs: ExpertPairs) -> tuple[float, float]:
    return pairs.mean(pairs.overlaps.sign_flips.mean), pairs.spreads[1]


def _mean_matched(pairs: ExpertPairs) -> tuple[float, float]:
    # What meets the mean parts, which all experts may have in common, is taken to vary together.
    spread = pairs.mean(pairs.overlaps.mean_matched_spread)
    return min(pairs.mean(pairs.overlaps.mean_matched_mean), 1.0), float(np.hypot(pairs.spreads[1], spread))


EXPERT_OVERLAP = Observable(
    title="mean overlap of two experts",
    table="experts",
    column="overlap",
    pair=ExpertPairs,
    measure=_mean_overlap,
    formula=r"\sum_{e, f} \lVert A_e^\top B_f \rVert_F^2 / \sum_{e, f} \min(r_e, s_f)",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "the order of the experts of either layer, the choice of frames, and one orthogonal map of the stream on all "
        "experts; not a general linear map",
        "projection_overlap_invariance",
    ),
    null=heavy_tailed_null(
        _mean_overlap,
        _unrelated,
        "the experts of one layer turned uniformly (Haar) against those of the other as a whole, or the experts of one "
        "layer each for itself, exact",
        statement="haar_overlap_moments",
    ),
    further_nulls=(
        heavy_tailed_null(
            _mean_overlap,
            _sign_flip,
            "random signs of the coordinates in place of turns, which keep the outlier channels, exact",
            name="sign_flip",
            statement="sign_flip_overlap_mean",
        ),
        heavy_tailed_null(
            _mean_overlap,
            _mean_matched,
            "the means of the directions over the channels kept, random signs for the rest; the standard deviation is "
            "an upper bound",
            name="mean_matched",
            statement="mean_matched_overlap_mean",
        ),
    ),
    tolerance=1e-5,
    reading="How much any two experts share, whatever their numbers: within a layer how alike its experts are, between "
    "layers what all of them have in common. The closest pair and its q-value stand beside it.",
    misuse="It does not say that an expert continues in another one: see the matched overlap. Two experts that read "
    "alike need not compute the same.",
    companions=(
        (
            Column("largest_overlap", "float64", "overlap of the closest pair"),
            lambda pairs: pairs.overlaps.values.max(),
        ),
        (
            Column("closest_expert", "Int64", "number of the expert of the closest pair in `layer`"),
            lambda pairs: pairs.earlier.numbers[pairs.places[0][pairs.closest]],
        ),
        (
            Column("closest_next_expert", "Int64", "number of the other one in `next_layer`"),
            lambda pairs: pairs.later.numbers[pairs.places[1][pairs.closest]],
        ),
        (
            Column(
                "closest_q_value",
                "float64",
                "false discovery rate of the closest pair among all pairs of the row, tested as in the table of pairs",
            ),
            lambda pairs: pairs.q_values[pairs.closest],
        ),
        (
            Column("alike", "Int64", "number of pairs of the row with a q-value of at most 0.01"),
            lambda pairs: (pairs.q_values <= FALSE_DISCOVERY_RATE).sum(),
        ),
    ),
)
