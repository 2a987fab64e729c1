"""Weights that are stored in few bits beside their scales, presented as the matrices that they stand for.

One file a format. `unpacked` puts them over any checkpoint.
"""

from .checkpoint import PackedCheckpoint as PackedCheckpoint
from .checkpoint import unpacked as unpacked
