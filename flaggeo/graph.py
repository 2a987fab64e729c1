"""The alignment graph: subspaces that meet in a space more than chance would have it."""

import networkx as nx
import pandas as pd

#: About the probability that any edge would stand between unrelated (Haar) subspaces: the p-values are held
#: against this over the number of pairs (Bonferroni). A bound on z would not do: at low rank the overlap
#: has a heavy tail, and 5 standard deviations are common among ten thousand unrelated lines.
ERROR_RATE = 0.01
#: Edges that a node keeps of each kind: enough to see who its partners are, few enough to draw.
STRONGEST = 6


def alignment_graph(
    weights: pd.DataFrame, pairs: pd.DataFrame, *, error_rate: float = ERROR_RATE, strongest: int = STRONGEST
) -> "nx.MultiDiGraph[str]":
    """Graph of the pairs that stand out, the strongest few of each kind at every node.

    Parameters
    ----------
    weights : pandas.DataFrame
        `Analysis.weights`.
    pairs : pandas.DataFrame
        `Analysis.pairs`.
    error_rate : float, optional
        Probability that any edge would stand between unrelated subspaces.
    strongest : int, optional
        An edge is kept if it is among so many largest adjusted overlaps of its kind at either end.

    Returns
    -------
    graph : networkx.MultiDiGraph
        Nodes are subspaces named as in `pairs`, with attributes ``weight``, ``side``, ``role``, ``layer``
        (-1 before the first layer, one past the last behind it), ``head`` (-1 for a whole projection),
        ``space``, ``dimension`` (of the space) and ``rank``. Edges run from the earlier to the later
        subspace, keyed by ``kind``, with ``kind``, ``overlap``, ``adjusted_overlap``, ``z`` and, where both
        ends have a layer, ``lag``. Only write-read edges follow a signal; the others are symmetric. All
        attributes are plain numbers and strings, so that every format of networkx can hold them.

    Notes
    -----
    The dense overlaps stay in `pairs`: a missing edge means "not among the strongest", never "zero".
    """
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    last = weights["layer"].max()
    behind = 0 if pd.isna(last) else int(last) + 1
    for row in weights.to_dict("records"):
        outside = -1 if row["role"] == "embed" else behind
        for side, dimension in (("read", row["source_dim"]), ("write", row["target_dim"])):
            graph.add_node(
                f"{row['name']}.{side}",
                weight=row["name"],
                side=side,
                role=row["role"],
                layer=outside if pd.isna(row["layer"]) else int(row["layer"]),
                head=-1 if pd.isna(row["head"]) else int(row["head"]),
                space=row["source" if side == "read" else "target"],
                dimension=int(dimension),
                rank=int(row["rank"]),
            )
    for row in _outstanding(pairs, error_rate, strongest).to_dict("records"):
        attributes = {name: float(row[name]) for name in ("overlap", "adjusted_overlap", "z")}
        if not pd.isna(row["lag"]):
            attributes["lag"] = int(row["lag"])
        graph.add_edge(row["source"], row["target"], key=row["kind"], kind=row["kind"], **attributes)
    return graph


def _outstanding(pairs: pd.DataFrame, error_rate: float, strongest: int) -> pd.DataFrame:
    above = pairs[pairs["p_value"] <= error_rate / max(1, len(pairs))].reset_index(names="pair")
    ends = pd.concat([above.assign(end=above[side]) for side in ("source", "target")])
    ends = ends.sort_values(["adjusted_overlap", "pair"], ascending=[False, True])
    kept = ends.groupby(["end", "kind"], sort=False).head(strongest)["pair"]
    return above[above["pair"].isin(kept)]
