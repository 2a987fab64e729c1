"""Singular vectors and leading subspaces of a weight in two layers, compared index by index and as a whole."""

from functools import partial
from math import nan
from typing import Any

import torch
from torch import Tensor

from manifolds import abs_cosine_moments, overlap_p_value

from ...network import Symmetry
from ..chance.haar import haar_overlap
from ..observable import Invariance, Null, Observable
from .layer_pair import LayerPair, of_directions


def _abs_cosine(pair: LayerPair, index: int) -> Tensor:
    return pair.cosines[..., index] if index < pair.cosines.shape[-1] else pair.undefined


def _sigma2_weighted(pair: LayerPair) -> Tensor:
    return (_norm_shares(pair) * pair.cosines).sum(dim=-1)


def _norm_shares(pair: LayerPair) -> Tensor:
    """Shares of the earlier weight's squared norm, of the directions that both have."""
    values = pair.earlier.values[..., : pair.cosines.shape[-1]]
    return (
        values.square() / torch.as_tensor(pair.earlier.frobenius_norm, dtype=torch.float64).to(values)[..., None] ** 2
    )


def _haar_cosine(pair: LayerPair) -> tuple[Tensor, Tensor]:
    mean, spread = abs_cosine_moments(pair.dim)
    return pair.products.new_tensor(mean), pair.products.new_tensor(spread)


def _haar_weighted_cosine(pair: LayerPair) -> tuple[Tensor, Tensor]:
    """The cosines of unrelated frames are nearly independent; their covariance, of order 1/n², is left out."""
    mean, spread = _haar_cosine(pair)
    if not pair.products.numel():
        return mean * nan, spread * nan
    shares = _norm_shares(pair)
    return shares.sum(dim=-1) * mean, torch.linalg.vector_norm(shares, dim=-1) * spread


def _haar_p_value(pair: LayerPair) -> tuple[Any, Any]:
    """Exact for two lines; two equal ones have probability 0."""
    if not pair.products.numel():
        return pair.undefined, pair.undefined
    reached = pair.cosines[..., 0].cpu().double().square().numpy()
    return overlap_p_value(reached, pair.dim, 1, 1), overlap_p_value(1.0, pair.dim, 1, 1)


_ROTATIONS = "signs of the vectors, and one orthogonal map of the space on both weights; not a general linear map"
_UNDETERMINED = (
    "Do not use it for a direction that the spectrum leaves undetermined, nor without the norm-matched null: a few "
    "outlier channels align the directions of two unrelated weights."
)

ABS_COSINE = Observable(
    title="|cos| of first singular vectors",
    table="continuity",
    column="abs_cos_1",
    pair=LayerPair,
    measure=partial(_abs_cosine, index=0),
    formula=r"|\langle v_1, v'_1 \rangle|",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(Symmetry.ORTHOGONAL, _ROTATIONS, "singular_vector_cosine_invariance"),
    null=Null(
        text="independent uniform (Haar) directions, exact",
        law=_haar_cosine,
        statement="haar_abs_cosine_moments",
        p_value=_haar_p_value,
    ),
    further_nulls=(
        Null(
            name="sign_flip",
            text="random signs of the coordinates, which keep the outlier channels",
            law=lambda pair: (pair.sign_flips[0], None),
            has_sd=False,
            p_value=lambda pair: pair.sign_flips[1:],
        ),
        Null(
            name="mean_matched",
            text="the means of the directions over the channels kept, random signs for the rest",
            law=lambda pair: (pair.mean_matched[0], None),
            has_sd=False,
            p_value=lambda pair: pair.mean_matched[1:],
        ),
    ),
    tolerance=1e-5,
    reading="How far the main direction of one layer is that of the next: 1 is the same direction up to sign. The "
    "q-value says which single layer pairs are significant, the sign-flip mean how much of the number outlier channels "
    "account for, the mean-matched mean how much a common mean of the entries.",
    misuse=f"{_UNDETERMINED} A low q-value beside a norm-matched mean as high as the number is no continuity: the "
    "other channels agree too, but they do not account for it.",
)
ABS_COSINE_2 = Observable(
    title="|cos| of second singular vectors",
    table="continuity",
    column="abs_cos_2",
    pair=LayerPair,
    measure=partial(_abs_cosine, index=1),
    formula=r"|\langle v_2, v'_2 \rangle|",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(Symmetry.ORTHOGONAL, _ROTATIONS, "singular_vector_cosine_invariance"),
    null=Null(
        text="independent uniform (Haar) directions, exact",
        law=_haar_cosine,
        statement="haar_abs_cosine_moments",
    ),
    tolerance=1e-5,
    reading="The same for the second direction. High where the first is low, the two may have been exchanged.",
    misuse=_UNDETERMINED,
)
SIGMA2_WEIGHTED = Observable(
    title="σ²-weighted |cos|",
    table="continuity",
    column="sigma2_weighted",
    pair=LayerPair,
    measure=of_directions(_sigma2_weighted),
    formula=r"\sum_{i \le k} \sigma_i^2 / \lVert W \rVert_F^2 \; |\langle v_i, v'_i \rangle|",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(Symmetry.ORTHOGONAL, _ROTATIONS, "sigma2_weighted_invariance"),
    null=Null(
        text="the mean of |cos| times the share of the squared norm in the kept directions",
        law=_haar_weighted_cosine,
        statement="haar_abs_cosine_moments",
    ),
    tolerance=1e-5,
    reading="Continuity of all kept directions, each counted by its share of the earlier weight: a lower bound of the "
    "sum over all directions, which lies at most 1 - energy above.",
    misuse="Do not use it where singular values are close: it compares index by index, and exchanging two directions "
    "lowers it without any change of subspace.",
)
LEADING_OVERLAP = Observable(
    title="overlap of leading subspaces",
    table="continuity",
    column="overlap",
    pair=LayerPair,
    measure=of_directions(lambda pair: (pair.products.square().sum(dim=(-2, -1)) / min(pair.ranks)).clamp(max=1)),
    formula=r"\lVert V_k^\top V'_k \rVert_F^2 / k",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "the choice of frames, and one orthogonal map of the space on both weights; not a general linear map",
        "projection_overlap_invariance",
    ),
    null=Null(
        text="independent uniform (Haar) subspaces, exact: mean k / n",
        law=haar_overlap,
        statement="haar_overlap_moments",
    ),
    further_nulls=(
        Null(
            name="mean_matched",
            text="the means of the directions over the channels kept, random signs for the rest",
            law=lambda pair: (pair.mean_matched_overlap, None),
            statement="mean_matched_overlap_mean",
            has_sd=False,
        ),
    ),
    tolerance=1e-5,
    reading="How far the leading directions continue as a whole, whatever their order: read it instead of the single "
    "cosines where gaps are small.",
    misuse="Do not compare it across ranks without its null, nor use it where the gap after the last kept direction is "
    "small.",
)
