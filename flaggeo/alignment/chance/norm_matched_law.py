"""Where the leading directions of norm-matched random matrices lie, and how they align by chance, without a draw."""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .sign_flip import folded_normal_mean, sums_of_all_signs

#: How far the mean |cos| and overlap may be from those of drawn matrices: the largest difference on the weights of
#: SmolLM2 and MiniLM, role by role, docs/measurements.md. Verdicts leave it as a margin.
LAW_ERROR = 0.03

# Points of the integral, from this share of the cut to so many times the top of the spectrum.
_POINTS = 24
_NEAREST = 1e-4
_FARTHEST = 30.0
_NEWTON_STEPS = 2
# With fixed norms a term depends on itself; the number of directions beyond the cut may then be off by so much.
_STEPS_OF_FIXED_NORMS, _SETTLED = 5, 0.2
# Groups of sorted squares grow with their place: each has at most 1 / _GROUPS of those before it, and one.
_GROUPS = 16
_MOST_CUTS = 60
# Of the number of directions beyond the cut, for each of them and once more.
_TOLERANCE = 2e-4
# Two lines may both have at most nine coordinates of more than a tenth.
_LARGE, _MOST_LARGE = 0.1, 9


def norm_matched_leverages(
    row_norms: Tensor, column_norms: Tensor, ranks: Tensor, *, fixed_norms: bool = True
) -> tuple[Tensor, Tensor]:
    r"""Mean leverages of the leading singular vectors of random matrices with given norms of rows and columns.

    Parameters
    ----------
    row_norms : Tensor, shape=[batch, m]
    column_norms : Tensor, shape=[batch, n]
        Only their ratios count, so that a block of rows of a larger matrix may be given with the columns of all of it.
    ranks : Tensor of int, shape=[batch]
        Number of leading directions; at most the number of rows, and of columns, that are not zero. May be 0.
    fixed_norms : bool, optional
        Whether each matrix has these norms, or on average only, as a block of a larger one.

    Returns
    -------
    left : Tensor, shape=[batch, m]
    right : Tensor, shape=[batch, n]
        In [0, 1], with sum `ranks`; float64 on the device of the norms (float32 on one without it). A matrix alone
        and in a batch gives the same bits.

    Notes
    -----
    For :math:`W = D_r Z D_c` with squared scales r, c and independent entries, the resolvent
    :math:`(W W^\top - z)^{-1}` is close to a diagonal matrix [1]_ with the entries

    .. math:: g_i = \frac{-1}{z (1 + r_i \tilde\delta)}, \qquad
        -z \delta = \sum_i \frac{r_i}{1 + r_i \tilde\delta}, \qquad
        -z \tilde\delta = \sum_j \frac{c_j}{1 + c_j \delta}

    Of all vectors with an eigenvalue above x, row i has the leverage

    .. math:: a_i = \frac{1}{\pi} \int_0^\infty \operatorname{Re} \left( g_i + \frac{1}{z} \right) d\eta, \qquad
        z = x + i \eta

    (1/z takes the eigenvalue 0 off), and x is where these sum to the rank; likewise for the columns. The integrand is
    analytic beside the real axis: the trapezoidal rule in :math:`\log \eta` converges exponentially, and nothing is
    smoothed. Newton's method follows the solution down from large :math:`\eta`. Similar channels are summed in groups,
    so that the cost hardly grows with the width.

    `norm_matched` fixes the norms, which vary in :math:`D_r Z D_c`: what a channel's own squared norm adds to its
    :math:`\tilde\delta` through :math:`\delta` is taken off, to first order,

    .. math:: \tilde\delta_i = \tilde\delta + \frac{t_i}{z^2} \sum_j t_j^2, \qquad
        t_i = \frac{r_i}{1 + r_i \tilde\delta_i}, \quad t_j = \frac{c_j}{1 + c_j \delta_j}

    This tells outlier channels of nearly equal norms apart. Where that has no solution nearby, the norms are left free.

    References
    ----------
    .. [1] W. Hachem, P. Loubaton and J. Najim, Deterministic equivalents for certain functionals of large random
       matrices, Ann. Appl. Probab. 17 (2007).

    Examples
    --------
    Equal norms leave all channels alike; a row of ten times the norm has nearly all of the first left vector:

    >>> rows = torch.ones(2, 64)
    >>> rows[1, 0] = 10
    >>> left, right = norm_matched_leverages(rows, torch.ones(2, 32), torch.tensor([2, 1]))
    >>> left[:, 0]
    tensor([0.0312, 0.9803], dtype=torch.float64)
    """
    wanted = ranks.cpu().numpy().astype(np.float64)
    ends = [_shares(norms.detach().cpu().double().numpy()) for norms in (row_norms, column_norms)]
    # All channels of a side have the leverage 1 where there are as many as directions.
    full = [(shares > 0).sum(axis=-1) <= wanted for shares in ends]
    equivalent = _Equivalent(*ends)
    cut = equivalent.cut(wanted, given=(wanted == 0) | (full[0] & full[1]))
    # Metal has no float64.
    dtype = torch.float32 if row_norms.device.type == "mps" else torch.float64
    found = []
    for shares, complete, of_channels in zip(
        ends, full, equivalent.leverages(cut, wanted if fixed_norms else None), strict=True
    ):
        leverages = of_channels.clip(0, 1)
        # What is missing of the rank goes where there is room.
        room = leverages * (1 - leverages)
        space = room.sum(axis=-1)
        missing = (wanted - leverages.sum(axis=-1)) / np.where(space > 0, space, 1.0)
        exact = (shares > 0) * (wanted > 0)[:, None]
        filled = (leverages + missing[:, None] * room).clip(0, 1)
        chosen = np.where((complete | (wanted == 0))[:, None], exact, filled)
        found.append(torch.from_numpy(chosen).to(row_norms.device, dtype))
    return found[0], found[1]


def norm_matched_cosine(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation of \|cos\| of the first singular vectors of two independent norm-matched matrices.

    Parameters
    ----------
    first, second : Tensor, shape=[..., n]
        Leverages of the two vectors, with sum 1, from `norm_matched_leverages`.

    Returns
    -------
    mean, sd : Tensor, shape=[...]
        float64, in [0, 1].

    Notes
    -----
    The signs of the entries are free. The entry of an outlier channel is an eigenvector's large one, whose size hardly
    changes; others are normal. So the signs of all coordinates of more than a tenth of both vectors are gone through,
    and the sum over the rest is taken as normal. The mean square is the sum of the products of leverages, exactly.

    Examples
    --------
    Two lines on one channel coincide, and two on two channels coincide or are orthogonal:

    >>> norm_matched_cosine(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    (tensor([1.0000, 0.5000], dtype=torch.float64), tensor([0.0000, 0.5000], dtype=torch.float64))
    """
    first, second = first.cpu().double(), second.cpu().double()
    squares = first * second
    large = (first > _LARGE) & (second > _LARGE)
    sizes = torch.where(large, squares, 0.0).topk(min(_MOST_LARGE, squares.shape[-1]), dim=-1).values.sqrt()
    # Positive, so that without small coordinates the law is a step and not 0 / 0.
    rest = torch.where(large, 0.0, squares).sum(dim=-1, keepdim=True).sqrt().clamp(min=torch.finfo(torch.float64).tiny)
    mean = folded_normal_mean(sums_of_all_signs(sizes), rest).mean(dim=-1)
    return mean, (squares.sum(dim=-1) - mean.square()).clamp(min=0).sqrt()


def norm_matched_overlap(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation of the overlap of leading subspaces of two independent norm-matched matrices.

    .. math:: \mathrm{E} \, \lVert A^\top B \rVert_F^2 = \sum_i a_i b_i

    Parameters
    ----------
    first, second : Tensor, shape=[..., n]
        Leverages of the two subspaces, from `norm_matched_leverages`.

    Returns
    -------
    mean, sd : Tensor, shape=[...]
        Divided by the smaller rank; float64.

    Notes
    -----
    The mean is exact, since coordinate signs are free. A row of a projector has :math:`a_i (1 - a_i)` beside the
    diagonal; shared among the other coordinates in proportion to theirs, these squares give the variance as of
    `sign_flip_spread`, which is that of uniform subspaces where leverages are equal.
    """
    first, second = first.cpu().double(), second.cpu().double()
    smaller = torch.minimum(first.sum(dim=-1), second.sum(dim=-1))
    beside = [a * (1 - a).clamp(min=0) for a in (first, second)]
    scale = (beside[0].sum(dim=-1) * beside[1].sum(dim=-1)).sqrt()
    products = beside[0] * beside[1]
    spread = 2**0.5 * (products.sum(dim=-1).square() - products.square().sum(dim=-1)).clamp(min=0).sqrt() / scale
    return (first * second).sum(dim=-1) / smaller, spread.nan_to_num() / smaller


def _shares(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared norms as shares of their sum, shape=[batch, n]; zeros for a zero matrix."""
    largest = norms.max(axis=-1, keepdims=True)
    squares = (norms / np.where(largest > 0, largest, 1.0)) ** 2
    shares: NDArray[np.float64] = squares / squares.sum(axis=-1, keepdims=True).clip(min=1)
    return shares


class _Equivalent:
    """The deterministic equivalent of a batch of matrices, from the shares of their rows and columns.

    In NumPy, whose steps cost less than torch's: there are thousands, each of few numbers.
    """

    def __init__(self, rows: NDArray[np.float64], columns: NDArray[np.float64]) -> None:
        self._groups = _Groups(rows), _Groups(columns)
        # No eigenvalue is larger. A zero matrix has none, and any number does.
        top = (np.sqrt(rows.max(axis=-1)) + np.sqrt(columns.max(axis=-1))) ** 2
        self._top = np.where(top > 0, top, 1.0)

    def cut(self, ranks: NDArray[np.float64], given: NDArray[np.bool_]) -> NDArray[np.float64]:
        """The x above which there are so many eigenvalues, shape=[batch]; anywhere for those that are `given`."""
        cuts = self._top / 2
        low, high = np.zeros_like(cuts), self._top.copy()
        [open_ones] = np.nonzero(~given)
        for _ in range(_MOST_CUTS):
            cut, rank = cuts[open_ones], ranks[open_ones]
            line = self._line(cut, open_ones)
            too_few = line.beyond < rank
            low[open_ones] = least = np.where(too_few, low[open_ones], cut)
            high[open_ones] = most = np.where(too_few, cut, high[open_ones])
            with np.errstate(all="ignore"):  # a step that is no number is not inside
                newton = cut * np.exp((line.beyond - rank) / (line.density * cut))
            inside = (newton > least) & (newton < most) & (newton > most / 16)
            halfway = np.where(least > 0, np.sqrt(least * most), most / 4)
            off = np.abs(line.beyond - rank) > _TOLERANCE * (1 + rank)
            cuts[open_ones] = np.where(off, np.where(inside, newton, halfway), cut)
            open_ones = open_ones[off]
            if not len(open_ones):
                break
        return cuts

    def leverages(
        self, cut: NDArray[np.float64], fixed_ranks: NDArray[np.float64] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Of all eigenvectors above the cut, shape=[batch, m] and [batch, n]; of so many, where norms are fixed."""
        line = self._line(cut, np.arange(len(cut)), fixed_norms=fixed_ranks is not None)
        if fixed_ranks is not None:
            [astray] = np.nonzero(~(np.abs(line.beyond - fixed_ranks) < _SETTLED))
            if len(astray):
                for fixed, free in zip(line, self._line(cut[astray], astray), strict=True):
                    fixed[astray] = free
        rows, columns = self._groups
        return rows.spread(line.of_rows), columns.spread(line.of_columns)

    def _line(self, cut: NDArray[np.float64], places: NDArray[np.int64], *, fixed_norms: bool = False) -> "_Line":
        r"""The integrals over the cuts of some matrices, from the top downwards.

        Beyond both ends the integrand goes on as :math:`\eta` and :math:`1 / \eta`, whose sums the weights have.
        """
        lowest, highest = _NEAREST * cut, _FARTHEST * self._top[places]
        rows, columns = (groups.means[places] for groups in self._groups)
        row_counts, column_counts = (groups.counts for groups in self._groups)
        step = np.log(highest / lowest) / (_POINTS - 1)
        beyond, of_rows, of_columns = (np.zeros_like(start) for start in (cut, rows, columns))
        row_terms, column_terms = rows.astype(complex), columns.astype(complex)
        for point in range(_POINTS):
            z: NDArray[np.complex128] = cut + 1j * highest * np.exp(-step * point)
            if point == 0:
                delta = other = -1 / z
                delta_shift = other_shift = np.zeros_like(z)
            for _ in range(_STEPS_OF_FIXED_NORMS if fixed_norms else _NEWTON_STEPS):
                to_rows, to_columns = other[:, None], delta[:, None]
                if fixed_norms:
                    to_rows = to_rows + other_shift[:, None] * row_terms
                    to_columns = to_columns + delta_shift[:, None] * column_terms
                row_terms, column_terms = rows / (1 + rows * to_rows), columns / (1 + columns * to_columns)
                row_sum, row_square = _sums(row_terms, row_counts)
                column_sum, column_square = _sums(column_terms, column_counts)
                if fixed_norms:
                    delta_shift, other_shift = row_square / z**2, column_square / z**2
                first, second = z * other + column_sum, z * delta + row_sum
                determinant = column_square * row_square - z**2
                delta = delta + (first * row_square + z * second) / determinant
                other = other + (column_square * second + z * first) / determinant
            weight = step * z.imag / math.pi
            if point in (0, _POINTS - 1):
                weight = weight / -np.expm1(-step)
            inner = z * delta_shift * other_shift - delta * other
            beyond += weight * inner.real
            of_rows += weight[:, None] * (to_rows * row_terms / z[:, None]).real
            of_columns += weight[:, None] * (to_columns * column_terms / z[:, None]).real
        return _Line(beyond, inner.imag / math.pi, of_rows, of_columns)


class _Line(NamedTuple):
    """What lies above the cuts of some matrices.

    Attributes
    ----------
    beyond : ndarray, shape=[batch]
        Number of eigenvalues.
    density : ndarray, shape=[batch]
        Of eigenvalues at the cut.
    of_rows, of_columns : ndarray, shape=[batch, groups]
        Leverages of a channel of each group.
    """

    beyond: NDArray[np.float64]
    density: NDArray[np.float64]
    of_rows: NDArray[np.float64]
    of_columns: NDArray[np.float64]


class _Groups:
    """Channels in the order of their shares, similar ones together."""

    def __init__(self, shares: NDArray[np.float64]) -> None:
        ends, n = [1], shares.shape[-1]
        while ends[-1] < n:
            ends.append(min(n, ends[-1] + 1 + ends[-1] // _GROUPS))
        self._order = np.argsort(-shares, axis=-1, kind="stable")
        self._shares = np.take_along_axis(shares, self._order, axis=-1)
        sums = self._shares.cumsum(axis=-1)[:, np.array(ends) - 1]
        self._sizes = np.diff(ends, prepend=0)
        self.counts = self._sizes.astype(np.float64)
        self.means = np.diff(sums, axis=-1, prepend=0.0) / self.counts

    def spread(self, leverages: NDArray[np.float64]) -> NDArray[np.float64]:
        """Leverages of all channels, in proportion to their shares in each group, shape=[batch, n]."""
        ratios = leverages / np.where(self.means > 0, self.means, 1.0)
        spread_out = np.empty_like(self._shares)
        np.put_along_axis(spread_out, self._order, ratios.repeat(self._sizes, axis=-1) * self._shares, axis=-1)
        return spread_out


def _sums(terms: NDArray[np.complex128], counts: NDArray[np.float64]) -> tuple[NDArray[np.complex128], ...]:
    """Sums of the terms and of their squares over all channels, shape=[batch]."""
    counted = counts * terms
    return counted.sum(axis=-1), (counted * terms).sum(axis=-1)
