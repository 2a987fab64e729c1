"""All pairs of many subspaces of one space at once, in bounded memory.

The functions take a sequence of orthonormal `frames` of one space, each of shape ``[n, k_i]`` with a k_i >= 1 of its
own, under the conventions of the package, and return a symmetric matrix with one row and one column for each frame.
No temporary holds more than 64 MiB, besides one copy of the frames.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .checks import require_common_space, require_one_space
from .distances import chordal_distance, geodesic_distance

# Numbers in one temporary: 2^23 float64 are 64 MiB.
_TILE_ENTRIES = 2**23


def pairwise_overlap(frames: Sequence[Tensor]) -> Tensor:
    """Projection overlaps of all pairs of subspaces of one space.

    Equal to `projection_overlap` on each pair, with ones on the diagonal, computed as a few large matrix products. For
    L frames of width k the products of the frames cost ``n (L k)^2`` multiply-adds, and the inner products of the
    projectors, formed a few rows at a time, ``L n^2 k / 2 + L^2 n^2 / 2``. The cheaper way is taken: the projectors for
    wide frames, about ``k^2 > n``.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> pairwise_overlap([axes[:, :1], axes[:, :2], axes[:, 1:4]])
    tensor([[1.0000, 1.0000, 0.0000],
            [1.0000, 1.0000, 0.5000],
            [0.0000, 0.5000, 1.0000]])
    """
    if len(frames) == 0:
        return torch.empty(0, 0)
    require_common_space(frames, "pairwise_overlap")
    ranks = torch.tensor([frame.shape[-1] for frame in frames], device=frames[0].device)
    stacked = _stacked(frames)
    return _gram_inner_products(stacked, stacked) / torch.minimum(ranks[:, None], ranks[None, :])


def pairwise_gram_inner_product(first: Sequence[Tensor], second: Sequence[Tensor] | None = None) -> Tensor:
    r"""Inner products of the Gram matrices of many factors, without a Gram matrix of all.

    .. math:: \langle X_i X_i^\top, Y_j Y_j^\top \rangle = \lVert X_i^\top Y_j \rVert_F^2

    Use it for all pairs of maps that write into and read from one space: how much of what one writes passes the
    other. For orthonormal frames it is the number of shared dimensions, the sum of squared cosines.

    Parameters
    ----------
    first : sequence of Tensor, shape=[n, a_i]
        Factors X of positive semi-definite matrices, which need not be orthonormal; a_i >= 1.
    second : sequence of Tensor, shape=[n, b_j], optional
        Factors Y of the same space; `first` again by default, at half of the cost.

    Returns
    -------
    products : Tensor, shape=[len(first), len(second)]
        Not negative up to rounding, in the units of both factors squared. NaN in the rows or columns of factors
        that hold NaN, and nowhere else.

    Notes
    -----
    The cost is that of `pairwise_overlap`. The result does not change when one orthogonal map of the space acts on all
    factors, nor when one acts on the columns of each. The rounding error is that of one sum over all n^2 entries: an
    inner product far below the product of the two Gram norms loses digits.

    Examples
    --------
    >>> axes = torch.eye(3)
    >>> pairwise_gram_inner_product([axes[:, :1], axes[:, :2]], [2 * axes[:, 1:]])
    tensor([[0.],
            [4.]])
    """
    factors = [*first, *(first if second is None else second)]
    if len(factors) == 0:
        return torch.empty(0, 0)
    require_one_space(factors, "pairwise_gram_inner_product")
    if len(first) == 0 or (second is not None and len(second) == 0):
        return factors[0].new_empty(len(first), 0 if second is None else len(second))
    left = _stacked(first)
    return _gram_inner_products(left, left if second is None else _stacked(second))


def _stacked(factors: Sequence[Tensor]) -> Tensor:
    """One tensor of equally wide factors: columns of zeros leave a Gram matrix alone."""
    width = max(factor.shape[-1] for factor in factors)
    missing = [width - factor.shape[-1] for factor in factors]
    pad = torch.nn.functional.pad
    return torch.stack(
        [pad(factor, (0, lacks)) if lacks else factor for factor, lacks in zip(factors, missing, strict=True)]
    )


def _gram_inner_products(left: Tensor, right: Tensor) -> Tensor:
    """The cheaper of the two ways, by the numbers of multiply-adds."""
    (rows, n, height), (columns, _, width) = left.shape, right.shape
    factor_by_factor = n * rows * columns * height * width
    forming, comparing = n**2 * (rows * height + columns * width) // 2, n**2 * rows * columns // 2
    if left is right:
        factor_by_factor, forming = factor_by_factor // 2, forming // 2
    return (_projector_products if factor_by_factor > forming + comparing else _frame_products)(left, right)


def _frame_products(left: Tensor, right: Tensor) -> Tensor:
    """Squared Frobenius norms of X'Y for all pairs, from tiles of the products of all columns."""
    height, width = left.shape[-1], right.shape[-1]
    first, second = (stacked.permute(1, 0, 2).flatten(1) for stacked in (left, right))
    products = left.new_empty(len(left), len(right))
    step = max(1, int((_TILE_ENTRIES // (height * width)) ** 0.5))
    for top in range(0, len(left), step):
        rows = first[:, top * height : (top + step) * height].mT
        # Of a list with itself only the tiles on and right of the diagonal; the rest is the mirror image.
        for start in range(top if left is right else 0, len(right), step):
            tile = rows @ second[:, start * width : (start + step) * width]
            cells = tile.square_().view(len(rows) // height, height, -1, width).sum(dim=(1, 3))
            products[top : top + step, start : start + step] = cells
            if left is right:
                products[start : start + step, top : top + step] = cells.mT
    return products


def _projector_products(left: Tensor, right: Tensor) -> Tensor:
    """`_frame_products` as inner products of projectors (or Grams), of which a block of rows exists at a time."""
    n = left.shape[1]
    products = left.new_zeros(len(left), len(right))
    step = min(64, max(1, _TILE_ENTRIES // (max(len(left), len(right)) * n)))
    for top in range(0, n, step):
        # Entries right of the diagonal block stand for their mirror images too.
        for columns, times in ((slice(top, top + step), 1), (slice(top + step, n), 2)):
            first = (left[:, top : top + step] @ left[:, columns].mT).flatten(1)
            second = first if left is right else (right[:, top : top + step] @ right[:, columns].mT).flatten(1)
            products.addmm_(first, second.mT, alpha=times)
    return products


@torch.no_grad()
def pairwise_geodesic_distance(frames: Sequence[Tensor]) -> Tensor:
    """Geodesic distances of all pairs of subspaces of one space.

    Equal to `geodesic_distance` on each pair. Cosines suffice for most pairs; those with a small angle are
    computed again from sines. The absolute error is of the order of ``sqrt(k) * eps**0.8``: 2e-12 in float64 and
    2e-5 in float32 at k = 64. The result carries no gradient.

    Examples
    --------
    >>> axes = torch.eye(4, dtype=torch.float64)
    >>> pairwise_geodesic_distance([axes[:, :2], axes[:, 1:3], axes[:, 2:]])
    tensor([[0.0000, 1.5708, 2.2214],
            [1.5708, 0.0000, 1.5708],
            [2.2214, 1.5708, 0.0000]], dtype=torch.float64)
    """

    def from_cosines(products: Tensor) -> tuple[Tensor, Tensor]:
        cosines = torch.linalg.svdvals(products).clamp(max=1)
        return torch.linalg.vector_norm(torch.acos(cosines), dim=-1), 1 - cosines[..., 0]

    return _pairwise(frames, "pairwise_geodesic_distance", from_cosines, geodesic_distance)


@torch.no_grad()
def pairwise_chordal_distance(frames: Sequence[Tensor]) -> Tensor:
    """Chordal distances of all pairs of subspaces of one space.

    Equal to `chordal_distance` on each pair; close pairs are computed again from sines. The absolute error is below
    1e-12 in float64 and 1e-5 in float32. The result carries no gradient.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> pairwise_chordal_distance([axes[:, :2], axes[:, 1:3]])
    tensor([[0., 1.],
            [1., 0.]])
    """

    def from_cosines(products: Tensor) -> tuple[Tensor, Tensor]:
        rank = min(products.shape[-2:])
        squared = (rank - products.square().sum(dim=(-2, -1))).clamp(min=0)
        # The difference has an error of about rank * eps, and its root one of rank * eps / root.
        return squared.sqrt(), squared / rank**2

    return _pairwise(frames, "pairwise_chordal_distance", from_cosines, chordal_distance)


def _pairwise(
    frames: Sequence[Tensor],
    caller: str,
    from_cosines: Callable[[Tensor], tuple[Tensor, Tensor]],
    from_sines: Callable[[Tensor, Tensor], Tensor],
) -> Tensor:
    """Symmetric matrix of distances: a fast formula with its closeness, and an accurate one for close pairs."""
    if len(frames) == 0:
        return torch.empty(0, 0)
    require_common_space(frames, caller)
    distances = frames[0].new_zeros(len(frames), len(frames))
    # Where cosines still give an angle to about three quarters of the digits.
    limit = torch.finfo(distances.dtype).eps ** 0.4
    for (left, left_places), (right, right_places) in itertools.combinations_with_replacement(_chunks(frames), 2):
        # One product for all pairs of two chunks; within a chunk each pair is kept once.
        products = left.flatten(1).mT @ right.flatten(1)
        cells = products.view(*left.shape[1:], *right.shape[1:]).transpose(1, 2)
        kept = left_places[:, None] < right_places if left is right else left_places[:, None] != right_places
        rows, columns = kept.nonzero(as_tuple=True)
        fast, closeness = from_cosines(cells[rows, columns])
        close_pairs = (closeness < limit).nonzero()[:, 0]
        for close in close_pairs.tensor_split(1 + len(close_pairs) * left[:, 0].numel() // _TILE_ENTRIES):
            first, second = left[:, rows[close]], right[:, columns[close]]
            fast[close] = from_sines(first.transpose(0, 1), second.transpose(0, 1))
        distances[left_places[rows], right_places[columns]] = fast
        distances[right_places[columns], left_places[rows]] = fast
    return distances


def _chunks(frames: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Frames of one width side by side, shape=[n, count, width], and their places in the list.

    So many that the products of two chunks fill an eighth of a tile: larger chunks would compute more products
    of a chunk with itself in vain.
    """
    by_width: dict[int, list[int]] = {}
    for place, frame in enumerate(frames):
        by_width.setdefault(frame.shape[-1], []).append(place)
    for width, places in by_width.items():
        size = max(1, int((_TILE_ENTRIES / 8) ** 0.5 / width))
        for start in range(0, len(places), size):
            chunk = places[start : start + size]
            yield (
                torch.stack([frames[place] for place in chunk], dim=1),
                torch.tensor(chunk, device=frames[0].device),
            )
