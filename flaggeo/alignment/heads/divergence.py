"""How far the distribution of projection kernels is from that of unrelated heads."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

from ..schema import Column, Schema

if TYPE_CHECKING:
    from scipy import stats

DIVERGENCE_SCHEMA = Schema(
    "One row for each kind of pair of heads",
    (
        Column("kind", "str", "QQ, KK, VV, OO, OQ, OK or OV"),
        Column("pairs", "int64", "number of pairs that have a kernel"),
        Column("kernel", "float64", "mean projection kernel over the pairs"),
        Column("kernel_sd", "float64", "its standard deviation over the pairs"),
        Column("kernel_null_mean", "float64", "mean kernel of unrelated heads"),
        Column("kernel_null_sd", "float64", "standard deviation of one pair of unrelated heads"),
        Column("kernel_sign_flip_mean", "float64", "mean kernel under random signs of the coordinates"),
        Column(
            "kernel_mean_matched_mean", "float64", "mean kernel with the means of the directions over the channels kept"
        ),
        Column("kernel_norm_matched_mean", "float64", "mean kernel of heads of norm-matched random projections"),
        Column("overlap_excess", "float64", "mean excess of the overlap over its largest null"),
        Column("kl", "float64", "Kullback-Leibler divergence of the observed kernels from the law of unrelated heads"),
    ),
)
# Nulls that keep something of the heads, of which the table has the overlap.
_NULLS = ("sign_flip_mean", "mean_matched_mean", "norm_matched_mean")
# Quantiles at which the random law is compared; more change the third digit.
_NODES = 1000


def head_divergences(table: pd.DataFrame) -> pd.DataFrame:
    r"""How far the projection kernels of each kind of pair of heads are distributed from those of unrelated heads.

    Parameters
    ----------
    table : pandas.DataFrame
        From `head_table`.

    Returns
    -------
    divergences : pandas.DataFrame
        The columns are those of `DIVERGENCE_SCHEMA`. ``kl`` is KL(random || observed) in nats; NaN where there is one
        pair only, or the law of unrelated heads is a single value.

    Notes
    -----
    .. math:: \mathrm{KL} = \int p \log\frac{p}{q} \approx
        \frac1N \sum_{i \le N} \log p(x_i) - \psi(k) + \log M + \log 2\rho_k(x_i)

    The random law p is known, the Beta law of exact range, mean and variance (its mixture where heads differ in
    rank), so it is not sampled: the :math:`x_i` are its quantiles. The density q of the M observed kernels is
    that of the k-th nearest neighbour at distance :math:`\rho_k`, with :math:`k = \lceil\sqrt M\rceil`. No bins
    are chosen, no density is zero, and the window adapts to the wide observed distribution, where one smoothing
    width for all does not. Gaussian samples several times wider than the law come out within 0.25 of their
    divergence at 4 thousand pairs and 0.1 at 40 thousand; unrelated heads give a little less than 0. Where the
    observed kernels leave a part of the law's range empty, the estimate is too low (3.0 for 3.9 in a sample of equal
    width moved by three of its standard deviations). A binned estimate, as in arXiv:2601.10266, need not agree
    to the last digit.

    It tells that heads are not random, not by how much: a narrow law makes small shifts large. Read the excess
    beside it.

    References
    ----------
    Wang, Kulkarni, Verdu 2009, Divergence estimation for multidimensional densities via k-nearest-neighbor
    distances; arXiv:2601.10266; docs/measurements.md, "Heads".
    """
    defined = table[table["kernel"].notna()]
    smaller = defined[["source_rank", "target_rank"]].min(axis=1)
    nulls = {name: smaller * defined[f"overlap_{name}"] for name in _NULLS}
    defined = defined.assign(**{f"kernel_{name}": kernels for name, kernels in nulls.items()})
    return DIVERGENCE_SCHEMA.frame(
        {"kind": kind, "pairs": len(pairs)}
        | {
            column: pairs[column].mean()
            for column in ("kernel", "kernel_null_mean", *(f"kernel_{name}" for name in nulls), "overlap_excess")
        }
        | {"kernel_sd": pairs["kernel"].std(), "kernel_null_sd": np.sqrt(pairs["kernel_null_sd"].pow(2).mean())}
        | {"kl": _divergence(pairs)}
        for kind, pairs in defined.groupby("kind", sort=False)
    )


def _divergence(pairs: pd.DataFrame) -> float:
    """KL(random || observed) in nats."""
    if len(pairs) < 2 or (pairs["kernel_null_sd"] == 0).any():
        return np.nan
    # One law for each combination of ranks, with its share of the pairs; almost always there is one.
    largest = pairs[["source_rank", "target_rank"]].min(axis=1)
    parameters, counts = np.unique(
        np.column_stack([largest, pairs["kernel_null_mean"], pairs["kernel_null_sd"]]), axis=0, return_counts=True
    )
    laws, shares = [_beta(*row) for row in parameters.tolist()], counts / len(pairs)
    nodes = np.concatenate([law.ppf((np.arange(_NODES) + 0.5) / _NODES) for law in laws])
    density = sum(share * law.pdf(nodes) for law, share in zip(laws, shares, strict=True))
    surplus = np.log(density) - _log_density(pairs["kernel"].to_numpy(), nodes)
    return float(np.repeat(shares / _NODES, _NODES) @ surplus)


def _beta(largest: float, mean: float, sd: float) -> "stats.rv_continuous":
    """Beta law on [0, largest] with this mean and standard deviation."""
    from scipy import stats  # a third of a second to import, and only needed with heads

    share, spread = mean / largest, sd / largest
    weight = share * (1 - share) / spread**2 - 1
    return stats.beta(share * weight, (1 - share) * weight, scale=largest)


def _log_density(sample: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Nearest-neighbour estimate of the logarithm of the density of a sample."""
    from scipy.spatial import KDTree  # only needed with heads

    neighbours = int(np.ceil(np.sqrt(len(sample))))
    distances, _ = KDTree(sample[:, None]).query(places[:, None], k=[neighbours])
    logarithms: NDArray[np.float64] = special.digamma(neighbours) - np.log(len(sample)) - np.log(2 * distances[:, 0])
    return logarithms
