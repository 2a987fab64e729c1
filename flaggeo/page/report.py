"""Puts an analysis, the Vega specifications and Vega itself into one file."""

from pathlib import Path

import networkx as nx
import pandas as pd

from ..alignment import observables
from ..alignment.experts.expert_table import ACROSS, WITHIN
from ..alignment.interfaces.leading_directions import INTERFACE_OVERLAP
from ..findings import Card, cards, graph_findings
from ..findings.finding import KEPT
from ..findings.repeats import repeats_findings, repeats_table
from ..findings.words import norm_gains
from ..graph import Structure
from ..graph.alignment_graph import FALSE_DISCOVERY_RATE, STRONGEST
from ..graph.stability import STABLE
from ..network import CHANGES_OF_BASIS, ROLE_RECORDS, BlockKind, SpaceKind
from ..network.coverage import Coverage
from ..network.families.lookup import read_as
from ..network.roles import bare, layers_by_tower, layers_in_words, tower_of
from ..results.analysis import Analysis
from ..settings import MEASUREMENTS
from .charts import (
    INTERFACE_MEASURES,
    continuity_chart,
    graph_chart,
    head_kinds,
    heads_chart,
    interface_curves_chart,
    interfaces_chart,
    lane,
    matrix_chart,
)
from .parts import page_template, provenance_tables, script
from .thumbnails import profile

_TABLE_ROWS = 30

# Sections of the page in order: anchor and title. One that has a chart is there if the chart is.
_SECTIONS = {
    "findings": "Findings",
    "graph": "Alignment graph",
    "continuity": "Continuity across layers",
    "matrix": "Overlap matrix",
    "heads": "Attention heads",
    "repeats": "What repeats",
    "experts": "Mixtures of experts",
    "interfaces": "Alignment inside MLPs and heads",
    "structure": "Graph statistics",
    "reading": "How to read the numbers",
}
# What the roles of each part of a network are, in the order in which the page says it.
_ROLES = {
    BlockKind.ATTENTION: "q, k, v and o are the query, key, value and output projections of attention",
    BlockKind.MLP: "gate, up and down are those of the MLP",
    BlockKind.CONVOLUTION: "conv_in and conv_out are the kernel of a convolution as a matrix, by the channels that it "
    "reads and by those that it writes",
    BlockKind.UNNAMED: "in reads a stream and out writes to one, map does neither or both, and behind the colon stands "
    "the module's own name",
}
# Sections that tell of a measurement which may not have been asked for.
_MEASURED = {"continuity": "continuity", "graph": "pairs", "structure": "structure"}
# What each measurement would say.
_ANSWERS = {
    "continuity": "whether a weight keeps its directions in the next layers",
    "pairs": "which subspaces of the network overlap",
    "heads": "which attention heads share subspaces, and which feed one another",
    "interfaces": "how weights that compose are aligned, inside MLPs and heads",
    "spectra": "on how many directions a weight is spread, and how alike whole spectra are",
    "structure": "hubs, communities, paths and bottlenecks of the alignment graph, against rewired graphs",
    "stability": "whether its edges would stand at other ranks and after rounding",
}
# Tables of the graph statistics in order, likewise.
_STATISTICS = {
    "edges": "Edges at other ranks and after rounding; those that do not hold up come first",
    "hubs": "Hubs, by measure",
    "communities": "Communities",
    "signal-paths": "Strongest paths",
    "decay": "Decay with depth",
    "bottlenecks": "Bottlenecks",
    "comparisons": "Measures of the whole graph against null graphs",
}


def render_report(analysis: Analysis) -> str:
    """Page of an analysis: findings, continuity, the alignment graph, heads, interfaces, how to read them.

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
    matrix, cells = matrix_chart(analysis)
    charts = {
        "continuity": continuity_chart(analysis),
        "graph": graph_chart(analysis),
        "matrix": matrix,
        "heads": heads_chart(analysis),
        "interfaces": interfaces_chart(analysis),
        "interface-curves": interface_curves_chart(analysis),
    }
    absent = {name for name in ("matrix", "heads", "interfaces") if charts[name] is None}
    absent |= {name for name, measurement in _MEASURED.items() if measurement not in analysis.settings.measure}
    absent |= {"experts"} if analysis.experts.empty else set()
    absent |= {"repeats"} if {"heads", "structure"}.isdisjoint(analysis.settings.measure) else set()
    return page_template("report.html.j2").render(
        title=Path(provenance["checkpoint"]).name,
        about="alignment of its weights",
        subtitle=_subtitle(analysis),
        roles=_roles(analysis),
        sections={anchor: title for anchor, title in _SECTIONS.items() if anchor not in absent},
        rank=analysis.settings.rank,
        discovery_rate=f"{FALSE_DISCOVERY_RATE:.0%}",
        large=KEPT,
        strongest=STRONGEST,
        draws=analysis.settings.draws,
        norm_gains=norm_gains(analysis.settings.fold_norms),
        findings=analysis.findings,
        cards=[(card, profile(card, analysis.continuity)) for card in report_cards(analysis)],
        summary=_summary_table(analysis.summary, shared_space=True),
        by_index=_summary_table(analysis.summary, shared_space=False),
        readings=_readings_table(analysis.readings),
        edges=_edge_table(analysis.graph),
        head_links=_head_links(analysis.heads),
        head_kinds=analysis.head_kinds,
        repeats=repeats_table(analysis),
        repeats_findings=repeats_findings(analysis),
        matched_experts=_matched_experts(analysis.experts),
        similar_experts=_similar_experts(analysis.experts),
        interfaces=_interface_table(analysis.interfaces),
        interface_curves=charts["interface-curves"] is not None,
        graph_findings=graph_findings(analysis.structure) if "structure" not in absent else [],
        statistics=_statistics(analysis.structure) if "structure" not in absent else {},
        statistics_titles=_STATISTICS,
        linked=_SECTIONS | _STATISTICS,
        observables=observables(),
        spaces=analysis.spaces.replace({"symmetry": CHANGES_OF_BASIS}),
        skipped=analysis.skipped,
        unused=_unused(Coverage(**provenance["coverage"])),
        provenance=provenance_tables(provenance),
        data=script({"charts": charts, "matrix": cells}),
    )


def report_cards(analysis: Analysis) -> list[Card]:
    """What the page opens with, and the terminal and a notebook show: see `flaggeo.findings.cards`."""
    return cards(analysis.findings, _not_measured(analysis))


def _subtitle(analysis: Analysis) -> str:
    """What the model is, in one line."""
    provenance = analysis.provenance
    stored = provenance["metadata"].get("tensor types")
    heads = analysis.attention_heads
    places = analysis.weights[["role", "layer"]].dropna().itertuples(index=False)
    layers = layers_by_tower((tower_of(role), layer) for role, layer in places)
    return (
        f"{layers_in_words(layers)}, {read_as(provenance['family'])}, "
        f"{(analysis.weights['head'].isna() & analysis.weights['stacked'].isna()).sum()} weights"
        + (f" and {heads} attention heads" if heads else "")
        + f" at rank {analysis.settings.rank}"
        + (f"; stored as {stored}, de-quantised" if stored else "")
        + f"; {Coverage(**provenance['coverage'])}"
    )


def _unused(coverage: Coverage) -> str:
    """How much the tensors hold that no weight uses; empty where that is nothing."""
    if not coverage.left_out:
        return ""
    share = coverage.left_out / coverage.total
    return f"{coverage.left_out:,} of {coverage.total:,} parameters, " + (
        "less than 0.01%" if share < 1e-4 else f"{share:.2%}"
    )


def _not_measured(analysis: Analysis) -> dict[str, str]:
    """What the page does not tell, by the name of the measurement that would."""
    return {name: _ANSWERS[name] for name in MEASUREMENTS if name not in analysis.settings.measure}


def _roles(analysis: Analysis) -> str:
    """What the names of the roles mean that there are."""
    blocks = {ROLE_RECORDS[bare(role)].block for role in analysis.weights["role"]}
    words = "; ".join(text for block, text in _ROLES.items() if block in blocks)
    streams = int((analysis.spaces["kind"] == SpaceKind.STREAM.value).sum())
    one = "All of them read from or write to one residual stream."
    several = "Each tower has a residual stream of its own, and its name stands before those of its roles."
    sentences = [f"{words}." if words else "", one if streams == 1 else several if streams else ""]
    return " ".join(filter(None, sentences))


def _summary_table(summary: pd.DataFrame, *, shared_space: bool) -> pd.DataFrame:
    if summary.empty:
        return pd.DataFrame()
    rows = summary[summary["shared_space"] == shared_space]
    table = pd.DataFrame(
        {
            "role and side": [lane(role, side) for role, side in zip(rows["role"], rows["side"], strict=True)],
            "|cos| of first": rows["abs_cos_1"],
            "unrelated": rows["abs_cos_1_null_mean"],
            "effect size": rows["abs_cos_1_effect_size"],
            "mean-matched": rows["abs_cos_1_mean_matched_mean"],
            "norm-matched": rows["abs_cos_1_norm_matched_mean"],
            "sign-flip": rows["abs_cos_1_sign_flip_mean"],
            "excess": rows["abs_cos_1_excess"],
            "equalised": rows["abs_cos_1_equalised"],
            "significant": _counted(rows),
            "|cos| of second": rows["abs_cos_2"],
            "σ²-weighted": rows["sigma2_weighted"],
            "overlap": rows["overlap"],
            f"overlap {rows['far_lag'].max()}+ layers apart": rows["overlap_far"],
            "unrelated overlap": rows["overlap_null_mean"],
            "channels": rows["channels"].round().astype("Int64"),
            "of": rows["dim"],
            "mean share": rows["mean_share"],
            "basis-independent": rows["basis_independent"],
        }
    )
    # Sides without a common space have no overlap at a distance, and without draws nothing is equalised.
    return table.dropna(axis="columns", how="all")


def _readings_table(readings: pd.DataFrame) -> pd.DataFrame:
    rows = readings.sort_values(["side", "role"], kind="stable")
    return pd.DataFrame(
        {
            "role and side": [lane(role, side) for role, side in zip(rows["role"], rows["side"], strict=True)],
            "reading": rows["reading"],
            "|cos| of first": rows["abs_cos_1"],
            "unrelated": rows["abs_cos_1_null_mean"],
            "mean-matched": rows["abs_cos_1_mean_matched_mean"],
            "norm-matched": rows["abs_cos_1_norm_matched_mean"],
            "sign-flip": rows["abs_cos_1_sign_flip_mean"],
            "excess": rows["abs_cos_1_excess"],
            "equal norms": rows["abs_cos_1_equalised"],
            "significant": _counted(rows),
        }
    )


def _counted(rows: pd.DataFrame) -> "pd.Series[str]":
    """Significant layer pairs of all that there are; missing where they are not comparable."""
    counts = rows["significant_pairs"].astype("string") + " of " + rows["layer_pairs"].astype("string")
    return counts.where(rows["significant_pairs"].notna())


def _edge_table(graph: "nx.MultiDiGraph[str]") -> pd.DataFrame:
    """The strongest edges, and whether they are stable where that was measured."""
    rows = sorted(graph.edges(data=True), key=lambda edge: -edge[2]["overlap_excess"])[:_TABLE_ROWS]
    columns = {
        "overlap": "overlap",
        "effect size": "overlap_effect_size",
        "excess": "overlap_excess",
        "smallest angle (rad)": "smallest_angle",
        "basis-independent": "basis_independent",
        "stable": STABLE,
    }
    return pd.DataFrame(
        [
            {"from": source, "to": target, "kind": edge["kind"], "space": graph.nodes[source]["space"]}
            | {title: edge[name] for title, name in columns.items() if name in edge}
            for source, target, edge in rows
        ]
    )


def _head_links(heads: pd.DataFrame) -> pd.DataFrame:
    """The strongest few links of each kind, from writing heads to reading ones first."""
    strongest = [heads[heads["kind"] == kind].nlargest(5, "overlap_excess") for kind in head_kinds(heads)]
    links = pd.concat(strongest or [heads], ignore_index=True)
    smaller = links[["source_rank", "target_rank"]].min(axis=1)
    nulls = {
        f"kernel_{null}": smaller * links[f"overlap_{null}"]
        for null in ("sign_flip_mean", "mean_matched_mean", "norm_matched_mean")
    }
    columns = ["kind", "source", "target", "kernel", "kernel_null_mean", *nulls, "overlap_excess", "overlap_q_value"]
    return links.assign(**nulls)[[*columns, "composition_score", "basis_independent"]]


def _matched_experts(experts: pd.DataFrame) -> pd.DataFrame:
    """Means over the layer pairs by role, beside what the same matching gives of unrelated experts."""
    rows = experts[experts["kind"] == ACROSS]
    return pd.DataFrame(
        {
            "role and side": lane(str(role), str(side)),
            "layer pairs": len(of_role),
            "matched overlap": of_role["matched_overlap"].mean(),
            "unrelated": of_role["matched_overlap_null_mean"].mean(),
            "sign-flip": of_role["matched_overlap_sign_flip_mean"].mean(),
            "mean-matched": of_role["matched_overlap_mean_matched_mean"].mean(),
            "excess": of_role["matched_overlap_excess"].mean(),
            "any two experts": of_role["overlap"].mean(),
            "excess of the gain": of_role["matched_gain_excess"].mean(),
            "significant": f"{_significant_rows(of_role)} of {len(of_role)}",
        }
        for (role, side), of_role in rows.groupby(["role", "side"], sort=False)
    )


def _significant_rows(experts: pd.DataFrame) -> int:
    q_values = experts[["matched_overlap_q_value", "matched_gain_q_value"]].max(axis=1)
    return int((q_values <= FALSE_DISCOVERY_RATE).sum())


def _similar_experts(experts: pd.DataFrame) -> pd.DataFrame:
    """Layers whose closest two experts are closest, and how alike any two experts of them are."""
    rows = experts[experts["kind"] == WITHIN].nlargest(_TABLE_ROWS, "largest_overlap")
    return pd.DataFrame(
        {
            "role and side": [lane(role, side) for role, side in zip(rows["role"], rows["side"], strict=True)],
            "layer": rows["layer"],
            "closest experts": rows["closest_expert"].astype(str) + " and " + rows["closest_next_expert"].astype(str),
            "their overlap": rows["largest_overlap"],
            "q-value": rows["closest_q_value"],
            "pairs alike": rows["alike"],
            "of": rows["experts"] * (rows["experts"] - 1) // 2,
            "any two experts": rows["overlap"],
            "unrelated": rows["overlap_null_mean"],
            "excess": rows["overlap_excess"],
        }
    )


def _interface_table(interfaces: pd.DataFrame) -> pd.DataFrame:
    """Means over layers and heads by kind, each number beside what unrelated weights give."""
    keys = ["kind", "gauge_fixed", "basis_independent"]
    means = interfaces.drop(columns=["name", "space"]).groupby(keys, sort=False).mean(numeric_only=True).reset_index()
    table = means[["kind"]].assign(
        measured=["after balancing" if fixed else "as stored" for fixed in means["gauge_fixed"]]
    )
    for title, measure in INTERFACE_MEASURES.items():
        values, nulls = means[measure.column], means[measure.null_column]
        # Two subspaces that fill their space overlap whatever the weights are.
        filled = nulls.gt(1 - 1e-6) & (measure is INTERFACE_OVERLAP)
        table[title] = [
            "–" if fills else f"{value:.3f} ({null:.3f})"
            for value, null, fills in zip(values, nulls, filled, strict=True)
        ]
    return table.assign(basis_independent=means["basis_independent"])


def _hubs(hubs: pd.DataFrame) -> pd.DataFrame:
    """The strongest few of each measure that exceed any subspace of the null graphs."""
    beyond = hubs[hubs["value"] > hubs["null_largest"]]
    # The name of a head has its number.
    return beyond.groupby("measure", sort=False).head(8).drop(columns="head").dropna(axis="columns", how="all")


def _statistics(structure: Structure) -> dict[str, pd.DataFrame]:
    """The tables behind the findings about the graph, as far as they have rows."""
    measured = structure.edges.dropna(subset=STABLE).sort_values(STABLE, kind="stable")
    tables = {
        "edges": _without_marks(measured).drop(columns="space").head(_TABLE_ROWS),
        "hubs": _hubs(structure.hubs),
        "communities": structure.communities,
        "signal-paths": structure.signal_paths.head(_TABLE_ROWS),
        "decay": structure.decay,
        "bottlenecks": structure.bottlenecks,
        "comparisons": structure.comparisons,
    }
    return {anchor: tables[anchor] for anchor in _STATISTICS if len(tables[anchor])}


def _without_marks(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the -1 that the graph has, since GraphML knows no missing number, where there is no head."""
    marked = [name for name in map(str, table.columns) if name == "head" or name.endswith("_head")]
    return table.assign(**{column: table[column].astype("Int64").mask(table[column] < 0) for column in marked})
