"""Orthonormal frames: how to make one, and what to do with it.

A `matrix` has shape ``[..., n, k]``, `vectors` are the columns of a tensor of shape ``[..., n, m]``, and a `frame` is
orthonormal, of shape ``[..., n, k]``, all under the conventions of the package.
"""

import torch
from torch import Tensor

from .checks import common_batch, holds, require_fit, require_frame, require_pair, require_tall
from .derivatives import nearest_frame


def orthonormalize(matrix: Tensor) -> Tensor:
    """Orthonormal frame of the column space of a matrix of full column rank.

    Equal to the ``Q`` of `torch.linalg.qr` in reduced mode. The leading columns of the result span what the leading
    columns of the matrix span, so that the flag of the columns is kept; `polar_factor` treats all columns alike.

    Raises
    ------
    ValueError
        If a column depends on the columns before it to working precision, or if an entry is not finite.

    Examples
    --------
    >>> orthonormalize(torch.tensor([[3.0], [4.0]])).abs()
    tensor([[0.6000],
            [0.8000]])
    """
    require_tall(matrix, "matrix")
    frame, triangle = torch.linalg.qr(matrix)
    pivots = triangle.diagonal(dim1=-2, dim2=-1).abs()
    tolerance = matrix.shape[-2] * torch.finfo(matrix.dtype).eps
    largest = matrix.abs().amax(dim=-2, keepdim=True)
    # Relative to the largest entry, so that squares of huge columns do not overflow.
    lengths = largest[..., 0, :] * torch.linalg.vector_norm(matrix / torch.where(largest > 0, largest, 1), dim=-2)
    if not holds(pivots > tolerance * lengths):  # false also for NaN and for a column of zeros
        raise ValueError(
            "orthonormalize expected finite, linearly independent columns; found a column of shape "
            f"{tuple(matrix.shape)} that is zero, not finite or within {tolerance:.1e} of the span of those before it."
        )
    return frame


def polar_factor(matrix: Tensor) -> Tensor:
    r"""Orthonormal frame, with the same span, that is nearest in Frobenius norm to a matrix of full column rank.

    Equal to `scipy.linalg.polar`'s first factor: ``U @ Vh`` of the thin singular value decomposition.

    Raises
    ------
    ValueError
        If the columns are dependent to working precision (the nearest frame is then not unique), or if an entry is not
        finite.

    Examples
    --------
    >>> polar_factor(torch.tensor([[2.0, 0.0], [0.0, -3.0], [0.0, 0.0]]))
    tensor([[ 1.,  0.],
            [ 0., -1.],
            [ 0.,  0.]])
    """
    require_tall(matrix, "matrix")
    if not holds(matrix.isfinite()):
        raise ValueError(f"polar_factor expected finite entries; found NaN or infinity in shape {tuple(matrix.shape)}.")
    stretch = torch.linalg.svdvals(matrix)
    tolerance = matrix.shape[-2] * torch.finfo(matrix.dtype).eps
    if not holds(stretch[..., -1:] > tolerance * stretch[..., :1]):
        raise ValueError(
            f"polar_factor expected full column rank; found shape {tuple(matrix.shape)} with a smallest singular "
            f"value within {tolerance:.1e} of zero, relative to the largest."
        )
    return nearest_frame(matrix)


def orthogonal_complement(frame: Tensor) -> Tensor:
    """Orthonormal frame, of shape ``[..., n, n - k]``, of the vectors orthogonal to a subspace.

    The cost is ``2 n^2 k`` multiply-adds and n x n numbers; in a large space work with `reject` instead.

    Examples
    --------
    >>> orthogonal_complement(torch.eye(3)[:, :2]).abs()
    tensor([[0.],
            [0.],
            [1.]])
    """
    require_frame(frame, "frame")
    return torch.linalg.qr(frame, mode="complete").Q[..., frame.shape[-1] :]


def project(vectors: Tensor, frame: Tensor) -> Tensor:
    """Orthogonal projection of vectors onto a subspace; `reject` gives what is left.

    Examples
    --------
    >>> project(torch.tensor([[3.0], [4.0]]), torch.eye(2)[:, :1])
    tensor([[3.],
            [0.]])
    """
    require_fit(vectors, frame, "project", "vectors", "frame")
    require_frame(frame, "frame")
    return frame @ (frame.mT @ vectors)


def reject(vectors: Tensor, frame: Tensor) -> Tensor:
    """Part of the vectors orthogonal to a subspace: the vectors minus their projection.

    The projection is subtracted twice, so that the result is orthogonal to the subspace to working
    precision relative to itself, even where the vectors almost lie in the subspace.

    Examples
    --------
    >>> reject(torch.tensor([[3.0], [4.0]]), torch.eye(2)[:, :1])
    tensor([[0.],
            [4.]])
    """
    require_fit(vectors, frame, "reject", "vectors", "frame")
    require_frame(frame, "frame")
    return residual(vectors, frame)


def residual(vectors: Tensor, frame: Tensor) -> Tensor:
    """`reject` for callers that have checked the frame."""
    once = vectors - frame @ (frame.mT @ vectors)
    return once - frame @ (frame.mT @ once)


def same_span(first: Tensor, second: Tensor, tolerance: float | None = None) -> Tensor:
    """Whether two frames of one space span the same subspace; false for subspaces of different dimension.

    `tolerance` is the largest sine of a principal angle that counts as equal; ``20 * n * eps`` by default.

    Examples
    --------
    >>> axes = torch.eye(4)
    >>> same_span(axes[:, [0, 1]], axes[:, [1, 0]]), same_span(axes[:, [0, 1]], axes[:, [1, 2]])
    (tensor(True), tensor(False))
    """
    require_pair(first, second, "same_span")
    if first.shape[-1] != second.shape[-1]:
        return torch.zeros(common_batch(first, second), dtype=torch.bool, device=first.device)
    if tolerance is None:
        tolerance = 20 * first.shape[-2] * torch.finfo(first.dtype).eps
    sines = torch.linalg.matrix_norm(residual(second, first), ord=2)
    return sines <= tolerance
