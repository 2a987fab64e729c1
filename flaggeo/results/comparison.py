"""What a comparison found: its tables, saved and loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pandas as pd

from .saved import Kind, Result

_RANKED = ("rms_angle", "overlap", "overlap_null_mean", "flag_distance", "angle_1", "undetermined")


@dataclass(frozen=True, kw_only=True, repr=False, eq=False)
class Comparison(Result):
    """How far the weights of two versions of a network, a and b, lie apart.

    Attributes
    ----------
    tensors : pandas.DataFrame
        One row a stored tensor, and version if there is a third one: whether it changed, by how much and of which rank,
        see docs/tables.md. Empty where one of the two is a saved analysis.
    weights : pandas.DataFrame
        One row a weight and side: how far its leading subspace moved, see `drift_table`.
    deltas : pandas.DataFrame
        One row a weight: relative change of its singular values (``sigma_change``: of the leading ones, in the
        Euclidean norm; ``sigma_max_a``, ``sigma_max_b``) and the kind of the change, see `measure_delta`; the
        latter is missing where one of the two is a saved analysis.
    interference : pandas.DataFrame
        One row a matrix that b and a further version c changed: whether their changes share subspaces. Empty without c.
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

    KIND = Kind(
        name="a comparison",
        record_file="comparison.json",
        page_file="comparison.html",
        schema_version=4,
        remedy="compare the checkpoints again",
        renderer="render_comparison",
        teller="comparison_findings",
    )

    tensors: pd.DataFrame
    weights: pd.DataFrame
    deltas: pd.DataFrame
    interference: pd.DataFrame
    summary: pd.DataFrame
    observables: pd.DataFrame
    pairs: pd.DataFrame
    skipped: pd.DataFrame

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

    def _facts(self) -> Mapping[str, object]:
        return {
            "a": Path(self.provenance["a"]).name,
            "b": Path(self.provenance["b"]).name,
            "family": self.provenance["family"],
            "weights": len(self.deltas),
            "rank": self.settings.rank,
            "pairs": len(self.pairs),
            "skipped": len(self.skipped),
        }
