"""What a comparison found: its tables, saved and loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from .storage import (
    COMPARISON_FILE,
    COMPARISON_NAMES,
    COMPARISON_REPORT_FILE,
    COMPARISON_TABLES,
    load_tables,
    save_tables,
)

SCHEMA_VERSION = 1
_RANKED = ("rms_angle", "overlap", "null_mean", "flag_distance", "angle_1", "undetermined")


@dataclass(frozen=True)
class Comparison:
    """How far the weights of two versions of a network, a and b, lie apart.

    Attributes
    ----------
    weights : pandas.DataFrame
        One row a weight and side: how far its leading subspace moved, see `drift_table`.
    deltas : pandas.DataFrame
        One row a weight: relative change of its singular values (``sigma_change``: of the leading ones, in the
        Euclidean norm; ``sigma_max_a``, ``sigma_max_b``) and the kind of the change, see `measure_delta`; the
        latter is missing where one of the two is a saved analysis.
    summary : pandas.DataFrame
        One row a role, side and column of `Analysis.summary`: ``a``, ``b``, ``change``.
    observables : pandas.DataFrame
        One row an observable: its means in both, and where it changed most.
    pairs : pandas.DataFrame
        One row a pair of subspaces of one space: overlap in both, and whether its edge appeared or vanished.
    skipped : pandas.DataFrame
        One row a weight that was not compared, with the reason.
    provenance : mapping
        What was read, with what settings and versions, and when.
    """

    weights: pd.DataFrame
    deltas: pd.DataFrame
    summary: pd.DataFrame
    observables: pd.DataFrame
    pairs: pd.DataFrame
    skipped: pd.DataFrame
    provenance: Mapping[str, Any]

    @cached_property
    def ranked(self) -> pd.DataFrame:
        """Weights and sides by how far their leading subspace moved, farthest first.

        Returns
        -------
        table : pandas.DataFrame
            The main columns of `weights`, with ``relative_norm`` and ``change_rank`` of the weight's change.
        """
        changes = self.deltas[["name", "relative_norm", "rank"]].rename(columns={"rank": "change_rank"})
        table = self.weights[["name", "side", "role", "layer", *_RANKED]].merge(changes, on="name")
        return table.sort_values(
            ["rms_angle", "relative_norm"], ascending=False, na_position="last", kind="stable", ignore_index=True
        )

    def save(self, folder: str | Path, *, report: str | None = None, overwrite: bool = False) -> None:
        """Write everything to a folder, at once or not at all.

        Parameters
        ----------
        folder : str or Path
            Made if missing.
        report : str, optional
            The page, from `flaggeo.render_comparison`, stored beside the tables as ``comparison.html``.
        overwrite : bool, optional
            Replace an earlier comparison in this folder.

        Raises
        ------
        FileExistsError
            If the folder is in use and `overwrite` is False, or it holds anything but a comparison.
        PermissionError
            If nothing may be written there.

        Notes
        -----
        The folder holds ``comparison.json`` (schema version, provenance) and each table as CSV and Parquet.
        """
        save_tables(
            Path(folder),
            {name: getattr(self, name) for name in COMPARISON_TABLES},
            {COMPARISON_FILE: {"schema_version": SCHEMA_VERSION, "provenance": dict(self.provenance)}},
            {COMPARISON_REPORT_FILE: report},
            names=COMPARISON_NAMES,
            overwrite=overwrite,
        )

    @classmethod
    def load(cls, folder: str | Path) -> "Comparison":
        """Read back what `save` wrote; no checkpoint is needed.

        Parameters
        ----------
        folder : str or Path

        Returns
        -------
        comparison : Comparison

        Raises
        ------
        FileNotFoundError
            If the folder holds no comparison.
        ValueError
            If another version of flaggeo wrote it in a form that this one does not know.
        """
        tables, record = load_tables(
            Path(folder),
            COMPARISON_TABLES,
            COMPARISON_FILE,
            "a comparison",
            SCHEMA_VERSION,
            "compare the checkpoints again",
        )
        return cls(**tables, provenance=record["provenance"])
