"""How subspaces of one space lie to each other: one kind of measurement a file, each with its null."""

from .continuity import ABS_COSINE as ABS_COSINE
from .continuity import ABS_COSINE_2 as ABS_COSINE_2
from .continuity import CONTINUITY_COLUMNS as CONTINUITY_COLUMNS
from .continuity import SIGMA2_WEIGHTED as SIGMA2_WEIGHTED
from .continuity import continuity_table as continuity_table
from .continuity import layer_chains as layer_chains
from .curves import CURVE_COLUMNS as CURVE_COLUMNS
from .curves import overlap_curves as overlap_curves
from .distances import GEODESIC_DISTANCE as GEODESIC_DISTANCE
from .distances import SMALLEST_ANGLE as SMALLEST_ANGLE
from .flags import BASIS_SCORE as BASIS_SCORE
from .flags import FLAG_DISTANCE as FLAG_DISTANCE
from .flags import FLAG_SCORE as FLAG_SCORE
from .flags import flag_geodesic_distance as flag_geodesic_distance
from .flags import soft_bruhat as soft_bruhat
from .flags import soft_bruhat_moments as soft_bruhat_moments
from .intersection import ABOVE_EDGE as ABOVE_EDGE
from .intersection import INTERSECTION_DIMENSION as INTERSECTION_DIMENSION
from .nulls import NULL_COLUMNS as NULL_COLUMNS
from .nulls import SEEDED_NULLS as SEEDED_NULLS
from .nulls import Profile as Profile
from .nulls import norm_profile as norm_profile
from .nulls import null_table as null_table
from .observable import Observable as Observable
from .overlap import PAIR_COLUMNS as PAIR_COLUMNS
from .overlap import PAIR_OBSERVABLES as PAIR_OBSERVABLES
from .overlap import PROJECTION_OVERLAP as PROJECTION_OVERLAP
from .overlap import pair_table as pair_table
from .sign_flips import leverages as leverages
from .subspace_pair import SubspacePair as SubspacePair

OBSERVABLES = (ABS_COSINE, ABS_COSINE_2, SIGMA2_WEIGHTED, *PAIR_OBSERVABLES)
