"""How the matrices of parts lie in the tensors that store them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
from torch import Tensor

from .parts import DerivationError, Part

# More than a part has rows, or columns.
_ROW = 2**24


@dataclass(frozen=True)
class Layout:
    """How a tensor stores parts.

    Attributes
    ----------
    transposed : bool
    stacked : bool
        Whether its first axis counts experts.
    slices : tuple of tuple of pair of int
        For each expert, and each row of its matrix: number of the part, -1 for none, and row of the part.
    """

    transposed: bool
    stacked: bool
    slices: tuple[tuple[tuple[int, int], ...], ...]

    def runs(self, roles: Sequence[str]) -> tuple[tuple[str, int], ...]:
        """Roles of the rows of one matrix one after the other, each with the number of its rows; "" for none.

        Parameters
        ----------
        roles : sequence of str
            Of all parts.
        """
        rows = ["" if part < 0 else roles[part] for part, _ in self.slices[0]]
        return tuple((role, len(list(members))) for role, members in groupby(rows))


class Storage:
    """Finds parts in tensors that hold, in the place of numbers, which element of the parameters is stored there.

    Parameters
    ----------
    parts : sequence of Part
    size : int
        Number of elements of all parameters.
    """

    def __init__(self, parts: Sequence[Part], size: int) -> None:
        self.parts = parts
        # Part, row and column of each element in one number; -1 where it is in no part.
        self._places = torch.full((size + 1,), -1)
        for number, part in enumerate(parts):
            elements = part.elements.long()
            rows, columns = (torch.arange(length) for length in elements.shape)
            self._places[elements] = number * _ROW**2 + rows[:, None] * _ROW + columns

    def layout(self, stored: Tensor) -> Layout | None:
        """Layout of a tensor of elements; None if it holds no part.

        Raises
        ------
        DerivationError
            If it holds parts in a way that no layout describes.
        """
        if stored.ndim < 2:
            return None
        places = self._places[stored]
        if not (places >= 0).any():
            return None
        if stored.ndim > 2 and (rows := _rows(places.flatten(1))) is not None:
            return Layout(False, False, (rows,))  # the kernel of a convolution
        matrices = places if stored.ndim == 3 else places[None]
        for transposed in (False, True):
            # No token may have been given to an expert.
            found = [_rows(matrix.T if transposed else matrix) for matrix in matrices if (matrix >= 0).any()]
            if all(rows is not None for rows in found):
                slices = tuple(rows for rows in found if rows is not None)
                return Layout(transposed, stored.ndim == 3, slices)
        raise DerivationError(f"parts lie in a tensor of shape {tuple(stored.shape)} in an unknown way")


def _rows(places: Tensor) -> tuple[tuple[int, int], ...] | None:
    """Part and row of each row of a matrix; None if its rows are not rows of parts."""
    known = places >= 0
    first = places[:, 0]
    rows = first >= 0
    if not rows.any() or (known != rows[:, None]).any():
        return None
    whole = places == first[:, None] + torch.arange(places.shape[1])
    if not whole[rows].all() or (first[rows] % _ROW).any():
        return None
    parts, rows_of_parts = first // _ROW**2, torch.where(rows, first // _ROW % _ROW, -1)
    return tuple(zip(parts.tolist(), rows_of_parts.tolist(), strict=True))


def groups_of(runs: Sequence[tuple[str, int]]) -> tuple[int, tuple[tuple[str, int], ...]]:
    """Number of equal blocks that runs of rows consist of, and the runs of one block.

    Raises
    ------
    DerivationError
        If a role stands twice in a block.
    """
    for length in range(1, len(runs) + 1):
        if len(runs) % length == 0 and tuple(runs) == tuple(runs[:length]) * (len(runs) // length):
            roles = [role for role, _ in runs[:length]]
            if len(set(roles)) < len(roles):
                raise DerivationError(f"rows of one role in several places of a block: {' '.join(map(str, roles))}")
            return len(runs) // length, tuple(runs[:length])
    raise AssertionError("the runs are one block of themselves")


def heads_in_order(part: Part) -> int | None:
    """Number of heads if they follow one another in equal blocks of the part's rows, or columns where it writes."""
    if part.heads is None:
        return None
    width = len(part.heads[0])
    expected = torch.arange(len(part.heads) * width).reshape(len(part.heads), width)
    alike = all(torch.equal(head.sort().values, row) for head, row in zip(part.heads, expected, strict=True))
    return len(part.heads) if alike else None
