"""Heads and layers that repeat each other, in one list, with what mergekit and llama.cpp call them."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ..network.families.gguf_names import gguf_tensor
from ..network.roles import bare, tower_of
from ..results.analysis import Analysis
from .finding import LEAST_EXCESS, Finding

# Groups of heads, and pairs of layers, that the list has.
_MOST = 30


@dataclass(frozen=True)
class HeadGroup:
    """Heads of one role that repeat each other.

    Attributes
    ----------
    heads : list of str
        Names of the subspaces.
    whole, leading : float
        Mean excess over all pairs of them, at the full width of the heads and at the kept rank.
    of_whole, of_leading : bool
        At which of the two they were found to be a group.
    """

    heads: list[str]
    whole: float
    leading: float
    of_whole: bool
    of_leading: bool


def repeating_heads(analysis: Analysis) -> list[HeadGroup]:
    """Groups of heads that stand out at full width or at the kept rank, the largest excess first.

    At the kept rank they are known where structure was measured.
    """
    if analysis.heads.empty:
        return []
    whole = [group.split(", ") for group in analysis.head_clusters["heads"]]
    leading = []
    if "structure" in analysis.settings.measure:
        leading = [group["subspace"].tolist() for _, group in analysis.structure.cliques.groupby("clique")]
    of_whole, of_leading = ({frozenset(group) for group in found} for found in (whole, leading))
    # Of the millions of pairs only those between heads of some group, once.
    named = {name for group in whole + leading for name in group}
    heads, pairs = (_inside(table, named) for table in (analysis.heads, analysis.pairs))
    rows = [
        HeadGroup(
            group,
            whole=_mean_excess(heads, group),
            leading=_mean_excess(pairs, group),
            of_whole=key in of_whole,
            of_leading=key in of_leading,
        )
        for key, group in {frozenset(group): group for group in whole + leading}.items()
    ]
    standing_out = [row for row in rows if max(row.whole, row.leading) >= LEAST_EXCESS]
    return sorted(standing_out, key=lambda row: -max(row.whole, row.leading))


def repeats_findings(analysis: Analysis) -> list[Finding]:
    """How many groups of heads repeat each other, and how many of them were found in which way, where it was asked."""
    if analysis.heads.empty:
        return []
    groups = repeating_heads(analysis)
    leading = [group for group in groups if group.of_leading]
    whole = sum(group.of_whole for group in groups)
    numbers = {
        "groups": len(groups),
        "shown": min(len(groups), _MOST),
        "whole": whole,
        "leading": len(leading),
        "pairs": sum(len(group.heads) == 2 for group in leading),
        "both": sum(group.of_whole for group in leading),
        "rank": analysis.settings.rank if "structure" in analysis.settings.measure else None,
        "explained": len(analysis.head_clusters) - whole,
    }
    return [Finding("repeating_heads", "present" if groups else "absent", numbers, "repeats")]


def repeats_table(analysis: Analysis) -> pd.DataFrame:
    """Groups of heads, then pairs of neighbouring layers, each with its excess at full width and at the kept rank.

    A group of heads is listed if it stands out at either of the two. Empty where nothing repeats, or was not measured.
    """
    one_tower = not any(map(tower_of, analysis.weights["role"]))
    ranked = f"excess at rank {analysis.settings.rank}"
    rows = [
        {"what": "heads", "which": ", ".join(group.heads), "excess at full width": group.whole, ranked: group.leading}
        | {"in llama.cpp": _blocks(group.heads), "layers kept (mergekit)": None}
        for group in repeating_heads(analysis)[:_MOST]
    ]
    rows += [
        {"what": "layers", "which": f"{pair['layer']} and {pair['next_layer']}", "excess at full width": None}
        | {ranked: pair["value"], "in llama.cpp": f"blk.{pair['layer']}, blk.{pair['next_layer']}"}
        | {"layers kept (mergekit)": _slices(pair["next_layer"], analysis.provenance["layers"]) if one_tower else None}
        for pair in _layers(analysis)
    ]
    numbers = dict.fromkeys(("excess at full width", ranked), "float64")
    return pd.DataFrame(rows).astype(numbers).dropna(axis="columns", how="all") if rows else pd.DataFrame()


def _inside(pairs: pd.DataFrame, names: Collection[str]) -> pd.DataFrame:
    return pairs[pairs["source"].isin(names) & pairs["target"].isin(names)]


def _mean_excess(pairs: pd.DataFrame, names: Collection[str]) -> float:
    return float(_inside(pairs, names)["overlap_excess"].mean())


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
