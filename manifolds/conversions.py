"""Frames to and from what other tools use for subspaces and flags: projectors, isospectral matrices, Stiefel points.

The functions about matrices form n x n matrices, since these are what they are asked for. They take and return batches,
under the conventions of the package.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from .checks import block_slices, holds, require_dims, require_fit, require_frame, require_tensor


def to_projector(frame: Tensor) -> Tensor:
    """Orthogonal projector onto a subspace, ``P P'``, shape=[..., n, n].

    Examples
    --------
    >>> to_projector(torch.tensor([[0.6], [0.8]]))
    tensor([[0.3600, 0.4800],
            [0.4800, 0.6400]])
    """
    require_frame(frame, "frame")
    return frame @ frame.mT


def from_projector(projector: Tensor, k: int) -> Tensor:
    """Orthonormal frame, of shape ``[..., n, k]``, of the range of an orthogonal projector of rank k.

    The inverse of `to_projector`, up to the choice of the frame.

    Raises
    ------
    ValueError
        If the matrix is not within rounding of a symmetric projector of rank k, 1 <= k <= n.

    Examples
    --------
    >>> from_projector(torch.tensor([[0.36, 0.48], [0.48, 0.64]]), k=1).abs()
    tensor([[0.6000],
            [0.8000]])
    """
    _require_symmetric(projector, "from_projector")
    n = projector.shape[-1]
    if not 1 <= k <= n:
        raise ValueError(f"from_projector needs a rank k from 1 to n = {n}; got {k}.")
    spectrum = (torch.arange(n, device=projector.device) < k).to(projector.dtype)
    return _eigenframe(projector, spectrum, "from_projector")[..., :k]


def to_isospectral(frame: Tensor, dims: Sequence[int], eigenvalues: Sequence[float]) -> Tensor:
    r"""Symmetric matrix whose eigenspaces are the blocks of a flag, :math:`\sum_i a_i P_i P_i^\top`.

    The flags of one type are the symmetric matrices of one spectrum. With the eigenvalues (1, 0) the matrix is the
    projector of a subspace, with (1, -1) the reflection in it.

    Parameters
    ----------
    frame : Tensor, shape=[..., n, k]
        Frame of the flag.
    dims : sequence of int
        Dimensions of the nested subspaces, ``dims[-1] = k``.
    eigenvalues : sequence of float
        Distinct numbers a, one for each block and one for the orthogonal complement of them all: ``len(dims) + 1``.

    Returns
    -------
    matrix : Tensor, shape=[..., n, n]

    References
    ----------
    .. [1] L.-H. Lim and K. Ye, arXiv:2407.13482, the isospectral model of a flag manifold.

    Examples
    --------
    >>> to_isospectral(torch.eye(3)[:, :2], (1, 2), (3.0, 2.0, -1.0))
    tensor([[ 3.,  0.,  0.],
            [ 0.,  2.,  0.],
            [ 0.,  0., -1.]])
    """
    require_frame(frame, "frame")
    n = frame.shape[-2]
    columns = _column_eigenvalues(n, dims, eigenvalues, frame, "to_isospectral")
    k, rest = tuple(dims)[-1], columns[-1]
    if frame.shape[-1] != k:
        raise ValueError(f"to_isospectral expected a frame with dims[-1] = {k} columns; got {tuple(frame.shape)}.")
    # The complement comes from I - P P', so that no frame of it is needed.
    identity = torch.eye(n, dtype=frame.dtype, device=frame.device)
    return rest * identity + (frame * (columns[:k] - rest)) @ frame.mT


def from_isospectral(matrix: Tensor, dims: Sequence[int], eigenvalues: Sequence[float]) -> Tensor:
    """Frame of the flag of the eigenspaces of a symmetric matrix of known spectrum, shape=[..., n, dims[-1]].

    The inverse of `to_isospectral`, with the same `dims` and `eigenvalues`, up to the choice of the frame. The error is
    that of the matrix over the smallest difference of two eigenvalues.

    Raises
    ------
    ValueError
        If the matrix is not symmetric, or has other eigenvalues, to working precision.

    Examples
    --------
    >>> matrix = torch.tensor([[1.0, 2.0], [2.0, 1.0]], dtype=torch.float64)
    >>> from_isospectral(matrix, (1,), (3.0, -1.0)).abs()
    tensor([[0.7071],
            [0.7071]], dtype=torch.float64)
    """
    _require_symmetric(matrix, "from_isospectral")
    columns = _column_eigenvalues(matrix.shape[-1], dims, eigenvalues, matrix, "from_isospectral")
    return _eigenframe(matrix, columns, "from_isospectral")[..., : tuple(dims)[-1]]


def nearest_frame(frame: Tensor, reference: Tensor, dims: Sequence[int] | None = None) -> Tensor:
    r"""Frame of a subspace, or of a flag, that is nearest to a given one in Frobenius norm.

    An orthonormal frame is a point of the Stiefel manifold, and every such point is a frame of a subspace or flag:
    going there loses how the columns are turned inside each block. This is the way back, where a reference has the
    columns that are wanted, such as singular vectors with their signs. It depends on the flag of `frame` alone.

    .. math:: P_i \operatorname{polar}(P_i^\top R_i) \quad \text{for each block}

    Parameters
    ----------
    frame : Tensor, shape=[..., n, k]
        Frame of the subspace or flag.
    reference : Tensor, shape=[..., n, k]
        Any matrix R.
    dims : sequence of int, optional
        Dimensions of the nested subspaces, ``dims[-1] = k``; by default the frame stands for a subspace.

    Notes
    -----
    The nearest frame is unique where each ``P_i' R_i`` is invertible: no direction of a block is orthogonal to the same
    block of the reference.

    References
    ----------
    .. [1] P. H. Schönemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 31 (1966).

    Examples
    --------
    >>> axes = torch.eye(3)
    >>> nearest_frame(axes[:, [1, 0]], axes[:, [0, 1]])
    tensor([[1., 0.],
            [0., 1.],
            [0., 0.]])
    """
    require_fit(frame, reference, "nearest_frame", "frame", "reference")
    require_frame(frame, "frame")
    k = frame.shape[-1]
    if reference.shape[-1] != k:
        raise ValueError(f"nearest_frame expected a reference of {k} columns; got shape {tuple(reference.shape)}.")
    checked = (k,) if dims is None else require_dims(dims, frame.shape[-2])
    if checked[-1] != k:
        raise ValueError(f"nearest_frame expected a frame with dims[-1] = {checked[-1]} columns; got {k}.")
    columns = []
    for block in block_slices(checked):
        left, _, right = torch.linalg.svd(frame[..., block].mT @ reference[..., block])
        columns.append(frame[..., block] @ (left @ right))
    return torch.cat(columns, dim=-1)


def _column_eigenvalues(n: int, dims: Sequence[int], eigenvalues: Sequence[float], like: Tensor, caller: str) -> Tensor:
    """Eigenvalue of each column of a complete frame of n columns."""
    edges = (*require_dims(dims, n), n)
    if len(eigenvalues) != len(edges) or len(set(eigenvalues)) != len(edges):
        raise ValueError(
            f"{caller} expected {len(edges)} distinct eigenvalues, one for each block and one for their complement; "
            f"got {list(eigenvalues)}."
        )
    sizes = torch.tensor([block.stop - block.start for block in block_slices(edges)], device=like.device)
    values = torch.tensor(eigenvalues, dtype=like.dtype, device=like.device)
    return values.repeat_interleave(sizes, output_size=n)


def _eigenframe(matrix: Tensor, eigenvalues: Tensor, caller: str) -> Tensor:
    """Eigenvectors of a symmetric matrix in the order of its known eigenvalues, shape=[..., n, n]."""
    found, vectors = torch.linalg.eigh(matrix)
    ascending, order = eigenvalues.sort(stable=True)
    tolerance = 10 * len(eigenvalues) * torch.finfo(matrix.dtype).eps * ascending.abs().amax()
    error = (found - ascending).abs()
    if not holds(error <= tolerance):  # false also for NaN
        raise ValueError(
            f"{caller} expected the eigenvalues {ascending.tolist()}; those found are off by {float(error.max()):.1e}, "
            f"more than {float(tolerance):.1e}."
        )
    return vectors[..., order.argsort()]


def _require_symmetric(matrix: Tensor, caller: str) -> None:
    require_tensor(matrix, caller)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or matrix.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"{caller} expected float32 or float64 matrices of shape [..., n, n]; got shape {tuple(matrix.shape)} of "
            f"{matrix.dtype}."
        )
    tolerance = 10 * matrix.shape[-1] * torch.finfo(matrix.dtype).eps
    size = matrix.abs().amax(dim=(-2, -1), keepdim=True)
    if not holds((matrix - matrix.mT).abs() <= tolerance * size):  # false also for NaN
        raise ValueError(
            f"{caller} expected symmetric matrices; found a difference of "
            f"{float((matrix - matrix.mT).abs().max()):.1e} from the transpose."
        )
