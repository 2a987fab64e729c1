"""Orthonormal frames ``[..., n, k]``: how to make one, and how to refuse what is not one."""

import torch
from torch import Tensor


def orthonormalize(matrix: Tensor) -> Tensor:
    """Orthonormal frame of the column space of a matrix of full column rank.

    Equal to the ``Q`` of `torch.linalg.qr` in reduced mode.

    Parameters
    ----------
    matrix : Tensor, shape=[..., n, k]
        Linearly independent columns, k <= n.

    Returns
    -------
    frame : Tensor, shape=[..., n, k]
        Orthonormal columns with the same span, leading columns spanning leading columns: the flag
        of the columns is kept.

    Raises
    ------
    ValueError
        If there are more columns than rows.

    Examples
    --------
    >>> orthonormalize(torch.tensor([[3.0], [4.0]])).abs()
    tensor([[0.6000],
            [0.8000]])
    """
    rows, columns = matrix.shape[-2:]
    if columns > rows:
        raise ValueError(
            f"orthonormalize needs at most as many columns as rows; got shape {tuple(matrix.shape)}: "
            f"{columns} vectors in dimension {rows}."
        )
    frame: Tensor = torch.linalg.qr(matrix).Q
    return frame


def require_frame(frame: Tensor, name: str) -> None:
    """Raise unless the columns are orthonormal to working precision.

    The bound ``10 * n * eps`` is what a QR factor of any size meets; ``n * eps`` is not (a 2-wide
    float32 factor misses it by half).

    Parameters
    ----------
    frame : Tensor, shape=[..., n, k]
        The candidate.
    name : str
        What the message calls it.

    Raises
    ------
    ValueError
        If ``frame.mT @ frame`` differs from the identity by more than ``10 * n * eps(dtype)``, or
        holds NaN.
    """
    n, rank = frame.shape[-2:]
    identity = torch.eye(rank, dtype=frame.dtype, device=frame.device)
    defect = float((frame.mT @ frame - identity).abs().max()) if frame.numel() else 0.0
    if not defect <= 10 * n * torch.finfo(frame.dtype).eps:  # `not <=` also rejects NaN
        raise ValueError(
            f"{name} with shape {tuple(frame.shape)} is not an orthonormal frame: its Gram matrix misses the "
            f"identity by {defect:.1e}. Orthonormalize it first."
        )
