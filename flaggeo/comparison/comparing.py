"""Runs the steps from two sources to a `Comparison`."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
import torch

from ..analysis import analyze, circumstances
from ..checkpoint import AdaptedCheckpoint, CheckpointError, Progress
from ..network import Network, Side
from ..numerics.threads import ahead, thread_count, workers
from ..results.analysis import Analysis
from ..results.comparison import Comparison
from ..settings import Options, Settings, given_options
from .change import WeightPair, gain_noise, read_changes
from .changes import observables_table, pairs_table, summary_table
from .delta import UNKNOWN, measure_delta
from .drift import drift_table
from .matching import MismatchError, Source, Version, open_versions, shared_settings, shared_weights
from .rounding import EXACT


def compare(
    first: Source,
    second: Source,
    settings: Settings | None = None,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    scratch: str | Path | None = None,
    executor: Executor | None = None,
    **options: Unpack[Options],
) -> Comparison:
    """Measure how far the subspaces of two versions of a network lie apart, and what kind of change it was.

    Parameters
    ----------
    first, second : str, Path, mapping of str to Tensor, nn.Module, Network or Analysis
        A base and its fine-tuning, or two steps of one run: whatever `load` takes, a network, an analysis, or
        the folder of a saved one (which has frames but no matrices, so that the change itself cannot be
        measured). The second may be the folder of a LoRA adapter of the first.
    settings, device, progress, scratch, executor, **options
        As for `analyze`, and the same for both. An option that is not given is that of a saved analysis, if there
        is one.

    Returns
    -------
    comparison : Comparison

    Raises
    ------
    MismatchError
        If the two do not have the same weights, but for the vocabulary, if a saved analysis has another setting
        than was given or than the other one has, or if there are no such roles or layers.
    CheckpointError
        If one cannot be read.
    TypeError, ValueError
        If settings and single options are given, or one is out of range.

    Examples
    --------
    >>> block = {f"layers.0.self_attn.{role}_proj.weight": torch.randn(8, 8) for role in "qkvo"}
    >>> block |= {f"layers.0.mlp.{role}_proj.weight": torch.randn(8, 8) for role in ("up", "down")}
    >>> turned = block | {"layers.0.mlp.up_proj.weight": torch.randn(8, 8)}
    >>> moved = compare(block, turned, rank=2).weights.query("rms_angle > 1e-6")
    >>> moved[["name", "side"]].values.tolist()
    [['layers.0.up', 'read'], ['layers.0.up', 'write']]
    """
    started = datetime.now(UTC)
    given = given_options(settings, options)
    versions = open_versions(first, second, progress)
    settings = shared_settings(versions, given)
    names, skipped = shared_weights(*versions, settings)
    for version in versions:
        require_choice(version, settings)
    a, b = (
        analysis_of(
            version,
            settings,
            device,
            letter,
            progress,
            scratch=None if scratch is None else Path(scratch) / letter,
            executor=executor,
        )
        for version, letter in zip(versions, "ab", strict=True)
    )
    chosen = [name for name in names if name in set(a.weights["name"])]
    return Comparison(
        weights=drift_table(a, b, chosen),
        deltas=_delta_table(versions, a, b, chosen, settings, device, progress),
        summary=summary_table(a, b),
        observables=observables_table(a, b),
        pairs=pairs_table(a, b),
        skipped=pd.DataFrame(list(skipped.items()), columns=["name", "reason"]),
        provenance={
            "a": versions[0].location,
            "b": versions[1].location,
            "family": versions[0].family,
            "remarks": list(dict.fromkeys(remark for one in (a, b) for remark in one.provenance["remarks"])),
            "stored": [stored_as(version) for version in versions],
            "deltas": "measured" if all(version.network for version in versions) else "not measured: frames alone",
        }
        | circumstances(settings, device, started),
    )


def require_choice(version: Version, settings: Settings) -> None:
    """Raise `MismatchError` unless the roles and layers asked for are there."""
    if version.network is not None:
        try:
            settings.chosen(version.network)
        except ValueError as error:
            raise MismatchError(f"{version.location}: {error}") from None


def stored_as(version: Version) -> str:
    """How the numbers of a version are stored, in words."""
    if version.network is None:
        return "saved analysis"
    checkpoint = version.network.checkpoint
    adapter = checkpoint.metadata.get("adapter")
    dtypes = sorted({checkpoint.headers[weight.tensor].dtype for weight in version.network.weights})
    return adapter or ", ".join(dtypes)


def analysis_of(
    version: Version,
    settings: Settings,
    device: str | torch.device,
    label: str,
    progress: Progress | None,
    *,
    scratch: Path | None,
    executor: Executor | None,
) -> Analysis:
    """The saved analysis, or a new one that tells its progress under a label and can resume from a scratch."""
    if version.analysis is not None:
        return version.analysis
    assert version.network is not None
    # A scratch knows a run by its files, and an adapter's settings are in none of them.
    resumable = not isinstance(version.network.checkpoint, AdaptedCheckpoint)
    analysis = analyze(
        version.network,
        settings,
        device=device,
        progress=progress and (lambda name, done, total: progress(f"{label}: {name}", done, total)),
        scratch=scratch if resumable else None,
        executor=executor,
    )
    # Every weight is compared with its other version.
    for failure in analysis.provenance["failed"]:
        raise CheckpointError(failure)
    return analysis


def _delta_table(
    versions: tuple[Version, Version],
    a: Analysis,
    b: Analysis,
    names: list[str],
    settings: Settings,
    device: str | torch.device,
    progress: Progress | None,
) -> pd.DataFrame:
    table = a.weights[a.weights["name"].isin(names)][["name", "role", "layer", "head"]].reset_index(drop=True)
    spectra = pd.DataFrame([_spectral_change(a, b, name) for name in table["name"]])
    networks = [version.network for version in versions if version.network is not None]
    changes = dict.fromkeys(names, UNKNOWN)
    if len(networks) == 2:
        changes |= dict(_changes(networks[0], networks[1], a, b, names, settings, torch.device(device), progress))
    measured = pd.DataFrame([changes[name] for name in table["name"]])
    return pd.concat([table, spectra, measured], axis="columns").astype({"rank": "Int64"})


def _spectral_change(a: Analysis, b: Analysis, name: str) -> dict[str, float]:
    before, after = (analysis.bases[f"{name}.singular_values"].to("cpu", torch.float64) for analysis in (a, b))
    kept = min(len(before), len(after))
    norm = float(before.norm())
    return {
        "sigma_max_a": float(before[0]),
        "sigma_max_b": float(after[0]),
        "sigma_change": float((after[:kept] - before[:kept]).norm()) / norm if norm else float("nan"),
    }


def _changes(
    first: Network,
    second: Network,
    a: Analysis,
    b: Analysis,
    names: list[str],
    settings: Settings,
    device: torch.device,
    progress: Progress | None,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Kind of the change of each weight; each tensor is read once and let go."""
    both = WeightPair.in_both(first, second, names)
    groups: dict[tuple[str, ...], list[WeightPair]] = {}
    for pair in both:
        groups.setdefault(pair.tensors, []).append(pair)

    def of_group(members: list[WeightPair]) -> list[tuple[str, dict[str, Any]]]:
        found = []
        for pair, change, base in read_changes(first, second, members, settings, device):
            values = [one.bases[f"{pair.name}.singular_values"] for one in (a, b)]
            noise = gain_noise(first, second, pair, values) if settings.fold_norms else EXACT
            frames = [{side: one.bases[f"{pair.name}.{side.value}"] for side in Side} for one in (a, b)]
            change = replace(change, noise=change.noise.and_also(noise))
            found.append((pair.name, measure_delta(change, base, base_frames=frames[0], changed_frames=frames[1])))
        return found

    with workers() as pool:
        begun = ahead(((members, pool.submit(of_group, members)) for members in groups.values()), thread_count())
        for done, (members, found) in enumerate(begun):
            if progress is not None:
                progress(f"b - a: {members[0].name}", done, len(groups))
            yield from found.result()
    for network in (first, second):
        network.checkpoint.require_unchanged()
