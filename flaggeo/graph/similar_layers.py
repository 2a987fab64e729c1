"""Neighbouring layers that read and write alike."""

from itertools import pairwise

import pandas as pd

from .edges import EDGE_WEIGHT, SYMMETRIC_KINDS
from .null_graphs import z_score

BLOCK_COLUMNS = (
    "layer",
    "next_layer",
    "value",
    "reads",
    "writes",
    "roles",
    "null_mean",
    "null_sd",
    "z",
    "null_largest",
)


def block_table(possible: pd.DataFrame) -> pd.DataFrame:
    """How alike neighbouring layers are, the most alike first: a suggestion that the geometry alone makes.

    Parameters
    ----------
    possible : pandas.DataFrame
        From `possible_pairs`.

    Returns
    -------
    table : pandas.DataFrame
        One row a pair of neighbouring layers; the columns are `BLOCK_COLUMNS`. ``value`` is the mean strength over the
        ``roles`` whose subspaces lie in a space that both layers share, role with the same role; ``reads`` and
        ``writes`` are the means of the two sides. Null: layers of this network that are no neighbours, by mean, spread
        and largest; NaN where there are fewer than two such pairs.

    Notes
    -----
    Alike leading subspaces are what sharing a basis between two layers, or dropping one of them, would need. They
    do not show that it would work: singular values, the maps between the subspaces and the function of the
    layers are not compared, and no data was run.

    References
    ----------
    docs/measurements.md, "Continuity across layers".
    """
    alike = possible[
        (possible["source_head"] < 0)
        & (possible["target_head"] < 0)
        & (possible["source_role"] == possible["target_role"])
        & possible["kind"].isin(SYMMETRIC_KINDS)
        & (possible["lag"] >= 1).fillna(False)
    ]
    layers = ["source_layer", "target_layer"]
    sides = alike.pivot_table(index=layers, columns="source_side", values=EDGE_WEIGHT, aggfunc="mean")
    table = alike.groupby(layers).agg(value=(EDGE_WEIGHT, "mean"), roles=(EDGE_WEIGHT, "size"))
    table = table.join(sides.reindex(columns=["read", "write"])).reset_index()
    names = {"source_layer": "layer", "target_layer": "next_layer", "read": "reads", "write": "writes"}
    table = table.rename(columns=names)
    follows = table["next_layer"] == table["layer"].map(_successor(table))
    others = table.loc[~follows, "value"]
    table = table[follows].assign(null_mean=others.mean(), null_sd=others.std(), null_largest=others.max())
    table["z"] = z_score(table)
    table = table.sort_values(["value", "layer"], ascending=[False, True], ignore_index=True)
    return table[list(BLOCK_COLUMNS)]


def _successor(table: pd.DataFrame) -> dict[int, int]:
    """The next layer that was analysed."""
    layers = sorted({*table["layer"], *table["next_layer"]})
    return dict(pairwise(layers))
