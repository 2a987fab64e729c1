"""Singular-vector continuity: how far a weight's leading directions carry over to the next layer."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import pairwise
from math import nan
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from manifolds import abs_cosine_moments

from ...network import Side, Symmetry, Weight
from ...numerics.spectrum import Spectrum
from ..observable import Observable
from ..pairs.subspace import angles_survive
from .best_match import BEST_MATCH, PROJECTION, matched_cosines
from .gram_cosine import GramCosines
from .layer_pair import LayerPair, is_shared, layer_chains, of_directions, space_name, subspace_null
from .leading_block import BLOCK_OVERLAP, leading_block
from .rank_one import SIGNED_RANK_ONE
from .significance import step_chance, step_q_values

#: The nulls of the two single cosines are the same and share their columns.
CONTINUITY_COLUMNS = (
    "role",
    "side",
    "layer",
    "next_layer",
    "abs_cos_1",
    "abs_cos_2",
    "sigma2_weighted",
    "overlap",
    "rank",
    "energy",
    "null_mean",
    "null_sd",
    "p_value",
    "sign_flip_mean",
    "sign_flip_p_value",
    "q_value",
    "overlap_null_mean",
    "overlap_null_sd",
    "space",
    "shared_space",
    "survives",
    "undetermined",
    "sigma2_weighted_null_mean",
    "sigma2_weighted_null_sd",
    "best_match",
    "best_match_index",
    "best_match_null_mean",
    "best_match_null_sd",
    "projection",
    "projection_null_mean",
    "projection_null_sd",
    "block_overlap",
    "block_dim",
    "next_block_dim",
    "block_overlap_null_mean",
    "block_overlap_null_sd",
    "signed_rank_one",
    "signed_rank_one_null_mean",
    "signed_rank_one_null_sd",
    "gram_cosine",
    "gram_cosine_null_mean",
    "gram_cosine_null_sd",
    "centred_gram_cosine",
    "centred_gram_cosine_null_mean",
    "centred_gram_cosine_null_sd",
)


@dataclass(frozen=True)
class Continuity:
    """Continuity of one side of a weight from one layer to the next.

    All numbers are dimensionless, in [0, 1], and NaN where a direction does not exist (a zero weight,
    a second direction of a weight of rank 1).

    Attributes
    ----------
    abs_cos_1, abs_cos_2 : float
        Absolute cosine of the two first and of the two second singular vectors.
    sigma2_weighted : float
        Sum over the kept directions of ``s_i^2 / |W|_F^2 * |cos_i|`` with the weights of the earlier layer: a
        lower bound of the sum over all directions, which lies at most ``1 - energy`` above.
    overlap : float
        Projection overlap of the two leading subspaces.
    """

    abs_cos_1: float
    abs_cos_2: float
    sigma2_weighted: float
    overlap: float


def singular_vector_continuity(earlier: Spectrum, later: Spectrum, side: Side) -> Continuity:
    r"""Compare the leading singular vectors of two weights of one shape, index by index.

    .. math::
        c_i = |\langle v_i, v'_i \rangle|, \qquad
        \sum_{i \le k} \frac{\sigma_i^2}{\lVert W \rVert_F^2}\, c_i, \qquad
        \frac{\lVert V_k^\top V'_k \rVert_F^2}{k}

    Parameters
    ----------
    earlier, later : Spectrum
        Of weights of equal shape.
    side : Side
        READ compares right singular vectors v, WRITE left ones u.

    Returns
    -------
    continuity : Continuity

    Notes
    -----
    Unchanged by one orthogonal map of the space on both weights and by the signs of the singular
    vectors. The single cosines need a gap in the spectrum (`Spectrum.undetermined`); the overlap only
    needs one after the last kept direction. For independent uniform directions see
    `manifolds.abs_cosine_moments` and `manifolds.overlap_moments`.

    References
    ----------
    arXiv:2605.04971, equations 1 and 2; theory/continuity, sections 1 and 7.
    """
    pair = LayerPair(earlier, later, side)
    return Continuity(
        abs_cos_1=float(ABS_COSINE.measure(pair)),
        abs_cos_2=float(ABS_COSINE_2.measure(pair)),
        sigma2_weighted=float(SIGMA2_WEIGHTED.measure(pair)),
        overlap=float(LEADING_OVERLAP.measure(pair)),
    )


def _abs_cosine(pair: LayerPair, index: int) -> Tensor:
    return pair.cosines[index] if index < len(pair.cosines) else pair.products.new_tensor(nan)


def _sigma2_weighted(pair: LayerPair) -> Tensor:
    return _shares(pair) @ pair.cosines


def _shares(pair: LayerPair) -> Tensor:
    """Shares of the earlier weight's squared norm, of the directions that both have."""
    return pair.earlier.values[: len(pair.cosines)].square() / pair.earlier.frobenius_norm**2


def _haar_cosine(pair: LayerPair) -> tuple[Tensor, Tensor]:
    mean, spread = abs_cosine_moments(pair.dim)
    return pair.products.new_tensor(mean), pair.products.new_tensor(spread)


def _haar_weighted_cosine(pair: LayerPair) -> tuple[Tensor, Tensor]:
    """The cosines of unrelated frames are nearly independent; their covariance, of order 1/n², is left out."""
    mean, spread = _haar_cosine(pair)
    if not pair.products.numel():
        return mean * nan, spread * nan
    return _shares(pair).sum() * mean, torch.linalg.vector_norm(_shares(pair)) * spread


_ROTATIONS = "signs of the vectors, and one orthogonal map of the space on both weights; not a general linear map"

ABS_COSINE = Observable(
    name="|cos| of first singular vectors",
    table="continuity",
    column="abs_cos_1",
    measure=partial(_abs_cosine, index=0),
    formula=r"|\langle v_1, v'_1 \rangle|",
    range=(0.0, 1.0),
    aligned=1.0,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance=_ROTATIONS,
    invariance_statement="singular_vector_cosine_invariance",
    null="independent uniform directions, exact mean and spread; beside it the mean under random signs of the "
    "coordinates",
    null_moments=_haar_cosine,
    null_statement="haar_abs_cosine_moments",
    reading="How far the main direction of one layer is that of the next: 1 is the same direction up to sign. The "
    "q-value says which single steps are beyond chance, sign_flip_mean how much of the number loud channels give.",
    misuse="Not for a first direction that the spectrum leaves undetermined, and not without the margin-matched null: "
    "a few loud channels align two unrelated weights. A low q-value beside a margin-matched mean as high as the number "
    "is no continuity: quiet channels agree too, but do not carry the number.",
    derived=("p_value", "sign_flip_mean", "sign_flip_p_value", "q_value"),
)
ABS_COSINE_2 = replace(
    ABS_COSINE,
    name="|cos| of second singular vectors",
    column="abs_cos_2",
    measure=partial(_abs_cosine, index=1),
    formula=r"|\langle v_2, v'_2 \rangle|",
    null="independent uniform directions, exact mean and spread",
    reading="The same for the second direction: high beside a low first one, the two may have changed places.",
    misuse="Not for a direction that the spectrum leaves undetermined, and not without the margin-matched null: "
    "a few loud channels align two unrelated weights.",
    derived=(),
)
SIGMA2_WEIGHTED = Observable(
    name="σ²-weighted |cos|",
    table="continuity",
    column="sigma2_weighted",
    measure=of_directions(_sigma2_weighted),
    formula=r"\sum_{i \le k} \sigma_i^2 / \lVert W \rVert_F^2 \; |\langle v_i, v'_i \rangle|",
    range=(0.0, 1.0),
    aligned=1.0,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance=_ROTATIONS,
    invariance_statement="sigma2_weighted_invariance",
    null="the mean of |cos| times the share of the squared norm in the kept directions",
    null_moments=_haar_weighted_cosine,
    null_statement="haar_abs_cosine_moments",
    reading="Continuity of all kept directions, each counted by its share of the earlier weight: a lower bound of the "
    "sum over all directions, which lies at most 1 - energy above.",
    misuse="Not where singular values are close: it compares index by index, and a swap of two directions lowers it "
    "without any change of subspace.",
)


LEADING_OVERLAP = Observable(
    name="overlap of leading subspaces",
    table="continuity",
    column="overlap",
    measure=of_directions(lambda pair: (pair.products.square().sum() / min(pair.products.shape)).clamp(max=1)),
    formula=r"\lVert V_k^\top V'_k \rVert_F^2 / k",
    range=(0.0, 1.0),
    aligned=1.0,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance="the choice of frames, and one orthogonal map of the space on both weights; not a general linear map",
    invariance_statement="projection_overlap_invariance",
    null="independent uniform subspaces, exact mean k / n and spread",
    null_moments=lambda pair: subspace_null(pair, *pair.products.shape),
    null_statement="haar_overlap_moments",
    reading="How far the leading directions carry over as a whole, whatever their order: to be read instead of the "
    "single cosines where gaps are small.",
    misuse="Not across ranks without its null, and not where the gap after the last kept direction is small.",
)

_MEASURES = (
    ABS_COSINE,
    ABS_COSINE_2,
    SIGMA2_WEIGHTED,
    LEADING_OVERLAP,
    BEST_MATCH,
    PROJECTION,
    BLOCK_OVERLAP,
    SIGNED_RANK_ONE,
)


def continuity_table(
    weights: Iterable[Weight],
    spectra: Mapping[str, Spectrum],
    gram_cosines: Mapping[tuple[str, Side], GramCosines] | None = None,
    *,
    folded: bool = False,
) -> pd.DataFrame:
    """Continuity of every role on both sides, from each layer to the next that has the role.

    Parameters
    ----------
    weights : iterable of Weight
        Heads and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.
    gram_cosines : mapping, optional
        From the name of the earlier weight and the side to what `gram_cosines` found for it and the next
        weight of its chain, see `layer_chains`. Where it has none the columns are NaN.
    folded : bool, optional
        Whether the norms beside the weights are folded into them.

    Returns
    -------
    table : pandas.DataFrame
        One row a role, side and pair of layers of equal width above 1; the columns are `CONTINUITY_COLUMNS`.
        A number is NaN where a direction does not exist, and where the two subspaces or spectra are such that
        it can have one value only. ``shared_space`` says whether the two layers' vectors lie in one space of
        the network; where they do not, the comparison is by index of the coordinate, whose meaning each layer
        chose for itself. ``undetermined`` says whether the first direction of either layer is, see `Spectrum`;
        ``block_overlap`` is then to be read instead of ``abs_cos_1``. ``best_match_index`` counts from 1.
        ``survives`` says whether angles between the leading directions survive every change of basis that leaves
        the network alone, see `angles_survive`.

        Four columns say whether ``abs_cos_1`` of a single step is beyond chance: see `step_chance`, and `step_q_values`
        for ``q_value``, which is NaN where the two sides share no space. For the leading subspaces as a whole p- and
        q-values stand in the table of pairs, where neighbours have a lag of 1.

    References
    ----------
    theory/continuity, section 7.
    """
    rows = [
        _row(earlier, later, side, spectra, folded)
        | asdict((gram_cosines or {}).get((earlier.name, side), GramCosines()))
        for chain in layer_chains(weights).values()
        for side in Side
        for earlier, later in pairwise(chain)
        if earlier.space(side).dim == later.space(side).dim > 1
    ]
    table = pd.DataFrame(rows, columns=list(CONTINUITY_COLUMNS))
    # Also where there are no rows.
    whole = dict.fromkeys(("best_match_index", "block_dim", "next_block_dim"), "Int64")
    table = table.astype({"shared_space": "bool", "survives": "bool", "undetermined": "bool"} | whole)
    table["q_value"] = step_q_values(table)
    return table


def _row(earlier: Weight, later: Weight, side: Side, spectra: Mapping[str, Spectrum], folded: bool) -> dict[str, Any]:
    first, second = spectra[earlier.name], spectra[later.name]
    pair = LayerPair(first, second, side)
    blocks = leading_block(first), leading_block(second)
    row = {
        "role": earlier.role,
        "side": side.value,
        "layer": earlier.layer,
        "next_layer": later.layer,
        "rank": min(pair.products.shape),
        "energy": first.energy,
        "best_match_index": int(matched_cosines(pair).argmax()) + 1 if pair.products.numel() else pd.NA,
        "block_dim": blocks[0] or pd.NA,
        "next_block_dim": blocks[1] or pd.NA,
        "space": space_name((earlier, later), side),
        "shared_space": is_shared((earlier, later), side),
        "survives": is_shared((earlier, later), side)
        and all(angles_survive(weight, side, folded=folded) for weight in (earlier, later)),
        "undetermined": bool(first.undetermined[0] or second.undetermined[0]),
    } | step_chance(pair)
    for observable in _MEASURES:
        assert observable.null_moments is not None
        mean, spread = map(float, observable.null_moments(pair))
        prefix = "" if observable in (ABS_COSINE, ABS_COSINE_2) else f"{observable.column}_"
        row |= {
            # A subspace that is the whole space contains every other: 1, and nothing measured.
            observable.column: nan if spread == 0 else float(observable.measure(pair)),
            f"{prefix}null_mean": mean,
            f"{prefix}null_sd": spread,
        }
    return row
