"""Leading eigenpairs of a symmetric matrix, by LAPACK in as many threads as ask for them."""

import numpy as np
import torch
from torch import Tensor

from .lapack import lapack

# Columns that LAPACK's blocked routines take at a time, and the triangle that ormtr builds of them.
_BLOCK, _TRIANGLE = 64, 65 * 64
# Up to this size all eigenvectors take less time than 16 (half of it at 64).
_SMALL = 128


def leading_eigenpairs(matrix: Tensor, count: int, *, all_values: bool = False) -> tuple[Tensor, Tensor]:
    """Largest eigenvalues of symmetric matrices and their vectors.

    Parameters
    ----------
    matrix : Tensor, shape=[..., n, n]
        float32 or float64, contiguous. May be overwritten; only the lower triangle is read.
    count : int
        Number of vectors, from 1 to n.
    all_values : bool, optional
        Whether to return every eigenvalue, which costs a third more in float64 at n = 576.

    Returns
    -------
    values : Tensor, shape=[..., count] or [..., n]
        Descending.
    vectors : Tensor, shape=[..., n, count]
        Orthonormal to about 1e-12 in float64.

    Raises
    ------
    numpy.linalg.LinAlgError, torch.linalg.LinAlgError
        If LAPACK does not converge.

    Notes
    -----
    On a CPU: reduction to tridiagonal form, then relatively robust representations for the wanted vectors. Elsewhere,
    and up to n = 128, where all vectors cost less than the choice of a few, `torch.linalg.eigh`.
    """
    if matrix.device.type != "cpu" or matrix.shape[-1] <= _SMALL:
        values, vectors = torch.linalg.eigh(matrix, UPLO="L")
        return values[..., None if all_values else -count :].flip(-1), vectors[..., -count:].flip(-1)
    if matrix.ndim > 2:
        each = [leading_eigenpairs(one, count, all_values=all_values) for one in matrix.flatten(0, -3)]
        values, vectors = (torch.stack(parts).unflatten(0, matrix.shape[:-2]) for parts in zip(*each, strict=True))
        return values, vectors
    # LAPACK counts along columns: it finds the lower triangle of these rows as an upper one.
    reflectors = matrix.numpy()
    n, dtype = len(reflectors), reflectors.dtype
    diagonal, beside, scales, work = (np.empty(length, dtype) for length in (n, n, n, _BLOCK * n + _TRIANGLE))
    lapack("sytrd", dtype, "U", n, reflectors, n, diagonal, beside, scales, work, len(work))
    every = None
    if all_values:
        every, spent = diagonal.copy(), beside.copy()
        lapack("sterf", dtype, n, every, spent)
    values, vectors = np.empty(n, dtype), np.empty((count, n), dtype)  # LAPACK's columns are these rows
    support, integers = np.empty(2 * n, np.int32), np.empty(10 * n, np.int32)
    found, robust = np.zeros(1, np.int32), np.ones(1, np.int32)
    wanted, room = (np.zeros(1), np.zeros(1), n - count + 1, n), (work, len(work), integers, len(integers))
    lapack(
        "stemr", dtype, "V", "I", n, diagonal, beside, *wanted, found, values, vectors, n, count, support, robust, *room
    )
    lapack("ormtr", dtype, "L", "U", "N", n, count, reflectors, n, scales, vectors, n, work, len(work))
    kept = values[:count] if every is None else every
    return torch.from_numpy(kept).flip(0), torch.from_numpy(vectors).flip(0).mT
