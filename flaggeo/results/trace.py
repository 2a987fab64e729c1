"""What a trace found: its tables over the steps of training, saved and loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import pi
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .saved import Kind, Result

#: Angle, in radians, from which another first direction has taken over: it has more in common with the others then.
TOOK_OVER = pi / 4


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Trace(Result):
    """How alignment and the leading subspaces change over the checkpoints of one run.

    Every table but `skipped` has the columns ``step`` and ``checkpoint`` (the label) first, and its rows in the
    order of training.

    Attributes
    ----------
    checkpoints : pandas.DataFrame
        One row a checkpoint: ``location``, and how its numbers are ``stored``.
    summary : pandas.DataFrame
        `Analysis.summary` of every checkpoint: one row a step, role and side.
    continuity : pandas.DataFrame
        `Analysis.continuity` of every checkpoint: one row a step, role, side and pair of neighbouring layers.
    interfaces : pandas.DataFrame
        One row a step and kind of interface: means over all its layers and heads, ``count`` of them.
    drift : pandas.DataFrame
        One row a step, weight, side and ``since`` (``first`` or ``previous`` checkpoint): how far the leading
        subspace lies from where it was then; the other columns are those of `drift_table`. The first checkpoint
        has its distance from itself.
    updates : pandas.DataFrame
        One row a step and weight: size and rank of what it moved by since the checkpoint before, see docs/tables.md.
        Empty for saved analyses.
    weights : pandas.DataFrame
        One row a step and weight: norm, largest singular value, stable and effective rank, energy, first gap.
    pairs : pandas.DataFrame
        One row a step and pair of subspaces that a monitor was asked for: ``source``, ``target`` and their overlap.
        Empty for saved checkpoints.
    skipped : pandas.DataFrame
        One row a weight whose drift was not measured, with the reason.
    provenance : mapping
        What was read, with what settings and versions, and when.
    """

    KIND = Kind(
        name="a trace",
        record_file="trace.json",
        page_file="trace.html",
        schema_version=5,
        remedy="trace the checkpoints again",
        renderer="render_trace",
        teller="trace_findings",
    )

    checkpoints: pd.DataFrame
    summary: pd.DataFrame
    continuity: pd.DataFrame
    interfaces: pd.DataFrame
    drift: pd.DataFrame
    updates: pd.DataFrame
    weights: pd.DataFrame
    pairs: pd.DataFrame
    skipped: pd.DataFrame

    @cached_property
    def role_drift(self) -> pd.DataFrame:
        """Mean drift of each role and side.

        Returns
        -------
        table : pandas.DataFrame
            One row a step, role, side and ``since``: ``rms_angle``, in radians, ``overlap`` and its
            ``overlap_null_mean``, means over the layers.
        """
        whole = self.drift[self.drift["head"].isna()]
        keys = ["step", "checkpoint", "role", "side", "since"]
        return whole.groupby(keys, sort=False)[["rms_angle", "overlap", "overlap_null_mean"]].mean().reset_index()

    @cached_property
    def events(self) -> pd.DataFrame:
        """Where another direction became the first between two neighbouring checkpoints.

        Returns
        -------
        table : pandas.DataFrame
            One row a step, weight and side of which the first singular vector turned by more than 45 degrees while the
            spectrum determines it at both checkpoints: ``step``, ``checkpoint``, ``since_step``, ``name``, ``role``,
            ``layer``, ``side``, ``first_direction_degrees`` and, beside it, ``subspace_degrees``: the root mean square
            of the principal angles between the leading subspaces. Where the latter is small, the new first direction
            was among the leading ones before. Heads have no rows.
        """
        before = dict(zip(self.checkpoints["step"][1:], self.checkpoints["step"], strict=False))
        drift = self.drift[(self.drift["since"] == "previous") & self.drift["head"].isna()]
        rows = drift[(drift["angle_1"] > TOOK_OVER) & ~drift["undetermined"].astype(bool)]
        degrees = {
            f"{name}_degrees": np.rad2deg(rows[column].astype("float64"))
            for name, column in {"first_direction": "angle_1", "subspace": "rms_angle"}.items()
        }
        columns = ["step", "checkpoint", "since_step", "name", "role", "layer", "side"]
        return rows.assign(since_step=rows["step"].map(before))[columns].assign(**degrees).reset_index(drop=True)

    @cached_property
    def milestones(self) -> pd.DataFrame:
        """When each role and side did what it did over the run.

        Returns
        -------
        table : pandas.DataFrame
            One row a role, side and ``quantity``: ``abs_cos_1`` and ``overlap`` of neighbouring layers, where they
            share a space, and the ``drift`` from the first checkpoint (`role_drift`, radians). ``first`` and
            ``last`` are its values at the two ends of the run, ``change`` their difference, and ``half_step`` the
            earliest step from which on at least half of the change has been made; missing where nothing changed.
            ``noise`` is the spread that the change of a mean over so many pairs of unrelated weights would have;
            missing for the drift.
        """
        rows = []
        shared = self.summary[self.summary["shared_space"]] if len(self.summary) else self.summary
        # Two means over the same number of pairs, independent under the null.
        spreads = {"abs_cos_1": "abs_cos_1_null_sd", "overlap": "overlap_null_sd"}
        for quantity, spread in spreads.items():
            for (role, side), group in _by_role(shared):
                pairs = self.continuity[(self.continuity["role"] == role) & (self.continuity["side"] == side)]
                of_first = pairs[pairs["step"] == group["step"].iloc[0]]
                count = of_first[quantity].count()
                noise = np.sqrt(2 / count) * of_first[spread].mean() if count else np.nan
                rows.append((role, side, quantity, *_milestone(group.set_index("step")[quantity]), noise))
        since_first = self.role_drift[self.role_drift["since"] == "first"]
        for (role, side), group in _by_role(since_first):
            rows.append((role, side, "drift", *_milestone(group.set_index("step")["rms_angle"]), np.nan))
        columns = ["role", "side", "quantity", "first", "last", "change", "half_step", "noise"]
        return pd.DataFrame(rows, columns=columns).astype({"half_step": "Int64"})

    def _facts(self) -> Mapping[str, object]:
        steps = self.checkpoints["step"]
        return {
            "checkpoints": len(steps),
            "first_step": int(steps.iloc[0]),
            "last_step": int(steps.iloc[-1]),
            "last": Path(self.checkpoints["location"].iloc[-1]).name,
            "family": self.provenance["family"],
            "weights": self.weights["name"].nunique(),
            "rank": self.settings.rank,
            "skipped": len(self.skipped),
        }


def _by_role(table: pd.DataFrame) -> Any:
    return table.groupby(["role", "side"], sort=False) if len(table) else ()


def _milestone(values: "pd.Series[float]") -> tuple[float, float, float, int | None]:
    """Ends of a course over steps, their difference, and the step from which on half of it has been made."""
    first, last = float(values.iloc[0]), float(values.iloc[-1])
    change = last - first
    if not abs(change) > 0:  # also where it is undefined
        return first, last, change, None
    made = (values - first) / change >= 0.5
    before = np.flatnonzero(~made.to_numpy())
    return first, last, change, int(values.index[before[-1] + 1])
