"""From a checkpoint's headers to a `Network`, with every shape checked and no tensor read."""

from .reading import UnknownArchitectureError as UnknownArchitectureError
from .reading import read_network as read_network
