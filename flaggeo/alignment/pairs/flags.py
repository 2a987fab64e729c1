"""How two flags of leading singular subspaces are aligned: scores and distances that depend on the order."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from manifolds import chordal_distance, solve_flag_logarithm

from ...network import Symmetry
from ..chance.haar import squared_cosine_moments
from ..observable import Invariance, Null, Observable
from .subspace_pair import SubspacePair


def soft_bruhat(pair: SubspacePair) -> Tensor:
    r"""Overlaps of all members of two flags, the continuous version of their relative position.

    .. math:: R_{ij} = \lVert U_i^\top V_j \rVert_F^2 = \sum_{a \le i,\, b \le j} \langle u_a, v_b \rangle^2

    Parameters
    ----------
    pair : SubspacePair
        Frames in order of singular values.

    Returns
    -------
    table : Tensor, shape=[..., r, s]
        ``R[..., i - 1, j - 1]`` is the sum of squared cosines of the leading i- and j-dimensional subspaces, in
        [max(0, i + j - n), min(i, j)]. It reaches the upper end where one contains the other.

    See Also
    --------
    soft_bruhat_moments : What unrelated flags give.
    manifolds.relative_position : The integers that this softens, which generic flags all share.

    Notes
    -----
    Its mixed second differences are the squared cosines of the single vectors. Unchanged by a common
    rotation and by signs; it needs gaps between the singular values.

    References
    ----------
    docs/observables.md; docs/grassmannians-and-flags.md.

    Examples
    --------
    Two directions that have changed places:

    >>> axes = torch.eye(4)
    >>> soft_bruhat(SubspacePair(axes[:, [0, 1, 2]], axes[:, [1, 0, 2]]))
    tensor([[0., 1., 1.],
            [1., 2., 2.],
            [1., 2., 3.]])
    """
    return pair.squared_cosines.cumsum(dim=-1).cumsum(dim=-2)


def soft_bruhat_moments(pair: SubspacePair) -> tuple[Tensor, Tensor]:
    r"""Mean ``i j / n`` and standard deviation of `soft_bruhat` for unrelated flags, each of shape=[r, s].

    Exact for independent uniform flags: :math:`\mathrm{Var} R_{ij} = 2 i j (n-i)(n-j) / (n^2 (n-1)(n+2))`.
    """
    n, (r, s) = pair.dim, pair.ranks
    i, j = (torch.arange(1, rank + 1, dtype=pair.first.dtype, device=pair.first.device) for rank in (r, s))
    mean = torch.outer(i, j) / n
    variance = 2 * torch.outer(i * (n - i), j * (n - j)) / (n**2 * max(n - 1, 1) * (n + 2))
    return mean, variance.sqrt()


def spectral_dims(k: int) -> tuple[int, ...]:
    """Dimensions of the flag that stands for k singular directions: 1, 2, 4, 8, ... and k itself."""
    return (*(2**power for power in range(k.bit_length()) if 2**power < k), k)


def flag_geodesic_distance(pair: SubspacePair, *, same: float = 1e-12) -> Tensor:
    """Length of the shortest path between the flags of dimensions 1, 2, 4, 8, ..., min(r, s).

    Parameters
    ----------
    pair : SubspacePair
        Frames in order of singular values.
    same : float, optional
        Flags of smaller chordal distance count as equal: between them the search has rounding alone to converge to.
        Raise it to 1e-6 for frames that were stored in single precision.

    Returns
    -------
    distance : Tensor, shape=[...]
        Radians; NaN where no shortest path was found. It carries no gradient; that of `manifolds.Flag` does.

    See Also
    --------
    FLAG_DISTANCE : The chordal distance of the same flags, in closed form.

    Notes
    -----
    For few pairs, such as a weight in two checkpoints: it solves alignment problems for each, one if the flags are
    close and 32 if they are further apart than pi/2. At n = 576 and k = 16 one core takes 8 ms for a close pair and
    half a second for an unrelated one; all 22 thousand pairs of a 30-layer model would take hours.
    """
    dims = tuple(dim for dim in spectral_dims(min(pair.ranks)) if dim < pair.dim)
    if not dims:
        return torch.zeros_like(pair.products[..., 0, 0])  # a line has one flag
    first, second = (frame[..., : dims[-1]].detach() for frame in (pair.first, pair.second))
    distance = torch.zeros_like(pair.products[..., 0, 0])
    apart = chordal_distance(first, second, dims) > same
    if apart.any():
        logarithm = solve_flag_logarithm(second[apart], first[apart], dims)
        distance[apart] = torch.where(logarithm.converged, logarithm.length, torch.nan)
    return distance


def _flag_weights(pair: SubspacePair) -> Tensor:
    """How often a squared cosine stands in the overlaps of the leading k-dimensional subspaces, k = 1, ..., K."""
    count = min(pair.ranks)
    later = torch.maximum(*torch.meshgrid(*map(torch.arange, pair.ranks), indexing="ij"))
    return (count - later).clamp(min=0).to(pair.first) / (count * (count + 1) / 2)


def _basis_weights(pair: SubspacePair) -> Tensor:
    return torch.eye(*pair.ranks, dtype=pair.first.dtype, device=pair.first.device) / min(pair.ranks)


def _block_weights(pair: SubspacePair) -> Tensor:
    """1 where both vectors stand in the same block of the flag of dimensions 1, 2, 4, 8, ..."""
    dims = spectral_dims(min(pair.ranks))
    blocks = torch.block_diag(*(torch.ones(stop - start, stop - start) for start, stop in pairwise((0, *dims))))
    return torch.nn.functional.pad(blocks, (0, pair.ranks[1] - dims[-1], 0, pair.ranks[0] - dims[-1])).to(pair.first)


def _weighted(weights: Callable[[SubspacePair], Tensor]) -> Callable[[SubspacePair], Tensor]:
    return lambda pair: (pair.squared_cosines * weights(pair)).sum(dim=(-2, -1))


def _uniform(weights: Callable[[SubspacePair], Tensor]) -> Callable[[SubspacePair], tuple[Tensor, Tensor]]:
    return lambda pair: squared_cosine_moments(weights(pair), pair.dim)


def _flag_distance(pair: SubspacePair) -> Tensor:
    count, weights = min(pair.ranks), _block_weights(pair)
    squared = (count - (pair.squared_cosines * weights).sum(dim=(-2, -1))).clamp(min=0)
    # The difference has lost digits where little is left of it; what lies outside the other flag has not.
    dims = spectral_dims(count)
    if dims[-1] == pair.dim:
        return squared.sqrt()
    return pair.recomputed(
        squared.sqrt(),
        squared < 1e-2,
        lambda first, second: chordal_distance(first[..., :count], second[..., :count], dims),
    )


def _uniform_flag_distance(pair: SubspacePair) -> tuple[Tensor, Tensor]:
    """Exact moments of the square, carried over to the root to second order."""
    within, spread = squared_cosine_moments(_block_weights(pair), pair.dim)
    squared = min(pair.ranks) - within
    return squared.sqrt() - spread.square() / (8 * squared**1.5), spread / (2 * squared.sqrt())


_SIGNED_ROTATIONS = (
    "signs of the singular vectors, and one orthogonal map of the space on both flags; not a turn inside a subspace, "
    "nor a general linear map"
)

FLAG_SCORE = Observable(
    title="flag score",
    table="pairs",
    column="flag_score",
    pair=SubspacePair,
    measure=_weighted(_flag_weights),
    formula=r"\sum_{k \le K} \lVert U_k^\top V_k \rVert_F^2 \,/\, \tfrac12 K (K + 1), \quad K = \min(r, s)",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(Symmetry.ORTHOGONAL, _SIGNED_ROTATIONS, "singular_vector_cosine_invariance"),
    null=Null(
        text="independent uniform flags, exact: mean (2 K + 1) / (3 n)",
        law=_uniform(_flag_weights),
        statement="squared_cosine_moments",
    ),
    tolerance=1e-5,
    reading="Mean overlap of the leading k-dimensional subspaces over all k up to K: 1 when the flags agree, and below "
    "the overlap when the subspaces share their directions in another order.",
    misuse="Do not use it where singular values are close: the order of their directions is arbitrary then.",
)
BASIS_SCORE = Observable(
    title="basis score",
    table="pairs",
    column="basis_score",
    pair=SubspacePair,
    measure=_weighted(_basis_weights),
    formula=r"\tfrac1K \sum_{i \le K} \langle u_i, v_i \rangle^2, \quad K = \min(r, s)",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(Symmetry.ORTHOGONAL, _SIGNED_ROTATIONS, "singular_vector_cosine_invariance"),
    null=Null(
        text="independent uniform frames, exact: mean 1 / n",
        law=_uniform(_basis_weights),
        statement="squared_cosine_moments",
    ),
    tolerance=1e-5,
    reading="Mean squared cosine of the singular vectors of equal index: 1 when the two weights share their singular "
    "basis.",
    misuse="Do not use it where singular values are close, nor as evidence against alignment: exchanging two "
    "directions lowers it without any change of subspace.",
)
FLAG_DISTANCE = Observable(
    title="chordal flag distance",
    table="pairs",
    column="flag_distance",
    pair=SubspacePair,
    measure=_flag_distance,
    formula=r"\Bigl( K - \sum_b \lVert U_{(b)}^\top V_{(b)} \rVert_F^2 \Bigr)^{1/2}, \quad "
    r"b \text{ over the blocks of columns } 1,\; 2,\; 3\text{-}4,\; 5\text{-}8, \dots, K = \min(r, s)",
    range=(0.0, float("inf")),
    aligned=0.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "turns inside a block of columns, and one orthogonal map of the space on both flags; not a general linear map",
        "projection_overlap_invariance",
    ),
    null=Null(
        text="independent uniform flags: moments of the square exact, those of its root to second order",
        law=_uniform_flag_distance,
        statement="squared_cosine_moments",
    ),
    tolerance=1e-5,
    reading="Distance of the flags of dimensions 1, 2, 4, 8, ..., K: 0 when all those subspaces agree, at most "
    "the root of K. Unlike the basis score it does not depend on the order inside a block.",
    misuse="Do not compare it across ranks: it grows like the root of K. It is not the length of the shortest "
    "path, for which see `flag_geodesic_distance`.",
)
