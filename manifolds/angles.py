"""Principal angles between subspaces, and the overlaps made of them."""

from torch import Tensor

from .frames import require_frame


def projection_overlap(first: Tensor, second: Tensor) -> Tensor:
    r"""Mean squared cosine of the principal angles between two subspaces.

    Use it to ask how much of the smaller subspace the larger one contains.

    .. math:: \omega(A, B) = \frac{\lVert A^\top B \rVert_F^2}{\min(r, s)}

    Parameters
    ----------
    first : Tensor, shape=[..., n, r]
        Orthonormal frame. float32 or float64.
    second : Tensor, shape=[..., n, s]
        Orthonormal frame in the same space, with the dtype and device of `first`.

    Returns
    -------
    overlap : Tensor, shape=[...]
        Dimensionless, in [0, 1]: 0 for orthogonal subspaces, 1 when one contains the other.

    Raises
    ------
    ValueError
        If the ambient dimensions differ, or if a frame is not orthonormal to working precision.

    See Also
    --------
    pairwise_overlap : All pairs of many subspaces at once.
    overlap_moments : Mean and spread for unrelated subspaces.

    Notes
    -----
    Unchanged when one orthogonal map acts on both subspaces and when either frame is replaced by
    another frame of the same span; changed by a general linear map of the space. Independent uniform
    subspaces give ``max(r, s) / n`` on average. Cost: ``n * r * s`` multiply-adds a pair.

    References
    ----------
    theory/alignment, section 2.5: under the orthogonal group the principal angles are the complete
    invariant of a pair of subspaces.

    Examples
    --------
    Two planes in four dimensions that share one line:

    >>> import torch
    >>> axes = torch.eye(4)
    >>> projection_overlap(axes[:, [0, 1]], axes[:, [1, 2]])
    tensor(0.5000)
    """
    if first.shape[-2] != second.shape[-2]:
        raise ValueError(
            "projection_overlap compares subspaces of one space; got frames of shape "
            f"{tuple(first.shape)} in dimension {first.shape[-2]} and {tuple(second.shape)} "
            f"in dimension {second.shape[-2]}."
        )
    require_frame(first, "first")
    require_frame(second, "second")
    return (first.mT @ second).square().sum(dim=(-2, -1)) / min(first.shape[-1], second.shape[-1])
