"""What an analysis found: its tables, its graph and its summary, saved and loaded."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor

from manifolds import abs_cosine_moments

from ..alignment import SEEDED_NULLS, head_clusters, head_divergences
from ..graph import Structure, structure
from ..graph.alignment_graph import FALSE_DISCOVERY_RATE, alignment_graph
from ..network import ROLES
from .saved import Kind, Result

_BASES_FILE = "bases.safetensors"
_GRAPH_FILE = "graph.graphml"


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Analysis(Result):
    """The measurements of one network. The columns of all tables are documented in ``docs/tables.md``.

    Attributes
    ----------
    weights : pandas.DataFrame
        One row a weight: where it stands, its leading spectrum and the certificate of it.
    spaces : pandas.DataFrame
        One row a space: dimension, symmetry, and whether angles measured there are basis-independent.
    continuity : pandas.DataFrame
        One row a role, side and pair of neighbouring layers.
    curves : pandas.DataFrame
        The overlap of neighbouring layers at every rank up to the one kept.
    lags : pandas.DataFrame
        One row a role, side and distance in layers.
    paths : pandas.DataFrame
        Where the first singular vectors of a role lie, layer by layer, in their three main components.
    path_variance : pandas.DataFrame
        One row a role and side: what those components explain.
    nulls : pandas.DataFrame
        One row a role, side, null and measure: continuity under seeded nulls. Empty without draws.
    pairs : pandas.DataFrame
        One row a pair of subspaces of one space. Where heads were asked for, they stand in place of their
        projections.
    chance : pandas.DataFrame
        What unrelated subspaces give for each number in `pairs`: one row a combination of dimensions that occurs
        there and a column.
    interfaces : pandas.DataFrame
        One row a pair of weights of which the one writes what the other reads, inside an MLP or a head.
    interface_curves : pandas.DataFrame
        What is written and what is read there, at every number of leading directions up to the one compared.
    heads : pandas.DataFrame
        One row a pair of attention heads at their full width. Empty where heads were not asked for.
    skipped : pandas.DataFrame
        One row a tensor that was not used, with the reason.
    bases : mapping of str to Tensor
        Frames ``layers.3.q.read``, shape=[dim, rank], and ``layers.3.q.singular_values``,
        all of them, shape=[min(m, n)]. In float32 once loaded.
    provenance : mapping
        What was read, with what settings and versions, and when.
    """

    KIND = Kind(
        name="an analysis",
        record_file="result.json",
        page_file="report.html",
        schema_version=5,
        remedy="analyze the checkpoint again",
        renderer="render_report",
        teller="findings",
        further_files=(_BASES_FILE, _GRAPH_FILE),
    )

    weights: pd.DataFrame
    spaces: pd.DataFrame
    continuity: pd.DataFrame
    curves: pd.DataFrame
    lags: pd.DataFrame
    paths: pd.DataFrame
    path_variance: pd.DataFrame
    nulls: pd.DataFrame
    pairs: pd.DataFrame
    chance: pd.DataFrame
    interfaces: pd.DataFrame
    interface_curves: pd.DataFrame
    heads: pd.DataFrame
    skipped: pd.DataFrame
    bases: Mapping[str, Tensor]

    @cached_property
    def graph(self) -> "nx.MultiDiGraph[str]":
        """Alignment graph of the pairs that stand out, see `alignment_graph`."""
        return alignment_graph(self.weights, self.pairs)

    @cached_property
    def structure(self) -> Structure:
        """What that graph says about the network as a whole, see `flaggeo.graph`."""
        return structure(self.graph, self.weights, self.spaces, self.pairs)

    @cached_property
    def head_clusters(self) -> pd.DataFrame:
        """Groups of heads that read or write nearly the same, see `flaggeo.alignment.head_clusters`."""
        return head_clusters(self.heads)

    @cached_property
    def head_kinds(self) -> pd.DataFrame:
        """Each kind of pair of heads against unrelated ones, see `flaggeo.alignment.head_divergences`."""
        return head_divergences(self.heads)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Continuity averaged over neighbouring layers: one row a role and side.

        Returns
        -------
        table : pandas.DataFrame
            ``abs_cos_1``, ``abs_cos_2``, ``sigma2_weighted`` and ``overlap`` are means over ``layer_pairs``,
            those of two weights that have a direction; ``adjusted`` is (abs_cos_1 - E) / (1 - E) with the Haar
            mean E in ``null_mean``; ``z`` is (abs_cos_1 - E) / (sd / sqrt(layer_pairs)). ``beyond_chance`` counts
            the layer pairs whose q-value is at most `FALSE_DISCOVERY_RATE`, missing where they share no space;
            outlier channels may account for their size, see `step_chance`. ``overlap_far`` is the mean overlap of
            layers ``far_lag`` or more apart, half of the network, counted along the role. ``channels`` is the median
            participation ratio of the first singular vector: on how many coordinates of ``dim`` it lives (dim /
            3 for a random one). ``undetermined`` is the share of layer pairs whose first direction is.
            ``margin_matched`` and ``sign_flip`` are what those nulls give for ``abs_cos_1``, ``equalised`` is
            its value with all norms of the side's coordinates made equal, and ``excess`` is ``abs_cos_1`` minus
            the largest of the three nulls (with ``null_mean``); all four are NaN without draws. Rows with a
            shared space come first.
        """
        means = ["abs_cos_1", "abs_cos_2", "sigma2_weighted", "overlap", "null_mean", "overlap_null_mean", "energy"]
        whole = self.weights[self.weights["head"].isna()]
        far = self.lags[self.lags["distant"] & self.lags["shared_space"]]
        cosines = self.nulls[self.nulls["measure"] == "abs_cos_1"].set_index(["role", "side", "null"])["mean"]
        rows = []
        for (role, side), group in self.continuity.groupby(["role", "side"], sort=False):
            weights = whole[whole["role"] == role]
            distant = far[(far["role"] == role) & (far["side"] == side)]
            dim = int(weights["source_dim" if side == "read" else "target_dim"].iloc[0])
            mean, spread = abs_cosine_moments(dim)
            cosine, count = group["abs_cos_1"].mean(), int(group["abs_cos_1"].count())
            nulls = {null: cosines.get((role, side, null), np.nan) for null in (*SEEDED_NULLS, "equalised")}
            rows.append(
                {"role": role, "side": side, "shared_space": bool(group["shared_space"].all())}
                | {"survives": bool(group["survives"].all())}
                | {"layer_pairs": count, "dim": dim}
                | {column: float(group[column].mean()) for column in means}
                | {
                    "adjusted": (cosine - mean) / (1 - mean) if mean < 1 else np.nan,
                    "z": (cosine - mean) * np.sqrt(count) / spread if spread > 0 else np.nan,
                    "beyond_chance": (group["q_value"] <= FALSE_DISCOVERY_RATE).sum()
                    if group["shared_space"].all()
                    else pd.NA,
                    "overlap_far": np.average(distant["overlap"], weights=distant["pairs"]) if len(distant) else np.nan,
                    "far_lag": max(2, len(weights) // 2),
                    "channels": float(weights[f"{side}_channels"].median()),
                    "undetermined": float(group["undetermined"].mean()),
                }
                | nulls
                | {"excess": cosine - max(mean, *(nulls[null] for null in SEEDED_NULLS)) if len(cosines) else np.nan}
            )
        table = pd.DataFrame(rows)
        if table.empty:
            return table
        table = table.astype({"beyond_chance": "Int64"})
        order = {role: position for position, role in enumerate(ROLES)}
        return table.sort_values(["shared_space", "role"], key=_by(order), ascending=[False, True], ignore_index=True)

    def _facts(self) -> Mapping[str, object]:
        settings, heads = self.settings, int(self.weights["head"].notna().sum())
        return {
            "checkpoint": Path(self.provenance["checkpoint"]).name,
            "family": self.provenance["family"],
            "layers": self.provenance["layers"],
            "weights": len(self.weights) - heads,
            "heads": heads,
            "rank": settings.rank,
            "draws": settings.draws,
            "spaces": len(self.spaces),
            "pairs": len(self.pairs),
            "interfaces": len(self.interfaces),
        }

    def _record(self) -> dict[str, Any]:
        return super()._record() | {"summary": json.loads(self.summary.to_json(orient="records"))}

    def _writers(self) -> dict[str, Callable[[Path], object]]:
        return {_GRAPH_FILE: partial(nx.write_graphml, self.graph), _BASES_FILE: self._write_bases}

    def _write_bases(self, path: Path) -> None:
        path.write_bytes(serialize({name: frame.float().cpu().contiguous() for name, frame in self.bases.items()}))

    @classmethod
    def _loaded(cls, folder: Path) -> dict[str, Any]:
        return super()._loaded(folder) | {"bases": load_file(folder / _BASES_FILE)}


def _by(order: Mapping[str, int]) -> Callable[[Any], Any]:
    """Sort key: a column of roles by `order`, any other as it is."""
    return lambda column: column.map(order) if column.name == "role" else column
