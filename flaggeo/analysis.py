"""Runs the steps from a checkpoint to an `Analysis`."""

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Unpack

import pandas as pd
import torch
from torch import Tensor, nn

from .alignment import (
    NULL_SCHEMA,
    Nulls,
    ProjectionHeads,
    angles_are_basis_independent,
    closed_nulls,
    continuity_by_lag,
    continuity_by_rank,
    continuity_nulls,
    continuity_table,
    expert_table,
    head_table,
    interface_table,
    interfaces_by_rank,
    layer_chains,
    pair_null_table,
    pair_table,
    readings_table,
    stability_table,
    trajectory_table,
    trajectory_variance_table,
    with_equal_norms,
)
from .checkpoint import CheckpointError, Progress, open_checkpoint
from .display import progress_shown
from .engine import LayerResult, Row, measure_layers
from .graph.alignment_graph import FALSE_DISCOVERY_RATE
from .inventory import skipped_table, space_table, weight_table
from .network import Network, Side, Skipped, Stack, Weight, read_network
from .network.coverage import coverage
from .network.roles import layers_by_tower
from .numerics.spectrum import Spectrum
from .numerics.threads import coordinators, thread_count, workers
from .results.analysis import Analysis
from .results.scratch import MEASURED_AGAIN, STARTED_AFRESH, Scratch
from .settings import Options, Settings, given_options

# After the layers and the draws: always, and where it is measured.
_LAST_STEPS, _FURTHER_STEPS = ("baselines", "pairs"), ("stability", "heads")


def load(
    source: str | Path | Mapping[str, Tensor] | nn.Module,
    config: Mapping[str, Any] | None = None,
    *,
    example: Tensor | Sequence[Any] | Mapping[str, Any] | None = None,
) -> Network:
    """Open a checkpoint and say what its tensors mean; only headers are read.

    Parameters
    ----------
    source : str, Path, mapping of str to Tensor, or nn.Module
        A file or folder of any format that `open_checkpoint` knows, a repository on the Hugging Face Hub
        (``"org/name"``), a state dict, or a module.
    config : mapping, optional
        Settings under the names of a ``config.json`` where the source has none; heads are split only
        where ``num_attention_heads`` is known.
    example : Tensor, sequence or mapping, optional
        What a module is called with: one tensor, several in order, or several by name. A module of any structure is
        run on it, some hundred times, to find out which of its weights share a space; nothing in it is changed. A
        module of a model type that is known is read by its names all the same. Without an example, a module whose
        names say nothing is run on an input made up from its first layers, where torch.fx can trace it.

    Returns
    -------
    network : Network

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read or contradicts itself, or a module does not run on the example.
    UnknownArchitectureError
        If its names belong to no known family.
    TypeError
        If the source is none of these.
    ValueError
        If there is an example and no module.

    Examples
    --------
    >>> width = {"q": 8, "k": 4, "v": 4}
    >>> block = {f"layers.0.self_attn.{role}_proj.weight": torch.randn(rows, 8) for role, rows in width.items()}
    >>> block["layers.0.self_attn.o_proj.weight"] = torch.randn(8, 8)
    >>> block |= {f"layers.0.mlp.{role}_proj.weight": torch.randn(12, 8) for role in ("gate", "up")}
    >>> block["layers.0.mlp.down_proj.weight"] = torch.randn(8, 12)
    >>> network = load(block, config={"num_attention_heads": 2})
    >>> [weight.name for weight in network.weights][:3]
    ['layers.0.q', 'layers.0.q.heads.0', 'layers.0.q.heads.1']

    A module of one's own:

    >>> model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 3))
    >>> network = load(model, example=torch.randn(2, 6))
    >>> [(weight.name, weight.source.name, weight.target.name) for weight in network.weights]
    [('layers.0.map:linear', 'input', 'layers.0.linear'), ('layers.1.map:linear', 'layers.0.linear', 'output')]
    """
    checkpoint = open_checkpoint(source, config)
    if isinstance(source, nn.Module):
        from .network.modules import load_module

        return load_module(source, checkpoint, example)
    if example is not None:
        raise ValueError(f"load: expected a module to run on the example; got {type(source).__name__}")
    return read_network(checkpoint)


@workers()
def analyze(
    network: "Network | str | Path | Mapping[str, Tensor] | nn.Module",
    settings: Settings | None = None,
    *,
    device: str | torch.device = "cpu",
    progress: Progress | bool | None = None,
    scratch: str | Path | None = None,
    executor: Executor | None = None,
    **options: Unpack[Options],
) -> Analysis:
    """Measure how the leading subspaces of a network's weights are aligned.

    Parameters
    ----------
    network : Network
        From `load`, or whatever that takes.
    settings : Settings, optional
        What is measured.
    device : str or torch.device, optional
        Where the linear algebra runs. The draws of one seed differ between kinds of device.
    progress : callable or bool, optional
        True for a bar, in a notebook or on a terminal. What can be called is called before each step with its name,
        how many are done and how many there are. The steps are ``layers: TENSOR`` of each tensor, ``baselines: WEIGHT``
        of each weight whose nulls are drawn, ``baselines``, ``pairs``, and ``stability`` and ``heads`` where these are
        measured. Before them, while files come from the Hub,
        it is called with what is fetched, how many megabytes are here and how many there are.
    scratch : str or Path, optional
        Folder for what is done so far; a later call with the same network and settings continues from
        there. The caller removes it.
    executor : concurrent.futures.Executor, optional
        Measures the layers in place of this process: processes, or the workers of a cluster that see the files under
        the same paths. The result is the same, bit for bit, on one kind of processor.
    **options
        The fields of `Settings`, in place of `settings`: ``rank=32, measure="all"``.

    Returns
    -------
    analysis : Analysis

    Raises
    ------
    TypeError
        If settings and single options are given, there is no such option, or the network is none of these.
    ValueError
        If a setting is out of range, or no weight has the roles and layers asked for.
    CheckpointError
        If every tensor turns out to be unreadable or not finite, or a file is not what it was when it was opened. Where
        some tensors are unreadable, the result says so and leaves out what needs them.
    """
    if not isinstance(network, Network):
        network = load(network)
    settings = Settings(**given_options(settings, options))
    if progress is True:
        with progress_shown() as show:
            return analyze(network, settings, device=device, progress=show, scratch=scratch, executor=executor)
    progress = progress or None
    device = torch.device(device)
    started = datetime.now(UTC)
    chosen = settings.chosen(network)
    memory = None if scratch is None else Scratch(Path(scratch), _run_of(network, settings, device))
    afresh = memory is not None and memory.has_replaced_another
    single = [weight for weight in chosen if not isinstance(weight, Stack)]
    network.checkpoint.fetch(_tensors_of(single), progress)
    # A surrogate of a stack would take as long as all experts of the layer.
    chains = list(layer_chains(single).values()) if settings.draws_surrogates else []
    last_steps = [*_LAST_STEPS, *(step for step in _FURTHER_STEPS if step in settings.measure)]
    advance = _Progress(progress, len({weight.tensor for weight in single}) + sum(map(len, chains)) + len(last_steps))
    found = measure_layers(
        settings,
        network.layers,
        device=device,
        progress=lambda tensor: advance(f"layers: {tensor}"),
        memory=memory,
        executor=executor,
    )
    network.checkpoint.require_unchanged()
    chosen = found.measured(chosen)
    if not chosen:
        raise CheckpointError(next(iter(found.failed.values())))
    chains = [found.measured(chain) for chain in chains]
    wide = found.spectra
    spectra = {name: spectrum.leading(settings.rank) for name, spectrum in wide.items()}
    found = replace(found, spectra=spectra)
    continued = chosen if "continuity" in settings.measure else []
    paired = _compared(chosen) if "pairs" in settings.measure else []
    against_norms = chosen if continued or paired or found.heads else []
    drawn = _draw_nulls(chains, found, settings, device, advance, memory)
    advance("baselines")
    nulls = closed_nulls(against_norms, spectra, found.heads).checked_by(drawn)
    advance("pairs")
    with coordinators(1) as threads:
        # Pairs and continuity are half Python, which runs on one core: side by side they keep both busy.
        of_pairs = threads.submit(pair_table, paired, spectra, nulls.leverages, folded=settings.fold_norms)
        continuity = continuity_table(continued, spectra, _gram_cosines(found.gram_cosines), folded=settings.fold_norms)
        readings = readings_table(
            continued,
            continuity,
            nulls.table,
            spectra,
            found.refolded,
            folded=settings.fold_norms,
            false_discovery_rate=FALSE_DISCOVERY_RATE,
        )
        readings = with_equal_norms(readings, continued, spectra, partial(network.matrix, device=device))
        network.checkpoint.require_unchanged()
        by_rank, by_lag = continuity_by_rank(continued, spectra), continuity_by_lag(continued, spectra)
        pairs = of_pairs.result()
    questioned = []
    if "stability" in settings.measure:
        advance("stability")
        questioned = paired
    stability = stability_table(questioned, wide, found.rounding_errors, pairs, nulls.leverages, rank=settings.rank)
    if "heads" in settings.measure:
        advance("heads")
    heads = _head_table(found.heads, nulls, chosen, settings.fold_norms)
    bases = _bases(chosen, spectra)
    return Analysis(
        weights=weight_table(chosen, spectra),
        spaces=space_table(chosen),
        continuity=continuity,
        continuity_by_rank=by_rank,
        continuity_by_lag=by_lag,
        continuity_nulls=nulls.table if continued else NULL_SCHEMA.frame(),
        readings=readings,
        trajectories=trajectory_table(continued, spectra),
        trajectory_variance=trajectory_variance_table(continued, spectra),
        pairs=pairs,
        pair_nulls=pair_null_table(pairs, bases),
        stability=stability,
        interfaces=interface_table(found.interfaces),
        interfaces_by_rank=interfaces_by_rank(found.interfaces),
        heads=heads,
        experts=expert_table(continued, spectra, folded=settings.fold_norms, seed=settings.seed),
        skipped=skipped_table([*network.skipped, *_failed(network, found)]),
        bases=bases,
        provenance={
            "checkpoint": network.checkpoint.location,
            "family": network.family,
            "metadata": dict(network.checkpoint.metadata),
            "remarks": [
                *_failures(found),
                *network.remarks,
                *settings.remarks(chosen),
                *([STARTED_AFRESH] if afresh else []),
                *([MEASURED_AGAIN] if memory is not None and memory.has_damaged else []),
            ],
            "failed": list(found.failed.values()),
            "headers_sha256": headers_fingerprint(network),
            "coverage": coverage(network, found.failed).record(),
            "layers": sum(layers_by_tower((weight.tower, weight.layer) for weight in chosen).values()),
            "nulls": [f"{null} (closed form)" for null in ("Haar", "mean-matched", "norm-matched", "sign-flip")]
            + ["norm-matched (drawn)", "sign-flip (drawn)"] * bool(settings.draws),
        }
        | circumstances(settings, device, started),
    )


def circumstances(settings: Settings, device: str | torch.device, started: datetime) -> dict[str, Any]:
    """What every result records of the run that it ends: the settings, where and when it ran, and how it was called."""
    return {
        "settings": settings.record(),
        "device": str(device),
        "threads": thread_count(),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv),
        "versions": _versions(),
    }


def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("flaggeo", "torch", "numpy", "scipy")}
    return packages | {"python": platform.python_version()}


class _Progress:
    """Counts what is done of all that is to be done, and tells the caller."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, name: str) -> None:
        if self._progress is not None:
            self._progress(name, self._done, self._total)
        self._done += 1


def _failed(network: Network, found: LayerResult) -> list[Skipped]:
    """Tensors that could not be measured, among those that no weight uses."""
    headers = network.checkpoint.headers
    return [Skipped(tensor, headers[tensor].shape, reason) for tensor, reason in found.failed.items()]


def _failures(found: LayerResult) -> list[str]:
    return [
        f"not measured, and left out wherever it is needed, so that the layers beside it count as neighbours: {reason}"
        for reason in found.failed.values()
    ]


def _tensors_of(weights: list[Weight]) -> list[str]:
    """Tensors that the weights are made of, and those of the norms beside them."""
    gains = [gain.tensor for weight in weights for gain in weight.folding.gains]
    return [weight.tensor for weight in weights] + gains


def _compared(weights: list[Weight]) -> list[Weight]:
    """Without what has its place taken: projections that are there head by head, and experts, by their stack.

    A head and its projection are no pair, and the pairs of single experts would be millions.
    """
    cut = {(weight.tensor, weight.role) for weight in weights if weight.head is not None}
    return [
        weight
        for weight in weights
        if weight.expert is None and (weight.head is not None or (weight.tensor, weight.role) not in cut)
    ]


def _head_table(heads: list[ProjectionHeads], nulls: Nulls, weights: list[Weight], folded: bool) -> pd.DataFrame:
    """Table of heads, and whether their angles are basis-independent."""
    independent = [
        f"{weight.name}.{side.value}"
        for weight in weights
        if weight.head is not None
        for side in Side
        if angles_are_basis_independent(weight, side, folded=folded, complete=True)
    ]
    return head_table(heads, nulls.whole_head_leverages, independent)


def _gram_cosines(rows: list[Row]) -> dict[tuple[str, Side], Row]:
    """Gram cosines by the name of the earlier weight and the side."""
    return {(row.pop("earlier"), Side(row.pop("side"))): row for row in map(dict, rows)}


def _draw_nulls(
    chains: list[list[Weight]],
    found: LayerResult,
    settings: Settings,
    device: torch.device,
    advance: Callable[[str], None],
    scratch: Scratch | None,
) -> Nulls:
    """The nulls of every role; no matrix of the network is needed any more."""
    drawn = []
    heads = {of_projection.projection: of_projection for of_projection in found.heads}
    for chain in chains:
        role = chain[0].role
        nulls = scratch.recall_nulls(role, device) if scratch else None
        if nulls is None:
            nulls = continuity_nulls(
                chain,
                found.spectra,
                found.profiles,
                heads,
                draws=settings.draws,
                seed=settings.seed,
                progress=lambda name: advance(f"baselines: {name}"),
            )
            if scratch:
                scratch.keep_nulls(role, nulls)
        else:
            for weight in chain:
                advance(f"baselines: {weight.name}")
        drawn.append(nulls)
    return Nulls.joined(drawn)


def headers_fingerprint(network: Network) -> str:
    """Hash of names, shapes and dtypes: free, and the same for every copy of a checkpoint."""
    headers = [(header.name, header.shape, header.dtype) for header in network.checkpoint.headers.values()]
    return sha256(json.dumps(headers).encode()).hexdigest()


def _run_of(network: Network, settings: Settings, device: torch.device) -> str:
    """Whatever determines the numbers of a run, by which a scratch knows it.

    How a weight is cut out of its tensor, and which norms are folded into it, stands in its representation.
    """
    checkpoint = network.checkpoint
    files = [headers_fingerprint(network), checkpoint.stamp(), repr(checkpoint.config)]
    return json.dumps([*files, repr(network.weights), settings.record(), device.type, _versions()])


def _bases(weights: list[Weight], spectra: Mapping[str, Spectrum]) -> dict[str, Tensor]:
    bases = {}
    for weight in weights:
        for side in weight.sides:
            bases[f"{weight.name}.{side.value}"] = spectra[weight.name].frame(side)
        bases[f"{weight.name}.singular_values"] = spectra[weight.name].known_values
    return bases
