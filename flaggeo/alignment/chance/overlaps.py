"""Overlaps of many pairs of subspaces against every null: for leading subspaces and for attention heads alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..observable import Null
from .coupling import Places
from .haar import Array, haar_overlap, haar_overlap_p_value
from .mean_matched import mean_matched_moments
from .sign_flip import leverages, sign_flip_spread
from .sign_flip_law import SignFlipLaw, sign_flip_law


@dataclass(frozen=True)
class Overlaps:
    """Projection overlaps of many pairs of subspaces of one space, and what their nulls are made of.

    Attributes
    ----------
    values : ndarray of float64, shape=[pairs]
        NaN where a subspace is zero.
    dim : int
        Dimension of the space.
    ranks : tuple of ndarray of int, shape=[pairs]
        Dimensions of the two subspaces of each pair.
    sign_flips : SignFlipLaw
        Their law over random signs of the coordinates.
    mean_matched_mean, mean_matched_spread : ndarray of float64, shape=[pairs]
        Where the means of the directions are kept and the rest gets random signs, see `mean_matched_moments`.
    norm_matched_mean : ndarray of float64, shape=[pairs]
        Mean overlap of random weights with the row and column norms of these; NaN where it is not known.
    """

    values: Array
    dim: int
    ranks: tuple[Array, Array]
    sign_flips: SignFlipLaw
    mean_matched_mean: Array
    mean_matched_spread: Array
    norm_matched_mean: Array

    @property
    def mean_matched_sd(self) -> Array:
        """Standard deviation of all terms under the mean-matched null: those of one sign and those of two."""
        return np.hypot(self.mean_matched_spread, self.sign_flips.sd)


def overlaps_against_nulls(
    frames: Sequence[Tensor],
    channel_norms: Sequence[Tensor],
    pairs: tuple[Places, Places],
    values: Array,
    surrogate_leverages: Tensor | None = None,
) -> Overlaps:
    """What every null makes of the overlaps of leading subspaces.

    Parameters
    ----------
    frames : sequence of Tensor, shape=[n, r_i]
        Orthonormal, with at least one column, of one dtype and device.
    channel_norms : sequence of Tensor, shape=[n]
        Norm of the weight of each at each coordinate.
    pairs : tuple of ndarray of int, shape=[pairs]
        Positions of both frames of each pair.
    values : ndarray of float64, shape=[pairs]
        Their overlaps.
    surrogate_leverages : Tensor, shape=[len(frames), n], optional
        Mean `leverages` of norm-matched surrogates; NaN where there are none.

    Returns
    -------
    overlaps : Overlaps
    """
    first, second = pairs
    ranks = np.array([frame.shape[1] for frame in frames])
    smaller = np.minimum(ranks[first], ranks[second])
    leverage = torch.stack([leverages(frame) for frame in frames])
    matched = torch.full_like(leverage, torch.nan) if surrogate_leverages is None else surrogate_leverages
    moments = (
        moment.cpu().numpy()[first, second].astype(float) / smaller
        for moment in (
            leverage @ leverage.mT,
            *sign_flip_spread(frames),
            *mean_matched_moments(frames, channel_norms),
            matched @ matched.mT,
        )
    )
    mean, sd, largest_part, *others = moments
    law = sign_flip_law(frames, pairs, values, (mean, sd, largest_part), smaller)
    return Overlaps(values, frames[0].shape[0], (ranks[first], ranks[second]), law, *others)


def _mean_matched_p_value(overlaps: Overlaps) -> tuple[Array, Array]:
    """The tail of random signs, as many standard deviations above its mean as the overlap is above this null's."""
    law, sd = overlaps.sign_flips, overlaps.mean_matched_sd
    scale = np.divide(law.sd, sd, out=np.zeros_like(sd), where=sd > 0)

    def tail(reached: Array) -> Array:
        return law.tail(law.mean + scale * (reached - overlaps.mean_matched_mean))

    return tail(overlaps.values), tail(np.where(np.isnan(overlaps.values), np.nan, 1.0))


UNRELATED = Null[Overlaps](
    text="independent uniform (Haar) subspaces, exact",
    law=haar_overlap,
    statement="haar_overlap_moments",
    p_value=lambda overlaps: haar_overlap_p_value(overlaps, overlaps.values),
)
SIGN_FLIP = Null[Overlaps](
    name="sign_flip",
    text="random signs of the coordinates, which keep the outlier channels, exact",
    law=lambda overlaps: (overlaps.sign_flips.mean, overlaps.sign_flips.sd),
    statement="sign_flip_overlap_mean",
    p_value=lambda overlaps: overlaps.sign_flips.p_value(overlaps.values),
)
MEAN_MATCHED = Null[Overlaps](
    name="mean_matched",
    text="the means of the directions over the channels kept, random signs for the rest",
    law=lambda overlaps: (overlaps.mean_matched_mean.clip(max=1), overlaps.mean_matched_sd),
    statement="mean_matched_overlap_mean",
    p_value=_mean_matched_p_value,
)
NORM_MATCHED = Null[Overlaps](
    name="norm_matched",
    text="random weights with the same row and column norms, in closed form unless they are drawn",
    law=lambda overlaps: (overlaps.norm_matched_mean, None),
    has_sd=False,
)
