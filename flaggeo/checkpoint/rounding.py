"""How far a stored number may lie from the one that was stored."""

import math
import re

import torch
from torch import Tensor

# Bits of the fraction of a floating-point number.
_FRACTION_BITS = {"F64": 52, "F32": 23, "F16": 10, "BF16": 7, "F8_E4M3": 3, "F8_E5M2": 2}
_EXPONENT_BITS = 0x7FF0000000000000  # of float64
# Bits of a quantised number, and how many share a scale where the name says it (GPTQ4:128).
_QUANTISED = re.compile(r"(?:Q|FP?|INT)(?P<bits>\d)(?::(?P<block>\d+))?")
# Numbers that share a scale otherwise. K-quants share theirs among 16 or 32: with 32 their steps come out too large, if
# anything.
_BLOCK = 32
# Rows of a chunk, a multiple of every block, and entries that a chunk has at least, if that takes more rows.
_CHUNK_ROWS, _CHUNK_ENTRIES = 256, 2**18
# Behind the name of a type whose blocks run along the columns.
_TRANSPOSED = "^T"
# Four-bit numbers with an exponent and one bit of a fraction: 0, 1/2, 1, 3/2, 2, 3, 4 and 6. bitsandbytes has 1/32 in
# place of 1/2.
_E2M1_FRACTION, _E2M1_LARGEST = 1, 6
_SMALLEST_STEPS = {"MXFP4": 0.5, "FP4": 1.0}


def rounding_steps(stored: Tensor, dtype: str) -> Tensor:
    r"""Distance from each stored number to the next that could be stored.

    Parameters
    ----------
    stored : Tensor, shape=[..., columns]
        Numbers as `Checkpoint.read` gives them.
    dtype : str
        How they are stored, as a `TensorHeader` spells it.

    Returns
    -------
    steps : Tensor, shape=[..., columns]
        float64, in the units of the numbers. That of a floating-point number follows from its exponent. Where it was
        stored in eight bits beside a scale that is no power of two, some come out half or twice as large, which evens
        out. That of a quantised block of b bits is :math:`2 \max |x| / (2^b - 1)`, as for evenly spaced levels.
        Numbers that do not come in whole blocks are taken row by row.

    Raises
    ------
    ValueError
        If the dtype is neither.
    """
    if dtype.endswith(_TRANSPOSED):
        return rounding_steps(stored.mT, dtype.removesuffix(_TRANSPOSED)).mT
    numbers = stored.double()
    if dtype in _FRACTION_BITS:
        return _spacing(numbers, _FRACTION_BITS[dtype])
    found = _QUANTISED.search(dtype)
    if found is None:
        raise ValueError(f"rounding_steps: expected a floating-point or quantised dtype; got {dtype}")
    block = int(found["block"] or _BLOCK)
    blocks = numbers.reshape(-1, block if numbers.numel() % block == 0 else numbers.shape[-1])
    largest = blocks.abs().amax(dim=1, keepdim=True)
    kind = dtype.partition(":")[0]
    if kind in _SMALLEST_STEPS:
        # The scale of MXFP4 is a power of two that brings the largest number between 4 and 8.
        scale = _spacing(largest, 2) if kind == "MXFP4" else largest / _E2M1_LARGEST
        plain = blocks / scale
        spacing = _spacing(plain, _E2M1_FRACTION).where(plain.abs() > 0.9, _SMALLEST_STEPS[kind])
        steps = (spacing * scale).where(scale != 0, 0.0)
    else:
        steps = (2 * largest / (2 ** int(found["bits"]) - 1)).expand_as(blocks)
    return steps.reshape(numbers.shape)


def _spacing(numbers: Tensor, fraction_bits: int) -> Tensor:
    """Steps of floating-point numbers given in float64; 0 at 0."""
    # The exponent bits alone are the largest power of two that is not above the number.
    powers = (numbers.contiguous().view(torch.int64) & _EXPONENT_BITS).view(torch.float64)
    return powers * 2.0**-fraction_bits


def rounding_error(stored: Tensor, dtype: str) -> float:
    r"""Size of the rounding errors of stored numbers: their root mean square relative to that of the numbers.

    Parameters
    ----------
    stored : Tensor, shape=[..., columns]
        Numbers as `Checkpoint.read` gives them.
    dtype : str
        How they are stored, as a `TensorHeader` spells it.

    Returns
    -------
    error : float
        At least 0; 0 where all numbers are 0.

    Raises
    ------
    ValueError
        If the dtype is neither floating-point nor quantised.

    Notes
    -----
    An error spreads evenly over the step between neighbouring numbers, of which it has the root mean square
    :math:`1 / \sqrt{12}`.

    Examples
    --------
    Four bits leave an error of a tenth of a normal number:

    >>> normal = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
    >>> round(rounding_error(normal, "Q4_0"), 2), round(rounding_error(normal, "BF16"), 4)
    (0.09, 0.0017)
    """
    if dtype.endswith(_TRANSPOSED):
        return rounding_error(stored.mT, dtype.removesuffix(_TRANSPOSED))
    # So many rows that a cache holds them, and whole blocks of numbers that share a scale wherever these cross rows.
    rows = _CHUNK_ROWS * max(1, _CHUNK_ENTRIES // (_CHUNK_ROWS * stored.shape[-1]))
    variance = size = 0.0
    for part in stored.reshape(-1, stored.shape[-1]).split(rows):
        variance += float(rounding_steps(part, dtype).square().sum()) / 12
        size += float(part.double().square().sum())
    return math.sqrt(variance / size) if size > 0 else 0.0
