"""Puts a comparison, its heat map and Vega itself into one file."""

import math
from pathlib import Path
from typing import Any

import pandas as pd

from ..comparison import Comparison
from ..comparison.change import WHOLE_UP_TO
from ..comparison.delta import COUNTED
from ..findings import SAME_ANGLE, comparison_findings
from ..findings.words import END, norm_gains
from ..network.families.lookup import read_as
from ..network.roles import role_order
from .parts import number, page_template, provenance_table, read_spec, script

_SHOWN = 30
_SIDES = {"read": "input subspaces", "write": "output subspaces"}

# Sections of the page in order: anchor and title.
_SECTIONS = {
    "findings": "Findings",
    "drift": "How far each subspace moved",
    "low-rank": "Changes of low rank",
    "measurements": "All measurements in both networks",
    "reading": "How to read the numbers",
}


def render_comparison(comparison: Comparison) -> str:
    """Page of a comparison: findings, ranked table, heat map of the distances, low-rank changes, other numbers.

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
    names = [Path(provenance[version]).name for version in "ab"]
    return page_template("comparison.html.j2").render(
        title=f"{names[0]} and {names[1]}",
        about="how far their subspaces moved",
        sections=_SECTIONS,
        names=names,
        stored=provenance["stored"],
        subtitle=f"{read_as(provenance['family'])}, {comparison.weights['name'].nunique()} weights at rank "
        f"{comparison.settings.rank}",
        rank=comparison.settings.rank,
        shown=_SHOWN,
        findings=comparison_findings(comparison),
        remarks=provenance["remarks"],
        ranked=_ranked_table(comparison.ranked),
        low_rank=_low_rank_table(comparison.deltas),
        counted=COUNTED,
        whole_up_to=WHOLE_UP_TO,
        measured=provenance["deltas"] == "measured",
        observables=comparison.observables.drop(columns=["table", "column"]),
        summary=_summary_table(comparison.summary),
        edges=_edge_table(comparison.pairs),
        skipped=comparison.skipped,
        norm_gains=norm_gains(comparison.settings.fold_norms),
        provenance=provenance_table(provenance),
        data=script({"charts": {"drift": _drift_chart(comparison)}}),
    )


def _ranked_table(ranked: pd.DataFrame) -> pd.DataFrame:
    rows = ranked[ranked["rms_angle"] >= SAME_ANGLE].head(_SHOWN)
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


def _drift_chart(comparison: Comparison) -> dict[str, Any]:
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
