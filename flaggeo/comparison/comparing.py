"""Runs the steps from two sources to a `Comparison`."""

from concurrent.futures import Executor
from datetime import UTC, datetime
from pathlib import Path
from typing import Unpack

import pandas as pd
import torch

from ..analysis import analyze, circumstances
from ..checkpoint import AdaptedCheckpoint, CheckpointError, Progress
from ..network import Network
from ..numerics.memory import give_back_freed
from ..results.analysis import Analysis
from ..results.comparison import Comparison
from ..settings import Options, Settings, given_options
from .changes import observables_table, pairs_table, summary_table
from .deltas import delta_table
from .drift import drift_table
from .interference import INTERFERENCE_SCHEMA, interference_table
from .matching import MismatchError, Source, Version, open_versions, shared_settings, shared_weights
from .tensors import TENSOR_SCHEMA, tensor_table


def compare(
    first: Source,
    second: Source,
    settings: Settings | None = None,
    *,
    other: Source | None = None,
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
    other : as the second, optional
        A further fine-tuning of the first: which of its tensors changed, and whether the changes of the two share
        subspaces, as far as a merge of both is concerned.
    settings, device, progress, scratch, executor, **options
        As for `analyze`, and the same for all. An option that is not given is that of a saved analysis, if there
        is one.

    Returns
    -------
    comparison : Comparison

    Raises
    ------
    MismatchError
        If the two do not have the same weights, but for the vocabulary, if a saved analysis has another setting
        than was given or than the other one has, if there are no such roles or layers, or if a third is given beside a
        saved analysis.
    CheckpointError
        If one cannot be read; where some of its tensors cannot, or are not finite, their weights are skipped.
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
    networks = _networks(versions)
    third = None if other is None else _third(versions, other, progress)
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
    failed = list(dict.fromkeys([*a.provenance["failed"], *b.provenance["failed"]]))
    unmeasured = _unmeasured(versions, (a, b))
    skipped |= {name: unmeasured[name] for name in names if name in unmeasured}
    chosen = [name for name in names if name in set(a.weights["name"]) and name not in unmeasured]
    if failed and not chosen:
        raise CheckpointError(failed[0])
    place = torch.device(device)
    deltas = delta_table(networks, a, b, chosen, place, progress)
    tensors, interference = _of_files(networks, third, deltas, settings, place, progress)
    return Comparison(
        tensors=tensors,
        weights=drift_table(a, b, chosen),
        deltas=deltas,
        interference=interference,
        summary=summary_table(a, b),
        observables=observables_table(a, b),
        pairs=pairs_table(a, b),
        skipped=pd.DataFrame(list(skipped.items()), columns=["name", "reason"]),
        provenance={
            "a": versions[0].location,
            "b": versions[1].location,
            **({} if third is None else {"c": third.checkpoint.location}),
            "family": versions[0].family,
            "remarks": [
                remark
                for remark in dict.fromkeys([*a.provenance["remarks"], *b.provenance["remarks"]])
                if not remark.endswith(tuple(failed))  # of which the table of what was skipped tells
            ],
            "failed": failed,
            "stored": [stored_as(version) for version in versions],
            "adapters": [
                letter
                for letter, network in zip("bc", (versions[1].network, third), strict=True)
                if network is not None and isinstance(network.checkpoint, AdaptedCheckpoint)
            ],
            "deltas": "measured" if networks else "not measured: frames alone",
        }
        | circumstances(settings, device, started),
    )


def _networks(versions: tuple[Version, Version]) -> tuple[Network, Network] | None:
    """Both networks, unless one of the two is a saved analysis, which has no matrices."""
    before, after = (version.network for version in versions)
    return None if before is None or after is None else (before, after)


def _third(versions: tuple[Version, Version], other: Source, progress: Progress | None) -> Network:
    """A further version, whose matrices are compared with those of the two."""
    base = versions[0].network or versions[0].analysis
    assert base is not None
    three = (*versions, open_versions(base, other, progress)[1])
    for version in three:
        if version.network is None:
            raise MismatchError(f"{version.name}: expected three checkpoints, found a saved analysis among them")
    assert three[-1].network is not None
    return three[-1].network


def _unmeasured(versions: tuple[Version, Version], analyses: tuple[Analysis, Analysis]) -> dict[str, str]:
    """Weights that one of the two has in a tensor that failed, with the reason."""
    found = dict[str, str]()
    for version, analysis in zip(versions, analyses, strict=True):
        rows = analysis.skipped[analysis.skipped["reason"].isin(analysis.provenance["failed"])]
        reasons = dict(zip(rows["tensor"], rows["reason"], strict=True))
        weights = () if version.network is None else version.network.weights
        found |= {weight.name: reasons[weight.tensor] for weight in weights if weight.tensor in reasons}
    return found


def _of_files(
    networks: tuple[Network, Network] | None,
    third: Network | None,
    deltas: pd.DataFrame,
    settings: Settings,
    device: torch.device,
    progress: Progress | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Tables of the tensors of each version, and of what the changes of two have in common."""
    if networks is None:
        return TENSOR_SCHEMA.frame(), INTERFERENCE_SCHEMA.frame()
    first, second = networks
    tensors = tensor_table("b", first, second, deltas, settings, device, progress)
    if third is None:
        return tensors, INTERFERENCE_SCHEMA.frame()
    of_third = tensor_table("c", first, third, deltas.head(0), settings, device, progress)
    tensors = pd.concat([tensors, of_third], ignore_index=True)
    return tensors, interference_table(first, (second, third), tensors, settings, device, progress)


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
    give_back_freed()  # before the other version is measured
    return analysis
