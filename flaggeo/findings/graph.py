"""What the network of subspaces says, in plain words with their numbers."""

from math import isnan
from typing import Any

import pandas as pd

from ..graph.structure import Structure

#: Spreads of the null from which a number is said to differ from it; below, the sentence says that it does not.
FAR = 3.0
#: Share of the dimensions that the null gives, from which readings or writings are said to use fewer than it.
CLEARLY_BELOW = 0.9
#: Share of pairs with a margin-matched null, from which loud channels are said not to account for a bottleneck.
MOSTLY_MATCHED = 0.5


def sentences(structure: Structure) -> list[str]:
    """Few plain sentences, the most important first; every number in them stands in a table of `structure`.

    Strengths in them are excesses over the largest null of each pair, see `Structure`; a null graph that one is held
    against is named beside it.

    Parameters
    ----------
    structure : Structure

    Returns
    -------
    sentences : list of str
        Plain text: names from the checkpoint are not escaped. Empty where nothing could be compared.
    """
    return [
        *_hubs(structure.hubs),
        *_communities(structure.comparisons, structure.communities),
        *_bottlenecks(structure.bottlenecks),
        *_decay(structure.decay),
        *_cliques(structure.cliques, structure.comparisons),
        *_paths(structure.paths, structure.comparisons),
        *_blocks(structure.blocks),
        *_caution(structure.bottlenecks),
    ]


def _measures(comparisons: pd.DataFrame, edges: str) -> dict[str, dict[str, Any]]:
    rows = comparisons[comparisons["edges"] == edges].to_dict("records")
    return {str(row["measure"]): {str(name): value for name, value in row.items()} for row in rows}


def _hubs(hubs: pd.DataFrame) -> list[str]:
    """The strongest writing and the strongest reading of write-read edges, if stronger than any placed at random."""
    strong = hubs[
        (hubs["measure"] == "strength") & (hubs["kind"] == "write-read") & (hubs["value"] > hubs["null_largest"])
    ]
    found = []
    for side, sentence in (
        ("write", "What {name} writes meets later readings the most: {edges} edges"),
        ("read", "What {name} reads meets earlier writings the most: {edges} edges"),
    ):
        for row in strong[strong["side"] == side].head(1).to_dict("records"):
            name = row["subspace"].removesuffix(f".{side}")
            found.append(
                f"{sentence.format(name=name, edges=row['edges'])} of total excess {row['value']:.2f} over their "
                f"largest nulls; the same edges placed at random give it {row['null_mean']:.2f}, and the largest of "
                f"all subspaces {row['null_largest']:.2f}."
            )
    return found


def _communities(comparisons: pd.DataFrame, communities: pd.DataFrame) -> list[str]:
    measured = _measures(comparisons, "symmetric")
    if not measured or isnan(measured["modularity"]["z"]):
        return []
    modularity, depth = measured["modularity"], measured["depth"]
    if modularity["z"] < FAR:
        return [
            f"Subspaces that share directions form no communities beyond chance: modularity {modularity['value']:.2f}, "
            f"where random graphs of the same degrees give {_null(modularity)}."
        ]
    sizes = communities.loc[communities["edges"] == "symmetric", "size"]
    roles, layers = measured["nmi role"], measured["nmi layer"]
    beyond = roles["value"] - roles["null_mean"] - (layers["value"] - layers["null_mean"])
    spread = (
        f" {depth['value']:.0%} of the variance in depth lies between communities "
        f"(random graphs {_null(depth, '.0%')})."
    )
    follow = "roles more than single layers" if beyond > 0 else "single layers more than roles"
    return [
        f"Subspaces that share directions form {len(sizes)} communities, the largest of {sizes.max()}: modularity "
        f"{modularity['value']:.2f}, where random graphs of the same degrees give {_null(modularity)}. Beyond those "
        f"graphs they follow {follow}: normalised mutual information {roles['value']:.2f} with roles (random graphs "
        f"{_null(roles)}), {layers['value']:.2f} with layers ({_null(layers)})."
        + ("" if isnan(depth["value"]) else spread)
    ]


def _bottlenecks(bottlenecks: pd.DataFrame) -> list[str]:
    """The space that most subspaces meet."""
    if bottlenecks.empty:
        return []
    busiest = bottlenecks["space"].iloc[int(bottlenecks["subspaces"].argmax())]
    rows = bottlenecks[bottlenecks["space"] == busiest]
    parts = [
        f"the leading subspaces of {row['subspaces']} {'readings' if row['side'] == 'read' else 'writings'} together "
        f"use about {row['value']:.0f}, where unrelated ones would use {row['null_mean']:.0f} (Haar null), and with "
        f"channels as loud {row['largest_null']:.0f} (largest null of each pair): {_verdict(row)}"
        for row in rows.to_dict("records")
    ]
    return [f"Of the {rows['dimension'].iloc[0]} dimensions of the {busiest}, {'; '.join(parts)}."]


def _verdict(row: dict[str, Any]) -> str:
    """Whether there is a bottleneck, and whether a null that knows loud channels accounts for it."""
    if row["value"] > CLEARLY_BELOW * row["null_mean"]:
        return "no bottleneck"
    if row["share_of_null"] > CLEARLY_BELOW:
        return "loud channels account for it"
    if row["matched"] < MOSTLY_MATCHED:
        return "fewer than both, but for most pairs neither keeps the norms of the weights"
    return "a bottleneck that loud channels do not account for"


def _caution(bottlenecks: pd.DataFrame) -> list[str]:
    """Where the null that knows most of loud channels is missing from most pairs, as it is without draws."""
    if (bottlenecks["matched"] >= MOSTLY_MATCHED).all():
        return []
    return [
        "For most pairs no weights of the same row and column norms were drawn: loud channels may account for more of "
        "these excesses, and of how few dimensions are used, than the nulls that were at hand know."
    ]


def _decay(decay: pd.DataFrame) -> list[str]:
    same = decay[(decay["source_role"] == decay["target_role"]) & decay["length"].notna()]
    same = same.sort_values("nearest", ascending=False)
    found = []
    for kind, what in (("read-read", "readings"), ("write-write", "writings")):
        lengths = [
            f"{row.source_role} {row.length:.1f} layers (from {row.nearest:.2f} at the nearest; R² {row.r_squared:.2f})"
            for row in same[same["kind"] == kind].head(4).itertuples()
        ]
        if lengths:
            found.append(
                f"The excess of overlap over the largest null, between {what} of one role, falls with distance in "
                f"depth to 1/e of itself within: {', '.join(lengths)}."
            )
    return found


def _cliques(cliques: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    if cliques.empty:
        return []
    measured = _measures(comparisons, "redundant heads")
    counts = [
        f"{row['value']:.0f} {what}"
        + ("" if isnan(row["null_sd"]) else f" (random graphs of the same degrees {_null(row, '.1f')})")
        for what, row in (("pairs", measured["redundant pairs"]), ("larger groups", measured["redundant groups"]))
    ]
    largest = cliques[cliques["clique"] == 0]
    return [
        f"Heads of one role that repeat each other: {' and '.join(counts)}. In the largest, every two have an "
        f"excess of at least {largest['least'].iloc[0]:.2f} over the largest null: {', '.join(largest['subspace'])}."
    ]


def _paths(paths: pd.DataFrame, comparisons: pd.DataFrame) -> list[str]:
    if paths.empty:
        return []
    best = paths[paths["path"] == 0]
    measured = _measures(comparisons, "write-read")["strength of the strongest path"]
    tied = (best["kind"] == "write-write").any()
    end = "tied unembedding (the embedding read back)" if tied else "unembedding"
    verdict = ""
    if not isnan(measured["z"]):
        relation = "no larger than" if measured["z"] < FAR else "larger than"
        verdict = f", {relation} with the same excesses dealt to other pairs at random ({_null(measured, '.2g')})"
    return [
        f"The strongest path from the embedding to the {end} is "
        f"{' → '.join([best['source'].iloc[0], *best['target']])}, the product of its excesses "
        f"{best['strength'].iloc[0]:.2g}{verdict}."
    ]


def _blocks(blocks: pd.DataFrame) -> list[str]:
    standing = blocks[blocks["value"] > blocks["null_largest"]].head(3)
    if standing.empty:
        return []
    pairs = ", ".join(f"{row.layer} and {row.next_layer} ({row.value:.2f})" for row in standing.itertuples())
    return [
        f"Most alike of all neighbouring layers, by their mean excess over the largest null, role by role: {pairs}; "
        f"layers of this network that are no neighbours reach "
        f"{standing['null_largest'].iloc[0]:.2f} at most. If layers are to be shared or removed, geometry alone "
        "suggests to look there first; what the layers do was not tested."
    ]


def _null(row: dict[str, Any], form: str = ".2f") -> str:
    """Mean and spread over null graphs."""
    return f"{row['null_mean']:{form}} ± {row['null_sd']:{form}}"
