"""What a comparison found, in sentences with their numbers."""

import math

import pandas as pd

from ..comparison import Comparison
from .words import DOING, degrees, listed

#: RMS angles up to this, in radians, are those of frames saved in single precision.
SAME_ANGLE = 1e-5
# Mean effect size of the overlap below which the two share next to nothing: words for the reader, not a test.
UNRELATED = 0.1
# Distance of an overlap from its null mean, in standard deviations, from which it is said to be above or below.
NOTICEABLE = 3.0
_NAMED = 3


def comparison_findings(comparison: Comparison) -> list[str]:
    """Plain sentences, the most important first.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    sentences : list of str
        Plain text: names from the checkpoints are not escaped.
    """
    deltas, measured = comparison.deltas, comparison.provenance["deltas"] == "measured"
    if measured and (deltas["relative_norm"].fillna(0) == 0).all():
        return ["The two checkpoints hold the same numbers: every weight compared is equal, and all distances are 0."]
    unmoved = bool((comparison.weights["rms_angle"].fillna(0) < SAME_ANGLE).all())
    sentences = [] if measured else [_frames_alone(unmoved)]
    if measured:
        sentences += _changed(deltas)
    if not unmoved:
        sentences += _related(comparison.weights) + _moved(comparison.weights)
    if measured:
        sentences += _low_rank(deltas) + _intruders(deltas)
    if not unmoved:
        sentences += _observables(comparison.observables) + _edges(comparison.pairs)
    return sentences


def _frames_alone(unmoved: bool) -> str:
    sentence = (
        "One of the two is a saved analysis, which holds leading subspaces but no matrices: the changes of the "
        "weights themselves are not measured."
    )
    if unmoved:
        return f"All leading subspaces are the same. {sentence}"
    return sentence


def _changed(deltas: pd.DataFrame) -> list[str]:
    """How many weights changed, and by how much."""
    different = deltas[deltas["relative_norm"] > 0]
    beyond = different[different["rank"] > 0]
    if beyond.empty:
        return [
            f"No difference is larger than the rounding of the files: {len(different)} of {len(deltas)} weights "
            f"differ, by {different['relative_norm'].max():.1e} of their norm at most."
        ]
    # A list of nearly everything tells nothing.
    named = f"{_by_role(beyond)}, " if len(beyond) <= len(deltas) / 2 else ""
    sentence = (
        f"{len(beyond)} of {len(deltas)} weights changed beyond the rounding of the files, {named}by "
        f"{beyond['relative_norm'].median():.2g} of their norm (median)."
    )
    rest = len(different) - len(beyond)
    return [sentence + (f" {rest} more differ by no more than rounding." if rest else "")]


def _by_role(rows: pd.DataFrame) -> str:
    """Roles and the layers that they are from: q of layers 3 to 5."""
    parts = []
    for role, group in rows.groupby("role", sort=False):
        layers = sorted({int(layer) for layer in group["layer"].dropna()})
        parts.append(f"{role} of {_layers(layers)}" if layers else str(role))
    return listed(parts)


def _layers(layers: list[int]) -> str:
    if len(layers) == 1:
        return f"layer {layers[0]}"
    if layers == list(range(layers[0], layers[-1] + 1)):
        return f"layers {layers[0]} to {layers[-1]}"
    if len(layers) > 6:
        return f"{len(layers)} layers from {layers[0]} to {layers[-1]}"
    return f"layers {listed([str(layer) for layer in layers])}"


def _related(weights: pd.DataFrame) -> list[str]:
    shared = weights["adjusted_overlap"].mean()
    if not shared < UNRELATED:
        return []
    return [
        f"The two share next to nothing: leading subspaces overlap by {shared:.0%} beyond chance on average. Distances "
        "between them mean something only if one was trained from the other, in the same basis."
    ]


def _moved(weights: pd.DataFrame) -> list[str]:
    moved = weights[weights["rms_angle"] >= SAME_ANGLE]
    means = moved.groupby(["role", "side"], sort=False)["rms_angle"].mean().reset_index().to_dict("records")
    most = max(means, key=lambda row: row["rms_angle"])
    farthest = moved.sort_values("rms_angle", ascending=False, kind="stable").head(_NAMED).to_dict("records")
    named = listed([f"{row['name']} {row['side']}s {degrees(row['rms_angle'])}" for row in farthest])
    sentences = [
        f"The {DOING[most['side']]} of {most['role']} moved most, by {degrees(most['rms_angle'])} (root mean square "
        "angle between the leading subspaces, mean over the layers where it moved). Single subspaces that moved "
        f"farthest: {named}."
    ]
    turned = moved[(moved["angle_1"] > math.pi / 4) & ~moved["undetermined"]]
    if len(turned):
        sentences.append(
            f"The first direction itself turned by more than 45° in {len(turned)} of {len(weights)} subspaces, though "
            "the spectrum determines it in both."
        )
    return sentences


def _low_rank(deltas: pd.DataFrame) -> list[str]:
    changed = deltas[deltas["rank"] > 0]
    low = changed[changed["low_rank"]]
    if low.empty:
        if changed.empty:
            return []
        return [
            f"No change is of low rank: the effective rank of what changed is {changed['effective_rank'].median():.0f} "
            "in the median."
        ]
    ranks = sorted({int(rank) for rank in low["rank"]})
    spelt = f"rank {ranks[0]}" if len(ranks) == 1 else f"rank {ranks[0]} to {ranks[-1]}"
    every = "All" if len(low) == len(changed) else f"{len(low)} of {len(changed)}"
    sentences = [
        f"{every} changes are of low rank ({spelt}, as far as the precision of the files tells), as a LoRA adapter's "
        f"are: {_by_role(low)}."
    ]
    return sentences + [_inside(low, side) for side in DOING if low[f"{side}_inside"].notna().any()]


def _inside(low: pd.DataFrame, side: str) -> str:
    """Whether the changes stay inside the subspaces that the base already used."""
    inside, null = low[f"{side}_inside"].mean(), low[f"{side}_inside_null"].mean()
    # The mean of independent overlaps has a spread smaller by the root of their number.
    z = low[f"{side}_inside_z"].mean() * math.sqrt(len(low))
    if z > NOTICEABLE:
        where = "mostly inside it" if inside > 0.5 else "inside it more than by chance"
    elif z < -NOTICEABLE:
        where = "outside it, farther than by chance"
    else:
        where = "as chance would have it"
    trailing, expected = low[f"{side}_trailing"].mean(), low[f"{side}_trailing_null"].mean()
    return (
        f"Against the base's leading {DOING[side]} subspace, they lie {where}: overlap {inside:.2f} where unrelated "
        f"ones give {null:.2f}; {trailing:.0%} of them is in the trailing half of the base's directions (unrelated: "
        f"{expected:.0%})."
    )


def _intruders(deltas: pd.DataFrame) -> list[str]:
    counts = {side: int(deltas[f"{side}_intruders"].sum()) for side in DOING}
    if not any(counts.values()):
        return []
    where = deltas[(deltas["read_intruders"] > 0) | (deltas["write_intruders"] > 0)]
    return [
        f"Intruder dimensions: {counts['read']} leading reading and {counts['write']} leading writing directions of "
        f"{len(where)} weights resemble no singular direction of the base (no |cos| of 0.5 or more)."
    ]


def _observables(observables: pd.DataFrame) -> list[str]:
    sizes = observables["relative_change"].abs()
    if not (sizes > 0).any():
        return []
    row = observables[sizes == sizes.max()].to_dict("records")[0]
    return [
        f"Of the measurements, {row['observable']} changed most for how it varies in the first network: from "
        f"{row['a']:.3f} to {row['b']:.3f}, {abs(row['relative_change']):.1f} of its standard deviations there "
        f"({row['place']}); {row['mean_change']:.2g} on average over {row['rows']}."
    ]


def _edges(pairs: pd.DataFrame) -> list[str]:
    counts = pairs["edge"].value_counts()
    appeared, vanished = int(counts.get("appeared", 0)), int(counts.get("vanished", 0))
    if not appeared + vanished:
        return []
    row = pairs[pairs["edge"].isin(["appeared", "vanished"])].iloc[0]
    return [
        f"In the alignment graph {appeared} edges appeared and {vanished} vanished; the one with the largest change "
        f"of overlap joins {row['source']} and {row['target']}: {row['overlap_a']:.2f} before, "
        f"{row['overlap_b']:.2f} after."
    ]
