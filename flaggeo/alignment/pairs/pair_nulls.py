"""What unrelated subspaces give, for every number that is measured of a pair."""

from collections.abc import Mapping
from math import nan

import pandas as pd
from torch import Tensor

from .overlap import PAIR_OBSERVABLES
from .subspace_pair import SubspacePair

CHANCE_COLUMNS = ("dim", "first_rank", "second_rank", "column", "null_mean", "null_sd")


def chance_table(pairs: pd.DataFrame, frames: Mapping[str, Tensor]) -> pd.DataFrame:
    """Mean and spread of every number in a table of pairs, for unrelated subspaces.

    These depend on dimensions alone, so one row serves all pairs of the same ones.

    Parameters
    ----------
    pairs : pandas.DataFrame
        From `pair_table`.
    frames : mapping of str to Tensor, shape=[dim, rank]
        By name of the subspace, such as ``Analysis.bases``.

    Returns
    -------
    table : pandas.DataFrame
        One row a combination of dimensions that occurs in `pairs` and a column there; the columns are
        `CHANCE_COLUMNS`. ``dim`` is that of the space, ``first_rank`` and ``second_rank`` are those of source and
        target. ``null_mean`` and ``null_sd`` come from ``null_moments`` of the observable, which says how exact they
        are; NaN where it has none. In the units of the column.

    Examples
    --------
    >>> import torch
    >>> pairs = pd.DataFrame({"source": ["a"], "target": ["b"]})
    >>> table = chance_table(pairs, {"a": torch.eye(12)[:, :2], "b": torch.eye(12)[:, :3]})
    >>> float(table.set_index("column").loc["overlap", "null_mean"])
    0.25
    """
    dims = pd.Series({name: frame.shape[0] for name, frame in frames.items()})
    ranks = pd.Series({name: frame.shape[-1] for name, frame in frames.items()})
    ends = pd.DataFrame(
        {
            "dim": dims.reindex(pairs["source"]).to_numpy(),
            "first_rank": ranks.reindex(pairs["source"]).to_numpy(),
            "second_rank": ranks.reindex(pairs["target"]).to_numpy(),
        },
        index=pairs.index,
    )
    dimensions = list(ends.columns)
    one_of_each = ends.join(pairs[["source", "target"]]).drop_duplicates(dimensions).sort_values(dimensions)
    rows = []
    for dim, first, second, source, target in one_of_each.itertuples(index=False):
        pair = SubspacePair(frames[source], frames[target])
        for observable in PAIR_OBSERVABLES:
            moments = map(float, observable.null_moments(pair)) if observable.null_moments else (nan, nan)
            rows.append((dim, first, second, observable.column, *moments))
    table = pd.DataFrame(rows, columns=list(CHANCE_COLUMNS))
    return table.astype(dict.fromkeys(dimensions, "int64") | {"null_mean": "float64", "null_sd": "float64"})
