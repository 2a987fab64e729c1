"""From the leading directions of all weights at one step to the tables of its record."""

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from typing import Any

import numpy as np
import torch
from torch import Tensor

from manifolds import geodesic_distance, overlap_moments, principal_angles, projection_overlap

from ...alignment import SubspacePair, angles_are_basis_independent
from ...alignment.depth.layer_pair import Meeting, in_batches, is_shared, meetings_of, space_name, unless_forced
from ...alignment.table import measured
from ...network import Side, Weight
from ...numerics.spectrum import Spectrum
from .records import OF_LAYERS, OF_PAIRS
from .reference import Moment

Row = dict[str, Any]


def layer_pairs(weights: Sequence[Weight], *, folded: bool) -> list[tuple[Meeting, Row]]:
    """Neighbouring layers of each role and side, and what never changes of their rows."""
    found = []
    for meeting in meetings_of(weights):
        *both, side = meeting
        shared = is_shared(both, side)
        independent = shared and all(angles_are_basis_independent(one, side, folded=folded) for one in both)
        row = {"role": both[0].role, "side": side.value, "layer": both[0].layer, "next_layer": both[1].layer}
        row |= {
            "space": space_name(both, side),
            "shared_space": shared,
            "basis_independent": independent,
            "dim": meeting.dim,
        }
        if meeting.dim > 1:
            found.append((meeting, row))
    return found


def continuity_rows(pairs: Sequence[tuple[Meeting, Row]], spectra: Mapping[str, Spectrum]) -> list[Row]:
    """How far the leading directions of each weight continue in the next layer."""
    there = [(meeting, row) for meeting, row in pairs if {meeting.earlier.name, meeting.later.name} <= spectra.keys()]
    meetings, rows = [meeting for meeting, _ in there], [dict(row) for _, row in there]
    for meeting, row in zip(meetings, rows, strict=True):
        first, second = spectra[meeting.earlier.name], spectra[meeting.later.name]
        row["undetermined"] = bool(first.undetermined[0] or second.undetermined[0])
        row["rank"] = min(one.frame(meeting.side).shape[1] for one in (first, second))
        row["energy"] = first.energy
    for places, batch in in_batches(meetings, spectra):
        for name, column in unless_forced(OF_LAYERS, measured(OF_LAYERS, batch)).items():
            for place, value in zip(places, np.broadcast_to(column, len(places)).tolist(), strict=True):
                rows[place][name] = value
    return rows


def drift_rows(
    weights: Sequence[Weight], now: Mapping[str, Moment], since: str, earlier: Mapping[str, Moment]
) -> list[Row]:
    """How far the leading subspaces of each weight lie from where they were, in degrees.

    Parameters
    ----------
    weights : sequence of Weight
    now : mapping of str to Moment
    since : {"first", "previous"}
    earlier : mapping of str to Moment
        What each is compared with.
    """
    rows: list[Row] = []
    batches: dict[tuple[int, int], list[tuple[Row, Tensor, Tensor]]] = {}
    for weight in weights:
        if weight.name not in now or weight.name not in earlier:
            continue
        before, after = earlier[weight.name], now[weight.name]
        for side in Side:
            frames = before.frame(side), after.frame(side)
            dim, rank = len(frames[0]), min(frame.shape[1] for frame in frames)
            row = {"name": weight.name, "role": weight.role, "layer": weight.layer, "head": weight.head}
            row |= {"side": side.value, "since": since}
            row |= {"since_step": before.step, "dim": dim, "rank": rank}
            row["undetermined"] = before.undetermined or after.undetermined
            rows.append(row)
            if rank:
                batches.setdefault((dim, rank), []).append((row, frames[0][:, :rank], frames[1][:, :rank]))
    for (dim, rank), members in batches.items():
        of_batch, before_all, after_all = zip(*members, strict=True)
        first, second = torch.stack(before_all), torch.stack(after_all)
        mean, spread = overlap_moments(dim, rank, rank)
        columns = {
            "angle_1": principal_angles(first[..., :1], second[..., :1])[..., 0].rad2deg(),
            "rms_angle": (geodesic_distance(first, second) / rank**0.5).rad2deg(),
            "overlap": projection_overlap(first, second).clamp(max=1),
        }
        for name, values in columns.items():
            for row, value in zip(of_batch, values.tolist(), strict=True):
                row[name] = value
        for row in of_batch:
            row |= {"overlap_null_mean": mean, "overlap_null_sd": spread}
    return rows


def weight_rows(weights: Sequence[Weight], spectra: Mapping[str, Spectrum]) -> list[Row]:
    """What the spectrum of each weight says."""
    rows = []
    for weight in weights:
        if weight.name not in spectra:
            continue
        found = spectra[weight.name]
        largest = float(found.values[0])
        row: Row = {"name": weight.name, "role": weight.role, "layer": weight.layer, "head": weight.head}
        row |= {"rank": found.frame(Side.READ).shape[1], "frobenius_norm": found.frobenius_norm, "sigma_max": largest}
        row |= {"stable_rank": (found.frobenius_norm / largest) ** 2 if largest else nan, "energy": found.energy}
        row |= {"gap_1": float(found.gaps[0]) if largest else nan, "undetermined": int(found.undetermined.sum())}
        rows.append(row | {"residual": found.residual})
    return rows


def pair_rows(pairs: Sequence[tuple[str, str]], ends: Mapping[str, tuple[Weight, Side]], spectra: Any) -> list[Row]:
    """Overlap of the leading subspaces of chosen pairs."""
    rows = []
    for source, target in pairs:
        (first, _), (second, _) = ends[source], ends[target]
        if {first.name, second.name} <= spectra.keys():
            frames = [spectra[weight.name].frame(side) for weight, side in (ends[source], ends[target])]
            space = first.space(ends[source][1])
            row = {"source": source, "target": target, "space": space.name, "dim": space.dim}
            if all(frame.shape[1] for frame in frames):
                row |= {name: float(value) for name, value in measured([OF_PAIRS], SubspacePair(*frames)).items()}
            rows.append(row)
    return rows


def ends_of(weights: Sequence[Weight]) -> Iterator[tuple[str, tuple[Weight, Side]]]:
    """What each side of each weight is called in a pair."""
    yield from ((f"{weight.name}.{side.value}", (weight, side)) for weight in weights for side in weight.sides)
