"""Redundancy and composition of attention heads: the subspaces of all heads beside each other."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.stats import false_discovery_control
from torch import Tensor

from manifolds import pairwise_gram_inner_product

from ...network.roles import HEAD_PAIRS, HEAD_PARTNERS, head_pair_name
from ..chance.haar import against_chance
from ..chance.sign_flip import leverages, named_leverages, sign_flip_p_value, sign_flip_spread
from .composition import composed_factors, composition_null, traceless_norms
from .factors import ProjectionHeads

HEAD_COLUMNS = (
    "source",
    "target",
    "kind",
    "source_layer",
    "source_head",
    "target_layer",
    "target_head",
    "lag",
    "source_rank",
    "target_rank",
    "kernel",
    "overlap",
    "null_mean",
    "null_sd",
    "sign_flip_mean",
    "sign_flip_sd",
    "sign_flip_p_value",
    "margin_matched_mean",
    "excess",
    "adjusted_overlap",
    "z",
    "p_value",
    "q_value",
    "composition_score",
    "composition_null_rms",
    "composition_z",
)
_COMPOSITION_COLUMNS = HEAD_COLUMNS[-3:]
#: Same role: redundancy. Output of an earlier layer to query, key or value of a later one: composition.
HEAD_KINDS = tuple(head_pair_name(*pair) for pair in HEAD_PAIRS)
# Share of the smaller rank below which a difference of kernels is rounding: float32 moves them by less.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class _RoleHeads:
    """All heads of one role, in order of depth.

    Attributes
    ----------
    names : ndarray of str, shape=[heads]
    layers, numbers, ranks : ndarray of int, shape=[heads]
    frames : list of Tensor, shape=[n, k]
    leverages, matched_leverages : Tensor, shape=[heads, n]
        How much of a subspace lives on each coordinate, and how much of its margin-matched surrogates on average.
    factors : list of Tensor, shape=[n, k]
        Through both projections of each head; NaN where the network's part that was taken lacks the other.
    factor_norms : Tensor, shape=[heads]
        `traceless_norms` of them.
    """

    names: NDArray[np.object_]
    layers: NDArray[np.int64]
    numbers: NDArray[np.int64]
    ranks: NDArray[np.int64]
    frames: list[Tensor]
    leverages: Tensor
    matched_leverages: Tensor
    factors: list[Tensor]
    factor_norms: Tensor


def head_table(
    heads: Iterable[ProjectionHeads], surrogate_leverages: Mapping[str, Tensor] | None = None
) -> pd.DataFrame:
    r"""Projection kernels of all pairs of heads, and composition scores, beside what chance would give.

    .. math::
        \mathrm{PK} = \lVert A^\top B \rVert_F^2 = \sum_i \cos^2 \theta_i, \qquad
        \mathrm{CS} = \frac{\lVert R\, W_O W_V \rVert_F}{\lVert R \rVert_F \lVert W_O W_V \rVert_F}

    Parameters
    ----------
    heads : iterable of ProjectionHeads
        From `projection_heads`, of one network, dtype and device.
    surrogate_leverages : mapping of str to Tensor, optional
        By name of the subspace (``layers.3.q.heads.0.read``), shape=[n]: mean `leverages` of what the head is in
        margin-matched surrogates of its projection, see `continuity_nulls`. Where a head has none,
        ``margin_matched_mean`` is NaN.

    Returns
    -------
    table : pandas.DataFrame
        One row a pair; the columns are `HEAD_COLUMNS`. ``kind`` QQ, KK, VV and OO take all pairs of heads of one
        role, within and across layers; OQ, OK and OV an output head and a reading head of a later layer.
        ``source_rank`` and ``target_rank`` are the dimensions k and m of the subspaces,
        ``kernel`` is PK and ``overlap`` its share of the largest value min(k, m); ``null_mean`` and ``null_sd``
        are those of PK for unrelated subspaces, ``sign_flip_mean`` and ``sign_flip_sd`` when the coordinates of one
        head get random signs, both exact (see `sign_flip_spread`), and ``margin_matched_mean`` is its mean when
        both heads are cut from random projections with the row and column norms of theirs.
        ``adjusted_overlap`` is the effect size over null_mean, ``excess`` over the largest of the three means.
        ``p_value`` is the chance of unrelated subspaces to share as much, ``sign_flip_p_value`` about that of
        random signs; ``q_value`` is the rate of false discoveries among the pairs of its kind whose larger p-value
        is as small (Benjamini-Hochberg).
        ``composition_score`` is CS, NaN for pairs of one role; unrelated heads give ``composition_null_rms`` as
        root mean square, and ``composition_z`` counts CS^2 in its exact standard deviations.
        All numbers are dimensionless; NaN for a head that is zero, and for effect sizes where chance
        leaves no room above it: a subspace that is the whole stream, or two that are the same coordinates.

    Raises
    ------
    ValueError
        If the heads do not face one stream, or differ in dtype or device, or a mean leverage has another dimension.

    Notes
    -----
    With grouped queries there are fewer key and value heads, each with its own rows; for the composition score of
    such a pair see `composed_factors`. The 139 thousand pairs of SmolLM2 take about 8 seconds of one core in
    float32, which moves PK by less than 1e-5 of its largest value.

    A projection and its surrogates have the same norms, so that what its heads share by loud channels is in the
    null. The surrogates of two heads of one projection are not quite independent: ``margin_matched_mean`` is then too
    large, by 0.2 % for 9 heads of 64 dimensions in 576 and 0.6 % for 3, see `continuity_nulls`.

    The p-values of pairs that share heads are not all independent; Benjamini-Hochberg holds where they depend
    positively on each other.

    References
    ----------
    arXiv:2601.10266; Elhage et al. 2021; theory/alignment, sections 6.0, 6.1 and 6.5; theory/continuity, section
    2.3; `proofs`: sign_flip_overlap_mean.
    """
    projections = {(one.layer, one.role): one for one in heads}
    _require_one_stream(projections.values())
    surrogates = surrogate_leverages or {}
    roles = {role: _collect(projections, role, surrogates) for role in sorted({role for _, role in projections})}
    spreads = _sign_flip_spreads(roles)
    tables = [
        _pairs(head_pair_name(first, second), roles[first], roles[second], spreads[first, second])
        for first, second in HEAD_PAIRS
        if {first, second} <= roles.keys()
    ]
    tables = [table for table in tables if len(table)]
    if not tables:
        return pd.DataFrame(columns=list(HEAD_COLUMNS)).astype(
            dict.fromkeys(HEAD_COLUMNS[3:10], "int64") | dict.fromkeys(HEAD_COLUMNS[10:], "float64")
        )
    return pd.concat(tables, ignore_index=True)[list(HEAD_COLUMNS)]


def _require_one_stream(heads: Iterable[ProjectionHeads]) -> None:
    found = {(one.frames.shape[1], one.frames.dtype, one.frames.device) for one in heads}
    if len(found) > 1:
        kinds = "; ".join(sorted(f"dimension {dim}, {dtype} on {device}" for dim, dtype, device in found))
        raise ValueError(f"head_table compares heads of one stream, dtype and device; got {kinds}.")


def _sign_flip_spreads(roles: Mapping[str, _RoleHeads]) -> dict[tuple[str, str], Tensor]:
    """Spreads of the kernels of all heads of two roles, by both: found together, which is cheaper."""
    if not roles:
        return {}
    counts = [len(role.frames) for role in roles.values()]
    spread = sign_flip_spread([frame for role in roles.values() for frame in role.frames])
    return {
        (first, second): block
        for first, rows in zip(roles, spread.split(counts), strict=True)
        for second, block in zip(roles, rows.split(counts, dim=1), strict=True)
    }


def _collect(
    projections: dict[tuple[int, str], ProjectionHeads], role: str, surrogates: Mapping[str, Tensor]
) -> _RoleHeads:
    chosen = [projections[key] for key in sorted(projections) if key[1] == role]
    factors = []
    for near in chosen:
        far = projections.get((near.layer, HEAD_PARTNERS[role]))
        factors.append(torch.full_like(near.frames, torch.nan) if far is None else composed_factors(near, far))
    names = [name for one in chosen for name in one.names]
    measured = torch.cat([leverages(one.frames) for one in chosen])
    return _RoleHeads(
        names=np.array(names, dtype=object),
        layers=np.array([one.layer for one in chosen for _ in one.names]),
        numbers=np.array([head for one in chosen for head in range(len(one.frames))]),
        ranks=torch.cat([one.ranks for one in chosen]).cpu().numpy(),
        frames=[frame for one in chosen for frame in one.frames],
        leverages=measured,
        matched_leverages=named_leverages(surrogates, names, measured),
        factors=[factor for of_layer in factors for factor in of_layer],
        factor_norms=torch.cat([traceless_norms(of_layer) for of_layer in factors]),
    )


def _pairs(kind: str, sources: _RoleHeads, targets: _RoleHeads, spreads: Tensor) -> pd.DataFrame:
    """Rows of one kind, in order of source and target; `spreads` are those over random signs."""
    same_role = sources is targets
    if same_role:
        first, second = np.triu_indices(len(sources.names), k=1)
    else:
        first, second = np.nonzero(sources.layers[:, None] < targets.layers)
    if len(first) == 0:
        return pd.DataFrame()

    def of_pairs(matrix: Tensor) -> NDArray[np.float64]:
        return matrix.cpu().numpy()[first, second].astype(np.float64)

    dim = sources.leverages.shape[1]
    ranks = sources.ranks[first], targets.ranks[second]
    largest = np.where(np.minimum(*ranks) > 0, np.minimum(*ranks), np.nan)
    kernels = pairwise_gram_inner_product(sources.frames, None if same_role else targets.frames)
    kernel = of_pairs(kernels).clip(0, largest)
    columns = against_chance(kernel / largest, dim, *ranks)
    columns["null_mean"] *= largest
    columns["null_sd"] *= largest
    defined = ~np.isnan(largest)
    sign_flip_mean, sign_flip_sd, margin_matched_mean = (
        np.where(defined, of_pairs(moment), np.nan)
        for moment in (
            sources.leverages @ targets.leverages.mT,
            spreads,
            sources.matched_leverages @ targets.matched_leverages.mT,
        )
    )
    # A spread of no more than rounding is none, and what remains of the kernel over its mean is rounding too.
    spread = np.where(sign_flip_sd > _ROUNDING * largest, sign_flip_sd, 0)
    sign_flip_p = np.where(
        defined, sign_flip_p_value(kernel / largest, sign_flip_mean / largest, spread / largest), np.nan
    )
    q_value = np.full_like(kernel, np.nan)
    # Beyond chance means beyond both kinds of it.
    q_value[defined] = false_discovery_control(np.maximum(columns["p_value"], sign_flip_p)[defined])
    largest_null = np.fmax(np.fmax(columns["null_mean"], sign_flip_mean), margin_matched_mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Where chance leaves nothing above it but the rounding of the frames, there is no effect to size.
        has_room = largest_null < (1 - _ROUNDING) * largest
        excess = np.where(has_room, (kernel - largest_null) / (largest - largest_null), np.nan)
    return pd.DataFrame(
        {
            "source": sources.names[first],
            "target": targets.names[second],
            "kind": kind,
            "source_layer": sources.layers[first],
            "source_head": sources.numbers[first],
            "target_layer": targets.layers[second],
            "target_head": targets.numbers[second],
            "lag": targets.layers[second] - sources.layers[first],
            "source_rank": ranks[0],
            "target_rank": ranks[1],
            "kernel": kernel,
            "overlap": kernel / largest,
            "sign_flip_mean": sign_flip_mean,
            "sign_flip_sd": sign_flip_sd,
            "sign_flip_p_value": sign_flip_p,
            "margin_matched_mean": margin_matched_mean,
            "excess": excess,
            "q_value": q_value,
        }
        | columns
        | dict(zip(_COMPOSITION_COLUMNS, _compositions(sources, targets, of_pairs), strict=True))
    )


def _compositions(
    sources: _RoleHeads, targets: _RoleHeads, of_pairs: Callable[[Tensor], NDArray[np.float64]]
) -> tuple[NDArray[np.float64] | float, ...]:
    """Composition scores, their root mean square for unrelated heads, and z of their squares."""
    if sources is targets:
        return np.nan, np.nan, np.nan
    squares = of_pairs(pairwise_gram_inner_product(sources.factors, targets.factors)).clip(0, 1)
    mean, spreads = composition_null(sources.leverages.shape[1], sources.factor_norms, targets.factor_norms)
    spread = of_pairs(spreads)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(spread > 0, (squares - mean) / spread, np.nan)
    return np.sqrt(squares), mean**0.5, z
