"""Hubs: subspaces with more, and stronger, alignments than null graphs give."""

from collections.abc import Sequence

import networkx as nx
import numpy as np
import pandas as pd

from .null_graphs import COMPARISON_COLUMNS, compared, placed_strengths, z_score
from .signal_graph import signal_graph
from .stability import STABLE

#: Subspaces from which the paths are followed that betweenness counts: all of them in a smaller graph.
PIVOTS = 64

HUB_COLUMNS = (
    *("subspace", "side", "role", "layer", "head", "measure", "kind", "edges", "null"),
    *COMPARISON_COLUMNS,
    "stable_value",
)


def hub_table(
    nodes: pd.DataFrame,
    edges: pd.DataFrame,
    null_edges: Sequence[pd.DataFrame],
    possible: pd.DataFrame,
    passages: list[tuple[str, str]],
    *,
    draws: int,
    seed: int,
) -> pd.DataFrame:
    """How many alignments each subspace has, and how strong they are.

    Parameters
    ----------
    nodes, edges, possible : pandas.DataFrame
        From `node_table`, `edge_table` and `possible_pairs`.
    null_edges : sequence of pandas.DataFrame
        From `rewired`.
    passages : list of tuple of str
        From `flaggeo.graph.signal_graph.passages`.
    draws, seed : int
        For the null of strength.

    Returns
    -------
    table : pandas.DataFrame
        One row a subspace, measure and kind, the largest first; the columns are `HUB_COLUMNS`. Measures:

        - ``strength``, the sum of the weights of the edges of one kind: weighted out-degree of a writing and weighted
          in-degree of a reading on write-read edges. Its null is ``placed``, see `placed_strengths`, because rewiring
          keeps degrees.
        - ``pagerank`` of the signal graph, and ``source pagerank`` of the same with all edges turned round: where a
          signal that follows write-read edges by their weight gathers, and where it comes from. The null is
          ``rewired``.
        - ``betweenness`` on the signal graph: share of all ordered pairs of subspaces whose strongest path runs through
          this one, estimated from `PIVOTS` starting points. The null is ``rewired``.

        ``edges`` is the number of edges of the kind. ``null_largest`` is the largest value of any subspace in any null
        graph: a random graph exceeds it with a probability of about one over the number of draws and one, whatever
        ``z`` is reached among so many subspaces. ``stable_value`` is the strength from stable edges alone, where
        stability was measured: a hub that stands exceeds ``null_largest`` with it too. It is missing for the other
        measures.

    Notes
    -----
    The alignment graph keeps an edge that is among the strongest few of either end, so a strength says how many
    others count a subspace among their strongest, besides how strongly.
    """
    strengths = _strengths(edges).merge(
        placed_strengths(edges, possible, draws=draws, seed=seed), on=["kind", "subspace"]
    )
    strengths["z"] = z_score(strengths)
    of_stable = _strengths(edges[edges[STABLE].fillna(False)]).set_index(["kind", "subspace"])["value"]
    strengths = strengths.join(of_stable.rename("stable_value"), on=["kind", "subspace"])
    strengths["stable_value"] = np.nan if edges[STABLE].isna().any() else strengths["stable_value"].fillna(0.0)
    tables = [strengths.assign(measure="strength", null="placed")]
    if (edges["kind"] == "write-read").any():
        values = _centralities(edges, passages, seed)
        nulls = [_centralities(table, passages, seed) for table in null_edges]
        degrees = strengths[strengths["kind"] == "write-read"].set_index("subspace")["edges"]
        for measure, value in values.items():
            table = compared(value, [null[measure] for null in nulls]).rename_axis("subspace").reset_index()
            counts = table["subspace"].map(degrees).fillna(0).astype("int64")
            tables.append(table.assign(measure=measure, kind="write-read", null="rewired", edges=counts))
    table = pd.concat(tables, ignore_index=True).merge(
        nodes[["side", "role", "layer", "head"]], left_on="subspace", right_index=True
    )
    table = table.sort_values(["measure", "kind", "value", "subspace"], ascending=[True, True, False, True])
    return table[list(HUB_COLUMNS)].reset_index(drop=True)


def _strengths(edges: pd.DataFrame) -> pd.DataFrame:
    ends = pd.concat([edges.assign(subspace=edges[end]) for end in ("source", "target")])
    groups = ends.groupby(["kind", "subspace"])["weight"]
    return groups.agg(value="sum", edges="size").reset_index().astype({"value": "float64"})


def _centralities(edges: pd.DataFrame, passages: list[tuple[str, str]], seed: int) -> dict[str, dict[str, float]]:
    graph = signal_graph(edges, passages)
    return {
        "pagerank": nx.pagerank(graph),
        "source pagerank": nx.pagerank(graph.reverse(copy=False)),
        "betweenness": nx.betweenness_centrality(graph, k=min(PIVOTS, len(graph)), weight="length", seed=seed),
    }
