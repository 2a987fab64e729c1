"""Communities of subspaces that share directions, and whether they are the layers or the roles again."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import networkx as nx
import numpy as np
import pandas as pd

from .edges import SYMMETRIC_KINDS
from .null_graphs import compared

#: What the communities are held against: attributes of the subspaces.
PARTITIONS = ("layer", "role")

COMMUNITY_COLUMNS = ("edges", "community", "size", "first_layer", "last_layer", "main_role", "main_role_share")


@dataclass(frozen=True)
class Communities:
    """Communities on the symmetric kinds of edges and on all of them.

    Attributes
    ----------
    members : pandas.DataFrame
        One row a subspace and set of edges: ``edges`` (symmetric or all), ``subspace``, ``community``. The communities
        of each set are numbered from the largest; subspaces without an edge are in none.
    table : pandas.DataFrame
        One row a community; the columns are `COMMUNITY_COLUMNS`. ``main_role`` is its most frequent role.
    comparisons : pandas.DataFrame
        Against rewired graphs: number of ``communities``, ``modularity``, ``nmi layer`` and ``nmi role`` (normalised
        mutual information with these partitions), ``depth`` (share of the variance of the layer number that lies
        between communities). Against random labels, which give 0 by definition: ``ami layer`` and ``ami role``, the
        adjusted mutual information; equal partitions give 1.
    """

    members: pd.DataFrame
    table: pd.DataFrame
    comparisons: pd.DataFrame


def find_communities(
    nodes: pd.DataFrame, edges: pd.DataFrame, null_edges: Sequence[pd.DataFrame], *, seed: int
) -> Communities:
    """Communities by the Louvain method, with the modularity that the same method finds in rewired graphs.

    Parameters
    ----------
    nodes, edges : pandas.DataFrame
        From `node_table` and `edge_table`.
    null_edges : sequence of pandas.DataFrame
        From `rewired`.
    seed : int
        Of the order in which Louvain visits the subspaces.

    Returns
    -------
    communities : Communities

    Notes
    -----
    Modularity alone says nothing: the method finds communities in random graphs too, of a modularity that
    depends on the degrees. Directions of write-read edges are ignored.
    """
    from sklearn.metrics import adjusted_mutual_info_score  # a third of a second, and only needed with structure

    members, comparisons = [], []
    for name, kinds in (("symmetric", SYMMETRIC_KINDS), ("all", (*SYMMETRIC_KINDS, "write-read"))):
        found = _louvain(edges[edges["kind"].isin(kinds)], seed)
        if found.empty:
            continue
        drawn = [_louvain(table[table["kind"].isin(kinds)], seed) for table in null_edges]
        measured = _measures(nodes, found)
        members.append(found.drop(columns="modularity").assign(edges=name))
        against = compared(measured, [_measures(nodes, null) for null in drawn]).assign(null="rewired")
        adjusted = {
            f"ami {partition}": adjusted_mutual_info_score(*_labels(nodes, found, partition))
            for partition in PARTITIONS
        }
        permuted = compared(adjusted, []).assign(null="permuted labels", null_mean=0.0)
        comparisons.append(pd.concat([against, permuted]).rename_axis("measure").reset_index().assign(edges=name))
    membership = pd.concat(members, ignore_index=True) if members else pd.DataFrame(columns=["edges", "subspace"])
    membership = membership.reindex(columns=["edges", "subspace", "community"])
    return Communities(
        membership, _table(nodes, membership), pd.concat(comparisons) if comparisons else compared({}, [])
    )


def _louvain(edges: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Columns subspace, community and the modularity of the whole."""
    ends, names = pd.factorize(pd.concat([edges["source"], edges["target"]]), sort=True)
    sources, targets = ends[: len(edges)].tolist(), ends[len(edges) :].tolist()
    # Sets of numbers, unlike those of names, have one order in every process, and sums over them one rounding.
    graph: nx.Graph[int] = nx.Graph()
    graph.add_nodes_from(range(len(names)))
    graph.add_weighted_edges_from(zip(sources, targets, edges["weight"].tolist(), strict=True))
    found = nx.community.louvain_communities(graph, seed=seed) if len(graph) else []
    found = sorted(found, key=lambda community: (-len(community), min(community)))
    rows = [(names[position], number) for number, community in enumerate(found) for position in sorted(community)]
    modularity = nx.community.modularity(graph, found) if found else 0.0
    return pd.DataFrame(rows, columns=["subspace", "community"]).assign(modularity=modularity)


def _labels(nodes: pd.DataFrame, found: pd.DataFrame, partition: str) -> tuple[np.ndarray, "pd.Series[int]"]:
    return pd.factorize(nodes.loc[found["subspace"], partition].astype(str), sort=True)[0], found["community"]


def _measures(nodes: pd.DataFrame, found: pd.DataFrame) -> dict[str, float]:
    from sklearn.metrics import normalized_mutual_info_score

    information = {
        f"nmi {partition}": float(normalized_mutual_info_score(*_labels(nodes, found, partition)))
        for partition in PARTITIONS
    }
    layers = nodes.loc[found["subspace"], "layer"].astype("float64")
    between = layers.groupby(found["community"].to_numpy()).transform("mean")
    measures = {
        "communities": float(found["community"].nunique()),
        "modularity": float(found["modularity"].iloc[0]),
        "depth": between.var() / layers.var() if layers.nunique() > 1 else nan,
    }
    return measures | information


def _table(nodes: pd.DataFrame, membership: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (edges, community), group in membership.groupby(["edges", "community"]):
        members = nodes.loc[group["subspace"]]
        roles = members["role"].value_counts(sort=False).sort_index().sort_values(ascending=False, kind="stable")
        layers = members["layer"].min(), members["layer"].max()
        rows.append((edges, community, len(members), *layers, roles.index[0], roles.iloc[0] / len(members)))
    return pd.DataFrame(rows, columns=list(COMMUNITY_COLUMNS))
