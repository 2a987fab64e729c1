"""What a trace found: where first directions were replaced, when continuity changed, what moved, of which rank."""

from itertools import pairwise
from typing import Any

import pandas as pd

from ..tracing import Trace
from .comparison import SAME_ANGLE, layers_by_role
from .finding import Finding
from .words import END

# Size of a change of mean continuity, in spreads of the same change between unrelated weights, from which it is
# said to be one: words for the reader, not a test.
NOTICEABLE = 3.0
# Steps at which first directions were replaced that are named.
_NAMED_STEPS = 3
# Roles and sides that are named as the last to move; of more, none stands out.
_NAMED_LAST = 4
# Share by which a mean effective rank has to change to be spoken of.
_RANK_CHANGE = 0.01


def trace_findings(trace: Trace) -> list[Finding]:
    """What a trace found, the most important first.

    Parameters
    ----------
    trace : Trace

    Returns
    -------
    findings : list of Finding
        Their places are sections of the page of `flaggeo.render_trace`.
    """
    found = _continuity(trace)
    since_first = trace.drift[trace.drift["since"] == "first"]
    if not (since_first["rms_angle"] >= SAME_ANGLE).any():
        return [*found, Finding("drift", "absent", {}, "drift")]
    moved = [*_drift(trace), *_farthest(trace)]
    return [*_events(trace.events), *found, *moved, *_update_rank(trace.updates), *_effective_rank(trace.weights)]


def _events(events: pd.DataFrame) -> list[Finding]:
    """The steps at which most first directions were replaced."""
    if events.empty:
        return []
    steps = [
        {
            "step": step,
            "since_step": rows["since_step"].iloc[0],
            "weights": rows["name"].nunique(),
            "where": layers_by_role(rows),
            "first_direction_degrees": rows["first_direction_degrees"].median(),
            "subspace_degrees": rows["subspace_degrees"].median(),
        }
        for step, rows in events.groupby("step")
    ]
    most = sorted(steps, key=lambda row: -row["weights"])[:_NAMED_STEPS]
    numbers = {"events": len(events.drop_duplicates(["step", "name"])), "steps": len(steps)}
    named = sorted(most, key=lambda row: row["step"])
    return [Finding("first_direction_replaced", "present", numbers | {"named": named}, "events")]


def _update_rank(updates: pd.DataFrame) -> list[Finding]:
    """Over how many directions the updates are spread, at the two ends of the run."""
    whole = updates[updates["head"].isna() & updates["stable_rank"].notna()]
    if whole.empty:
        return []
    measure = "effective" if whole["effective_rank"].notna().any() else "stable"
    medians = whole.groupby("step")[f"{measure}_rank"].median().dropna()
    moved = whole[whole["rank"].fillna(0) > 0]
    numbers = {
        "measure": measure,
        "first_step": medians.index[0],
        "first": medians.iloc[0],
        "last_step": medians.index[-1],
        "last": medians.iloc[-1],
        "updates": len(moved),
        "low_rank": int(moved["low_rank"].sum()),
        "ranks": sorted({int(rank) for rank in moved["rank"][moved["low_rank"]]}),
    }
    return [Finding("update_rank", "present", numbers, "updates")]


def _continuity(trace: Trace) -> list[Finding]:
    rows = trace.milestones[trace.milestones["quantity"] == "abs_cos_1"]
    if rows.empty:
        return [Finding("continuity_change", "undetermined", {}, "training")]
    changed = rows[rows["change"].abs() > NOTICEABLE * rows["noise"]].sort_values("half_step", kind="stable")
    if changed.empty:
        return [Finding("continuity_change", "absent", {"standard_deviations": NOTICEABLE}, "training")]
    unrelated = trace.summary["abs_cos_1_null_mean"].iloc[0]
    found = []
    for verdict, rose in (("rose", True), ("fell", False)):
        for side in END:
            of_side = changed[(changed["side"] == side) & ((changed["change"] > 0) == rose)]
            if len(of_side):
                roles = of_side[["role", "first", "last", "half_step"]].to_dict("records")
                numbers = {"side": side, "roles": roles, "unrelated": unrelated}
                found.append(Finding("continuity_change", verdict, numbers, "training"))
    earliest, latest = changed.iloc[0], changed.iloc[-1]
    if earliest["half_step"] < latest["half_step"]:
        numbers = {
            name: {key: row[key] for key in ("role", "side", "half_step")}
            for name, row in (("earliest", earliest), ("latest", latest))
        }
        found.append(Finding("order_of_changes", "present", numbers, "training"))
    return found + _steepest(trace.summary, changed)


def _steepest(summary: pd.DataFrame, changed: pd.DataFrame) -> list[Finding]:
    """The largest change between two neighbouring checkpoints, among the roles that changed; none of two in all."""
    if summary["step"].nunique() < 3:
        return []
    moves = []
    for row in changed.itertuples():
        course = summary[(summary["role"] == row.role) & (summary["side"] == row.side)]
        points = list(zip(course["step"], course["abs_cos_1"], strict=True))
        moves += [(row, before, after) for before, after in pairwise(points)]
    row, (start, low), (end, high) = max(moves, key=lambda move: abs(move[2][1] - move[1][1]))
    numbers = {"role": row.role, "side": row.side, "from_step": start, "to_step": end, "before": low, "after": high}
    return [Finding("steepest_change", "present", numbers, "training")]


def _drift(trace: Trace) -> list[Finding]:
    """Which roles moved most and which last, and when most of the movement was."""
    steps = trace.checkpoints["step"].tolist()
    rows = trace.milestones[trace.milestones["quantity"] == "drift"]
    moved = rows[rows["last"] >= SAME_ANGLE].to_dict("records")
    found = []
    if moved:
        most = max(moved, key=lambda row: row["last"])
        half_steps = [row["half_step"] for row in moved]
        first = trace.drift[trace.drift["since"] == "first"]
        reference = first["since_step" if "since_step" in first else "step"].min()
        numbers: dict[str, Any] = {"first_step": int(reference), "last_step": steps[-1]}
        numbers |= {"role": most["role"], "side": most["side"], "rms_angle": most["last"]}
        # Where all made half of their way by the same checkpoint, none of them was last.
        latest = max(half_steps) if min(half_steps) < max(half_steps) else None
        numbers |= {"latest_half_step": latest}
        late = [{"role": row["role"], "side": row["side"]} for row in moved if row["half_step"] == latest]
        numbers |= {"latest": late if len(late) <= _NAMED_LAST else []}
        found.append(Finding("drift", "present", numbers, "drift"))
    between = trace.role_drift[trace.role_drift["since"] == "previous"].dropna(subset="rms_angle").to_dict("records")
    if len(steps) > 2 and between:
        largest = max(between, key=lambda row: row["rms_angle"])
        numbers = {name: largest[name] for name in ("role", "side", "rms_angle")}
        numbers |= {"from_step": max(step for step in steps if step < largest["step"]), "to_step": largest["step"]}
        found.append(Finding("largest_move_of_a_role", "present", numbers, "drift"))
    return found


def _farthest(trace: Trace) -> list[Finding]:
    since_first = trace.drift[trace.drift["since"] == "first"].dropna(subset="rms_angle")
    at_end = since_first[since_first["step"] == trace.checkpoints["step"].max()]
    if at_end.empty:
        return []
    row = max(at_end.to_dict("records"), key=lambda row: row["rms_angle"])
    numbers = {name: row[name] for name in ("name", "side", "rms_angle", "overlap")}
    numbers |= {"unrelated": row["overlap_null_mean"], "mean_overlap": at_end["overlap"].mean()}
    numbers |= {"mean_unrelated": at_end["overlap_null_mean"].mean()}
    return [Finding("farthest_subspace", "present", numbers, "drift")]


def _effective_rank(weights: pd.DataFrame) -> list[Finding]:
    first, last = "effective_rank, first", "effective_rank, last"
    ends = ends_of(weights, ["role"], ["effective_rank"]).to_dict("records")
    changed = [row for row in ends if abs(row[last] - row[first]) >= _RANK_CHANGE * row[first]]
    if not changed:
        return []
    row = max(changed, key=lambda row: abs(row[last] / row[first] - 1))
    numbers = {"role": row["role"], "first": row[first], "last": row[last]}
    return [Finding("effective_rank_change", "rose" if row[last] > row[first] else "fell", numbers, "weights")]


def ends_of(table: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    """Means of these columns at the first and the last step, side by side: ``column, first`` and ``column, last``."""
    steps = table["step"]
    first, last = (
        table[steps == step].groupby(keys, sort=False)[columns].mean() for step in (steps.min(), steps.max())
    )
    both = {"first": first, "last": last}
    sides = {f"{column}, {end}": means[column] for column in columns for end, means in both.items()}
    return pd.DataFrame(sides).reset_index()
