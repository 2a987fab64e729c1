"""Rank correlations with intervals, where pairs share the heads that they are made of."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .effects import Array

# Bootstrap samples: the ends of the interval have a standard error of about .01 then.
_SAMPLES = 2000
_CENTRAL = (2.5, 97.5)


@dataclass(frozen=True)
class Estimate:
    """A number with the central 95 % of its bootstrap samples.

    Attributes
    ----------
    value, low, high : float
    count : int
        Rows behind it.
    """

    value: float
    low: float
    high: float
    count: int


def rank_correlation(
    first: "pd.Series[float]",
    second: "pd.Series[float]",
    units: pd.DataFrame,
    *,
    within: "pd.Series[int] | None" = None,
    seed: int = 0,
) -> Estimate:
    """Spearman's correlation of two columns; the bootstrap draws units, of which a row may have several.

    Parameters
    ----------
    first, second : Series of float
        Rows where one of them is missing are left out.
    units : DataFrame, one row each
        The units (heads, layers) that a row is made of, by column. A row counts as often in a sample as the product of
        the times that its units were drawn. Drawing rows would take pairs of one head as independent.
    within : Series, optional
        Groups whose rows are ranked among themselves, so that no difference between groups counts.
    seed : int, optional
        Of the bootstrap.

    Returns
    -------
    estimate : Estimate
        Samples keep the ranks of the whole.
    """
    rows = pd.DataFrame({"first": first, "second": second, "group": 0 if within is None else within})
    rows = rows.join(units.add_prefix("unit_")).dropna()
    grouped = rows.groupby("group")[["first", "second"]]
    ranks = grouped.rank()
    centred = (ranks - ranks.groupby(rows["group"]).transform("mean")).to_numpy()
    if len(rows) < 3 or not centred.any(axis=0).all():
        return Estimate(np.nan, np.nan, np.nan, len(rows))
    moments = np.stack([centred[:, 0] * centred[:, 1], centred[:, 0] ** 2, centred[:, 1] ** 2], axis=1)
    drawn = [_correlation(weights @ moments) for weights in _weights(rows.filter(like="unit_"), seed)]
    low, high = np.nanpercentile(drawn, _CENTRAL)
    return Estimate(_correlation(moments.sum(axis=0)), float(low), float(high), len(rows))


def mean_difference(first: "pd.Series[float]", second: "pd.Series[float]", *, seed: int = 0) -> Estimate:
    """Mean of the differences of two columns over their rows, which the bootstrap draws."""
    differences = (first - second).dropna()
    if differences.empty:
        return Estimate(np.nan, np.nan, np.nan, 0)
    weights = np.stack(list(_weights(pd.DataFrame({"row": differences.index}), seed)))
    low, high = np.percentile(weights @ differences / weights.sum(axis=1), _CENTRAL)
    return Estimate(float(differences.mean()), float(low), float(high), len(differences))


def _weights(units: pd.DataFrame, seed: int) -> Iterator[Array]:
    """How often each row is in each of the samples."""
    names = np.unique(units.to_numpy())
    places = np.searchsorted(names, units.to_numpy())
    generator = np.random.default_rng(seed)
    counts = (generator.multinomial(len(names), np.full(len(names), 1 / len(names))) for _ in range(_SAMPLES))
    return (count[places].prod(axis=1).astype(float) for count in counts)


def _correlation(moments: Array) -> float:
    product, first, second = moments
    return float(product / np.sqrt(first * second)) if first > 0 and second > 0 else np.nan
