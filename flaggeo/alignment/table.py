"""From observables and a batch of pairs to columns: values, nulls, effect sizes and tests, in one place for all."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from .observable import Observable

Array = NDArray[np.float64]
#: Drawn mean and standard deviation of observables whose null has no law, by column.
Drawn = Mapping[str, tuple[Any, Any]]


def measured(observables: Iterable[Observable[Any]], pair: Any, drawn: Drawn | None = None) -> dict[str, Array]:
    """Every observable of a pair or a batch of pairs, beside its nulls.

    Parameters
    ----------
    observables : iterable of Observable
        Of one kind of pair.
    pair : any
        Of that kind.
    drawn : mapping, optional
        Moments of the nulls without a law; NaN for those that it lacks.

    Returns
    -------
    columns : dict of str to ndarray of float64, shape=[...] of the batch
        By name of the column. A number is NaN where its null allows one value only: nothing was measured then.
    """
    columns: dict[str, Array] = {}
    for observable in observables:
        columns |= beside_nulls(observable, observable.measure(pair), pair, drawn)
        columns |= {column.name: _array(measure(pair)) for column, measure in observable.companions}
    return columns


def beside_nulls(observable: Observable[Any], value: Any, pair: Any, drawn: Drawn | None = None) -> dict[str, Array]:
    """Columns of one observable whose values are known already, see `measured`."""
    name, number = observable.column, _array(value)
    columns = {name: number}
    means, floors = [], []
    for null in observable.nulls:
        moment, sd = null.law(pair) if null.law else (drawn or {}).get(name, (np.nan, np.nan))
        columns[null.moment_column(name)] = mean = np.broadcast_to(_array(moment), number.shape)
        means.append(mean)
        if null.has_sd:
            columns[f"{name}_{null.name}_sd"] = np.broadcast_to(_array(sd), number.shape)
        if null.p_value:
            columns[null.p_value_column(name)], floor = map(_array, null.p_value(pair))
            floors.append(np.broadcast_to(floor, number.shape))
    if observable.has_effect_size:
        assert observable.aligned is not None
        room = columns.get(f"{name}_{observable.null.name}_sd", np.ones_like(number)) != 0
        size = effect_size(number, means[0], observable.aligned, observable.tolerance)
        columns[f"{name}_effect_size"] = np.where(room, size, np.nan)
        if observable.further_nulls:
            strictest = (np.fmax if observable.rises_with_alignment else np.fmin).reduce(means)
            columns[f"{name}_excess"] = effect_size(number, strictest, observable.aligned, observable.tolerance)
    if floors:
        with np.errstate(divide="ignore", invalid="ignore"):
            sd = columns[f"{name}_null_sd"]
            columns[f"{name}_z"] = np.where(sd > 0, (number - means[0]) / sd, np.nan)
        columns[f"{name}_p_value_floor"] = np.maximum.reduce(floors)
    return columns


def effect_size(value: Any, null: Any, aligned: float = 1.0, tolerance: float = 1e-6) -> Array:
    """Share of the way from what a null gives to perfect alignment, (value - null) / (aligned - null).

    NaN where the null leaves no more room than `tolerance`.
    """
    room = np.asarray(aligned - _array(null))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.abs(room) > tolerance, (_array(value) - null) / room, np.nan)


def q_values(
    table: pd.DataFrame, observable: Observable[Any], family: str, sizes: Mapping[str, int] | None = None
) -> "pd.Series[float]":
    """False discovery rate among the rows of a family whose largest p-value is as small (Benjamini-Hochberg).

    Parameters
    ----------
    table : pandas.DataFrame
        With the columns of p-values of the observable.
    observable : Observable
    family : str
        Column: rows with equal values there are tested together.
    sizes : mapping of str to int, optional
        How many tests each family has, by its value, where the table lacks those that are not significant.

    Returns
    -------
    q_values : pandas.Series
        In [0, 1], with the index of the rows that have a p-value. A row has to be improbable under every null, hence
        the largest p-value.

    References
    ----------
    Y. Benjamini and Y. Hochberg, Controlling the false discovery rate, J. R. Statist. Soc. B 57 (1995).
    """
    p_value = table[observable.p_value_columns].max(axis="columns").dropna()

    def rates(of_family: "pd.Series[float]") -> Array:
        tests = len(of_family) if sizes is None else sizes[str(of_family.name)]
        return _false_discovery_rates(_array(of_family), tests)

    return p_value.groupby(table[family]).transform(rates)


def _false_discovery_rates(p_values: Array, tests: int) -> Array:
    """Of Benjamini and Hochberg, in the order of the p-values; `scipy.stats` has them too, and takes long to import."""
    ascending = np.argsort(p_values)
    scaled = p_values[ascending] * (tests / np.arange(1, len(ascending) + 1))
    rates = np.empty(len(ascending))
    rates[ascending] = np.minimum.accumulate(scaled[::-1])[::-1].clip(max=1)
    return rates


def _array(numbers: Any) -> Array:
    if isinstance(numbers, Tensor):
        numbers = numbers.detach().cpu().numpy()
    return np.asarray(numbers, dtype=np.float64)
