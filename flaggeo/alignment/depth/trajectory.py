"""The path that the first direction of a role takes through depth, seen along its principal components."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ...network import Side, Symmetry, Weight
from ...numerics.spectrum import Spectrum
from ..observable import Observable
from .layer_pair import even_sides, is_shared, space_name

PATH_COLUMNS = ("role", "side", "layer", "pc1", "pc2", "pc3")
PATH_VARIANCE_COLUMNS = (
    "role",
    "side",
    "layers",
    "evr_1",
    "evr_2",
    "evr_3",
    "evr",
    "evr_null_mean",
    "evr_null_sd",
    "space",
    "shared_space",
)

_COMPONENTS = 3
_NULL_DRAWS = 400


@dataclass(frozen=True)
class Path:
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
    theory/continuity, section 1, for the limit.
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


def _null(path: Path) -> tuple[Tensor, Tensor]:
    layers, n = path.directions.shape
    mean, spread = path.directions.new_tensor(explained_variance_moments(n, layers)).unbind()
    return mean, spread


EXPLAINED_VARIANCE = Observable(
    name="variance of the path in three dimensions",
    table="path_variance",
    column="evr",
    measure=lambda path: path.explained.sum(),
    formula=r"\sum_{i \le 3} s_i^2 / \sum_j s_j^2",
    range=(0.0, 1.0),
    aligned=1.0,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance="signs of the vectors, and one orthogonal map of the space on all layers; not a general linear map",
    invariance_statement="path_invariance",
    null="unrelated directions, aligned in sign like the real ones, by seeded draws; 3 / (L - 1) for dimensions far "
    "above the number L of layers",
    null_moments=_null,
    null_statement="explained_variance_null",
    reading="Whether the first direction moves through depth along a curve of few dimensions: 1 if three suffice.",
    misuse="Not for few layers: three components hold most of any path of 5 or 6 layers, and all of one of 4. Not "
    "where neighbouring directions are unrelated, since their signs are then a matter of chance.",
    derived=("evr_1", "evr_2", "evr_3"),
)


def path_table(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    """Position of the first direction of every role and side along its first three principal components.

    Parameters
    ----------
    weights : iterable of Weight
        Heads and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        One row a role, side and layer; the columns are `PATH_COLUMNS`. Zero weights are left out, as are paths
        of fewer than 3 layers and sides whose width changes with depth or is 1. Dimensionless: the directions
        are unit vectors. NaN for a component that does not exist, or of a path that does not move.

    See Also
    --------
    path_variance_table : How much of the path the components hold.

    References
    ----------
    arXiv:2605.04971, equation 6; theory/continuity, section 1.
    """
    tables = []
    for side, members, path in _paths(weights, spectra):
        positions = path.components[1][:, :_COMPONENTS].cpu()
        found = torch.where(path.explained.cpu().isnan(), torch.nan, positions).numpy()
        table = pd.DataFrame(found, columns=list(PATH_COLUMNS[3:]))
        table["role"], table["side"] = members[0].role, side.value
        table["layer"] = [weight.layer for weight in members]
        tables.append(table)
    if not tables:
        numbers = dict.fromkeys(PATH_COLUMNS[3:], "float64")
        return pd.DataFrame(columns=list(PATH_COLUMNS)).astype({"layer": "int64"} | numbers)
    return pd.concat(tables, ignore_index=True)[list(PATH_COLUMNS)]


def path_variance_table(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> pd.DataFrame:
    """How much of the path of the first direction of every role and side lies in three dimensions.

    Parameters
    ----------
    weights : iterable of Weight
        Heads and tables without a layer are passed over.
    spectra : mapping of str to Spectrum
        By name of the weight.

    Returns
    -------
    table : pandas.DataFrame
        One row a role and side, left out as in `path_table`; the columns are `PATH_VARIANCE_COLUMNS`. ``evr_1``
        to ``evr_3`` are explained variance ratios and ``evr`` is their sum, which is NaN for 4 layers or 3
        dimensions or fewer, where three components hold everything; its null is that of
        `explained_variance_moments`.

    References
    ----------
    arXiv:2605.04971, equation 6; theory/continuity, sections 1 and 7.7.
    """
    rows = []
    for side, members, path in _paths(weights, spectra):
        ratios = path.explained
        mean, spread = explained_variance_moments(path.directions.shape[1], len(members))
        # Three components of 4 points, or of a space of 3 dimensions, hold everything, whatever the points.
        trivial = min(len(members) - 1, path.directions.shape[1]) <= _COMPONENTS
        evr = float("nan") if trivial else float(ratios.sum())
        identity = (members[0].role, side.value, len(members))
        rows.append(
            (*identity, *ratios.tolist(), evr, mean, spread, space_name(members, side), is_shared(members, side))
        )
    table = pd.DataFrame(rows, columns=list(PATH_VARIANCE_COLUMNS))
    numbers = dict.fromkeys(PATH_VARIANCE_COLUMNS[3:9], "float64")
    return table.astype({"layers": "int64", "shared_space": "bool"} | numbers)


def _paths(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> Iterator[tuple[Side, list[Weight], Path]]:
    """Every side whose width is the same at all depths, with the weights that have a direction there."""
    for side, chain in even_sides(weights):
        members = [weight for weight in chain if spectra[weight.name].frame(side).shape[1]]
        if len(members) > 2:
            yield side, members, Path(torch.stack([spectra[weight.name].frame(side)[:, 0] for weight in members]))
