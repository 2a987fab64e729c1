"""Continuity of the first direction where its singular value is not simple: the span of its block instead."""

from collections.abc import Callable
from math import nan

from torch import Tensor

from ...network import Symmetry
from ...numerics.spectrum import DEGENERATE_GAP, Spectrum
from ..chance.haar import Dimensions, haar_overlap
from ..chance.sign_flip import leverages
from ..observable import Invariance, Null, Observable
from ..schema import Column
from .layer_pair import LayerPair, of_directions


def leading_block(spectrum: Spectrum) -> int:
    """Number of directions that belong to the first one, since the gaps between them are too small.

    A block ends at the first relative gap of at least `DEGENERATE_GAP`. A first direction that stands alone is
    a block of one. The rule is about changes of this weight of that relative size. `manifolds.select_dims` answers
    another question, which directions a number of random samples tells apart; a weight is no such sample.

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    size : int
        0 for a zero weight, and where no kept direction ends the block: its span is then cut off at an
        arbitrary place and as undetermined as its directions.

    References
    ----------
    docs/measurements.md, "Continuity across layers".
    """
    ends = (spectrum.gaps >= DEGENERATE_GAP).nonzero()
    return int(ends[0]) + 1 if len(ends) else 0


def _sizes(pair: LayerPair) -> tuple[int, int]:
    return leading_block(pair.earlier), leading_block(pair.later)


def _dim(end: int) -> Callable[[LayerPair], Tensor]:
    return lambda pair: pair.products.new_tensor(_sizes(pair)[end] or nan)


def _block_overlap(pair: LayerPair) -> Tensor:
    first, second = _sizes(pair)
    if not first or not second:
        return pair.products.new_tensor(nan)
    return (pair.products[:first, :second].square().sum() / min(first, second)).clamp(max=1)


def _sign_flip_mean(pair: LayerPair) -> tuple[Tensor, None]:
    first, second = _sizes(pair)
    if not first or not second:
        return pair.products.new_tensor(nan), None
    earlier, later = pair.earlier.frame(pair.side)[:, :first], pair.later.frame(pair.side)[:, :second]
    return leverages(earlier) @ leverages(later) / min(first, second), None


BLOCK_OVERLAP = Observable(
    title="overlap of the leading blocks",
    table="continuity",
    column="block_overlap",
    pair=LayerPair,
    measure=of_directions(_block_overlap),
    formula=r"\lVert B^\top B' \rVert_F^2 / \min(b, b')",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "any rotation inside a block, and one orthogonal map of the space on both weights; not a general linear map",
        "projection_overlap_invariance",
    ),
    null=Null(
        text="independent uniform subspaces of the dimensions of the two blocks, exact",
        law=lambda pair: haar_overlap(Dimensions(pair.dim, _sizes(pair))),
        statement="haar_overlap_moments",
    ),
    further_nulls=(
        Null(
            name="sign_flip",
            text="random signs of the coordinates, which keep the outlier channels, exact",
            law=_sign_flip_mean,
            statement="sign_flip_overlap_mean",
            has_sd=False,
        ),
    ),
    tolerance=1e-5,
    reading="What |cos| of the first vectors means where neighbouring singular values are too close to tell their "
    "vectors apart: the directions of such values are compared as one subspace, of dimension block_dim and "
    "next_block_dim. The squared cosine where both first values stand alone.",
    misuse="Do not compare pairs whose blocks differ in size without its null, which is max(b, b') / n, nor where the "
    "sign-flip mean is as high: the same outlier channels carry both blocks then.",
    companions=(
        (Column("block_dim", "Int64", "dimension of the earlier block; missing where no gap ends it"), _dim(0)),
        (Column("next_block_dim", "Int64", "dimension of the later block"), _dim(1)),
    ),
)
