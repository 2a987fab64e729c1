"""How the measurements of two analyses differ: every observable, every summary value, every edge."""

from math import nan
from typing import Any

import numpy as np
import pandas as pd

from ..alignment import observables
from ..results.analysis import Analysis

# Columns that say of what a number was measured; all text does as well.
_KEYS = ("layer", "gauge_fixed", "next_layer", "head", "lag")
_OBSERVABLE_COLUMNS = [
    *("observable", "table", "column", "rows", "mean_a", "mean_b", "mean_change"),
    *("at", "a", "b", "change", "relative_change"),
]
_SIZES = {"dim", "layer_pairs", "far_lag"}


def summary_table(first: Analysis, second: Analysis) -> pd.DataFrame:
    """Every number of the two summaries: one row a role, side and column, with ``a``, ``b`` and ``change``."""
    keys = ["role", "side", "column"]
    if first.summary.empty or second.summary.empty:
        return pd.DataFrame(columns=[*keys, "a", "b", "change"]).astype(dict.fromkeys("ab", "float64"))
    tables = []
    for analysis, name in ((first, "a"), (second, "b")):
        numbers = [
            column
            for column, dtype in analysis.summary.dtypes.items()
            if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype) and column not in _SIZES
        ]
        tables.append(analysis.summary.melt(keys[:2], numbers, keys[2], name))
    table = tables[0].merge(tables[1], on=keys).astype({"a": "float64", "b": "float64"})
    table["change"] = table["b"] - table["a"]
    return table[table["change"].notna()].reset_index(drop=True)


def observables_table(first: Analysis, second: Analysis) -> pd.DataFrame:
    """Change of every observable: one row each, with what changed most.

    Returns
    -------
    table : pandas.DataFrame
        ``observable``, its ``table`` and ``column``, the number of ``rows`` that both have, ``mean_a``,
        ``mean_b``, ``mean_change`` (of absolute changes), and the largest change: ``at`` (the pair or role), ``a``,
        ``b``, ``change``, and ``relative_change`` in standard deviations of the first network's number over its rows:
        the one unit in which counts, angles and cosines can be ranked. NaN where all rows have the same number.
    """
    rows: list[dict[str, Any]] = []
    for observable in observables():
        tables = [getattr(analysis, observable.table) for analysis in (first, second)]
        if any(table.empty or observable.column not in table for table in tables):
            continue
        keys = [key for key in tables[0].columns if key in tables[1] and _is_key(tables[0], key)]
        both = tables[0][[*keys, observable.column]].merge(
            tables[1][[*keys, observable.column]], on=keys, suffixes=("_a", "_b")
        )
        a, b = both[f"{observable.column}_a"], both[f"{observable.column}_b"]
        change = (b - a).astype("float64")
        if not change.notna().any():
            continue
        largest, spread = change.abs().idxmax(), a.astype("float64").std()
        rows.append(
            {"observable": observable.title, "table": observable.table, "column": observable.column}
            | {"rows": int(change.notna().sum()), "mean_a": a.mean(), "mean_b": b.mean()}
            | {"mean_change": change.abs().mean(), "a": a[largest], "b": b[largest], "change": change[largest]}
            | {"relative_change": change[largest] / spread if spread > 0 else nan}
            | {"at": _name(both.loc[largest])}
        )
    return pd.DataFrame(rows, columns=_OBSERVABLE_COLUMNS)


def _is_key(table: pd.DataFrame, column: str) -> bool:
    return column in _KEYS or pd.api.types.is_string_dtype(table[column].dtype)


def _name(row: "pd.Series[Any]") -> str:
    """What a row of a table of measurements is about."""
    if "source" in row:
        return f"{row['source']} and {row['target']}"
    if "name" in row:
        return f"{row['name']}{', balanced' if row['gauge_fixed'] else ''}"
    end = f"{row['role']}.{row['side']}"
    return f"layers.{row['layer']}.{end} and layers.{row['next_layer']}.{end}" if "layer" in row else end


def pairs_table(first: Analysis, second: Analysis) -> pd.DataFrame:
    """Overlap of every pair of subspaces in both, the largest changes first.

    Returns
    -------
    table : pandas.DataFrame
        ``source``, ``target``, ``space``, ``kind``, ``overlap_a``, ``overlap_b``, ``change``, ``overlap_null_mean``
        of the first, and ``edge``: whether the alignment graph has the pair in both (``kept``), in the second alone
        (``appeared``), in the first alone (``vanished``) or in neither (empty). An edge is among the few strongest
        at one of its ends, so that one may vanish because others grew: look at the overlaps.
    """
    keys = ["source", "target", "space", "kind"]
    table = first.pairs[[*keys, "overlap", "overlap_null_mean"]].merge(
        second.pairs[[*keys, "overlap"]], on=keys, suffixes=("_a", "_b")
    )
    table["change"] = table["overlap_b"] - table["overlap_a"]
    edges = [set(analysis.graph.edges(keys=True)) for analysis in (first, second)]
    found = list(zip(table["source"], table["target"], table["kind"], strict=True))
    before, after = (np.array([edge in of_graph for edge in found], dtype=bool) for of_graph in edges)
    table["edge"] = np.select([before & after, after, before], ["kept", "appeared", "vanished"], "")
    order = table["change"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order, [*keys, "overlap_a", "overlap_b", "change", "overlap_null_mean", "edge"]].reset_index(
        drop=True
    )
