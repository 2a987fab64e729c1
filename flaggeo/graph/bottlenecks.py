"""Bottleneck spaces: how few dimensions all readings, or all writings, of a space use together."""

import pandas as pd

from .edges import NULL_MEANS

# The largest null of a pair that takes no account of a common mean.
_OF_OUTLIER_CHANNELS = [name for name in NULL_MEANS if name != "overlap_mean_matched_mean"]

BOTTLENECK_COLUMNS = (
    "space",
    "side",
    "subspaces",
    "total_rank",
    "dimension",
    "value",
    "null_mean",
    "largest_null",
    "outlier_null",
    "matched",
    "share_of_null",
)


def bottleneck_table(possible: pd.DataFrame, nodes: pd.DataFrame) -> pd.DataFrame:
    r"""Effective dimension of the sum of the projectors onto all readings, and onto all writings, of each space.

    With projectors :math:`P_i` of ranks :math:`k_i` and :math:`S = \sum_i P_i`,

    .. math::
        d_\mathrm{eff} = \frac{(\operatorname{tr} S)^2}{\operatorname{tr} S^2}, \qquad
        \operatorname{tr} S = \sum_i k_i, \qquad
        \operatorname{tr} S^2 = \sum_i k_i + 2 \sum_{i<j} \omega_{ij} \min(k_i, k_j),

    the participation ratio of the eigenvalues of S: as many dimensions as would carry S if all carried it equally.
    Equal subspaces of rank k give k, orthogonal ones their total rank. No projector is formed.

    Parameters
    ----------
    possible : pandas.DataFrame
        From `possible_pairs`; has all pairs of one side in one space.
    nodes : pandas.DataFrame
        From `node_table`.

    Returns
    -------
    table : pandas.DataFrame
        One row a space and side of at least two subspaces, the narrowest against its largest null first; the columns
        are `BOTTLENECK_COLUMNS`. ``value`` is the effective dimension. The nulls put the mean overlap that each pair
        has under them in the place of its overlap, which is right to first order: ``null_mean`` that of uniform (Haar)
        subspaces, ``largest_null`` the largest of each pair, which also keeps outlier channels and a common mean, and
        ``outlier_null`` the largest without the one that keeps the mean. ``matched`` is the
        share of pairs whose norm-matched null was drawn. ``share_of_null`` is value over largest_null.

    Notes
    -----
    A few outlier channels narrow readings and writings by themselves, so few dimensions beside the Haar null alone are
    no bottleneck. There is no z: the spread of the largest null is not known, and that of the Haar null is so small
    that everything is many spreads away from it.

    A projection that stands here as a whole contains its heads, which are then left out. Only the leading directions
    that the analysis kept are counted, all alike, so a value well below ``dimension`` says that layers use the same
    directions first, not that the others are idle.

    References
    ----------
    docs/measurements.md, "Unrelated weights"; `flaggeo.alignment.chance.sign_flip.leverages`.
    """
    projection = [nodes[name] for name in ("space", "side", "role", "layer")]
    has_whole = nodes["head"].lt(0).groupby(projection).transform("any")
    subspaces = nodes[(nodes["head"] < 0) | ~has_whole]
    inside = possible[possible["source"].isin(subspaces.index) & possible["target"].isin(subspaces.index)]
    inside = inside[inside["source_side"] == inside["target_side"]]
    smaller = inside[["source_rank", "target_rank"]].min(axis=1)
    pair_sums = (
        pd.DataFrame(
            {
                "space": inside["space"],
                "side": inside["source_side"],
                "shared": 2 * inside["overlap"] * smaller,
                "haar": 2 * inside["overlap_null_mean"] * smaller,
                "largest": 2 * inside["largest_null"] * smaller,
                "outlier": 2 * inside[_OF_OUTLIER_CHANNELS].max(axis="columns") * smaller,
                "pairs": 1,
                "drawn": inside["overlap_norm_matched_mean"].notna(),
            }
        )
        .groupby(["space", "side"])
        .sum()
    )
    groups = subspaces.groupby(["space", "side"])
    table = groups.agg(subspaces=("rank", "size"), total_rank=("rank", "sum"), dimension=("dimension", "first"))
    table = table.join(pair_sums, how="inner")
    squared = table["total_rank"].astype("float64") ** 2
    columns = {"value": "shared", "null_mean": "haar", "largest_null": "largest", "outlier_null": "outlier"}
    for name, overlaps in columns.items():
        table[name] = squared / (table["total_rank"] + table[overlaps])
    table["matched"] = table["drawn"] / table["pairs"]
    table["share_of_null"] = table["value"] / table["largest_null"]
    table = table.sort_values("share_of_null", kind="stable").reset_index()
    return table[list(BOTTLENECK_COLUMNS)]
