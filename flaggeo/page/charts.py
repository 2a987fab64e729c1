"""Puts the numbers of an analysis into the Vega specifications of the page."""

import base64
import math
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd

from ..alignment import Observable
from ..alignment.interfaces.balance import IMBALANCE, KEMPF_NESS_GAP
from ..alignment.interfaces.commutator import GRAM_COSINE, RHO
from ..alignment.interfaces.composable import INTERFACE_KINDS
from ..alignment.interfaces.interface_table import balanced
from ..alignment.interfaces.leading_directions import INTERFACE_OVERLAP
from ..inventory import whole_weights
from ..network import ROLE_RECORDS, Side
from ..network.roles import are_of_one_role, bare, head_pair, role_order, tower_of
from ..results.analysis import Analysis
from .parts import number, read_spec

# Edges visible when the page opens; the rest come with the slider.
_FIRST_VIEW = 300
_LANE_HEIGHT = 44
_HEAD_HEIGHT = 9
# Links between heads that the page holds of each kind; the table has all.
_HEAD_LINKS = 200
_NO_PAIR = 255
# Nulls of the overlap at an interface, of which the largest is drawn.
_INTERFACE_NULLS = ["overlap_null_mean", "overlap_sign_flip_mean", "overlap_mean_matched_mean"]

INTERFACE_MEASURES: dict[str, Observable[Any]] = {
    "subspace overlap": INTERFACE_OVERLAP,
    "Gram cosine": GRAM_COSINE,
    "commutator ρ": RHO,
    "imbalance": IMBALANCE,
    "Kempf-Ness gap κ": KEMPF_NESS_GAP,
}

Spec = dict[str, Any]


def lane(role: str, side: str) -> str:
    """Name of a role and side, as the charts and tables print it."""
    return f"{role} {side}s"


def lane_order(name: str) -> tuple[tuple[str, int], bool]:
    """Sort key of a `lane`: by role, what is read first."""
    role, _, side = name.rpartition(" ")
    return role_order(role), side != f"{Side.READ.value}s"


def head_kinds(heads: pd.DataFrame) -> dict[str, str]:
    """What the page calls each kind of pair of heads, in the order in which it offers them."""
    kinds = sorted(heads["kind"].unique(), key=are_of_one_role)
    return {kind: _head_kind(*head_pair(kind)) for kind in kinds}


def _head_kind(first: str, second: str) -> str:
    tower = f"{tower_of(second)}: " * bool(tower_of(second))
    one, other = bare(first), bare(second)
    products = ROLE_RECORDS[other].products
    if one == other:
        return f"{tower}{products} that are alike ({one.upper()}–{other.upper()})"
    return f"{tower}outputs that later {products} read ({one.upper()}→{other.upper()})"


def continuity_chart(analysis: Analysis) -> Spec | None:
    """Continuity of each role in a shared space against depth; None where there is none."""
    whole = whole_weights(analysis.weights).set_index(["role", "layer"])
    channels = {side.value: whole[f"{side.value}_channels"].to_dict() for side in Side}
    rank = analysis.settings.rank
    measures = (
        ("first singular vectors: |cos|", "abs_cos_1", "abs_cos_1_null_mean", "abs_cos_1_null_sd"),
        (f"leading {rank}-dimensional subspaces: overlap", "overlap", "overlap_null_mean", "overlap_null_sd"),
    )
    shared = analysis.continuity[analysis.continuity["shared_space"]]
    nulls = analysis.continuity_nulls[analysis.continuity_nulls["null"] == "norm_matched"]
    norm_matched = nulls.set_index(["role", "side", "measure"])["mean"]
    rows = [
        {
            "panel": lane(row["role"], row["side"]),
            "layer": row["layer"],
            "next_layer": row["next_layer"],
            "measure": measure,
            "value": row[value],
            "unrelated": row[mean],
            "low": max(0.0, row[mean] - 2 * row[spread]),
            "high": min(1.0, row[mean] + 2 * row[spread]),
            "norm_matched": number(norm_matched.get((row["role"], row["side"], value))),
            "undetermined": row["undetermined"] and value == "abs_cos_1",
            "channels": round(channels[row["side"]][row["role"], row["layer"]]),
        }
        for measure, value, mean, spread in measures
        for row in shared[shared[value].notna()].to_dict("records")
    ]
    if not rows:
        return None
    spec = read_spec("continuity.vl.json")
    spec["datasets"] = {"continuity": rows}
    spec["facet"]["sort"] = sorted({row["panel"] for row in rows}, key=lane_order)
    return spec


def graph_chart(analysis: Analysis) -> Spec | None:
    """Alignment graph by layer and lane; None where no two subspaces are significantly aligned."""
    graph = analysis.graph
    if not graph.number_of_edges():
        return None
    numbers = node_numbers(graph)
    tensors = analysis.weights.set_index("name")["tensor"].to_dict()
    heads: dict[str, int] = {}
    for name in numbers:
        node = graph.nodes[name]
        name_of_lane = lane(node["role"], node["side"])
        heads[name_of_lane] = max(heads.get(name_of_lane, 0), node["head"] + 1)
    nodes = [
        {"id": number, "name": name, "lane": lane(node["role"], node["side"]), "edges": graph.degree(name)}
        | {key: node[key] for key in ("layer", "space", "rank", "dimension")}
        | {"stream": bare(node["space"]) == "stream"}
        | ({"tensor": tensors[node["weight"]]} if node["weight"] in tensors else {})
        | _position_of_head(node["head"], heads[lane(node["role"], node["side"])])
        for name, number in numbers.items()
        for node in [graph.nodes[name]]
    ]
    edges = [
        {"s": numbers[source], "t": numbers[target], "kind": edge["kind"], "z": round(edge["overlap_z"], 1)}
        | {"overlap": round(edge["overlap"], 4), "excess": round(edge["overlap_excess"], 4)}
        for source, target, edge in graph.edges(data=True)
    ]
    edges.sort(key=lambda edge: edge["excess"])  # the strongest are drawn last, on top
    in_stream = {node["lane"] for node in nodes if node["stream"]}
    lanes = [{"lane": name, "stream": name in in_stream} for name in sorted(heads, key=lane_order)]
    spec = read_spec("graph.vg.json")
    _signal(spec, "laneHeight")["value"] = max(_LANE_HEIGHT, _HEAD_HEIGHT * max(heads.values()))
    if not in_stream:
        _signal(spec, "spaces")["value"] = "all spaces"
    _fill(spec, {"lanes": lanes, "nodes": nodes, "edges": edges})
    _domain(spec, "x", [graph.nodes[name]["layer"] for name in numbers])
    threshold = _signal(spec, "threshold")
    threshold["value"] = math.floor(100 * edges[-min(_FIRST_VIEW, len(edges))]["excess"]) / 100
    threshold["bind"]["max"] = math.ceil(100 * edges[-1]["excess"]) / 100
    return spec


def node_numbers(graph: "nx.MultiDiGraph[str]") -> dict[str, int]:
    """Number on the page of each subspace that has an edge."""
    return {name: number for number, name in enumerate(name for name in graph if graph.degree(name))}


def _position_of_head(head: int, heads: int) -> Spec:
    """Where in its lane a dot stands, as a share of the lane's height, and how large it is."""
    if head < 0:
        return {"offset": 0.5, "size": 46}
    return {"offset": round((head + 1) / (heads + 1), 3), "size": 24}


def matrix_chart(analysis: Analysis) -> tuple[Spec, Spec] | tuple[None, None]:
    """Overlaps of all pairs in streams by role and layer: the specification, and the numbers in compact form.

    Heads of one role and layer share a row; a cell holds the largest overlap of any two of them. The numbers are
    one byte a cell of the upper triangle, row by row: 254 times the effect size, 255 where there is no pair.
    """
    graph = analysis.graph
    numbers = node_numbers(graph)
    in_stream = [name for name, node in graph.nodes(data=True) if bare(node["space"]) == "stream"]
    # The columns first: millions of whole rows would take as much memory again.
    pairs = analysis.pairs[["source", "target", "overlap_effect_size"]]
    pairs = pairs[analysis.pairs["space"].map(bare) == "stream"]
    if pairs.empty:
        return None, None
    keys = {name: (lane(node["role"], node["side"]), node["layer"]) for name, node in graph.nodes(data=True)}
    order = sorted({keys[name] for name in in_stream}, key=lambda key: (lane_order(key[0]), key[1]))
    index = {key: number for number, key in enumerate(order)}
    positions = {name: index[keys[name]] for name in in_stream}
    first, second = (pairs[end].astype("category").map(positions).to_numpy() for end in ("source", "target"))
    largest = np.full((len(order), len(order)), -np.inf)
    np.maximum.at(
        largest,
        (np.minimum(first, second), np.maximum(first, second)),
        pairs["overlap_effect_size"].fillna(0).to_numpy(),
    )
    upper = largest[np.triu_indices(len(order))]
    codes = np.where(np.isinf(upper), _NO_PAIR, np.round(254 * upper.clip(0, 1))).astype(np.uint8)
    blocks: list[Spec] = [
        {"i": number, "lane": key[0], "name": key[0] if key[1] < 0 else f"{key[0]}, layer {key[1]}", "nodes": []}
        for number, key in enumerate(order)
    ]
    for name in in_stream:
        if name in numbers:
            blocks[index[keys[name]]]["nodes"].append(numbers[name])
    spec = read_spec("matrix.vg.json")
    _fill(spec, {"blocks": [{"i": block["i"], "lane": block["lane"]} for block in blocks]})
    for scale in ("x", "y"):
        _domain(spec, scale, [0, len(order)])
    informative = upper[~np.isinf(upper)]
    _signal(spec, "full")["value"] = max(0.05, math.ceil(20 * float(np.quantile(informative, 0.995))) / 20)
    return spec, {"blocks": blocks, "bytes": base64.b64encode(codes.tobytes()).decode()}


def matrix_figure(analysis: Analysis) -> Spec | None:
    """The same with its numbers in it, for a figure that no script fills."""
    spec, numbers = matrix_chart(analysis)
    if spec is None or numbers is None:
        return None
    codes = np.frombuffer(base64.b64decode(numbers["bytes"]), dtype=np.uint8)
    rows, columns = np.triu_indices(len(numbers["blocks"]))
    cells = [
        {"i": int(i), "j": int(j), "value": code / 254}
        for code, row, column in zip(codes.tolist(), rows, columns, strict=True)
        if code != _NO_PAIR
        for i, j in {(row, column), (column, row)}
    ]
    _fill(spec, {"cells": cells})
    return spec


def heads_chart(analysis: Analysis) -> Spec | None:
    """Attention heads by layer and number with the strongest links of each kind; None without heads."""
    table = analysis.heads.dropna(
        subset="overlap_excess"
    )  # a head that is zero, or as wide as the stream, has no links
    if table.empty:
        return None
    ends = pd.concat(
        [
            table.groupby([table["kind"].str[position].str.lower(), f"{end}_layer", f"{end}_head"])["overlap_excess"]
            .max()
            .rename_axis(["role", "layer", "head"])
            .reset_index()
            for position, end in enumerate(("source", "target"))
        ]
    )
    heads = int(ends["head"].max()) + 1
    of_role = ends.groupby("role")["head"].max() + 1
    ends["keyed"] = ends["role"].map(of_role) < heads  # grouped queries: fewer key and value heads than queries
    ends["row"] = np.where(ends["keyed"], (ends["head"] + 0.5) * heads / ends["role"].map(of_role) - 0.5, ends["head"])
    strongest = ends.groupby(["layer", "head", "keyed", "row"])["overlap_excess"].max().reset_index().to_dict("records")
    numbers = {(row["layer"], row["head"], row["keyed"]): number for number, row in enumerate(strongest)}
    squares = [
        {
            "id": number,
            "layer": row["layer"],
            "head": row["head"],
            "row": row["row"],
            "strongest": round(row["overlap_excess"], 4),
        }
        # Beside the query heads of the layer, so that none hides another.
        | {"x": row["layer"] + 0.4 * row["keyed"]}
        | {"label": f"layer {row['layer']}, {'key-value head' if row['keyed'] else 'head'} {row['head']}"}
        | {"shape": "circle" if row["keyed"] else "square"}
        for number, row in enumerate(strongest)
    ]
    keyed_of = {role: bool(count < heads) for role, count in of_role.items()}
    links = []
    for kind, of_kind in table.groupby("kind", sort=False):
        largest = of_kind.nlargest(_HEAD_LINKS, "overlap_excess")
        for order, row in enumerate(largest.to_dict("records"), start=1):
            source, target = (
                numbers[row[f"{end}_layer"], row[f"{end}_head"], keyed_of[str(kind)[position].lower()]]
                for position, end in enumerate(("source", "target"))
            )
            links.append(
                {"s": source, "t": target, "kind": kind, "order": order}
                | {
                    "kernel": round(row["kernel"], 3),
                    "null": round(row["kernel_null_mean"], 3),
                    "excess": round(row["overlap_excess"], 4),
                }
                | {"composition": number(row["composition_score"])}
            )
    links.sort(key=lambda link: link["excess"])
    spec = read_spec("heads.vg.json")
    spec["height"] = max(200, 26 * heads)
    if not ends["keyed"].any():  # one kind of head, which no legend has to tell from another
        spec["legends"] = [legend for legend in spec["legends"] if "shape" not in legend]
    _fill(spec, {"heads": squares, "edges": links})
    _domain(spec, "x", [square["x"] for square in squares])
    _domain(spec, "y", [0, heads - 1])
    present = head_kinds(table)
    choice = _signal(spec, "kind")
    choice["bind"] |= {"options": list(present), "labels": list(present.values())}
    choice["value"] = next(iter(present))
    return spec


def interfaces_chart(analysis: Analysis) -> Spec | None:
    """Levels of alignment at each interface against depth; None where there is none."""
    interfaces = balanced(analysis.interfaces)
    interfaces = interfaces.assign(overlap_null_mean=interfaces[_INTERFACE_NULLS].max(axis=1))
    records = interfaces[interfaces["kind"].isin(INTERFACE_KINDS)].to_dict("records")
    rows = [
        {"name": row["name"], "kind": row["kind"], "layer": row["layer"], "measure": title}
        | {"value": row[measure.column], "null": number(row[measure.null_column])}
        for title, measure in INTERFACE_MEASURES.items()
        for row in records
        if number(row[measure.column]) is not None
    ]
    if not rows:
        return None
    spec = read_spec("interfaces.vl.json")
    spec["datasets"] = {"interfaces": rows}
    spec["facet"]["row"]["sort"] = list(INTERFACE_MEASURES)
    spec["facet"]["column"]["sort"] = list(INTERFACE_KINDS)
    return spec


def interface_curves_chart(analysis: Analysis) -> Spec | None:
    """Overlap at each number of directions, over all layers; None where there is no interface."""
    curves = balanced(analysis.interfaces_by_rank)
    shown = curves[curves["kind"].isin(INTERFACE_KINDS)]
    if shown.empty:
        return None
    shown = shown.assign(null=shown[_INTERFACE_NULLS].max(axis=1))
    layers = shown.groupby(["kind", "k", "layer"])[["overlap", "null"]].mean()
    over_layers = layers.groupby(["kind", "k"]).agg(
        mean=("overlap", "mean"),
        low=("overlap", lambda means: means.quantile(0.1)),
        high=("overlap", lambda means: means.quantile(0.9)),
        null=("null", "mean"),
        layers=("overlap", "size"),
    )
    spec = read_spec("interface_curves.vl.json")
    spec["datasets"] = {"interface-curves": over_layers.reset_index().to_dict("records")}
    spec["facet"]["column"]["sort"] = list(INTERFACE_KINDS)
    return spec


def _fill(spec: Spec, data: dict[str, list[Spec]]) -> None:
    for source in spec["data"]:
        if source["name"] in data:
            source["values"] = data[source["name"]]


def _signal(spec: Spec, name: str) -> Spec:
    return next(signal for signal in spec["signals"] if signal["name"] == name)


def _domain(spec: Spec, scale: str, values: list[int]) -> None:
    """Give a scale its ends; marks are placed by it before the data that it would read them from."""
    low, high = min(values), max(values)
    next(item for item in spec["scales"] if item["name"] == scale)["domain"] = [low, high if high > low else low + 1]
