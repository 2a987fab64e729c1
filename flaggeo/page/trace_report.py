"""Puts a trace, its charts over training and Vega itself into one file."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..alignment.interfaces.leading_directions import WINDOW_RHO
from ..findings import SAME_ANGLE, trace_findings
from ..findings.trace import ends_of
from ..findings.words import norm_gains
from ..network.families.lookup import read_as
from ..network.roles import role_order
from ..tracing import Trace
from .charts import INTERFACE_MEASURES, Spec, lane, lane_order
from .parts import number, page_template, provenance_tables, read_spec, script

_SHOWN = 30
# Ratio of the largest step to the smallest from which the axis is logarithmic.
_WIDE_RANGE = 100
# Steps that the heat map tells apart; more would be narrower than a few pixels.
_HEAT_STEPS = 60
_SIDES = {"read": "input subspaces", "write": "output subspaces"}
_WEIGHT_MEASURES = {"effective_rank": "effective rank", "stable_rank": "stable rank", "frobenius_norm": "norm"}

# Of interfaces: column and null by title. The last three are what a monitor measures in place of whole Gram matrices.
_MEASURES = {title: (measure.column, measure.null_column) for title, measure in INTERFACE_MEASURES.items()} | {
    "commutator on the common window": (WINDOW_RHO.column, WINDOW_RHO.null_column),
    "imbalance on the common window": ("window_imbalance", "window_imbalance_null_mean"),
    "imbalance of unit norms": ("unit_imbalance", "unit_imbalance_null_rms"),
}

# Sections of the page in order: anchor and title. One that has nothing to show is left out.
_SECTIONS = {
    "findings": "Findings",
    "events": "What happened, by layer and step",
    "updates": "Rank of each step's update",
    "training": "Alignment over training",
    "layers": "Layer pairs at one step",
    "drift": "How far each subspace moved",
    "weights": "Spectra over training",
    "interfaces": "Alignment inside MLPs and heads",
    "pairs": "Chosen pairs of subspaces",
    "reading": "How to read the numbers",
}
_QUANTITIES = {
    "abs_cos_1": "|cos| of first vectors of neighbouring layers",
    "overlap": "overlap of neighbouring layers",
    "drift": "angle from the first checkpoint, degrees",
}


def render_trace(trace: Trace) -> str:
    """Page of a trace: findings, events, ranks of the updates, continuity over training, drift, weights, interfaces.

    Parameters
    ----------
    trace : Trace
        Measured just now, or loaded from a folder.

    Returns
    -------
    html : str
        Self-contained: no request to a network, and no script of a checkpoint's can run in it.
    """
    provenance, checkpoints = trace.provenance, trace.checkpoints
    over_training, by_layer = _continuity_charts(trace)
    charts = {
        "heat": heat_chart(trace),
        "training": over_training,
        "layers": by_layer,
        "drift": _drift_chart(trace),
        "weights": weights_chart(trace),
    }
    missing = {
        "layers": by_layer is None,
        "updates": trace.updates.empty,
        "interfaces": trace.interfaces.empty,
        "pairs": trace.pairs.empty,
    }
    absent = {name for name, is_missing in missing.items() if is_missing}
    first, last = checkpoints["step"].iloc[0], checkpoints["step"].iloc[-1]
    return page_template("trace.html.j2").render(
        title=_title(trace),
        about="alignment over training",
        sections={anchor: title for anchor, title in _SECTIONS.items() if anchor not in absent},
        subtitle=f"{len(checkpoints)} checkpoints from step {first} to step {last}, {read_as(provenance['family'])}, "
        f"{trace.weights['name'].nunique()} weights at rank {trace.settings.rank}",
        steps=len(checkpoints),
        rank=trace.settings.rank,
        remarks=provenance["remarks"],
        findings=trace_findings(trace),
        charts=[name for name, chart in charts.items() if chart],
        norm_matched=_has_norm_matched(trace),
        events=_event_table(trace.events),
        event_count=len(trace.events),
        updates=_update_table(trace.updates),
        milestones=_milestone_table(trace.milestones),
        summary=_summary_table(trace.summary),
        farthest=_farthest_table(trace),
        weights=ends_of(trace.weights, ["role"], list(_WEIGHT_MEASURES)),
        interfaces=_interface_table(trace.interfaces),
        pairs=_pair_table(trace.pairs),
        shown=_SHOWN,
        skipped=trace.skipped,
        checkpoints=checkpoints,
        norm_gains=norm_gains(trace.settings.fold_norms),
        provenance=provenance_tables(provenance),
        data=script(
            {
                "charts": charts,
                "labels": [
                    f"step {step}" + ("" if str(step) == label else f" ({label})")
                    for step, label in zip(checkpoints["step"], checkpoints["checkpoint"], strict=True)
                ],
            }
        ),
    )


def _title(trace: Trace) -> str:
    """Name of the folder that the run is in, or of its last checkpoint."""
    locations = [Path(location) for location in trace.checkpoints["location"]]
    folders = {location.parent.name for location in locations}
    return folders.pop() if len(folders) == 1 and locations[0].parent.name else locations[-1].name


def _index(trace: Trace) -> dict[int, int]:
    """Position of every step, by which the charts know it."""
    return {int(step): place for place, step in enumerate(trace.checkpoints["step"])}


def _place_steps(x: Spec, trace: Trace) -> None:
    """Where saved checkpoints are spaced over orders of magnitude, so is the axis."""
    positive = trace.checkpoints["step"][trace.checkpoints["step"] > 0]
    if positive.max() > _WIDE_RANGE * positive.min():
        x["scale"] = {"type": "symlog", "constant": int(positive.min()), "nice": False}
        x["axis"]["values"] = [10**exponent for exponent in range(len(str(positive.max())))]


def _continuity_charts(trace: Trace) -> tuple[Spec, Spec] | tuple[None, None]:
    """Means over the layers against the step, and every layer at one step; None where nothing shares a space."""
    if trace.summary.empty or not trace.summary["shared_space"].any():
        return None, None
    index, rank = _index(trace), trace.settings.rank
    measures = {
        "abs_cos_1": (
            "first singular vectors: |cos|",
            "abs_cos_1_null_mean",
            "abs_cos_1_null_sd",
            "abs_cos_1_norm_matched_mean",
        ),
        "overlap": (f"leading {rank}-dimensional subspaces: overlap", "overlap_null_mean", "overlap_null_sd", None),
    }
    means = [
        {"index": index[row["step"]], "step": row["step"], "checkpoint": row["checkpoint"]}
        | {"key": f"{lane(row['role'], row['side'])} {measure}", "value": round(row[measure], 4)}
        | {"norm_matched": number(row[norm_matched]) if norm_matched else None}
        for measure, (_, _, _, norm_matched) in measures.items()
        for row in trace.summary[trace.summary["shared_space"]].to_dict("records")
        if number(row[measure]) is not None
    ]
    shared = trace.continuity[trace.continuity["shared_space"]]
    pairs = trace.summary.groupby(["role", "side"])["layer_pairs"].first()
    layers, panels = [], dict[str, Spec]()
    for measure, (title, mean, spread, _) in measures.items():
        for row in shared[shared[measure].notna()].to_dict("records"):
            panel = lane(row["role"], row["side"])
            key = f"{panel} {measure}"
            panels[key] = {"key": key, "panel": panel, "measure": title, "unrelated": row[mean]}
            for name, count in (("", 1), ("mean_", pairs[row["role"], row["side"]])):
                reach = 2 * row[spread] / math.sqrt(count)
                panels[key] |= {f"{name}low": max(0.0, row[mean] - reach), f"{name}high": min(1.0, row[mean] + reach)}
            layers.append(
                {"index": index[row["step"]], "key": key, "layer": row["layer"], "next": row["next_layer"]}
                | {"value": round(row[measure], 4), "undetermined": row["undetermined"] and measure == "abs_cos_1"}
            )
    over_training, by_layer = read_spec("trace_training.vl.json"), read_spec("trace_layers.vl.json")
    for spec, rows in ((over_training, means), (by_layer, layers)):
        spec["datasets"] = {"rows": rows, "panels": list(panels.values())}
        present = {panel["panel"] for panel in panels.values()}
        spec["facet"]["sort"] = sorted(present, key=lane_order)
    chart = over_training["spec"]
    if not _has_norm_matched(trace):
        chart["layer"] = [layer for layer in chart["layer"] if layer.get("name") != "norm_matched"]
    _place_steps(chart["encoding"]["x"], trace)
    return over_training, by_layer


def _has_norm_matched(trace: Trace) -> bool:
    """Whether the norm-matched null is known; a monitor leaves it out."""
    return len(trace.summary) > 0 and bool(trace.summary["abs_cos_1_norm_matched_mean"].notna().any())


def continuity_figure(trace: Trace) -> Spec | None:
    """Means over the layers against the step; None where nothing shares a space."""
    return _continuity_charts(trace)[0]


def heat_chart(trace: Trace) -> Spec | None:
    """Drift of each role and side by layer and step, of at most so many steps; None where no layer has any."""
    whole = trace.drift[trace.drift["head"].isna() & trace.drift["layer"].notna() & trace.drift["rms_angle"].notna()]
    steps = trace.checkpoints["step"].to_numpy()
    shown = steps[np.linspace(0, len(steps) - 1, min(len(steps), _HEAT_STEPS)).round().astype(int)]
    whole = whole[whole["step"].isin(shown)]
    if whole.empty:
        return None
    angles = {"rms_angle": "subspace", "angle_1": "direction"}
    cells: dict[tuple[str, int, int], Spec] = {}
    # Experts of a layer share a cell, the mean of theirs.
    means = whole.groupby(["role", "side", "layer", "step", "since"], sort=False)[list(angles)].mean().reset_index()
    for row in means.to_dict("records"):
        panel = lane(row["role"], row["side"])
        cell = cells.setdefault(
            (panel, row["layer"], row["step"]), {"panel": panel, "layer": int(row["layer"]), "step": row["step"]}
        )
        cell |= {f"{name}_{row['since']}": round(math.degrees(row[angle]), 2) for angle, name in angles.items()}
    spec = read_spec("trace_heat.vl.json")
    spec["datasets"] = {"heat": list(cells.values())}
    spec["facet"]["sort"] = sorted({panel for panel, *_ in cells}, key=lane_order)
    return spec


def _drift_chart(trace: Trace) -> Spec | None:
    index = _index(trace)
    whole = trace.drift[trace.drift["head"].isna() & trace.drift["layer"].notna() & trace.drift["rms_angle"].notna()]
    if whole.empty:
        return None
    keys = ["step", "name", "role", "layer", "side"]
    numbers, both = ["rms_angle", "overlap"], ["first", "previous"]
    # A monitor that has dropped records knows no movement since the previous one.
    columns = pd.MultiIndex.from_product([numbers, both])
    by_since = pd.DataFrame(whole.set_index([*keys, "since"])[numbers].unstack("since"), columns=columns)
    wide = pd.DataFrame(
        {
            "angle_first": by_since["rms_angle", "first"],
            "angle_previous": by_since["rms_angle", "previous"],
            "overlap": by_since["overlap", "first"],
        }
    )
    rows = [
        {"index": index[row["step"]], "panel": _SIDES[row["side"]], "name": row["name"], "role": row["role"]}
        | {"layer": int(row["layer"]), "first": round(math.degrees(row["angle_first"]), 2)}
        | {"previous": None if angle is None else round(math.degrees(angle), 2)}
        | {"kept": round(row["overlap"], 3)}
        for row in wide.dropna(subset="angle_first").reset_index().to_dict("records")
        for angle in [number(row["angle_previous"])]
    ]
    spec = read_spec("trace_drift.vl.json")
    spec["datasets"] = {"drift": rows}
    encoding = spec["spec"]["encoding"]
    encoding["y"]["sort"] = sorted({row["role"] for row in rows}, key=role_order)
    # One scale for all steps, so that colours can be compared while the slider moves.
    encoding["color"]["scale"]["domain"] = [0, max(1.0, *(max(row["first"], row["previous"] or 0) for row in rows))]
    return spec


def weights_chart(trace: Trace) -> Spec:
    """Norm and ranks of each role against the step."""
    index = _index(trace)
    whole = trace.weights[trace.weights["head"].isna()]
    means = whole.groupby(["step", "role"], sort=False)[list(_WEIGHT_MEASURES)].mean().reset_index()
    spec = read_spec("trace_weights.vl.json")
    spec["datasets"] = {
        "weights": [
            {"index": index[row["step"]], "step": row["step"], "role": row["role"]}
            | {"measure": title, "value": number(row[column])}
            for column, title in _WEIGHT_MEASURES.items()
            for row in means.to_dict("records")
            if number(row[column]) is not None
        ]
    }
    spec["spec"]["layer"][-1]["encoding"]["color"]["sort"] = sorted(means["role"].unique(), key=role_order)
    _place_steps(spec["spec"]["encoding"]["x"], trace)
    return spec


def _event_table(events: pd.DataFrame) -> pd.DataFrame:
    """What turned farthest."""
    rows = events.nlargest(_SHOWN, "first_direction_degrees").sort_values("step", kind="stable")
    columns = {"step": "step", "since_step": "since step", "name": "weight", "side": "side"}
    columns |= {"first_direction_degrees": "angle of first direction", "subspace_degrees": "angle of subspace"}
    return rows[list(columns)].rename(columns=columns)


def _update_table(updates: pd.DataFrame) -> pd.DataFrame:
    """Medians over the weights that moved, at each step."""
    columns = {
        "relative_norm": "size of the update / of the weight",
        "rank": "rank",
        "effective_rank": "effective rank",
    }
    columns |= {"stable_rank": "stable rank", "rank_90": "90 % in", "rank_99": "99 % in"}
    moved = updates[updates["head"].isna() & updates["stable_rank"].notna()]
    groups = moved.astype(dict.fromkeys(columns, "float64")).groupby(["since_step", "step"])
    medians = groups[list(columns)].median().dropna(axis="columns", how="all")
    medians.insert(0, "weights that moved", groups.size())
    return medians.rename(columns=columns).reset_index()


def _milestone_table(milestones: pd.DataFrame) -> pd.DataFrame:
    """What moved at all, angles in degrees."""
    drift = milestones["quantity"] == "drift"
    rows = milestones[~drift | (milestones["last"] >= SAME_ANGLE)].copy()
    columns = ["first", "last", "change"]
    rows.loc[drift, columns] = rows.loc[drift, columns].map(math.degrees)
    table = {
        "role and side": [lane(role, side) for role, side in zip(rows["role"], rows["side"], strict=True)],
        "measure": rows["quantity"].map(_QUANTITIES),
        "first": rows["first"],
        "last": rows["last"],
        "change": rows["change"],
        "spread of unrelated": rows["noise"],
        "half done by step": rows["half_step"],
    }
    return pd.DataFrame(table)


def _summary_table(summary: pd.DataFrame) -> pd.DataFrame:
    if summary.empty:
        return summary
    rows = summary[summary["shared_space"]]
    columns = {"step": "step", "abs_cos_1": "|cos| of first", "abs_cos_1_null_mean": "unrelated"}
    columns |= {"abs_cos_1_effect_size": "effect size"}
    columns |= {"abs_cos_1_norm_matched_mean": "norm-matched", "abs_cos_1_excess": "excess", "overlap": "overlap"}
    columns |= {"overlap_null_mean": "unrelated overlap", "channels": "channels"}
    table = rows[list(columns)].rename(columns=columns)
    names = [lane(role, side) for role, side in zip(rows["role"], rows["side"], strict=True)]
    table.insert(1, "role and side", names)
    return table.dropna(axis="columns", how="all")


def _farthest_table(trace: Trace) -> pd.DataFrame:
    """Subspaces by the distance from where they began."""
    drift = trace.drift[(trace.drift["step"] == trace.checkpoints["step"].iloc[-1]) & (trace.drift["since"] == "first")]
    rows = drift[drift["rms_angle"] >= SAME_ANGLE].nlargest(_SHOWN, "rms_angle")
    return pd.DataFrame(
        {
            "weight": rows["name"],
            "side": rows["side"],
            "RMS angle": rows["rms_angle"].map(math.degrees),
            "Grassmann distance": rows["geodesic_distance"].map(math.degrees),
            "overlap": rows["overlap"],
            "unrelated": rows["overlap_null_mean"],
            "angle of first direction": rows["angle_1"].map(math.degrees),
            "undetermined": rows["undetermined"].astype(bool).astype(object),
        }
    )


def _interface_table(interfaces: pd.DataFrame) -> pd.DataFrame:
    """Each kind and measure at both ends of the run."""
    if interfaces.empty:
        return interfaces
    kinds = ["kind", "gauge_fixed"]
    parts: list[dict[str, Any]] = []
    for title, (column, null) in _MEASURES.items():
        if column not in interfaces or interfaces[column].isna().all():
            continue
        for row in ends_of(interfaces, kinds, [column, null]).to_dict("records"):
            parts.append(
                {
                    "kind": row["kind"],
                    "measured": "after balancing" if row["gauge_fixed"] else "as stored",
                    "measure": title,
                }
                | {"first": row[f"{column}, first"], "last": row[f"{column}, last"]}
                | {"unrelated, last": row[f"{null}, last"]}
            )
    return pd.DataFrame(parts)


def _pair_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Overlap of each pair at both ends of the run."""
    if pairs.empty:
        return pairs
    ends = ends_of(pairs, ["source", "target"], ["overlap", "overlap_null_mean"])
    columns = {"source": "source", "target": "target", "overlap, first": "first", "overlap, last": "last"}
    return ends[[*columns, "overlap_null_mean, last"]].rename(
        columns=columns | {"overlap_null_mean, last": "unrelated"}
    )
