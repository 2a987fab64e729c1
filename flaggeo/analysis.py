"""Runs the steps from a checkpoint to measurements, holds the result, saves and loads it."""

import json
import platform
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from manifolds import abs_cosine_moments

from .alignment import (
    SEEDED_NULLS,
    Profile,
    continuity_table,
    layer_chains,
    norm_profile,
    null_table,
    pair_table,
)
from .checkpoint import open_checkpoint
from .graph import alignment_graph
from .network import ROLES, Network, Side, Weight, read_network
from .spectrum import Spectrum, leading_spectrum
from .storage import (
    BASES_FILE,
    GRAPH_FILE,
    REPORT_FILE,
    RESULT_FILE,
    TABLES,
    Scratch,
    replaced_at_once,
    require_replaceable,
)

SCHEMA_VERSION = 2

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
    nulls : pandas.DataFrame
        One row a role, side, null and measure: continuity under seeded nulls. Empty without draws.
    pairs : pandas.DataFrame
        One row a pair of subspaces of one space.
    skipped : pandas.DataFrame
        One row a tensor that was not used, with the reason.
    bases : mapping of str to Tensor
        Frames ``layers.3.q.read``, shape=[dim, rank], and ``layers.3.q.singular_values``, shape=[rank].
    provenance : mapping
        What was read, with what settings and versions, and when.
    """

    weights: pd.DataFrame
    spaces: pd.DataFrame
    continuity: pd.DataFrame
    nulls: pd.DataFrame
    pairs: pd.DataFrame
    skipped: pd.DataFrame
    bases: Mapping[str, Tensor]
    provenance: Mapping[str, Any]

    @cached_property
    def graph(self) -> "nx.MultiDiGraph[str]":
        """Alignment graph of the pairs that stand out, see `alignment_graph`."""
        return alignment_graph(self.weights, self.pairs)

    @cached_property
    def summary(self) -> pd.DataFrame:
        """Continuity averaged over neighbouring layers: one row a role and side.

        Returns
        -------
        table : pandas.DataFrame
            ``abs_cos_1``, ``abs_cos_2``, ``sigma2_weighted`` and ``overlap`` are means over ``layer_pairs``;
            ``adjusted`` is (abs_cos_1 - E) / (1 - E) with the Haar mean E in ``null_mean``; ``z`` is
            (abs_cos_1 - E) / (sd / sqrt(layer_pairs)). ``at_chance`` counts the layer pairs within three
            standard deviations of E. ``overlap_far`` is the mean overlap of layers ``far_lag`` or more apart,
            half of the network. ``channels`` is the median participation ratio of the first singular vector:
            on how many coordinates of ``dim`` it lives (dim / 3 for a random one). ``undetermined`` is the
            share of layer pairs whose first direction is. ``margin_matched`` and ``sign_flip`` are what those
            nulls give for ``abs_cos_1``, ``equalised`` is its value with all norms of the side's coordinates
            made equal, and ``excess`` is ``abs_cos_1`` minus the largest of the three nulls (with
            ``null_mean``); all four are NaN without draws. Rows with a shared space come first.
        """
        means = ["abs_cos_1", "abs_cos_2", "sigma2_weighted", "overlap", "null_mean", "overlap_null_mean", "energy"]
        whole = self.weights[self.weights["head"].isna()]
        far_lag = max(2, whole["layer"].nunique() // 2)
        far = self.pairs[(self.pairs["lag"] >= far_lag).fillna(False)]
        cosines = self.nulls[self.nulls["measure"] == "abs_cos_1"].set_index(["role", "side", "null"])["mean"]
        rows = []
        for (role, side), group in self.continuity.groupby(["role", "side"], sort=False):
            weights = whole[whole["role"] == role]
            subspaces = set(weights["name"] + f".{side}")
            dim = int(weights["source_dim" if side == "read" else "target_dim"].iloc[0])
            mean, spread = abs_cosine_moments(dim)
            cosine = group["abs_cos_1"].mean()
            nulls = {null: cosines.get((role, side, null), np.nan) for null in (*SEEDED_NULLS, "equalised")}
            rows.append(
                {"role": role, "side": side, "shared_space": bool(group["shared_space"].all())}
                | {"layer_pairs": len(group), "dim": dim}
                | {column: float(group[column].mean()) for column in means}
                | {
                    "adjusted": (cosine - mean) / (1 - mean) if mean < 1 else np.nan,
                    "z": (cosine - mean) / (spread / np.sqrt(len(group))) if spread > 0 else np.nan,
                    "at_chance": int((group["abs_cos_1"] < mean + 3 * spread).sum()),
                    "overlap_far": float(
                        far.loc[far["source"].isin(subspaces) & far["target"].isin(subspaces), "overlap"].mean()
                    ),
                    "far_lag": far_lag,
                    "channels": float(weights[f"{side}_channels"].median()),
                    "undetermined": float(group["undetermined"].mean()),
                }
                | nulls
                | {"excess": cosine - max(mean, *(nulls[null] for null in SEEDED_NULLS)) if len(cosines) else np.nan}
            )
        table = pd.DataFrame(rows)
        if table.empty:
            return table
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
        folder = Path(folder)
        require_replaceable(folder, overwrite=overwrite)
        with replaced_at_once(folder) as temporary:
            for name in TABLES:
                table: pd.DataFrame = getattr(self, name)
                table.to_csv(temporary / f"{name}.csv", index=False)
                table.to_parquet(temporary / f"{name}.parquet", index=False)
            frames = {name: frame.float().cpu().contiguous() for name, frame in self.bases.items()}
            (temporary / BASES_FILE).write_bytes(serialize(frames))
            nx.write_graphml(self.graph, temporary / GRAPH_FILE)
            result = {
                "schema_version": SCHEMA_VERSION,
                "provenance": dict(self.provenance),
                "summary": json.loads(self.summary.to_json(orient="records")),
            }
            text = json.dumps(result, indent=2, allow_nan=False)
            (temporary / RESULT_FILE).write_text(text + "\n", encoding="utf-8")
            if report is not None:
                (temporary / REPORT_FILE).write_text(report, encoding="utf-8")

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
        file = folder / RESULT_FILE
        if not file.is_file():
            raise FileNotFoundError(f"{folder}: expected a result of flaggeo, found no {RESULT_FILE}")
        result = json.loads(file.read_text(encoding="utf-8"))
        if result.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"{file}: expected schema version {SCHEMA_VERSION}, found {result.get('schema_version')!r}: "
                "analyze the checkpoint again"
            )
        tables = {name: pd.read_parquet(folder / f"{name}.parquet") for name in TABLES}
        return cls(**tables, bases=load_file(folder / BASES_FILE), provenance=result["provenance"])


def analyze(
    network: Network,
    *,
    rank: int = 16,
    roles: Collection[str] | None = None,
    layers: Collection[int] | None = None,
    heads: bool = False,
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
    draws : int, optional
        Random draws of each seeded null of continuity, see `null_table`; none by default, which leaves the
        exact Haar null alone. 20 draws take a few times as long as the rest.
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
        "draws": draws,
        "seed": seed,
        "weights": [weight.name for weight in chosen],
    }
    fingerprint = _fingerprint(network)
    memory = None if scratch is None else Scratch(Path(scratch), json.dumps([fingerprint, settings, _stamps(network)]))
    # A chain of one layer has no neighbours and needs no null.
    chains = [chain for chain in layer_chains(chosen).values() if len(chain) > 1] if draws else []
    steps = _Steps(progress, len({weight.tensor for weight in chosen}) + sum(map(len, chains)))
    profiled = {weight.name for chain in chains for weight in chain}
    spectra, profiles = _decompose(network, chosen, profiled, rank, device, steps, memory)
    return Analysis(
        weights=_weight_table(chosen, spectra),
        spaces=_space_table(chosen),
        continuity=continuity_table(chosen, spectra),
        nulls=_draw_nulls(chains, spectra, profiles, draws, seed, steps, memory),
        pairs=pair_table(chosen, spectra),
        skipped=pd.DataFrame(
            [(item.tensor, "x".join(map(str, item.shape)), item.reason) for item in network.skipped],
            columns=["tensor", "shape", "reason"],
        ),
        bases=_bases(spectra),
        provenance={
            "checkpoint": network.checkpoint.location,
            "family": network.family,
            "metadata": dict(network.checkpoint.metadata),
            "remarks": list(network.remarks),
            "headers_sha256": fingerprint,
            "layers": len({weight.layer for weight in chosen if weight.layer is not None}),
            "rank": rank,
            "heads": heads,
            "norm_gains": "not folded",
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
    missing = sorted(set(layers or ()) - set(network.layers))
    if missing:
        raise ValueError(f"expected layers from 0 to {network.layers[-1]}; got {missing[0]}.")
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


def _decompose(
    network: Network,
    chosen: list[Weight],
    profiled: set[str],
    rank: int,
    device: torch.device,
    step: Callable[[str], None],
    scratch: Scratch | None,
) -> tuple[dict[str, Spectrum], dict[str, Profile]]:
    """Spectra of the chosen weights and profiles of some; each tensor is read once and let go."""
    groups: dict[str, list[Weight]] = {}
    for weight in chosen:
        groups.setdefault(weight.tensor, []).append(weight)
    spectra: dict[str, Spectrum] = {}
    profiles: dict[str, Profile] = {}
    for tensor, weights in groups.items():
        step(tensor)
        found = scratch.recall(tensor, [weight.name for weight in weights], device) if scratch else None
        if found is None:
            stored = network.checkpoint.read(tensor, device=device)
            matrices = {weight.name: weight.split(stored) for weight in weights}
            decomposed = {name: leading_spectrum(matrix, rank) for name, matrix in matrices.items()}
            norms = {
                name: norm_profile(matrix, decomposed[name].frame(Side.READ).shape[1])
                for name, matrix in matrices.items()
                if name in profiled
            }
            found = decomposed, norms
            if scratch:
                scratch.keep(tensor, *found)
        spectra |= found[0]
        profiles |= found[1]
    return spectra, profiles


def _draw_nulls(
    chains: list[list[Weight]],
    spectra: Mapping[str, Spectrum],
    profiles: Mapping[str, Profile],
    draws: int,
    seed: int,
    step: Callable[[str], None],
    scratch: Scratch | None,
) -> pd.DataFrame:
    """Table of the nulls of every role; no matrix of the network is needed any more."""
    tables = []
    for chain in chains:
        role = chain[0].role
        table = scratch.recall_nulls(role) if scratch else None
        if table is None:
            table = null_table(chain, spectra, profiles, draws=draws, seed=seed, progress=step)
            if scratch:
                scratch.keep_nulls(role, table)
        else:
            for weight in chain:
                step(weight.name)
        tables.append(table)
    if not tables:
        return null_table([], {}, {}, draws=draws)
    return pd.concat(tables, ignore_index=True)


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


def _weight_table(weights: list[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    table = pd.DataFrame([_weight_row(weight, spectra[weight.name]) for weight in weights])
    return table.astype({"layer": "Int64", "head": "Int64"})


def _weight_row(weight: Weight, spectrum: Spectrum) -> dict[str, Any]:
    sigma_max = float(spectrum.values[0])
    return {
        "name": weight.name,
        "role": weight.role,
        "layer": weight.layer,
        "head": weight.head,
        "tensor": weight.tensor,
        "source": weight.source.name,
        "target": weight.target.name,
        "source_dim": weight.source.dim,
        "target_dim": weight.target.dim,
        "rank": int((spectrum.values > 0).sum()),
        "sigma_max": sigma_max,
        "frobenius_norm": spectrum.frobenius_norm,
        "stable_rank": (spectrum.frobenius_norm / sigma_max) ** 2 if sigma_max else np.nan,
        "energy": spectrum.energy,
        "gap_1": float(spectrum.gaps[0]),
        "undetermined": int(spectrum.undetermined.sum()),
        "read_channels": _participation_ratio(spectrum.frame(Side.READ)),
        "write_channels": _participation_ratio(spectrum.frame(Side.WRITE)),
        "residual": spectrum.residual,
    }


def _participation_ratio(frame: Tensor) -> float:
    """On how many coordinates the first vector of a frame lives: 1 to n; n / 3 for a random one."""
    return float(1 / frame[:, 0].pow(4).sum()) if frame.shape[1] else np.nan


def _space_table(weights: list[Weight]) -> pd.DataFrame:
    spaces = {space.name: space for weight in weights for space in (weight.source, weight.target)}
    rows = [
        (space.name, space.dim, space.depth, space.symmetry.value, space.symmetry.keeps_angles)
        for space in spaces.values()
    ]
    table = pd.DataFrame(rows, columns=["name", "dim", "depth", "symmetry", "overlap_survives"])
    return table.astype({"depth": "Int64"})


def _bases(spectra: Mapping[str, Spectrum]) -> dict[str, Tensor]:
    bases = {}
    for name, spectrum in spectra.items():
        for side in Side:
            bases[f"{name}.{side.value}"] = spectrum.frame(side)
        bases[f"{name}.singular_values"] = spectrum.values
    return bases


def _by(order: Mapping[str, int]) -> Callable[[Any], Any]:
    """Sort key: a column of roles by `order`, any other as it is."""
    return lambda column: column.map(order) if column.name == "role" else column
