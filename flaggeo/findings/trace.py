"""What a trace found, in sentences with their numbers."""

from itertools import pairwise

import pandas as pd

from ..tracing import Trace
from .comparison import SAME_ANGLE
from .words import DOING, degrees, listed

# Size of a change of mean continuity, in spreads of the same change between unrelated weights, from which it is
# said to be one: words for the reader, not a test.
NOTICEABLE = 3.0
# Share by which a mean effective rank has to change to be spoken of.
_RANK_CHANGE = 0.01
_VECTORS = {"read": "right", "write": "left"}


def trace_findings(trace: Trace) -> list[str]:
    """Plain sentences, the most important first.

    Parameters
    ----------
    trace : Trace

    Returns
    -------
    sentences : list of str
        Plain text: names from the checkpoints are not escaped.
    """
    sentences = _continuity(trace)
    since_first = trace.drift[trace.drift["since"] == "first"]
    if not (since_first["rms_angle"] >= SAME_ANGLE).any():
        return [*sentences, "No leading subspace moved from one checkpoint to another."]
    return sentences + _drift(trace) + _farthest(trace) + _weights(trace.weights)


def _continuity(trace: Trace) -> list[str]:
    rows = trace.milestones[trace.milestones["quantity"] == "abs_cos_1"]
    if rows.empty:
        return ["No role has two layers that share a space: there is no continuity to follow."]
    changed = rows[rows["change"].abs() > NOTICEABLE * rows["noise"]].sort_values("half_step", kind="stable")
    if changed.empty:
        return [
            "Continuity stayed as it was: mean |cos| of neighbouring first singular vectors changed for no role by "
            f"more than {NOTICEABLE:.0f} standard deviations of unrelated weights."
        ]
    chance = trace.summary["null_mean"].iloc[0]
    sentences = []
    for rose, verb in ((True, "rose"), (False, "fell")):
        for side, vectors in _VECTORS.items():
            of_side = changed[(changed["side"] == side) & ((changed["change"] > 0) == rose)]
            if len(of_side):
                spelt = [
                    f"{row.role} from {row.first:.2f} to {row.last:.2f} (half of it by step {row.half_step})"
                    for row in of_side.itertuples()
                ]
                sentences.append(
                    f"Continuity of {DOING[side]} {verb}: mean |cos| of neighbouring first {vectors} singular vectors "
                    f"went for {listed(spelt)}; unrelated weights give {chance:.3f}."
                )
    if len(changed) > 1:
        earliest, latest = changed.iloc[0], changed.iloc[-1]
        if earliest["half_step"] < latest["half_step"]:
            sentences.append(
                f"Of these changes, that of {earliest['role']} {earliest['side']}s came first (step "
                f"{earliest['half_step']}) and that of {latest['role']} {latest['side']}s last (step "
                f"{latest['half_step']})."
            )
    return sentences + _steepest(trace.summary, changed)


def _steepest(summary: pd.DataFrame, changed: pd.DataFrame) -> list[str]:
    """The largest change between two neighbouring checkpoints, among the roles that changed; none of two in all."""
    if summary["step"].nunique() < 3:
        return []
    moves = []
    for row in changed.itertuples():
        course = summary[(summary["role"] == row.role) & (summary["side"] == row.side)]
        points = list(zip(course["step"], course["abs_cos_1"], strict=True))
        moves += [(row, before, after) for before, after in pairwise(points)]
    row, (start, low), (end, high) = max(moves, key=lambda move: abs(move[2][1] - move[1][1]))
    return [
        f"The largest change between two neighbouring checkpoints is that of {row.role} {row.side}s from step {start} "
        f"to step {end}: {low:.2f} to {high:.2f}."
    ]


def _drift(trace: Trace) -> list[str]:
    """Which roles moved most and which last, and when most of the movement was."""
    steps = trace.checkpoints["step"].tolist()
    rows = trace.milestones[trace.milestones["quantity"] == "drift"]
    moved = rows[rows["last"] >= SAME_ANGLE].to_dict("records")
    sentences = []
    if moved:
        most = max(moved, key=lambda row: row["last"])
        latest = max(row["half_step"] for row in moved)
        sentence = (
            f"From step {steps[0]} to step {steps[-1]} the {DOING[most['side']]} of {most['role']} moved most, by "
            f"{degrees(most['last'])} (root mean square angle between the leading subspaces, mean over the layers)."
        )
        if min(row["half_step"] for row in moved) < latest:
            last = [f"{row['role']} {row['side']}s" for row in moved if row["half_step"] == latest]
            sentence += f" Last to make half of their way, by step {latest}: {listed(last)}."
        sentences.append(sentence)
    between = trace.role_drift[trace.role_drift["since"] == "previous"].dropna(subset="rms_angle").to_dict("records")
    if len(steps) > 2 and between:
        largest = max(between, key=lambda row: row["rms_angle"])
        before = max(step for step in steps if step < largest["step"])
        sentences.append(
            f"The most that a role moved between two neighbouring checkpoints is {degrees(largest['rms_angle'])}: "
            f"{largest['role']} {largest['side']}s, from step {before} to step {largest['step']}."
        )
    return sentences


def _farthest(trace: Trace) -> list[str]:
    since_first = trace.drift[trace.drift["since"] == "first"].dropna(subset="rms_angle")
    at_end = since_first[since_first["step"] == trace.checkpoints["step"].max()]
    if at_end.empty:
        return []
    overlap, chance = at_end["overlap"].mean(), at_end["null_mean"].mean()
    row = max(at_end.to_dict("records"), key=lambda row: row["rms_angle"])
    return [
        f"The single subspace that ended farthest from where it began is {row['name']} {row['side']}s: "
        f"{degrees(row['rms_angle'])}, overlap {row['overlap']:.2f} where unrelated ones give {row['null_mean']:.3f}. "
        f"On average {overlap:.0%} of a leading subspace is still there in the end (unrelated: {chance:.0%})."
    ]


def _weights(weights: pd.DataFrame) -> list[str]:
    first, last = "effective_rank, first", "effective_rank, last"
    ends = ends_of(weights, ["role"], ["effective_rank"]).to_dict("records")
    changed = [row for row in ends if abs(row[last] - row[first]) >= _RANK_CHANGE * row[first]]
    if not changed:
        return []
    row = max(changed, key=lambda row: abs(row[last] / row[first] - 1))
    verb = "rose" if row[last] > row[first] else "fell"
    return [
        f"The effective rank {verb} most, relative to itself, for {row['role']}: from "
        f"{row[first]:.1f} to {row[last]:.1f} (mean over the layers)."
    ]


def ends_of(table: pd.DataFrame, keys: list[str], columns: list[str]) -> pd.DataFrame:
    """Means of these columns at the first and the last step, side by side: ``column, first`` and ``column, last``."""
    steps = table["step"]
    first, last = (
        table[steps == step].groupby(keys, sort=False)[columns].mean() for step in (steps.min(), steps.max())
    )
    both = {"first": first, "last": last}
    sides = {f"{column}, {end}": means[column] for column in columns for end, means in both.items()}
    return pd.DataFrame(sides).reset_index()
