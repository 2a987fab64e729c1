"""Overlaps of many pairs of subspaces against every null: for leading subspaces and for attention heads alike."""

from dataclasses import dataclass

import numpy as np

from ..observable import Null
from .haar import Array, haar_overlap, haar_overlap_p_value
from .sign_flip_law import SignFlipLaw


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
        Mean overlap of random weights with the row and column norms of these; NaN where none were drawn.
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
    text="random weights with the same row and column norms, drawn",
    law=lambda overlaps: (overlaps.norm_matched_mean, None),
    has_sd=False,
)
