"""Singular-vector continuity: how far a weight's leading directions carry over to the next layer."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from math import nan
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from manifolds import abs_cosine_moments, overlap_moments, projection_overlap

from ..network import Side, Symmetry, Weight
from ..spectrum import Spectrum
from .observable import Observable

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
    "overlap_null_mean",
    "overlap_null_sd",
    "space",
    "shared_space",
    "undetermined",
)


@dataclass(frozen=True)
class LayerPair:
    """One side of a weight in two layers, and what is kept of the two matrices.

    Attributes
    ----------
    earlier, later : Spectrum
        Of weights of equal shape.
    side : Side
        READ compares right singular vectors v, WRITE left ones u.
    """

    earlier: Spectrum
    later: Spectrum
    side: Side

    @cached_property
    def cosines(self) -> Tensor:
        """Absolute cosines of the singular vectors, index by index, shape=[k]."""
        first, second = self.earlier.frame(self.side), self.later.frame(self.side)
        count = min(first.shape[1], second.shape[1])
        return (first[:, :count] * second[:, :count]).sum(dim=0).abs().clamp(max=1)

    @property
    def dim(self) -> int:
        """Dimension of the common space."""
        return self.earlier.frame(self.side).shape[0]


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
        abs_cos_1=float(_abs_cosine(pair, 0)),
        abs_cos_2=float(_abs_cosine(pair, 1)),
        sigma2_weighted=float(_sigma2_weighted(pair)),
        overlap=float(projection_overlap(earlier.frame(side), later.frame(side))) if len(pair.cosines) else nan,
    )


def _abs_cosine(pair: LayerPair, index: int) -> Tensor:
    return pair.cosines[index] if index < len(pair.cosines) else pair.cosines.new_tensor(nan)


def _sigma2_weighted(pair: LayerPair) -> Tensor:
    if len(pair.cosines) == 0:
        return pair.cosines.new_tensor(nan)
    return _shares(pair) @ pair.cosines


def _shares(pair: LayerPair) -> Tensor:
    """Shares of the earlier weight's squared norm, of the directions that both have."""
    return pair.earlier.values[: len(pair.cosines)].square() / pair.earlier.frobenius_norm**2


def _haar_cosine(pair: LayerPair) -> tuple[Tensor, Tensor]:
    mean, spread = abs_cosine_moments(pair.dim)
    return pair.cosines.new_tensor(mean), pair.cosines.new_tensor(spread)


def _haar_weighted_cosine(pair: LayerPair) -> tuple[Tensor, Tensor]:
    """The cosines of unrelated frames are nearly independent; their covariance, of order 1/n², is left out."""
    mean, spread = _haar_cosine(pair)
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
    null="independent uniform directions, exact mean and spread",
    null_moments=_haar_cosine,
    null_statement="haar_abs_cosine_moments",
    reading="How far the main direction of one layer is that of the next: 1 is the same direction up to sign.",
    misuse="Not for a first direction that the spectrum leaves undetermined, and not without the margin-matched null: "
    "a few loud channels align two unrelated weights.",
)
ABS_COSINE_2 = replace(
    ABS_COSINE,
    name="|cos| of second singular vectors",
    column="abs_cos_2",
    measure=partial(_abs_cosine, index=1),
    formula=r"|\langle v_2, v'_2 \rangle|",
    reading="The same for the second direction: high beside a low first one, the two may have changed places.",
)
SIGMA2_WEIGHTED = Observable(
    name="σ²-weighted |cos|",
    table="continuity",
    column="sigma2_weighted",
    measure=_sigma2_weighted,
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


def continuity_table(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    """Continuity of every role on both sides, from each layer to the next that has the role.

    Parameters
    ----------
    weights : iterable of Weight
        Heads and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        One row a role, side and pair of layers; the columns are `CONTINUITY_COLUMNS`. ``shared_space``
        says whether the two layers' vectors lie in one space of the network; where they do not, the
        comparison is by index of the coordinate, whose meaning each layer chose for itself.
        ``undetermined`` says whether the first direction of either layer is, see `Spectrum`.
    """
    rows = [
        _row(earlier, later, side, spectra)
        for chain in layer_chains(weights).values()
        for side in Side
        for earlier, later in pairwise(chain)
        if earlier.space(side).dim == later.space(side).dim
    ]
    table = pd.DataFrame(rows, columns=list(CONTINUITY_COLUMNS))
    return table.astype({"shared_space": bool, "undetermined": bool})  # also where there are no rows


def layer_chains(weights: Iterable[Weight]) -> dict[str, list[Weight]]:
    """Weights of each role in order of depth, without heads and without tables that have no layer."""
    chains: dict[str, list[Weight]] = {}
    for weight in sorted(weights, key=lambda weight: weight.stage):
        if weight.layer is not None and weight.head is None:
            chains.setdefault(weight.role, []).append(weight)
    return chains


def _row(earlier: Weight, later: Weight, side: Side, spectra: Mapping[str, Spectrum]) -> dict[str, Any]:
    first, second = spectra[earlier.name], spectra[later.name]
    space = earlier.space(side)
    shared = space == later.space(side)
    null_mean, null_sd = abs_cosine_moments(space.dim)
    ranks = [first.frame(side).shape[1], second.frame(side).shape[1]]
    overlap_null = overlap_moments(space.dim, *ranks) if min(ranks) else (float("nan"), float("nan"))
    return asdict(singular_vector_continuity(first, second, side)) | {
        "role": earlier.role,
        "side": side.value,
        "layer": earlier.layer,
        "next_layer": later.layer,
        "rank": min(ranks),
        "energy": first.energy,
        "null_mean": null_mean,
        "null_sd": null_sd,
        "overlap_null_mean": overlap_null[0],
        "overlap_null_sd": overlap_null[1],
        "space": space.name if shared else f"{space.name} and {later.space(side).name}",
        "shared_space": shared,
        "undetermined": bool(first.undetermined[0] or second.undetermined[0]),
    }
