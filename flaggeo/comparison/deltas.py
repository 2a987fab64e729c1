"""What kind of change took each weight of one network to the other."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import prod
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..checkpoint import Progress
from ..network import Network, Side
from ..numerics.threads import Room, ahead, thread_count, workers
from ..results.analysis import Analysis
from ..settings import Settings
from .change import DIFFERENCES_AT_ONCE, Change, WeightPair, gain_noise, read_changes
from .delta import UNKNOWN, measure_delta
from .rounding import EXACT

#: What is measured of the change of a weight; the weight before is there where all its directions can be found.
Measure = Callable[[WeightPair, Change, Tensor | None], dict[str, Any]]


def delta_table(
    networks: tuple[Network, Network] | None,
    a: Analysis,
    b: Analysis,
    names: list[str],
    device: torch.device,
    progress: Progress | None,
) -> pd.DataFrame:
    """One row a weight: how its singular values changed, and the kind of the change, see `measure_delta`.

    Parameters
    ----------
    networks : (Network, Network) or None
        None where there are frames alone, so that the latter is missing.
    a, b : Analysis
    names : list of str
        Weights of both.
    device : torch.device
    progress : callable or None
    """
    table = a.weights[a.weights["name"].isin(names)][["name", "role", "layer", "head"]].reset_index(drop=True)
    spectra = pd.DataFrame([_spectral_change(a, b, name) for name in table["name"]])
    changes = dict.fromkeys(names, UNKNOWN)

    def measure(pair: WeightPair, change: Change, base: Tensor | None) -> dict[str, Any]:
        frames = [{side: one.bases[f"{pair.name}.{side.value}"] for side in Side} for one in (a, b)]
        return measure_delta(change, base, base_frames=frames[0], changed_frames=frames[1])

    if networks is not None:
        changes |= dict(measured_changes(networks, (a, b), names, device, progress, measure))
    measured = pd.DataFrame([changes[name] for name in table["name"]])
    return pd.concat([table, spectra, measured], axis="columns").astype(
        {"rank": "Int64", "rank_90": "Int64", "rank_99": "Int64"}
    )


def measured_changes(
    networks: tuple[Network, Network],
    analyses: tuple[Analysis, Analysis],
    names: list[str],
    device: torch.device,
    progress: Progress | None,
    measure: Measure,
) -> Iterator[tuple[str, dict[str, Any]]]:
    """What is measured of the change of each weight; each tensor is read once and let go.

    Parameters
    ----------
    networks, analyses : pairs of Network and of Analysis
        Before and after, with the same settings.
    names : list of str
        Weights of both.
    device : torch.device
    progress : callable or None
    measure : callable

    Yields
    ------
    name : str
    columns : dict
    """
    settings: Settings = analyses[0].settings
    groups: dict[tuple[str, ...], list[WeightPair]] = {}
    for pair in WeightPair.in_both(*networks, names):
        groups.setdefault(pair.tensors, []).append(pair)

    headers, room = networks[0].checkpoint.headers, Room(DIFFERENCES_AT_ONCE)

    def of_group(members: list[WeightPair]) -> list[tuple[str, dict[str, Any]]]:
        found = []
        with room.holding(prod(headers[members[0].before.tensor].shape)):
            for pair, change, base in read_changes(*networks, members, settings, device):
                values = [one.bases[f"{pair.name}.singular_values"] for one in analyses]
                noise = gain_noise(*networks, pair, values) if settings.fold_norms else EXACT
                found.append((pair.name, measure(pair, replace(change, noise=change.noise.and_also(noise)), base)))
        return found

    with workers() as pool:
        begun = ahead(((members, pool.submit(of_group, members)) for members in groups.values()), thread_count())
        for done, (members, found) in enumerate(begun):
            if progress is not None:
                progress(f"b - a: {members[0].name}", done, len(groups))
            yield from found.result()
    for network in networks:
        network.checkpoint.require_unchanged()


def _spectral_change(a: Analysis, b: Analysis, name: str) -> dict[str, float]:
    before, after = (analysis.bases[f"{name}.singular_values"].to("cpu", torch.float64) for analysis in (a, b))
    kept = min(len(before), len(after))
    norm = float(before.norm())
    return {
        "sigma_max_a": float(before[0]),
        "sigma_max_b": float(after[0]),
        "sigma_change": float((after[:kept] - before[:kept]).norm()) / norm if norm else float("nan"),
    }
