"""Continuity of the first direction where its singular value is not simple: the span of its block instead."""

from math import nan

from torch import Tensor

from ...network import Symmetry
from ...numerics.spectrum import DEGENERATE_GAP, Spectrum
from ..observable import Observable
from .layer_pair import LayerPair, of_directions, subspace_null


def leading_block(spectrum: Spectrum) -> int:
    """Number of directions that belong to the first one, since the gaps between them are too small.

    A block ends at the first relative gap of at least `DEGENERATE_GAP`. A first direction that stands alone is
    a block of one.

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
    theory/continuity, sections 6.10 and 7.3.
    """
    ends = (spectrum.gaps >= DEGENERATE_GAP).nonzero()
    return int(ends[0]) + 1 if len(ends) else 0


def _sizes(pair: LayerPair) -> tuple[int, int]:
    return leading_block(pair.earlier), leading_block(pair.later)


def _block_overlap(pair: LayerPair) -> Tensor:
    first, second = _sizes(pair)
    if not first or not second:
        return pair.products.new_tensor(nan)
    return (pair.products[:first, :second].square().sum() / min(first, second)).clamp(max=1)


BLOCK_OVERLAP = Observable(
    name="overlap of the leading blocks",
    table="continuity",
    column="block_overlap",
    measure=of_directions(_block_overlap),
    formula=r"\lVert B^\top B' \rVert_F^2 / \min(b, b')",
    range=(0.0, 1.0),
    aligned=1.0,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance="any rotation inside a block, and one orthogonal map of the space on both weights; "
    "not a general linear map",
    invariance_statement="projection_overlap_invariance",
    null="independent uniform subspaces of the dimensions of the two blocks, exact mean and spread",
    null_moments=lambda pair: subspace_null(pair, *_sizes(pair)),
    null_statement="haar_overlap_moments",
    reading="What |cos| of the first vectors means where neighbouring singular values are too close to tell their "
    "vectors apart: the directions of such values are compared as one subspace, of dimension block_dim and "
    "next_block_dim. The squared cosine where both first values stand alone.",
    misuse="Not across pairs whose blocks differ in size without its null, which is max(b, b') / n.",
    derived=("block_dim", "next_block_dim"),
)
