"""What is written and what is read, compared at every number of leading directions, so that no single one decides."""

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from ..schema import Column, Schema
from ..table import Array, measured
from . import leading_directions as leading
from .interface import Interface

_IDENTITY = ("name", "kind", "layer", "head", "gauge_fixed")


def interfaces_by_rank_schema() -> Schema:
    """Columns of `interfaces_by_rank`."""
    return Schema(
        "One row for each interface and number of directions k",
        (
            Column("name", "str", "name of the interface, as in the table of interfaces"),
            Column("kind", "str", "which weights compose: up-down, q-k ..."),
            Column("layer", "Int64", "layer"),
            Column("head", "Int64", "query head, or key-value head of a group; missing in an MLP"),
            Column("gauge_fixed", "bool", "whether single units were balanced first"),
            Column("k", "int64", "leading directions compared, up to the rank of the interface"),
            *(
                column
                for observable in leading.LEADING_OBSERVABLES
                for column in observable.columns
                # No orientation is drawn for every k.
                if observable.null.law or column.name == observable.column
            ),
        ),
    )


def interface_curve(pair: Interface) -> dict[str, Array]:
    r"""Overlap and window commutator of the k leading directions of two composable weights, for each k.

    .. math:: S_k = \lVert U_k^\top V_k \rVert_F^2 / k

    Parameters
    ----------
    pair : Interface
        Nothing of it is decomposed again.

    Returns
    -------
    curve : dict of str to ndarray, shape=[k, ...]
        By column of `interfaces_by_rank`. Beyond the directions that a pair has, its last value is repeated; a pair
        without any has NaN.

    Examples
    --------
    >>> import torch
    >>> from flaggeo.alignment import interface_pair
    >>> first, second = torch.diag(torch.tensor([3.0, 2.0, 1.0])), torch.diag(torch.tensor([2.0, 1.0, 3.0]))
    >>> interface_curve(interface_pair(first, second, rank=3))["overlap"]
    array([0. , 0.5, 1. ])
    """
    return measured(leading.LEADING_OBSERVABLES, pair.leading.at_every_rank())


def interfaces_by_rank(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """The curves of all interfaces as one table.

    Parameters
    ----------
    rows : iterable of mapping
        From `interface_rows`.

    Returns
    -------
    table : pandas.DataFrame
        The columns are those of `interfaces_by_rank_schema`. An interface of which one weight is zero has no rows.

    Notes
    -----
    The last k gives the numbers of `interface_table`. A k between two close singular values cuts through directions
    that may rotate into each other: read the curve, not one point.
    """
    schema, curves = interfaces_by_rank_schema(), [(row, row["curve"]) for row in rows]
    columns = {name: [row[name] for row, curve in curves for _ in curve["k"]] for name in _IDENTITY}
    for name in schema.names[len(_IDENTITY) :]:
        columns[name] = [value for _, curve in curves for value in curve[name]]
    return schema.frame(columns)
