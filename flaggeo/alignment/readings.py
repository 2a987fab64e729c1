"""Continuity of first directions in both readings of the weights: as stored, and with the norms folded in."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..network import Side, Stack, Weight
from ..numerics.blocks import BLOCK_ENTRIES
from ..numerics.following import followed_spectrum
from ..numerics.spectrum import Spectrum
from ..numerics.threads import workers
from .chance.norm_matched_law import LAW_ERROR
from .depth.closed_nulls import norm_matched_cosines
from .depth.cosines import ABS_COSINE
from .depth.drawn_nulls import SEEDED_NULLS
from .depth.layer_pair import ROLE, SIDE, comparable_across_layers, in_batches, is_shared, meetings_of
from .schema import Column, Schema
from .table import effect_size, measured, q_values

#: Effect size from which a direction is said to be kept across layers: a word for the reader, not a test.
KEPT = 0.15
#: The two readings, and what both are called where there is no norm to fold.
STORED, FOLDED, EITHER = "stored", "folded", "either"
# Directions that a search for the first one starts from; the others that are known would only make it slower.
_START = 4
# Largest singular values from which products are made in single precision.
_LEAST_SINGLE = 1e-6
# What the nulls of single layer pairs are called, whose means over the layers a row has.
_OF_PAIRS = ("null", "mean_matched", "sign_flip")

READING_SCHEMA = Schema(
    "One row for each role, side in a space that layers share, and reading of the weights",
    (
        ROLE,
        SIDE,
        Column(
            "reading",
            "str",
            "stored, folded (with the gains of the norms beside the weights folded in), or either, where there is no "
            "norm to fold and both are one",
        ),
        Column("layer_pairs", "int64", "number of pairs of neighbouring layers that both have a direction"),
        Column("abs_cos_1", "float64", "mean |cos| of the first singular vectors over these pairs"),
        Column("abs_cos_1_null_mean", "float64", "the same for unrelated weights, exact"),
        Column("abs_cos_1_mean_matched_mean", "float64", "the same under the mean-matched null"),
        Column("abs_cos_1_norm_matched_mean", "float64", "the same for norm-matched weights, drawn or in closed form"),
        Column("abs_cos_1_sign_flip_mean", "float64", "the same under random signs, drawn or in closed form"),
        Column("draws", "int64", "draws of the last two; 0 for their closed form"),
        Column("abs_cos_1_effect_size", "float64", "effect size over unrelated weights"),
        Column("abs_cos_1_excess", "float64", "effect size over the largest null"),
        Column(
            "abs_cos_1_equalised",
            "float64",
            "the same with all channels of the stored weights at one norm; missing where outlier channels cannot "
            "account for the number",
        ),
        Column(
            "significant_pairs",
            "int64",
            "layer pairs that stand out from unrelated weights, random signs and a common mean",
        ),
    ),
)


def read_twice(weight: Weight) -> bool:
    """Whether both readings of a weight are compared across layers, and differ."""
    return _is_compared(weight) and not weight.folding.is_empty


def first_direction(matrix: Tensor, known: Spectrum) -> Spectrum:
    """First singular triplet of a matrix that resembles one whose leading directions are known.

    From products in single precision, which find it to about 1e-3 radians in half of the time.
    """
    # Fourth powers of larger or smaller numbers have no place there.
    is_moderate = _LEAST_SINGLE < float(known.values[0]) < 1 / _LEAST_SINGLE
    start = (known.right if matrix.shape[0] >= matrix.shape[1] else known.left)[:, :_START]
    start = start.float() if is_moderate else start
    if matrix.numel() <= BLOCK_ENTRIES:  # once for all, not in every product
        matrix = matrix.to(start)
    found, _ = followed_spectrum(matrix, 1, start, torch.Generator().manual_seed(0))
    return replace(found, left=found.left.to(known.left), right=found.right.to(known.right))


def readings_table(
    weights: Iterable[Weight],
    continuity: pd.DataFrame,
    nulls: pd.DataFrame,
    spectra: Mapping[str, Spectrum],
    refolded: Mapping[str, Spectrum],
    *,
    folded: bool,
    false_discovery_rate: float,
) -> pd.DataFrame:
    """Continuity of first directions in both readings.

    Parameters
    ----------
    weights : iterable of Weight
        Stacks of experts are passed over.
    continuity, nulls : pandas.DataFrame
        Of the one reading, see `continuity_table` and `Nulls`.
    spectra, refolded : mapping of str to Spectrum
        By name of the weight: in that reading, and from `first_direction` in the other one, where it differs.
    folded : bool
        Whether that reading has the norms folded in.
    false_discovery_rate : float
        At which layer pairs count as significant.

    Returns
    -------
    table : pandas.DataFrame
        The columns are those of `READING_SCHEMA`; that of equal norms is filled by `with_equal_norms`.

    References
    ----------
    docs/measurements.md, "Both readings of the weights".
    """
    single = [weight for weight in weights if _is_compared(weight)]
    shared = continuity[continuity["shared_space"] & continuity["role"].isin({weight.role for weight in single})]
    twice = {weight.role for weight in single if read_twice(weight)}
    known = nulls[nulls["measure"] == ABS_COSINE.column].set_index(["role", "side", "null"])
    own = {
        (role, side): {null: known["mean"].get((role, side, null), np.nan) for null in SEEDED_NULLS}
        | {"draws": int(known["draws"].get((role, side, SEEDED_NULLS[0]), 0))}
        for role, side in zip(shared["role"], shared["side"], strict=True)
    }
    rows = _rows(shared, own, FOLDED if folded else STORED, twice, false_discovery_rate)
    # Without those whose norms turned out to be unreadable.
    again = [weight for weight in single if weight.role in twice]
    again = [weight for weight in again if weight.name in refolded or not read_twice(weight)]
    firsts = {weight.name: refolded.get(weight.name, spectra[weight.name].leading(1)) for weight in again}
    cosines = _first_cosines(again, firsts)
    if cosines:
        # All roles of a side are tested together, so that neither reading depends on which one is at hand.
        other = pd.concat([shared[~shared["role"].isin(twice)], *cosines], ignore_index=True)
        other[f"{ABS_COSINE.column}_q_value"] = q_values(other, ABS_COSINE, "side")
        closed = {
            (role, side.value): {SEEDED_NULLS[0]: mean, "draws": 0}
            for (role, side), mean in norm_matched_cosines(again, firsts).items()
        }
        reading = STORED if folded else FOLDED
        rows += _rows(other[other["role"].isin(twice)], closed, reading, twice, false_discovery_rate)
    return READING_SCHEMA.frame(rows)


def with_equal_norms(
    readings: pd.DataFrame,
    weights: Iterable[Weight],
    spectra: Mapping[str, Spectrum],
    matrix_of: Callable[[Weight], Tensor],
) -> pd.DataFrame:
    """The same with the number for channels of one norm, where outlier channels may account for a reading.

    Parameters
    ----------
    readings : pandas.DataFrame
        From `readings_table`.
    weights : iterable of Weight
    spectra : mapping of str to Spectrum
        By name of the weight.
    matrix_of : callable
        Gives the matrix of a weight as it is stored. It is asked for weights of the roles in doubt alone, in threads.

    Returns
    -------
    readings : pandas.DataFrame
    """
    doubted = readings[may_be_outlier_channels(readings)]
    places = {(role, Side(side)) for role, side in zip(doubted["role"], doubted["side"], strict=True)}
    compared = filter(_is_compared, weights)
    asked = [(weight, side) for weight in compared for side in Side if (weight.role, side) in places]

    def frame_of(place: tuple[Weight, Side]) -> Tensor:
        weight, side = place
        return _equalised_frame(matrix_of(weight), side, spectra[weight.name])

    with workers() as pool:
        frames = list(pool.map(frame_of, asked))
    directions = {
        (weight.name, side): frame[:, 0] for (weight, side), frame in zip(asked, frames, strict=True) if frame.shape[1]
    }
    cosines = _equalised_cosines([weight for weight, _ in asked], directions)
    equal = [cosines.get(place, np.nan) for place in zip(readings["role"], readings["side"], strict=True)]
    return readings.assign(**{f"{ABS_COSINE.column}_equalised": np.array(equal, dtype=float)})


def may_be_outlier_channels(readings: pd.DataFrame) -> "pd.Series[bool]":
    """Readings with continuity that the nulls which keep outlier channels may account for, given their error."""
    name = ABS_COSINE.column
    largest = readings[[f"{name}_{null}_mean" for null in SEEDED_NULLS]].max(axis=1) + LAW_ERROR
    beyond = effect_size(readings[name], np.minimum(largest, 1)) >= KEPT
    return (readings[f"{name}_effect_size"] >= KEPT) & ~pd.Series(beyond, index=readings.index)


def _is_compared(weight: Weight) -> bool:
    return comparable_across_layers(weight) and not isinstance(weight, Stack)


def _equalised_frame(stored: Tensor, side: Side, known: Spectrum) -> Tensor:
    """First direction with the norms of the channels made equal, shape=[n, 1]; a zero channel stays zero."""
    norms = torch.linalg.vector_norm(stored, dim=0 if side is Side.READ else 1, keepdim=True)
    return first_direction(stored / torch.where(norms > 0, norms, 1), known).frame(side)


def _first_cosines(weights: list[Weight], spectra: Mapping[str, Spectrum]) -> list[pd.DataFrame]:
    """|cos| of the first directions of neighbours in one space, beside the nulls of each pair, in parts."""
    meetings = [one for one in meetings_of(weights) if one.dim > 1 and is_shared(one[:2], one.side)]
    return [
        pd.DataFrame(measured([ABS_COSINE], pair)).assign(
            role=[meetings[place].earlier.role for place in places], side=pair.side.value
        )
        for places, pair in in_batches(meetings, spectra)
    ]


def _rows(
    pairs: pd.DataFrame,
    nulls: Mapping[tuple[str, str], Mapping[str, float]],
    reading: str,
    twice: set[str],
    rate: float,
) -> list[dict[str, Any]]:
    """One row a role and side: means over its layer pairs, and seeded nulls that are known of it as a whole."""
    name = ABS_COSINE.column
    rows = []
    for (role, side), group in pairs.groupby(["role", "side"], sort=False):
        of_role = nulls.get((str(role), str(side)), {})
        means = {null: float(group[f"{name}_{null}_mean"].mean()) for null in _OF_PAIRS}
        means |= {null: of_role[null] for null in SEEDED_NULLS if null in of_role}
        value = float(group[name].mean())
        rows.append(
            {"role": role, "side": side, "reading": reading if role in twice else EITHER}
            | {"layer_pairs": int(group[name].count()), name: value, "draws": of_role.get("draws", 0)}
            | {f"{name}_{null}_mean": mean for null, mean in means.items()}
            | {f"{name}_effect_size": float(effect_size(value, means["null"]))}
            | {f"{name}_excess": float(effect_size(value, np.nanmax(list(means.values()))))}
            | {"significant_pairs": int((group[f"{name}_q_value"] <= rate).sum())}
        )
    return rows


def _equalised_cosines(
    weights: Iterable[Weight], directions: Mapping[tuple[str, Side], Tensor]
) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], list[float]] = {}
    for earlier, later, side in meetings_of(weights):
        first, second = (directions.get((weight.name, side)) for weight in (earlier, later))
        if first is not None and second is not None and earlier.space(side) == later.space(side):
            found.setdefault((earlier.role, side.value), []).append(float((first @ second).abs()))
    return {place: float(np.mean(cosines)) for place, cosines in found.items()}
