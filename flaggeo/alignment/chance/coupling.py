"""The matrix that random signs of the coordinates see of two subspaces, of one frame with many others."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...numerics.threads import cached_property, workers
from .haar import Array

Places = NDArray[np.int64]

# Entries of the second frames of a block of pairs: 2 MiB in float32, which a cache holds.
_BLOCK_ENTRIES = 2**19
# First and second frames of a tile of pairs, whose row sums a thread holds: 36 MiB in float32 for n = 576.
_TILE = 128
# Entries of the rows of projectors that a thread holds: 16 MiB in float32.
_ROW_ENTRIES = 2**22


@dataclass(frozen=True)
class Coupling:
    r""":math:`C_0 = (A A^\top) \circ (B B^\top)` without its diagonal, for one A and many B, never formed.

    Attributes
    ----------
    frame : Tensor, shape=[n, r]
    others : Tensor, shape=[n, pairs, s]
    leverage : Tensor, shape=[n]
        Of the frame.
    of_others : Tensor, shape=[n, pairs]
    """

    frame: Tensor
    others: Tensor
    leverage: Tensor
    of_others: Tensor

    @staticmethod
    def of(frames: Tensor, leverage: Tensor, first: int, second: Places) -> "Coupling":
        """Of one frame with others, among frames of shape [frames, n, r] with leverages of shape [frames, n]."""
        return Coupling(frames[first], frames.transpose(0, 1)[:, second], leverage[first], leverage.mT[:, second])

    @cached_property
    def diagonal(self) -> Tensor:
        """What is left out, shape=[n, pairs]."""
        return self.leverage[:, None] * self.of_others

    @cached_property
    def row_bounds(self) -> Tensor:
        """No row can have a larger sum of squares, shape=[n, pairs].

        A row of a projector has :math:`a_i (1 - a_i)` beside the diagonal.
        """
        of_each = self.leverage * (1 - self.leverage), self.of_others * (1 - self.of_others)
        return (of_each[0][:, None] * of_each[1]).clamp(min=0)

    def rows(self, places: Tensor) -> Tensor:
        """Rows of each pair at its own places, shape=[pairs, m]; result shape=[pairs, m, n]."""
        by_pair = self.others.transpose(0, 1)
        at_places = torch.take_along_dim(by_pair, places[..., None], dim=1)
        rows = (self.frame[places] @ self.frame.mT) * (at_places @ by_pair.mT)
        return rows.scatter_(2, places[..., None], 0)

    def times(self, vectors: Tensor) -> Tensor:
        """Product with one vector for each pair; both have shape [n, pairs]."""
        product = (self.frame @ self._between(vectors)).view_as(self.others).mul_(self.others).sum(dim=2)
        return product - self.diagonal * vectors

    def quotients(self, vectors: Tensor) -> Tensor:
        """Rayleigh quotient at one vector for each pair, shape=[n, pairs] to [pairs]; 0 where that is zero."""
        _, pairs, width = self.others.shape
        forms = self._between(vectors).view(-1, pairs, width).square().sum(dim=(0, 2))
        squares = vectors.square()
        lengths = squares.sum(dim=0)
        return (forms - (self.diagonal * squares).sum(dim=0)) / torch.where(lengths > 0, lengths, 1)

    def _between(self, vectors: Tensor) -> Tensor:
        r""":math:`A^\top \mathrm{diag}(v) B`, shape=[r, pairs s]."""
        return self.frame.mT @ (self.others * vectors[..., None]).flatten(1)


def leading_quotients(frames: Tensor, leverage: Tensor, first: Places, second: Places) -> Array:
    r"""Rayleigh quotients of :math:`C_0` at :math:`C_0 \mathbf 1`: not above its largest eigenvalue.

    Parameters
    ----------
    frames : Tensor, shape=[frames, n, r]
    leverage : Tensor, shape=[frames, n]
    first, second : ndarray of int, shape=[pairs]
        Positions of both frames of each pair.

    Returns
    -------
    quotients : ndarray, shape=[pairs]

    Examples
    --------
    Two lines that share four coordinates equally, where all entries of :math:`C_0` are 1/16:

    >>> lines, places = torch.full((1, 4, 1), 0.5), np.array([0])
    >>> leading_quotients(lines, lines.square().sum(dim=-1), places, places)
    array([0.1875])
    """
    _, n, width = frames.shape

    def of_tile(places: Places) -> Array:
        lefts, left = np.unique(first[places], return_inverse=True)
        rights, right = np.unique(second[places], return_inverse=True)
        together = n * (len(lefts) * len(rights) + (len(lefts) + len(rights)) * width)
        sums = _row_sums(frames[lefts], frames[rights]) if together < 2 * len(places) * width**2 else None
        quotients = np.empty(len(places))
        for block in blocks(np.arange(len(places)), left, n * width):
            coupling = Coupling.of(frames, leverage, first[places[block[0]]], second[places[block]])
            if sums is None:
                vectors = coupling.times(torch.ones_like(coupling.of_others))
            else:
                vectors = sums[left[block[0]], right[block]].mT - coupling.diagonal
            quotients[block] = coupling.quotients(vectors).cpu().numpy()
        return quotients

    found = np.empty(len(first))
    tiles = runs(np.arange(len(first)), first // _TILE, second // _TILE)
    with workers() as pool:
        for places, quotients in zip(tiles, pool.map(of_tile, tiles), strict=True):
            found[places] = quotients
    return found


def _row_sums(left: Tensor, right: Tensor) -> Tensor:
    """Sums of the rows of C of every left frame with every right one, shape=[lefts, rights, n]."""
    n = left.shape[1]
    sums = left.new_empty(len(left), len(right), n)
    step = max(1, _ROW_ENTRIES // ((len(left) + len(right)) * n))
    for top in range(0, n, step):
        rows = slice(top, top + step)
        of_left, of_right = ((frames[:, rows] @ frames.mT).transpose(0, 1) for frames in (left, right))
        sums[..., rows] = (of_left @ of_right.mT).permute(1, 2, 0)
    return sums


def runs(places: Places, *keys: Places) -> list[Places]:
    """The places in groups of equal keys."""
    if not len(places):
        return []
    order = np.lexsort(keys)
    changes = np.any([np.diff(key[order]) != 0 for key in keys], axis=0)
    return np.split(places[order], np.flatnonzero(changes) + 1)


def blocks(places: Places, key: Places, entries: int) -> Iterator[Places]:
    """The places in groups of equal keys, so small that a cache holds so many entries for each place."""
    for same in runs(places, key):
        yield from np.array_split(same, -(-len(same) * entries // _BLOCK_ENTRIES))
