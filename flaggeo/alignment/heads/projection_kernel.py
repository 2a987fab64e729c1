"""How many dimensions two heads share, and what share of the narrower head that is."""

from math import inf

import numpy as np

from ...network import Symmetry
from ..chance.haar import Array, RankedPair, haar_overlap
from ..chance.overlaps import MEAN_MATCHED, NORM_MATCHED, SIGN_FLIP, UNRELATED
from ..observable import Invariance, Null, Observable
from ..pairs.overlap import PROJECTION_OVERLAP
from ..pairs.subspace_pair import SubspacePair


def _haar_kernel(pair: RankedPair) -> tuple[Array, Array]:
    (mean, sd), smaller = haar_overlap(pair), np.minimum(*pair.ranks)
    return smaller * mean, smaller * sd


_INVARIANCE = Invariance(
    Symmetry.ORTHOGONAL,
    "every change of basis inside the heads, exactly, since all that a head reads or writes is compared and not its "
    "leading directions, and one orthogonal map of the stream; not a general linear map",
    "projection_overlap_invariance",
)

PROJECTION_KERNEL = Observable(
    title="projection kernel of two heads",
    table="heads",
    column="kernel",
    pair=SubspacePair,
    measure=lambda pair: pair.products.square().sum(dim=(-2, -1)),
    formula=r"\lVert A^\top B \rVert_F^2 = \sum_i \cos^2 \theta_i",
    range=(0.0, inf),
    aligned=inf,
    invariance=_INVARIANCE,
    null=Null(
        text="independent uniform (Haar) subspaces, exact: mean k m / n",
        law=_haar_kernel,
        statement="haar_overlap_moments",
    ),
    tolerance=1e-5,
    reading="How many dimensions two heads share, up to the width of the narrower one: of two heads of one role, "
    "redundancy; of an output head and a later reading one, a way from the one to the other.",
    misuse="Do not compare it across widths or dimensions without its null, nor where a few outlier channels bring "
    "both heads together: see the excess of the overlap.",
)
HEAD_OVERLAP = Observable(
    title="overlap of two heads",
    table="heads",
    column="overlap",
    pair=SubspacePair,
    measure=PROJECTION_OVERLAP.measure,
    formula=r"\lVert A^\top B \rVert_F^2 / \min(k, m)",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=_INVARIANCE,
    null=UNRELATED,
    further_nulls=(SIGN_FLIP, MEAN_MATCHED, NORM_MATCHED),
    tolerance=1e-5,
    reading="The projection kernel as a share of the narrower head: 1 when the wider head contains it. The excess "
    "counts from the largest null, and the q-value holds against unrelated subspaces, random signs and a common mean.",
    misuse="Do not read effect size, z or p-value alone where a few outlier channels bring both heads together: they "
    "compare with unrelated subspaces only.",
)
