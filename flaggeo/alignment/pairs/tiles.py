"""Observables of many pairs of subspaces, in tiles of pairs that a cache holds."""

from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...numerics.threads import workers
from ..observable import Observable
from .subspace_pair import SubspacePair

# Entries of the products of one tile of pairs: 2 MiB in float64.
_TILE_ENTRIES = 2**18


def measured_in_tiles(
    observables: Iterable[Observable[SubspacePair]],
    frames: Sequence[Tensor],
    groups: Sequence[Hashable],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
) -> dict[str, NDArray[Any]]:
    """Every observable of the given pairs of subspaces.

    Parameters
    ----------
    observables : iterable of Observable
        None of them may mind which subspace of a pair comes first.
    frames : sequence of Tensor, shape=[n, k] each
        Orthonormal columns; k may differ.
    groups : sequence of hashable
        One for each frame. Groups never share a side of a tile, so that no tile is formed for two groups of which no
        pair is asked for.
    first, second : ndarray of int, shape=[pairs]
        Positions of the frames of each pair.

    Returns
    -------
    columns : dict of str to ndarray, shape=[pairs]
        By column of the observable.
    """
    observables = tuple(observables)
    wanted = torch.zeros(len(frames), len(frames), dtype=torch.bool)
    wanted[first, second] = wanted[second, first] = True
    tiles = [
        (left, right)
        for left, right in combinations_with_replacement(_chunks(frames, groups), 2)
        if wanted[left[:, None], right].any()
    ]

    def measure(tile: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        left, right = (torch.stack([frames[position] for position in positions]) for positions in tile)
        pairs = SubspacePair(left[:, None], right)
        return {observable.column: observable.measure(pairs).cpu() for observable in observables}

    tables: dict[str, Tensor] = {}
    with workers() as pool:
        for (left, right), measured in zip(tiles, pool.map(measure, tiles), strict=True):
            for column, values in measured.items():
                if column not in tables:
                    tables[column] = values.new_zeros(wanted.shape)
                tables[column][left[:, None], right] = values
                tables[column][right, left[:, None]] = values
    return {column: table[first, second].numpy() for column, table in tables.items()}


def _chunks(frames: Sequence[Tensor], groups: Sequence[Hashable]) -> list[Tensor]:
    """Positions of subspaces of one width and group: so many that two chunks fill a tile."""
    positions: dict[tuple[int, Hashable], list[int]] = {}
    for position, (frame, group) in enumerate(zip(frames, groups, strict=True)):
        positions.setdefault((frame.shape[1], group), []).append(position)
    return [
        chunk
        for (width, _), members in positions.items()
        for chunk in torch.tensor(members).split(max(1, int(_TILE_ENTRIES**0.5 / width)))
    ]
