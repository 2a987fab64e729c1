"""Many checkpoints of one training run: how alignment comes about, and how the subspaces move meanwhile."""

from ..results.trace import Trace as Trace
from .tracing import trace as trace
