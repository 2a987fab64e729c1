"""Continuity of singular vectors: how far the leading directions of a weight continue in the next layer."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ...network import Side, Weight
from ...numerics.spectrum import Spectrum
from ..invariance import angles_are_basis_independent
from ..observable import Observable
from ..schema import Column, Schema
from ..table import measured, q_values
from . import gram_cosine
from .best_match import BEST_MATCH, PROJECTION
from .cosines import ABS_COSINE, ABS_COSINE_2, LEADING_OVERLAP, SIGMA2_WEIGHTED
from .layer_pair import (
    LAYERS,
    ROLE,
    SIDE,
    LayerPair,
    Meeting,
    in_batches,
    is_shared,
    meetings_of,
    space_name,
    unless_forced,
)
from .leading_block import BLOCK_OVERLAP
from .rank_one import SIGNED_RANK_ONE

#: What is measured of the leading directions of a weight in two layers. To add an observable, list it here.
LAYER_OBSERVABLES: tuple[Observable[LayerPair], ...] = (
    ABS_COSINE,
    ABS_COSINE_2,
    SIGMA2_WEIGHTED,
    LEADING_OVERLAP,
    BEST_MATCH,
    PROJECTION,
    BLOCK_OVERLAP,
    SIGNED_RANK_ONE,
)


def continuity_schema() -> Schema:
    """Columns of `continuity_table`."""
    return Schema(
        "One row for each role, side and pair of neighbouring layers",
        (
            ROLE,
            SIDE,
            *LAYERS,
            Column("space", "str", "space that both sides lie in, or the two spaces"),
            Column(
                "shared_space",
                "bool",
                "whether both sides lie in one space of the network; where they do not, coordinates are compared by "
                "index, whose meaning each layer chose for itself",
            ),
            Column(
                "basis_independent",
                "bool",
                "whether no change of basis that leaves the network's function unchanged alters these angles",
            ),
            Column(
                "undetermined",
                "bool",
                "whether a small gap leaves the first direction of either layer free to rotate into the next; read "
                "`block_overlap` then, not `abs_cos_1`",
            ),
            Column("rank", "int64", "dimension of the smaller of the two leading subspaces"),
            Column("energy", "float64", "share of the earlier weight's squared norm in its kept directions"),
            *(column for observable in LAYER_OBSERVABLES for column in observable.columns),
            *(column for observable in gram_cosine.GRAM_OBSERVABLES for column in observable.columns),
        ),
    )


def continuity_table(
    weights: Iterable[Weight],
    spectra: Mapping[str, Spectrum],
    gram_cosines: Mapping[tuple[str, Side], Mapping[str, float]] | None = None,
    *,
    folded: bool = False,
) -> pd.DataFrame:
    """Continuity of every role on both sides, from each layer to the next that has the role.

    Parameters
    ----------
    weights : iterable of Weight
        Heads, single experts and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.
    gram_cosines : mapping, optional
        From the name of the earlier weight and the side to what `gram_cosines` found for it and the next
        weight of its chain, see `layer_chains`. Where it has none the columns are NaN.
    folded : bool, optional
        Whether the norms beside the weights are folded into them.

    Returns
    -------
    table : pandas.DataFrame
        One row for each role, side and pair of layers of equal width above 1; the columns are those of
        `continuity_schema`. A number is NaN where a direction does not exist, and where the two subspaces or spectra
        are such that it can have one value only.

        A family of q-values is all layer pairs of all roles on one side, reading or writing. Layer pairs whose sides
        share no space are in none: the cosine compares by index of the coordinate there, and where it is large, as
        between two vectors near the constant one, no direction was found to continue. For the leading subspaces as a
        whole, p- and q-values stand in the table of pairs, where neighbours have a lag of 1.

    References
    ----------
    arXiv:2605.04971, equations 1 and 2; docs/measurements.md, "Continuity across layers".
    """
    meetings = [one for one in meetings_of(weights) if one.dim > 1]
    grams = gram_cosines or {}
    rows = [
        _place(meeting, spectra, folded) | numbers | dict(grams.get((meeting.earlier.name, meeting.side), {}))
        for meeting, numbers in zip(meetings, _measured(meetings, spectra), strict=True)
    ]
    table = continuity_schema().frame(rows)
    shared = table[table["shared_space"]]
    table[f"{ABS_COSINE.column}_q_value"] = q_values(shared, ABS_COSINE, "side")
    return table


def _measured(meetings: Sequence[Meeting], spectra: Mapping[str, Spectrum]) -> list[dict[str, float]]:
    """Observables of every meeting."""
    found: list[dict[str, float]] = [{} for _ in meetings]
    for places, pair in in_batches(meetings, spectra):
        # The signed overlap is one of both sides, of which one may be numbered by experts.
        two_sided = meetings[places[0]].two_sided
        observables = [one for one in LAYER_OBSERVABLES if two_sided or one is not SIGNED_RANK_ONE]
        for name, column in unless_forced(observables, measured(observables, pair)).items():
            for place, value in zip(places, np.broadcast_to(column, len(places)).tolist(), strict=True):
                found[place][name] = value
    return found


def _place(meeting: Meeting, spectra: Mapping[str, Spectrum], folded: bool) -> dict[str, Any]:
    """Where it is, and what its weights are like."""
    *both, side = meeting
    earlier, later = both
    first, second = spectra[earlier.name], spectra[later.name]
    shared = is_shared(both, side)
    return {
        "role": earlier.role,
        "side": side.value,
        "layer": earlier.layer,
        "next_layer": later.layer,
        "space": space_name(both, side),
        "shared_space": shared,
        "basis_independent": shared and all(angles_are_basis_independent(one, side, folded=folded) for one in both),
        "undetermined": bool(first.undetermined[0] or second.undetermined[0]),
        "rank": min(first.frame(side).shape[1], second.frame(side).shape[1]),
        "energy": first.energy,
    }
