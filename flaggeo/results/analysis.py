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
from .storage import BASES_FILE, GRAPH_FILE, REPORT_FILE, RESULT_FILE, RESULT_NAMES, TABLES, load_tables, save_tables

SCHEMA_VERSION = 4


@dataclass(frozen=True)
class Analysis:
    """The measurements of one network. The columns of all tables are documented in ``docs/tables.md``.

    Attributes
    ----------
    weights : pandas.DataFrame
        One row a weight: where it stands, its leading spectrum and the certificate of it.
    spaces : pandas.DataFrame
        One row a space: dimension, symmetry, and whether angles measured there survive it.
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
        all of them, shape=[min(m, n)].
    provenance : mapping
        What was read, with what settings and versions, and when.
    """

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
    provenance: Mapping[str, Any]

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
            the layer pairs whose q-value is at most `FALSE_DISCOVERY_RATE`, missing where they share no space; loud
            channels may account for their size, see `step_chance`. ``overlap_far`` is the mean overlap of layers
            ``far_lag`` or more apart, half of the network, counted along the role. ``channels`` is the median
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

    def save(self, folder: str | Path, *, report: str | None = None, overwrite: bool = False) -> None:
        """Write everything to a folder, at once or not at all.

        Parameters
        ----------
        folder : str or Path
            Made if missing.
        report : str, optional
            The page, from `flaggeo.render_report`, stored beside the tables as ``report.html``.
        overwrite : bool, optional
            Replace an earlier result in this folder.

        Raises
        ------
        FileExistsError
            If the folder is in use and `overwrite` is False, or it holds anything but a result.
        PermissionError
            If nothing may be written there.

        Notes
        -----
        The folder holds ``result.json`` (schema version, provenance, summary), each table as CSV and
        Parquet, ``bases.safetensors`` (float32), ``graph.graphml``.
        """
        record = {
            "schema_version": SCHEMA_VERSION,
            "provenance": dict(self.provenance),
            "summary": json.loads(self.summary.to_json(orient="records")),
        }
        save_tables(
            Path(folder),
            {name: getattr(self, name) for name in TABLES},
            {RESULT_FILE: record},
            {REPORT_FILE: report},
            others={GRAPH_FILE: partial(nx.write_graphml, self.graph), BASES_FILE: self._write_bases},
            names=RESULT_NAMES,
            overwrite=overwrite,
        )

    def _write_bases(self, path: Path) -> None:
        path.write_bytes(serialize({name: frame.float().cpu().contiguous() for name, frame in self.bases.items()}))

    @classmethod
    def load(cls, folder: str | Path) -> "Analysis":
        """Read back what `save` wrote; the checkpoint is not needed.

        Parameters
        ----------
        folder : str or Path

        Returns
        -------
        analysis : Analysis
            With frames in float32.

        Raises
        ------
        FileNotFoundError
            If the folder holds no result.
        ValueError
            If another version of flaggeo wrote it in a form that this one does not know.
        """
        folder = Path(folder)
        tables, record = load_tables(
            folder, TABLES, RESULT_FILE, "a result", SCHEMA_VERSION, "analyze the checkpoint again"
        )
        return cls(**tables, bases=load_file(folder / BASES_FILE), provenance=record["provenance"])


def _by(order: Mapping[str, int]) -> Callable[[Any], Any]:
    """Sort key: a column of roles by `order`, any other as it is."""
    return lambda column: column.map(order) if column.name == "role" else column
