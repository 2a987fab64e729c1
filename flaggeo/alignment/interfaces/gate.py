"""Gate commutator: how much the Gram matrix of a weight couples hidden units that gates switch separately."""

from torch import Tensor

from ...network import Symmetry
from ..observable import Invariance, Null, Observable
from .interface import Interface


def _gate_commutator(pair: Interface) -> Tensor:
    share = pair.first.diagonal.square().sum(dim=-1) / pair.first.gram_norm.square()
    return (1 - share).clamp(min=0).sqrt().expand(pair.batch)


def _gaussian(pair: Interface) -> tuple[Tensor, None]:
    mean = pair.first.gram_norm.new_full(pair.batch, ((pair.dim - 1) / (pair.inputs + pair.dim + 1)) ** 0.5)
    return mean, None


GATE_COMMUTATOR = Observable(
    title="gate commutator",
    table="interfaces",
    column="gate_commutator",
    pair=Interface,
    measure=_gate_commutator,
    formula=r"\sqrt{\sum_{i \ne j} A_{ij}^2 \big/ \sum_{ij} A_{ij}^2}, \; A = W_1 W_1^\top",
    range=(0.0, 1.0),
    aligned=None,
    invariance=Invariance(
        Symmetry.SIGNED_PERMUTATION,
        "permutations and signs of the hidden units, the scale of the weight and orthogonal maps of its input; "
        "neither rotations of the hidden space nor scalings of single units",
        "unit_norms_invariance",
    ),
    null=Null(
        text="Gaussian weights: root of (d - 1) / (n + d + 1), a ratio of means",
        law=_gaussian,
        statement="gate_commutator_null",
        moment="rms",
        has_sd=False,
    ),
    tolerance=3e-4,
    reading="Multiplied by sqrt(2 v) it is the expected commutator of the Gram matrix with gates of variance v: "
    "what keeps ridge from balancing a nonlinear interface. It is 0 when all hidden units are "
    "orthogonal.",
    misuse="It is made of weights alone and takes the gates of different units as independent. It belongs to "
    "the first weight, not to the pair.",
)
