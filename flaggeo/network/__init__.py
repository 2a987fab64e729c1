"""What tensors mean: the quiver of spaces and weights behind a checkpoint's names."""

from .families import FAMILIES as FAMILIES
from .families import Family as Family
from .folding import Folding as Folding
from .folding import Gain as Gain
from .quiver import ROLES as ROLES
from .quiver import Network as Network
from .quiver import Side as Side
from .quiver import Skipped as Skipped
from .quiver import Space as Space
from .quiver import Symmetry as Symmetry
from .quiver import Weight as Weight
from .reading import UnknownArchitectureError as UnknownArchitectureError
from .reading import read_network as read_network
from .splits import Split as Split
