"""How subspaces of one space lie to each other: one kind of measurement a file, each with its null."""

from .composition import COMPOSITION_SCORE as COMPOSITION_SCORE
from .continuity import ABS_COSINE as ABS_COSINE
from .continuity import ABS_COSINE_2 as ABS_COSINE_2
from .continuity import CONTINUITY_COLUMNS as CONTINUITY_COLUMNS
from .continuity import SIGMA2_WEIGHTED as SIGMA2_WEIGHTED
from .continuity import continuity_table as continuity_table
from .continuity import layer_chains as layer_chains
from .head_divergence import DIVERGENCE_COLUMNS as DIVERGENCE_COLUMNS
from .head_divergence import head_divergences as head_divergences
from .head_factors import ProjectionHeads as ProjectionHeads
from .head_factors import projection_heads as projection_heads
from .heads import HEAD_COLUMNS as HEAD_COLUMNS
from .heads import PROJECTION_KERNEL as PROJECTION_KERNEL
from .heads import head_table as head_table
from .nulls import NULL_COLUMNS as NULL_COLUMNS
from .nulls import SEEDED_NULLS as SEEDED_NULLS
from .nulls import Profile as Profile
from .nulls import norm_profile as norm_profile
from .nulls import null_table as null_table
from .observable import Observable as Observable
from .overlap import PAIR_COLUMNS as PAIR_COLUMNS
from .overlap import PROJECTION_OVERLAP as PROJECTION_OVERLAP
from .overlap import pair_table as pair_table
from .redundancy import CLUSTER_COLUMNS as CLUSTER_COLUMNS
from .redundancy import head_clusters as head_clusters

OBSERVABLES = (ABS_COSINE, ABS_COSINE_2, SIGMA2_WEIGHTED, PROJECTION_OVERLAP, PROJECTION_KERNEL, COMPOSITION_SCORE)
