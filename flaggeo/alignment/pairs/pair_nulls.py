"""What unrelated subspaces give, for every number that is measured of a pair."""

from collections.abc import Mapping
from math import nan

import pandas as pd
from torch import Tensor

from ..schema import Column, Schema
from . import pair_table as pairs
from .subspace_pair import SubspacePair

_DIMENSIONS = ("dim", "first_rank", "second_rank")
PAIR_NULL_SCHEMA = Schema(
    "One row for each combination of dimensions that occurs among the pairs, and each number measured of them",
    (
        Column("dim", "int64", "dimension of the space"),
        Column("first_rank", "int64", "dimension of the source"),
        Column("second_rank", "int64", "dimension of the target"),
        Column("column", "str", "column of the table of pairs"),
        Column("null_mean", "float64", "its mean for unrelated (Haar) subspaces, in the units of the column"),
        Column("null_sd", "float64", "its standard deviation"),
    ),
)


def pair_null_table(table: pd.DataFrame, frames: Mapping[str, Tensor]) -> pd.DataFrame:
    """Mean and spread of every number in a table of pairs, for unrelated subspaces.

    They depend on dimensions alone, so that one row serves all pairs of the same ones.

    Parameters
    ----------
    table : pandas.DataFrame
        From `pair_table`.
    frames : mapping of str to Tensor, shape=[dim, rank]
        By name of the subspace, such as ``Analysis.bases``.

    Returns
    -------
    nulls : pandas.DataFrame
        The columns are those of `PAIR_NULL_SCHEMA`. docs/observables.md says how exact each law is.

    Examples
    --------
    >>> import torch
    >>> pairs = pd.DataFrame({"source": ["a"], "target": ["b"]})
    >>> nulls = pair_null_table(pairs, {"a": torch.eye(12)[:, :2], "b": torch.eye(12)[:, :3]})
    >>> float(nulls.set_index("column").loc["overlap", "null_mean"])
    0.25
    """
    dims = pd.Series({name: frame.shape[0] for name, frame in frames.items()})
    ranks = pd.Series({name: frame.shape[-1] for name, frame in frames.items()})
    ends = pd.DataFrame(
        {
            "dim": dims.reindex(table["source"]).to_numpy(),
            "first_rank": ranks.reindex(table["source"]).to_numpy(),
            "second_rank": ranks.reindex(table["target"]).to_numpy(),
        },
        index=table.index,
    )
    dimensions = list(_DIMENSIONS)
    one_of_each = ends.join(table[["source", "target"]]).drop_duplicates(dimensions).sort_values(dimensions)
    rows = []
    for dim, first, second, source, target in one_of_each.itertuples(index=False):
        pair = SubspacePair(frames[source], frames[target])
        for observable in pairs.PAIR_OBSERVABLES:
            moments = map(float, observable.null.law(pair)) if observable.null.law else (nan, nan)
            rows.append((dim, first, second, observable.column, *moments))
    return PAIR_NULL_SCHEMA.frame(
        dict(zip(PAIR_NULL_SCHEMA.names, zip(*rows, strict=True), strict=True)) if rows else ()
    )
