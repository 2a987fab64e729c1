"""Projection overlap: how much two subspaces share."""

from ...network import Symmetry
from ..chance.overlaps import MEAN_MATCHED, NORM_MATCHED, SIGN_FLIP, UNRELATED
from ..observable import Invariance, Observable
from .subspace_pair import SubspacePair

PROJECTION_OVERLAP = Observable(
    title="projection overlap",
    table="pairs",
    column="overlap",
    pair=SubspacePair,
    measure=lambda pair: (pair.squared_cosines.sum(dim=(-2, -1)) / min(pair.ranks)).clamp(max=1),
    formula=r"\lVert A^\top B \rVert_F^2 / \min(r, s)",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "the choice of frames, and one orthogonal map of the space on both subspaces; not a general linear map",
        "projection_overlap_invariance",
    ),
    null=UNRELATED,
    further_nulls=(SIGN_FLIP, MEAN_MATCHED, NORM_MATCHED),
    tolerance=1e-5,
    reading="Mean squared cosine of the principal angles: 1 when one subspace contains the other. The excess is what "
    "is left of it beyond the largest null.",
    misuse="Do not compare it across ranks or dimensions without its null, which is max(r, s) / n. It is invariant "
    "under reparameterisation only where the space allows rotations at most.",
)
