"""The strongest chains of alignments from the embedding to the unembedding."""

from itertools import islice, pairwise
from math import exp, inf

import networkx as nx
import numpy as np
import pandas as pd

from ..network.roles import BlockKind, bare, roles_in
from .alignment_graph import FALSE_DISCOVERY_RATE
from .edges import EDGE_COLUMNS, EDGE_WEIGHT
from .null_graphs import compared
from .signal_graph import add_alignments, signal_graph

#: Paths that are listed.
STRONGEST_PATHS = 10

#: Name of the end where the embedding is read back as the unembedding.
TIED_END = "unembed.read"

PATH_COLUMNS = ("path", "strength", "number", "source", "target", "kind", "weight")


def path_tables(
    possible: pd.DataFrame,
    nodes: pd.DataFrame,
    passages: list[tuple[str, str]],
    *,
    draws: int,
    seed: int,
    count: int = STRONGEST_PATHS,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Strongest paths along significant write-read pairs, and through the layers between.

    Parameters
    ----------
    possible, nodes : pandas.DataFrame
        From `possible_pairs` and `node_table`.
    passages : list of tuple of str
        From `flaggeo.graph.signal_graph.passages`.
    draws, seed : int
        Of null graphs, in which the strengths are permuted among the pairs.
    count : int, optional
        Number of paths.

    Returns
    -------
    paths : pandas.DataFrame
        One row for each edge of a path; the columns are `PATH_COLUMNS`. The strength of a path is the product of the
        weights of its edges, numbered by ``number``. ``kind`` is write-read, passage (through a layer, weight 1) or
        write-write (see the notes). Empty without an embedding, or where nothing leads to an end.
    comparisons : pandas.DataFrame
        Strength of the strongest path, 0 where there is none, against the null graphs.

    Notes
    -----
    All pairs of a q-value of at most `FALSE_DISCOVERY_RATE` and a strength above 0 count, not only the strongest few
    of each subspace that are the edges of the alignment graph: an early writing and a late reading need not have
    each other among these.

    Where there is no unembedding, it is taken to be the embedding read back (tied): a writing then reaches the
    end `TIED_END` by its write-write pair with the embedding. For an encoder that is the head of its masked
    pretraining.

    A product of strengths ranks chains of alignments; it does not say what the network does with a signal: a passage
    counts 1 whatever the weights and the activation do, and the residual stream carries everything past every layer
    besides. Every further edge can only weaken a path, so the strongest are short.
    """
    start = nodes.index[nodes["role"].map(bare).isin(roles_in(BlockKind.EMBEDDING)) & (nodes["side"] == "write")]
    end = nodes.index[nodes["role"].map(bare).isin(roles_in(BlockKind.UNEMBEDDING)) & (nodes["side"] == "read")]
    if start.empty:
        return pd.DataFrame(columns=list(PATH_COLUMNS)), compared({}, [])
    ends = start[0], end[0] if len(end) else TIED_END
    edges = _edges(possible, *ends, tied=end.empty)
    graph = _graph(edges, passages, *ends)
    rows = []
    for number, path in enumerate(_strongest(graph, *ends, count)):
        strength = exp(-nx.path_weight(graph, path, "length"))
        for place, pair in enumerate(pairwise(path)):
            rows.append((number, strength, place, *pair, graph.edges[pair]["kind"], graph.edges[pair]["weight"]))
    rng = np.random.default_rng(seed)
    nulls = []
    for _ in range(draws):
        permuted = edges.assign(weight=edges.groupby("kind")["weight"].transform(lambda w: rng.permutation(w)))
        nulls.append(_strength(_graph(permuted, passages, *ends), *ends))
    return pd.DataFrame(rows, columns=list(PATH_COLUMNS)), compared(_strength(graph, *ends), nulls)


def _edges(possible: pd.DataFrame, start: str, end: str, *, tied: bool) -> pd.DataFrame:
    """Pairs along which a path can run, with the columns of an edge table."""
    outstanding = possible[possible["overlap_q_value"] <= FALSE_DISCOVERY_RATE]
    outstanding = outstanding.assign(weight=outstanding[EDGE_WEIGHT])
    edges = outstanding.loc[outstanding["weight"] > 0, list(EDGE_COLUMNS)]
    forward = edges[edges["kind"] == "write-read"]
    if not tied:
        return forward
    # The embedding comes first, so it is the source of all its pairs.
    back = edges[(edges["kind"] == "write-write") & (edges["source"] == start)]
    return pd.concat([forward, back.assign(source=back["target"], target=end)], ignore_index=True)


def _graph(edges: pd.DataFrame, passages: list[tuple[str, str]], start: str, end: str) -> "nx.DiGraph[str]":
    graph = signal_graph(edges, passages)
    add_alignments(graph, edges[edges["kind"] == "write-write"])
    graph.add_nodes_from([start, end])
    return graph


def _strongest(graph: "nx.DiGraph[str]", start: str, end: str, count: int) -> list[list[str]]:
    if not nx.has_path(graph, start, end):
        return []
    return list(islice(nx.shortest_simple_paths(graph, start, end, weight="length"), count))


def _strength(graph: "nx.DiGraph[str]", start: str, end: str) -> dict[str, float]:
    connected = nx.has_path(graph, start, end)
    length = nx.dijkstra_path_length(graph, start, end, weight="length") if connected else inf
    return {"strength of the strongest path": exp(-length)}
