"""A record as flat numbers by name, for whatever logs them."""

from collections.abc import Iterator, Mapping
from math import isfinite

import pandas as pd


def flat_numbers(tables: Mapping[str, pd.DataFrame]) -> dict[str, float]:
    """Means over the layers of what a record has, without single heads; numbers that are missing are left out.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Of a record.

    Returns
    -------
    numbers : dict of str to float
        ``continuity/q.read`` (absolute cosine of first singular vectors of neighbouring layers),
        ``layer_overlap/q.read``, ``drift_degrees/q.read`` (root mean square angle from the reference step),
        ``stable_rank/q``; for interfaces ``imbalance/up-down``, ``unit_imbalance/up-down``, ``commutator/up-down``; for
        each chosen pair
        ``overlap/layers.0.down.write-layers.1.q.read``. Layers that share no space have no continuity.
    """
    return {name: value for name, value in _numbers(tables) if isfinite(value)}


def _numbers(tables: Mapping[str, pd.DataFrame]) -> Iterator[tuple[str, float]]:
    continuity, drift = tables["continuity"], tables["drift"]
    by_side = ["role", "side"]
    shared = continuity[continuity["shared_space"]]
    yield from _means(shared, by_side, {"abs_cos_1": "continuity", "overlap": "layer_overlap"})
    drift, weights = (one[one["head"].isna()] for one in (drift[drift["since"] == "first"], tables["weights"]))
    yield from _means(drift, by_side, {"rms_angle": "drift_degrees"})
    yield from _means(weights, ["role"], {"stable_rank": "stable_rank"})
    titles = {"window_imbalance": "imbalance", "unit_imbalance": "unit_imbalance", "window_rho": "commutator"}
    yield from _means(tables["interfaces"], ["kind"], titles)
    for row in tables["pairs"].to_dict("records"):
        yield f"overlap/{row['source']}-{row['target']}", row["overlap"]


def _means(table: pd.DataFrame, keys: list[str], titles: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    means = table.groupby(keys, sort=False)[list(titles)].mean()
    for column, title in titles.items():
        for key, value in means[column].items():
            place = ".".join(key) if isinstance(key, tuple) else str(key)
            yield f"{title}/{place}", float(value)
