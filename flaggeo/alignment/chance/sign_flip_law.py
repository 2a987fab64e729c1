"""The law of an overlap over random signs of the coordinates, whether few of them carry it or many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special
from torch import Tensor

from ...numerics.threads import workers
from .coupling import Coupling, Places, blocks, leading_quotients
from .haar import Array
from .sign_flip import SATURATED, leverages, of_one_width

# Relative error of the moments, some of which are formed in single precision.
_ROUNDING = 1e-5
# A p-value from two moments alone that is above this stays: it is not small, and a finer one would not be either.
_SMALL = 0.05
# Coordinates whose signs are all gone through.
_LARGEST = 10
# They are where one has a part in this share of the variance. Twenty coordinates with equal parts have a tenth each:
# the half a million patterns of their signs are close to a smooth law.
_CONCENTRATED = 0.1
# A chi-square law of so many degrees of freedom is normal, but for 1 % of a p-value of 1e-6.
_MOST_DOF = 1e8


@dataclass(frozen=True)
class FewCoordinates:
    r"""Pairs of which the signs of a few large coordinates are gone through.

    .. math:: T - \mathrm{E}\,T = \sigma^\top C_{LL}\,\sigma + 2\,\sigma^\top C_{LS}\,\varepsilon
        + \varepsilon^\top C_{SS}\,\varepsilon

    with the signs :math:`\sigma` of the m large coordinates L and :math:`\varepsilon` of the small ones S, and with C
    from `sign_flip_law` without its diagonal. All numbers belong to T, before division by the smaller rank.

    Attributes
    ----------
    places : ndarray of int, shape=[few]
        Positions among all pairs.
    large : ndarray, shape=[few, m, m]
        :math:`C_{LL}`.
    cross : ndarray, shape=[few, m, m]
        :math:`C_{LS} C_{SL}`.
    square : ndarray, shape=[few]
        :math:`\lVert C_{SS} \rVert_F^2`.
    eigenvalue : ndarray, shape=[few]
        The largest one of the small coordinates.
    of_large, of_small : ndarray, shape=[few]
        Sums of the products of the leverages over the large coordinates, and of their square roots over the small ones.
    half_step : ndarray, shape=[few]
        Half of what the sign of the least of the large coordinates changes, as a root mean square, or of what that of
        a small one can.
    """

    places: Places
    large: Array
    cross: Array
    square: Array
    eigenvalue: Array
    of_large: Array
    of_small: Array
    half_step: Array

    def forms(self) -> tuple[Array, Array]:
        """The quadratic forms of `large` and `cross` at every pattern, shape=[few, 2 ** (m - 1)] both.

        A pattern and its opposite give the same, so that the first sign is held.
        """
        m = self.large.shape[-1]
        signs = 1.0 - (np.arange(2 ** (m - 1))[:, None] << 1 >> np.arange(m) & 1) * 2
        products = (signs[:, :, None] * signs[:, None]).reshape(-1, m**2).T
        large, cross = (form.reshape(-1, m**2) @ products for form in (self.large, self.cross))
        return large, cross.clip(min=0)

    def tail(self, excess: Array) -> Array:
        """Probability that T is at least so far above its mean, shape=[few]."""
        shift, linear = self.forms()
        # Positive, so that without small coordinates the law is a step and not 0 / 0.
        half_variance = (self.square[:, None] + 2 * linear).clip(min=np.finfo(np.float64).tiny)
        scale = self.eigenvalue[:, None] * (1 + linear / half_variance)
        z = ((excess - self.half_step)[:, None] - shift) / np.sqrt(2 * half_variance)
        chances: Array = chi_square_tail(z, _degrees_of_freedom(half_variance, scale)).mean(axis=1)
        return chances

    def most(self) -> Array:
        """A bound of T that lines reach: the best pattern of the large signs, and all the small ones with it."""
        best = self.of_large + self.forms()[0].max(axis=1)
        bound: Array = (np.sqrt(best.clip(min=0)) + self.of_small) ** 2
        return bound


@dataclass(frozen=True)
class SignFlipLaw:
    """Law of the overlaps of many pairs over random signs of the coordinates, from `sign_flip_law`.

    Attributes
    ----------
    mean, sd : ndarray, shape=[pairs]
        Exact moments.
    most : ndarray, shape=[pairs]
        No signs give a larger overlap; at most 1.
    smaller : ndarray, shape=[pairs]
        The smaller rank, by which the overlap is divided.
    dof : ndarray, shape=[pairs]
        Degrees of freedom of the chi-square law with these moments.
    few : tuple of FewCoordinates
        Pairs that are gone through pattern by pattern instead.
    """

    mean: Array
    sd: Array
    most: Array
    smaller: Array
    dof: Array
    few: tuple[FewCoordinates, ...] = ()

    def tail(self, reached: Array) -> Array:
        """Probability of at least this overlap.

        Parameters
        ----------
        reached : ndarray, shape=[pairs]
            The overlaps, or any other values.

        Returns
        -------
        probability : ndarray, shape=[pairs]
            In [0, 1]; 1 where the signs leave the overlap no room. NaN where `reached` is.
        """
        # A spread of no more than rounding is none.
        room = (self.mean < SATURATED) & (self.sd > _ROUNDING * self.mean)
        # Rounding must not lift an overlap over the step that it stands on.
        excess = reached - (1 - SATURATED) - self.mean
        z = np.divide(excess, self.sd, out=np.full_like(self.mean, -np.inf), where=room)
        chance = chi_square_tail(z, self.dof)
        with workers() as pool:
            found = pool.map(lambda few: few.tail((excess * self.smaller)[few.places]), self.few)
            for few, chances in zip(self.few, found, strict=True):
                chance[few.places] = chances
        return np.where(np.isnan(reached), np.nan, np.where(room, chance, 1.0))

    def p_value(self, overlap: Array) -> tuple[Array, Array]:
        """Probability of at least this overlap, and of the largest one that these coordinates allow.

        Parameters
        ----------
        overlap : ndarray, shape=[pairs]

        Returns
        -------
        p_value, floor : ndarray, shape=[pairs]
            See `tail`. The floor is the least p-value, whatever the alignment.
        """
        return self.tail(overlap), self.tail(np.maximum(self.most, overlap))


def sign_flip_law(
    frames: Sequence[Tensor],
    pairs: tuple[Places, Places],
    overlap: Array,
    moments: tuple[Array, Array, Array],
    smaller: Array,
) -> SignFlipLaw:
    r"""Law of overlaps over random signs D of the coordinates, precise for those that could be significant.

    .. math:: T = \lVert A^\top D B \rVert_F^2 = \varepsilon^\top C \varepsilon, \qquad
        C = (A A^\top) \circ (B B^\top)

    Parameters
    ----------
    frames : sequence of Tensor, shape=[n, r_i]
        Orthonormal, of one dtype and device; columns of zeros change nothing.
    pairs : tuple of ndarray of int, shape=[pairs]
        Positions of both frames of each pair.
    overlap : ndarray, shape=[pairs]
        As measured: it decides which laws are made precise. NaN where a subspace is zero.
    moments : tuple of ndarray, shape=[pairs]
        Mean of the overlap, from `leverages`, its standard deviation and the largest part of one coordinate, from
        `sign_flip_spread`; all divided by the smaller rank.
    smaller : ndarray, shape=[pairs]
        The smaller rank, by which the overlap is divided; NaN where it is 0.

    Returns
    -------
    law : SignFlipLaw

    Notes
    -----
    With Gaussian numbers for the signs, T would be a constant and a sum of :math:`\lambda_i \chi^2_1` over the
    eigenvalues of :math:`C_0`, which is C without its diagonal. Let :math:`\lambda` be the largest in size and
    :math:`\nu = \sum_i \lambda_i^2 / \lambda^2`. Then :math:`\lambda \chi^2_\nu` has the same variance, and no other
    cumulant is smaller: its tail is the heavier one. One degree of freedom is the least possible. It takes the two
    moments alone, and stays where it gives more than 0.05.

    For the others, the larger of two numbers that cannot be above :math:`\lambda` stands for it: the longest row of
    :math:`C_0`, and :math:`v^\top C_0 v / v^\top v` with :math:`v = C_0 \mathbf 1`. Between uniform subspaces the
    longest row is 0.6 of :math:`\lambda`. The overlap is :math:`\mathbf 1^\top C \mathbf 1`, so that what makes it
    large is in v: where both subspaces are the same but for noise, the quotient is 0.98 of :math:`\lambda`.

    Where one coordinate has a part in a tenth of the variance, the signs of 10 are gone through, those that can have
    most. Given them the law of the others has a linear term too. Let its share of the variance be 2 u. The same law
    with the scale :math:`\lambda (1 + u)` again has no smaller cumulant. Half a step of the least of the 10 is taken
    off the overlap, as for any smooth law in the place of a law with steps.

    A pair with a p-value below 0.05 takes 2 n r s operations, and 4 n r s or 2 n^2 more, whichever are fewer.

    References
    ----------
    docs/measurements.md, "Nulls that keep outlier channels"; `proofs`: sign_flip_overlap_mean,
    sign_flip_overlap_spread.

    Examples
    --------
    Two lines that share four coordinates equally meet fully in one of eight patterns of signs:

    >>> line = torch.tensor([[0.5], [0.5], [0.5], [0.5], [0.0]])
    >>> one = np.ones(1)
    >>> moments = np.full(1, 1 / 4), np.full(1, 6**0.5 / 8), np.full(1, 3**0.5 / 16)
    >>> law = sign_flip_law([line, line], (np.array([0]), np.array([1])), one, moments, one)
    >>> [round(float(law.tail(reached)[0]), 4) for reached in (one, 0.2 * one, 0 * one)]
    [0.125, 0.625, 1.0]
    """
    first, second = pairs
    mean, sd, largest_part = moments
    squares = sd**2 / 2
    leverage = torch.stack([leverages(frame) for frame in frames]).float()
    roots = leverage.sqrt()
    most = ((roots @ roots.mT).square().cpu().double().numpy()[first, second] / smaller).clip(max=1)
    law = SignFlipLaw(mean, sd, most, smaller, np.ones_like(mean))
    is_small = law.tail(overlap) < _SMALL
    # Of a variance 2 |C|^2, a row and its column have a part in 4 |row|^2.
    is_few = 2 * largest_part**2 > _CONCENTRATED * squares
    [many], [few] = np.nonzero(is_small & ~is_few), np.nonzero(is_small & is_few)
    stacked = of_one_width(frames).float()
    quotients = leading_quotients(stacked, leverage, first[many], second[many]) / smaller[many]
    law.dof[many] = _degrees_of_freedom(squares[many], np.maximum(largest_part[many], quotients))

    def of_block(block: Places) -> FewCoordinates:
        coupling = Coupling.of(stacked, leverage, first[block[0]], second[block])
        return _few_coordinates(block, coupling, (squares * smaller**2)[block])

    with workers() as pool:
        of_few = tuple(pool.map(of_block, blocks(few, first[few], stacked[0].numel())))
    for found in of_few:
        most[found.places] = np.fmin(most[found.places], found.most() / smaller[found.places])
    return SignFlipLaw(mean, sd, most, smaller, law.dof, of_few)


def _few_coordinates(places: Places, coupling: Coupling, squares: Array) -> FewCoordinates:
    """What the largest coordinates of each pair carry; `squares` are those of :math:`C_0`, shape=[pairs]."""
    bounds, diagonal = coupling.row_bounds, coupling.diagonal
    largest = bounds.topk(min(_LARGEST + 1, len(bounds)), dim=0)
    large, beyond = largest.indices[:_LARGEST].mT, largest.values[_LARGEST:].sum(dim=0)  # of the next one, if any
    all_rows = coupling.rows(largest.indices.mT)
    rows, next_row = all_rows[:, :_LARGEST], all_rows[:, _LARGEST:]
    half_step = 2 * torch.minimum(rows.square().sum(dim=2).amin(dim=1), beyond).sqrt()
    among = torch.take_along_dim(rows, large[:, None], dim=2)
    across, next_across = (
        some.scatter(2, large[:, None].expand(-1, some.shape[1], -1), 0) for some in (rows, next_row)
    )

    small = torch.ones_like(bounds).scatter_(0, large.mT, 0)
    quotient = coupling.quotients(coupling.times(small) * small)
    eigenvalue = torch.maximum(quotient, next_across.square().sum(dim=(1, 2)).sqrt())

    kept = diagonal * small
    trace, of_large = kept.sum(dim=0), (diagonal - kept).sum(dim=0)
    room = trace.square() - kept.square().sum(dim=0)
    among, across = among.cpu().double(), across.cpu().double()
    removed = among.square().sum(dim=(1, 2)) + 2 * across.square().sum(dim=(1, 2))
    # What is left can be no more than the diagonal allows, and is rounding where it is far less than there was.
    left = np.minimum(np.maximum(squares - removed.numpy(), _ROUNDING * squares), _array(room))
    return FewCoordinates(
        places,
        among.numpy(),
        (across @ across.mT).numpy(),
        left.clip(min=0),
        *map(_array, (eigenvalue, of_large, kept.sqrt().sum(dim=0), half_step)),
    )


def _array(numbers: Tensor) -> Array:
    array: Array = numbers.cpu().double().numpy()
    return array


def _degrees_of_freedom(square: Array, scale: Array) -> Array:
    """Of the law that has this scale and twice this variance; no more than a normal law needs."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        dof: Array = np.nan_to_num(square / scale**2, nan=_MOST_DOF, posinf=_MOST_DOF).clip(1, _MOST_DOF)
    return dof


def chi_square_tail(z: Array, dof: Array) -> Array:
    """Upper tail of chi-square laws of so many degrees of freedom, z standard deviations above their means."""
    chance: Array = special.chdtrc(dof, np.maximum(dof + np.sqrt(2 * dof) * z, 0))
    return chance
