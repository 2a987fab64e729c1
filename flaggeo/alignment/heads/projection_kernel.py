"""How many dimensions two heads share."""

from math import inf

from torch import Tensor

from manifolds import overlap_moments

from ...network import Symmetry
from ..observable import Observable
from ..pairs.subspace_pair import SubspacePair


def _haar_kernel(pair: SubspacePair) -> tuple[Tensor, Tensor]:
    (n, r), s = pair.first.shape[-2:], pair.second.shape[-1]
    mean, spread = overlap_moments(n, r, s)
    return pair.first.new_tensor(min(r, s) * mean), pair.first.new_tensor(min(r, s) * spread)


PROJECTION_KERNEL = Observable(
    name="projection kernel of heads",
    table="heads",
    column="kernel",
    measure=lambda pair: pair.products.square().sum(dim=(-2, -1)),
    formula=r"\lVert A^\top B \rVert_F^2 = \sum_i \cos^2 \theta_i",
    range=(0.0, inf),
    aligned=inf,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance="every change of basis inside the heads, exactly, and one orthogonal map of the stream; not a general "
    "linear map",
    invariance_statement="projection_overlap_invariance",
    null="independent uniform subspaces, exact mean k m / n and spread; beside it exact mean and spread over random "
    "signs of the coordinates, and the mean of heads cut from random projections with the same row and column norms",
    null_moments=_haar_kernel,
    null_statement="haar_overlap_moments",
    reading="How many dimensions two heads share, up to the width of the narrower one: of two heads of one role, "
    "redundancy; of an output head and a later reading one, a way from the one to the other.",
    misuse="Not across widths or dimensions without its null, and not where a few loud channels bring both heads "
    "together: excess counts from the largest of the nulls, and the q-value holds against uniform subspaces and "
    "random signs both, which p-value, z and adjusted overlap do not.",
    derived=(
        "overlap",
        "sign_flip_mean",
        "sign_flip_sd",
        "sign_flip_p_value",
        "margin_matched_mean",
        "excess",
        "adjusted_overlap",
        "z",
        "p_value",
        "q_value",
    ),
)
