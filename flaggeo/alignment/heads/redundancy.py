"""Groups of attention heads of one role that read or write nearly the same subspace."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...network.roles import head_pair
from ..schema import Column, Schema

CLUSTER_SCHEMA = Schema(
    "One row for each group of at least two heads of one role",
    (
        Column("role", "str", "role of the heads"),
        Column("cluster", "int64", "number within the role, the largest group first"),
        Column("size", "int64", "number of heads"),
        Column("overlap_effect_size", "float64", "mean over the pairs inside"),
        Column("overlap_excess", "float64", "mean over the pairs inside that have one"),
        Column("heads", "str", "names of the subspaces, separated by commas"),
    ),
)


def head_clusters(table: pd.DataFrame, *, least: float = 0.5) -> pd.DataFrame:
    """Groups of heads of one role whose subspaces nearly coincide, over all layers.

    Average linkage on one minus the effect size of the overlap: two groups are joined while the mean over all pairs
    between them is at least `least`.

    Parameters
    ----------
    table : pandas.DataFrame
        From `head_table`, with every pair of each role that it holds.
    least : float, optional
        The cut, as an effect size: 0 is what unrelated heads give and 1 one subspace. The default asks for
        half of what two heads could share beyond that; a tenth lies 50 standard deviations above the mean of
        unrelated heads for heads of GPT-2 small, and is still far from the same subspace.

    Returns
    -------
    clusters : pandas.DataFrame
        The columns are those of `CLUSTER_SCHEMA`. Among groups of equal size the tightest comes first.

    Raises
    ------
    ValueError
        If `least` is not between 0 and 1.

    Notes
    -----
    Heads without an effect size (zero heads, and those that read the whole stream) join no group.

    Groups say that heads nearly coincide, not why: heads that are concentrated on the same few outlier channels form
    one too. Their excess, which counts from the largest of the nulls, is then near 0 or below.
    """
    if not 0 < least <= 1:
        raise ValueError(f"head_clusters needs a cut above 0 and at most 1; got {least}.")
    rows = []
    for kind, of_kind in table.groupby("kind", sort=False):
        role, other = head_pair(str(kind))
        if role != other:
            continue
        pairs = of_kind[of_kind["overlap_effect_size"].notna()]
        names, overlaps = _square(pairs)
        if len(names) == 0:
            continue
        # Rounding may leave a pair of equal heads a hair above 1.
        labels = _average_linkage(1 - overlaps.clip(max=1), 1 - least)
        groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
        found = [
            (len(group), *_means_inside(pairs, names[group]), ", ".join(names[group]))
            for group in groups
            if len(group) > 1
        ]
        found.sort(key=lambda cluster: (-cluster[0], -cluster[1]))
        rows += [(role, number, *cluster) for number, cluster in enumerate(found)]
    return CLUSTER_SCHEMA.frame(dict(zip(CLUSTER_SCHEMA.names, row, strict=True)) for row in rows)


def _average_linkage(distances: NDArray[np.float64], cut: float) -> NDArray[np.int32]:
    """Number of the group of each row."""
    from scipy.cluster.hierarchy import fcluster, linkage  # with the next a quarter of a second, and only with heads
    from scipy.spatial.distance import squareform

    groups: NDArray[np.int32] = fcluster(
        linkage(squareform(distances, checks=False), method="average"), t=cut, criterion="distance"
    )
    return groups


def _square(pairs: pd.DataFrame) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """Names of the heads in order of depth, and the symmetric matrix of the effect sizes of their overlaps."""
    names = pd.Index(pd.unique(pd.concat([pairs["source"], pairs["target"]])))
    # Two heads without a row, which read through one latent, count as unrelated.
    overlaps = np.eye(len(names))
    first, second = names.get_indexer(pairs["source"]), names.get_indexer(pairs["target"])
    overlaps[first, second] = overlaps[second, first] = pairs["overlap_effect_size"]
    return names.to_numpy(dtype=object), overlaps


def _means_inside(pairs: pd.DataFrame, names: NDArray[np.object_]) -> tuple[float, float]:
    """Means of effect size and excess over the pairs of these heads."""
    inside = pairs[pairs["source"].isin(names) & pairs["target"].isin(names)]
    return float(inside["overlap_effect_size"].mean()), float(inside["overlap_excess"].mean())
