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

from manifolds import abs_cosine_moments, pairwise_gram_inner_product

from ..alignment import SEEDED_NULLS, Schema, effect_size, head_clusters, head_divergences, schemas
from ..graph import Structure, structure
from ..graph.alignment_graph import FALSE_DISCOVERY_RATE, alignment_graph
from ..inventory import SKIPPED_SCHEMA, SPACE_SCHEMA, WEIGHT_SCHEMA, whole_weights
from ..network.roles import QUERY_HEAD_ROLES, bare, role_order, tower_of
from .saved import Kind, Result
from .storage import saved_file

_BASES_FILE = "bases.safetensors"
_GRAPH_FILE = "graph.graphml"
# What the summary has the mean of over the layers.
_MEANS = (
    "abs_cos_1",
    "abs_cos_2",
    "sigma2_weighted",
    "overlap",
    "abs_cos_1_null_mean",
    "overlap_null_mean",
    "abs_cos_1_mean_matched_mean",
    "overlap_mean_matched_mean",
    "energy",
)


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Analysis(Result):
    """The measurements of one network. The columns of all tables are documented in ``docs/tables.md``.

    Attributes
    ----------
    weights, spaces, skipped : pandas.DataFrame
        What there is to compare: one row a weight, a space, and a tensor that was not used.
    continuity : pandas.DataFrame
        One row a role, side and pair of neighbouring layers.
    continuity_by_rank, continuity_by_lag : pandas.DataFrame
        The same at every number of leading directions, and at every distance in layers.
    continuity_nulls : pandas.DataFrame
        Continuity under the nulls that keep outlier channels, in closed form and where they were drawn.
    readings : pandas.DataFrame
        Continuity of first directions as the weights are stored, and with the norms beside them folded in.
    trajectories, trajectory_variance : pandas.DataFrame
        Where the first singular vectors of a role lie, layer by layer, in their three main components, and how much
        of their variance these explain.
    pairs : pandas.DataFrame
        One row a pair of subspaces of one space. Where heads were asked for, they stand in place of their
        projections; the stack of a layer's experts stands in place of these.
    pair_nulls : pandas.DataFrame
        What unrelated subspaces give for each number in `pairs`: one row a combination of dimensions and a column.
    stability : pandas.DataFrame
        Whether the pairs would stand at other ranks and after rounding. Empty unless this was asked for.
    interfaces : pandas.DataFrame
        One row a pair of weights of which the one writes what the other reads, inside an MLP or a head.
    interfaces_by_rank : pandas.DataFrame
        The same at every number of leading directions.
    heads : pandas.DataFrame
        One row a pair of attention heads at their full width. Empty where heads were not asked for.
    experts : pandas.DataFrame
        One row a role of experts and pair of neighbouring layers, matched one to one, and one a role and layer, for how
        alike its experts are. Empty where there are none.
    bases : mapping of str to Tensor
        Frames ``layers.3.q.read``, shape=[dim, rank], and ``layers.3.q.singular_values``, those of the frames and the
        next, or all of them where spectra were measured; of a stack of experts the frame at the stream alone. In
        float32 once loaded.
    provenance : mapping
        What was read, with what settings and versions, and when.
    """

    KIND = Kind(
        name="an analysis",
        record_file="result.json",
        page_file="report.html",
        schema_version=9,
        remedy="analyze the checkpoint again",
        renderer="render_report",
        teller="findings",
        further_files=(_BASES_FILE, _GRAPH_FILE),
    )

    weights: pd.DataFrame
    spaces: pd.DataFrame
    continuity: pd.DataFrame
    continuity_by_rank: pd.DataFrame
    continuity_by_lag: pd.DataFrame
    continuity_nulls: pd.DataFrame
    readings: pd.DataFrame
    trajectories: pd.DataFrame
    trajectory_variance: pd.DataFrame
    pairs: pd.DataFrame
    pair_nulls: pd.DataFrame
    stability: pd.DataFrame
    interfaces: pd.DataFrame
    interfaces_by_rank: pd.DataFrame
    heads: pd.DataFrame
    experts: pd.DataFrame
    skipped: pd.DataFrame
    bases: Mapping[str, Tensor]

    @cached_property
    def graph(self) -> "nx.MultiDiGraph[str]":
        """Alignment graph of the significant pairs, see `alignment_graph`."""
        return alignment_graph(self.weights, self.pairs, self.stability)

    @cached_property
    def structure(self) -> Structure:
        """Statistics of that graph, see `flaggeo.graph`."""
        return structure(self.graph, self.weights, self.spaces, self.pairs)

    def overlap_matrix(self, space: str) -> pd.DataFrame:
        """Projection overlaps of all subspaces of one space with each other, as one symmetric matrix.

        One number for each pair, where `pairs` has 29 columns: a model of 32 layers with 32 heads has 2,700 subspaces
        in its stream, and their matrix takes 29 MB.

        Parameters
        ----------
        space : str
            Name of a space whose subspaces were compared: ``stream``.

        Returns
        -------
        overlaps : pandas.DataFrame, shape=[subspaces, subspaces]
            In [0, 1], in float32, with the names of the subspaces in order of depth. It also has the pairs that `pairs`
            leaves out, such as a later writing and an earlier reading.

        Raises
        ------
        ValueError
            If no pair of that space was measured.

        Examples
        --------
        >>> import torch
        >>> from flaggeo import analyze, load
        >>> model = {f"layers.{layer}.self_attn.q_proj.weight": torch.eye(4) for layer in range(2)}
        >>> overlaps = analyze(load(model), rank=2).overlap_matrix("stream")
        >>> float(overlaps.loc["layers.0.q.read", "layers.1.q.read"])
        1.0
        """
        inside = self.pairs.loc[self.pairs["space"] == space, ["source", "target"]]
        if inside.empty:
            raise ValueError(f"space: expected one of which there are pairs, such as 'stream'; got {space!r}")
        compared = {*inside["source"].unique(), *inside["target"].unique()}
        ends = (f"{weight}.{side}" for weight in self.weights["name"] for side in ("read", "write"))
        names = [end for end in ends if end in compared]
        frames = [self.bases[name].float() for name in names]
        ranks = np.array([frame.shape[1] for frame in frames])
        shared = pairwise_gram_inner_product(frames).cpu().numpy()
        overlaps = (shared / np.minimum(ranks[:, None], ranks)).clip(0, 1)
        return pd.DataFrame(overlaps.astype(np.float32), index=names, columns=names)

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
            ``abs_cos_1``, ``abs_cos_2``, ``sigma2_weighted`` and ``overlap`` are means over ``layer_pairs``, those of
            two weights that have a direction. Beside ``abs_cos_1`` stand the Haar mean ``_null_mean``, the effect size
            over it, ``_z`` of a mean over so many pairs, the mean ``_mean_matched_mean`` under the mean-matched null,
            the means ``_norm_matched_mean`` and ``_sign_flip_mean``, over the draws where there are some and in closed
            form where not, ``_excess``, the effect size over the largest of the four, and ``_equalised``, its value
            with all coordinates brought to one norm, NaN without draws. ``significant_pairs`` counts
            the layer pairs whose q-value is at most `FALSE_DISCOVERY_RATE`, missing where they share no space; outlier
            channels may account for their size. ``overlap_far`` is the mean overlap of layers ``far_lag`` or more
            apart, half of the network, counted along the role. ``channels`` is the median participation ratio of the
            first singular vector: on how many coordinates of ``dim`` it lives (dim / 3 for a random one), and
            ``mean_share`` the median of its share along the constant direction and the channels' norms.
            ``undetermined`` is the share of layer pairs whose first direction is. Rows with a shared space come first.
        """
        whole = whole_weights(self.weights)
        far = self.continuity_by_lag[self.continuity_by_lag["distant"] & self.continuity_by_lag["shared_space"]]
        nulls_of_cosines = self.continuity_nulls[self.continuity_nulls["measure"] == "abs_cos_1"]
        cosines = nulls_of_cosines.set_index(["role", "side", "null"])["mean"]
        rows = []
        for (role, side), group in self.continuity.groupby(["role", "side"], sort=False):
            weights = whole[whole["role"] == role]
            stacked = bool(weights["stacked"].notna().all())
            distant = far[(far["role"] == role) & (far["side"] == side)]
            dim = int(weights["source_dim" if side == "read" else "target_dim"].iloc[0])
            mean, sd = abs_cosine_moments(dim)
            cosine, count = group["abs_cos_1"].mean(), int(group["abs_cos_1"].count())
            means = {column: float(group[column].mean()) for column in _MEANS}
            nulls = {null: cosines.get((role, side, null), np.nan) for null in SEEDED_NULLS}
            largest = np.nanmax([mean, means["abs_cos_1_mean_matched_mean"], *nulls.values()])
            shared = bool(group["shared_space"].all())
            significant = (group["abs_cos_1_q_value"] <= FALSE_DISCOVERY_RATE).sum()
            rows.append(
                {"role": role, "side": side, "stacked": stacked, "shared_space": shared}
                | {"basis_independent": bool(group["basis_independent"].all())}
                | {"layer_pairs": count, "dim": dim}
                | means
                | {
                    "abs_cos_1_effect_size": float(effect_size(cosine, mean)),
                    "abs_cos_1_z": (cosine - mean) * np.sqrt(count) / sd if sd > 0 else np.nan,
                    "significant_pairs": significant if shared else pd.NA,
                    "overlap_far": np.average(distant["overlap"], weights=distant["pairs"]) if len(distant) else np.nan,
                    "far_lag": max(2, len(weights) // 2),
                    "channels": float(weights[f"{side}_channels"].median()),
                    "mean_share": float(weights[f"{side}_mean_share"].median()),
                    "undetermined": float(group["undetermined"].mean()),
                }
                | {f"abs_cos_1_{null}_mean": value for null, value in nulls.items()}
                | {"abs_cos_1_equalised": cosines.get((role, side, "equalised"), np.nan)}
                | {"abs_cos_1_excess": float(effect_size(cosine, largest))}
            )
        table = pd.DataFrame(rows)
        if table.empty:
            return table
        table = table.astype({"significant_pairs": "Int64"})
        return table.sort_values(["shared_space", "role"], key=_in_order, ascending=[False, True], ignore_index=True)

    @classmethod
    def schemas(cls) -> Mapping[str, Schema]:
        """Columns of every table, by its name."""
        known = {"weights": WEIGHT_SCHEMA, "spaces": SPACE_SCHEMA, "skipped": SKIPPED_SCHEMA} | dict(schemas())
        return {name: known[name] for name in cls.table_names()}

    @property
    def attention_heads(self) -> int:
        """Number of attention heads whose slices are among the weights."""
        sliced = self.weights[self.weights["head"].notna() & self.weights["role"].map(bare).isin(QUERY_HEAD_ROLES)]
        return len(sliced.assign(tower=sliced["role"].map(tower_of))[["tower", "layer", "head"]].drop_duplicates())

    def chart(self, name: str, **settings: str | float) -> Any:
        """One chart of the page, to be shown in a notebook, saved, or changed with Altair.

        Parameters
        ----------
        name : str
            ``continuity``, ``graph``, ``matrix``, ``heads``, ``interfaces`` or ``interface-curves``.
        **settings
            Values of the chart's controls, of the graph for example ``threshold=0.3, kind="write-read"``.

        Returns
        -------
        chart : flaggeo.page.notebook.Chart

        Raises
        ------
        ValueError
            If there is no such chart or setting, or nothing was measured for it.
        """
        return self._rendered("chart", name, settings)

    def _repr_html_(self) -> str:
        return f"{self._rendered('render_cards')}{super()._repr_html_()}"

    def _facts(self) -> Mapping[str, object]:
        settings = self.settings
        return {
            "checkpoint": Path(self.provenance["checkpoint"]).name,
            "family": self.provenance["family"],
            "layers": self.provenance["layers"],
            "weights": int((self.weights["head"].isna() & self.weights["stacked"].isna()).sum()),
            "heads": self.attention_heads,
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
        return super()._loaded(folder) | {"bases": load_file(saved_file(folder, _BASES_FILE))}


def _in_order(column: Any) -> Any:
    """Sort key: a column of roles by `role_order`, any other as it is."""
    return column.map(role_order) if column.name == "role" else column
