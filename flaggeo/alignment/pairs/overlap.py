"""Overlap of all pairs of subspaces that lie in one space, beside every null and the other measures of a pair."""

from collections.abc import Iterable, Mapping
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from manifolds import overlap_moments

from ...network import Side, Symmetry, Weight
from ...numerics.spectrum import Spectrum
from ...numerics.threads import workers
from ..chance.haar import against_chance
from ..chance.sign_flip import SATURATED, leverages, named_leverages, sign_flip_p_value, sign_flip_spread
from ..observable import Observable
from .distances import GEODESIC_DISTANCE, SMALLEST_ANGLE
from .flags import BASIS_SCORE, FLAG_DISTANCE, FLAG_SCORE
from .intersection import ABOVE_EDGE, INTERSECTION_DIMENSION
from .subspace import Subspace, subspaces_of
from .subspace_pair import SubspacePair

PAIR_COLUMNS = (
    "source",
    "target",
    "space",
    "kind",
    "lag",
    "overlap",
    "null_mean",
    "null_sd",
    "adjusted_overlap",
    "z",
    "p_value",
    "q_value",
    "sign_flip_mean",
    "sign_flip_sd",
    "sign_flip_p_value",
    "margin_matched_mean",
    "excess",
    "intersection_dimension",
    "above_edge",
    "smallest_angle",
    "geodesic_distance",
    "flag_score",
    "basis_score",
    "flag_distance",
    "survives",
)

# Entries of the products of one tile of pairs: 2 MiB in float64, which a cache holds.
_TILE_ENTRIES = 2**18


def _haar_overlap(pair: SubspacePair) -> tuple[Tensor, Tensor]:
    mean, spread = overlap_moments(pair.dim, *pair.ranks)
    return pair.first.new_tensor(mean), pair.first.new_tensor(spread)


PROJECTION_OVERLAP = Observable(
    name="projection overlap",
    table="pairs",
    column="overlap",
    measure=lambda pair: (pair.squared_cosines.sum(dim=(-2, -1)) / min(pair.ranks)).clamp(max=1),
    formula=r"\lVert A^\top B \rVert_F^2 / \min(r, s)",
    range=(0.0, 1.0),
    aligned=1.0,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance="the choice of frames, and one orthogonal map of the space on both subspaces; not a general linear map",
    invariance_statement="projection_overlap_invariance",
    null="independent uniform subspaces, exact mean and spread; beside it the exact mean under random signs of the "
    "coordinates, and with draws that of random weights with the same row and column norms",
    null_moments=_haar_overlap,
    null_statement="haar_overlap_moments",
    reading="Mean squared cosine of the principal angles: 1 when one subspace contains the other. The excess is what "
    "is left of it beyond the largest null.",
    misuse="Not across ranks or dimensions without its null, which is max(r, s) / n; not as a reparameterisation "
    "invariant, which it is only where the space may be rotated at most.",
    derived=(
        "adjusted_overlap",
        "z",
        "p_value",
        "q_value",
        "sign_flip_mean",
        "sign_flip_sd",
        "sign_flip_p_value",
        "margin_matched_mean",
        "excess",
    ),
)

#: What is measured of every pair, each in the column of its own.
PAIR_OBSERVABLES: tuple[Observable[SubspacePair], ...] = (
    PROJECTION_OVERLAP,
    INTERSECTION_DIMENSION,
    ABOVE_EDGE,
    SMALLEST_ANGLE,
    GEODESIC_DISTANCE,
    FLAG_SCORE,
    BASIS_SCORE,
    FLAG_DISTANCE,
)
_COUNTS = (INTERSECTION_DIMENSION.column, ABOVE_EDGE.column)


def pair_table(
    weights: Iterable[Weight],
    spectra: Mapping[str, Spectrum],
    surrogate_leverages: Mapping[str, Tensor] | None = None,
    *,
    folded: bool = False,
) -> pd.DataFrame:
    r"""Measure every pair of subspaces of one space, beside what chance would give.

    Parameters
    ----------
    weights : iterable of Weight
    spectra : mapping of str to Spectrum
        By name of the weight.
    surrogate_leverages : mapping of str to Tensor, optional
        By name of the subspace (``layers.3.q.read``): mean of `leverages` over margin-matched surrogates of the
        weight, or for a head over its share of those of its projection, shape=[n]; see `continuity_nulls`. Where
        a subspace has none, ``margin_matched_mean`` is NaN.
    folded : bool, optional
        Whether the norms beside the weights are folded into them.

    Returns
    -------
    table : pandas.DataFrame
        One row a pair; the columns are `PAIR_COLUMNS`. ``kind`` is write-read (what the source writes
        reaches the target's reading: only pairs in the direction of the signal), read-read or
        write-write. ``lag`` is the difference in layers. A projection and a head of the same projection,
        which it contains, are no pair.

        ``adjusted_overlap`` is the effect size :math:`(\omega - E) / (1 - E)`, ``z`` is
        :math:`(\omega - E) / \mathrm{sd}`, with the exact Haar mean E and spread sd. ``p_value`` is the chance that
        uniform subspaces overlap at least as much, ``sign_flip_p_value`` about the chance that these two do with
        random signs on the coordinates, whose overlap has ``sign_flip_mean`` and ``sign_flip_sd``, both exact (see
        `sign_flip_spread`). ``q_value`` is the rate of false discoveries among the pairs of its kind whose larger
        p-value is as small (Benjamini-Hochberg). ``margin_matched_mean`` is the mean overlap of random
        weights with the row and column norms of these, and ``excess`` the effect size over the largest null mean.
        Effect sizes and z are NaN where a null leaves the overlap no room. The others are the `PAIR_OBSERVABLES`.
        ``survives`` says whether the overlap survives every change of basis that leaves the network alone, see
        `angles_survive`.

    Raises
    ------
    ValueError
        If a mean leverage does not have the dimension of its space.

    Notes
    -----
    Neither of the two nulls that keep how loud coordinates are needs a draw for each pair: both means are products
    of leverages, see `sign_flip_spread`. A mean alone would not do to tell loud coordinates from alignment, since
    half of all unrelated pairs lie above it.

    z grows with dimension and rank; compare effect sizes. Pairs share subspaces, so that their p-values depend on
    each other, positively on the whole; Benjamini-Hochberg assumes that.

    References
    ----------
    theory/continuity, sections 2.2 and 2.3; theory/alignment, sections 2.5, 2.6 and 6.1; `proofs`:
    sign_flip_overlap_mean.
    """
    members: dict[str, list[Subspace]] = {}
    for subspace in subspaces_of(weights, spectra):
        members.setdefault(subspace.space.name, []).append(subspace)
    surrogates = surrogate_leverages or {}
    with workers():  # for all spaces, most of which are small
        tables = [_pairs_in_one_space(group, surrogates, folded) for group in members.values() if len(group) > 1]
    tables = [table for table in tables if len(table)]
    if not tables:
        return _empty_table()
    from scipy.stats import false_discovery_control  # most of a second to import, and only needed here

    table = pd.concat(tables, ignore_index=True)
    # Beyond chance means beyond both kinds of it.
    p_value = table[["p_value", "sign_flip_p_value"]].max(axis="columns")
    table["q_value"] = p_value.groupby(table["kind"]).transform(false_discovery_control)
    return table[list(PAIR_COLUMNS)]


def _empty_table() -> pd.DataFrame:
    numbers = dict.fromkeys(PAIR_COLUMNS[5:], "float64")
    types = numbers | {"lag": "Int64", "survives": "bool"} | dict.fromkeys(_COUNTS, "int64")
    return pd.DataFrame(columns=list(PAIR_COLUMNS)).astype(types)


def _pairs_in_one_space(group: list[Subspace], surrogates: Mapping[str, Tensor], folded: bool) -> pd.DataFrame:
    group = sorted(group, key=lambda subspace: subspace.weight.stage)
    space = group[0].space
    first, second, kinds = _meetings(group)
    if not len(first):
        return _empty_table()
    measured = _measure_all(group, first, second)
    overlap = measured[PROJECTION_OVERLAP.column]
    ranks = np.array([subspace.frame.shape[1] for subspace in group])
    chance = against_chance(overlap, space.dim, ranks[first], ranks[second])
    smaller = np.minimum(ranks[first], ranks[second])
    names = np.array([subspace.name for subspace in group])
    leverage = torch.stack([leverages(subspace.frame) for subspace in group])
    sign_flip, sign_flip_sd = (
        moment.cpu().numpy()[first, second] / smaller
        for moment in (leverage @ leverage.mT, sign_flip_spread([subspace.frame for subspace in group]))
    )
    matched = named_leverages(surrogates, names.tolist(), leverage)
    margin_matched = (matched @ matched.mT).cpu().numpy()[first, second] / smaller
    survives = np.array([subspace.survives(folded=folded) for subspace in group])
    layers = np.array([np.nan if subspace.weight.layer is None else subspace.weight.layer for subspace in group])
    largest_null = np.fmax(np.fmax(chance["null_mean"], sign_flip), margin_matched)
    with np.errstate(divide="ignore", invalid="ignore"):
        return pd.DataFrame(
            {
                "source": names[first],
                "target": names[second],
                "space": space.name,
                "kind": kinds,
                "lag": pd.array(layers[second] - layers[first], dtype="Int64"),
                "sign_flip_mean": sign_flip,
                "sign_flip_sd": sign_flip_sd,
                "sign_flip_p_value": sign_flip_p_value(overlap, sign_flip, sign_flip_sd),
                "margin_matched_mean": margin_matched,
                "excess": np.where(largest_null < SATURATED, (overlap - largest_null) / (1 - largest_null), np.nan),
                "survives": survives[first] & survives[second],
            }
            | chance
            | measured
        )


def _meetings(group: list[Subspace]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.str_]]:
    """Places of both subspaces of every pair that has a meaning, the earlier first, and its kind."""
    first, second = np.triu_indices(len(group), k=1)
    writes = np.array([subspace.side is Side.WRITE for subspace in group])
    stages = np.unique([subspace.weight.stage for subspace in group], axis=0, return_inverse=True)[1].ravel()
    kinds = np.select(
        [writes[first] & writes[second], ~writes[first] & ~writes[second]], ["write-write", "read-read"], "write-read"
    )
    # A later writing never reaches an earlier reading, nor one of the same stage.
    flows = (kinds != "write-read") | (writes[first] & (stages[first] < stages[second]))
    tensors = np.array([subspace.weight.tensor for subspace in group])
    is_head = np.array([subspace.weight.head is not None for subspace in group])
    part_of = (tensors[first] == tensors[second]) & (is_head[first] != is_head[second])
    kept = flows & ~part_of
    return first[kept], second[kept], kinds[kept]


def _measure_all(group: list[Subspace], first: NDArray[np.int64], second: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Every observable of all these pairs of subspaces, by column."""
    wanted = torch.zeros(len(group), len(group), dtype=torch.bool)
    wanted[first, second] = wanted[second, first] = True
    tiles = [
        (left, right)
        for left, right in combinations_with_replacement(_chunks(group), 2)
        if wanted[left[:, None], right].any()
    ]

    def measure(tile: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
        left, right = (torch.stack([group[place].frame for place in places]) for places in tile)
        pairs = SubspacePair(left[:, None], right)
        return {observable.column: observable.measure(pairs).cpu() for observable in PAIR_OBSERVABLES}

    tables: dict[str, Tensor] = {}
    with workers() as pool:
        for (left, right), measured in zip(tiles, pool.map(measure, tiles), strict=True):
            for column, values in measured.items():
                if column not in tables:
                    tables[column] = values.new_zeros(wanted.shape)
                # No observable minds which subspace of a pair comes first.
                tables[column][left[:, None], right] = values
                tables[column][right, left[:, None]] = values
    return {column: table[first, second].numpy() for column, table in tables.items()}


def _chunks(group: list[Subspace]) -> list[Tensor]:
    """Places of subspaces of one width and side: so many that two chunks fill a tile."""
    places: dict[tuple[int, Side], list[int]] = {}
    for place, subspace in enumerate(group):
        # Sides apart, so that whole tiles of a later writing and an earlier reading fall away.
        places.setdefault((subspace.frame.shape[1], subspace.side), []).append(place)
    return [
        chunk
        for (width, _), members in places.items()
        for chunk in torch.tensor(members).split(max(1, int(_TILE_ENTRIES**0.5 / width)))
    ]
