"""Commutators and cosine of the two Gram matrices at an interface: how far they share an eigenbasis."""

from math import nan, sqrt

import torch
from torch import Tensor

from ...network import Symmetry
from ..observable import Invariance, Null, Observable
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


def _raw_null(pair: Interface) -> tuple[Tensor, None]:
    return _chance(pair.dim) * _traceless_share(pair), None


def _unit_null(pair: Interface) -> tuple[Tensor, None]:
    traceless = _chance(pair.dim) * pair.first.traceless_norm * pair.second.traceless_norm
    return _ratio(traceless, traceless), None


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


GRAM_COMMUTATOR = Observable(
    title="Gram commutator",
    table="interfaces",
    column="gram_commutator",
    pair=Interface,
    measure=_raw,
    formula=r"\lVert [A, B] \rVert / (\lVert A \rVert \lVert B \rVert), \; A = W_1 W_1^\top,\; B = W_2^\top W_2",
    range=(0.0, sqrt(0.5)),
    aligned=0.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "one orthogonal map of the hidden space, the scale of either weight, and orthogonal maps of input and "
        "output; not a scaling of single hidden units",
        "gram_observables_invariance",
    ),
    null=Null(
        text="relative rotations, exact",
        law=_raw_null,
        statement="gram_commutator_null",
        moment="rms",
        has_sd=False,
    ),
    tolerance=3e-4,
    reading="0 when the two Gram matrices have a common eigenbasis, in whatever order.",
    misuse="Do not read it alone: random layers of width d have about 1 / sqrt(2 d), so that a small value "
    "means nothing, and a zero does not mean that leading directions agree.",
)
RHO = Observable(
    title="Gram commutator over chance (ρ)",
    table="interfaces",
    column="rho",
    pair=Interface,
    measure=_rho,
    formula=r"\lVert [A, B] \rVert \Big/ \sqrt{\tfrac{2d}{(d-1)(d+2)}}\, \lVert A_0 \rVert \lVert B_0 \rVert",
    range=(0.0, float("inf")),
    aligned=0.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "one orthogonal map of the hidden space, the scale of either weight, and orthogonal maps of input and "
        "output; not a scaling of single hidden units",
        "gram_observables_invariance",
    ),
    null=Null(
        text="relative rotations, exact: 1",
        law=_unit_null,
        statement="gram_commutator_null",
        moment="rms",
        has_sd=False,
    ),
    tolerance=3e-4,
    reading="1 is what unrelated orientations give, 0 a common eigenbasis. Above 1, low-rank weights share a subspace "
    "and not the basis in it.",
    misuse="Do not read it without the overlap: commuting Gram matrices may order their directions differently.",
)
GRAM_COSINE = Observable(
    title="Gram cosine",
    table="interfaces",
    column="gram_cosine",
    pair=Interface,
    measure=_cosine,
    formula=r"\langle A, B \rangle / (\lVert A \rVert \lVert B \rVert)",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "one orthogonal map of the hidden space, the scale of either weight, and orthogonal maps of input and "
        "output; not a scaling of single hidden units",
        "gram_observables_invariance",
    ),
    null=Null(text="relative rotations, exact", law=_cosine_null, statement="gram_imbalance_null"),
    tolerance=1e-5,
    reading="1 when the two Gram matrices are proportional: equal directions with equal weight.",
    misuse="Do not read it without its null, which is near 1 for flat spectra whatever the directions.",
)
