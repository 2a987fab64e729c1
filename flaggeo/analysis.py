"""Runs the steps from a checkpoint to an `Analysis`."""

import json
import platform
import sys
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from .alignment import (
    GramCosines,
    Nulls,
    ProjectionHeads,
    angles_survive,
    chance_table,
    continuity_nulls,
    continuity_table,
    head_table,
    interface_curve_table,
    interface_table,
    lag_table,
    layer_chains,
    overlap_curves,
    pair_table,
    path_table,
    path_variance_table,
)
from .checkpoint import open_checkpoint
from .engine import LayerResult, Row, draws_along_layers, measure_layers
from .inventory import space_table, weight_table
from .network import ROLES, Network, Side, Weight, read_network
from .numerics.spectrum import Spectrum
from .results.analysis import Analysis
from .results.scratch import Scratch
from .settings import Settings

#: Called before each tensor, and before the draws of each weight, with its name, how many are done and how
#: many there are.
Progress = Callable[[str, int, int], None]


def load(source: str | Path | Mapping[str, Tensor] | nn.Module, config: Mapping[str, Any] | None = None) -> Network:
    """Open a checkpoint and say what its tensors mean; only headers are read.

    Parameters
    ----------
    source : str, Path, mapping of str to Tensor, or nn.Module
        A safetensors or GGUF file, an index of shards, a Hugging Face folder, a state dict, or a module.
    config : mapping, optional
        Settings under the names of a ``config.json`` where the source has none; heads are split only
        where ``num_attention_heads`` is known.

    Returns
    -------
    network : Network

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read or contradicts itself.
    UnknownArchitectureError
        If its names belong to no known family.

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
    """
    return read_network(open_checkpoint(source, config))


def analyze(
    network: Network,
    *,
    rank: int = 16,
    roles: Collection[str] | None = None,
    layers: Collection[int] | None = None,
    heads: bool = False,
    fold_norms: bool = False,
    draws: int = 0,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    scratch: str | Path | None = None,
) -> Analysis:
    """Measure how the leading subspaces of a network's weights lie to each other.

    Parameters
    ----------
    network : Network
        From `load`.
    rank : int, optional
        Singular directions kept of each weight, capped at its smaller side.
    roles, layers : collection, optional
        Only these; all by default. Tables without a layer (embed, unembed) are chosen by role alone.
    heads : bool, optional
        Also take every attention head as a weight of its own. The number of pairs grows with the square
        of the number of subspaces: 22 thousand for a 30-layer model without heads, 430 thousand with 9 each.
    fold_norms : bool, optional
        Measure the weights with the gains of the norms beside them folded in, and what a LayerNorm does not
        see taken out of the writes; see `Network.matrix`. Only so do rotations of the stream leave the numbers
        of reading weights alone. The papers measure the weights as they are stored, which is the default.
    draws : int, optional
        Random draws of each null that has no closed form: margin-matched weights and sign flips for continuity, see
        `continuity_nulls`, from which pairs and heads have a mean too, and the common window of interfaces. None by
        default; 20 about double the time.
    seed : int, optional
        Of the draws.
    device : str or torch.device, optional
        Where the linear algebra runs. The draws of one seed differ between kinds of device.
    progress : callable, optional
        Called before each tensor, and before the draws of each weight, with its name, how many are done and
        how many there are.
    scratch : str or Path, optional
        Folder for what is done so far; a later call with the same network and settings continues from
        there. The caller removes it.

    Returns
    -------
    analysis : Analysis

    Raises
    ------
    ValueError
        If the rank is below 1, the number of draws below 0, or no weight has the roles and layers asked for.
    CheckpointError
        If a tensor turns out to be unreadable or not finite.
    """
    if rank < 1:
        raise ValueError(f"analyze needs a rank of at least 1; got {rank}.")
    if draws < 0:
        raise ValueError(f"analyze needs a number of draws of at least 0; got {draws}.")
    device = torch.device(device)
    started = datetime.now(UTC)
    chosen = select_weights(network, roles=roles, layers=layers, heads=heads)
    settings = {
        "rank": rank,
        "heads": heads,
        "fold_norms": fold_norms,
        "draws": draws,
        "seed": seed,
        "weights": [weight.name for weight in chosen],
    }
    fingerprint = _fingerprint(network)
    memory = None if scratch is None else Scratch(Path(scratch), json.dumps([fingerprint, settings, _stamps(network)]))
    restricted: dict[str, Any] = {"roles": roles, "layers": layers}
    measured = Settings(rank=rank, heads=heads, fold_norms=fold_norms, draws=draws, seed=seed, **restricted)
    chains = list(layer_chains(chosen).values()) if draws_along_layers(measured) else []
    steps = _Steps(progress, len({weight.tensor for weight in chosen}) + sum(map(len, chains)))
    found = measure_layers(measured, network.layers, device=device, progress=steps, memory=memory)
    spectra = found.spectra
    nulls = _draw_nulls(chains, found, draws, seed, device, steps, memory)
    cosines = _gram_cosines(found.gram_cosines)
    pairs = pair_table(_compared(chosen), spectra, nulls.leverages, folded=fold_norms)
    bases = _bases(spectra)
    return Analysis(
        weights=weight_table(chosen, spectra),
        spaces=space_table(chosen),
        continuity=continuity_table(chosen, spectra, cosines, folded=fold_norms),
        curves=overlap_curves(chosen, spectra),
        lags=lag_table(chosen, spectra),
        paths=path_table(chosen, spectra),
        path_variance=path_variance_table(chosen, spectra),
        nulls=nulls.table,
        pairs=pairs,
        chance=chance_table(pairs, bases),
        interfaces=interface_table(found.interfaces),
        interface_curves=interface_curve_table(found.interfaces),
        heads=_head_table(found.heads, nulls, chosen, fold_norms),
        skipped=pd.DataFrame(
            [(item.tensor, "x".join(map(str, item.shape)), item.reason) for item in network.skipped],
            columns=["tensor", "shape", "reason"],
        ),
        bases=bases,
        provenance={
            "checkpoint": network.checkpoint.location,
            "family": network.family,
            "metadata": dict(network.checkpoint.metadata),
            "remarks": list(network.remarks),
            "headers_sha256": fingerprint,
            "layers": len({weight.layer for weight in chosen if weight.layer is not None}),
            "rank": rank,
            "heads": heads,
            "fold_norms": fold_norms,
            "nulls": ["Haar, closed form"] + ["margin-matched", "sign flip"] * bool(draws),
            "draws": draws,
            "seed": seed,
            "device": str(device),
            "threads": torch.get_num_threads(),
            "started": started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": " ".join(sys.argv),
            "versions": {name: version(name) for name in ("flaggeo", "torch", "numpy", "scipy")}
            | {"python": platform.python_version()},
        },
    )


def select_weights(
    network: Network,
    *,
    roles: Collection[str] | None = None,
    layers: Collection[int] | None = None,
    heads: bool = False,
) -> list[Weight]:
    """Weights that `analyze` takes with these settings, in order of depth.

    Raises
    ------
    ValueError
        If a role or a layer does not exist, or no weight has both.
    """
    roles = [roles] if isinstance(roles, str) else roles
    unknown = sorted(set(roles or ()) - set(ROLES))
    if unknown:
        raise ValueError(f"expected roles among {', '.join(ROLES)}; got {', '.join(unknown)}.")
    missing = sorted(set(layers or ()) - set(network.layer_numbers))
    if missing:
        raise ValueError(f"expected layers from 0 to {network.layer_numbers[-1]}; got {missing[0]}.")
    chosen = [
        weight
        for weight in network.weights
        if (roles is None or weight.role in roles)
        and (layers is None or weight.layer is None or weight.layer in layers)
        and (heads or weight.head is None)
    ]
    if not chosen:
        present = [role for role in ROLES if any(weight.role == role for weight in network.weights)]
        raise ValueError(f"no weight has the roles and layers asked for; there are {', '.join(present)}.")
    return chosen


class _Steps:
    """Counts what is done of all that is to be done, and tells the caller."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress, self._total, self._done = progress, total, 0

    def __call__(self, name: str) -> None:
        if self._progress is not None:
            self._progress(name, self._done, self._total)
        self._done += 1


def _compared(weights: list[Weight]) -> list[Weight]:
    """Without the projections that are there head by head: a head and its projection are no pair."""
    cut = {weight.tensor for weight in weights if weight.head is not None}
    return [weight for weight in weights if weight.head is not None or weight.tensor not in cut]


def _head_table(heads: list[ProjectionHeads], nulls: Nulls, weights: list[Weight], folded: bool) -> pd.DataFrame:
    """Table of heads, and which of its angles survive."""
    survives = {
        f"{weight.name}.{side.value}": angles_survive(weight, side, folded=folded, complete=True)
        for weight in weights
        if weight.head is not None
        for side in Side
    }
    table = head_table(heads, nulls.whole_head_leverages)
    return table.assign(survives=table["source"].map(survives).eq(True) & table["target"].map(survives).eq(True))


def _gram_cosines(rows: list[Row]) -> dict[tuple[str, Side], GramCosines]:
    """Gram cosines by the name of the earlier weight and the side."""
    return {(row.pop("earlier"), Side(row.pop("side"))): GramCosines(**row) for row in map(dict, rows)}


def _draw_nulls(
    chains: list[list[Weight]],
    found: LayerResult,
    draws: int,
    seed: int,
    device: torch.device,
    step: Callable[[str], None],
    scratch: Scratch | None,
) -> Nulls:
    """The nulls of every role; no matrix of the network is needed any more."""
    drawn = []
    heads = {of_projection.projection: of_projection for of_projection in found.heads}
    for chain in chains:
        role = chain[0].role
        nulls = scratch.recall_nulls(role, device) if scratch else None
        if nulls is None:
            nulls = continuity_nulls(chain, found.spectra, found.profiles, heads, draws=draws, seed=seed, progress=step)
            if scratch:
                scratch.keep_nulls(role, nulls)
        else:
            for weight in chain:
                step(weight.name)
        drawn.append(nulls)
    return Nulls.joined(drawn)


def _fingerprint(network: Network) -> str:
    """Hash of names, shapes and dtypes: free, and the same for every copy of a checkpoint."""
    headers = [(header.name, header.shape, header.dtype) for header in network.checkpoint.headers.values()]
    return sha256(json.dumps(headers).encode()).hexdigest()


def _stamps(network: Network) -> list[tuple[str, int, int]]:
    """Sizes and times of the files, by which a scratch knows that the numbers are still the same."""
    files = sorted({header.file for header in network.checkpoint.headers.values()})
    if not all(Path(file).is_file() for file in files):
        raise ValueError("analyze can resume from a scratch only where the checkpoint is on disk.")
    return [(file, Path(file).stat().st_size, Path(file).stat().st_mtime_ns) for file in files]


def _bases(spectra: Mapping[str, Spectrum]) -> dict[str, Tensor]:
    bases = {}
    for name, spectrum in spectra.items():
        for side in Side:
            bases[f"{name}.{side.value}"] = spectrum.frame(side)
        bases[f"{name}.singular_values"] = spectrum.all_values
    return bases
