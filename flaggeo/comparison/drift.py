"""How far the leading subspaces of each weight moved from one checkpoint to another."""

import math
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from manifolds import geodesic_distance, orthonormalize, overlap_moments, principal_angles, projection_overlap

from ..alignment.pairs.flags import flag_geodesic_distance, spectral_dims
from ..alignment.pairs.subspace_pair import SubspacePair
from ..network import Side
from ..numerics.spectrum import DEGENERATE_GAP
from ..results.analysis import Analysis

#: Numbers of leading directions at which overlaps and energies are taken.
CURVE = spectral_dims(16)
# Numbers of the frames of either version that are copied to one batch: 16 MiB. What is made of it takes several times
# that.
_BATCH_ENTRIES = 2**21
# Flags closer than this are the same to the rounding of their frames, which a saved analysis has in single precision.
_SAME_FLAG = {torch.float64: 1e-12, torch.float32: 1e-6}


def drift_table(first: Analysis, second: Analysis, names: list[str]) -> pd.DataFrame:
    """Distances between the leading subspaces of the same weight in two analyses.

    Parameters
    ----------
    first, second : Analysis
        With the same settings.
    names : list of str
        Weights that both have.

    Returns
    -------
    table : pandas.DataFrame
        One row a weight and side. ``rank`` is the number of directions compared, the smaller of the two.
        ``angle_1`` is the angle between the first singular vectors in radians, ``abs_cos_1`` its cosine;
        where ``undetermined``, one of them is free to rotate into the second and the angle says little.
        ``geodesic_distance`` is that of the leading subspaces and ``rms_angle`` the root mean square of
        their principal angles, ``flag_distance`` that of the flags of the leading 1, 2, 4 ... directions; all
        in radians. ``overlap`` stands beside the Haar mean and standard deviation
        ``overlap_null_mean`` and ``overlap_null_sd`` of unrelated subspaces, with ``overlap_effect_size`` and
        ``overlap_z``; ``overlap_1`` ...
        ``overlap_16`` are overlaps of so many leading directions. What is undefined is NaN: everything where
        a matrix is zero, the flag distance also where no geodesic was found.

    Notes
    -----
    Unchanged by one orthogonal map on both checkpoints, and by nothing else: the two must share the basis
    of the space, as a model and its fine-tuning do and as two trainings from different seeds do not.
    Frames are brought to the CPU, where a saved analysis has them: they are thin, and the whole costs
    about 8 ms a row at 576 dimensions and rank 16, and half a second where the flags are unrelated.

    References
    ----------
    docs/measurements.md, "Unrelated weights".
    """
    gaps = [analysis.weights.set_index("name")["gap_1"] for analysis in (first, second)]
    rows: list[dict[str, Any]] = []
    groups: dict[tuple[int, int, torch.dtype], list[tuple[int, Tensor, Tensor]]] = {}
    for weight in first.weights[first.weights["name"].isin(names)].to_dict("records"):
        for side in Side:
            key = f"{weight['name']}.{side.value}"
            stored = [analysis.bases[key] for analysis in (first, second)]
            precision = torch.float32 if any(frame.dtype == torch.float32 for frame in stored) else torch.float64
            frames = [frame.to("cpu", torch.float64) for frame in stored]
            dim, rank = frames[0].shape[0], min(frame.shape[1] for frame in frames)
            rows.append(
                {column: weight[column] for column in ("name", "role", "layer", "head")}
                | {"side": side.value, "dim": dim, "rank": rank}
                | {"undetermined": any(gap[weight["name"]] < DEGENERATE_GAP for gap in gaps)}
            )
            if rank:
                member = (len(rows) - 1, frames[0][:, :rank], frames[1][:, :rank])
                groups.setdefault((dim, rank, precision), []).append(member)
    numbers = pd.DataFrame(np.nan, index=range(len(rows)), columns=list(_NUMBERS), dtype="float64")
    for (dim, rank, precision), alike in groups.items():
        count = max(1, _BATCH_ENTRIES // (dim * rank))
        for members in (alike[start : start + count] for start in range(0, len(alike), count)):
            places, frames_a, frames_b = zip(*members, strict=True)
            # Saved frames are orthonormal to 1e-7 only.
            before, after = (orthonormalize(torch.stack(frames)) for frames in (frames_a, frames_b))
            moved = _movement(before, after, _SAME_FLAG[precision])
            for column, values in moved.items():
                numbers.loc[list(places), column] = values.numpy()
    return pd.concat([pd.DataFrame(rows), numbers], axis="columns").astype({"layer": "Int64", "head": "Int64"})


_NUMBERS = (
    "angle_1",
    "abs_cos_1",
    "geodesic_distance",
    "rms_angle",
    "flag_distance",
    "overlap",
    "overlap_null_mean",
    "overlap_null_sd",
    "overlap_effect_size",
    "overlap_z",
    *(f"overlap_{count}" for count in CURVE),
)


def _movement(first: Tensor, second: Tensor, same: float) -> dict[str, Tensor]:
    """Columns of a batch of pairs of frames, shape=[batch, n, k]; flags closer than `same` are taken as equal."""
    dim, rank = first.shape[-2:]
    angle = principal_angles(first[..., :1], second[..., :1])[..., 0]
    distance = geodesic_distance(first, second)
    overlap = projection_overlap(first, second).clamp(max=1)
    mean, spread = overlap_moments(dim, rank, rank)
    nothing = torch.full_like(overlap, torch.nan)
    columns = {
        "angle_1": angle,
        "abs_cos_1": angle.cos(),
        "geodesic_distance": distance,
        "rms_angle": distance / math.sqrt(rank),
        "flag_distance": flag_geodesic_distance(SubspacePair(first, second), same=same),
        "overlap": overlap,
        "overlap_null_mean": torch.full_like(overlap, mean),
        "overlap_null_sd": torch.full_like(overlap, spread),
        "overlap_effect_size": (overlap - mean) / (1 - mean) if spread else nothing,
        "overlap_z": (overlap - mean) / spread if spread else nothing,
    }
    for count in CURVE:
        if count <= rank:
            columns[f"overlap_{count}"] = projection_overlap(first[..., :count], second[..., :count]).clamp(max=1)
    return columns
