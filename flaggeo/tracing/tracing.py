"""Runs the steps from the checkpoints of a run to a `Trace`."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
import torch

from ..alignment import observables
from ..analysis import circumstances
from ..checkpoint import CheckpointError, Progress
from ..comparison.comparing import analysis_of, require_choice, stored_as
from ..comparison.drift import drift_table
from ..comparison.matching import Source, Version, open_version, open_versions, shared_settings, shared_weights
from ..results.analysis import Analysis
from ..results.trace import Trace
from ..settings import Options, Settings, given_options
from .run import Step, steps_of
from .updates import UPDATE_SCHEMA, update_rows

_WEIGHT_COLUMNS = [
    *("name", "role", "layer", "head", "rank", "frobenius_norm", "sigma_max"),
    *("stable_rank", "effective_rank", "energy", "gap_1", "undetermined"),
]
# Kinds of interface are told apart by these.
_KIND = ["kind", "gauge_fixed", "symmetry"]


def trace(
    checkpoints: str | Path | Sequence[Source],
    settings: Settings | None = None,
    *,
    steps: Sequence[int] | None = None,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    scratch: str | Path | None = None,
    executor: Executor | None = None,
    **options: Unpack[Options],
) -> Trace:
    """Measure how alignment comes about over the checkpoints of one training run.

    Parameters
    ----------
    checkpoints : str, Path or sequence
        A folder whose subfolders are checkpoints (``checkpoint-100``, ``checkpoint-200`` ...), or the checkpoints
        themselves: whatever `load` takes, networks, saved analyses. All but the first may be folders of LoRA
        adapters of the first.
    steps : sequence of int, optional
        Training step of each. By default the number in its name if all have one, else 0, 1, 2 ... in the order
        given. The trace is in the order of the steps.
    settings, device, scratch, executor, **options
        As for `analyze`, and the same for all checkpoints. An option that is not given is that of a saved analysis,
        if there is one.
    progress : callable, optional
        As for `analyze`, counted over all checkpoints.

    Returns
    -------
    trace : Trace

    Raises
    ------
    MismatchError
        If two checkpoints do not have the same weights, but for the vocabulary, if a saved analysis has another
        setting than was given or than another one has, or if there are no such roles or layers. All headers are
        looked at before anything is measured.
    CheckpointError
        If one cannot be read.
    TypeError, ValueError
        If settings and single options are given, one is out of range, or there are fewer than two checkpoints.

    Notes
    -----
    One weight of two checkpoints is in memory at a time, beside the analyses of the first and of the previous
    checkpoint; saved analyses are all held. They have no matrices, so that no update is measured from or to one.

    Examples
    --------
    >>> block = {f"layers.0.self_attn.{role}_proj.weight": torch.randn(8, 8) for role in "qkvo"}
    >>> block |= {f"layers.0.mlp.{role}_proj.weight": torch.randn(8, 8) for role in ("up", "down")}
    >>> turned = block | {"layers.0.mlp.up_proj.weight": torch.randn(8, 8)}
    >>> drift = trace([block, turned], steps=[0, 500], rank=2).drift
    >>> drift.query("since == 'previous' and rms_angle > 1e-6")[["step", "name", "side"]].values.tolist()
    [[500, 'layers.0.up', 'read'], [500, 'layers.0.up', 'write']]
    """
    started = datetime.now(UTC)
    run = steps_of(checkpoints, steps)
    versions, settings, skipped = _open_all(run, given_options(settings, options), progress)
    parts: dict[str, list[pd.DataFrame]] = {}
    remarks: dict[str, None] = {}
    first = previous = None
    updates = list[pd.DataFrame]()
    for place, (step, version) in enumerate(zip(run, versions, strict=True)):
        counted = _Counted(progress, place, len(run))
        analysis = analysis_of(
            version,
            settings,
            device,
            step.label,
            progress and counted,
            scratch=None if scratch is None else scratch_of(Path(scratch), version),
            executor=executor,
        )
        # Every weight is compared with its other version.
        for failure in analysis.provenance["failed"] if version.analysis is None else ():
            raise CheckpointError(failure)
        first = first or analysis
        counted.last(f"{step.label}: drift")
        for name, table in _tables(analysis, first, previous, set(skipped)).items():
            table.insert(0, "checkpoint", step.label)
            table.insert(0, "step", step.number)
            parts.setdefault(name, []).append(table)
        if previous is not None:
            updates.append(_updates(run, versions, place, (previous, analysis), set(skipped), torch.device(device)))
        remarks |= dict.fromkeys(analysis.provenance["remarks"])
        previous = analysis
    assert first is not None
    return Trace(
        **{name: pd.concat(tables, ignore_index=True) for name, tables in parts.items()},
        updates=pd.concat(updates, ignore_index=True),
        checkpoints=pd.DataFrame(
            [
                (step.number, step.label, version.location, stored_as(version))
                for step, version in zip(run, versions, strict=True)
            ],
            columns=["step", "checkpoint", "location", "stored"],
        ),
        pairs=pd.DataFrame(columns=["step", "checkpoint", "source", "target", "overlap"]),
        skipped=pd.DataFrame(list(skipped.items()), columns=["name", "reason"]),
        provenance={
            "checkpoints": len(run),
            "steps": [step.number for step in run],
            "family": versions[0].family,
            "remarks": list(remarks),
        }
        | circumstances(settings, device, started),
    )


def _updates(
    run: Sequence[Step],
    versions: Sequence[Version],
    place: int,
    analyses: tuple[Analysis, Analysis],
    skipped: set[str],
    device: torch.device,
) -> pd.DataFrame:
    """What took each weight to this checkpoint from the one before; empty where one of the two has no matrices."""
    before, after = (version.network for version in versions[place - 1 : place + 1])
    if before is None or after is None:
        return UPDATE_SCHEMA.frame()
    names = [name for name in _moving(analyses[1])["name"] if name not in skipped]
    rows = update_rows((before, after), analyses, names, device)
    return UPDATE_SCHEMA.frame(
        rows.assign(step=run[place].number, checkpoint=run[place].label, since_step=run[place - 1].number)
    )


def _moving(analysis: Analysis) -> pd.DataFrame:
    """Weights that are followed: a stack moves as its experts do, which keep their numbers between checkpoints."""
    return analysis.weights[analysis.weights["stacked"].isna()]


def _open_all(
    run: Sequence[Step], given: Mapping[str, Any], progress: Progress | None
) -> tuple[list[Version], Settings, dict[str, str]]:
    """Every checkpoint, the settings for all, and the weights that differ in the vocabulary with the reason."""
    first = open_version(run[0].source, progress)
    base = first.network or first.analysis
    assert base is not None
    versions = [first, *(open_versions(base, step.source, progress)[1] for step in run[1:])]
    settings, skipped = shared_settings(versions, given), dict[str, str]()
    for version in versions:
        require_choice(version, settings)
    for version in versions[1:]:
        skipped |= shared_weights(first, version, settings)[1]
    return versions, settings, skipped


def scratch_of(scratch: Path, version: Version) -> Path:
    """Where an interrupted run keeps what it has of one checkpoint."""
    return scratch / sha256(version.location.encode()).hexdigest()[:16]


class _Counted:
    """Progress of one checkpoint as part of all, which have the same weights; one more step follows its analysis."""

    def __init__(self, progress: Progress | None, place: int, checkpoints: int) -> None:
        self._progress, self._place, self._checkpoints, self._steps = progress, place, checkpoints, 0

    def __call__(self, name: str, done: int, total: int) -> None:
        self._steps, each = total, total + 1
        if self._progress is not None:
            self._progress(name, self._place * each + done, self._checkpoints * each)

    def last(self, name: str) -> None:
        """The step behind all those of the analysis."""
        self(name, self._steps, self._steps)


def _tables(
    analysis: Analysis, first: Analysis, previous: Analysis | None, skipped: set[str]
) -> dict[str, pd.DataFrame]:
    """What is kept of one checkpoint."""
    weights = _moving(analysis)
    names = [name for name in weights["name"] if name not in skipped]
    drifts = {"first": drift_table(first, analysis, names)}
    if previous is not None:
        drifts["previous"] = drifts["first"] if previous is first else drift_table(previous, analysis, names)
    return {
        "summary": analysis.summary.copy(),
        "continuity": analysis.continuity.copy(),
        "interfaces": _interface_means(analysis.interfaces),
        "drift": pd.concat([table.assign(since=since) for since, table in drifts.items()], ignore_index=True),
        "weights": weights[_WEIGHT_COLUMNS].copy(),
    }


def _interface_means(interfaces: pd.DataFrame) -> pd.DataFrame:
    """Means over all layers and heads of one kind, each number beside its null."""
    measured = [column for one in observables() if one.table == "interfaces" for column in one.columns]
    # The mean of a spread is not the spread of a mean.
    numbers = [column.name for column in measured if not column.name.endswith("_sd")]
    groups = interfaces.groupby(_KIND, sort=False)
    means = groups[numbers].mean().astype("float64")
    return means.assign(count=groups.size()).reset_index()
