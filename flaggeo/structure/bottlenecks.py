"""Bottleneck spaces: how few dimensions all readings, or all writings, of a space use together."""

import numpy as np
import pandas as pd

from .null_graphs import z_score

BOTTLENECK_COLUMNS = (
    "space",
    "side",
    "subspaces",
    "total_rank",
    "dimension",
    "value",
    "null_mean",
    "null_sd",
    "z",
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
        One row a space and side of at least two subspaces, the narrowest against chance first; the columns are
        `BOTTLENECK_COLUMNS`. ``value`` is the effective dimension. For independent uniform (Haar) subspaces the mean
        of :math:`\operatorname{tr} S^2` is exact, its variance is the sum of those of the pairs, which are
        uncorrelated, and ``null_mean`` and ``null_sd`` follow to first order. ``share_of_null`` is value over
        null_mean.

    Notes
    -----
    Heads are left out of spaces that whole projections meet, which contain them. Only the leading directions that
    the analysis kept are counted, all alike, so a value well below ``dimension`` says that layers use the same
    directions first, not that the others are idle. A few loud channels narrow the writings too.

    References
    ----------
    theory/alignment, sections 2.5 and 6.1 (mean and variance of the overlap).
    """
    has_whole = nodes["head"].lt(0).groupby([nodes["space"], nodes["side"]]).transform("any")
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
                "null": 2 * inside["null_mean"] * smaller,
                "variance": (2 * inside["null_sd"] * smaller) ** 2,
            }
        )
        .groupby(["space", "side"])
        .sum()
    )
    groups = subspaces.groupby(["space", "side"])
    table = groups.agg(subspaces=("rank", "size"), total_rank=("rank", "sum"), dimension=("dimension", "first"))
    table = table.join(pair_sums, how="inner")
    squared = table["total_rank"].astype("float64") ** 2
    null_square = table["total_rank"] + table["null"]
    table["value"] = squared / (table["total_rank"] + table["shared"])
    table["null_mean"] = squared / null_square
    table["null_sd"] = squared / null_square**2 * np.sqrt(table["variance"])
    table["z"] = z_score(table)
    table["share_of_null"] = table["value"] / table["null_mean"]
    table = table.sort_values("share_of_null", kind="stable").reset_index()
    return table[list(BOTTLENECK_COLUMNS)]
