"""Puts an analysis, the two Vega specifications and Vega itself into one file."""

import math
from pathlib import Path
from typing import Any

import networkx as nx
import pandas as pd

from ..alignment import OBSERVABLES
from ..graph import FALSE_DISCOVERY_RATE, STRONGEST
from ..network import ROLES, Side
from ..result import Analysis
from .findings import findings
from .parts import number, page_template, provenance_table, read_spec, script

# Edges visible when the page opens; the rest come with the slider.
_FIRST_VIEW = 300
_TABLE_EDGES = 30
_LANE_HEIGHT = 44


def _lane(role: str, side: str) -> str:
    return f"{role} {side}s"


_LANES = [_lane(role, side.value) for role in ROLES for side in Side]


def render_report(analysis: Analysis) -> str:
    """Page of an analysis: findings, continuity by role and depth, the alignment graph, how to read them.

    Parameters
    ----------
    analysis : Analysis
        Measured just now, or loaded from a folder.

    Returns
    -------
    html : str
        Self-contained: no request to a network, and no script of the checkpoint's can run in it (names
        are escaped, and the page's policy forbids everything that is not inline).
    """
    provenance = analysis.provenance
    stored = provenance["metadata"].get("tensor types")
    return page_template("report.html.j2").render(
        title=Path(provenance["checkpoint"]).name,
        subtitle=f"{provenance['layers']} layers of the {provenance['family']} family, "
        f"{len(analysis.weights)} weights at rank {provenance['rank']}"
        + (f"; stored as {stored}, de-quantised" if stored else ""),
        rank=provenance["rank"],
        false_discovery_rate=f"{FALSE_DISCOVERY_RATE:.0%}",
        strongest=STRONGEST,
        draws=provenance["draws"],
        findings=findings(analysis),
        summary=_summary_table(analysis.summary, shared_space=True),
        by_index=_summary_table(analysis.summary, shared_space=False),
        observables=OBSERVABLES,
        edges=_edge_table(analysis.graph),
        spaces=analysis.spaces,
        skipped=analysis.skipped,
        skipped_count=len(analysis.skipped),
        provenance=provenance_table(provenance),
        continuity_spec=script(_continuity_spec(analysis)),
        graph_spec=script(_graph_spec(analysis.graph)),
    )


def _continuity_spec(analysis: Analysis) -> dict[str, Any]:
    whole = analysis.weights[analysis.weights["head"].isna()].set_index(["role", "layer"])
    rank = analysis.provenance["rank"]
    measures = (
        ("first singular vectors: |cos|", "abs_cos_1", "null_mean", "null_sd"),
        (f"leading {rank}-dimensional subspaces: overlap", "overlap", "overlap_null_mean", "overlap_null_sd"),
    )
    shared = analysis.continuity[analysis.continuity["shared_space"]]
    margins = analysis.nulls[analysis.nulls["null"] == "margin_matched"].set_index(["role", "side", "measure"])["mean"]
    rows = [
        {
            "panel": _lane(row["role"], row["side"]),
            "layer": row["layer"],
            "next_layer": row["next_layer"],
            "measure": measure,
            "value": row[value],
            "chance": row[mean],
            "chance_low": max(0.0, row[mean] - 2 * row[spread]),
            "chance_high": min(1.0, row[mean] + 2 * row[spread]),
            "margin_matched": number(margins.get((row["role"], row["side"], value))),
            "undetermined": row["undetermined"] and value == "abs_cos_1",
            "channels": round(whole.loc[(row["role"], row["layer"]), f"{row['side']}_channels"]),
        }
        for measure, value, mean, spread in measures
        for row in shared[shared[value].notna()].to_dict("records")
    ]
    spec = read_spec("continuity.vl.json")
    spec["datasets"] = {"continuity": rows}
    if margins.empty:
        spec["spec"]["layer"] = [layer for layer in spec["spec"]["layer"] if layer.get("name") != "margin_matched"]
    spec["facet"]["sort"] = [lane for lane in _LANES if any(row["panel"] == lane for row in rows)]
    return spec


def _graph_spec(graph: "nx.MultiDiGraph[str]") -> dict[str, Any]:
    nodes = [
        {"name": name, "lane": _lane(node["role"], node["side"]), "edges": graph.degree(name)}
        | {key: node[key] for key in ("layer", "space", "rank", "dimension")}
        for name, node in graph.nodes(data=True)
        if graph.degree(name)
    ]
    place = {node["name"]: (node["layer"], node["lane"]) for node in nodes}
    edges = [
        {"source": source, "target": target, "kind": edge["kind"], "z": round(edge["z"], 1)}
        | {"overlap": round(edge["overlap"], 4), "adjusted": round(edge["adjusted_overlap"], 4)}
        | {"source_layer": place[source][0], "source_lane": place[source][1]}
        | {"target_layer": place[target][0], "target_lane": place[target][1]}
        for source, target, edge in graph.edges(data=True)
    ]
    edges.sort(key=lambda edge: edge["adjusted"])  # the strongest are drawn last, on top
    used = {node["lane"] for node in nodes}
    lanes = [{"lane": lane} for lane in _LANES if lane in used]
    data = {"lanes": lanes, "nodes": nodes, "edges": edges}
    spec = read_spec("graph.vg.json")
    spec["height"] = _LANE_HEIGHT * len(lanes)
    for source in spec["data"]:
        if source["name"] in data:
            source["values"] = data[source["name"]]
    threshold = spec["signals"][0]
    if edges:
        threshold["value"] = math.floor(100 * edges[-min(_FIRST_VIEW, len(edges))]["adjusted"]) / 100
        threshold["bind"]["max"] = math.ceil(100 * edges[-1]["adjusted"]) / 100
    return spec


def _summary_table(summary: pd.DataFrame, *, shared_space: bool) -> pd.DataFrame:
    if summary.empty:
        return pd.DataFrame()
    rows = summary[summary["shared_space"] == shared_space]
    table = pd.DataFrame(
        {
            "role and side": [_lane(role, side) for role, side in zip(rows["role"], rows["side"], strict=True)],
            "|cos| first": rows["abs_cos_1"],
            "chance": rows["null_mean"],
            "adjusted": rows["adjusted"],
            "margin-matched": rows["margin_matched"],
            "sign flip": rows["sign_flip"],
            "excess": rows["excess"],
            "equalised": rows["equalised"],
            "at chance": rows["at_chance"],
            "of steps": rows["layer_pairs"],
            "|cos| second": rows["abs_cos_2"],
            "σ²-weighted": rows["sigma2_weighted"],
            "overlap": rows["overlap"],
            f"{rows['far_lag'].max()}+ layers apart": rows["overlap_far"],
            "chance of overlap": rows["overlap_null_mean"],
            "channels": rows["channels"].round().astype("Int64"),
            "of": rows["dim"],
        }
    )
    # Sides without a common space have no overlap at a distance, and without draws there are no seeded nulls.
    return table.dropna(axis="columns", how="all")


def _edge_table(graph: "nx.MultiDiGraph[str]") -> pd.DataFrame:
    rows = sorted(graph.edges(data=True), key=lambda edge: -edge[2]["adjusted_overlap"])[:_TABLE_EDGES]
    return pd.DataFrame(
        [
            (source, target, edge["kind"], edge["overlap"], edge["adjusted_overlap"], round(edge["z"]))
            for source, target, edge in rows
        ],
        columns=["from", "to", "kind", "overlap", "adjusted", "z"],
    )
