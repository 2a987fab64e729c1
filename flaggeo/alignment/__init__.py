"""How subspaces of one space lie to each other: one kind of measurement a file, each with its null."""

from .balance import balanced_representative as balanced_representative
from .balance import neuron_balanced as neuron_balanced
from .composable import Composable as Composable
from .composable import interfaces_of as interfaces_of
from .continuity import ABS_COSINE as ABS_COSINE
from .continuity import ABS_COSINE_2 as ABS_COSINE_2
from .continuity import CONTINUITY_COLUMNS as CONTINUITY_COLUMNS
from .continuity import SIGMA2_WEIGHTED as SIGMA2_WEIGHTED
from .continuity import continuity_table as continuity_table
from .continuity import layer_chains as layer_chains
from .interface import Interface as Interface
from .interface import interface_pair as interface_pair
from .interfaces import INTERFACE_COLUMNS as INTERFACE_COLUMNS
from .interfaces import INTERFACE_OBSERVABLES as INTERFACE_OBSERVABLES
from .interfaces import interface_rows as interface_rows
from .interfaces import interface_table as interface_table
from .nulls import NULL_COLUMNS as NULL_COLUMNS
from .nulls import SEEDED_NULLS as SEEDED_NULLS
from .nulls import Profile as Profile
from .nulls import norm_profile as norm_profile
from .nulls import null_table as null_table
from .observable import Observable as Observable
from .overlap import PAIR_COLUMNS as PAIR_COLUMNS
from .overlap import PROJECTION_OVERLAP as PROJECTION_OVERLAP
from .overlap import pair_table as pair_table

OBSERVABLES = (ABS_COSINE, ABS_COSINE_2, SIGMA2_WEIGHTED, PROJECTION_OVERLAP, *INTERFACE_OBSERVABLES)
