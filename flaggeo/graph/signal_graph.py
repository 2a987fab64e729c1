"""The graph along which a signal can run: from a writing to a later reading, and through a layer to its writing."""

from itertools import chain

import networkx as nx
import numpy as np
import pandas as pd

from ..network.roles import HEAD_ROLES, PASSES, bare, in_tower, tower_of


def passages(weights: pd.DataFrame) -> list[tuple[str, str]]:
    """Pairs of a reading and the writing that it reaches inside its layer.

    Parameters
    ----------
    weights : pandas.DataFrame
        `Analysis.weights`.

    Returns
    -------
    passages : list of tuple of str
        A weight reaches those that read the space it writes to: a value head the output heads of its group, the
        stack of a layer's experts that of their outputs. The whole projections of attention, whose concatenated heads
        are mixed in between, reach each other.
    """
    inner = weights.loc[weights["expert"].isna(), ["name", "role", "layer", "head", "source", "target"]]
    inner = inner.assign(reaches=inner["role"].map(_reached))
    joined = (
        inner.explode("reaches")
        .dropna(subset="reaches")
        .merge(inner, left_on=["layer", "reaches"], right_on=["layer", "role"], suffixes=("", "_behind"))
    )
    whole = joined["role"].map(bare).isin(HEAD_ROLES) & joined["head"].isna() & joined["head_behind"].isna()
    joined = joined[whole | (joined["target"] == joined["source_behind"])]
    return list(zip(joined["name"] + ".read", joined["name_behind"] + ".write", strict=True))


def _reached(role: str) -> list[str]:
    """Roles that write what this one reads, in the same tower."""
    return [in_tower(tower_of(role), other) for other in PASSES.get(bare(role), ())]


def signal_graph(edges: pd.DataFrame, passages: list[tuple[str, str]]) -> "nx.DiGraph[str]":
    """Write-read edges and passages; without a cycle, since both run forward.

    Parameters
    ----------
    edges : pandas.DataFrame
        From `edge_table`; other kinds are passed over.
    passages : list of tuple of str
        From `passages`.

    Returns
    -------
    graph : networkx.DiGraph
        Edges have ``kind``, ``weight`` (1 for a passage: what a weight does to what it reads is not counted) and
        ``length``, minus the logarithm of the weight, so that the shortest path has the largest product of weights.
    """
    written = edges[edges["kind"] == "write-read"]
    graph: nx.DiGraph[str] = nx.DiGraph()
    # In one order whatever the order of the edges, so that a seed means the same in every null graph.
    graph.add_nodes_from(
        sorted({*written["source"].tolist(), *written["target"].tolist(), *chain.from_iterable(passages)})
    )
    graph.add_edges_from(passages, kind="passage", weight=1.0, length=0.0)
    add_alignments(graph, written)
    return graph


def add_alignments(graph: "nx.DiGraph[str]", edges: pd.DataFrame) -> None:
    """Add edges from their sources to their targets."""
    table = edges[["source", "target", "kind", "weight"]].assign(length=-np.log(edges["weight"].clip(upper=1.0)))
    for source, target, kind, weight, length in zip(*(table[name].tolist() for name in table), strict=True):
        graph.add_edge(source, target, kind=kind, weight=weight, length=length)
