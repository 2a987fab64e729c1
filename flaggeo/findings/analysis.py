"""What an analysis found: continuity across layers, overlaps, heads, and what limits these numbers."""

from typing import Any

import numpy as np
import pandas as pd

from ..alignment import SEEDED_NULLS, effect_size
from ..alignment.interfaces.composable import INTERFACE_KINDS
from ..alignment.interfaces.interface_table import balanced
from ..graph import NULL_MEANS
from ..graph.alignment_graph import FALSE_DISCOVERY_RATE
from ..network.roles import are_of_one_role, head_pair
from ..results.analysis import Analysis
from .continuity import at_face_value, continuity
from .experts import matched_experts, stacked_continuity
from .finding import KEPT, LEAST_EXCESS, LITTLE, Finding, large_or_small

# Layers that a mean over them needs before it is held against its error.
_ENOUGH_LAYERS = 5
_STANDARD_ERRORS = 3
_STRONGEST_LINKS = 3


def findings(analysis: Analysis) -> list[Finding]:
    """What an analysis found, the most important first.

    Parameters
    ----------
    analysis : Analysis

    Returns
    -------
    findings : list of Finding
        Their places are sections of the page of `flaggeo.render_report`.
    """
    tables = (analysis.continuity, analysis.pairs, analysis.interfaces, analysis.heads, analysis.experts)
    if all(table.empty for table in tables):
        return [Finding("comparable_weights", "absent", {}, "continuity")]
    return [
        *continuity(analysis),
        *(stacked_continuity(analysis.summary) if len(analysis.summary) else []),
        *matched_experts(analysis.experts),
        *_alignment_over_depth(analysis),
        *_strongest_overlaps(analysis),
        *_heads(analysis),
        *_composed_weights(analysis.interfaces),
        *_basis_independence(analysis),
        *_p_value_resolution(analysis),
    ]


def _alignment_over_depth(analysis: Analysis) -> list[Finding]:
    """Neighbours against layers half the network apart: alignment that decays, or one subspace for all layers."""
    if analysis.summary.empty:
        return []
    rows = analysis.summary[analysis.summary["shared_space"] & ~analysis.summary["stacked"]]
    # A mean over roles has none in it of which another finding says that its numbers are not what they seem to be.
    trusted = pd.MultiIndex.from_frame(rows[["role", "side"]]).isin(at_face_value(analysis))
    rows = rows[rows["overlap_far"].notna() & trusted]
    nulls = analysis.continuity_nulls
    nulls = nulls[nulls["null"].isin(SEEDED_NULLS) & (nulls["measure"] == "overlap")]
    largest = nulls.groupby(["role", "side"])["mean"].max()
    keys = pd.MultiIndex.from_frame(rows[["role", "side"]])
    closed = rows[["overlap_null_mean", "overlap_mean_matched_mean"]].max(axis=1)
    null = np.fmax(closed.to_numpy(), largest.reindex(keys).to_numpy(dtype=float))
    effects = rows[["overlap", "overlap_far"]].sub(null, axis=0).div(1 - null, axis=0)
    effects = effects[effects["overlap"] >= LITTLE]
    if effects.empty:
        return []
    near, far = effects["overlap"].mean(), effects["overlap_far"].mean()
    numbers = {
        "roles": rows.loc[effects.index, "role"].tolist(),
        "near": near,
        "far": far,
        "layers_apart": rows["far_lag"].iloc[0],
    }
    return [Finding("alignment_over_depth", "decays" if far < near / 2 else "persists", numbers, "continuity")]


def _strongest_overlaps(analysis: Analysis) -> list[Finding]:
    """Largest overlap of two kinds among the spaces that may be rotated at most, if the graph has it."""
    rotated = analysis.spaces.loc[analysis.spaces["overlap_basis_independent"], "name"]
    columns = analysis.pairs[["source", "target", "kind", "overlap", "overlap_null_mean", "overlap_excess"]]
    comparable = columns[analysis.pairs["space"].isin(rotated) & analysis.pairs["overlap_excess"].notna()]
    found = []
    for kind in ("write-read", "read-read"):
        pairs = comparable[comparable["kind"] == kind]
        if pairs.empty:
            continue
        largest = pairs.nlargest(1, "overlap").to_dict("records")[0]
        if analysis.graph.has_edge(largest["source"], largest["target"], key=kind):
            numbers = {name: largest[name] for name in ("source", "target", "overlap")}
            numbers |= {"pair_kind": kind, "unrelated": largest["overlap_null_mean"], "pairs": len(pairs)}
            numbers |= {"excess": largest["overlap_excess"]}
            found.append(Finding("strongest_overlap", large_or_small(largest["overlap_excess"]), numbers, "graph"))
    return found


def _heads(analysis: Analysis) -> list[Finding]:
    """Which heads feed which, and which do the same, at the full width of the heads."""
    if analysis.heads.empty:
        return []
    return [*_feeding_heads(analysis.heads), *_similar_heads(analysis.head_kinds), *_redundant(analysis.head_clusters)]


def _feeding_heads(heads: pd.DataFrame) -> list[Finding]:
    feeding = heads[
        ~heads["kind"].map(are_of_one_role).astype(bool) & (heads["overlap_q_value"] <= FALSE_DISCOVERY_RATE)
    ]
    strongest = feeding[feeding["overlap_excess"] > 0].nlargest(_STRONGEST_LINKS, "overlap_excess")
    if strongest.empty:
        return []
    links = [
        {"source": row["source"], "target": row["target"], "shared": row["kernel"]}
        | {"dimensions": min(row["source_rank"], row["target_rank"]), "excess": row["overlap_excess"]}
        for row in strongest.to_dict("records")
    ]
    numbers = {"links": links, "significant": len(feeding), "unrelated": strongest["kernel_null_mean"].max()}
    smaller = strongest[["source_rank", "target_rank"]].min(axis=1)
    numbers |= {"largest_null": np.nanmax(strongest[list(NULL_MEANS)].mul(smaller, axis=0))}
    return [Finding("heads_feeding", large_or_small(links[0]["excess"]), numbers, "heads")]


def _similar_heads(kinds: pd.DataFrame) -> list[Finding]:
    """Heads of one role, on average over all pairs of them."""
    rows = kinds[kinds["kind"].map(are_of_one_role).astype(bool)]
    if rows.empty:
        return []
    roles = [
        {"role": head_pair(row["kind"])[0], "shared": row["kernel"], "excess": row["overlap_excess"]}
        for row in rows.to_dict("records")
    ]
    numbers = {
        "roles": roles,
        "unrelated": rows["kernel_null_mean"].iloc[0],
        "largest_null": np.nanmax(rows[[f"kernel_{null}_mean" for null in ("null", "mean_matched", *SEEDED_NULLS)]]),
    }
    verdict = "present" if rows["overlap_excess"].max() >= LEAST_EXCESS else "absent"
    return [Finding("similar_heads", verdict, numbers, "heads")]


def _redundant(groups: pd.DataFrame) -> list[Finding]:
    if groups.empty:
        return []
    closest = groups.nlargest(1, "overlap_effect_size").iloc[0]
    excess = closest["overlap_excess"]
    verdict = "present" if excess >= KEPT else "explained_by_outlier_channels"
    if np.isnan(excess):  # heads that nearly fill the space leave no room above the largest null
        verdict = "undetermined"
    numbers = {"groups": len(groups), "heads": closest["heads"].split(", ")}
    numbers |= {"effect_size": closest["overlap_effect_size"], "excess": excess}
    return [Finding("redundant_heads", verdict, numbers, "repeats")]


def _composed_weights(interfaces: pd.DataFrame) -> list[Finding]:
    """Whether a weight and the one that reads it are aligned, by kind of interface, and how much."""
    shown = balanced(interfaces[interfaces["kind"].isin(INTERFACE_KINDS)])
    shown = shown[shown["overlap_null_sd"] > 0]
    nulls = ["overlap_null_mean", "overlap_sign_flip_mean", "overlap_mean_matched_mean"]
    kinds, seemingly, aligned, under, below = [], [], [], [], []
    for kind, rows in shown.groupby("kind", sort=False):
        smallest, largest = rows[nulls].min(axis=1), rows[nulls].max(axis=1)
        if _beyond(rows, rows[nulls[:2]].max(axis=1)):
            seemingly.append(kind)
        if _beyond(rows, largest):
            aligned.append(kind)
        if _beyond(rows, smallest, sign=-1):
            below.append(kind)
        elif _beyond(rows, largest, sign=-1):
            under.append(kind)
        means = rows[["overlap", *nulls]].mean()
        row = dict(zip(("overlap", "unrelated", "sign_flip", "mean_matched"), means, strict=True))
        kinds.append({"kind": kind} | row | {"excess": effect_size(means["overlap"], means[nulls].max())})
    small = [row["kind"] for row in kinds if row["kind"] in aligned and row["excess"] < KEPT]
    verdict = "present" if len(small) < len(aligned) else "small"
    if not aligned and seemingly:
        verdict, aligned = "explained_by_common_mean", seemingly
    elif not aligned:
        verdict = "below_chance"
    if not aligned and not below:
        return []
    numbers = {"kinds": kinds, "aligned": aligned, "small": small, "under_null": under, "below_chance": below}
    numbers |= {"standard_errors": _STANDARD_ERRORS}
    return [Finding("composed_weights", verdict, numbers, "interfaces")]


def _beyond(rows: pd.DataFrame, null: "pd.Series[float]", sign: int = 1) -> bool:
    """Whether the overlap of one kind of interface is above a null, or below it, on average over the layers."""
    difference = sign * (rows["overlap"] - null)
    # Heads of a layer may depend on each other, and few layers may vary less than unrelated ones would.
    layers = difference.groupby(rows["layer"]).mean()
    unrelated = (rows["overlap_null_sd"].pow(2).mean() / len(rows)) ** 0.5
    error = max(layers.std() / len(layers) ** 0.5, unrelated) if len(layers) > 1 else np.inf
    # What lies so little below a null is said to be as much as it.
    least = _STANDARD_ERRORS * error if sign > 0 else max(_STANDARD_ERRORS * error, LEAST_EXCESS * (1 - null.mean()))
    return bool(len(layers) >= _ENOUGH_LAYERS and layers.mean() > least)


def _basis_independence(analysis: Analysis) -> list[Finding]:
    """What of all this another checkpoint of the same function could change."""
    tables = {"pairs of leading subspaces": analysis.pairs, "pairs of heads": analysis.heads}
    tables |= {"interfaces": analysis.interfaces, "comparisons of experts": analysis.experts}
    shares = {what: table["basis_independent"].mean() for what, table in tables.items() if len(table)}
    if not shares or min(shares.values()) == 1:
        return []
    numbers = {"shares": shares, "fold_norms": analysis.settings.fold_norms}
    return [Finding("basis_independence", "partial", numbers, "reading")]


def _p_value_resolution(analysis: Analysis) -> list[Finding]:
    """Rows whose nulls are too coarse for any alignment to be significant."""
    found = []
    for table, column, what, place in (
        (analysis.continuity, "abs_cos_1_p_value_floor", "layer pair", "continuity"),
        (analysis.pairs, "overlap_p_value_floor", "pair of subspaces", "graph"),
        (analysis.heads, "overlap_p_value_floor", "pair of heads", "heads"),
    ):
        floors = table[column].dropna()
        coarse = floors[floors > FALSE_DISCOVERY_RATE]
        if len(coarse):
            numbers: dict[str, Any] = {"what": what, "rows": len(coarse), "of": len(floors)}
            numbers |= {"smallest_floor": float(coarse.min()), "false_discovery_rate": FALSE_DISCOVERY_RATE}
            found.append(Finding("p_value_resolution", "undetermined", numbers, place))
    return found
