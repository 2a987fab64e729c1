"""The laws of overlaps and cosines of unrelated subspaces: independent and uniform (Haar)."""

from collections.abc import Callable
from math import sqrt
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifolds import overlap_moments, overlap_p_value

Array = NDArray[np.float64]


class RankedPair(Protocol):
    """One pair of subspaces of one space, or many of them."""

    @property
    def dim(self) -> int:
        """Dimension of the common space."""

    @property
    def ranks(self) -> tuple[Any, Any]:
        """Dimensions of the two subspaces: whole numbers, or arrays of them of one shape."""


class Dimensions(NamedTuple):
    """Dimensions of pairs of subspaces of one space, without the subspaces."""

    dim: int
    ranks: tuple[Any, Any]


def haar_overlap(pair: RankedPair) -> tuple[Array, Array]:
    """Exact mean and standard deviation of the projection overlap, shape of the ranks; NaN where a rank is 0."""
    mean, sd = _for_each_rank(pair, lambda r, s, _: overlap_moments(pair.dim, r, s))
    return mean, sd


def haar_overlap_p_value(pair: RankedPair, overlap: Any) -> tuple[Array, Array]:
    """Probability of at least this overlap and of the largest one, 1; exact between lines, see `overlap_p_value`."""
    overlap = np.asarray(overlap, dtype=np.float64)

    def tail(r: int, s: int, same: NDArray[np.bool_]) -> tuple[Any, Any]:
        return overlap_p_value(overlap[same], pair.dim, r, s), overlap_p_value(np.ones(1), pair.dim, r, s)

    p_value, floor = _for_each_rank(pair, tail)
    return p_value, floor


def squared_cosine_moments(weights: Tensor, n: int) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation of a weighted sum of the squared cosines of two unrelated frames.

    .. math::
        \mathrm{E} \sum_{ij} w_{ij} \langle u_i, v_j \rangle^2 = \frac1n \sum_{ij} w_{ij}, \qquad
        \mathrm{Var} = \frac{2}{(n-1)(n+2)} \Bigl\lVert \bigl(I - \tfrac1n J\bigr)^{1/2} w
        \bigl(I - \tfrac1n J\bigr)^{1/2} \Bigr\rVert_F^2, \quad J = \mathbf{1}\mathbf{1}^\top

    Parameters
    ----------
    weights : Tensor, shape=[r, s]
        What each squared cosine counts.
    n : int
        Dimension of the space, at least r and s.

    Returns
    -------
    mean, standard_deviation : Tensor, shape=[]
        Over independent uniform (Haar) frames; exact.

    References
    ----------
    docs/measurements.md, "Unrelated weights"; `proofs`: squared_cosine_moments.

    Examples
    --------
    The projection overlap of two heads of GPT-2 small, before its division by 64:

    >>> mean, spread = squared_cosine_moments(torch.ones(64, 64, dtype=torch.float64), 768)
    >>> round(float(mean), 3), round(float(spread), 4)
    (5.333, 0.108)
    """
    total = weights.sum()
    if n == 1:
        return total, torch.zeros_like(total)
    rows, columns = weights.sum(dim=1), weights.sum(dim=0)
    centred = weights.square().sum() - (rows.square().sum() + columns.square().sum()) / n + (total / n).square()
    # Where a frame is the whole space the difference is zero up to rounding.
    return total / n, centred.clamp(min=0).sqrt() * sqrt(2 / ((n - 1) * (n + 2)))


def _for_each_rank(pair: RankedPair, numbers: Callable[[int, int, NDArray[np.bool_]], tuple[Any, Any]]) -> list[Array]:
    """Two numbers that depend on the ranks, found once for each combination of them."""
    first, second = np.broadcast_arrays(*map(np.asarray, pair.ranks))
    found = [np.full(first.shape, np.nan) for _ in range(2)]
    for r, s in np.unique(np.column_stack([first.ravel(), second.ravel()]), axis=0).tolist():
        same = (first == r) & (second == s)
        if r and s:
            for array, value in zip(found, numbers(r, s, same), strict=True):
                array[same] = value
    return found
