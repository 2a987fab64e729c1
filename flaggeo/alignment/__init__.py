"""How subspaces of one space lie to each other: one kind of measurement a file, each with its null."""

from typing import Any

from .chance.norm_matched import Profile as Profile
from .chance.norm_matched import norm_profile as norm_profile
from .chance.sign_flip import leverages as leverages
from .depth.best_match import BEST_MATCH as BEST_MATCH
from .depth.best_match import PROJECTION as PROJECTION
from .depth.by_lag import LAG_COLUMNS as LAG_COLUMNS
from .depth.by_lag import lag_table as lag_table
from .depth.by_rank import CURVE_COLUMNS as CURVE_COLUMNS
from .depth.by_rank import overlap_curves as overlap_curves
from .depth.continuity import ABS_COSINE as ABS_COSINE
from .depth.continuity import ABS_COSINE_2 as ABS_COSINE_2
from .depth.continuity import CONTINUITY_COLUMNS as CONTINUITY_COLUMNS
from .depth.continuity import LEADING_OVERLAP as LEADING_OVERLAP
from .depth.continuity import SIGMA2_WEIGHTED as SIGMA2_WEIGHTED
from .depth.continuity import continuity_table as continuity_table
from .depth.coordinates import constant_component as constant_component
from .depth.coordinates import participation_ratio as participation_ratio
from .depth.drawn_nulls import NULL_COLUMNS as NULL_COLUMNS
from .depth.drawn_nulls import SEEDED_NULLS as SEEDED_NULLS
from .depth.drawn_nulls import Nulls as Nulls
from .depth.drawn_nulls import continuity_nulls as continuity_nulls
from .depth.drawn_nulls import null_table as null_table
from .depth.gram_cosine import CENTRED_GRAM_COSINE as CENTRED_GRAM_COSINE
from .depth.gram_cosine import GRAM_COSINE as GRAM_COSINE
from .depth.gram_cosine import GramCosines as GramCosines
from .depth.gram_cosine import gram_cosines as gram_cosines
from .depth.gram_cosine import gram_matrix as gram_matrix
from .depth.layer_pair import LayerPair as LayerPair
from .depth.layer_pair import layer_chains as layer_chains
from .depth.leading_block import BLOCK_OVERLAP as BLOCK_OVERLAP
from .depth.rank_one import SIGNED_RANK_ONE as SIGNED_RANK_ONE
from .depth.trajectory import EXPLAINED_VARIANCE as EXPLAINED_VARIANCE
from .depth.trajectory import PATH_COLUMNS as PATH_COLUMNS
from .depth.trajectory import PATH_VARIANCE_COLUMNS as PATH_VARIANCE_COLUMNS
from .depth.trajectory import path_table as path_table
from .depth.trajectory import path_variance_table as path_variance_table
from .heads.composition import COMPOSITION_SCORE as COMPOSITION_SCORE
from .heads.divergence import DIVERGENCE_COLUMNS as DIVERGENCE_COLUMNS
from .heads.divergence import head_divergences as head_divergences
from .heads.factors import ProjectionHeads as ProjectionHeads
from .heads.factors import projection_heads as projection_heads
from .heads.head_table import HEAD_COLUMNS as HEAD_COLUMNS
from .heads.head_table import head_table as head_table
from .heads.projection_kernel import PROJECTION_KERNEL as PROJECTION_KERNEL
from .heads.redundancy import CLUSTER_COLUMNS as CLUSTER_COLUMNS
from .heads.redundancy import head_clusters as head_clusters
from .interfaces.balance import balanced_representative as balanced_representative
from .interfaces.balance import neuron_balanced as neuron_balanced
from .interfaces.by_rank import INTERFACE_CURVE_COLUMNS as INTERFACE_CURVE_COLUMNS
from .interfaces.by_rank import interface_curve as interface_curve
from .interfaces.by_rank import interface_curve_table as interface_curve_table
from .interfaces.composable import Composable as Composable
from .interfaces.composable import interfaces_of as interfaces_of
from .interfaces.interface import Interface as Interface
from .interfaces.interface import interface_pair as interface_pair
from .interfaces.interface_table import INTERFACE_COLUMNS as INTERFACE_COLUMNS
from .interfaces.interface_table import INTERFACE_OBSERVABLES as INTERFACE_OBSERVABLES
from .interfaces.interface_table import interface_rows as interface_rows
from .interfaces.interface_table import interface_table as interface_table
from .observable import Observable as Observable
from .pairs.distances import GEODESIC_DISTANCE as GEODESIC_DISTANCE
from .pairs.distances import SMALLEST_ANGLE as SMALLEST_ANGLE
from .pairs.flags import BASIS_SCORE as BASIS_SCORE
from .pairs.flags import FLAG_DISTANCE as FLAG_DISTANCE
from .pairs.flags import FLAG_SCORE as FLAG_SCORE
from .pairs.flags import flag_geodesic_distance as flag_geodesic_distance
from .pairs.flags import soft_bruhat as soft_bruhat
from .pairs.flags import soft_bruhat_moments as soft_bruhat_moments
from .pairs.intersection import ABOVE_EDGE as ABOVE_EDGE
from .pairs.intersection import INTERSECTION_DIMENSION as INTERSECTION_DIMENSION
from .pairs.overlap import PAIR_COLUMNS as PAIR_COLUMNS
from .pairs.overlap import PAIR_OBSERVABLES as PAIR_OBSERVABLES
from .pairs.overlap import PROJECTION_OVERLAP as PROJECTION_OVERLAP
from .pairs.overlap import pair_table as pair_table
from .pairs.pair_nulls import CHANCE_COLUMNS as CHANCE_COLUMNS
from .pairs.pair_nulls import chance_table as chance_table
from .pairs.subspace import angles_survive as angles_survive
from .pairs.subspace_pair import SubspacePair as SubspacePair

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
