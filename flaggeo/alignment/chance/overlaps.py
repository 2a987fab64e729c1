"""Overlaps of many pairs of subspaces against every null: for leading subspaces and for attention heads alike."""

from dataclasses import dataclass

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
    norm_matched_mean : ndarray of float64, shape=[pairs]
        Mean overlap of random weights with the row and column norms of these; NaN where none were drawn.
    """

    values: Array
    dim: int
    ranks: tuple[Array, Array]
    sign_flips: SignFlipLaw
    norm_matched_mean: Array


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
NORM_MATCHED = Null[Overlaps](
    name="norm_matched",
    text="random weights with the same row and column norms, drawn",
    law=lambda overlaps: (overlaps.norm_matched_mean, None),
    has_sd=False,
)
