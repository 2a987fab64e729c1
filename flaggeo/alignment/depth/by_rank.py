"""Overlap of neighbouring layers as a curve over the rank, so that no single rank decides."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ...network import Weight
from ...numerics.spectrum import Spectrum
from ..chance.haar import Array
from ..chance.mean_matched import mean_matched_at_every_rank
from ..pairs.flags import soft_bruhat
from ..pairs.subspace_pair import SubspacePair
from ..schema import Column, Schema
from ..table import beside_nulls
from .cosines import LEADING_OVERLAP
from .layer_pair import LAYERS, ROLE, SIDE, LayerPair, Meeting, in_batches, meetings_of

BY_RANK_SCHEMA = Schema(
    "One row for each role, side, pair of neighbouring layers and number of directions k",
    (
        ROLE,
        SIDE,
        *LAYERS,
        Column("k", "int64", "leading directions compared"),
        *LEADING_OVERLAP.columns,
    ),
)


class _Curve(NamedTuple):
    """What the nulls are made of at each k."""

    dim: int
    ranks: tuple[Any, Any]
    mean_matched_overlap: Array


def continuity_by_rank(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    r"""Overlap of the k leading directions of every role on both sides, from each layer to the next, for each k.

    .. math:: \omega_k = \lVert U_k^\top V_k \rVert_F^2 / k

    Parameters
    ----------
    weights : iterable of Weight
        Heads, single experts and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        k runs from 1 to the smaller rank; the columns are those of `BY_RANK_SCHEMA`. The effect size is NaN where k is
        the dimension of the space. A pair of layers of which one has no direction has no rows.

    Notes
    -----
    The last k gives the overlap of the continuity table. A k between two close singular values cuts through
    directions that may rotate into each other: read the curve, not one point.
    """
    meetings = meetings_of(weights)
    parts, order = [], [np.zeros(0, np.int64)]
    for places, pair in in_batches(meetings, spectra):
        parts.append(_curves([meetings[place] for place in places], pair))
        order.append(np.repeat(places, min(pair.ranks)))
    table = BY_RANK_SCHEMA.concatenated(parts)
    return table.iloc[np.argsort(np.concatenate(order), kind="stable")].reset_index(drop=True)


def _curves(meetings: Sequence[Meeting], pair: LayerPair) -> dict[str, Any]:
    """Columns of a batch of meetings."""
    k = np.arange(1, min(pair.ranks) + 1)
    overlap = soft_bruhat(SubspacePair(*pair.frames)).diagonal(dim1=-2, dim2=-1).cpu().numpy().clip(None, k) / k
    mean_matched = mean_matched_at_every_rank(*pair.frames, pair.channel_norms).cpu().numpy().clip(None, k) / k
    columns = beside_nulls(LEADING_OVERLAP, overlap, _Curve(pair.dim, (k, k), mean_matched))
    places: dict[str, list[Any]] = {
        "role": [earlier.role for earlier, _, _ in meetings],
        "side": [side.value for _, _, side in meetings],
        "layer": [earlier.layer for earlier, _, _ in meetings],
        "next_layer": [later.layer for _, later, _ in meetings],
    }
    return (
        {name: np.repeat(values, len(k)) for name, values in places.items()}
        | {"k": np.tile(k, len(meetings))}
        | {name: column.ravel() for name, column in columns.items()}
    )
