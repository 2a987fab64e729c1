"""Two checkpoints of one architecture: how far every subspace moved, and what kind of change moved it."""

from .comparing import compare as compare
from .matching import MismatchError as MismatchError
from .result import Comparison as Comparison
