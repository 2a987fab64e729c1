"""Of which rank the movement of each weight is, from one checkpoint of a run to the next."""

from typing import Any

import pandas as pd
import torch

from ..alignment.schema import Column, Schema
from ..comparison.delta import measure_rank
from ..comparison.deltas import measured_changes
from ..network import Network
from ..results.analysis import Analysis

UPDATE_SCHEMA = Schema(
    "One row for each step and weight, from the checkpoint before to this one",
    (
        Column("step", "int64", "step of this checkpoint"),
        Column("checkpoint", "str", "its label"),
        Column("since_step", "int64", "step of the checkpoint before"),
        Column("name", "str", "name of the weight"),
        Column("role", "str", "its role"),
        Column("layer", "Int64", "layer; missing for what stands outside of them"),
        Column("head", "Int64", "number of the head; missing for a whole projection"),
        Column("relative_norm", "float64", "size of the update relative to the weight before it, Frobenius norms"),
        Column("rank", "Int64", "singular values of the update above what rounding alone can give; not of a monitor"),
        Column("rank_is_exact", "bool", "whether it is no lower bound"),
        Column("low_rank", "bool", "whether they are at most a quarter, and rounding explains the rest"),
        Column("effective_rank", "float64", "exp of the entropy of their squares, over their sum; not of a monitor"),
        Column("stable_rank", "float64", "squared norm of the update over its squared largest singular value"),
        Column("rank_90", "Int64", "directions that hold 90 % of the squared norm, rounding included"),
        Column("rank_99", "Int64", "directions that hold 99 %"),
    ),
)


def update_rows(
    networks: tuple[Network, Network], analyses: tuple[Analysis, Analysis], names: list[str], device: torch.device
) -> pd.DataFrame:
    """What the update of each weight is like, for `UPDATE_SCHEMA`.

    Parameters
    ----------
    networks, analyses : pairs of Network and of Analysis
        At the checkpoint before and at this one.
    names : list of str
        Weights of both.
    device : torch.device

    Returns
    -------
    table : pandas.DataFrame
        One row a weight, without the columns of the step.
    """

    def measure(_pair: object, change: Any, base: torch.Tensor | None) -> dict[str, Any]:
        columns, _ = measure_rank(change, whole=base is not None)
        return columns | {"stable_rank": 1 / columns["energy_1"]}

    found = dict(measured_changes(networks, analyses, names, device, None, measure))
    weights = analyses[1].weights
    rows = weights[weights["name"].isin(found)][["name", "role", "layer", "head"]].reset_index(drop=True)
    return pd.concat([rows, pd.DataFrame([found[name] for name in rows["name"]])], axis="columns")
