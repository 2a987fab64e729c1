"""What the alignment graph says about the network as a whole, each number beside what chance would give."""

from .edges import EDGE_WEIGHT as EDGE_WEIGHT
from .edges import NULL_MEANS as NULL_MEANS
from .network_structure import Structure as Structure
from .network_structure import structure as structure
from .sentences import sentences as sentences
