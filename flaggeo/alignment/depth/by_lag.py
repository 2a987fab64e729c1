"""Continuity against distance: it decays along a smooth path, not where all layers share one global direction."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd
import torch

from manifolds import abs_cosine_moments, overlap_moments, pairwise_overlap

from ...network import Side, Weight
from ...numerics.spectrum import Spectrum
from .layer_pair import even_sides, is_shared, space_name

LAG_COLUMNS = (
    "role",
    "side",
    "lag",
    "pairs",
    "abs_cos_1",
    "null_mean",
    "null_sd",
    "overlap",
    "overlap_null_mean",
    "overlap_null_sd",
    "distant",
    "space",
    "shared_space",
)


def lag_table(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    """Continuity of every role on both sides at every distance in layers, counted along the role.

    Parameters
    ----------
    weights : iterable of Weight
        Heads and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        One row a role, side and lag; the columns are `LAG_COLUMNS`. ``abs_cos_1`` and ``overlap`` are means over
        the ``pairs`` of layers that far apart among those that the role has here; zero weights are left out, as are
        sides whose width changes with depth or is 1. The nulls are mean and spread of those means for unrelated
        weights; ``overlap`` is NaN where a subspace fills the space. ``distant`` is true from half of the depth on,
        and never at lag 1.

    Notes
    -----
    Mean over the distant lags, weighted by ``pairs``, beside lag 1: the distance baseline of the theory page. The
    pairs of one lag form chains without a cycle, in which unrelated pairs are independent: the spread of their
    mean is exactly that of one pair divided by the root of their number.

    References
    ----------
    theory/continuity, sections 2.2 and 2.5.
    """
    tables = [_profile(chain, side, spectra) for side, chain in even_sides(weights)]
    tables = [table for table in tables if len(table)]
    if not tables:
        numbers = dict.fromkeys(LAG_COLUMNS[4:10], "float64") | {"lag": "int64", "pairs": "int64"}
        return pd.DataFrame(columns=list(LAG_COLUMNS)).astype(numbers | {"distant": "bool", "shared_space": "bool"})
    return pd.concat(tables, ignore_index=True)


def _profile(chain: list[Weight], side: Side, spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    places = [place for place, weight in enumerate(chain) if spectra[weight.name].frame(side).shape[1]]
    if len(places) < 2:
        return pd.DataFrame(columns=list(LAG_COLUMNS))
    frames = [spectra[chain[place].name].frame(side) for place in places]
    firsts = torch.stack([frame[:, 0] for frame in frames])
    earlier, later = np.triu_indices(len(places), k=1)
    ranks = np.array([frame.shape[1] for frame in frames])
    n = len(frames[0])
    moments = np.full((len(places), len(places), 2), np.nan)
    for r, s in {(r, s) for r in ranks.tolist() for s in ranks.tolist() if max(r, s) < n}:
        moments[np.ix_(ranks == r, ranks == s)] = overlap_moments(n, r, s)
    mean, spread = abs_cosine_moments(n)
    pairs = pd.DataFrame(
        {
            "lag": np.array(places)[later] - np.array(places)[earlier],
            "abs_cos_1": (firsts @ firsts.mT).abs().clamp(max=1).cpu().numpy()[earlier, later],
            "overlap": pairwise_overlap(frames).clamp(0, 1).cpu().numpy()[earlier, later],
            "overlap_null_mean": moments[earlier, later, 0],
            "variance": moments[earlier, later, 1] ** 2,
        }
    )
    pairs.loc[pairs["variance"].isna(), "overlap"] = np.nan
    groups = pairs.groupby("lag")
    means = groups.mean().reset_index()
    count = groups.size().to_numpy()
    means["pairs"] = count
    means["distant"] = means["lag"] >= max(2, len(chain) // 2)
    means["null_mean"], means["null_sd"] = mean, spread / np.sqrt(count)
    means["overlap_null_sd"] = np.sqrt(means["variance"] / groups["variance"].count().to_numpy())
    means["role"], means["side"] = chain[0].role, side.value
    means["space"], means["shared_space"] = space_name(chain, side), is_shared(chain, side)
    return means[list(LAG_COLUMNS)]
