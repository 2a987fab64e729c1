"""The type of a flag of eigenspaces: which neighbouring eigenvalues a number of samples tells apart."""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .checks import require_tensor

Criterion = Literal["bic", "aic"]


def select_dims(
    eigenvalues: Tensor, n_samples: float, *, max_dim: int | None = None, criterion: Criterion = "bic"
) -> tuple[int, ...]:
    r"""Dimensions of the nested eigenspaces that a sample covariance determines.

    Neighbouring eigenvalues that N samples cannot tell apart form a block, of which the span has a meaning and the
    eigenvectors have none. The model is a Gaussian with one eigenvalue for each block. Given the sizes
    :math:`\gamma_1, \dots, \gamma_r` of the blocks, its covariance of maximum likelihood averages the sample
    eigenvalues in each block, to :math:`\ell_i`. The sizes returned minimise

    .. math::
        N \sum_i \gamma_i \log \ell_i + c \Bigl(r + \frac{p (p - 1)}{2} - \sum_i \frac{\gamma_i (\gamma_i - 1)}{2}\Bigr)

    over all ``2 ** (p - 1)`` types, where c is log N (BIC) or 2 (AIC), and its factor is the number of eigenvalues plus
    the dimension of the flag manifold. As a sum over blocks it is minimised exactly by dynamic programming, in
    ``p ** 2 / 2`` steps.

    Parameters
    ----------
    eigenvalues : Tensor, shape=[p]
        All eigenvalues of the sample covariance, descending. What is within ``p * eps`` of zero, relative to the
        largest, counts as zero.
    n_samples : float
        The number N of samples, at least 1.
    max_dim : int, optional
        Largest dimension allowed, from 1 to p - 1: all eigenvalues behind it are one block, with or without some before
        it.
    criterion : {"bic", "aic"}

    Returns
    -------
    dims : tuple of int
        Numbers of eigenvalues in the first block, the first two, and so on without the last, which would be p; empty
        where all eigenvalues are one block.

    Raises
    ------
    ValueError
        If the eigenvalues are not finite, descending, non-negative and not all zero, or another argument is out of its
        range.

    Notes
    -----
    The criterion is made for N well above p. Where N is a small multiple of p, equal variances have sample eigenvalues
    so different that they are split; a small `max_dim` keeps the noise together.

    Zero eigenvalues are a block of their own, since any number of samples tells them from positive ones, unless
    `max_dim` ends before them. Give `max_dim` where they come from a lack of samples.

    References
    ----------
    .. [1] T. Szwagier and X. Pennec, The curse of isotropy: from principal components to principal subspaces,
       arXiv:2307.15348: the model, its likelihood and the criterion. The search there is exhaustive or hierarchical.

    Examples
    --------
    A thousand samples tell 10 from 5 and 5 from 1, but not 5 from 4.8:

    >>> select_dims(torch.tensor([10.0, 5.0, 4.8, 1.0, 0.98]), n_samples=1000)
    (1, 3)
    """
    values, positive = _checked_spectrum(eigenvalues)
    p = len(values)
    if not n_samples >= 1:
        raise ValueError(f"select_dims expected at least 1 sample; got {n_samples}.")
    if max_dim is not None and not 1 <= max_dim < p:
        raise ValueError(f"select_dims expected max_dim from 1 to p - 1 = {p - 1}; got {max_dim}.")
    penalties = {"bic": math.log(n_samples), "aic": 2.0}
    if criterion not in penalties:
        raise ValueError(f"select_dims knows the criteria {', '.join(penalties)}; got {criterion!r}.")
    penalty = penalties[criterion]
    limit = p - 1 if max_dim is None else max_dim
    # Sums from the smallest eigenvalue on, so that small ones are not lost beside large ones.
    tails = np.append(values[::-1].cumsum()[::-1], 0.0)

    def costs(starts: NDArray[np.int64], stop: int) -> NDArray[np.float64]:
        """Terms of the criterion of the blocks from each start to one stop."""
        sizes = stop - starts
        means = (tails[starts] - tails[stop]) / sizes
        return n_samples * sizes * np.log(means) + penalty * (1 - sizes * (sizes - 1) / 2)

    # Least cost of the first 0, 1, ... eigenvalues, and where their last block starts.
    least, last_starts = np.zeros(1), [0]
    for stop in range(1, min(limit, positive) + 1):
        candidates = least + costs(np.arange(stop), stop)
        last_starts.append(int(candidates.argmin()))
        least = np.append(least, candidates.min())
    zeros_apart = positive <= limit
    start = positive if zeros_apart else int((least + costs(np.arange(limit + 1), p)).argmin())
    dims = []
    while start:
        dims.append(start)
        start = last_starts[start]
    return tuple(reversed(dims))


def _checked_spectrum(eigenvalues: Tensor) -> tuple[NDArray[np.float64], int]:
    """Eigenvalues with exact zeros, and how many are positive."""
    require_tensor(eigenvalues, "eigenvalues")
    if eigenvalues.ndim != 1 or not len(eigenvalues) or eigenvalues.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            "select_dims expected float32 or float64 eigenvalues of shape [p >= 1]; got shape "
            f"{tuple(eigenvalues.shape)} of {eigenvalues.dtype}."
        )
    values = eigenvalues.detach().cpu().double().numpy()
    rounding = len(values) * torch.finfo(eigenvalues.dtype).eps * np.abs(values).max()
    ordered = (np.diff(values) <= rounding).all() and values[-1] >= -rounding
    if not (np.isfinite(values).all() and ordered and values[0] > 0):
        raise ValueError(
            f"select_dims expected finite, descending, non-negative eigenvalues, not all zero; got {values.tolist()}."
        )
    return np.where(values > rounding, values, 0.0), int((values > rounding).sum())
