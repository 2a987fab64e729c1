"""What an overlap says beside chance: the columns that stand next to it in every table."""

import numpy as np
from numpy.typing import NDArray

from manifolds import overlap_moments, overlap_p_value


def against_chance(
    overlap: NDArray[np.float64], dim: int, first_ranks: NDArray[np.int64], second_ranks: NDArray[np.int64]
) -> dict[str, NDArray[np.float64]]:
    """Projection overlaps beside those of independent uniform subspaces.

    Parameters
    ----------
    overlap : ndarray of float64, shape=[pairs]
    dim : int
        Of the common space.
    first_ranks, second_ranks : ndarray of int, shape=[pairs]
        Dimensions of the two subspaces.

    Returns
    -------
    columns : dict of str to ndarray, shape=[pairs]
        ``null_mean`` and ``null_sd`` of the overlap, exact; the effect size ``adjusted_overlap``, 1 where one
        subspace contains the other; ``z``; and ``p_value``, the chance of at least this overlap. Effect size
        and z are NaN where a subspace is the whole space, and everything is where one is zero.
    """
    mean, spread, p_value = (np.full_like(overlap, np.nan) for _ in range(3))
    for r, s in np.unique(np.column_stack([first_ranks, second_ranks]), axis=0).tolist():
        if 0 in (r, s):
            continue
        same = (first_ranks == r) & (second_ranks == s)
        mean[same], spread[same] = overlap_moments(dim, r, s)
        p_value[same] = overlap_p_value(overlap[same], dim, r, s)
    informative = spread > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        adjusted = np.where(informative, (overlap - mean) / (1 - mean), np.nan)
        z = np.where(informative, (overlap - mean) / spread, np.nan)
    return {"null_mean": mean, "null_sd": spread, "adjusted_overlap": adjusted, "z": z, "p_value": p_value}
