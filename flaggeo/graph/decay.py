"""How alignment fades with the distance in depth."""

from math import nan

import numpy as np
import pandas as pd

from .edges import EDGE_WEIGHT

#: Mean excess at the shortest distance below which there is nothing to fade: two hundredths of the way from the
#: largest null to equal subspaces. An effect size, since in standard deviations of a null every value is large.
LEAST_EXCESS = 0.02

_ROLES = ["kind", "source_role", "target_role"]
DISTANCE_COLUMNS = (*_ROLES, "lag", "pairs", "overlap", "null_mean", "largest_null", "excess")
DECAY_COLUMNS = (*_ROLES, "lags", "nearest", "farthest", "length", "r_squared")


def distance_table(possible: pd.DataFrame) -> pd.DataFrame:
    """Mean overlap of all pairs of whole projections at each distance, kind by kind and role by role.

    Parameters
    ----------
    possible : pandas.DataFrame
        From `possible_pairs`.

    Returns
    -------
    table : pandas.DataFrame
        One row a kind, role of the earlier and of the later end, and ``lag`` in layers; the columns are
        `DISTANCE_COLUMNS`. All are means over the ``pairs``: ``overlap``, its mean ``null_mean`` for uniform (Haar)
        subspaces, the ``largest_null`` of each pair, which also keeps outlier channels, and ``excess``, the effect size
        over that null. It is below 0 where weights with the same outlier channels would overlap more.
    """
    whole = possible[(possible["source_head"] < 0) & (possible["target_head"] < 0) & possible["lag"].notna()]
    table = whole.groupby([*_ROLES, "lag"]).agg(
        pairs=("overlap", "size"),
        overlap=("overlap", "mean"),
        null_mean=("overlap_null_mean", "mean"),
        largest_null=("largest_null", "mean"),
        excess=(EDGE_WEIGHT, "mean"),
    )
    return table.reset_index()[list(DISTANCE_COLUMNS)]


def decay_table(distances: pd.DataFrame) -> pd.DataFrame:
    r"""Length over which the excess falls to 1 / e of itself.

    Least squares of :math:`a\, e^{-\mathrm{lag} / \ell}` to the mean excess at all distances of a layer or more.

    Parameters
    ----------
    distances : pandas.DataFrame
        From `distance_table`.

    Returns
    -------
    table : pandas.DataFrame
        One row a kind and pair of roles; the columns are `DECAY_COLUMNS`. ``nearest`` and ``farthest`` are the
        mean excess at the least and the greatest lag, ``lags`` their number, ``length`` is in layers, and ``r_squared``
        the share of the variance over lags that the curve accounts for. Both are NaN where nothing decays: fewer than
        three lags, a nearest excess below `LEAST_EXCESS`, or a best length beyond ten times the greatest lag.
    """
    rows = []
    for roles, group in distances[distances["lag"] >= 1].groupby(_ROLES):
        group = group.sort_values("lag")
        lags, excess = group["lag"].to_numpy(dtype="float64"), group["excess"].to_numpy(dtype="float64")
        fades = len(lags) >= 3 and excess[0] >= LEAST_EXCESS
        length, r_squared = _fit(lags, excess) if fades else (nan, nan)
        rows.append((*roles, len(lags), excess[0], excess[-1], length, r_squared))
    return pd.DataFrame(rows, columns=list(DECAY_COLUMNS))


def _fit(lags: np.ndarray, excess: np.ndarray) -> tuple[float, float]:
    """Length and share of the variance; for each length the best amplitude is linear."""
    from scipy.optimize import minimize_scalar  # a tenth of a second, and only needed with structure

    def misfit(log_length: float) -> float:
        curve = np.exp(-lags / np.exp(log_length))
        return float(np.square(excess - curve * (curve @ excess) / (curve @ curve)).sum())

    bounds = float(np.log(0.1)), float(np.log(10 * lags.max()))
    found = minimize_scalar(misfit, bounds=bounds, method="bounded")
    if found.x > bounds[1] - 1e-3:
        return nan, nan
    return float(np.exp(found.x)), 1 - found.fun / float(np.square(excess - excess.mean()).sum())
