"""Heads and layers that repeat each other, in one list, with what mergekit and llama.cpp call them."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from ..network.families.gguf_names import gguf_tensor
from ..network.roles import bare, tower_of
from ..results.analysis import Analysis
from .finding import LEAST_EXCESS

_MOST = 30


def repeats_table(analysis: Analysis) -> pd.DataFrame:
    """Groups of heads, then pairs of neighbouring layers, each with its excess at full width and at the kept rank.

    A group of heads is listed if it stands out at either of the two. Empty where nothing repeats, or was not measured.
    """
    one_tower = not any(map(tower_of, analysis.weights["role"]))
    ranked = f"excess at rank {analysis.settings.rank}"
    rows = [
        {"what": "heads", "which": ", ".join(heads), "excess at full width": whole, ranked: leading}
        | {"in llama.cpp": _blocks(heads), "layers kept (mergekit)": None}
        for heads, whole, leading in _groups(analysis)
    ]
    rows += [
        {"what": "layers", "which": f"{pair['layer']} and {pair['next_layer']}", "excess at full width": None}
        | {ranked: pair["value"], "in llama.cpp": f"blk.{pair['layer']}, blk.{pair['next_layer']}"}
        | {"layers kept (mergekit)": _slices(pair["next_layer"], analysis.provenance["layers"]) if one_tower else None}
        for pair in _layers(analysis)
    ]
    numbers = dict.fromkeys(("excess at full width", ranked), "float64")
    return pd.DataFrame(rows).astype(numbers).dropna(axis="columns", how="all") if rows else pd.DataFrame()


def _groups(analysis: Analysis) -> list[tuple[list[str], float, float]]:
    """Groups of heads of one role, the largest excess first, with their mean excess over all pairs in either way."""
    if analysis.heads.empty:
        return []
    found = [group.split(", ") for group in analysis.head_clusters["heads"]]
    if "structure" in analysis.settings.measure:
        found += [group["subspace"].tolist() for _, group in analysis.structure.cliques.groupby("clique")]
    groups = {frozenset(group): group for group in found}
    rows = []
    for group in groups.values():
        whole, leading = (_mean_excess(table, group) for table in (analysis.heads, analysis.pairs))
        if max(whole, leading) >= LEAST_EXCESS:
            rows.append((group, whole, leading))
    return sorted(rows, key=lambda row: -max(row[1:]))[:_MOST]


def _mean_excess(pairs: pd.DataFrame, names: list[str]) -> float:
    inside = pairs["source"].isin(names) & pairs["target"].isin(names)
    return float(pairs.loc[inside, "overlap_excess"].mean())


def _layers(analysis: Analysis) -> list[dict[Any, Any]]:
    """Neighbouring layers that are more alike than any two layers further apart."""
    if "structure" not in analysis.settings.measure:
        return []
    blocks = analysis.structure.blocks
    alike = blocks[(blocks["value"] > blocks["null_largest"]) & (blocks["value"] >= LEAST_EXCESS)]
    return alike.head(_MOST).to_dict("records")


def _blocks(heads: Iterable[str]) -> str:
    """Tensors of a GGUF file that hold these heads, each once."""
    parts = [name.rpartition("layers.")[2].split(".") for name in heads]
    return ", ".join(dict.fromkeys(gguf_tensor(bare(role), layer) for layer, role, *_ in parts))


def _slices(left_out: int, layers: int) -> str:
    """Slices of mergekit's passthrough that are left without a layer."""
    kept = [(0, left_out), (left_out + 1, layers)]
    return " ".join(f"[{first}, {end}]" for first, end in kept if first < end)
