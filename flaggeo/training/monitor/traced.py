"""From the records of a watched run to a `Trace`, with its page and findings."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ...alignment import effect_size, observables
from ...results.storage import ResultError
from ...results.trace import Trace
from ...tracing.updates import UPDATE_SCHEMA
from .records import SCHEMAS, read_provenance, read_record, steps_in
from .subject import UPDATE

# Before the name and role of what a weight moved by.
_UPDATE = f"{UPDATE}."
# Records on a page: more could not be told apart there, and a browser holds all their numbers.
_MOST_SHOWN = 200
# What numbers and texts of a wrong kind raise.
_SENSELESS = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


def monitored_trace(folder: str | Path) -> Trace:
    """What the monitor of a run has recorded so far, as a trace.

    Parameters
    ----------
    folder : str or Path
        Of a `Monitor`, whose run may go on meanwhile.

    Returns
    -------
    trace : Trace
        Of at most 200 records, evenly spaced, with the first and the last. Updates and gradients have roles of their
        own (``update.q``). Nulls that keep outlier channels, flag distances and whole spectra are missing.

    Raises
    ------
    ResultError
        If the folder has fewer than two records, or one is damaged or foreign.
    """
    folder = Path(folder)
    provenance = read_provenance(folder)
    there = steps_in(folder)
    places = np.linspace(0, len(there) - 1, min(len(there), _MOST_SHOWN)).round().astype(int)
    records: dict[int, dict[str, pd.DataFrame]] = {}
    for step in (there[place] for place in places):
        try:
            records[step] = read_record(folder, step)
        except FileNotFoundError:  # the monitor has removed it since
            continue
    if len(records) < 2:
        raise ResultError(f"{folder}: expected at least 2 records of a monitor, found {len(records) or 'none'}")
    try:
        found = _trace(folder, provenance, records, len(there))
    except _SENSELESS as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ResultError(f"{folder}: the records of this run make no sense: {reason}") from error
    vars(found)["_folder"] = folder  # as of a result that is loaded: whatever makes no sense later is named by it
    return found


def _trace(
    folder: Path, provenance: dict[str, Any], records: Mapping[int, Mapping[str, pd.DataFrame]], there: int
) -> Trace:
    steps = list(records)
    tables = {name: _joined([record[name] for record in records.values()], steps) for name in SCHEMAS}
    remarks = [*provenance.get("remarks", []), *_remarks(provenance, there, len(steps))]
    return Trace(
        checkpoints=pd.DataFrame(
            {
                "step": steps,
                "checkpoint": [str(step) for step in steps],
                "location": [str(folder / f"step-{step:012d}") for step in steps],
                "stored": str(provenance.get("stored", "")),
            }
        ),
        summary=_summary(tables["continuity"]),
        continuity=tables["continuity"],
        interfaces=_interface_means(tables["interfaces"]),
        drift=_drift(tables["drift"], steps),
        updates=_updates(tables["weights"], tables["drift"]),
        weights=tables["weights"].assign(effective_rank=np.nan),
        pairs=tables["pairs"],
        skipped=pd.DataFrame(columns=["name", "reason"]),
        provenance=provenance | {"checkpoints": len(steps), "steps": steps, "remarks": remarks},
    )


def _joined(tables: Sequence[pd.DataFrame], steps: Sequence[int]) -> pd.DataFrame:
    """Rows of all records, each behind its step and label."""
    counts = [len(table) for table in tables]
    rows = pd.concat([table for table in tables if len(table)] or tables[:1], ignore_index=True)
    rows.insert(0, "checkpoint", np.repeat([str(step) for step in steps], counts))
    rows.insert(0, "step", np.repeat(steps, counts))
    return rows


def _remarks(provenance: dict[str, Any], there: int, shown: int) -> list[str]:
    remarks = ["watched by a monitor: beside each number stands what uniform (Haar) subspaces give, and no other null"]
    if provenance.get("reference"):
        remarks.append(f"drift is measured from the first record at or after step {provenance['reference']}")
    if provenance.get("continued"):
        steps = ", ".join(str(int(step)) for step in provenance["continued"])
        remarks.append(f"the run was continued from a save at step {steps}")
    if shown < there:
        remarks.append(f"{shown} of {there} records are shown")
    return remarks


def _summary(continuity: pd.DataFrame) -> pd.DataFrame:
    """Means over the layer pairs, under the names that `Analysis.summary` gives them."""
    groups = continuity.groupby(["step", "checkpoint", "role", "side"], sort=False)
    means = groups.mean(numeric_only=True).drop(columns=["layer", "next_layer", "rank", "shared_space"])
    means["basis_independent"] = groups["basis_independent"].all()
    means["shared_space"] = groups["shared_space"].all()
    means["layer_pairs"] = groups["abs_cos_1"].count()
    spread = means["abs_cos_1_null_sd"]
    means["abs_cos_1_effect_size"] = effect_size(means["abs_cos_1"], means["abs_cos_1_null_mean"])
    distance = (means["abs_cos_1"] - means["abs_cos_1_null_mean"]) * np.sqrt(means["layer_pairs"])
    means["abs_cos_1_z"] = np.where(spread > 0, distance / spread, np.nan)
    for column in ("abs_cos_1_norm_matched_mean", "abs_cos_1_excess", "channels"):
        means[column] = np.nan
    return means.reset_index()


def _interface_means(interfaces: pd.DataFrame) -> pd.DataFrame:
    """Means over the layers, with the columns of every trace."""
    groups = interfaces.groupby(["step", "checkpoint", "kind", "symmetry"], sort=False)
    means = groups.mean(numeric_only=True).drop(columns=["layer", "dim", "rank"])
    columns = [column.name for one in observables() if one.table == "interfaces" for column in one.columns]
    columns.append("window_imbalance_null_mean")
    missing = [name for name in columns if name not in means and not name.endswith("_sd")]
    means = means.assign(count=groups.size(), gauge_fixed=False, **dict.fromkeys(missing, np.nan))
    return means.astype({"count": "int64"}).reset_index()


def _drift(drift: pd.DataFrame, steps: Sequence[int]) -> pd.DataFrame:
    """In radians as in every trace; what lies between two records that are not neighbours any more is missing."""
    before = dict(zip(steps[1:], steps, strict=False))
    stale = (drift["since"] == "previous") & (drift["since_step"] != drift["step"].map(before))
    numbers = ["angle_1", "rms_angle", "overlap"]
    drift = drift.assign(**{name: np.deg2rad(drift[name]) for name in numbers[:2]})
    drift.loc[stale, numbers] = np.nan
    distance = drift["rms_angle"] * np.sqrt(drift["rank"])
    return drift.assign(geodesic_distance=distance, abs_cos_1=np.cos(drift["angle_1"]))


def _updates(weights: pd.DataFrame, drift: pd.DataFrame) -> pd.DataFrame:
    """What each weight moved by since the record before, of which a monitor knows the leading directions alone."""
    of_update = weights["name"].str.startswith(_UPDATE)
    rows = weights[of_update].drop(columns="rank")  # of the directions that are kept, not of the update
    rows = rows.assign(**{column: rows[column].str.removeprefix(_UPDATE) for column in ("name", "role")})
    sizes = weights[~of_update].set_index(["name", "step"])["frobenius_norm"]
    since = drift[drift["since"] == "previous"].drop_duplicates(["name", "step"])[["name", "step", "since_step"]]
    rows = rows.merge(since, on=["name", "step"])
    before = pd.MultiIndex.from_frame(rows[["name", "since_step"]])
    relative = rows["frobenius_norm"].to_numpy() / sizes.reindex(before).to_numpy()
    return UPDATE_SCHEMA.frame(rows.assign(relative_norm=relative, rank_is_exact=False, low_rank=False))
