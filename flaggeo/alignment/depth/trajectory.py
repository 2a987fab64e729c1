"""The trajectory of the first direction of a role through depth, along its principal components."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ...network import Side, Symmetry, Weight
from ...numerics.spectrum import Spectrum
from ...numerics.threads import cached_property
from ..observable import Invariance, Null, Observable
from ..schema import Column, Schema
from ..table import measured
from .layer_pair import COMMON_SPACE, ROLE, SIDE, even_sides, is_shared, space_name

_COMPONENTS = 3
_NULL_DRAWS = 400


@dataclass(frozen=True)
class Trajectory:
    """First directions of one role in order of depth.

    Attributes
    ----------
    directions : Tensor, shape=[L, n]
        Unit vectors of arbitrary signs, at least 3.
    """

    directions: Tensor

    @cached_property
    def components(self) -> tuple[Tensor, Tensor]:
        """Variances along the principal components, shape=[L], descending, and the positions, shape=[L, L].

        The sign of a component is such that the position farthest from the mean is positive.
        """
        variances, vectors = torch.linalg.eigh(_centred_gram(self.directions @ self.directions.mT))
        variances, vectors = variances.flip(-1).clamp(min=0), vectors.flip(-1)
        signs = vectors.gather(0, vectors.abs().argmax(dim=0, keepdim=True)).sign()
        return variances, vectors * signs * variances.sqrt()

    @property
    def explained(self) -> Tensor:
        """Shares of the variance along the first three components, shape=[3].

        NaN for a component that does not exist, since L points span L - 1 dimensions, and where the direction
        does not move at all.
        """
        variances = self.components[0]
        count, total = len(variances), variances.sum()
        shares = variances.new_full((_COMPONENTS,), torch.nan)
        if total > 10 * count * torch.finfo(variances.dtype).eps:
            present = min(_COMPONENTS, count - 1)
            shares[:present] = variances[:present] / total
        return shares


def _centred_gram(gram: Tensor) -> Tensor:
    """Inner products once each direction has the sign of the one before and their mean is the origin.

    Parameters
    ----------
    gram : Tensor, shape=[..., L, L]
        Inner products of the directions.
    """
    turns = torch.where(gram.diagonal(offset=1, dim1=-2, dim2=-1) < 0, -1.0, 1.0).to(gram)
    signs = torch.cat([torch.ones_like(turns[..., :1]), turns.cumprod(dim=-1)], dim=-1)
    aligned = signs[..., :, None] * gram * signs[..., None, :]
    rows = aligned - aligned.mean(dim=-1, keepdim=True)
    return rows - rows.mean(dim=-2, keepdim=True)


@cache
def explained_variance_moments(n: int, layers: int) -> tuple[float, float]:
    """Mean and standard deviation of the variance explained by three components, for unrelated directions.

    Parameters
    ----------
    n : int
        Dimension of the space.
    layers : int
        Number of directions.

    Returns
    -------
    mean, standard_deviation : float
        From 400 seeded draws of independent uniform directions, aligned in sign like the real ones: the mean is
        good to 1e-3. It falls to ``3 / (layers - 1)`` only for n very far above the number of layers: 30
        directions give .143 in 576 dimensions and .127 in 1536, against a limit of .103.

    References
    ----------
    docs/measurements.md, "Continuity across layers".
    """
    generator = np.random.default_rng(0)
    # Bartlett: the Gram of normal vectors is that of a triangle, whatever n; lengths are then divided out.
    width = min(layers, n)
    triangle = np.tril(generator.standard_normal((_NULL_DRAWS, layers, width)), k=-1)
    diagonal = np.arange(width)
    triangle[:, diagonal, diagonal] = np.sqrt(generator.chisquare(n - diagonal, (_NULL_DRAWS, width)))
    units = torch.from_numpy(triangle / np.linalg.norm(triangle, axis=-1, keepdims=True))
    variances = torch.linalg.eigvalsh(_centred_gram(units @ units.mT))
    explained = variances[:, -_COMPONENTS:].sum(dim=-1) / variances.sum(dim=-1)
    return float(explained.mean()), float(explained.std())


def _explained_by_three(path: Trajectory) -> Tensor:
    """NaN for 4 points, or in a space of 3 dimensions, where three components hold everything, whatever the points."""
    layers, n = path.directions.shape
    return path.explained.sum() if min(layers - 1, n) > _COMPONENTS else path.explained.new_tensor(torch.nan)


def _component(number: int, path: Trajectory) -> Tensor:
    return path.explained[number]


def _null(path: Trajectory) -> tuple[Tensor, Tensor]:
    layers, n = path.directions.shape
    mean, spread = path.directions.new_tensor(explained_variance_moments(n, layers)).unbind()
    return mean, spread


EXPLAINED_VARIANCE = Observable(
    title="share of a trajectory in three dimensions",
    table="trajectory_variance",
    column="evr",
    pair=Trajectory,
    measure=_explained_by_three,
    formula=r"\sum_{i \le 3} s_i^2 / \sum_j s_j^2",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "signs of the vectors, and one orthogonal map of the space on all layers; not a general linear map",
        "path_invariance",
    ),
    null=Null(
        text="unrelated directions, aligned in sign like the measured ones, by seeded draws; 3 / (L - 1) for "
        "dimensions far above the number L of layers",
        law=_null,
        statement="explained_variance_null",
    ),
    tolerance=1e-5,
    reading="Whether the first direction moves through depth along a curve of few dimensions: 1 if three suffice.",
    misuse="Do not use it for few layers: three components hold most of any trajectory of 5 or 6 layers, and all of "
    "one of 4. Do not use it where neighbouring directions are unrelated, since their signs are random then.",
    companions=tuple(
        (
            Column(f"evr_{number + 1}", "float64", f"explained variance ratio of component {number + 1}"),
            partial(_component, number),
        )
        for number in range(_COMPONENTS)
    ),
)

TRAJECTORY_OBSERVABLES: tuple[Observable[Trajectory], ...] = (EXPLAINED_VARIANCE,)

TRAJECTORY_SCHEMA = Schema(
    "One row for each role, side and layer: where its first singular vector lies",
    (
        ROLE,
        SIDE,
        Column("layer", "int64", "layer"),
        *(
            Column(f"pc{number + 1}", "float64", f"position along principal component {number + 1} of the trajectory")
            for number in range(_COMPONENTS)
        ),
    ),
)


def trajectory_variance_schema() -> Schema:
    """Columns of `trajectory_variance_table`."""
    return Schema(
        "One row for each role and side: how much of the trajectory lies in three dimensions",
        (
            ROLE,
            SIDE,
            Column("layers", "int64", "number of layers"),
            *COMMON_SPACE,
            *(column for observable in TRAJECTORY_OBSERVABLES for column in observable.columns),
        ),
    )


def trajectory_table(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    """Position of the first direction of every role and side along its first three principal components.

    Parameters
    ----------
    weights : iterable of Weight
        Heads, single experts and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        The columns are those of `TRAJECTORY_SCHEMA`. Zero weights are left out, as are trajectories of fewer than 3
        layers and sides whose width changes with depth or is 1. Dimensionless: the directions are unit vectors. NaN for
        a component that does not exist, or of a trajectory that does not move.

    References
    ----------
    arXiv:2605.04971, equation 6.
    """
    parts = []
    for side, members, path in _trajectories(weights, spectra):
        positions = path.components[1][:, :_COMPONENTS].cpu()
        found = torch.where(path.explained.cpu().isnan(), torch.nan, positions).numpy()
        place = {"role": members[0].role, "side": side.value, "layer": [weight.layer for weight in members]}
        components = {f"pc{number + 1}": found[:, number] for number in range(_COMPONENTS)}
        parts.append(place | components)
    return TRAJECTORY_SCHEMA.concatenated(parts)


def trajectory_variance_table(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    """How much of the trajectory of the first direction of every role and side lies in three dimensions.

    Parameters
    ----------
    weights : iterable of Weight
        Heads, single experts and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        One row for each role and side, left out as in `trajectory_table`; the columns are those of
        `trajectory_variance_schema`. ``evr`` is NaN for 4 layers or 3 dimensions or fewer, where three components hold
        everything.

    References
    ----------
    arXiv:2605.04971, equation 6.
    """
    rows = []
    for side, members, path in _trajectories(weights, spectra):
        columns = measured(TRAJECTORY_OBSERVABLES, path)
        place = {"role": members[0].role, "side": side.value, "layers": len(members)}
        shared = {"space": space_name(members, side), "shared_space": is_shared(members, side)}
        rows.append(place | shared | columns)
    return trajectory_variance_schema().frame(rows)


def _trajectories(
    weights: Iterable[Weight], spectra: Mapping[str, Spectrum]
) -> Iterator[tuple[Side, list[Weight], Trajectory]]:
    """Every side whose width is the same at all depths, with the weights that have a direction there."""
    for side, chain in even_sides(weights):
        members = [weight for weight in chain if spectra[weight.name].frame(side).shape[1]]
        if len(members) > 2:
            yield side, members, Trajectory(torch.stack([spectra[one.name].frame(side)[:, 0] for one in members]))
