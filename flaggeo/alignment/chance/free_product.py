"""Law of the nuclear norm of a product of two matrices in unrelated orientation, in the limit of large width."""

import math

import numpy as np
import torch
from torch import Tensor

# Nodes of the quadrature in the rank fraction: doubling them moves neither moment by 1e-6.
_NODES = 48
# Of Newton's method; 15 are enough for singular values that differ by a factor of 1000.
_STEPS = 200


def nuclear_norm_moments(first: Tensor, second: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    r"""Mean and standard deviation of :math:`\lVert W_2 Q W_1 \rVert_*` over uniform rotations Q.

    .. math::
        \mathrm{E} = \frac{2d}{\pi} \int_0^{r/d} \sqrt{t(u)}\, du, \qquad
        \mathrm{Var} = \frac{2}{\pi^2} \iint \log \frac{u v\, \Delta t_A\, \Delta t_B}{\Delta u\, \Delta t}\,
        d\sqrt{t(u)}\, d\sqrt{t(v)}, \qquad t(u) = t_A(u)\, t_B(u)\, \frac{u}{1 - u}

    with :math:`t_A(u)` the root of :math:`\tfrac1d \mathrm{tr}\, A (A + t)^{-1} = u` for the Gram matrix
    :math:`A = W_1 W_1^\top`, the same for :math:`B = W_2^\top W_2`, and :math:`\Delta` the difference of the
    values at u and v.

    Parameters
    ----------
    first : Tensor, shape=[..., n]
        Singular values of W_1; zeros count as zero, so cut off what is rounding.
    second : Tensor, shape=[..., p]
        Singular values of W_2.
    dim : int
        Width d of the space that Q turns, at least n and p.

    Returns
    -------
    mean, standard_deviation : Tensor, shape=[...]
        In the units of the norm, on the device and in the dtype of `first`; NaN where one matrix is zero.

    Notes
    -----
    Free probability: t(u) is Voiculescu's S-transform, which multiplies for matrices in unrelated orientation,
    and the variance is that of second-order freeness, doubled for real matrices. The mean is exact to a
    relative O(1/d): against 3000 draws it is 0.1 to 0.3 % high for d = 64 to 100 and 0.7 % for d = 24, a tenth
    of the spread, and 1.5 % for rank 9 in d = 40; the spread itself is within 5 % from d = 16 on, 7 % at d = 8.
    No random draw is needed: the norm of one product of width 1536 costs more than both moments. Both are
    computed on the CPU in float64, which not every device has.

    References
    ----------
    .. [1] D. Voiculescu, Multiplication of certain non-commuting random variables, J. Operator Theory 18 (1987).
    .. [2] B. Collins, J. Mingo, P. Śniady and R. Speicher, Second order freeness and fluctuations of random
       matrices III, Documenta Math. 12 (2007).

    Examples
    --------
    Two unrelated subspaces of half the dimension, whose mean cosine is 2 / pi:

    >>> half = torch.ones(50, dtype=torch.float64)
    >>> mean, deviation = nuclear_norm_moments(half, half, dim=100)
    >>> round(float(mean) / 50, 4), round(float(deviation) / 50, 4)
    (0.6366, 0.0064)
    """
    if max(first.shape[-1], second.shape[-1]) > dim:
        raise ValueError(
            f"nuclear_norm_moments expected at most {dim} singular values, the width of the space; got "
            f"{first.shape[-1]} and {second.shape[-1]}."
        )
    batch = torch.broadcast_shapes(first.shape[:-1], second.shape[:-1])
    grams = [values.to("cpu", torch.float64).square().expand(*batch, -1) for values in (first, second)]
    fraction = torch.minimum(*((gram > 0).sum(dim=-1) for gram in grams)).double()[..., None] / dim
    nodes, weights = (torch.as_tensor(part) for part in np.polynomial.legendre.leggauss(_NODES))
    angle = math.pi / 4 * (1 + nodes)
    # The integrands grow like 1 / sqrt(u) at 0 and vanish like a root at the other end.
    u = fraction * angle.sin().square()
    du = fraction * (2 * angle).sin() * math.pi / 4 * weights
    (t_a, slope_a), (t_b, slope_b) = (_resolvent_root(gram, u, dim) for gram in grams)
    t = t_a * t_b * u / (1 - u)
    slope = t * (slope_a / t_a + slope_b / t_b + 1 / u + 1 / (1 - u))
    mean = 2 * dim / math.pi * (t.sqrt() * du).sum(dim=-1)

    on_diagonal = torch.eye(_NODES, dtype=torch.bool)
    difference_a, difference_b, difference_u, difference = (
        torch.where(on_diagonal, derivative[..., None], values[..., :, None] - values[..., None, :])
        for values, derivative in ((t_a, slope_a), (t_b, slope_b), (u, torch.ones_like(u)), (t, slope))
    )
    kernel = (u[..., :, None] * u[..., None, :] * difference_a * difference_b / (difference_u * difference)).abs().log()
    step = slope / (2 * t.sqrt()) * du
    variance = 2 / math.pi**2 * (step[..., None, :] @ kernel @ step[..., :, None])[..., 0, 0]
    return mean.to(first), variance.clamp(min=0).sqrt().to(first)


def _resolvent_root(gram: Tensor, u: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Root t of ``sum a / (a + t) = dim * u`` for the eigenvalues a, and its derivative by u, shape=[..., nodes].

    The reciprocal of the sum is increasing and concave in t, so Newton's method rises to the root from below it.
    """
    positive = gram > 0
    rank = positive.sum(dim=-1, keepdim=True)
    t = torch.where(positive, gram, torch.inf).amin(dim=-1, keepdim=True) * (rank / dim - u) / u
    eigenvalues, target = gram[..., None, :], dim * u
    for _ in range(_STEPS):
        terms = 1 / (eigenvalues + t[..., None])
        total = (eigenvalues * terms).sum(dim=-1)
        steepness = (eigenvalues * terms.square()).sum(dim=-1)
        step = total * (total / target - 1) / steepness
        t = t + step
        if bool((step <= 1e-8 * t).all()):  # convergence is quadratic
            break
    return t, -dim / steepness
