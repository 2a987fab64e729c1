"""All pairs of many subspaces of one space at once, in bounded memory."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from .checks import require_frame
from .distances import chordal_distance, geodesic_distance

# Numbers in one temporary: 2^23 float64 are 64 MiB.
_TILE_ENTRIES = 2**23


def pairwise_overlap(frames: Sequence[Tensor]) -> Tensor:
    """Projection overlaps of all pairs of subspaces of one space.

    Equal to `projection_overlap` on each pair, computed as a few large matrix products.

    Parameters
    ----------
    frames : sequence of Tensor, shape=[n, k_i]
        Orthonormal frames of one space, of any dimensions k_i >= 1, of one dtype and device.

    Returns
    -------
    overlaps : Tensor, shape=[len(frames), len(frames)]
        Symmetric, dimensionless, in [0, 1] up to rounding, with ones on the diagonal.

    Raises
    ------
    ValueError
        If the frames do not lie in one space, differ in dtype or device, or are not orthonormal.

    See Also
    --------
    projection_overlap : One pair, with its invariance and its null.

    Notes
    -----
    For L frames of width k the products of the frames cost ``n (L k)^2`` multiply-adds, and the inner
    products of the projectors, formed a few rows at a time, ``L n^2 k / 2 + L^2 n^2 / 2``. The cheaper one is
    taken: the projectors for wide frames, about ``k^2 > n``. No temporary holds more than 64 MiB,
    besides one copy of the frames.

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
    _require_common_space(frames, "pairwise_overlap")
    ranks = torch.tensor([frame.shape[-1] for frame in frames], device=frames[0].device)
    count, n, width = len(frames), frames[0].shape[0], max(frame.shape[-1] for frame in frames)
    # Columns of zeros leave the Frobenius norms alone and make all frames equal in shape.
    stacked = torch.stack([torch.nn.functional.pad(frame, (0, width - frame.shape[-1])) for frame in frames])
    squared_norms = _projector_products if count * width**2 > n * (count + width) else _frame_products
    return squared_norms(stacked) / torch.minimum(ranks[:, None], ranks[None, :])


def _frame_products(stacked: Tensor) -> Tensor:
    """Squared Frobenius norms of A'B for all pairs, from tiles of the Gram matrix of all columns."""
    count, n, width = stacked.shape
    columns = stacked.permute(1, 0, 2).reshape(n, count * width)
    overlaps = stacked.new_empty(count, count)
    step = max(1, int((_TILE_ENTRIES // width**2) ** 0.5))
    for top in range(0, count, step):
        rows = columns[:, top * width : (top + step) * width].mT
        # Only the tiles on and right of the diagonal; the rest is the mirror image.
        for left in range(top, count, step):
            tile = rows @ columns[:, left * width : (left + step) * width]
            cells = tile.square_().view(len(rows) // width, width, -1, width).sum(dim=(1, 3))
            overlaps[top : top + step, left : left + step] = cells
            overlaps[left : left + step, top : top + step] = cells.mT
    return overlaps


def _projector_products(stacked: Tensor) -> Tensor:
    """`_frame_products` as inner products of projectors, of which a block of rows exists at a time."""
    count, n, _ = stacked.shape
    overlaps = stacked.new_zeros(count, count)
    step = min(64, max(1, _TILE_ENTRIES // (count * n)))
    for top in range(0, n, step):
        rows = stacked[:, top : top + step]
        diagonal = (rows @ rows.mT).flatten(1)
        overlaps.addmm_(diagonal, diagonal.mT)
        if top + step < n:
            # Entries right of the diagonal stand for their mirror images too.
            right = (rows @ stacked[:, top + step :].mT).flatten(1)
            overlaps.addmm_(right, right.mT, alpha=2)
    return overlaps


@torch.no_grad()
def pairwise_geodesic_distance(frames: Sequence[Tensor]) -> Tensor:
    """Geodesic distances of all pairs of subspaces of one space.

    Equal to `geodesic_distance` on each pair. Cosines suffice for most pairs; those with a small angle are
    computed again from sines.

    Parameters
    ----------
    frames : sequence of Tensor, shape=[n, k_i]
        Orthonormal frames of one space, of any dimensions k_i >= 1, of one dtype and device.

    Returns
    -------
    distances : Tensor, shape=[len(frames), len(frames)]
        Symmetric, in radians, with zeros on the diagonal. The absolute error is of the order of
        ``sqrt(k) * eps**0.8``: 2e-12 in float64 and 2e-5 in float32 at k = 64. It carries no gradient.

    Raises
    ------
    ValueError
        If the frames do not lie in one space, differ in dtype or device, or are not orthonormal.

    See Also
    --------
    geodesic_distance : One pair.

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

    Equal to `chordal_distance` on each pair; close pairs are computed again from sines.

    Parameters
    ----------
    frames : sequence of Tensor, shape=[n, k_i]
        Orthonormal frames of one space, of any dimensions k_i >= 1, of one dtype and device.

    Returns
    -------
    distances : Tensor, shape=[len(frames), len(frames)]
        Symmetric, dimensionless, with zeros on the diagonal. The absolute error is below 1e-12 in float64 and
        1e-5 in float32. It carries no gradient.

    Raises
    ------
    ValueError
        If the frames do not lie in one space, differ in dtype or device, or are not orthonormal.

    See Also
    --------
    chordal_distance : One pair.

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
    _require_common_space(frames, caller)
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


def _require_common_space(frames: Sequence[Tensor], caller: str) -> None:
    """Raise `ValueError` unless all are single orthonormal frames in one space, of one dtype and device."""
    if any(frame.ndim != 2 or not frame.shape[1] for frame in frames):
        raise ValueError(
            f"{caller} expected frames of shape [n, k] with k >= 1; got {[tuple(frame.shape) for frame in frames]}."
        )
    dimensions = sorted({frame.shape[0] for frame in frames})
    if len(dimensions) > 1:
        raise ValueError(f"{caller} compares subspaces of one space; got dimensions {dimensions}.")
    kinds = {(frame.dtype, frame.device) for frame in frames}
    if len(kinds) > 1:
        raise ValueError(f"{caller} expected one dtype and device; got {sorted(map(str, kinds))}.")
    for frame in frames:
        require_frame(frame, "a frame")
