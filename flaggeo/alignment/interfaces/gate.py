"""Gate commutator: how much the Gram matrix of a weight couples hidden units that gates switch separately."""

from math import nan

import torch
from torch import Tensor

from ...network import Symmetry
from ..observable import Observable
from .interface import Interface


def _gate_commutator(pair: Interface) -> Tensor:
    share = pair.first.diagonal.square().sum(dim=-1) / pair.first.gram_norm.square()
    return (1 - share).clamp(min=0).sqrt().expand(pair.kept.shape)


def _gaussian(pair: Interface) -> tuple[Tensor, Tensor]:
    mean = pair.first.gram_norm.new_full(pair.kept.shape, ((pair.dim - 1) / (pair.inputs + pair.dim + 1)) ** 0.5)
    return mean, torch.full_like(mean, nan)


GATE_COMMUTATOR = Observable[Interface](
    name="gate commutator",
    table="interfaces",
    column="gate_commutator",
    measure=_gate_commutator,
    formula=r"\sqrt{\sum_{i \ne j} A_{ij}^2 \big/ \sum_{ij} A_{ij}^2}, \; A = W_1 W_1^\top",
    range=(0.0, 1.0),
    aligned=None,
    invariant_under=Symmetry.SIGNED_PERMUTATION,
    invariance="permutations and signs of the hidden units, the scale of the weight and orthogonal maps of its input; "
    "neither rotations of the hidden space nor scalings of single units",
    invariance_statement="unit_norms_invariance",
    null="Gaussian weights: root of (d - 1) / (n + d + 1), a ratio of means; its spread has no closed form",
    null_moments=_gaussian,
    null_statement="gate_commutator_null",
    reading="Times sqrt(2 v) it is the expected commutator of the Gram matrix with gates of variance v: what keeps "
    "ridge from balancing a nonlinear interface. 0 when all hidden units are orthogonal.",
    misuse="Weight-only: it takes the gates of different units as independent. Not a number of the pair, but of its "
    "first weight.",
)
