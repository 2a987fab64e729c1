"""Projection overlap of all pairs of subspaces that lie in one space."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from torch import Tensor

from manifolds import overlap_moments, pairwise_overlap

from ..network import Side, Space, Weight
from ..spectrum import Spectrum

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
        subspace is the whole space and the overlap says nothing. ``lag`` is the difference in layers.

    Notes
    -----
    The overlap is unchanged by orthogonal maps of the space, not by general linear ones: see
    `Symmetry.keeps_angles` of the space. z grows with dimension and rank; compare effect sizes.

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
    first, second, kinds = first[flows], second[flows], kinds[flows]

    ranks = np.array([subspace.frame.shape[1] for subspace in group])
    dim = group[0].space.dim
    moments = {(r, s): overlap_moments(dim, r, s) for r in set(ranks.tolist()) for s in set(ranks.tolist())}
    null = np.array([moments[r, s] for r, s in zip(ranks[first].tolist(), ranks[second].tolist(), strict=True)])
    mean, spread = null.reshape(-1, 2).T
    overlap = overlaps[first, second]
    names = np.array([subspace.name for subspace in group])
    layers = np.array([np.nan if subspace.weight.layer is None else subspace.weight.layer for subspace in group])
    with np.errstate(divide="ignore", invalid="ignore"):
        informative = spread > 0
        adjusted = np.where(informative, (overlap - mean) / (1 - mean), np.nan)
        z = np.where(informative, (overlap - mean) / spread, np.nan)
    return pd.DataFrame(
        {
            "source": names[first],
            "target": names[second],
            "space": group[0].space.name,
            "kind": kinds,
            "lag": pd.array(layers[second] - layers[first], dtype="Int64"),
            "overlap": overlap,
            "null_mean": mean,
            "null_sd": spread,
            "adjusted_overlap": adjusted,
            "z": z,
        }
    )
