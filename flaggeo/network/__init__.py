"""What tensors mean: the quiver of spaces and weights behind a checkpoint's names."""

from .families.on_the_spot import DERIVING as DERIVING
from .folding import Folding as Folding
from .folding import Gain as Gain
from .quiver import Block as Block
from .quiver import Layer as Layer
from .quiver import Network as Network
from .quiver import Skipped as Skipped
from .quiver import Stack as Stack
from .quiver import Weight as Weight
from .reading import UnknownArchitectureError as UnknownArchitectureError
from .reading import read_network as read_network
from .roles import ROLE_RECORDS as ROLE_RECORDS
from .roles import ROLES as ROLES
from .roles import BlockKind as BlockKind
from .roles import HeadGroup as HeadGroup
from .roles import Role as Role
from .spaces import CHANGES_OF_BASIS as CHANGES_OF_BASIS
from .spaces import Side as Side
from .spaces import Space as Space
from .spaces import SpaceKind as SpaceKind
from .spaces import Symmetry as Symmetry
from .splits import Split as Split
