"""How alignment fades with the distance in depth."""

from math import nan

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar

from .edges import EDGE_WEIGHT

#: Mean alignment at the shortest distance, in spreads of its null, below which there is nothing to fade.
LEAST_Z = 3.0

_ROLES = ["kind", "source_role", "target_role"]
DISTANCE_COLUMNS = (*_ROLES, "lag", "pairs", "overlap", "null_mean", "adjusted", "null_sd", "z")
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
        `DISTANCE_COLUMNS`. ``adjusted`` is the mean strength, 0 for unrelated (Haar) subspaces, ``null_sd`` its spread
        for these and ``z`` their quotient.
    """
    whole = possible[(possible["source_head"] < 0) & (possible["target_head"] < 0) & possible["lag"].notna()]
    groups = whole.assign(variance=(whole["null_sd"] / (1 - whole["null_mean"])) ** 2).groupby([*_ROLES, "lag"])
    table = groups.agg(
        pairs=("overlap", "size"),
        overlap=("overlap", "mean"),
        null_mean=("null_mean", "mean"),
        adjusted=(EDGE_WEIGHT, "mean"),
        variance=("variance", "sum"),
    ).reset_index()
    # Overlaps of independent uniform subspaces are uncorrelated, also where two pairs share one.
    table["null_sd"] = np.sqrt(table["variance"]) / table["pairs"]
    table["z"] = table["adjusted"] / table["null_sd"]
    return table[list(DISTANCE_COLUMNS)]


def decay_table(distances: pd.DataFrame) -> pd.DataFrame:
    r"""Length over which alignment falls to 1 / e of itself.

    Least squares of :math:`a\, e^{-\mathrm{lag} / \ell}` to the mean strength at all distances of a layer or more.

    Parameters
    ----------
    distances : pandas.DataFrame
        From `distance_table`.

    Returns
    -------
    table : pandas.DataFrame
        One row a kind and pair of roles; the columns are `DECAY_COLUMNS`. ``nearest`` and ``farthest`` are the
        strengths at the least and the greatest lag, ``lags`` their number, ``length`` is in layers, and ``r_squared``
        the share of the variance over lags that the curve accounts for. Both are NaN where nothing decays: fewer than
        three lags, alignment at the shortest not `LEAST_Z` spreads above chance, or a best length beyond ten times the
        greatest lag.
    """
    rows = []
    for roles, group in distances[distances["lag"] >= 1].groupby(_ROLES):
        group = group.sort_values("lag")
        lags, strengths = group["lag"].to_numpy(dtype="float64"), group["adjusted"].to_numpy(dtype="float64")
        fades = len(lags) >= 3 and group["z"].iloc[0] >= LEAST_Z
        length, r_squared = _fit(lags, strengths) if fades else (nan, nan)
        rows.append((*roles, len(lags), strengths[0], strengths[-1], length, r_squared))
    return pd.DataFrame(rows, columns=list(DECAY_COLUMNS))


def _fit(lags: np.ndarray, strengths: np.ndarray) -> tuple[float, float]:
    """Length and share of the variance; for each length the best amplitude is linear."""

    def misfit(log_length: float) -> float:
        curve = np.exp(-lags / np.exp(log_length))
        return float(np.square(strengths - curve * (curve @ strengths) / (curve @ curve)).sum())

    bounds = float(np.log(0.1)), float(np.log(10 * lags.max()))
    found = minimize_scalar(misfit, bounds=bounds, method="bounded")
    if found.x > bounds[1] - 1e-3:
        return nan, nan
    return float(np.exp(found.x)), 1 - found.fun / float(np.square(strengths - strengths.mean()).sum())
