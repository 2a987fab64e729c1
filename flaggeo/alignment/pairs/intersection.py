"""How many dimensions two subspaces share: to the precision of the weights, and beyond what chance gives."""

from math import inf, sqrt

from torch import Tensor

from manifolds import largest_cosine_edge, largest_cosine_p_value

from ...network import Symmetry
from ..observable import Invariance, Null, Observable
from .subspace_pair import SubspacePair

#: Largest sine of a principal angle that counts as zero. An error of eps |W| turns a singular subspace by at most
#: eps |W| / gap (Wedin), and a gap below 1000 eps |W| leaves it undetermined: so 1e-3 is as far as rounding can
#: turn a determined one, whatever the precision that the weights are stored in.
#: Unrelated subspaces of dimensions r + s < n come that close with a probability of the order 1e-3 ** (n - r - s + 1).
INTERSECTION_TOLERANCE = 1e-3


def _intersection_dimension(pair: SubspacePair) -> Tensor:
    return (pair.angles.sin() <= INTERSECTION_TOLERANCE).sum(dim=-1)


def _generic_dimension(pair: SubspacePair) -> tuple[Tensor, Tensor]:
    return pair.first.new_tensor(max(0, sum(pair.ranks) - pair.dim)), pair.first.new_tensor(0.0)


def _above_edge(pair: SubspacePair) -> Tensor:
    return (pair.angles.cos() > largest_cosine_edge(pair.dim, *pair.ranks)).sum(dim=-1)


def _uniform_above_edge(pair: SubspacePair) -> tuple[Tensor, Tensor]:
    """Of whether the largest cosine exceeds the edge; a second one does so far more rarely."""
    edge = largest_cosine_edge(pair.dim, *pair.ranks)
    chance = float(largest_cosine_p_value(edge, pair.dim, *pair.ranks)) if sum(pair.ranks) < pair.dim else 0.0
    return pair.first.new_tensor(chance), pair.first.new_tensor(sqrt(chance * (1 - chance)))


INTERSECTION_DIMENSION = Observable(
    title="intersection dimension",
    table="pairs",
    column="intersection_dimension",
    pair=SubspacePair,
    measure=_intersection_dimension,
    formula=r"\#\{ i : \sin \theta_i \le 10^{-3} \}",
    range=(0.0, inf),
    aligned=inf,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "the choice of frames, and one orthogonal map of the space on both subspaces; also one "
        "invertible map where both are read or both are written. A change of basis of the network moves "
        "what is written and what is read by inverse maps, so that a write-read pair can change",
        "pairs_of_subspaces",
    ),
    null=Null(
        text="subspaces in general position: exactly max(0, r + s - n)",
        law=_generic_dimension,
        statement="orbit_codimension",
    ),
    tolerance=1e-5,
    reading="Dimensions that the two subspaces share to the precision of the weights: those of tied, copied or "
    "low-rank weights. Trained weights rarely share any; see the count above the random edge.",
    misuse="It does not measure alignment in trained weights, where it is nearly always max(0, r + s - n).",
    dtype="int64",
)
ABOVE_EDGE = Observable(
    title="cosines above the random edge",
    table="pairs",
    column="above_edge",
    pair=SubspacePair,
    measure=_above_edge,
    formula=r"\#\{ i : \cos \theta_i > \sqrt{\alpha (1 - \beta)} + \sqrt{\beta (1 - \alpha)} \}, \quad "
    r"\alpha = r / n,\; \beta = s / n",
    range=(0.0, inf),
    aligned=inf,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "the choice of frames, and one orthogonal map of the space on both subspaces; not a general linear map",
        "projection_overlap_invariance",
    ),
    null=Null(
        text="no cosine in the limit of large dimensions; by the Tracy-Widom law about one unrelated pair in "
        "eight has one above the edge, one in twenty for lines",
        law=_uniform_above_edge,
    ),
    tolerance=1e-5,
    reading="How many directions the two subspaces share beyond what unrelated ones do. A single one is no "
    "evidence, two are.",
    misuse="Do not use it where r + s reaches n: the edge is 1 then and no cosine can exceed it. Do not pick "
    "one pair out of many by it: see the q-value.",
    dtype="int64",
)
