"""Puts a comparison, its heat maps and Vega itself into one file."""

import math
from pathlib import Path

import pandas as pd

from ..comparison import Comparison
from ..comparison.change import WHOLE_UP_TO
from ..comparison.delta import COUNTED
from ..comparison.tensors import CHANGED
from ..findings import comparison_findings, moves
from ..findings.words import END, listed, norm_gains
from ..network.families.lookup import read_as
from ..network.roles import role_order
from .charts import Spec
from .parts import number, page_template, provenance_tables, read_spec, script

_SHOWN = 30
_SIDES = {"read": "input subspaces", "write": "output subspaces"}

# Sections of the page in order: anchor and title.
_SECTIONS = {
    "findings": "Findings",
    "tensors": "What became of each tensor",
    "interference": "What B and C have in common",
    "drift": "How far each subspace moved",
    "low-rank": "Changes of low rank",
    "measurements": "All measurements in both networks",
    "reading": "How to read the numbers",
}


def render_comparison(comparison: Comparison) -> str:
    """Page of a comparison: findings, tensors, distances of subspaces, low-rank changes, other numbers.

    Parameters
    ----------
    comparison : Comparison
        Measured just now, or loaded from a folder.

    Returns
    -------
    html : str
        Self-contained: no request to a network, and no script of a checkpoint's can run in it.
    """
    provenance = comparison.provenance
    names = [Path(provenance[version]).name for version in "abc" if version in provenance]
    tensors, drift = tensors_chart(comparison), drift_chart(comparison)
    missing = {"tensors": comparison.tensors.empty, "interference": len(names) < 3}
    changed = comparison.tensors[comparison.tensors["change"].isin(CHANGED)]
    return page_template("comparison.html.j2").render(
        title=listed(names),
        about="what changed",
        sections={anchor: title for anchor, title in _SECTIONS.items() if not missing.get(anchor)},
        names=names,
        stored=provenance["stored"],
        subtitle=f"{read_as(provenance['family'])}, {comparison.weights['name'].nunique()} weights at rank "
        f"{comparison.settings.rank}",
        rank=comparison.settings.rank,
        shown=_SHOWN,
        findings=comparison_findings(comparison),
        remarks=provenance["remarks"],
        tensors=_tensor_table(changed),
        changed=len(changed),
        kinds=_kinds(comparison.tensors),
        has_layers=tensors is not None,
        heads=_heads_table(comparison.deltas),
        interference=_interference_table(comparison.interference),
        ranked=_ranked_table(moves(comparison).head(_SHOWN)),
        low_rank=_low_rank_table(comparison.deltas),
        counted=COUNTED,
        whole_up_to=WHOLE_UP_TO,
        measured=provenance["deltas"] == "measured",
        observables=comparison.observables.drop(columns=["table", "column"]),
        summary=_summary_table(comparison.summary),
        edges=_edge_table(comparison.pairs),
        skipped=comparison.skipped,
        norm_gains=norm_gains(comparison.settings.fold_norms),
        provenance=provenance_tables(provenance),
        data=script({"charts": {"tensors": tensors, "drift": drift}}),
    )


def _tensor_table(changed: pd.DataFrame) -> pd.DataFrame:
    rows = changed.nlargest(_SHOWN, "relative_norm")
    table = pd.DataFrame(
        {
            "version": rows["version"].str.upper(),
            "tensor": rows["tensor"],
            "change": rows["change"].str.replace("_", " "),
            "|B − A| / |A|": rows["relative_norm"],
            "rank": rows["rank"],
            "90 % in": rows["rank_90"],
            "99 % in": rows["rank_99"],
            "effective rank": rows["effective_rank"],
            "inputs inside": rows["read_inside"],
            "inputs inside, unrelated": rows["read_inside_null"],
            "outputs inside": rows["write_inside"],
            "outputs inside, unrelated": rows["write_inside_null"],
        }
    )
    return table if changed["version"].nunique() > 1 else table.drop(columns="version")


def _kinds(tensors: pd.DataFrame) -> pd.DataFrame:
    """How many tensors underwent what, in each version."""
    counts = tensors.groupby(["version", "change"], sort=False).size().reset_index(name="tensors")
    counts["change"] = counts["change"].str.replace("_", " ")
    counts["version"] = counts["version"].str.upper()
    return counts if counts["version"].nunique() > 1 else counts.drop(columns="version")


def _heads_table(deltas: pd.DataFrame) -> pd.DataFrame:
    """Heads by how much they changed."""
    rows = deltas[deltas["head"].notna() & (deltas["rank"] > 0)].nlargest(_SHOWN, "relative_norm")
    columns = {"name": "head", "relative_norm": "|B − A| / |A|", "rank": "rank", "rank_90": "90 % in"}
    return rows[list(columns)].rename(columns=columns)


def _interference_table(interference: pd.DataFrame) -> pd.DataFrame:
    rows = interference.assign(z=interference[["read_z", "write_z"]].max(axis=1)).nlargest(_SHOWN, "z")
    columns = {"tensor": "tensor", "directions_b": "directions of B", "directions_c": "directions of C"}
    for side, end in END.items():
        columns |= {f"{side}_overlap": f"overlap of {end}s", f"{side}_null_mean": f"{end}s, unrelated"}
        columns |= {f"{side}_base_mean": f"{end}s, given the base"}
    return rows[[*columns, "cosine"]].rename(columns=columns)


def _ranked_table(rows: pd.DataFrame) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "weight": rows["name"],
            "side": rows["side"],
            "RMS angle": rows["rms_angle"].map(math.degrees),
            "overlap": rows["overlap"],
            "unrelated": rows["overlap_null_mean"],
            "flag distance": rows["flag_distance"],
            "angle of first direction": rows["angle_1"].map(math.degrees),
            "undetermined": rows["undetermined"].astype(bool).astype(object),
            "|B − A| / |A|": rows["relative_norm"],
            "rank of B − A": rows["change_rank"],
        }
    )
    return table.dropna(axis="columns", how="all")


def _low_rank_table(deltas: pd.DataFrame) -> pd.DataFrame:
    rows = deltas[deltas["low_rank"]]
    columns = {"weight": rows["name"], "rank": rows["rank"], "effective rank": rows["effective_rank"]}
    columns |= {"|B − A| / |A|": rows["relative_norm"], "energy of first direction": rows["energy_1"]}
    for side, end in END.items():
        columns |= {
            f"{end}s inside": rows[f"{side}_inside"],
            f"{end}s inside, unrelated": rows[f"{side}_inside_null"],
            f"{end}s trailing": rows[f"{side}_trailing"],
            f"{end}s trailing, unrelated": rows[f"{side}_trailing_null"],
            f"{end} intruders": rows[f"{side}_intruders"].astype("Int64"),
        }
    return pd.DataFrame(columns)


def _summary_table(summary: pd.DataFrame) -> pd.DataFrame:
    # z grows with the number of layers and would hide all others.
    changed = summary[(summary["change"] != 0) & (summary["column"] != "abs_cos_1_z")]
    return changed.sort_values("change", key=lambda change: change.abs(), ascending=False, kind="stable").head(_SHOWN)


def _edge_table(pairs: pd.DataFrame) -> pd.DataFrame:
    rows = pairs[pairs["edge"].isin(["appeared", "vanished"])].head(_SHOWN)
    return rows[["source", "target", "kind", "edge", "overlap_a", "overlap_b", "overlap_null_mean"]].rename(
        columns={"overlap_a": "overlap in A", "overlap_b": "overlap in B", "overlap_null_mean": "unrelated"}
    )


def tensors_chart(comparison: Comparison) -> Spec | None:
    """Heat map of the size of each tensor's change, by part of a layer and by layer; None where no layer has any."""
    tensors = comparison.tensors
    rows = tensors[tensors["layer"].notna() & tensors["relative_norm"].notna()]
    if rows.empty:
        return None
    names = {version: Path(comparison.provenance[version]).name for version in rows["version"].unique()}
    spec = read_spec("tensors.vl.json")
    columns = ("tensor", "relative_norm", "rank", "rank_90", "rank_99")
    spec["datasets"] = {
        "tensors": [
            {"panel": f"{row['version'].upper()}: {names[row['version']]}", "layer": int(row["layer"])}
            | {"part": row["tensor"].partition(f".{row['layer']}.")[2] or row["tensor"]}
            | {"change": row["change"].replace("_", " ")}
            | {name: None if pd.isna(row[name]) else row[name] for name in columns}
            for row in rows.to_dict("records")
        ]
    }
    return spec


def drift_chart(comparison: Comparison) -> Spec:
    """Heat map of how far each leading subspace moved, by role and layer."""
    norms = comparison.deltas.set_index("name")["relative_norm"]
    whole = comparison.weights[comparison.weights["head"].isna() & comparison.weights["layer"].notna()]
    spec = read_spec("drift.vl.json")
    spec["datasets"] = {
        "drift": [
            {"panel": _SIDES[row["side"]], "name": row["name"], "role": row["role"], "layer": int(row["layer"])}
            | {"degrees": math.degrees(row["rms_angle"]), "first": math.degrees(row["angle_1"])}
            | {
                "flag_distance": number(row["flag_distance"]),
                "overlap": row["overlap"],
                "unrelated": row["overlap_null_mean"],
            }
            | {"undetermined": bool(row["undetermined"]), "relative_norm": number(norms[row["name"]])}
            for row in whole[whole["rms_angle"].notna()].to_dict("records")
        ]
    }
    spec["spec"]["encoding"]["y"]["sort"] = sorted(whole["role"].unique(), key=role_order)
    return spec
