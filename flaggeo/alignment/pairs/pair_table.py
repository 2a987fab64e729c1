"""All pairs of subspaces that lie in one space: every number beside its nulls."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray
from torch import Tensor

from ...network import Side, Weight
from ...numerics.spectrum import Spectrum
from ...numerics.threads import cached_property, coordinators
from ..chance.overlaps import overlaps_against_nulls
from ..chance.sign_flip import leverages, named_leverages
from ..observable import Observable
from ..schema import Column, Schema
from ..table import beside_nulls, q_values
from .distances import GEODESIC_DISTANCE, SMALLEST_ANGLE
from .flags import BASIS_SCORE, FLAG_DISTANCE, FLAG_SCORE
from .intersection import ABOVE_EDGE, INTERSECTION_DIMENSION
from .overlap import PROJECTION_OVERLAP
from .subspace import Subspace, subspaces_of
from .subspace_pair import SubspacePair
from .tiles import measured_in_tiles

_KINDS = ("write-read", "write-write", "read-read")
#: What is measured of every pair. To add an observable, list it here.
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


def pair_schema() -> Schema:
    """Columns of `pair_table`: only the overlap, which is tested, stands beside its nulls; see `pair_null_table`."""
    return Schema(
        "One row for each pair of subspaces of one space",
        (
            Column("source", "str", "the earlier subspace: `layers.3.q.read`"),
            Column("target", "str", "the later one"),
            Column("space", "str", "space that both lie in"),
            Column(
                "kind",
                "str",
                "write-read where what the source writes can reach what the target reads, read-read or write-write",
            ),
            Column("lag", "Int64", "difference of their layers; missing where one has no layer"),
            *PROJECTION_OVERLAP.columns,
            *(one.columns[0] for one in PAIR_OBSERVABLES if one is not PROJECTION_OVERLAP),
            Column(
                "basis_independent",
                "bool",
                "whether no change of basis that leaves the network's function unchanged alters the overlap",
            ),
        ),
    )


def pair_table(
    weights: Iterable[Weight],
    spectra: Mapping[str, Spectrum],
    surrogate_leverages: Mapping[str, Tensor] | None = None,
    *,
    folded: bool = False,
) -> pd.DataFrame:
    r"""Measure every pair of subspaces of one space, beside what unrelated weights would give.

    Parameters
    ----------
    weights : iterable of Weight
    spectra : mapping of str to Spectrum
        By name of the weight.
    surrogate_leverages : mapping of str to Tensor, optional
        By name of the subspace (``layers.3.q.read``): mean of `leverages` over norm-matched surrogates of the
        weight, or for a head over its share of those of its projection, shape=[n]; see `closed_nulls` and
        `continuity_nulls`. Where
        a subspace has none, the norm-matched mean is NaN.
    folded : bool, optional
        Whether the norms beside the weights are folded into them.

    Returns
    -------
    table : pandas.DataFrame
        One row for each pair; the columns are those of `pair_schema`. A write-read pair is one in the direction of the
        signal. A projection and a head of the same projection, which it contains, are no pair, and neither are two that
        read through the same latent (multi-head latent attention). The q-value of a pair is
        its false discovery rate among the pairs of its kind.

    Raises
    ------
    ValueError
        If a mean leverage does not have the dimension of its space.

    Notes
    -----
    None of the nulls that keep outlier channels or a common mean needs a draw for each pair: their means are products
    of leverages, see `sign_flip_spread` and `mean_matched_moments`. A mean alone would not do to tell outlier channels
    from alignment, since half of all unrelated pairs lie above it.

    z grows with dimension and rank; compare effect sizes. Pairs share subspaces, so that their p-values depend on
    each other, positively on the whole; Benjamini-Hochberg assumes that.

    References
    ----------
    docs/measurements.md, "Overlap of all pairs"; `proofs`: sign_flip_overlap_mean.
    """

    def of_space(pairs: Pairs) -> dict[str, Any]:
        columns = pairs.measured(PAIR_OBSERVABLES)
        overlaps = columns[PROJECTION_OVERLAP.column]
        return _places(pairs, folded) | columns | pairs.tested(overlaps, surrogate_leverages or {})

    with coordinators() as threads:  # the many small spaces beside the large one
        table = pair_schema().concatenated(list(threads.map(of_space, pairs_by_space(weights, spectra))))
    table[f"{PROJECTION_OVERLAP.column}_q_value"] = q_values(table, PROJECTION_OVERLAP, "kind")
    return table


@dataclass(frozen=True)
class Pairs:
    """All pairs of subspaces of one space that have a meaning.

    Attributes
    ----------
    subspaces : list of Subspace
        In order of depth.
    first, second : ndarray of int, shape=[pairs]
        Places of both subspaces of each pair, the earlier first.
    kinds : array of str, shape=[pairs]
    """

    subspaces: list[Subspace]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    kinds: ExtensionArray

    @cached_property
    def frames(self) -> list[Tensor]:
        """Orthonormal frame of each subspace."""
        return [subspace.frame for subspace in self.subspaces]

    @cached_property
    def names(self) -> ExtensionArray:
        """Name of each subspace."""
        return pd.array([subspace.name for subspace in self.subspaces], dtype="str")

    def only(self, wanted: NDArray[np.bool_]) -> "Pairs":
        """Some of the pairs, of the same subspaces."""
        return Pairs(self.subspaces, self.first[wanted], self.second[wanted], self.kinds[wanted])

    def measured(self, observables: Iterable[Observable[SubspacePair]]) -> dict[str, NDArray[Any]]:
        """Observables of all pairs, by column."""
        # Sides apart, so that whole tiles of a later writing and an earlier reading fall away.
        sides = [subspace.side for subspace in self.subspaces]
        return measured_in_tiles(observables, self.frames, sides, self.first, self.second)

    def tested(self, overlaps: NDArray[np.float64], surrogates: Mapping[str, Tensor]) -> dict[str, Any]:
        """Projection overlaps of all pairs beside their nulls, by column; see `pair_table` for the surrogates."""
        leverage = torch.stack([leverages(frame) for frame in self.frames])
        matched = named_leverages(surrogates, list(self.names), leverage)
        norms = [subspace.channel_norms for subspace in self.subspaces]
        nulls = overlaps_against_nulls(self.frames, norms, (self.first, self.second), overlaps, matched)
        return {"kind": self.kinds} | beside_nulls(PROJECTION_OVERLAP, overlaps, nulls)


def pairs_by_space(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> list[Pairs]:
    """Pairs of the leading subspaces of these weights, space by space; spaces without a pair are left out."""
    members: dict[str, list[Subspace]] = {}
    for subspace in subspaces_of(weights, spectra):
        members.setdefault(subspace.space.name, []).append(subspace)
    groups = [sorted(group, key=lambda subspace: subspace.weight.stage) for group in members.values()]
    found = [Pairs(group, *_meetings(group)) for group in groups]
    return [pairs for pairs in found if len(pairs.first)]


def _places(pairs: Pairs, folded: bool) -> dict[str, Any]:
    """Which subspaces meet, and where."""
    first, second = pairs.first, pairs.second
    independent = np.array([subspace.is_basis_independent(folded=folded) for subspace in pairs.subspaces])
    weights = [subspace.weight for subspace in pairs.subspaces]
    layers = np.array([np.nan if weight.layer is None else weight.layer for weight in weights])
    return {
        "source": pairs.names[first],
        "target": pairs.names[second],
        "space": pairs.subspaces[0].space.name,
        "lag": pd.array(layers[second] - layers[first], dtype="Int64"),
        "basis_independent": independent[first] & independent[second],
    }


def _meetings(group: list[Subspace]) -> tuple[NDArray[np.int64], NDArray[np.int64], ExtensionArray]:
    """Places of both subspaces of every pair that has a meaning, the earlier first, and its kind."""
    first, second = np.triu_indices(len(group), k=1)
    writes = np.array([subspace.side is Side.WRITE for subspace in group])
    stages = np.unique([subspace.weight.stage for subspace in group], axis=0, return_inverse=True)[1].ravel()
    kinds = np.select([writes[first] & writes[second], ~writes[first] & ~writes[second]], [1, 2], 0)
    # A later writing never reaches an earlier reading, nor one of the same stage.
    flows = (kinds > 0) | (writes[first] & (stages[first] < stages[second]))
    tensors = _numbered([subspace.weight.tensor for subspace in group])
    is_head = np.array([subspace.weight.head is not None for subspace in group])
    part_of = (tensors[first] == tensors[second]) & (is_head[first] != is_head[second])
    # What reads through one latent reads inside it, trained or not.
    latents = _numbered([_latent(subspace) or f"none of {place}" for place, subspace in enumerate(group)])
    kept = flows & ~part_of & (latents[first] != latents[second])
    return first[kept], second[kept], pd.array(_KINDS, dtype="str")[kinds[kept]]


def _numbered(texts: list[str]) -> NDArray[np.int64]:
    """A number for each text, equal where they are: of millions of pairs, texts would fill the memory."""
    return np.unique(texts, return_inverse=True)[1]


def _latent(subspace: Subspace) -> str:
    """Tensor of the latent that a subspace reads the stream through; empty without one."""
    after = subspace.weight.after
    return after.tensor if after is not None and subspace.side is Side.READ else ""
