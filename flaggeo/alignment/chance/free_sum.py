"""Law of neighbouring singular values of two weights side by side in unrelated orientation, at large width."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Complex = NDArray[np.complexfloating]
Real = NDArray[np.float64]

# Distance from the real axis, relative to the point, at which eigenvalues are counted; what it does is corrected to
# first order.
_HEIGHT = 1e-3
# Factor by which the height shrinks at each step where a solution is followed down from far above the axis.
_DESCENT = 4
# Steps for one solution, points tried for one eigenvalue, and what its count may be off by.
_STEPS = 30
_POINTS = 100
_COUNTED = 1e-6
# Spacings of its neighbourhood beyond which an eigenvalue stands apart from the next; neighbours rarely are 3 apart.
_APART = 3
# Logarithm of the least eigenvalue looked for, relative to the largest there can be.
_FLOOR = -50
# Spread over mean of the distance of neighbouring eigenvalues, by Wigner's surmise for real symmetric matrices.
_REPULSION = math.sqrt(4 / math.pi - 1)


def stacked_ratio_moments(first: Tensor, second: Tensor, kept: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation of :math:`\sigma_{k+1} / \sigma_k` of two weights side by side, turned at random.

    With the eigenvalues a of :math:`A = W_1 W_1^\top / \lVert W_1 \rVert^2` and b of
    :math:`B = W_2^\top W_2 / \lVert W_2 \rVert^2`, and G_A, G_B the traces of their resolvents over d, the number of
    eigenvalues of :math:`A + Q B Q^\top` above x is

    .. math::
        \frac{d}{\pi}\, \mathrm{Im} \Bigl( \tfrac1d \sum_i \log(\omega_A - a_i) + \tfrac1d \sum_i \log(\omega_B - b_i)
        - \log(\omega_A + \omega_B - x) \Bigr), \qquad
        G_A(\omega_A) = G_B(\omega_B) = \frac{1}{\omega_A + \omega_B - x},

    and the k-th of them lies where that is :math:`k - \tfrac12`.

    Parameters
    ----------
    first : Tensor, shape=[..., n]
        Singular values of W_1, of any scale; zeros count as zero, so cut off what is rounding.
    second : Tensor, shape=[..., p]
        Singular values of W_2.
    kept : Tensor of int, shape=[...]
        k, at most the number of non-zero values of either weight.
    dim : int
        Width d of the hidden space, at least n and p.

    Returns
    -------
    mean, standard_deviation : Tensor, shape=[...]
        In [0, 1], on the device and in the dtype of `first`; NaN where k is 0 or d, and where no solution is
        found. The deviation is NaN also where the k-th value stands apart from the next, by more than three of the
        spacings around it.

    Notes
    -----
    Free probability: subordination gives the law of a sum of matrices in unrelated orientation [1]_, whose eigenvalues
    are as good as fixed at the scale of many of them. The distance of two neighbours is not, and has the spread of
    Wigner's surmise, 0.52 of its mean [2]_. In simulations from d = 20 on, with flat, decaying and spiked spectra, the
    mean was off by at most a quarter of a standard deviation, and that by at most a quarter. On the weights of SmolLM2
    both agree with 100 random orientations, for heads of 64 dimensions as for 1536 hidden units.

    On the CPU in float64. The solution is followed from far above the real axis, where it is unique.

    References
    ----------
    .. [1] S. Belinschi and H. Bercovici, A new approach to subordination results in free probability, J. Anal. Math.
       101 (2007).
    .. [2] M. L. Mehta, Random Matrices, chapter 1.
    """
    mean = torch.full(kept.shape, torch.nan, dtype=first.dtype, device=first.device)
    spread = mean.clone()
    defined = (kept > 0) & (kept < dim)
    if defined.any():
        # Two eigenvalues of each sum, the k-th and the next, as rows of their own.
        a, b = (_Gram(_shares(values.expand(*kept.shape, -1)[defined]), dim) for values in (first, second))
        k = np.repeat(kept[defined].cpu().numpy(), 2) + np.tile([0, 1], int(defined.sum()))
        with np.errstate(all="ignore"):  # what is not finite is not found
            points, densities = (found.reshape(-1, 2).T for found in _eigenvalues(a, b, k))
            ratio = np.sqrt(points[1] / points[0])
            apart = (points[0] - points[1]) * densities.max(axis=0) > _APART
        mean[defined] = torch.from_numpy(ratio).to(mean)
        spread[defined] = torch.from_numpy(np.where(apart, np.nan, _REPULSION * (1 - ratio))).to(mean)
    return mean, spread


def _shares(singular_values: Tensor) -> Real:
    """Eigenvalues of the Gram matrices at trace 1, each row twice."""
    squares = singular_values.to("cpu", torch.float64).square().numpy()
    return np.repeat(squares / squares.sum(axis=1, keepdims=True), 2, axis=0)


class _Gram:
    """Spectra of d x d Gram matrices, one a row: the eigenvalues that are not known to be zero, and d."""

    def __init__(self, eigenvalues: Real, dim: int) -> None:
        self.eigenvalues, self.dim = eigenvalues, dim
        self.zeros = dim - eigenvalues.shape[1]

    def resolvent(self, point: Complex) -> tuple[Complex, Complex]:
        """Trace of the resolvent over d, and its derivative."""
        terms = 1 / (point[:, None] - self.eigenvalues)
        value = (terms.sum(axis=1) + self.zeros / point) / self.dim
        slope = -(np.square(terms).sum(axis=1) + self.zeros / np.square(point)) / self.dim
        return value, slope

    def angle(self, point: Complex) -> Real:
        """Sum of the angles under which all eigenvalues are seen: pi for each one that lies far to the right."""
        return np.asarray(np.angle(point[:, None] - self.eigenvalues).sum(axis=1) + self.zeros * np.angle(point))

    def largest(self, k: NDArray[np.int64]) -> Real:
        """The k-th largest of each row, 0 beyond those that are kept."""
        descending = np.pad(-np.sort(-self.eigenvalues, axis=1), ((0, 0), (0, 1)))
        return np.asarray(np.take_along_axis(descending, np.minimum(k - 1, descending.shape[1] - 1)[:, None], 1)[:, 0])


def _eigenvalues(first: _Gram, second: _Gram, k: NDArray[np.int64]) -> tuple[Real, Real]:
    """Points above which there are k - 1/2 eigenvalues of the sums, and the number of eigenvalues per unit there."""
    one = np.ones_like(k)
    top = first.largest(one) + second.largest(one)
    # No eigenvalue of a sum lies below the same one of either part.
    guess = np.maximum(first.largest(k), second.largest(k))
    point = np.log(np.where(guess > 0, guess, top / first.dim))
    least, most = np.log(top) + _FLOOR, np.log(2 * top)  # seen from above the axis the largest may lie a little beyond
    near: tuple[Complex, Complex] | None = None
    before = np.full(k.shape, np.inf)
    for _ in range(_POINTS):
        x = np.exp(point)
        at_first, at_second, found = _descended(first, second, x, top, near)
        near = at_first, at_second
        reciprocal = at_first + at_second - x * (1 + 1j * _HEIGHT)
        trace = 1 / reciprocal
        angle = first.angle(at_first) + second.angle(at_second) - first.dim * np.angle(reciprocal)
        # To first order what the height has added.
        surplus = (angle - first.dim * _HEIGHT * x * trace.real) / math.pi - (k - 0.5)
        density = -first.dim * trace.imag / math.pi
        missed = ~(found & (np.abs(surplus) < _COUNTED))
        if not missed.any():
            break
        least, most = np.where(surplus > 0, point, least), np.where(surplus > 0, most, point)
        # Newton's step, or half of the way where that leaves the bounds or the one before did not do much.
        following = point + surplus / (density * x)
        trusted = (least < following) & (following < most) & (np.abs(surplus) < before / 2)
        following, before = np.where(trusted, following, (least + most) / 2), np.abs(surplus)
        point = np.where(missed, following, point)  # one that is found stays, whatever the others of the batch do
    return np.where(missed, np.nan, x), density


def _descended(
    first: _Gram, second: _Gram, x: Real, top: Real, near: tuple[Complex, Complex] | None
) -> tuple[Complex, Complex, NDArray[np.bool_]]:
    """Points where both resolvents are that of the sum at x, from those at a point nearby or from far above it."""
    if near is not None:
        at_first, at_second, found = _subordination(first, second, x * (1 + 1j * _HEIGHT), near)
        if found.all():
            return at_first, at_second, found
    from_above = x + 1j * top, x + 1j * top
    steps = 2 + int(np.log(np.max(top / (_HEIGHT * x))) / math.log(_DESCENT))
    for height in np.geomspace(top, _HEIGHT * x, steps):
        *points, reached = _subordination(first, second, x + 1j * height, from_above)
        from_above = points[0], points[1]
    if near is None:
        return *from_above, reached
    return np.where(found, at_first, from_above[0]), np.where(found, at_second, from_above[1]), found | reached


def _subordination(
    first: _Gram, second: _Gram, z: Complex, near: tuple[Complex, Complex]
) -> tuple[Complex, Complex, NDArray[np.bool_]]:
    """The same at z by Newton's method, and whether it was found."""
    at_first, at_second = near
    found = np.zeros(z.shape, dtype=bool)
    for _ in range(_STEPS):
        (value, slope), (other, other_slope) = first.resolvent(at_first), second.resolvent(at_second)
        unequal, missing = value - other, at_first + at_second - z - 1 / value
        bend = 1 + slope / np.square(value)
        determinant = slope + other_slope * bend
        step = (unequal + other_slope * missing) / determinant
        other_step = (slope * missing - bend * unequal) / determinant
        # Both points lie above z. A step that would leave the upper half plane, or go far, is cut.
        fall = np.maximum(step.imag / at_first.imag, other_step.imag / at_second.imag)
        leap = np.maximum(np.abs(step / at_first), np.abs(other_step / at_second))
        share = 1 / np.maximum(np.maximum(fall, leap / 2) / 0.9, 1)
        at_first, at_second = at_first - share * step, at_second - share * other_step
        found = (leap < 1e-10) & (np.minimum(at_first.imag, at_second.imag) > z.imag * (1 - 1e-6))
        if found.all():
            break
    return at_first, at_second, found
