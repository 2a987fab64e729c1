"""Orthonormal frames ``[..., n, k]``: how to make one, and what to do with it."""

import torch
from torch import Tensor

from .checks import common_batch, holds, require_fit, require_frame, require_pair, require_tall


def orthonormalize(matrix: Tensor) -> Tensor:
    """Orthonormal frame of the column space of a matrix of full column rank.

    Equal to the ``Q`` of `torch.linalg.qr` in reduced mode.

    Parameters
    ----------
    matrix : Tensor, shape=[..., n, k]
        Linearly independent columns, k <= n. float32 or float64.

    Returns
    -------
    frame : Tensor, shape=[..., n, k]
        Orthonormal columns with the same span, leading columns spanning leading columns: the flag
        of the columns is kept.

    Raises
    ------
    ValueError
        If there are more columns than rows, if a column depends on the columns before it to working
        precision, or if an entry is not finite.

    See Also
    --------
    polar_factor : The nearest frame, which treats all columns alike.

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
    r"""Nearest orthonormal frame to a matrix of full column rank.

    Equal to `scipy.linalg.polar`'s first factor: ``U @ Vh`` of the thin singular value decomposition.

    Parameters
    ----------
    matrix : Tensor, shape=[..., n, k]
        Linearly independent columns, k <= n. float32 or float64.

    Returns
    -------
    frame : Tensor, shape=[..., n, k]
        The frame with the same span that minimises the Frobenius distance to `matrix`.

    Raises
    ------
    ValueError
        If there are more columns than rows, if the columns are dependent to working precision (the
        nearest frame is then not unique), or if an entry is not finite.

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
    left, stretch, right = torch.linalg.svd(matrix, full_matrices=False)
    tolerance = matrix.shape[-2] * torch.finfo(matrix.dtype).eps
    if not holds(stretch[..., -1:] > tolerance * stretch[..., :1]):
        raise ValueError(
            f"polar_factor expected full column rank; found shape {tuple(matrix.shape)} with a smallest singular "
            f"value within {tolerance:.1e} of zero, relative to the largest."
        )
    return left @ right


def orthogonal_complement(frame: Tensor) -> Tensor:
    """Orthonormal frame of the vectors orthogonal to a subspace.

    Parameters
    ----------
    frame : Tensor, shape=[..., n, k]
        Orthonormal frame. float32 or float64.

    Returns
    -------
    complement : Tensor, shape=[..., n, n - k]
        Together with `frame` an orthonormal basis of the whole space.

    Raises
    ------
    ValueError
        If `frame` is not orthonormal to working precision.

    Notes
    -----
    Cost: ``2 n^2 k`` multiply-adds and n x n numbers; in a large space work with `reject` instead.

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
    """Orthogonal projection of columns onto a subspace.

    Parameters
    ----------
    vectors : Tensor, shape=[..., n, m]
        Columns to project.
    frame : Tensor, shape=[..., n, k]
        Orthonormal frame of the subspace, of the dtype and device of `vectors`.

    Returns
    -------
    projected : Tensor, shape=[..., n, m]
        The nearest vectors in the subspace.

    Raises
    ------
    ValueError
        If the two do not fit together or `frame` is not orthonormal.

    See Also
    --------
    reject : What is left.

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
    """Part of columns orthogonal to a subspace: the vectors minus their projection.

    The projection is subtracted twice, so that the result is orthogonal to the subspace to working
    precision relative to itself, also where the vectors almost lie in the subspace.

    Parameters
    ----------
    vectors : Tensor, shape=[..., n, m]
        Columns.
    frame : Tensor, shape=[..., n, k]
        Orthonormal frame of the subspace, of the dtype and device of `vectors`.

    Returns
    -------
    rejected : Tensor, shape=[..., n, m]
        Vectors of the orthogonal complement.

    Raises
    ------
    ValueError
        If the two do not fit together or `frame` is not orthonormal.

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
    """Whether two frames span the same subspace.

    Parameters
    ----------
    first, second : Tensor, shape=[..., n, k]
        Orthonormal frames in one space.
    tolerance : float, optional
        Largest sine of a principal angle that counts as equal; ``20 * n * eps(dtype)`` by default.

    Returns
    -------
    same : Tensor of bool, shape=[...]
        False for subspaces of different dimension.

    Raises
    ------
    ValueError
        If the frames do not lie in one space or are not orthonormal.

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
