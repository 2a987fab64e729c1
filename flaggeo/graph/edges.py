"""The edges and the subspaces of an alignment graph as tables, which the null graphs rearrange."""

from collections.abc import Collection

import networkx as nx
import pandas as pd

from .stability import STABLE, STANDS

#: Attribute of the edges, and column of the pairs, that says how strong an alignment is: 0 for what unrelated weights,
#: or weights with the same outlier channels or a common mean, would give, 1 at most.
EDGE_WEIGHT = "overlap_excess"
#: Columns of the pairs with the mean overlap under each null; the last is NaN where no such weights were drawn.
NULL_MEANS = (
    "overlap_null_mean",
    "overlap_sign_flip_mean",
    "overlap_mean_matched_mean",
    "overlap_norm_matched_mean",
)
#: Kinds of edges without a direction.
SYMMETRIC_KINDS = ("read-read", "write-write")

EDGE_COLUMNS = ("source", "target", "kind", "space", "weight")
#: Further columns of `edge_table`, missing where stability was not measured.
STABILITY_COLUMNS = (*STANDS.values(), STABLE)
_NODE_COLUMNS = ("weight", "side", "role", "layer", "head", "space", "dimension", "rank")


def node_table(graph: "nx.MultiDiGraph[str]", spaces: Collection[str]) -> pd.DataFrame:
    """Subspaces of these spaces with the attributes that the graph gives them, by name; without those of rank 0."""
    rows = [[attributes[name] for name in _NODE_COLUMNS] for _, attributes in graph.nodes(data=True)]
    table = pd.DataFrame(rows, index=pd.Index(list(graph.nodes), dtype="str"), columns=list(_NODE_COLUMNS))
    return table.loc[(table["rank"] > 0) & table["space"].isin(list(spaces))]


def edge_table(graph: "nx.MultiDiGraph[str]", nodes: pd.DataFrame) -> pd.DataFrame:
    """Edges between these nodes that are stronger than the largest null, and whether they are stable.

    The columns are `EDGE_COLUMNS` and `STABILITY_COLUMNS`.
    """
    rows = []
    for source, target, edge in graph.edges(data=True):
        stands = map(edge.get, STABILITY_COLUMNS)
        rows.append((source, target, edge["kind"], graph.nodes[source]["space"], edge[EDGE_WEIGHT], *stands))
    table = pd.DataFrame(rows, columns=[*EDGE_COLUMNS, *STABILITY_COLUMNS])
    table = table.astype({"weight": "float64"} | dict.fromkeys(STABILITY_COLUMNS, "boolean"))
    within = table["source"].isin(nodes.index) & table["target"].isin(nodes.index)
    return table[within & (table["weight"] > 0)].reset_index(drop=True)


def possible_pairs(pairs: pd.DataFrame, nodes: pd.DataFrame) -> pd.DataFrame:
    """Pairs of these nodes that could have been edges, with the attributes of both ends.

    Columns ``side``, ``role``, ``layer`` and ``head`` of a node stand as ``source_role``, ``target_role`` and so on;
    ``largest_null`` is the largest of `NULL_MEANS` that the pair has, the one that `EDGE_WEIGHT` is measured from.
    """
    between = pairs["source"].isin(nodes.index) & pairs["target"].isin(nodes.index)
    informative = pairs[between & pairs[EDGE_WEIGHT].notna()]
    informative = informative.assign(largest_null=informative[list(NULL_MEANS)].max(axis="columns"))
    for end in ("source", "target"):
        ends = nodes[["side", "role", "layer", "head", "rank"]].add_prefix(f"{end}_")
        informative = informative.join(ends, on=end)
    return informative
