"""What random signs of the coordinates give: the overlap that outlier channels alone account for."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, combinations_with_replacement

import torch
from torch import Tensor

from ...numerics.products import matrix_product
from ...numerics.threads import workers

#: Largest null mean that leaves an overlap room to say anything.
SATURATED = 1 - 1e-6
# Entries of the rows of all projectors in one block: 32 MiB a thread.
_BLOCK_ENTRIES = 2**23
# Frames that are compared with as many others at a time, so that the products of a row stay in a cache.
_GROUP = 512
# Coordinates of two lines whose signs are all gone through: of 16, p-values down to 0.01 come out within 2 %, down to
# 1e-4 within a factor of 2.
_LARGEST = 10


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


def named_leverages(found: Mapping[str, Tensor], names: Sequence[str], measured: Tensor) -> Tensor:
    """Leverages of other subspaces, found by name, in the place of measured ones.

    Parameters
    ----------
    found : mapping of str to Tensor, shape=[n]
    names : sequence of str
        Of the subspaces.
    measured : Tensor, shape=[len(names), n]
        `leverages` of the subspaces themselves.

    Returns
    -------
    leverages : Tensor, shape=[len(names), n]
        Of the dtype and device of the measured ones; rows of NaN for names that are not found.

    Raises
    ------
    ValueError
        If leverages were found in another dimension.
    """
    rows = torch.full_like(measured, torch.nan)
    for row, name in zip(rows, names, strict=True):
        if name in found:
            if found[name].shape != row.shape:
                raise ValueError(
                    f"expected a mean leverage of shape {tuple(row.shape)} for {name}; got {tuple(found[name].shape)}."
                )
            row.copy_(found[name])
    return rows


def sign_flip_spread(frames: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    r"""Standard deviation of :math:`\lVert A^\top D B \rVert_F^2` over random signs D of the coordinates, of all pairs.

    .. math:: \mathrm{Var} = 2 \sum_{i \ne j} (A A^\top)_{ij}^2 \, (B B^\top)_{ij}^2

    The mean is the product of the `leverages`, :math:`\sum_i a_i b_i`. Random signs keep how much of a subspace lies
    along each coordinate and destroy how the coordinates are combined.

    Parameters
    ----------
    frames : sequence of Tensor, shape=[n, r_i]
        Orthonormal, of one dtype and device.

    Returns
    -------
    spread : Tensor, shape=[len(frames), len(frames)]
        float32, before division by the smaller rank.
    largest_part : Tensor, shape=[len(frames), len(frames)]
        The root of the sum over j for the i that has the largest one: what one coordinate can contribute.

    Notes
    -----
    Inner products of the projectors with squared entries, of which a few rows exist at a time: ``n^2`` operations a
    pair, which is 5 seconds of one core for the 330 thousand pairs of a 30-layer model with its heads (n = 576). What
    follows from the leverages alone, n operations a pair, is too small by half among writings with outlier channels.

    The law of norm-matched surrogates is unchanged by coordinate signs, so that the mean overlap of two
    independent ones is the product of their mean leverages.

    References
    ----------
    docs/measurements.md, "Nulls that keep outlier channels"; `proofs`: sign_flip_overlap_mean,
    sign_flip_overlap_spread.

    Examples
    --------
    Two lines that share two coordinates equally meet fully or not at all:

    >>> line = torch.tensor([[0.5**0.5], [0.5**0.5], [0.0]])
    >>> spread, largest_part = sign_flip_spread([line, line])
    >>> round(float(spread[0, 1]), 4), round(float(largest_part[0, 1]), 4)
    (0.5, 0.25)
    """
    stacked = of_one_width(frames).float()
    transposed = stacked.mT.contiguous()
    count, n, _ = stacked.shape
    squares, largest = stacked.new_zeros(2, count, count)
    groups = [slice(start, start + _GROUP) for start in range(0, count, _GROUP)]
    step = max(1, _BLOCK_ENTRIES // (count * n))

    def of_rows(top: int) -> list[tuple[slice, slice, Tensor, Tensor]]:
        entries = (stacked[:, top : top + step] @ transposed).square_()
        entries.diagonal(offset=top, dim1=1, dim2=2).zero_()
        by_row = entries.transpose(0, 1)
        found = []
        for first, second in combinations_with_replacement(groups, 2):
            rows = matrix_product(by_row[:, first], by_row[:, second].mT)
            found.append((first, second, rows.sum(dim=0), rows.amax(dim=0)))
        return found

    with workers() as pool:
        for part in pool.map(of_rows, range(0, n, step)):
            for first, second, sums, most in part:
                squares[first, second] += sums
                largest[first, second] = torch.maximum(largest[first, second], most)
    for first, second in combinations(groups, 2):
        squares[second, first], largest[second, first] = squares[first, second].mT, largest[first, second].mT
    return (2 * squares).sqrt(), largest.sqrt()


def of_one_width(frames: Sequence[Tensor]) -> Tensor:
    """Frames of different ranks with columns of zeros, which change no projector, shape=[frames, n, r]."""
    width = max(frame.shape[1] for frame in frames)
    return torch.stack([torch.nn.functional.pad(frame, (0, width - frame.shape[1])) for frame in frames])


def sign_flips_of_lines(first: Tensor, second: Tensor, kept: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    r"""Mean of \|cos\| of two lines over random signs of the coordinates, and how often it is at least as large.

    .. math::
        S = \sum_i \bigl( c_i + \varepsilon_i (a_i b_i - c_i) \bigr), \qquad \mathrm{E}\,|S|, \qquad
        P(|S| \ge |\langle a, b \rangle|)

    Lines need no law of quadratic forms, as `sign_flip_law` does: their cosine is linear in the signs.

    Parameters
    ----------
    first, second : Tensor, shape=[..., n]
        Unit vectors of one dtype and device.
    kept : Tensor, shape=[..., n], optional
        c, what no sign turns of the product at each coordinate; nothing by default.

    Returns
    -------
    mean, p_value, floor : Tensor, shape=[...]
        float64, on the CPU, in [0, 1]. The p-value is 1 where no sign makes \|cos\| smaller by 1e-6, which float32
        would not tell apart. The floor is the p-value that the two would have if all products had one sign: these
        coordinates cannot give a smaller one.

    Notes
    -----
    All signs of the 10 largest coordinates, the largest of :math:`|a_i b_i - c_i|`, are gone through; the sum over the
    small ones is taken as normal, with its exact variance. Such a tail is at most 3.2 times too small whatever the
    coordinates [1]_. The law of norm-matched surrogates is unchanged by coordinate signs, so that the p-value is
    a test against independent ones too.

    References
    ----------
    .. [1] Bentkus and Dzindzalieta, A tight Gaussian bound for weighted sums of Rademacher random variables,
       Bernoulli 21 (2015). docs/measurements.md, "Nulls that keep outlier channels".

    Examples
    --------
    Two lines that share two coordinates equally coincide or are orthogonal, each half of the time:

    >>> line = torch.tensor([0.5**0.5, 0.5**0.5, 0.0])
    >>> mean, p_value, floor = sign_flips_of_lines(line, line)
    >>> round(float(mean), 4), round(float(p_value), 4)
    (0.5, 0.5)
    """
    products = first.cpu().double() * second.cpu().double()  # small, and Metal has no float64
    cosine = products.sum(dim=-1).abs()
    fixed = torch.zeros_like(products) if kept is None else kept.cpu().double()
    sizes = (products - fixed).abs().sort(dim=-1, descending=True).values
    offset = fixed.sum(dim=-1)
    large, small = sizes[..., :_LARGEST], sizes[..., _LARGEST:]
    sums = sums_of_all_signs(large) + offset[..., None]
    # Positive, so that without small coordinates the law is a step and not 0 / 0.
    spread = torch.linalg.vector_norm(small, dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float64).tiny)
    mean = folded_normal_mean(sums, spread).mean(dim=-1)

    def tail(reached: Tensor) -> Tensor:
        least = (reached - (1 - SATURATED))[..., None]
        tails = (torch.special.erfc((least - of_sign) / (math.sqrt(2) * spread)) for of_sign in (sums, -sums))
        chance: Tensor = (sum(tails) / 2).mean(dim=-1).clamp(max=1)
        return chance

    return mean, tail(cosine), tail(offset.abs() + sizes.sum(dim=-1))


def sums_of_all_signs(sizes: Tensor) -> Tensor:
    """Sums of a few numbers of float64 under every pattern of their signs, shape=[..., n] to [..., 2^n]."""
    positions = torch.arange(sizes.shape[-1], device=sizes.device)
    patterns = 1 - 2 * (torch.arange(2 ** len(positions), device=sizes.device)[:, None] >> positions & 1)
    return sizes @ patterns.mT.double()


def folded_normal_mean(mean: Tensor, sd: Tensor) -> Tensor:
    """Mean of the absolute value of a normal number; its standard deviation is above 0."""
    z = mean / (math.sqrt(2) * sd)
    return sd * math.sqrt(2 / math.pi) * torch.exp(-z.square()) + mean * torch.erf(z)


def sign_flipped(frame: Tensor, generator: torch.Generator) -> Tensor:
    """The frame with a random sign on each coordinate, shape=[n, r]: still orthonormal."""
    coins = torch.randint(0, 2, (frame.shape[0], 1), generator=generator, device=frame.device)
    return frame * (2 * coins - 1)
