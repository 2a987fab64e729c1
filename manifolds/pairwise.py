"""All pairs of many subspaces of one space at once, in bounded memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

# Entries of one tile of the Gram matrix of all frames: 2^23 float64 numbers are 64 MiB.
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
        Symmetric, dimensionless, in [0, 1], with ones on the diagonal.

    Raises
    ------
    ValueError
        If the frames do not lie in one space.

    See Also
    --------
    projection_overlap : One pair, with its invariance and its null.

    Notes
    -----
    Cost: ``n * (sum k_i)^2`` multiply-adds. No more than 64 MiB of products exist at a time unless a
    single pair is larger.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> pairwise_overlap([axes[:, :1], axes[:, :2], axes[:, 1:4]])
    tensor([[1.0000, 1.0000, 0.0000],
            [1.0000, 1.0000, 0.5000],
            [0.0000, 0.5000, 1.0000]])
    """
    dimensions = sorted({frame.shape[-2] for frame in frames})
    if len(dimensions) > 1:
        raise ValueError(f"pairwise_overlap compares subspaces of one space; got dimensions {dimensions}.")
    if not frames:
        return torch.empty(0, 0)
    ranks = torch.tensor([frame.shape[-1] for frame in frames], device=frames[0].device)
    width = int(ranks.max())
    # Zero columns leave the squared Frobenius norm alone and make all cells of the tiles equal.
    stacked = torch.cat([torch.nn.functional.pad(frame, (0, width - frame.shape[-1])) for frame in frames], dim=1)
    count = len(frames)
    overlaps = stacked.new_empty(count, count)
    step = max(1, _TILE_ENTRIES // (width * stacked.shape[1]))
    for start in range(0, count, step):
        stop = min(start + step, count)
        # Only the tiles on and right of the diagonal; the rest is the mirror image.
        products = stacked[:, start * width : stop * width].mT @ stacked[:, start * width :]
        cells = products.square_().view(stop - start, width, count - start, width).sum(dim=(1, 3))
        overlaps[start:stop, start:] = cells
        overlaps[start:, start:stop] = cells.mT
    return overlaps / torch.minimum(ranks[:, None], ranks[None, :])
