"""What a comparison found: which weights changed, how far their subspaces moved, of which rank the change is."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..comparison import Comparison
from ..comparison.tensors import CHANGED
from .finding import Finding
from .words import END

#: RMS angles up to this, in radians, are those of frames saved in single precision.
SAME_ANGLE = 1e-5
# Mean effect size of the overlap below which the two look unrelated: words for the reader, not a test.
UNRELATED = 0.1
# Distance of an overlap from its null mean, in standard deviations, from which it is said to be above or below.
NOTICEABLE = 3.0
# Mean cosine of two changes from which they are said to be the same up to size.
SAME_CHANGE = 0.99
_NAMED = 3
# What implementations of LoRA call the factors of a change.
_FACTOR = r"\blora_(?:embedding_)?[AB]\b"


def comparison_findings(comparison: Comparison) -> list[Finding]:
    """What a comparison found, the most important first.

    Parameters
    ----------
    comparison : Comparison

    Returns
    -------
    findings : list of Finding
        Their places are sections of the page of `flaggeo.render_comparison`.
    """
    deltas, measured = comparison.deltas, comparison.provenance["deltas"] == "measured"
    files = tensor_findings(comparison.tensors, comparison.provenance["adapters"])
    if "c" in comparison.provenance:
        files.append(interference_finding(comparison.interference))
    if measured and not comparison.tensors["change"].isin(CHANGED).any():
        return files
    if measured and (deltas["relative_norm"].fillna(0) == 0).all():
        return [*files, _weight_change("absent", deltas)]
    moved = moves(comparison)
    if moved.empty:
        subspaces, measurements = [Finding("movement", "absent", {}, "drift")], []
    else:
        subspaces = [*_relatedness(comparison.weights), *_moved(moved, len(comparison.weights))]
        measurements = [*_observables(comparison.observables), *_edges(comparison.pairs)]
    if not measured:
        return [*subspaces, *measurements, Finding("weight_change", "undetermined", {}, "low-rank")]
    return [*files, _changed(deltas), *subspaces, *_low_rank(deltas), *_intruders(deltas), *measurements]


def moves(comparison: Comparison) -> pd.DataFrame:
    """Rows of `Comparison.ranked` whose subspace moved by more than rounding explains, the farthest first.

    A weight whose change is rounding still turns its subspaces, and by the more the closer its singular values lie.
    """
    ranked = comparison.ranked
    return ranked[(ranked["rms_angle"] >= SAME_ANGLE) & (ranked["change_rank"] != 0).fillna(True)]


def tensor_findings(tensors: pd.DataFrame, adapters: Sequence[str]) -> list[Finding]:
    """What became of the stored tensors in each version.

    Parameters
    ----------
    tensors : pandas.DataFrame
        From `flaggeo.comparison.tensors.tensor_table`, of one version or one behind the other.
    adapters : sequence of str
        Versions that are adapters of the base.
    """
    versions = list(tensors.groupby("version", sort=False))
    found = list[Finding]()
    for version, rows in versions:
        # What an adapter changes, a file that it was merged into has changed as well.
        expected = any(one.verdict == "present" for one in found) and list(adapters) == ["b"]
        name = str(version).upper() if len(versions) > 1 else None
        found.append(_tensor_change(name, rows, is_adapter=version in adapters, expected=expected))
    return found


def _tensor_change(version: str | None, tensors: pd.DataFrame, *, is_adapter: bool, expected: bool) -> Finding:
    kinds = tensors["change"]
    changed = tensors[kinds.isin(CHANGED)]
    factors = tensors["tensor"].str.contains(_FACTOR) & (kinds == "added")
    if len(changed) > factors.sum():
        verdict = "present"
    elif len(changed) or expected:
        verdict = "adapter_not_merged"
    elif is_adapter:
        verdict = "adapter_zero"
    else:
        verdict = "within_storage_precision" if (kinds == "within_precision").any() else "same"
    low, full = (changed[changed["change"] == kind] for kind in ("low_rank", "full"))
    counts = kinds.value_counts()
    held = changed[~changed["change"].isin(["added", "removed"])]
    others = held[held["change"] == "changed"]
    # Of a matrix of numbers there is a rank.
    unmeasured = int((others["shape"].str.count("x") == 1).sum())
    numbers = {
        "version": version,
        "tensors": int((kinds != "added").sum()),
        "changed": len(held),
        "low_rank": len(low),
        "ranks": sorted({int(rank) for rank in low["rank"]}),
        "full": len(full),
        "reshaped": int((held["change"] == "reshaped").sum()),
        "unmeasured": unmeasured,
        "others": len(others) - unmeasured,
        "layers": sorted({int(layer) for layer in held["layer"].dropna()}),
        "rank_90": full["rank_90"].median(),
        "rank_99": full["rank_99"].median(),
    }
    numbers |= {name: counts.get(name, 0) for name in ("added", "removed", "within_precision", "unknown")}
    return Finding("tensor_change", verdict, numbers, "tensors")


def interference_finding(table: pd.DataFrame) -> Finding:
    """Whether the changes of two fine-tunings lie in the same directions.

    Parameters
    ----------
    table : pandas.DataFrame
        From `flaggeo.comparison.interference.interference_table`.
    """
    if table.empty:
        return Finding("interference", "absent", {}, "interference")
    numbers: dict[str, Any] = {"matrices": len(table), "cosine": table["cosine"].mean()}
    for side in END:
        # The mean of independent overlaps has a spread smaller by the root of their number.
        spread = table[f"{side}_null_sd"].where(table[f"{side}_null_sd"] > 0) / math.sqrt(len(table))
        numbers[side] = {name: table[f"{side}_{name}"].mean() for name in ("overlap", "null_mean", "base_mean")}
        numbers[side] |= {
            f"z{given}": ((table[f"{side}_overlap"] - table[f"{side}_{null}_mean"]) / spread).mean()
            for given, null in (("", "null"), ("_given_base", "base"))
        }
    if numbers["cosine"] > SAME_CHANGE:
        verdict = "same_change"
    elif not any(numbers[side]["z"] > NOTICEABLE for side in END):
        verdict = "as_unrelated"
    else:
        beyond = any(numbers[side]["z_given_base"] > NOTICEABLE for side in END)
        verdict = "shared" if beyond else "explained_by_base"
    return Finding("interference", verdict, numbers, "interference")


def _changed(deltas: pd.DataFrame) -> Finding:
    """How many weights changed, and by how much."""
    beyond = (deltas["relative_norm"] > 0) & (deltas["rank"] > 0)
    return _weight_change("present" if beyond.any() else "within_storage_precision", deltas)


def _weight_change(verdict: str, deltas: pd.DataFrame) -> Finding:
    different = deltas[deltas["relative_norm"] > 0]
    beyond = different[different["rank"] > 0]
    numbers = {
        "weights": len(deltas),
        "changed": len(beyond),
        "within_precision": len(different) - len(beyond),
        "median_norm": beyond["relative_norm"].median(),
        "largest_norm": different["relative_norm"].max(),
        "where": layers_by_role(beyond),
    }
    return Finding("weight_change", verdict, numbers, "drift")


def layers_by_role(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Roles and the layers that they are from, none for the embedding."""
    return [
        {"role": role, "layers": sorted({int(layer) for layer in group["layer"].dropna()})}
        for role, group in rows.groupby("role", sort=False)
    ]


def _relatedness(weights: pd.DataFrame) -> list[Finding]:
    shared = weights["overlap_effect_size"].mean()
    return [Finding("relatedness", "absent", {"effect_size": shared}, "drift")] if shared < UNRELATED else []


def _moved(moved: pd.DataFrame, subspaces: int) -> list[Finding]:
    means = moved.groupby(["role", "side"], sort=False)["rms_angle"].mean().reset_index().to_dict("records")
    most = max(means, key=lambda row: row["rms_angle"])
    numbers: dict[str, Any] = {name: most[name] for name in ("role", "side", "rms_angle")}
    numbers |= {"farthest": moved.head(_NAMED)[["name", "side", "rms_angle"]].to_dict("records")}
    found = [Finding("movement", "present", numbers, "drift")]
    turned = moved[(moved["angle_1"] > math.pi / 4) & ~moved["undetermined"]]
    if len(turned):
        numbers = {"turned": len(turned), "subspaces": subspaces, "angle": math.pi / 4}
        found.append(Finding("first_direction_turned", "present", numbers, "drift"))
    return found


def _low_rank(deltas: pd.DataFrame) -> list[Finding]:
    changed = deltas[deltas["rank"] > 0]
    if changed.empty:
        return []
    low = changed[changed["low_rank"]]
    numbers = {
        "low_rank": len(low),
        "changed": len(changed),
        "ranks": sorted({int(rank) for rank in low["rank"]}),
        "where": layers_by_role(low),
        "least_rank": int(changed["rank"].min()),
        "median_effective_rank": changed["effective_rank"].median(),
    }
    found = [Finding("low_rank_change", "present" if len(low) else "absent", numbers, "low-rank")]
    return found + [_inside(low, side) for side in END if low[f"{side}_inside"].notna().any()]


def _inside(low: pd.DataFrame, side: str) -> Finding:
    """Whether the changes stay inside the subspaces that the base already used."""
    inside = low[f"{side}_inside"].mean()
    # The mean of independent overlaps has a spread smaller by the root of their number.
    z = low[f"{side}_inside_z"].mean() * math.sqrt(len(low))
    if z > NOTICEABLE:
        verdict = "inside" if inside > 0.5 else "partly_inside"
    else:
        verdict = "outside" if z < -NOTICEABLE else "as_unrelated"
    numbers = {
        "side": side,
        "overlap": inside,
        "unrelated": low[f"{side}_inside_null"].mean(),
        "z": z,
        "trailing": low[f"{side}_trailing"].mean(),
        "trailing_unrelated": low[f"{side}_trailing_null"].mean(),
    }
    return Finding("change_against_base", verdict, numbers, "low-rank")


def _intruders(deltas: pd.DataFrame) -> list[Finding]:
    counts = {side: int(deltas[f"{side}_intruders"].sum()) for side in END}
    if not any(counts.values()):
        return []
    weights = int((deltas[[f"{side}_intruders" for side in END]] > 0).any(axis=1).sum())
    return [Finding("intruder_dimensions", "present", counts | {"weights": weights}, "low-rank")]


def _observables(observables: pd.DataFrame) -> list[Finding]:
    # By the mean: in a table of many pairs a count may change in one of them alone, by many standard deviations.
    spreads = (observables["change"] / observables["relative_change"]).abs()
    sizes = observables["mean_change"] / spreads
    if not (sizes > 0).any():
        return []
    row = observables.assign(relative_mean_change=sizes)[sizes == sizes.max()].to_dict("records")[0]
    numbers = {"observable": row["observable"], "at": row["at"], "before": row["a"], "after": row["b"]}
    numbers |= {name: row[name] for name in ("mean_change", "relative_mean_change", "rows")}
    return [Finding("largest_measured_change", "present", numbers, "measurements")]


def _edges(pairs: pd.DataFrame) -> list[Finding]:
    changed = pairs[pairs["edge"].isin(["appeared", "vanished"])]
    if changed.empty:
        return []
    row = changed.to_dict("records")[0]
    numbers = {status: int((changed["edge"] == status).sum()) for status in ("appeared", "vanished")}
    numbers |= {"source": row["source"], "target": row["target"]}
    numbers |= {"before": row["overlap_a"], "after": row["overlap_b"]}
    return [Finding("graph_edges_changed", "present", numbers, "measurements")]
