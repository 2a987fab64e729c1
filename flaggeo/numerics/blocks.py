"""A large matrix in the working precision, a few rows at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

#: Entries of a tensor that are taken to float64 at a time: 32 MiB, and 2 MiB that stay in a core's cache where there
#: are two products to make of them.
BLOCK_ENTRIES, NEAR_ENTRIES = 2**22, 2**18


def row_blocks(tall: Tensor, entries: int | None = None, dtype: torch.dtype = torch.float64) -> Iterator[Tensor]:
    """Row blocks in the working precision, so that a large tensor never exists in float64 as a whole.

    Each is valid until the next one, which is written over it.
    """
    if tall.device.type == "mps":
        dtype = torch.float32  # Metal has no float64
    rows = max(1, (entries or BLOCK_ENTRIES) // tall.shape[1])
    if tall.dtype == dtype:
        yield from tall.split(rows)
        return
    room = tall.new_empty(min(rows, len(tall)), tall.shape[1], dtype=dtype)
    for block in tall.split(rows):
        yield room[: len(block)].copy_(block)
