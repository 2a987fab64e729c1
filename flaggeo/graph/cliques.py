"""Cliques of heads that read, or write, nearly the same."""

from itertools import islice

import networkx as nx
import pandas as pd

from .edges import EDGE_COLUMNS, EDGE_WEIGHT, SYMMETRIC_KINDS
from .null_graphs import compared, rewired

#: Strength from which two heads are called redundant: half of the way from the largest null to one in the other.
REDUNDANT = 0.5
#: Cliques that are listed at most: in a dense graph their number grows exponentially.
MOST_CLIQUES = 10_000

CLIQUE_COLUMNS = ("clique", "size", "least", "role", "side", "subspace", "layer", "head")


def clique_tables(
    possible: pd.DataFrame, nodes: pd.DataFrame, *, threshold: float, draws: int, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Maximal cliques of redundant heads, and their number and size against rewired graphs.

    Parameters
    ----------
    possible, nodes : pandas.DataFrame
        From `possible_pairs` and `node_table`.
    threshold : float
        Strength from which two heads count as redundant.
    draws, seed : int
        Of rewired graphs, in which every head is redundant with as many others as before.

    Returns
    -------
    cliques : pandas.DataFrame
        One row a member; the columns are `CLIQUE_COLUMNS`. Every two members of a clique, heads of one role, are
        aligned at least so strongly; ``least`` is the weakest of these alignments. A head can be in several. The
        largest come first, at most `MOST_CLIQUES`; both tables are empty where no two heads were compared.
    comparisons : pandas.DataFrame
        By measure: number of cliques of two, number of three or more, and size of the largest.

    Notes
    -----
    Taken from all pairs, not from the edges of the alignment graph: those are the strongest few of each subspace, and
    would cut large cliques.
    """
    between = possible[
        (possible["source_head"] >= 0)
        & (possible["target_head"] >= 0)
        & (possible["source_role"] == possible["target_role"])
        & possible["kind"].isin(SYMMETRIC_KINDS)
    ].assign(weight=lambda pairs: pairs[EDGE_WEIGHT])
    if between.empty:
        return pd.DataFrame(columns=list(CLIQUE_COLUMNS)), compared({}, [])
    redundant = between.loc[between["weight"] >= threshold, list(EDGE_COLUMNS)]
    cliques = _maximal_cliques(redundant)
    ends = zip(redundant["source"], redundant["target"], strict=True)
    strength = dict(zip(map(frozenset, ends), redundant["weight"], strict=True))
    least = [
        min(strength[frozenset({one, other})] for place, one in enumerate(clique) for other in clique[:place])
        for clique in cliques
    ]
    order = sorted(range(len(cliques)), key=lambda index: (-len(cliques[index]), -least[index], cliques[index]))
    rows = [
        (number, len(cliques[index]), least[index], name)
        for number, index in enumerate(order)
        for name in cliques[index]
    ]
    table = pd.DataFrame(rows, columns=["clique", "size", "least", "subspace"])
    table = table.merge(nodes[["role", "side", "layer", "head"]], left_on="subspace", right_index=True)
    table = table[list(CLIQUE_COLUMNS)].sort_values("clique", kind="stable", ignore_index=True)
    nulls = [_sizes(_maximal_cliques(null)) for null in rewired(redundant, between, draws=draws, seed=seed)]
    return table, compared(_sizes(cliques), nulls)


def _maximal_cliques(edges: pd.DataFrame) -> list[list[str]]:
    names = sorted({*edges["source"], *edges["target"]})
    place = {name: position for position, name in enumerate(names)}
    # Sets of numbers, unlike those of names, have one order in every process, so that a cut list is the same too.
    graph: nx.Graph[int] = nx.Graph()
    graph.add_edges_from(zip(edges["source"].map(place), edges["target"].map(place), strict=True))
    cliques = islice(nx.find_cliques(graph), MOST_CLIQUES)
    return [[names[position] for position in sorted(clique)] for clique in cliques]


def _sizes(cliques: list[list[str]]) -> dict[str, float]:
    sizes = [len(clique) for clique in cliques]
    return {
        "redundant pairs": sum(size == 2 for size in sizes),
        "redundant groups": sum(size > 2 for size in sizes),
        "largest redundant group": max(sizes, default=0),
    }
