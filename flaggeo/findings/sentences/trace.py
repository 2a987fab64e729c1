"""Of a trace."""

from collections.abc import Sequence
from typing import Any

from ..words import END, VECTORS, counted, degrees, listed
from .phrases import Row, moved_most, places


def first_direction_replaced(_verdict: str, *, events: int, steps: int, named: Sequence[Row]) -> str:
    """Verdict: present."""
    told = [
        f"at step {row['step']} in {places(row['where'])}, where the first direction turned by "
        f"{row['first_direction_degrees']:.0f}° since step {row['since_step']} and the leading subspace by "
        f"{row['subspace_degrees']:.0f}° (medians)"
        for row in named
    ]
    if steps > len(named):
        told.append(f"the rest at {counted(steps - len(named), 'other step')}")
    opening = "A new first direction took over" + (f" in {events} cases" if events > 1 else "")
    return f"{opening}: {'; '.join(told)}."


def update_rank(
    _verdict: str,
    *,
    measure: str,
    first_step: int,
    first: float,
    last_step: int,
    last: float,
    updates: int,
    low_rank: int,
    ranks: Sequence[int],
) -> str:
    """Verdict: present."""
    answer = f"The update up to step {first_step} has a median {measure} rank of {first:.1f}"
    if last_step != first_step:
        answer += f", the last one, up to step {last_step}, of {last:.1f}"
    answer += "."
    if not low_rank:
        return answer
    spelt = f"rank {ranks[0]}" + (f" to {ranks[-1]}" if len(ranks) > 1 else "")
    which = f"All {updates}" if low_rank == updates else f"{low_rank} of {updates}"
    return f"{answer} {which} updates of single weights are of low rank: {spelt}."


def continuity_change(verdict: str, **numbers: Any) -> str:
    """Verdicts: rose, fell, absent, undetermined."""
    if verdict == "undetermined":
        return "Continuity cannot be followed: no role has two layers that share a space."
    if verdict == "absent":
        return (
            "Continuity did not change: for no role did the mean |cos| of the first singular vectors of neighbouring "
            f"layers change by more than {numbers['standard_deviations']:.0f} standard deviations of unrelated weights."
        )
    side = numbers["side"]
    told = [
        f"from {row['first']:.2f} to {row['last']:.2f} for {row['role']} (half done by step {row['half_step']})"
        for row in numbers["roles"]
    ]
    return (
        f"The continuity of {END[side]} directions {verdict}: the mean |cos| of the first {VECTORS[side]} singular "
        f"vectors of neighbouring layers went {listed(told)}; unrelated weights give {numbers['unrelated']:.3f}."
    )


def order_of_changes(_verdict: str, *, earliest: Row, latest: Row) -> str:
    """Verdict: present."""
    first, last = (
        f"{row['role']} ({END[row['side']]}s, half done by step {row['half_step']})" for row in (earliest, latest)
    )
    return f"Of these changes, that of {first} came first and that of {last} last."


def steepest_change(
    _verdict: str, *, role: str, side: str, from_step: int, to_step: int, before: float, after: float
) -> str:
    """Verdict: present."""
    return (
        f"The largest change of mean |cos| between two neighbouring checkpoints is {before:.2f} → {after:.2f}, in the "
        f"{END[side]} directions of {role} from step {from_step} to step {to_step}."
    )


def drift(verdict: str, **numbers: Any) -> str:
    """Verdicts: present, absent."""
    if verdict == "absent":
        return "No leading subspace moved from one checkpoint to another."
    sentence = (
        f"{moved_most(numbers)} from step {numbers['first_step']} to step {numbers['last_step']} (root mean square "
        "principal angle, mean over the layers)."
    )
    if not numbers["latest"]:
        return sentence
    named = listed([f"the {END[row['side']]}s of {row['role']}" for row in numbers["latest"]])
    return (
        f"{sentence} The last to complete half of their movement, by step {numbers['latest_half_step']}, are {named}."
    )


def largest_move_of_a_role(
    _verdict: str, *, role: str, side: str, rms_angle: float, from_step: int, to_step: int
) -> str:
    """Verdict: present."""
    return (
        f"The largest move of a role between two neighbouring checkpoints is {degrees(rms_angle)}, of the {END[side]} "
        f"subspaces of {role} from step {from_step} to step {to_step}."
    )


def farthest_subspace(
    _verdict: str,
    *,
    name: str,
    side: str,
    rms_angle: float,
    overlap: float,
    unrelated: float,
    mean_overlap: float,
    mean_unrelated: float,
) -> str:
    """Verdict: present."""
    return (
        f"The subspace that moved farthest over the run is the {END[side]} side of {name}, by {degrees(rms_angle)}: "
        f"its overlap with its start is {overlap:.2f}, where unrelated subspaces give {unrelated:.3f}. On average "
        f"{mean_overlap:.0%} of a leading subspace remains at the end (unrelated: {mean_unrelated:.0%})."
    )


def effective_rank_change(verdict: str, *, role: str, first: float, last: float) -> str:
    """Verdicts: rose, fell."""
    return (
        f"The effective rank {verdict} most, in relative terms, for {role}: from {first:.1f} to {last:.1f}, mean over "
        "the layers."
    )
