"""Experts of neighbouring layers matched one to one, and how alike the experts of a layer are."""

from collections.abc import Iterable, Mapping
from itertools import chain, pairwise
from typing import Any

import pandas as pd

from ...network import Side, Weight
from ...numerics.spectrum import Spectrum
from ..invariance import angles_are_basis_independent
from ..observable import Observable
from ..schema import Column, Schema
from ..table import measured, q_values
from .expert_pairs import EXPERT_OVERLAP, ExpertPairs, Experts
from .matching import MATCHED_GAIN, MATCHED_OVERLAP, Matching

#: What is measured of the experts of two layers, or of one. To add an observable, list it here.
PAIR_OBSERVABLES: tuple[Observable[ExpertPairs], ...] = (EXPERT_OVERLAP,)
#: What is measured of the experts of two layers once they are matched.
MATCHING_OBSERVABLES: tuple[Observable[Matching], ...] = (MATCHED_OVERLAP, MATCHED_GAIN)
EXPERT_OBSERVABLES: tuple[Observable[Any], ...] = (*PAIR_OBSERVABLES, *MATCHING_OBSERVABLES)

#: Kinds of rows.
ACROSS, WITHIN = "across", "within"


def expert_schema() -> Schema:
    """Columns of `expert_table`."""
    return Schema(
        "One row for each role of experts and pair of neighbouring layers, whose experts are matched one to one, and "
        "one for each role and layer, for how alike its experts are",
        (
            Column("kind", "str", "across, for the experts of two layers, or within, for those of one"),
            Column("role", "str", "role of the experts"),
            Column("side", "str", "the one that faces the stream: read for up and gate, write for down"),
            Column("layer", "int64", "the earlier layer"),
            Column("next_layer", "int64", "the next layer that has experts of the role, or the same one"),
            Column("experts", "int64", "experts of the earlier layer that have a direction"),
            Column("next_experts", "int64", "those of the next layer"),
            Column("space", "str", "space that all lie in"),
            Column(
                "basis_independent",
                "bool",
                "whether no change of basis that leaves the network's function unchanged alters these overlaps",
            ),
            Column("rank", "int64", "dimension of the smallest of the leading subspaces"),
            *(column for observable in EXPERT_OBSERVABLES for column in observable.columns),
        ),
    )


def expert_table(
    weights: Iterable[Weight], spectra: Mapping[str, Spectrum], *, folded: bool = False, seed: int = 0
) -> pd.DataFrame:
    """Match the experts of neighbouring layers, and compare those of one layer with each other.

    Parameters
    ----------
    weights : iterable of Weight
        All but single experts are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.
    folded : bool, optional
        Whether the norms beside the weights are folded into them.
    seed : int, optional
        Of the draws of nulls that have no closed form; those of one seed differ between kinds of device.

    Returns
    -------
    table : pandas.DataFrame
        The columns are those of `expert_schema`; those of matched experts are missing within a layer. Experts are
        compared by what they read from the stream or write to it, and never by their numbers: another order of the
        experts of a layer changes no number but by rounding. Layers with fewer than two experts that have a direction
        are left out, and so are subspaces that fill the stream. The families of q-values are the rows across layers
        and the rows within.

    Notes
    -----
    E experts of rank k in n dimensions cost about ``2 n (E k)^2`` operations a draw, of which there are 128 for each
    row across layers. A draw holds the products of all directions, ``(E k)^2`` numbers in tiles of 32 MiB at most.

    References
    ----------
    docs/measurements.md, "Mixtures of experts".
    """
    rows = []
    for layers in _layers_of_roles(weights):
        found = [(members, experts) for members in layers if (experts := _experts(members, spectra)) is not None]
        rows += [
            _row(*place, folded=folded, seed=seed) for place in chain(pairwise(found), zip(found, found, strict=True))
        ]
    table = expert_schema().frame(rows)
    for observable in EXPERT_OBSERVABLES:
        table[f"{observable.column}_q_value"] = q_values(table, observable, "kind")
    return table


def _layers_of_roles(weights: Iterable[Weight]) -> list[list[list[Weight]]]:
    """Experts by role and then by layer, in order of depth."""
    roles: dict[str, dict[int | None, list[Weight]]] = {}
    for weight in sorted(weights, key=lambda weight: weight.stage):
        if weight.expert is not None:
            roles.setdefault(weight.role, {}).setdefault(weight.layer, []).append(weight)
    return [list(layers.values()) for layers in roles.values()]


def _side(weight: Weight) -> Side:
    return Side.WRITE if weight.record.writes_to_stream else Side.READ


def _experts(members: list[Weight], spectra: Mapping[str, Spectrum]) -> Experts | None:
    """Leading subspaces of a layer's experts; None where there are no two, or one leaves no room."""
    side = _side(members[0])
    found = [
        (spectra[weight.name].frame(side), spectra[weight.name].channel_norms(side), weight.expert)
        for weight in members
        if spectra[weight.name].values[0] > 0
    ]
    if len(found) < 2 or max(frame.shape[1] for frame, *_ in found) == members[0].space(side).dim:
        return None
    frames, norms, numbers = zip(*found, strict=True)
    return Experts(frames, norms, numbers)


def _row(
    first: tuple[list[Weight], Experts], second: tuple[list[Weight], Experts], *, folded: bool, seed: int
) -> dict[str, Any]:
    """The experts of two layers, or of one given twice."""
    (members, earlier), (others, later) = first, second
    weight, side, pairs = members[0], _side(members[0]), ExpertPairs(earlier, later)
    columns = measured(PAIR_OBSERVABLES, pairs)
    if not pairs.is_within:
        stream = f"{seed} experts {weight.role} {weight.layer} {others[0].layer}"
        columns |= measured(MATCHING_OBSERVABLES, Matching(earlier, later, stream))
    return {
        "kind": WITHIN if pairs.is_within else ACROSS,
        "role": weight.role,
        "side": side.value,
        "layer": weight.layer,
        "next_layer": others[0].layer,
        "experts": len(earlier.frames),
        "next_experts": len(later.frames),
        "space": weight.space(side).name,
        "basis_independent": all(angles_are_basis_independent(one, side, folded=folded) for one in members + others),
        "rank": min(*earlier.ranks, *later.ranks),
    } | {name: float(value) for name, value in columns.items()}
