"""The law of an overlap over random signs of the coordinates, whether few of them carry it or many."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import special
from torch import Tensor

from ...numerics.threads import workers
from .haar import Array
from .sign_flip import SATURATED, leverages

Places = NDArray[np.int64]

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
# Entries of the second frames of a block of pairs: 2 MiB in float32, which a cache holds.
_BLOCK_ENTRIES = 2**19
# Entries of the projectors of second frames that a thread holds: 64 MiB in float32.
_PROJECTOR_ENTRIES = 2**24
# The projectors of first frames are formed again for each of these blocks, which takes the time if fewer fit in one.
_FEWEST_PROJECTORS = 16


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


# Pairs, the degrees of freedom of each, and those of which few coordinates carry most.
_Precise = tuple[Places, Array, FewCoordinates]


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
    moments: tuple[Array, Array],
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
        Mean and standard deviation of the overlap, from `leverages` and `sign_flip_spread`.
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

    For the others, :math:`\lVert C_0^2 \mathbf 1 \rVert / \lVert C_0 \mathbf 1 \rVert` stands for :math:`\lambda`: two
    steps of the power method. It cannot be larger than :math:`\lambda`; between uniform subspaces it is 0.6 of it.

    Where one coordinate has a part in a tenth of the variance, the signs of 10 are gone through, those that can have
    most. Given them the law of the others has a linear term too. Let its share of the variance be 2 u. The same law
    with the scale :math:`\lambda (1 + u)` again has no smaller cumulant. Half a step of the least of the 10 is taken
    off the overlap, as for any smooth law in the place of a law with steps.

    About 8 n r s operations for each pair below 0.05, or 5 n^2 between wide subspaces of a small space, of which
    whole projectors are held: 64 MiB for each thread.

    References
    ----------
    docs/measurements.md, "Nulls that keep outlier channels"; `proofs`: sign_flip_overlap_mean,
    sign_flip_overlap_spread.

    Examples
    --------
    Two lines that share four coordinates equally meet fully in one of eight patterns of signs:

    >>> line = torch.tensor([[0.5], [0.5], [0.5], [0.5], [0.0]])
    >>> one, mean, sd = np.ones(1), np.full(1, 1 / 4), np.full(1, 6**0.5 / 8)
    >>> law = sign_flip_law([line, line], (np.array([0]), np.array([1])), one, (mean, sd), one)
    >>> [round(float(law.tail(reached)[0]), 4) for reached in (one, 0.2 * one, 0 * one)]
    [0.125, 0.625, 1.0]
    """
    first, second = pairs
    (mean, sd), n = moments, frames[0].shape[0]
    leverage = torch.stack([leverages(frame) for frame in frames]).float()
    roots = leverage.sqrt()
    most = ((roots @ roots.mT).square().cpu().double().numpy()[first, second] / smaller).clip(max=1)
    law = SignFlipLaw(mean, sd, most, smaller, np.ones_like(mean))
    frames = [frame.float() for frame in frames]
    widths = np.array([frame.shape[1] for frame in frames])
    small = law.tail(overlap) < _SMALL
    at_once = _PROJECTOR_ENTRIES // n**2
    # By the number of operations r s > n would do, but those of projectors wait for memory.
    wide = (widths[first] * widths[second] > 2 * n) & (at_once >= _FEWEST_PROJECTORS)

    def precise(places: Places, coupling: "_Factors | _Projectors") -> _Precise:
        left, right = first[places[0]], second[places]
        return _precise(places, coupling, leverage[left], leverage[right].mT, (sd * smaller)[places] ** 2 / 2)

    def by_factors(places: Places) -> list[_Precise]:
        left, right = first[places[0]], second[places]
        others = torch.stack([frames[place] for place in right], dim=1)
        return [precise(places, _Factors(frames[left], others, leverage[left][:, None] * leverage[right].mT))]

    def by_projectors(places: Places) -> list[_Precise]:
        others = {place: _beside_diagonal(frames[place]) for place in np.unique(second[places])}
        found = []
        for same in _runs(places, first[places]):
            projector = _beside_diagonal(frames[first[same[0]]])
            found.append(precise(same, _Projectors(projector, [others[place] for place in second[same]])))
        return found

    [narrow_places], [wide_places] = np.nonzero(small & ~wide), np.nonzero(small & wide)
    tasks = [
        partial(by_factors, block)
        for same in _runs(narrow_places, first[narrow_places], widths[second[narrow_places]])
        for block in np.array_split(same, -(-len(same) * n * widths[second[same[0]]] // _BLOCK_ENTRIES))
    ]
    number = np.unique(second[wide_places], return_inverse=True)[1]
    tasks += [partial(by_projectors, block) for block in _runs(wide_places, number // at_once)]
    few = []
    with workers() as pool:
        for places, dof, found in chain.from_iterable(pool.map(lambda task: task(), tasks)):
            law.dof[places] = dof
            if len(found.places):
                few.append(found)
                most[found.places] = np.fmin(most[found.places], found.most() / smaller[found.places])
    return SignFlipLaw(mean, sd, most, smaller, law.dof, tuple(few))


def _runs(places: Places, *keys: Places) -> list[Places]:
    """The places in groups of equal keys."""
    if not len(places):
        return []
    order = np.lexsort(keys)
    changes = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
    return np.split(places[order], np.flatnonzero(changes) + 1)


@dataclass(frozen=True)
class _Factors:
    """:math:`C_0` of a frame, shape=[n, r], with many others, shape=[n, pairs, s]: 8 n r s operations for each pair.

    The diagonal is that of C, shape=[n, pairs].
    """

    frame: Tensor
    others: Tensor
    diagonal: Tensor

    def rows(self, places: Tensor) -> Tensor:
        """Rows of each pair at its own places, shape=[pairs, m]; result shape=[pairs, m, n]."""
        by_pair = self.others.transpose(0, 1)
        at_places = torch.take_along_dim(by_pair, places[..., None], dim=1)
        rows = (self.frame[places] @ self.frame.mT) * (at_places @ by_pair.mT)
        return rows.scatter_(2, places[..., None], 0)

    def power_steps(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Two steps of the power method among chosen coordinates, from `chosen` itself; all have shape [n, pairs]."""

        def times(vectors: Tensor) -> Tensor:
            inner = self.frame.mT @ (self.others * vectors[..., None]).flatten(1)
            product = (self.frame @ inner).view_as(self.others).mul_(self.others).sum(dim=2)
            return (product - self.diagonal * vectors) * chosen

        once = times(chosen)
        return once, times(once)


@dataclass(frozen=True)
class _Projectors:
    """The same from projectors without their diagonals, shape=[n, n]: 5 n^2 operations for each pair."""

    projector: Tensor
    others: Sequence[Tensor]

    def rows(self, places: Tensor) -> Tensor:
        """Rows of each pair at its own places, as of `_Factors`."""
        pairs = zip(self.others, places, strict=True)
        return torch.stack([self.projector[of_pair] * other[of_pair] for other, of_pair in pairs])

    def power_steps(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Two steps of the power method, as of `_Factors`."""
        product = torch.empty_like(self.projector)
        steps = torch.empty(2, *chosen.mT.shape, dtype=chosen.dtype, device=chosen.device)
        # Pair by pair, so that the product stays in the cache.
        for once, twice, other, of_pair in zip(*steps, self.others, chosen.mT.contiguous(), strict=True):
            torch.mul(self.projector, other, out=product)
            torch.mv(product, of_pair, out=once).mul_(of_pair)
            torch.mv(product, once, out=twice).mul_(of_pair)
        once, twice = steps.mT
        return once, twice


def _beside_diagonal(frame: Tensor) -> Tensor:
    """The projector without its diagonal, shape=[n, n]."""
    return (frame @ frame.mT).fill_diagonal_(0)


def _precise(
    places: Places, coupling: _Factors | _Projectors, leverage: Tensor, of_others: Tensor, squares: Array
) -> _Precise:
    """Degrees of freedom of a frame with each of many others, and what few coordinates carry.

    `leverage` has shape [n], `of_others` [n, pairs]; `squares` are those of C without its diagonal.
    """
    diagonal = leverage[:, None] * of_others
    # A row of a projector has as much beside the diagonal: no row of C can have more than the product of both.
    bounds = (leverage * (1 - leverage))[:, None] * (of_others * (1 - of_others))
    largest = bounds.topk(min(_LARGEST + 1, len(leverage)), dim=0)
    large, beyond = largest.indices[:_LARGEST].mT, largest.values[_LARGEST:].sum(dim=0)  # of the next one, if any
    rows = coupling.rows(large)
    # Of a variance 2 |C|^2, a row and its column have a part in 4 |row|^2.
    row_squares = rows.square().sum(dim=2)
    is_few = 2 * row_squares.amax(dim=1).cpu().double().numpy() > _CONCENTRATED * squares
    chosen = torch.as_tensor(is_few, device=leverage.device)
    small = torch.ones_like(diagonal).scatter_(0, large.mT, (~chosen).to(diagonal).expand(large.shape[1], -1))
    kept = diagonal * small

    lengths = [torch.linalg.vector_norm(vectors, dim=0) for vectors in coupling.power_steps(small)]
    sums = kept.square().sum(dim=0), kept.sum(dim=0), diagonal.sum(dim=0), (diagonal.sqrt() * small).sum(dim=0)
    numbers = (one.cpu().double().numpy() for one in (*lengths, *sums))
    once_length, twice_length, diagonal_square, trace, of_all, roots = numbers

    rows, large = rows[chosen].cpu().double(), large[chosen].cpu()
    among = torch.take_along_dim(rows, large[:, None], dim=2)
    across = rows.scatter(2, large[:, None].expand(*rows.shape[:2], -1), 0)
    removed = among.square().sum(dim=(1, 2)) + 2 * across.square().sum(dim=(1, 2))
    square = squares.copy()
    # What is left can be no more than the diagonal allows, and is rounding where it is far less than there was.
    square[is_few] -= removed.numpy()
    left = np.minimum(np.maximum(square, _ROUNDING * squares), trace**2 - diagonal_square)
    square = np.where(is_few, left.clip(min=0), squares)
    eigenvalue = np.divide(twice_length, once_length, out=np.zeros_like(once_length), where=once_length > 0)
    found = FewCoordinates(
        places[is_few],
        among.numpy(),
        (across @ across.mT).numpy(),
        square[is_few],
        eigenvalue[is_few],
        (of_all - trace)[is_few],
        roots[is_few],
        2 * torch.minimum(row_squares.amin(dim=1), beyond).clamp(min=0).sqrt().cpu().double().numpy()[is_few],
    )
    return places, _degrees_of_freedom(square, eigenvalue), found


def _degrees_of_freedom(square: Array, scale: Array) -> Array:
    """Of the law that has this scale and twice this variance; no more than a normal law needs."""
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        dof: Array = np.nan_to_num(square / scale**2, nan=_MOST_DOF, posinf=_MOST_DOF).clip(1, _MOST_DOF)
    return dof


def chi_square_tail(z: Array, dof: Array) -> Array:
    """Upper tail of chi-square laws of so many degrees of freedom, z standard deviations above their means."""
    chance: Array = special.chdtrc(dof, np.maximum(dof + np.sqrt(2 * dof) * z, 0))
    return chance
