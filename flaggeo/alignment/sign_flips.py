"""What random signs of the coordinates give: the overlap that loud coordinates alone account for."""

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

#: Largest null mean that leaves an overlap room to say anything.
SATURATED = 1 - 1e-6


def leverages(frame: Tensor) -> Tensor:
    """How much of a subspace lies along each coordinate: the diagonal of its projector.

    Parameters
    ----------
    frame : Tensor, shape=[..., n, r]
        Orthonormal.

    Returns
    -------
    leverages : Tensor, shape=[..., n]
        Squared norms of the rows, in [0, 1], with sum r.

    Examples
    --------
    >>> leverages(torch.tensor([[1.0], [0.0]]))
    tensor([1., 0.])
    """
    return frame.square().sum(dim=-1)


def sign_flip_moments(of_subspaces: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation of :math:`\lVert A^\top D B \rVert_F^2` over random signs D of the coordinates.

    .. math::
        \mathrm{E} = \sum_i a_i b_i, \qquad
        \mathrm{Var} = 2 \sum_{i \ne j} (P_A)_{ij}^2 (P_B)_{ij}^2
        \approx \frac{2 \bigl(\sum_i x_i y_i\bigr)^2}{\sum_i x_i \sum_i y_i}, \quad x_i = a_i (1 - a_i),\;
        y_i = b_i (1 - b_i)

    with the leverages a, b of the two subspaces. It keeps how much of a subspace lies along each
    coordinate and destroys how the coordinates are combined.

    Parameters
    ----------
    of_subspaces : Tensor, shape=[count, n]
        `leverages` of each.

    Returns
    -------
    mean, standard_deviation : Tensor, shape=[count, count]
        Of all pairs, before division by the smaller rank. The mean is exact.

    Notes
    -----
    Since :math:`\sum_{j \ne i} (P_A)_{ij}^2 = a_i (1 - a_i)`, the spread follows from the leverages once the squares of
    a row are taken to spread over the columns in proportion to the same sums. That costs n for a pair where
    the exact one costs n². For surrogates with the norms of loud channels it was within a quarter of the exact
    standard deviation, or above it (1.8 times, where 8 directions fill 8 loud channels); for uniform subspaces the
    two agree to 1 %.

    The law of margin-matched surrogates is unchanged by coordinate signs, so that the mean overlap of two
    independent ones is the same product of their mean leverages.

    References
    ----------
    theory/continuity, section 2.3; `proofs`: sign_flip_overlap_mean.

    Examples
    --------
    A plane of coordinates against a diagonal line inside it, which no signs can turn out of it:

    >>> mean, spread = sign_flip_moments(torch.tensor([[1.0, 1.0, 0.0], [0.5, 0.5, 0.0]]))
    >>> float(mean[0, 1]), float(spread[0, 1])
    (1.0, 0.0)
    """
    spread_out = of_subspaces * (1 - of_subspaces).clamp(min=0)
    totals = spread_out.sum(dim=1, keepdim=True)
    shares = torch.where(totals > 0, spread_out / totals.sqrt(), 0)
    return of_subspaces @ of_subspaces.mT, 2**0.5 * (shares @ shares.mT)


def sign_flip_p_value(
    overlap: NDArray[np.float64], mean: NDArray[np.float64], spread: NDArray[np.float64]
) -> NDArray[np.float64]:
    r"""About the probability that random signs of the coordinates give at least this overlap, on the safe side.

    .. math:: P\bigl( \chi^2_1 \ge 1 + \sqrt2\, (\omega - \mathrm{E}) / \mathrm{sd} \bigr)

    Parameters
    ----------
    overlap, mean, spread : ndarray of float64, of one shape
        The projection overlap, and its moments from `sign_flip_moments` over the smaller rank.

    Returns
    -------
    p_value : ndarray of float64, of the same shape
        In [0, 1]; 1 where the signs leave the overlap no room.

    Notes
    -----
    The overlap is a quadratic form in the signs. Between lines it is the square of a sum of signs, whose law
    this is for many coordinates; wider subspaces add up many such squares, and a tail as heavy as that of one is
    the price for knowing mean and spread alone. A p-value of 1e-6 takes 16 standard deviations.
    """
    room = (mean < SATURATED) & (spread > 0)
    z = np.divide(overlap - mean, spread, out=np.full_like(mean, -np.inf), where=room)
    return np.asarray(special.chdtrc(1, np.maximum(1 + np.sqrt(2) * z, 0)))
