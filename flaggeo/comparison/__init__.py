"""Two checkpoints of one architecture: how far every subspace moved, and what kind of change moved it."""

from ..results.comparison import Comparison as Comparison
from .comparing import compare as compare
from .matching import MismatchError as MismatchError
