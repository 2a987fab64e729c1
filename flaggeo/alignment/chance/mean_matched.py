"""What a common mean of the entries gives: what it makes of each direction is kept, the rest gets random signs."""

from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor

# Norms of channels that vary less, relative to all of them, are equal up to rounding.
_EQUAL_NORMS = 1e-6


def mean_basis(norms: Tensor) -> Tensor:
    r"""Orthonormal basis of the constant vector and the vector of the channels' norms.

    Parameters
    ----------
    norms : Tensor, shape=[..., n]
        Norm of each channel in the weight: of its columns for what it reads, of its rows for what it writes.

    Returns
    -------
    basis : Tensor, shape=[..., n, 2]
        The first column is constant, the second what the norms vary by; zeros where they do not vary.

    Examples
    --------
    >>> mean_basis(torch.tensor([1.0, 1.0, 3.0, 3.0])).mT
    tensor([[ 0.5000,  0.5000,  0.5000,  0.5000],
            [-0.5000, -0.5000,  0.5000,  0.5000]])
    """
    constant = torch.full_like(norms, norms.shape[-1] ** -0.5)
    varying = norms - norms.mean(dim=-1, keepdim=True)
    size, whole = (torch.linalg.vector_norm(vector, dim=-1, keepdim=True) for vector in (varying, norms))
    varies = size > _EQUAL_NORMS * whole
    return torch.stack([constant, torch.where(varies, varying / torch.where(varies, size, 1), 0)], dim=-1)


def mean_part(frame: Tensor, norms: Tensor) -> Tensor:
    r"""What the means of singular vectors over the channels account for in them.

    Where all entries of a weight have a common mean, :math:`W_{ij} = a_i (\mu + z_{ij}) b_j` with scales a, b and noise
    z, the leading direction is near b whatever the noise is: near the constant one where the channels have equal norms,
    near their norms otherwise. This is the orthogonal projection P on the span of the two,

    .. math:: K = P V, \qquad P \text{ onto } \mathrm{span}(\mathbf 1, b)

    which keeps the plain and the norm-weighted mean of each singular vector, and so of all rows of the weight.

    Parameters
    ----------
    frame : Tensor, shape=[..., n, r]
        Orthonormal.
    norms : Tensor, shape=[..., n]
        As in `mean_basis`.

    Returns
    -------
    part : Tensor, shape=[..., n, r]

    Notes
    -----
    Of a random direction it is a share of about 2 / n. The column means of the weight are no part of the span: those of
    any weight of low rank lie in its leading subspace, so that they would account for every alignment.

    References
    ----------
    docs/measurements.md, "Nulls that keep a common mean".

    Examples
    --------
    >>> mean_part(torch.tensor([[0.6], [0.8]]), torch.ones(2)).mT
    tensor([[0.7000, 0.7000]])
    """
    basis = mean_basis(norms.to(frame))
    return basis @ (basis.mT @ frame)


def mean_share(frame: Tensor, norms: Tensor) -> float:
    """Squared norm of the `mean_part` of the first direction, in [0, 1]; NaN where there is no direction.

    Examples
    --------
    >>> round(mean_share(torch.tensor([[0.6], [0.8]]), torch.ones(2)), 4)
    0.98
    """
    if not frame.shape[1]:
        return float("nan")
    return min(float(mean_part(frame[:, :1], norms).square().sum()), 1.0)


def mean_matched_at_every_rank(first: Tensor, second: Tensor, norms: tuple[Tensor, Tensor]) -> Tensor:
    r"""Mean of the squared cosines of the k leading directions of two weights under the mean-matched null, for each k.

    With the rows :math:`a_i, b_i` of the two frames and :math:`p_i, q_i` of their mean parts P and Q, and a random sign
    of what is left of each coordinate,

    .. math::
        \mathrm{E} \Bigl\lVert P^\top Q + \sum_i \varepsilon_i (a_i b_i^\top - p_i q_i^\top) \Bigr\rVert_F^2
        = \lVert P^\top Q \rVert_F^2 + \sum_i \bigl( \lvert a_i \rvert^2 \lvert b_i \rvert^2
        - 2 \langle a_i, p_i \rangle \langle b_i, q_i \rangle + \lvert p_i \rvert^2 \lvert q_i \rvert^2 \bigr)

    Parameters
    ----------
    first, second : Tensor, shape=[..., n, r] and [..., n, s]
        Orthonormal, in order of singular values. Leading axes broadcast.
    norms : tuple of Tensor, shape=[..., n]
        Of the channels in the two weights, as in `mean_basis`.

    Returns
    -------
    sums : Tensor, shape=[..., min(r, s)]
        Before division by k. They may exceed k: signs turn what is left of two frames towards their mean parts, which
        overestimates what is shared by up to (r + s) / n of a dimension for each one that both mean parts fill.

    References
    ----------
    docs/measurements.md, "Nulls that keep a common mean"; `proofs`: mean_matched_overlap_mean.

    Examples
    --------
    Two constant lines have nothing that a sign could turn:

    >>> line = torch.full((4, 1), 0.5)
    >>> mean_matched_at_every_rank(line, line, (torch.ones(4), torch.ones(4)))
    tensor([1.])
    """
    rank = min(first.shape[-1], second.shape[-1])
    first, second = first[..., :rank], second[..., :rank]
    of_first, of_second = mean_part(first, norms[0]), mean_part(second, norms[1])
    kept = (of_first.mT @ of_second).square().cumsum(dim=-1).cumsum(dim=-2).diagonal(dim1=-2, dim2=-1)
    whole, mixed, means = (
        (left.cumsum(dim=-1) * right.cumsum(dim=-1)).sum(dim=-2)
        for left, right in (
            (first.square(), second.square()),
            (first * of_first, second * of_second),
            (of_first.square(), of_second.square()),
        )
    )
    sums: Tensor = kept + whole - 2 * mixed + means
    return sums


def mean_matched_moments(frames: Sequence[Tensor], norms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    r"""Mean of :math:`\lVert A^\top B \rVert_F^2` under the mean-matched null, and how far its means alone spread it.

    .. math::
        T = P^\top Q, \qquad \text{spread}^2 = 4 \sum_i \bigl( a_i^\top T b_i - p_i^\top T q_i \bigr)^2

    Parameters
    ----------
    frames : sequence of Tensor, shape=[n, r_i]
        Orthonormal, of one dtype and device.
    norms : sequence of Tensor, shape=[n]
        Of the channels in the weight of each frame, as in `mean_basis`.

    Returns
    -------
    mean : Tensor, shape=[len(frames), len(frames)]
        That of `mean_matched_at_every_rank` at the full ranks, before division by the smaller one.
    spread : Tensor, shape=[len(frames), len(frames)]
        Standard deviation of the terms of one sign, in the same units; 0 where a mean part is. The terms of two signs
        add the variance of `sign_flip_spread`, up to what the mean parts have in it.

    Notes
    -----
    Both are sums of products of vectors of length n, one pair of them for each two columns of `mean_basis`: a pair of
    subspaces costs about 20 n operations.

    References
    ----------
    docs/measurements.md, "Nulls that keep a common mean"; `proofs`: mean_matched_overlap_mean.
    """
    bases = torch.stack([mean_basis(of_channels.to(frame)) for frame, of_channels in zip(frames, norms, strict=True)])
    width = max(frame.shape[1] for frame in frames)
    stacked = torch.stack([torch.nn.functional.pad(frame, (0, width - frame.shape[1])) for frame in frames])
    loadings = bases.mT @ stacked  # [N, 2, r]
    grams = loadings @ loadings.mT
    # Columns of V V' P and of P V V' P in the basis of P.
    whole, kept = stacked @ loadings.mT, bases @ grams
    leverages, mixed, means = stacked.square().sum(-1), (bases * whole).sum(-1), (bases * kept).sum(-1)
    mean = leverages @ leverages.mT - 2 * mixed @ mixed.mT + means @ means.mT
    variance = torch.zeros_like(mean)
    # The first columns of all bases agree, and no other two of different number meet.
    cosines = torch.ones_like(mean), bases[..., 1] @ bases[..., 1].mT
    for one, other in product(range(2), repeat=2):
        weight = cosines[one] * cosines[other]
        mean += weight * grams[:, None, one, other] * grams[:, one, other]
        variance += weight * sum(sign * part @ part.mT for sign, part in _products(whole, kept, one, other))
    return mean, 2 * variance.clamp(min=0).sqrt()


def _products(whole: Tensor, kept: Tensor, one: int, other: int) -> Iterator[tuple[int, Tensor]]:
    """Terms of the product of two differences of products, with their signs."""
    for (sign, left), (other_sign, right) in product(((1, whole), (-1, kept)), repeat=2):
        yield sign * other_sign, left[..., one] * right[..., other]
