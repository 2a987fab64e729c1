"""Projection overlap of all pairs of subspaces that lie in one space."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from torch import Tensor

from manifolds import overlap_moments, pairwise_overlap, projection_overlap

from ..network import Side, Space, Symmetry, Weight
from ..spectrum import Spectrum
from .chance import against_chance
from .observable import Observable

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
)


@dataclass(frozen=True)
class SubspacePair:
    """Two subspaces of one space, or two flags: a batch of pairs of orthonormal frames.

    Attributes
    ----------
    first : Tensor, shape=[..., n, r]
    second : Tensor, shape=[..., n, s]
        In order of singular values where the flag matters.
    """

    first: Tensor
    second: Tensor

    @cached_property
    def products(self) -> Tensor:
        """Inner products of all columns, shape=[..., r, s]: all that a rotation of the space leaves alone."""
        return self.first.mT @ self.second


def _haar_overlap(pair: SubspacePair) -> tuple[Tensor, Tensor]:
    mean, spread = overlap_moments(pair.first.shape[-2], pair.first.shape[-1], pair.second.shape[-1])
    return pair.first.new_tensor(mean), pair.first.new_tensor(spread)


PROJECTION_OVERLAP = Observable(
    name="projection overlap",
    table="pairs",
    column="overlap",
    measure=lambda pair: projection_overlap(pair.first, pair.second),
    formula=r"\lVert A^\top B \rVert_F^2 / \min(r, s)",
    range=(0.0, 1.0),
    aligned=1.0,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance="the choice of frames, and one orthogonal map of the space on both subspaces; not a general linear map",
    invariance_statement="projection_overlap_invariance",
    null="independent uniform subspaces, exact mean and spread",
    null_moments=_haar_overlap,
    null_statement="haar_overlap_moments",
    reading="Mean squared cosine of the principal angles: 1 when one subspace contains the other.",
    misuse="Not across ranks or dimensions without its null, which is max(r, s) / n; not as a reparameterisation "
    "invariant, which it is only where the space may be rotated at most.",
    derived=("adjusted_overlap", "z", "p_value"),
)


@dataclass(frozen=True)
class Subspace:
    """One side of a weight at the chosen rank.

    Attributes
    ----------
    weight : Weight
    side : Side
    frame : Tensor, shape=[space.dim, rank]
        Orthonormal.
    """

    weight: Weight
    side: Side
    frame: Tensor

    @property
    def name(self) -> str:
        """Name of the weight and the side, as tables and the graph spell it: ``layers.3.q.read``."""
        return f"{self.weight.name}.{self.side.value}"

    @property
    def space(self) -> Space:
        """Space that the subspace lies in."""
        return self.weight.space(self.side)


def subspaces_of(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> list[Subspace]:
    """Both sides of every weight; a side without a non-zero singular value has no subspace."""
    sides = [Subspace(weight, side, spectra[weight.name].frame(side)) for weight in weights for side in Side]
    return [subspace for subspace in sides if subspace.frame.shape[1]]


def pair_table(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    r"""Overlap of every pair of subspaces of one space, beside what chance would give.

    Parameters
    ----------
    weights : iterable of Weight
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        One row a pair; the columns are `PAIR_COLUMNS`. ``kind`` is write-read (what the source writes
        reaches the target's reading: only pairs in the direction of the signal), read-read or
        write-write. ``adjusted_overlap`` is the effect size :math:`(\omega - E) / (1 - E)`, ``z`` is
        :math:`(\omega - E) / \mathrm{sd}`, with the exact Haar mean E and spread sd; both are NaN where a
        subspace is the whole space and the overlap says nothing. ``p_value`` is the chance that unrelated
        subspaces overlap at least as much. ``lag`` is the difference in layers. A projection and a head
        of the same projection, which it contains, are no pair.

    Notes
    -----
    The overlap is unchanged by orthogonal maps of the space, not by general linear ones: see
    `Observable.survives`. z grows with dimension and rank; compare effect sizes.

    References
    ----------
    theory/continuity, section 2.2; theory/alignment, section 2.5.
    """
    members: dict[str, list[Subspace]] = {}
    for subspace in subspaces_of(weights, spectra):
        members.setdefault(subspace.space.name, []).append(subspace)
    tables = [_pairs_in_one_space(group) for group in members.values() if len(group) > 1]
    if not tables:
        numbers = dict.fromkeys(PAIR_COLUMNS[5:], "float64")
        return pd.DataFrame(columns=list(PAIR_COLUMNS)).astype({"lag": "Int64"} | numbers)
    return pd.concat(tables, ignore_index=True)


def _pairs_in_one_space(group: list[Subspace]) -> pd.DataFrame:
    group = sorted(group, key=lambda subspace: subspace.weight.stage)
    overlaps = pairwise_overlap([subspace.frame for subspace in group]).cpu().numpy().clip(0, 1)
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
    first, second, kinds = first[kept], second[kept], kinds[kept]

    overlap = overlaps[first, second]
    ranks = np.array([subspace.frame.shape[1] for subspace in group])
    names = np.array([subspace.name for subspace in group])
    layers = np.array([np.nan if subspace.weight.layer is None else subspace.weight.layer for subspace in group])
    return pd.DataFrame(
        {
            "source": names[first],
            "target": names[second],
            "space": group[0].space.name,
            "kind": kinds,
            "lag": pd.array(layers[second] - layers[first], dtype="Int64"),
            "overlap": overlap,
        }
        | against_chance(overlap, group[0].space.dim, ranks[first], ranks[second])
    )
