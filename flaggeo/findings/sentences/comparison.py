"""Of a comparison."""

from collections.abc import Sequence
from math import isnan
from typing import Any

from ..words import END, counted, degrees, listed
from .phrases import Row, matrices, moved_most, places, ranges


def tensor_change(
    verdict: str,
    *,
    version: str | None,
    tensors: int,
    changed: int,
    low_rank: int,
    ranks: Sequence[int],
    full: int,
    reshaped: int,
    unmeasured: int,
    others: int,
    layers: Sequence[int],
    rank_90: float | None,
    rank_99: float | None,
    added: int,
    removed: int,
    within_precision: int,
    unknown: int,
) -> str:
    """Verdicts: present, same, within_storage_precision, adapter_zero, adapter_not_merged."""
    opening = f"{version}: " if version else ""
    rest = f" {counted(unknown, 'tensor')} could not be compared." if unknown else ""
    if verdict != "present":
        answer = {
            "same": f"the two files are the same: {counted(tensors, 'tensor')} of equal numbers.",
            "within_storage_precision": "no tensor changed beyond storage precision: rounding explains how "
            f"{within_precision} of {tensors} tensors differ.",
            "adapter_zero": "the adapter is zero: merging it changes nothing.",
            "adapter_not_merged": f"the adapter was not merged: the {tensors} tensors are those of the base.",
        }[verdict]
        return opening + (answer if version else answer[0].upper() + answer[1:]) + rest
    spelt = f"of rank {ranks[0]}" + (f" to {ranks[-1]}" if len(ranks) > 1 else "") if ranks else ""
    kinds = {spelt: low_rank, "not of low rank": full, "to another shape": reshaped, "by an unknown amount": unmeasured}
    kinds |= {"no matrix" if others == 1 else "no matrices": others}
    present = [(kind, count) for kind, count in kinds.items() if count]
    alone = "" if changed == 1 else "all "
    named = [f"{count} {kind}" if len(present) > 1 else f"{alone}{kind}" for kind, count in present]
    where = f"; {'layer' if len(layers) == 1 else 'layers'} {ranges(layers)}" if layers else ""
    answer = f"{changed} of {tensors} tensors changed{f', {listed(named)}' if named else ''}{where}."
    if within_precision:
        answer += f" {within_precision} more differ within storage precision."
    for count, found in ((removed, "missing"), (added, "new")):
        if count:
            answer += f" {counted(count, 'tensor')} {'is' if count == 1 else 'are'} {found}."
    if rank_90 is not None and rank_99 is not None:
        answer += (
            f" Of the changes that are not of low rank, half hold 90 % of their squared norm in at most {rank_90:.0f} "
            f"directions and 99 % in at most {rank_99:.0f}."
        )
    return opening + answer + rest


def interference(verdict: str, **numbers: Any) -> str:
    """Verdicts: shared, same_change, explained_by_base, as_unrelated, absent."""
    if verdict == "absent":
        return "B and C changed no matrix in common: a merge keeps their changes apart."
    if verdict == "same_change":
        return (
            f"B and C make the same change to {matrices(numbers['matrices'])}, up to its size: the mean cosine of the "
            f"two is {numbers['cosine']:.2f}."
        )
    ends = [
        f"{row['overlap']:.2f} for the {END[side]}s (random subspaces of these ranks: {row['null_mean']:.2f}, those "
        f"that lie as much in the base's leading subspace: {row['base_mean']:.2f})"
        for side, row in ((side, numbers[side]) for side in END)
    ]
    answer = {
        "shared": "more than the base explains: a merge mixes them",
        "explained_by_base": "as changes that keep to the base's leading subspace do",
        "as_unrelated": "no more than random subspaces: a merge hardly mixes them",
    }[verdict]
    return (
        f"B and C both changed {matrices(numbers['matrices'])}. The leading directions of their changes overlap by "
        f"{listed(ends)}, {answer}. The mean cosine of the two changes is {numbers['cosine']:.2f}."
    )


def weight_change(verdict: str, **numbers: Any) -> str:
    """Verdicts: present, absent, within_storage_precision, undetermined (a saved analysis has no matrices)."""
    if verdict == "undetermined":
        return (
            "Changes of the weights themselves were not measured: one of the two is a saved analysis, which holds "
            "leading subspaces but no matrices."
        )
    if verdict == "absent":
        return (
            f"The subspaces of {counted(numbers['weights'], 'weight')} were compared, and these are equal in A and B: "
            "all distances are 0."
        )
    weights, changed, within = (numbers[name] for name in ("weights", "changed", "within_precision"))
    if verdict == "within_storage_precision":
        return (
            f"No weight changed beyond storage precision: {within} of {weights} weights differ, by at most "
            f"{numbers['largest_norm']:.1e} of their norm."
        )
    # A list of nearly everything tells nothing.
    named = f" ({places(numbers['where'])})" if changed <= weights / 2 else ""
    rest = f" {within} more differ within storage precision." if within else ""
    return (
        f"{changed} of {weights} weights changed beyond storage precision{named}, by a median of "
        f"{numbers['median_norm']:.2g} of their norm.{rest}"
    )


def relatedness(_verdict: str, *, effect_size: float) -> str:
    """Verdict: absent."""
    return (
        f"The two networks look unrelated: their leading subspaces overlap with a mean effect size of "
        f"{effect_size:.2f}. Distances between them mean something only if one was trained from the other, in the same "
        "basis."
    )


def movement(verdict: str, **numbers: Any) -> str:
    """Verdicts: present, absent."""
    if verdict == "absent":
        return "No leading subspace moved by more than rounding explains."
    named = [f"{degrees(row['rms_angle'])} for the {END[row['side']]}s of {row['name']}" for row in numbers["farthest"]]
    return (
        f"{moved_most(numbers)} (root mean square principal angle, mean over the layers where they moved). The "
        f"farthest moves of single subspaces are {listed(named)}."
    )


def first_direction_turned(_verdict: str, *, turned: int, subspaces: int, angle: float) -> str:
    """Verdict: present."""
    return (
        f"The first direction itself turned by more than {degrees(angle)} in {turned} of {subspaces} subspaces, "
        "although the spectrum determines it in both networks."
    )


def low_rank_change(
    verdict: str,
    *,
    low_rank: int,
    changed: int,
    ranks: Sequence[int],
    where: Sequence[Row],
    least_rank: int,
    median_effective_rank: float,
) -> str:
    """Verdicts: present, absent."""
    if verdict == "absent" and isnan(median_effective_rank):
        return f"No change is of low rank: each has {least_rank} or more directions above storage precision."
    if verdict == "absent":
        return f"No change is of low rank: the median effective rank of a change is {median_effective_rank:.0f}."
    spelt = f"rank {ranks[0]}" if len(ranks) == 1 else f"rank {ranks[0]} to {ranks[-1]}"
    many = "All changes are" if low_rank == changed else f"{low_rank} of {changed} changes are"
    return (
        f"{many} of low rank, as those of a LoRA adapter are: {spelt}, as far as storage precision shows, in "
        f"{places(where)}."
    )


def change_against_base(
    verdict: str,
    *,
    side: str,
    overlap: float,
    unrelated: float,
    z: float,
    trailing: float,
    trailing_unrelated: float,
) -> str:
    """Verdicts: inside, partly_inside, outside, as_unrelated."""
    answer = {
        "inside": "lie mostly inside the base's leading subspace",
        "partly_inside": "lie inside the base's leading subspace more than unrelated changes would",
        "outside": "avoid the base's leading subspace",
        "as_unrelated": "overlap the base's leading subspace no more and no less than unrelated changes would",
    }[verdict]
    return (
        f"The {END[side]} directions of the low-rank changes {answer}: the overlap is {overlap:.2f}, where unrelated "
        f"directions give {unrelated:.2f} (z = {z:.1f})."
    ) + (
        ""
        if isnan(trailing)
        else f" {trailing:.0%} of them lie in the trailing half of the base's singular directions (unrelated: "
        f"{trailing_unrelated:.0%})."
    )


def intruder_dimensions(_verdict: str, *, read: int, write: int, weights: int) -> str:
    """Verdict: present."""
    return (
        f"Intruder dimensions appeared in {counted(weights, 'weight')}: {read} leading input and {write} leading "
        "output directions resemble no singular direction of the base (no |cos| of 0.5 or more)."
    )


def largest_measured_change(
    _verdict: str,
    *,
    observable: str,
    mean_change: float,
    relative_mean_change: float,
    rows: int,
    at: str,
    before: float,
    after: float,
) -> str:
    """Verdict: present."""
    return (
        f"The measurement that changed most is {observable}: by {mean_change:.2g} on average over "
        f"{counted(rows, 'measurement')}, which is {relative_mean_change:.2g} of its standard deviations over the "
        f"first network. It changed most at {at}: {before:.2f} → {after:.2f}."
    )


def graph_edges_changed(
    _verdict: str, *, appeared: int, vanished: int, source: str, target: str, before: float, after: float
) -> str:
    """Verdict: present."""
    return (
        f"The alignment graph gained {counted(appeared, 'edge')} and lost {vanished}. The largest change of overlap "
        f"among them is {before:.2f} → {after:.2f}, between {source} and {target}."
    )
