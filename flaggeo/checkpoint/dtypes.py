"""How headers spell dtypes, whatever library reads the numbers."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_SPELLING = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.float8_e8m0fnu: "F8_E8M0",
    torch.bool: "BOOL",
    torch.uint8: "U8",
    torch.int8: "I8",
    torch.uint16: "U16",
    torch.int16: "I16",
    torch.uint32: "U32",
    torch.int32: "I32",
    torch.uint64: "U64",
    torch.int64: "I64",
}


def spelling(dtype: torch.dtype) -> str:
    """A torch dtype as a `TensorHeader` spells it.

    Examples
    --------
    >>> spelling(torch.bfloat16), spelling(torch.int64)
    ('BF16', 'I64')
    """
    return _SPELLING.get(dtype, str(dtype))


def from_spelling(name: str) -> torch.dtype:
    """The torch dtype that a header spells so.

    Raises
    ------
    ValueError
        If torch has none.

    Examples
    --------
    >>> from_spelling("BF16"), from_spelling("I64")
    (torch.bfloat16, torch.int64)
    """
    for dtype, spelt in _SPELLING.items():
        if spelt == name:
            return dtype
    raise ValueError(f"expected one of the dtypes {', '.join(_SPELLING.values())}, found {name}")


def numpy_spelling(dtype: np.dtype[Any]) -> str:
    """A NumPy dtype, of any byte order, as a `TensorHeader` spells it.

    Examples
    --------
    >>> numpy_spelling(np.dtype(">f4")), numpy_spelling(np.dtype("int64"))
    ('F32', 'int64')
    """
    return f"F{8 * dtype.itemsize}" if dtype.kind == "f" and dtype.itemsize <= 8 else str(dtype)


def as_tensor(array: NDArray[Any]) -> Tensor:
    """A NumPy array as a tensor, which knows no foreign byte order and no read-only memory."""
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements="W"))
