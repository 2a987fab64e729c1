"""How far a stored number may lie from the one that was stored."""

import re

import torch
from torch import Tensor

# Bits of the fraction of a floating-point number.
_FRACTION_BITS = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7}
# Numbers that share a scale. K-quants share theirs among 16 or 32: with 32 their steps come out too large, if anything.
_BLOCK = 32


def rounding_error(stored: Tensor, dtype: str) -> float:
    r"""Size of the rounding errors of stored numbers: their root mean square relative to that of the numbers.

    Parameters
    ----------
    stored : Tensor, shape=[..., columns]
        Numbers as `Checkpoint.read` gives them. Those of a quantised type come in whole blocks of 32.
    dtype : str
        How they are stored, as a `TensorHeader` spells it.

    Returns
    -------
    error : float
        At least 0; 0 where all numbers are 0.

    Notes
    -----
    An error spreads evenly over the step between neighbouring numbers, of which it has the root mean square
    :math:`1 / \sqrt{12}`. The step of a floating-point number follows from its exponent. That of a quantised block of b
    bits is :math:`2 \max |x| / (2^b - 1)`, as for evenly spaced levels.

    Examples
    --------
    Four bits leave an error of a tenth of a normal number:

    >>> normal = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    >>> round(rounding_error(normal, "Q4_0"), 2), round(rounding_error(normal, "BF16"), 4)
    (0.09, 0.0017)
    """
    numbers = stored.double()
    if dtype in _FRACTION_BITS:
        # frexp has the number between 1/2 and 1 times this power of two.
        steps = torch.ldexp(torch.ones_like(numbers), numbers.frexp().exponent - 1 - _FRACTION_BITS[dtype])
        steps = steps.where(numbers != 0, 0.0)
    else:
        bits = re.search(r"(?:Q|FP)(\d)", dtype)
        if bits is None:
            raise ValueError(f"rounding_error: expected a floating-point or quantised dtype; got {dtype}")
        steps = 2 * numbers.reshape(-1, _BLOCK).abs().amax(dim=1) / (2 ** int(bits[1]) - 1)
    size = numbers.square().mean()
    return float((steps.square().mean() / (12 * size)).sqrt()) if size > 0 else 0.0
