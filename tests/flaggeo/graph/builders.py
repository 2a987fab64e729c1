"""A network of subspaces whose strengths of meeting are chosen, as the tables of an analysis and its graph."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import networkx as nx
import numpy as np
import pandas as pd

from flaggeo.graph.edges import EDGE_WEIGHT, edge_table, node_table, possible_pairs
from flaggeo.network import ROLE_RECORDS

WIDTH, RANK = 64, 4
_READERS = ("q", "k", "v", "gate", "up")
# Exact for two 4-spaces of R^64.
NULL_MEAN, NULL_SD = 4 / 64, float(np.sqrt(2 * 60 * 60 / (64**2 * 63 * 66)))


@dataclass(frozen=True)
class Toy:
    graph: nx.MultiDiGraph
    weights: pd.DataFrame
    spaces: pd.DataFrame
    pairs: pd.DataFrame

    @property
    def nodes(self):
        return node_table(self.graph, ["stream"])

    @property
    def edges(self):
        return edge_table(self.graph, self.nodes)

    @property
    def possible(self):
        return possible_pairs(self.pairs, self.nodes)

    @property
    def tables(self):
        return self.graph, self.weights, self.spaces, self.pairs


def toy(
    strengths: Mapping[tuple[str, str], float],
    *,
    layers: int = 4,
    roles: tuple[str, ...] = ("q", "v", "o", "up", "down"),
    heads: int = 0,
    embed: bool = True,
    unembed: bool = True,
    prefix: str = "layers",
    noise: float = 0.0,
    matched: bool = True,
    seed: int = 0,
) -> Toy:
    """Subspaces of rank 4 in a stream of dimension 64; a pair meets with the strength given, others with noise.

    Pairs given are edges and have a q-value of 0, others a q-value of 1. Names are ``layers.0.q`` and, with heads,
    also ``layers.0.q.heads.0``; two query heads share one value head.
    """
    rows = [("embed", "embed", None, None, "vocabulary", "stream")] if embed else []
    for layer in range(layers):
        for role in roles:
            name, inside = f"{prefix}.{layer}.{role}", "mixed values" if role == "o" else role
            inner = "hidden" if role in ("gate", "up", "down") else inside
            ends = ("stream", f"{layer}.{inner}") if role in _READERS else (f"{layer}.{inner}", "stream")
            rows.append((name, role, layer, None, *ends))
            for head in range(heads if role in ("q", "o") else heads // 2 if role in ("k", "v") else 0):
                group = head // 2 if role in ("q", "o") else head
                inner = f"{layer}.heads.{group}.{'values' if role in ('v', 'o') else 'keys'}"
                ends = ("stream", inner) if role in _READERS else (inner, "stream")
                rows.append((f"{name}.heads.{head}", role, layer, head, *ends))
    if unembed:
        rows.append(("unembed", "unembed", None, None, "stream", "vocabulary"))
    weights = pd.DataFrame(rows, columns=["name", "role", "layer", "head", "source", "target"])
    weights = weights.astype({"layer": "Int64", "head": "Int64"}).assign(expert=pd.NA, rank=RANK)

    graph = nx.MultiDiGraph()
    stages = {}
    for row in weights.to_dict("records"):
        outside = -1 if row["role"] == "embed" else layers
        for side, space in (("read", row["source"]), ("write", row["target"])):
            node = f"{row['name']}.{side}"
            layer = outside if pd.isna(row["layer"]) else int(row["layer"])
            head = -1 if pd.isna(row["head"]) else int(row["head"])
            graph.add_node(node, weight=row["name"], side=side, role=row["role"], layer=layer, head=head)
            graph.nodes[node].update(space=space, dimension=WIDTH, rank=RANK)
            stages[node] = layer, ROLE_RECORDS[row["role"]].stage
    rng = np.random.default_rng(seed)
    pairs = []
    in_stream = sorted((node for node in graph if graph.nodes[node]["space"] == "stream"), key=stages.__getitem__)
    for source, target in combinations(in_stream, 2):
        first, second = graph.nodes[source], graph.nodes[target]
        sides = first["side"], second["side"]
        if sides == ("read", "write") or (sides == ("write", "read") and stages[source] >= stages[target]):
            continue
        same_tensor = (first["role"], first["layer"]) == (second["role"], second["layer"])
        if same_tensor and (first["head"] < 0) != (second["head"] < 0):
            continue
        inside = first["layer"] >= 0 and second["layer"] < layers
        lag = second["layer"] - first["layer"] if inside else None
        strength = strengths.get((source, target))
        value = noise * rng.standard_normal() if strength is None else strength
        overlap = NULL_MEAN + (1 - NULL_MEAN) * value
        q_value = 1.0 if strength is None else 0.0
        kind = "-".join(sides)
        pairs.append((source, target, "stream", kind, lag, overlap, NULL_MEAN, value, q_value))
        if strength is not None:
            graph.add_edge(source, target, key=kind, kind=kind, overlap=overlap, overlap_excess=value)
    columns = [
        "source",
        "target",
        "space",
        "kind",
        "lag",
        "overlap",
        "overlap_null_mean",
        EDGE_WEIGHT,
        "overlap_q_value",
    ]
    table = pd.DataFrame(pairs, columns=columns).astype({"lag": "Int64"})
    table = table.assign(
        overlap_sign_flip_mean=NULL_MEAN,
        overlap_mean_matched_mean=NULL_MEAN,
        overlap_norm_matched_mean=NULL_MEAN if matched else np.nan,
    )
    unmet = set(strengths) - set(zip(table["source"], table["target"], strict=True))
    assert not unmet, f"no pair of this network: {unmet}"
    names = sorted({*weights["source"], *weights["target"]})
    return Toy(graph, weights, pd.DataFrame({"name": names, "overlap_basis_independent": True}), table)


def strengths_of(network: Toy) -> dict[tuple[str, str], float]:
    """The edges in the form that `toy` takes."""
    edges = network.edges
    return dict(zip(zip(edges["source"], edges["target"], strict=True), edges["weight"], strict=True))


def random_toy(*, share: float = 0.1, seed: int = 0, **shape) -> Toy:
    """The same with a share of all pairs, drawn at random, as edges of random strength."""
    rng = np.random.default_rng(seed)
    pairs = toy({}, **shape).pairs
    chosen = pairs[rng.random(len(pairs)) < share]
    strengths = rng.uniform(0.1, 0.6, size=len(chosen))
    return toy(dict(zip(zip(chosen["source"], chosen["target"], strict=True), strengths, strict=True)), **shape)
