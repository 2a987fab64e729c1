"""What a common mean of the entries gives: what it makes of each direction is kept, the rest gets random signs."""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from .sign_flip import of_one_width

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

    With the mean parts P and Q of two frames, what is left of them, E and F, and the rows of all four in small letters,

    .. math::
        \mathrm{E} \lVert (P + D E)^\top (Q + D' F) \rVert_F^2 = \lVert P^\top Q \rVert_F^2 + \sum_i \bigl(
        \lvert e_i \rvert^2 \lvert f_i \rvert^2 + \lvert p_i \rvert^2 \lvert f_i \rvert^2
        + \lvert e_i \rvert^2 \lvert q_i \rvert^2 \bigr)

    over random signs D and D'. Signs do not know that E is orthogonal to P and F to Q. So the last two terms take only
    what P and Q have along norms that vary and outside of the other plane, and each term is scaled by the dimensions
    that are left: uniform subspaces keep their mean.

    Parameters
    ----------
    first, second : Tensor, shape=[..., n, r] and [..., n, s]
        Orthonormal, in order of singular values. Leading axes broadcast.
    norms : tuple of Tensor, shape=[..., n]
        Of the channels in the two weights, as in `mean_basis`.

    Returns
    -------
    sums : Tensor, shape=[..., min(r, s)]
        Before division by k; in narrow spaces they may exceed k.

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
    frames = first[..., :rank], second[..., :rank]
    bases = [mean_basis(of_channels.to(frame)) for frame, of_channels in zip(frames, norms, strict=True)]
    loadings = [basis.mT @ frame for basis, frame in zip(bases, frames, strict=True)]
    parts = [basis @ loading for basis, loading in zip(bases, loadings, strict=True)]
    left = [(frame - part).square().cumsum(dim=-1) for frame, part in zip(frames, parts, strict=True)]
    varying = [basis[..., 1:] * loading[..., 1:, :] for basis, loading in zip(bases, loadings, strict=True)]
    along = [part.square().cumsum(dim=-1) for part in varying]
    sums: Tensor = (parts[0].mT @ parts[1]).square().cumsum(dim=-1).cumsum(dim=-2).diagonal(dim1=-2, dim2=-1)
    own, other = (basis[..., 1].square().sum(dim=-1) for basis in bases)
    room = _room(first.shape[-2], own, other, (bases[0][..., 1] * bases[1][..., 1]).sum(dim=-1))
    for scale, one, two in zip(room, (left[0], along[0], left[0]), (left[1], left[1], along[1]), strict=True):
        sums = sums + scale[..., None] * (one * two).sum(dim=-2)
    return sums


def mean_matched_moments(frames: Sequence[Tensor], norms: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    r"""Mean of :math:`\lVert A^\top B \rVert_F^2` under the mean-matched null, and how far its means alone spread it.

    .. math::
        T = P^\top Q, \qquad \text{spread}^2 = 4 \sum_i \Bigl( \bigl( e_i^\top T f_i \bigr)^2
        + \bigl( p_i^\top T f_i \bigr)^2 + \bigl( e_i^\top T q_i \bigr)^2 \Bigr)

    with the terms and scales of `mean_matched_at_every_rank`.

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
        Standard deviation of the terms that meet the mean parts, in the same units; 0 where a mean part is. The others
        add that of `sign_flip_spread`, up to what the mean parts have in it.

    Notes
    -----
    Both are sums of products of vectors of length n, at most two of them for each two columns of `mean_basis`: a pair
    of subspaces costs about 20 n operations.

    References
    ----------
    docs/measurements.md, "Nulls that keep a common mean"; `proofs`: mean_matched_overlap_mean.
    """
    bases = torch.stack([mean_basis(of_channels.to(frame)) for frame, of_channels in zip(frames, norms, strict=True)])
    stacked = of_one_width(frames)
    loadings = bases.mT @ stacked  # [N, 2, r]
    grams = loadings @ loadings.mT
    rest = stacked - bases @ loadings
    left, facing = rest.square().sum(dim=-1), rest @ loadings.mT  # what is left, and as the mean part sees it
    axes = bases[..., 1].square()
    # The first columns of all bases agree, and no other two of different number meet.
    cosines = torch.ones(len(frames), len(frames)).to(stacked), bases[..., 1] @ bases[..., 1].mT
    varies = axes.sum(dim=-1)
    both, of_first, of_second = _room(stacked.shape[1], varies[:, None], varies, cosines[1])
    along = axes * grams[:, 1, 1, None]
    mean = both * (left @ left.mT) + of_first * (along @ left.mT) + of_second * (left @ along.mT)
    variance = torch.zeros_like(mean)
    for one, two in product(range(2), repeat=2):
        weight = cosines[one] * cosines[two]
        mean += weight * grams[:, None, one, two] * grams[:, one, two]
        squares = facing[..., one] * facing[..., two]
        along = axes * (grams[:, 1, one] * grams[:, 1, two])[:, None]
        variance += weight * (
            both * (squares @ squares.mT) + of_first * (along @ squares.mT) + of_second * (squares @ along.mT)
        )
    return mean, 2 * variance.clamp(min=0).sqrt()


def mean_matched_flipped(frames: Tensor, norms: Tensor, signs: Tensor) -> Tensor:
    r"""The mean parts of frames kept, and the same signs of the coordinates for what is left of each.

    .. math:: V' = \Pi V + s\,(I - \Pi) D\,(I - \Pi) V

    with the projection :math:`\Pi` of `mean_part` and the factor s that gives what is left its norm again. Unlike the
    signs alone, it stays orthogonal to the mean part.

    Parameters
    ----------
    frames : Tensor, shape=[..., n, r]
        Orthonormal, but for columns of zeros.
    norms : Tensor, shape=[..., n]
        Of the channels in the weights, as in `mean_basis`.
    signs : Tensor, shape=[n]
        1 or -1.

    Returns
    -------
    flipped : Tensor, shape=[..., n, r]
        Orthonormal on average.

    Examples
    --------
    >>> line, signs = torch.tensor([[0.8], [0.0], [0.6]]), torch.tensor([1.0, 1.0, -1.0])
    >>> mean_matched_flipped(line, torch.ones(3), signs).mT.norm()
    tensor(1.)
    """
    basis = mean_basis(norms.to(frames))
    part = basis @ (basis.mT @ frames)
    rest = frames - part
    turned = signs[:, None] * rest
    turned = turned - basis @ (basis.mT @ turned)
    before, after = (torch.linalg.matrix_norm(one, keepdim=True) for one in (rest, turned))
    return part + turned * torch.where(after > 0, before / after, 0.0)


def _room(n: int, varies: Tensor, other_varies: Tensor, cosine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scales of what two rests, a mean part and a rest, and a rest and a mean part have in common.

    Each is the trace of the product of two projections over the product of their ranks, times n: a rest has the
    dimensions outside of its plane, a mean part the direction along norms that vary. `varies` is 1 where they do.
    """
    outside, other_outside = (n - 1 - varies).clamp(min=1), (n - 1 - other_varies).clamp(min=1)
    apart = 1 - cosine.square()
    both = (n - varies - other_varies - apart).clamp(min=0) / (outside * other_outside)
    return n * both, n * apart / other_outside, n * apart / outside
