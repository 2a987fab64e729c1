"""A large matrix in the working precision, a few rows at a time."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

#: Entries of a tensor that are taken to float64 at a time: 32 MiB, and 2 MiB that stay in a core's cache where there
#: are two products to make of them.
BLOCK_ENTRIES, NEAR_ENTRIES = 2**22, 2**18


class Rows(Protocol):
    """A matrix that is read a few rows at a time: a tensor, or what makes them anew whenever they are asked for.

    The latter need have rows of its larger side alone: of itself, or of its transpose.
    """

    @property
    def shape(self) -> Sequence[int]:
        """Numbers of rows and columns."""

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the blocks."""

    @property
    def device(self) -> torch.device:
        """Where the blocks lie."""

    @property
    def mT(self) -> "Rows":  # noqa: N802, as that of a tensor
        """The transpose."""

    def split(self, count: int, /) -> Iterable[Tensor]:
        """All rows in order, in blocks of at most so many."""


def with_more_rows(matrix: Rows) -> Rows:
    """The matrix or its transpose, whichever has no fewer rows than columns."""
    return matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT


def row_blocks(tall: Rows, entries: int | None = None, dtype: torch.dtype = torch.float64) -> Iterator[Tensor]:
    """Row blocks in the working precision, so that a large tensor never exists in float64 as a whole.

    Each is valid until the next one, which is written over it.
    """
    if tall.device.type == "mps":
        dtype = torch.float32  # Metal has no float64
    rows = max(1, (entries or BLOCK_ENTRIES) // tall.shape[1])
    if tall.dtype == dtype:
        yield from tall.split(rows)
        return
    room = torch.empty(min(rows, tall.shape[0]), tall.shape[1], dtype=dtype, device=tall.device)
    for block in tall.split(rows):
        yield room[: len(block)].copy_(block)
