"""Every observable and every table of the rooms, for whoever lists them all: the page, the documents, comparisons."""

from collections.abc import Mapping
from typing import Any

from .depth import by_lag, by_rank, continuity_table, drawn_nulls, gram_cosine, trajectory
from .experts import expert_table
from .heads import head_table
from .interfaces import by_rank as interfaces_by_rank
from .interfaces import interface_table, leading_directions
from .observable import Observable
from .pairs import pair_nulls, pair_table, stability
from .readings import READING_SCHEMA
from .schema import Schema


def observables() -> tuple[Observable[Any], ...]:
    """Everything that is measured of a pair, room by room."""
    return (
        *continuity_table.LAYER_OBSERVABLES,
        *gram_cosine.GRAM_OBSERVABLES,
        *trajectory.TRAJECTORY_OBSERVABLES,
        *pair_table.PAIR_OBSERVABLES,
        *head_table.HEAD_OBSERVABLES,
        *expert_table.EXPERT_OBSERVABLES,
        *interface_table.INTERFACE_OBSERVABLES,
        *leading_directions.LEADING_OBSERVABLES,
    )


def schemas() -> Mapping[str, Schema]:
    """Columns of every table of measurements, by its name in the results."""
    return {
        "continuity": continuity_table.continuity_schema(),
        "continuity_by_rank": by_rank.BY_RANK_SCHEMA,
        "continuity_by_lag": by_lag.BY_LAG_SCHEMA,
        "continuity_nulls": drawn_nulls.NULL_SCHEMA,
        "readings": READING_SCHEMA,
        "trajectories": trajectory.TRAJECTORY_SCHEMA,
        "trajectory_variance": trajectory.trajectory_variance_schema(),
        "pairs": pair_table.pair_schema(),
        "pair_nulls": pair_nulls.PAIR_NULL_SCHEMA,
        "stability": stability.stability_schema(),
        "interfaces": interface_table.interface_schema(),
        "interfaces_by_rank": interfaces_by_rank.interfaces_by_rank_schema(),
        "heads": head_table.head_schema(),
        "experts": expert_table.expert_schema(),
    }
