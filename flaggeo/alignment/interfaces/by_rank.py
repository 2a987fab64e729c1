"""What is written and what is read, compared at every number of leading directions, so that no single one decides."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from .interface import Interface
from .leading_directions import INTERFACE_OVERLAP, WINDOW_CONTRAST, WINDOW_RHO, adjusted, haar_overlap, sign_flip_mean

_PLACE = ("name", "kind", "layer", "head", "gauge_fixed")
_NUMBERS = (
    *("overlap", "null_mean", "null_sd", "adjusted_overlap", "sign_flip_mean", "excess"),
    *("window_rho", "window_contrast"),
)
INTERFACE_CURVE_COLUMNS = (*_PLACE, "k", *_NUMBERS)


@dataclass(frozen=True)
class _EveryRank(Interface):
    """A pair compared at 1, 2, ... up to `rank` directions: whatever is measured of it has these as a first axis.

    What leading directions show is taken from the `whole` pair, once for all.
    """

    whole: Interface

    @cached_property
    def kept(self) -> Tensor:
        kept = self.whole.kept
        counts = torch.arange(1, self.rank + 1, device=kept.device)
        return torch.minimum(kept, counts.view(-1, *(1,) * kept.ndim))

    @cached_property
    def subspace_products(self) -> Tensor:
        return self.within(self.whole.subspace_products)

    @cached_property
    def leading_grams(self) -> tuple[Tensor, Tensor]:
        return self.whole.leading_grams


def interface_curve(pair: Interface) -> dict[str, Tensor]:
    r"""Overlap and window commutator of the k leading directions of two composable weights, for each k.

    .. math:: S_k = \lVert U_k^\top V_k \rVert_F^2 / k

    Parameters
    ----------
    pair : Interface
        Nothing of it is decomposed again.

    Returns
    -------
    curve : dict of str to Tensor, shape=[k, ...]
        By column of `interface_curve_table`. Behind the `kept` directions of a pair its last value is repeated; a
        pair without any has NaN.

    References
    ----------
    theory/alignment, sections 2.6 (the whole curve, never one k), 6.1 and 6.2.

    Examples
    --------
    >>> from flaggeo.alignment import interface_pair
    >>> first, second = torch.diag(torch.tensor([3.0, 2.0, 1.0])), torch.diag(torch.tensor([2.0, 1.0, 3.0]))
    >>> interface_curve(interface_pair(first, second, rank=3))["overlap"]
    tensor([0.0000, 0.5000, 1.0000])
    """
    every = _EveryRank(pair.first, pair.second, pair.rank, pair.inputs, pair.outputs, pair)
    overlap, (mean, spread) = INTERFACE_OVERLAP.measure(every), haar_overlap(every)
    flipped = sign_flip_mean(every)
    beyond = adjusted(overlap, mean), flipped, adjusted(overlap, torch.maximum(mean, flipped))
    window = WINDOW_RHO.measure(every), WINDOW_CONTRAST.measure(every)
    return dict(zip(_NUMBERS, (overlap, mean, spread, *beyond, *window), strict=True))


def interface_curve_table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The curves of all interfaces as one table.

    Parameters
    ----------
    rows : iterable of mapping
        From `interface_rows`.

    Returns
    -------
    table : pandas.DataFrame
        One row an interface and k from 1 to its ``rank``; the columns are `INTERFACE_CURVE_COLUMNS`. ``null_mean`` and
        ``null_sd`` of the overlap are exact for uniform subspaces, ``adjusted_overlap`` is :math:`(S_k - E) / (1 - E)`,
        NaN where k is the dimension of the space; ``sign_flip_mean`` and ``excess`` are as in `interface_table`. An
        interface of which one weight is zero has no rows.

    Notes
    -----
    The last k gives the numbers of `interface_table`. A k between two close singular values cuts through directions
    that may turn into each other: read the curve, not one point.
    """
    curves = [(row, row["curve"]) for row in rows]
    places = [row for row, curve in curves for _ in curve["overlap"]]
    columns = {column: [row[column] for row in places] for column in _PLACE}
    columns["k"] = [k for _, curve in curves for k in range(1, len(curve["overlap"]) + 1)]
    columns |= {column: [value for _, curve in curves for value in curve[column]] for column in _NUMBERS}
    place = {"name": "str", "kind": "str", "layer": "Int64", "head": "Int64", "gauge_fixed": "bool", "k": "int64"}
    return pd.DataFrame(columns).astype(place | dict.fromkeys(_NUMBERS, "float64"))
