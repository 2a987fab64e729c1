"""Overlap of neighbouring layers as a curve over the rank, so that no single rank decides."""

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...network import Side, Weight
from ...numerics.spectrum import Spectrum
from ..chance.haar import Array
from ..chance.mean_matched import mean_matched_at_every_rank
from ..pairs.flags import soft_bruhat
from ..pairs.subspace_pair import SubspacePair
from ..schema import Column, Schema
from ..table import beside_nulls
from .cosines import LEADING_OVERLAP
from .layer_pair import LAYERS, ROLE, SIDE, comparable_sides, layer_chains

BY_RANK_SCHEMA = Schema(
    "One row for each role, side, pair of neighbouring layers and number of directions k",
    (
        ROLE,
        SIDE,
        *LAYERS,
        Column("k", "int64", "leading directions compared"),
        *LEADING_OVERLAP.columns,
    ),
)


class _Curve(NamedTuple):
    """What the nulls are made of at each k."""

    dim: int
    ranks: tuple[Any, Any]
    mean_matched_overlap: Array


def continuity_by_rank(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    r"""Overlap of the k leading directions of every role on both sides, from each layer to the next, for each k.

    .. math:: \omega_k = \lVert U_k^\top V_k \rVert_F^2 / k

    Parameters
    ----------
    weights : iterable of Weight
        Heads, single experts and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        k runs from 1 to the smaller rank; the columns are those of `BY_RANK_SCHEMA`. The effect size is NaN where k is
        the dimension of the space. A pair of layers of which one has no direction has no rows.

    Notes
    -----
    The last k gives the overlap of the continuity table. A k between two close singular values cuts through
    directions that may rotate into each other: read the curve, not one point.
    """
    return BY_RANK_SCHEMA.concatenated(
        _curve(earlier, later, side, spectra)
        for chain in layer_chains(weights).values()
        for side in Side
        for earlier, later in pairwise(chain)
        if side in comparable_sides(earlier, later) and earlier.space(side).dim == later.space(side).dim
    )


def _curve(earlier: Weight, later: Weight, side: Side, spectra: Mapping[str, Spectrum]) -> dict[str, Any]:
    """Columns of one pair of layers."""
    first, second = spectra[earlier.name], spectra[later.name]
    pair = SubspacePair(first.frame(side), second.frame(side))
    norms = first.channel_norms(side), second.channel_norms(side)
    k = np.arange(1, min(pair.ranks) + 1)
    overlap = soft_bruhat(pair).diagonal().cpu().numpy().clip(None, k) / k
    place = {"role": earlier.role, "side": side.value, "layer": earlier.layer, "next_layer": later.layer, "k": k}
    mean_matched = mean_matched_at_every_rank(pair.first, pair.second, norms).cpu().numpy().clip(None, k) / k
    return place | beside_nulls(LEADING_OVERLAP, overlap, _Curve(pair.dim, (k, k), mean_matched))
