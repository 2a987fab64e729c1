"""Continuity against distance: it decays along a smooth path, and not where all layers share one direction."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch

from manifolds import abs_cosine_moments, pairwise_overlap

from ...network import Side, Weight
from ...numerics.spectrum import Spectrum
from ..chance.haar import Dimensions, haar_overlap
from ..schema import Column, Schema
from .layer_pair import COMMON_SPACE, ROLE, SIDE, even_sides, is_shared, space_name

BY_LAG_SCHEMA = Schema(
    "One row for each role, side and distance in layers",
    (
        ROLE,
        SIDE,
        Column("lag", "int64", "distance in layers, counted along the layers that have the role"),
        Column("pairs", "int64", "number of pairs of layers that far apart; the numbers are means over these"),
        Column("abs_cos_1", "float64", "mean |cos| of first singular vectors"),
        Column("abs_cos_1_null_mean", "float64", "the same for unrelated (Haar) directions, exact"),
        Column("abs_cos_1_null_sd", "float64", "its standard deviation, of a mean over so many pairs"),
        Column("overlap", "float64", "mean overlap of leading subspaces; missing where one fills the space"),
        Column("overlap_null_mean", "float64", "the same for unrelated (Haar) subspaces, exact"),
        Column("overlap_null_sd", "float64", "its standard deviation, of a mean over so many pairs"),
        Column("distant", "bool", "whether the lag is half of the depth or more, and at least 2"),
        *COMMON_SPACE,
    ),
)


def continuity_by_lag(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    """Continuity of every role on both sides at every distance in layers.

    Parameters
    ----------
    weights : iterable of Weight
        Heads, single experts and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        The columns are those of `BY_LAG_SCHEMA`. Zero weights are left out, as are sides whose width changes with depth
        or is 1.

    Notes
    -----
    The mean over the distant lags, weighted by ``pairs``, is the distance baseline beside lag 1. The pairs of one lag
    form chains without a cycle, in which unrelated pairs are independent: the spread of their mean is exactly that of
    one pair divided by the root of their number.
    """
    return BY_LAG_SCHEMA.concatenated(_profile(chain, side, spectra) for side, chain in even_sides(weights))


def _profile(chain: list[Weight], side: Side, spectra: Mapping[str, Spectrum]) -> dict[str, Any]:
    """Columns of one role and side."""
    places = [place for place, weight in enumerate(chain) if spectra[weight.name].frame(side).shape[1]]
    if len(places) < 2:
        return {}
    frames = [spectra[chain[place].name].frame(side) for place in places]
    firsts = torch.stack([frame[:, 0] for frame in frames])
    earlier, later = np.triu_indices(len(places), k=1)
    ranks = np.array([frame.shape[1] for frame in frames])
    n = len(frames[0])
    overlap_mean, overlap_sd = haar_overlap(Dimensions(n, (ranks[earlier], ranks[later])))
    mean, sd = abs_cosine_moments(n)
    lags, groups, count = np.unique(
        np.array(places)[later] - np.array(places)[earlier], return_inverse=True, return_counts=True
    )
    # Where a subspace is the whole space, the overlap says nothing.
    says = np.maximum(ranks[earlier], ranks[later]) < n
    having = np.bincount(groups[says], minlength=len(lags))
    numbers = {
        "overlap": pairwise_overlap(frames).clamp(0, 1).cpu().numpy()[earlier, later],
        "overlap_null_mean": overlap_mean,
        "overlap_null_sd": overlap_sd**2,
    }
    with np.errstate(invalid="ignore"):
        means = {
            name: np.bincount(groups[says], values[says], minlength=len(lags)) / having
            for name, values in numbers.items()
        }
        means["overlap_null_sd"] = np.sqrt(means["overlap_null_sd"] / having)
    cosines = (firsts @ firsts.mT).abs().clamp(max=1).cpu().numpy()[earlier, later]
    return (
        {"lag": lags, "abs_cos_1": np.bincount(groups, cosines) / count}
        | means
        | {"role": chain[0].role, "side": side.value, "pairs": count}
        | {"abs_cos_1_null_mean": mean, "abs_cos_1_null_sd": sd / np.sqrt(count)}
        | {"distant": lags >= max(2, len(chain) // 2)}
        | {"space": space_name(chain, side), "shared_space": is_shared(chain, side)}
    )
