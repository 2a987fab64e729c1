"""Matrix products on a CPU, by NumPy and BLAS."""

import numpy as np
import torch
from torch import Tensor

from .lapack import blas

# Up to this size SciPy's functions, which take a tenth of a second to load, save nothing.
_SMALL = 128
# Columns that are mirrored at a time, so that a cache holds them.
_TILE = 256


def matrix_product(first: Tensor, second: Tensor) -> Tensor:
    """Product of matrices, shape=[..., m, n], on a CPU by NumPy.

    NumPy sees that a Gram matrix is one and forms half of it; torch took 1.4 times as long, and 2.5 times in
    float64 where `second` has 16 columns.
    """
    if first.device.type != "cpu":
        return first @ second
    return torch.from_numpy(first.numpy() @ second.numpy())


def add_gram(gram: Tensor, block: Tensor) -> None:
    """Add ``block.mT @ block`` to a matrix, of which the lower triangle alone need be right afterwards: see `mirrored`.

    BLAS adds to a matrix in place. A product that is made first has to be mirrored and added, which takes a seventh of
    the time where there are three blocks of 2,048 rows and columns.
    """
    if gram.device.type != "cpu" or len(gram) <= _SMALL:
        gram += matrix_product(block.mT, block)
        return
    rows, total = block.contiguous().numpy(), gram.numpy()
    one = np.ones(1, total.dtype)
    # BLAS counts along columns: it finds these rows transposed, and the lower triangle as an upper one.
    blas("syrk", total.dtype, "U", "N", len(total), len(rows), one, rows, len(total), one, total, len(total))


def mirrored(gram: Tensor) -> Tensor:
    """The symmetric matrix with this lower triangle, which is written over the other one."""
    for start in range(0, len(gram), _TILE):
        end = start + _TILE
        gram[start:end, end:] = gram[end:, start:end].mT
        corner = gram[start:end, start:end]
        corner.copy_(corner.tril() + corner.tril(-1).mT)
    return gram
