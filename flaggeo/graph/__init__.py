"""The alignment graph, and what it says about the network as a whole, each number beside null graphs."""

from .alignment_graph import FALSE_DISCOVERY_RATE as FALSE_DISCOVERY_RATE
from .alignment_graph import alignment_graph as alignment_graph
from .edges import EDGE_WEIGHT as EDGE_WEIGHT
from .edges import NULL_MEANS as NULL_MEANS
from .structure import Structure as Structure
from .structure import structure as structure
