"""What the alignment graph says about the network as a whole."""

from math import isnan
from typing import Any

import pandas as pd

from ..graph.stability import STABLE, STANDS
from ..graph.structure import Structure
from .finding import LEAST_EXCESS, Finding

#: Spreads of the null from which a number is said to differ from it; below, the verdict is that it does not.
FAR = 3.0
#: Share of the dimensions that the null gives, from which subspaces are said to use fewer than it.
CLEARLY_BELOW = 0.9
#: Share of pairs with a norm-matched null, from which outlier channels are said not to account for a bottleneck.
MOSTLY_MATCHED = 0.5
_ROLES_WITH_LENGTH = 4
_SIMILAR_LAYERS = 3


def graph_findings(structure: Structure) -> list[Finding]:
    """What the alignment graph says, the most important first; every number stands in a table of `structure`.

    Strengths are excesses over the largest null of each pair, see `Structure`. A null graph that a number is held
    against stands beside it.

    Parameters
    ----------
    structure : Structure

    Returns
    -------
    findings : list of Finding
        Their places are tables in the graph statistics of the page. Empty where nothing could be compared.
    """
    return [
        *_hubs(structure.hubs),
        *_stable_edges(structure.edges),
        *_communities(structure.comparisons, structure.communities),
        *_bottlenecks(structure.bottlenecks),
        *_decay(structure.decay),
        *_redundant_groups(structure.cliques, structure.comparisons),
        *_strongest_path(structure.signal_paths, structure.comparisons),
        *_similar_layers(structure.blocks),
        *_norm_matched_missing(structure.bottlenecks),
    ]


def _measures(comparisons: pd.DataFrame, edges: str) -> dict[str, dict[str, Any]]:
    """Measures of these edges by name, each with its value and what null graphs give."""
    rows = comparisons[comparisons["edges"] == edges].to_dict("records")
    return {str(row["measure"]): _against_null(row) for row in rows}


def _against_null(row: dict[Any, Any]) -> dict[str, Any]:
    return {"value": row["value"], "random": row["null_mean"], "random_sd": row["null_sd"], "z": row["z"]}


def _hubs(hubs: pd.DataFrame) -> list[Finding]:
    """The strongest output and the strongest input of write-read edges, if stronger than any placed at random."""
    strong = hubs[
        (hubs["measure"] == "strength") & (hubs["kind"] == "write-read") & (hubs["value"] > hubs["null_largest"])
    ]
    found = []
    for side in ("write", "read"):
        for row in strong[strong["side"] == side].head(1).to_dict("records"):
            numbers = {"name": row["subspace"].removesuffix(f".{side}"), "side": side, "edges": row["edges"]}
            numbers |= {"strength": row["value"], "random": row["null_mean"], "largest_random": row["null_largest"]}
            numbers |= {"stable_strength": row["stable_value"]}
            found.append(Finding("hub", "present", numbers, "hubs"))
    return found


def _stable_edges(edges: pd.DataFrame) -> list[Finding]:
    """How many edges would stand, where that was measured."""
    if edges.empty or edges[STABLE].isna().any():
        return []
    numbers = {"edges": len(edges)} | {name: edges[name].sum() for name in (*STANDS.values(), STABLE)}
    return [Finding("stable_edges", "present" if edges[STABLE].any() else "absent", numbers, "edges")]


def _communities(comparisons: pd.DataFrame, communities: pd.DataFrame) -> list[Finding]:
    measured = _measures(comparisons, "symmetric")
    if not measured or isnan(measured["modularity"]["z"]):
        return []
    sizes = communities.loc[communities["edges"] == "symmetric", "size"]
    numbers = {"communities": len(sizes), "largest": sizes.max(), "modularity": measured["modularity"]}
    numbers |= {"roles": measured["nmi role"], "layers": measured["nmi layer"], "depth": measured["depth"]}
    return [
        Finding("communities", "present" if measured["modularity"]["z"] >= FAR else "absent", numbers, "communities")
    ]


def _bottlenecks(bottlenecks: pd.DataFrame) -> list[Finding]:
    """The space that most subspaces lie in, for what is read and for what is written."""
    if bottlenecks.empty:
        return []
    busiest = bottlenecks["space"].iloc[int(bottlenecks["subspaces"].argmax())]
    found = []
    for row in bottlenecks[bottlenecks["space"] == busiest].to_dict("records"):
        numbers = {name: row[name] for name in ("space", "side", "subspaces", "dimension", "largest_null")}
        numbers |= {"effective_dimension": row["value"], "unrelated": row["null_mean"]}
        found.append(Finding("bottleneck", _bottleneck_verdict(row), numbers, "bottlenecks"))
    return found


def _bottleneck_verdict(row: dict[Any, Any]) -> str:
    if row["value"] > CLEARLY_BELOW * row["null_mean"]:
        return "absent"
    if row["share_of_null"] > CLEARLY_BELOW:
        by_outliers = row["value"] > CLEARLY_BELOW * row["outlier_null"]
        return "explained_by_outlier_channels" if by_outliers else "explained_by_common_mean"
    return "undetermined" if row["matched"] < MOSTLY_MATCHED else "present"


def _decay(decay: pd.DataFrame) -> list[Finding]:
    same = decay[(decay["source_role"] == decay["target_role"]) & decay["length"].notna()]
    same = same[same["nearest"] >= LEAST_EXCESS].sort_values("nearest", ascending=False)
    found = []
    for kind, side in (("read-read", "read"), ("write-write", "write")):
        rows = same[same["kind"] == kind].head(_ROLES_WITH_LENGTH)
        if len(rows):
            roles = rows[["source_role", "length", "nearest", "r_squared"]].rename(columns={"source_role": "role"})
            numbers = {"side": side, "roles": roles.to_dict("records")}
            found.append(Finding("decay_length", "present", numbers, "decay"))
    return found


def _redundant_groups(cliques: pd.DataFrame, comparisons: pd.DataFrame) -> list[Finding]:
    if cliques.empty:
        return []
    measured = _measures(comparisons, "redundant heads")
    largest = cliques[cliques["clique"] == 0]
    numbers: dict[str, Any] = {"pairs": measured["redundant pairs"], "larger_groups": measured["redundant groups"]}
    numbers |= {"heads": largest["subspace"].tolist(), "least_excess": largest["least"].iloc[0]}
    return [Finding("redundant_groups", "present", numbers, "repeats")]


def _strongest_path(paths: pd.DataFrame, comparisons: pd.DataFrame) -> list[Finding]:
    if paths.empty:
        return []
    best = paths[paths["path"] == 0]
    against = _measures(comparisons, "write-read")["strength of the strongest path"]
    numbers = {
        "subspaces": [best["source"].iloc[0], *best["target"]],
        "strength": best["strength"].iloc[0],
        "tied": (best["kind"] == "write-write").any(),
        "random": against["random"],
        "random_sd": against["random_sd"],
    }
    verdict = "undetermined" if isnan(against["z"]) else "present" if against["z"] >= FAR else "absent"
    return [Finding("strongest_path", verdict, numbers, "signal-paths")]


def _similar_layers(blocks: pd.DataFrame) -> list[Finding]:
    # Layers that share hardly more than the largest null gives are not similar, even if others share less.
    similar = blocks[(blocks["value"] > blocks["null_largest"]) & (blocks["value"] >= LEAST_EXCESS)]
    similar = similar.head(_SIMILAR_LAYERS)
    if blocks.empty:
        return []
    if similar.empty:
        return [Finding("similar_layers", "absent", {}, "repeats")]
    pairs = similar[["layer", "next_layer", "value"]].rename(columns={"value": "mean_excess"}).to_dict("records")
    numbers = {"pairs": pairs, "largest_elsewhere": similar["null_largest"].iloc[0]}
    return [Finding("similar_layers", "present", numbers, "repeats")]


def _norm_matched_missing(bottlenecks: pd.DataFrame) -> list[Finding]:
    """Where the null that knows most of outlier channels is missing from most pairs."""
    if (bottlenecks["matched"] >= MOSTLY_MATCHED).all():
        return []
    numbers = {"share_matched": bottlenecks["matched"].min()}
    return [Finding("norm_matched_null", "undetermined", numbers, "bottlenecks")]
