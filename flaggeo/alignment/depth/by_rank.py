"""Overlap of neighbouring layers as a curve over the rank, so that no single rank decides."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

import numpy as np
import pandas as pd

from manifolds import overlap_moments

from ...network import Side, Weight
from ...numerics.spectrum import Spectrum
from ..pairs.flags import soft_bruhat
from ..pairs.subspace_pair import SubspacePair
from .layer_pair import layer_chains

CURVE_COLUMNS = (
    "role",
    "side",
    "layer",
    "next_layer",
    "k",
    "overlap",
    "null_mean",
    "null_sd",
    "adjusted_overlap",
)


def overlap_curves(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    r"""Overlap of the k leading directions of every role on both sides, from each layer to the next, for each k.

    .. math:: \omega_k = \lVert U_k^\top V_k \rVert_F^2 / k

    Parameters
    ----------
    weights : iterable of Weight
        Heads and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        One row a role, side, pair of layers and k from 1 to the smaller rank; the columns are `CURVE_COLUMNS`.
        ``null_mean`` and ``null_sd`` are exact for uniform subspaces, ``adjusted_overlap`` is
        :math:`(\omega_k - E) / (1 - E)`, NaN where k is the dimension of the space. A pair of layers of which
        one has no direction has no rows.

    Notes
    -----
    The last k gives the overlap of the continuity table. A k between two close singular values cuts through
    directions that may turn into each other: read the curve, not one point.

    References
    ----------
    theory/alignment, section 2.6 (the whole curve, never one k); theory/continuity, section 2.2.
    """
    parts = [
        _curve(earlier, later, side, spectra)
        for chain in layer_chains(weights).values()
        for side in Side
        for earlier, later in pairwise(chain)
        if earlier.space(side).dim == later.space(side).dim
    ]
    if not parts:
        numbers = dict.fromkeys(CURVE_COLUMNS[2:5], "int64") | dict.fromkeys(CURVE_COLUMNS[5:], "float64")
        return pd.DataFrame(columns=list(CURVE_COLUMNS)).astype(numbers)
    return pd.concat(parts, ignore_index=True)


def _curve(earlier: Weight, later: Weight, side: Side, spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    pair = SubspacePair(spectra[earlier.name].frame(side), spectra[later.name].frame(side))
    k = np.arange(1, min(pair.ranks) + 1)
    overlap = soft_bruhat(pair).diagonal().cpu().numpy().clip(None, k) / k
    moments = np.array([overlap_moments(pair.dim, rank, rank) for rank in k.tolist()]).reshape(-1, 2)
    mean, spread = moments.T
    with np.errstate(divide="ignore", invalid="ignore"):
        adjusted = np.where(spread > 0, (overlap - mean) / (1 - mean), np.nan)
    return pd.DataFrame(
        {
            "role": earlier.role,
            "side": side.value,
            "layer": earlier.layer,
            "next_layer": later.layer,
            "k": k,
            "overlap": overlap.astype(np.float64),
            "null_mean": mean,
            "null_sd": spread,
            "adjusted_overlap": adjusted,
        }
    )
