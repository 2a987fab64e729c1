"""Commutators and cosine of the two Gram matrices at an interface: how far they share an eigenbasis."""

from dataclasses import replace
from math import nan, sqrt

import torch
from torch import Tensor

from ...network import Symmetry
from ..observable import Observable
from .interface import Interface


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.where(denominator > 0, numerator / denominator, nan)


def _chance(dim: int) -> float:
    """Root mean square commutator of traceless matrices of norm 1 in unrelated orientation; 0 in one dimension."""
    return sqrt(2 * dim / ((dim - 1) * (dim + 2))) if dim > 1 else 0.0


def _raw(pair: Interface) -> Tensor:
    return _ratio(pair.commutator_norm, pair.first.gram_norm * pair.second.gram_norm)


def _traceless_share(pair: Interface) -> Tensor:
    grams = pair.first.gram_norm * pair.second.gram_norm
    return _ratio(pair.first.traceless_norm * pair.second.traceless_norm, grams)


def _rho(pair: Interface) -> Tensor:
    return _ratio(pair.commutator_norm, _chance(pair.dim) * pair.first.traceless_norm * pair.second.traceless_norm)


def _raw_null(pair: Interface) -> tuple[Tensor, Tensor]:
    mean = _chance(pair.dim) * _traceless_share(pair)
    return mean, torch.full_like(mean, nan)


def _unit_null(pair: Interface) -> tuple[Tensor, Tensor]:
    traceless = _chance(pair.dim) * pair.first.traceless_norm * pair.second.traceless_norm
    return _ratio(traceless, traceless), torch.full_like(traceless, nan)


def _cosine(pair: Interface) -> Tensor:
    return _ratio(pair.product_values.square().sum(dim=-1), pair.first.gram_norm * pair.second.gram_norm)


def haar_gram_product(pair: Interface) -> tuple[Tensor, Tensor]:
    """Exact mean and spread of the inner product of the two Gram matrices over their relative rotations."""
    mean = pair.first.square_norm * pair.second.square_norm / pair.dim
    # In one dimension there is nothing to rotate, and the traceless norms are 0.
    scale = sqrt(2 / (max(pair.dim - 1, 1) * (pair.dim + 2)))
    return mean, scale * pair.first.traceless_norm * pair.second.traceless_norm


def _cosine_null(pair: Interface) -> tuple[Tensor, Tensor]:
    norms = pair.first.gram_norm * pair.second.gram_norm
    mean, spread = haar_gram_product(pair)
    return _ratio(mean, norms), _ratio(spread, norms)


GRAM_COMMUTATOR = Observable[Interface](
    name="Gram commutator",
    table="interfaces",
    column="gram_commutator",
    measure=_raw,
    formula=r"\lVert [A, B] \rVert / (\lVert A \rVert \lVert B \rVert), \; A = W_1 W_1^\top,\; B = W_2^\top W_2",
    range=(0.0, sqrt(0.5)),
    aligned=0.0,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance="one orthogonal map of the hidden space, the scale of either weight, and orthogonal maps of input and "
    "output; not a scaling of single hidden units",
    invariance_statement="gram_observables_invariance",
    null="root mean square over relative rotations, exact; its spread has no closed form",
    null_moments=_raw_null,
    null_statement="gram_commutator_null",
    reading="0 when the two Gram matrices have a common eigenbasis, in whatever order.",
    misuse="Never alone: random layers of width d have about 1 / sqrt(2 d), so a small value means nothing, and a zero "
    "does not mean that leading directions agree.",
)
RHO = replace(
    GRAM_COMMUTATOR,
    name="Gram commutator over chance (ρ)",
    column="rho",
    measure=_rho,
    formula=r"\lVert [A, B] \rVert \Big/ \sqrt{\tfrac{2d}{(d-1)(d+2)}}\, \lVert A_0 \rVert \lVert B_0 \rVert",
    range=(0.0, float("inf")),
    null="root mean square 1 over relative rotations, exact; its spread has no closed form",
    null_moments=_unit_null,
    reading="1 is what unrelated orientations give, 0 a common eigenbasis. Above 1, low-rank weights share a subspace "
    "and not the basis in it.",
    misuse="Not without the overlap beside it: commuting Gram matrices may order their directions differently.",
)
GRAM_COSINE = replace(
    GRAM_COMMUTATOR,
    name="Gram cosine",
    column="gram_cosine",
    measure=_cosine,
    formula=r"\langle A, B \rangle / (\lVert A \rVert \lVert B \rVert)",
    range=(0.0, 1.0),
    aligned=1.0,
    null="relative rotations, exact mean and spread",
    null_moments=_cosine_null,
    null_statement="gram_imbalance_null",
    reading="1 when the two Gram matrices are proportional: equal directions with equal weight.",
    misuse="Not without its null, which is near 1 for flat spectra whatever the directions.",
)
