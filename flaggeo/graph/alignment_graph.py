"""The alignment graph: subspaces of one space that overlap more than unrelated ones."""

import networkx as nx
import pandas as pd

from ..network.roles import ROLE_RECORDS, BlockKind, bare, roles_in
from .stability import STABLE, STANDS, standing

#: Expected share of unrelated pairs among all that pass the test of a kind, at most (Benjamini-Hochberg). A bound on z
#: would not do: at low rank the overlap has a heavy tail, and 5 standard deviations are common among ten thousand
#: unrelated lines.
FALSE_DISCOVERY_RATE = 0.01
#: Edges that a node keeps of each kind: enough to see who its partners are, few enough to draw.
STRONGEST = 6

_MEASURES = (
    "overlap",
    "overlap_effect_size",
    "overlap_excess",
    "overlap_z",
    "overlap_q_value",
    "smallest_angle",
    "geodesic_distance",
)


def alignment_graph(
    weights: pd.DataFrame,
    pairs: pd.DataFrame,
    stability: pd.DataFrame | None = None,
    *,
    false_discovery_rate: float = FALSE_DISCOVERY_RATE,
    strongest: int = STRONGEST,
) -> "nx.MultiDiGraph[str]":
    """Graph of the pairs that stand out, the strongest few of each kind at every node.

    Parameters
    ----------
    weights : pandas.DataFrame
        `Analysis.weights`.
    pairs : pandas.DataFrame
        `Analysis.pairs`.
    stability : pandas.DataFrame, optional
        `Analysis.stability`, where it was measured.
    false_discovery_rate : float, optional
        Largest q-value of an edge, in [0, 1].
    strongest : int, optional
        An edge is kept if it is among so many largest excesses of its kind at either end.

    Returns
    -------
    graph : networkx.MultiDiGraph
        Nodes are subspaces named as in `pairs`, with attributes ``weight``, ``side``, ``role``, ``layer`` (-1 before
        the first layer, one past the last behind it), ``head`` (-1 for a whole projection), ``space``, ``dimension``
        (of the space), ``rank`` and, where it was measured, ``effective_rank`` (of the weight). A projection that is
        there head by head is no node; of the experts of a layer the stack stands for all, by its end at the stream.
        Edges run from the earlier to the later subspace, keyed by ``kind``, with ``kind``, ``overlap``, its
        ``overlap_effect_size``, ``overlap_excess``, ``overlap_z`` and ``overlap_q_value``, ``basis_independent``,
        ``intersection_dimension``, ``smallest_angle``, ``geodesic_distance`` (radians) and, where both ends have a
        layer, ``lag``. Where stability was measured, truth values say under which conditions an
        edge stands (``stands_at_half_rank``, ``stands_at_double_rank``, ``stands_after_rounding``), and whether under
        all (``stable``). Only write-read edges follow a signal; the others are symmetric. All
        attributes are plain numbers, strings and truth values, so that every format of networkx can hold them.

    Notes
    -----
    An edge passes three tests: its overlap is significant among all pairs of its kind, against uniform subspaces and
    against random signs of the coordinates (``overlap_q_value``); it is larger than what every null gives on average,
    norm-matched weights included (``overlap_excess`` above 0); and it is among the
    strongest of its node. The dense overlaps stay in `pairs`: a
    missing edge means "not among the strongest", never "zero".
    """
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    last = weights["layer"].max()
    behind = 0 if pd.isna(last) else int(last) + 1
    before = roles_in(BlockKind.EMBEDDING)
    compared = weights[weights["expert"].isna()]
    projections = compared["name"].str.partition(".heads.")[0]
    cut = projections[compared["head"].notna()]
    for row in compared[compared["head"].notna() | ~projections.isin(cut)].to_dict("records"):
        outside = -1 if bare(row["role"]) in before else behind
        for side, dimension in (("read", row["source_dim"]), ("write", row["target_dim"])):
            if not pd.isna(row["stacked"]) and ROLE_RECORDS[bare(row["role"])].writes_to_stream != (side == "write"):
                continue
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
                **({} if pd.isna(row["effective_rank"]) else {"effective_rank": float(row["effective_rank"])}),
            )
    edges = _outstanding(pairs, false_discovery_rate, strongest)
    if stability is not None and len(stability):
        edges = edges.merge(standing(stability, false_discovery_rate), on=["source", "target", "kind"], how="left")
    conditions = [name for name in (*STANDS.values(), STABLE) if name in edges]
    edges[conditions] = edges[conditions].eq(True)  # a pair that was not asked does not stand
    for row in edges.to_dict("records"):
        attributes = {name: float(row[name]) for name in _MEASURES}
        attributes["intersection_dimension"] = int(row["intersection_dimension"])
        attributes["basis_independent"] = bool(row["basis_independent"])
        if not pd.isna(row["lag"]):
            attributes["lag"] = int(row["lag"])
        attributes |= {name: bool(row[name]) for name in conditions}
        graph.add_edge(row["source"], row["target"], key=row["kind"], kind=row["kind"], **attributes)
    return graph


def _outstanding(pairs: pd.DataFrame, false_discovery_rate: float, strongest: int) -> pd.DataFrame:
    significant = (pairs["overlap_q_value"] <= false_discovery_rate) & (pairs["overlap_excess"] > 0)
    above = pairs[significant].reset_index(names="pair")
    ends = pd.concat([above.assign(end=above[side]) for side in ("source", "target")])
    ends = ends.sort_values(["overlap_excess", "pair"], ascending=[False, True])
    kept = ends.groupby(["end", "kind"], sort=False).head(strongest)["pair"]
    return above[above["pair"].isin(kept)]
