"""What storing the numbers of two versions in few bits leaves in their difference."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..checkpoint.rounding import rounding_steps

_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Rounding:
    """What is known of the errors that storing a matrix in its dtype left in it.

    Attributes
    ----------
    norm : float
        Estimate of their largest singular value.
    frobenius_norm : float
        Of the same errors.
    """

    norm: float
    frobenius_norm: float

    def and_also(self, other: "Rounding") -> "Rounding":
        """Of the difference of two matrices with independent errors."""
        return Rounding(math.hypot(self.norm, other.norm), math.hypot(self.frobenius_norm, other.frobenius_norm))


EXACT = Rounding(0.0, 0.0)


def rounding_variance(stored: Tensor, dtype: str) -> Tensor:
    r"""Variance of each entry's rounding error, taken to be uniform over one step of the stored dtype.

    Parameters
    ----------
    stored : Tensor, shape=[rows, columns]
        As read from the checkpoint, in its layout.
    dtype : str
        In the format's spelling: ``BF16``, ``Q4_K`` ...

    Returns
    -------
    variance : Tensor, shape=[rows, columns]
        ``step^2 / 12``. The step of a floating dtype is taken as ``eps |w|``, the largest that it can be; that of
        fewer bits as `flaggeo.checkpoint.rounding.rounding_steps` has it.
    """
    if dtype in _FLOATS:
        limits = torch.finfo(_FLOATS[dtype])
        steps = stored.to(torch.float32, copy=True).abs_().mul_(limits.eps).add_(limits.smallest_normal * limits.eps)
    else:
        steps = rounding_steps(stored, dtype).to(torch.float32)
    return steps.square_().div_(12)


def rounding(row_variances: Tensor, column_variances: Tensor) -> Rounding:
    """Norms of independent errors.

    Parameters
    ----------
    row_variances : Tensor, shape=[m]
        Sums over each row of the variances of its entries.
    column_variances : Tensor, shape=[n]

    Notes
    -----
    The largest singular value of a matrix of independent entries is close to the largest norm of a row plus
    the largest of a column of the standard deviations, and ``sd (sqrt(m) + sqrt(n))`` where they are equal.

    References
    ----------
    A. S. Bandeira and R. van Handel, Sharp nonasymptotic bounds on the norm of random matrices with
    independent entries, Ann. Probab. 44 (2016).
    """
    norm = float(row_variances.max().sqrt() + column_variances.max().sqrt())
    return Rounding(norm, float(row_variances.sum().sqrt()))


def gain_rounding(variance: Tensor, diagonal: Tensor, values: Tensor) -> Rounding:
    """Norms of what the rounding errors of a gain leave in the matrix that it is folded into.

    A coordinate is off by one factor in all its entries, so that the errors follow the matrix and not the law of
    independent ones: the largest is at most the largest singular value times the largest relative error.

    Parameters
    ----------
    variance : Tensor, shape=[n]
        Of the stored numbers, from `rounding_variance`.
    diagonal : Tensor, shape=[n]
        The gains.
    values : Tensor, shape=[k]
        Singular values of the matrix with the gain folded in, descending.
    """
    relative = float(torch.where(diagonal != 0, variance.sqrt() / diagonal.abs(), 0).max())
    # A uniform error is at most sqrt(3) times its standard deviation.
    return Rounding(math.sqrt(3) * relative * float(values[0]), relative * float(values.norm()))
