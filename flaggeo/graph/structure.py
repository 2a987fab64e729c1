"""All that the alignment graph says about the network as a whole."""

from dataclasses import dataclass

import networkx as nx
import pandas as pd

from .bottlenecks import bottleneck_table
from .cliques import REDUNDANT, clique_tables
from .communities import find_communities
from .decay import decay_table, distance_table
from .edges import edge_table, node_table, possible_pairs
from .hubs import hub_table
from .null_graphs import COMPARISON_COLUMNS, rewired
from .signal_graph import passages
from .signal_paths import path_tables
from .similar_layers import block_table


@dataclass(frozen=True)
class Structure:
    """Statistics of the network of subspaces, each number beside null graphs.

    Strength, everywhere, is the excess: the effect size of the overlap over the largest of its nulls (uniform
    subspaces, sign flips, norm-matched weights), 0 for what weights with the same outlier
    channels would give, 1 where one subspace contains the other.

    Attributes
    ----------
    edges : pandas.DataFrame
        One row an edge, the strongest first, and whether it stands at other ranks and after rounding, see
        `flaggeo.graph.edges.edge_table`.
    hubs : pandas.DataFrame
        One row a subspace and measure of centrality, see `flaggeo.graph.hubs.hub_table`.
    communities : pandas.DataFrame
        One row a community, see `flaggeo.graph.communities.Communities`.
    members : pandas.DataFrame
        One row a subspace and set of edges: its community.
    cliques : pandas.DataFrame
        One row a member of a clique of redundant heads, see `flaggeo.graph.cliques.clique_tables`.
    bottlenecks : pandas.DataFrame
        One row a space and side, see `flaggeo.graph.bottlenecks.bottleneck_table`.
    signal_paths : pandas.DataFrame
        One row an edge of a path from the embedding to the unembedding, see `flaggeo.graph.signal_paths.path_tables`.
    distances : pandas.DataFrame
        One row a pair of roles and a lag, see `flaggeo.graph.decay.distance_table`.
    decay : pandas.DataFrame
        One row a pair of roles, see `flaggeo.graph.decay.decay_table`.
    blocks : pandas.DataFrame
        One row a pair of neighbouring layers, see `flaggeo.graph.similar_layers.block_table`.
    comparisons : pandas.DataFrame
        One row a measure of the whole network: ``edges`` (of which kinds), ``measure``, ``null``, ``value``,
        ``null_mean``, ``null_sd``, ``z``.
    """

    edges: pd.DataFrame
    hubs: pd.DataFrame
    communities: pd.DataFrame
    members: pd.DataFrame
    cliques: pd.DataFrame
    bottlenecks: pd.DataFrame
    signal_paths: pd.DataFrame
    distances: pd.DataFrame
    decay: pd.DataFrame
    blocks: pd.DataFrame
    comparisons: pd.DataFrame


def structure(
    graph: "nx.MultiDiGraph[str]",
    weights: pd.DataFrame,
    spaces: pd.DataFrame,
    pairs: pd.DataFrame,
    *,
    draws: int = 10,
    seed: int = 0,
    redundant: float = REDUNDANT,
) -> Structure:
    """Hubs, communities, cliques, bottlenecks, paths and decay of an alignment graph, each beside null graphs.

    Parameters
    ----------
    graph : networkx.MultiDiGraph
        From `alignment_graph`.
    weights, spaces, pairs : pandas.DataFrame
        Of the `Analysis` that the graph is made of.
    draws : int, optional
        Number of null graphs; without any, their columns are NaN.
    seed : int, optional
        Of the null graphs and of Louvain's order.
    redundant : float, optional
        Strength from which two heads count as redundant.

    Returns
    -------
    structure : Structure

    Raises
    ------
    ValueError
        If the number of draws is below 0, or `redundant` is not above 0 and at most 1.

    Notes
    -----
    Only spaces whose own group, when the gains beside the weights are folded in, keeps angles count
    (``overlap_basis_independent`` of the spaces). Leading subspaces also depend on the group of the space at the other
    end of their weight, and on whether gains were folded in, which this does not ask: ``basis_independent`` of the
    pairs does. Null graphs keep the degrees, so they ask whether the pattern of the edges means anything, not whether
    the edges do: that the graph's own q-values say.

    Norm-matched weights are drawn for whole projections of layers alone. For heads and the embedding the largest null
    is that of uniform subspaces or of sign flips, which a few outlier channels can exceed.

    A draw costs about one run of Louvain on the edges; ten take 2 s for 1,700 edges and 8 s for 8,500 on one core.
    """
    if draws < 0:
        raise ValueError(f"structure needs a number of draws of at least 0; got {draws}.")
    if not 0 < redundant <= 1:
        raise ValueError(f"structure needs a threshold of redundancy above 0 and at most 1; got {redundant}.")
    nodes = node_table(graph, spaces.loc[spaces["overlap_basis_independent"].astype(bool), "name"])
    edges = edge_table(graph, nodes)
    possible = possible_pairs(pairs, nodes)
    null_edges = rewired(edges, possible, draws=draws, seed=seed)
    passed = passages(weights)

    hubs = hub_table(nodes, edges, null_edges, possible, passed, draws=draws, seed=seed)
    communities = find_communities(nodes, edges, null_edges, seed=seed)
    cliques, clique_comparisons = clique_tables(possible, nodes, threshold=redundant, draws=draws, seed=seed)
    paths, path_comparisons = path_tables(possible, nodes, passed, draws=draws, seed=seed)
    distances = distance_table(possible)
    return Structure(
        edges=edges.sort_values("weight", ascending=False, kind="stable", ignore_index=True),
        hubs=hubs,
        communities=communities.table,
        members=communities.members,
        cliques=cliques,
        bottlenecks=bottleneck_table(possible, nodes),
        signal_paths=paths,
        distances=distances,
        decay=decay_table(distances),
        blocks=block_table(possible),
        comparisons=_comparisons(communities.comparisons, clique_comparisons, path_comparisons),
    )


def _comparisons(communities: pd.DataFrame, cliques: pd.DataFrame, paths: pd.DataFrame) -> pd.DataFrame:
    tables = [
        communities,
        cliques.rename_axis("measure").reset_index().assign(edges="redundant heads", null="rewired"),
        paths.rename_axis("measure").reset_index().assign(edges="write-read", null="permuted strengths"),
    ]
    columns = ["edges", "measure", "null", *COMPARISON_COLUMNS[:-1]]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True)[columns] if filled else pd.DataFrame(columns=columns)
