"""How subspaces of one space lie to each other: one kind of measurement a file, each with its null."""

from typing import Any

from .balance import balanced_representative as balanced_representative
from .balance import neuron_balanced as neuron_balanced
from .best_match import BEST_MATCH as BEST_MATCH
from .best_match import PROJECTION as PROJECTION
from .composable import Composable as Composable
from .composable import interfaces_of as interfaces_of
from .composition import COMPOSITION_SCORE as COMPOSITION_SCORE
from .continuity import ABS_COSINE as ABS_COSINE
from .continuity import ABS_COSINE_2 as ABS_COSINE_2
from .continuity import CONTINUITY_COLUMNS as CONTINUITY_COLUMNS
from .continuity import LEADING_OVERLAP as LEADING_OVERLAP
from .continuity import SIGMA2_WEIGHTED as SIGMA2_WEIGHTED
from .continuity import continuity_table as continuity_table
from .coordinates import constant_component as constant_component
from .coordinates import participation_ratio as participation_ratio
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
from .gram import CENTRED_GRAM_COSINE as CENTRED_GRAM_COSINE
from .gram import GRAM_COSINE as GRAM_COSINE
from .gram import GramCosines as GramCosines
from .gram import gram_cosines as gram_cosines
from .gram import gram_matrix as gram_matrix
from .head_divergence import DIVERGENCE_COLUMNS as DIVERGENCE_COLUMNS
from .head_divergence import head_divergences as head_divergences
from .head_factors import ProjectionHeads as ProjectionHeads
from .head_factors import projection_heads as projection_heads
from .heads import HEAD_COLUMNS as HEAD_COLUMNS
from .heads import head_table as head_table
from .interface import Interface as Interface
from .interface import interface_pair as interface_pair
from .interface_curves import INTERFACE_CURVE_COLUMNS as INTERFACE_CURVE_COLUMNS
from .interface_curves import interface_curve as interface_curve
from .interface_curves import interface_curve_table as interface_curve_table
from .interfaces import INTERFACE_COLUMNS as INTERFACE_COLUMNS
from .interfaces import INTERFACE_OBSERVABLES as INTERFACE_OBSERVABLES
from .interfaces import interface_rows as interface_rows
from .interfaces import interface_table as interface_table
from .intersection import ABOVE_EDGE as ABOVE_EDGE
from .intersection import INTERSECTION_DIMENSION as INTERSECTION_DIMENSION
from .lags import LAG_COLUMNS as LAG_COLUMNS
from .lags import lag_table as lag_table
from .layer_pair import LayerPair as LayerPair
from .layer_pair import layer_chains as layer_chains
from .leading_block import BLOCK_OVERLAP as BLOCK_OVERLAP
from .nulls import NULL_COLUMNS as NULL_COLUMNS
from .nulls import SEEDED_NULLS as SEEDED_NULLS
from .nulls import Nulls as Nulls
from .nulls import Profile as Profile
from .nulls import continuity_nulls as continuity_nulls
from .nulls import norm_profile as norm_profile
from .nulls import null_table as null_table
from .observable import Observable as Observable
from .overlap import PAIR_COLUMNS as PAIR_COLUMNS
from .overlap import PAIR_OBSERVABLES as PAIR_OBSERVABLES
from .overlap import PROJECTION_OVERLAP as PROJECTION_OVERLAP
from .overlap import pair_table as pair_table
from .pair_chance import CHANCE_COLUMNS as CHANCE_COLUMNS
from .pair_chance import chance_table as chance_table
from .path import EXPLAINED_VARIANCE as EXPLAINED_VARIANCE
from .path import PATH_COLUMNS as PATH_COLUMNS
from .path import PATH_VARIANCE_COLUMNS as PATH_VARIANCE_COLUMNS
from .path import path_table as path_table
from .path import path_variance_table as path_variance_table
from .projection_kernel import PROJECTION_KERNEL as PROJECTION_KERNEL
from .rank_one import SIGNED_RANK_ONE as SIGNED_RANK_ONE
from .redundancy import CLUSTER_COLUMNS as CLUSTER_COLUMNS
from .redundancy import head_clusters as head_clusters
from .sign_flips import leverages as leverages
from .subspace import angles_survive as angles_survive
from .subspace_pair import SubspacePair as SubspacePair

#: Everything that is measured of a pair, by table.
OBSERVABLES: tuple[Observable[Any], ...] = (
    ABS_COSINE,
    ABS_COSINE_2,
    SIGMA2_WEIGHTED,
    LEADING_OVERLAP,
    BEST_MATCH,
    PROJECTION,
    BLOCK_OVERLAP,
    SIGNED_RANK_ONE,
    GRAM_COSINE,
    CENTRED_GRAM_COSINE,
    EXPLAINED_VARIANCE,
    *PAIR_OBSERVABLES,
    PROJECTION_KERNEL,
    COMPOSITION_SCORE,
    *INTERFACE_OBSERVABLES,
)
