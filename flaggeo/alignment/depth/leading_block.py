"""Continuity of the first direction where its singular value is not simple: the span of its block instead."""

from collections.abc import Callable
from math import nan

import torch
from torch import Tensor

from ...network import Symmetry
from ...numerics.spectrum import DEGENERATE_GAP, Spectrum
from ..chance.haar import Dimensions, haar_overlap
from ..chance.sign_flip import leverages
from ..observable import Invariance, Null, Observable
from ..schema import Column
from ..table import Array
from .layer_pair import LayerPair, of_directions


def leading_block(spectrum: Spectrum) -> Tensor:
    """Number of directions that belong to the first one, since the gaps between them are too small.

    A block ends at the first relative gap of at least `DEGENERATE_GAP`. A first direction that stands alone is
    a block of one. The rule is about changes of this weight of that relative size. `manifolds.select_dims` answers
    another question, which directions a number of random samples tells apart; a weight is no such sample.

    Parameters
    ----------
    spectrum : Spectrum

    Returns
    -------
    size : Tensor of int, shape=[...]
        0 for a zero weight, and where no kept direction ends the block: its span is then cut off at an
        arbitrary place and as undetermined as its directions.

    References
    ----------
    docs/measurements.md, "Continuity across layers".
    """
    ends = spectrum.gaps >= DEGENERATE_GAP
    places = torch.arange(1, ends.shape[-1] + 1, device=ends.device)
    first = torch.where(ends, places, ends.shape[-1] + 1).amin(dim=-1)
    return torch.where(ends.any(dim=-1), first, 0)


def _sizes(pair: LayerPair) -> tuple[Tensor, Tensor]:
    return leading_block(pair.earlier), leading_block(pair.later)


def _inside(count: int, sizes: Tensor) -> Tensor:
    """Which of so many directions belong to blocks of these sizes, shape=[..., count]."""
    return torch.arange(count, device=sizes.device) < sizes[..., None]


def _or_missing(number: Tensor, *sizes: Tensor) -> Tensor:
    return torch.where(torch.stack(sizes).amin(dim=0) > 0, number, nan)


def _dim(end: int) -> Callable[[LayerPair], Tensor]:
    return lambda pair: _or_missing(_sizes(pair)[end].to(pair.products), _sizes(pair)[end])


def _block_overlap(pair: LayerPair) -> Tensor:
    first, second = _sizes(pair)
    rows, columns = map(_inside, pair.ranks, (first, second))
    squares = torch.where(rows[..., None] & columns[..., None, :], pair.products.square(), 0).sum(dim=(-2, -1))
    return _or_missing((squares / torch.minimum(first, second)).clamp(max=1), first, second)


def _haar_block_overlap(pair: LayerPair) -> tuple[Array, Array]:
    first, second = (sizes.cpu().numpy() for sizes in _sizes(pair))
    return haar_overlap(Dimensions(pair.dim, (first, second)))


def _sign_flip_mean(pair: LayerPair) -> tuple[Tensor, None]:
    first, second = _sizes(pair)
    inside = map(_inside, pair.ranks, (first, second))
    earlier, later = (leverages(frame * kept[..., None, :]) for frame, kept in zip(pair.frames, inside, strict=True))
    return _or_missing((earlier * later).sum(dim=-1) / torch.minimum(first, second), first, second), None


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
        law=_haar_block_overlap,
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
