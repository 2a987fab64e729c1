"""How many dimensions two subspaces share: to the precision of the weights, and beyond what chance gives."""

from math import inf, sqrt

from torch import Tensor

from manifolds import largest_cosine_edge, largest_cosine_p_value

from ...network import Symmetry
from ..observable import Observable
from .subspace_pair import SubspacePair

#: Largest sine of a principal angle that counts as zero. An error of eps |W| turns a singular subspace by at most
#: eps |W| / gap (Wedin), and a gap below 1000 eps |W| leaves it undetermined: so 1e-3 is as far as rounding can
#: turn a determined one, whatever the precision that the weights are stored in (theory/alignment, section 2.6).
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
    name="intersection dimension",
    table="pairs",
    column="intersection_dimension",
    measure=_intersection_dimension,
    formula=r"\#\{ i : \sin \theta_i \le 10^{-3} \}",
    range=(0.0, inf),
    aligned=inf,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance="the choice of frames, and one orthogonal map of the space on both subspaces; also one invertible map "
    "where both are read or both are written. A change of basis of the network moves what is written and what is read "
    "by inverse maps, which a write-read pair does not survive",
    invariance_statement="pairs_of_subspaces",
    null="subspaces in general position: exactly max(0, r + s - n)",
    null_moments=_generic_dimension,
    null_statement="orbit_codimension",
    reading="Dimensions that the two subspaces share to the precision of the weights: those of tied, copied or "
    "low-rank weights. Trained weights rarely share any; see the count above the random edge.",
    misuse="Not as a measure of alignment in trained weights, where it is nearly always max(0, r + s - n).",
)
ABOVE_EDGE = Observable(
    name="cosines above the random edge",
    table="pairs",
    column="above_edge",
    measure=_above_edge,
    formula=r"\#\{ i : \cos \theta_i > \sqrt{\alpha (1 - \beta)} + \sqrt{\beta (1 - \alpha)} \}, \quad "
    r"\alpha = r / n,\; \beta = s / n",
    range=(0.0, inf),
    aligned=inf,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance="the choice of frames, and one orthogonal map of the space on both subspaces; not a general linear map",
    invariance_statement="projection_overlap_invariance",
    null="none in the limit of large dimensions; by the Tracy-Widom law about one unrelated pair in eight has one, "
    "one in twenty for lines",
    null_moments=_uniform_above_edge,
    null_statement=None,
    reading="How many directions the two subspaces share beyond chance. A single one is no evidence, two are.",
    misuse="Not where r + s reaches n: the edge is then 1 and nothing can lie above. Not for one pair picked out of "
    "many by it: see the q-value.",
)
