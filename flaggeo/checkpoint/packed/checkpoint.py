"""A checkpoint over another one, with the matrices in place of the tensors that they are packed in."""

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ..protocol import Checkpoint, Progress
from .bitsandbytes import bitsandbytes_weights
from .integers import integer_weights
from .mxfp4 import mxfp4_weights
from .scaled import scaled_weights
from .weight import PackedWeight, quantisation_settings

if TYPE_CHECKING:
    from torch import Tensor

# Those that are known by more than a dtype come first.
_FORMATS = (bitsandbytes_weights, integer_weights, mxfp4_weights, scaled_weights)


def unpacked(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint itself, or one over it where weights are packed.

    Raises
    ------
    CheckpointError
        If a tensor is packed in a way that is not known or that the settings do not explain.
    """
    settings = quantisation_settings(checkpoint.config)
    weights = [weight for found in _FORMATS for weight in found(checkpoint, settings)]
    return PackedCheckpoint(checkpoint, weights) if weights else checkpoint


class PackedCheckpoint(Checkpoint):
    """A checkpoint whose packed weights have their own names and shapes.

    Parameters
    ----------
    base : Checkpoint
        As stored.
    weights : iterable of PackedWeight
        Each is in place of its parts, which are no tensors of their own here.
    """

    def __init__(self, base: Checkpoint, weights: Iterable[PackedWeight]) -> None:
        self.base = base
        self.location = base.location
        self.config = base.config
        self.naming = base.naming  # type: ignore[misc]  # of the class everywhere else
        self._packed = {weight.header.name: weight for weight in weights}
        by_first_part = {weight.parts[0]: weight.header for weight in self._packed.values()}
        parts = {part for weight in self._packed.values() for part in weight.parts}
        headers = (by_first_part.get(name) or header for name, header in base.headers.items())
        self.headers = {
            header.name: header for header in headers if header.name in self._packed or header.name not in parts
        }
        self.aliases = {alias: name for alias, name in base.aliases.items() if name in self.headers}
        counts = Counter(weight.packing for weight in self._packed.values())
        packing = "; ".join(f"{count} in {packing}" for packing, count in counts.items())
        types = ", ".join(sorted({weight.header.dtype for weight in self._packed.values()}))
        self.metadata = {**base.metadata, "tensor types": types, "packed weights": packing}

    def require_readable(self, name: str) -> None:
        """Raise, from the header alone, if the numbers of a tensor cannot be had."""
        if name not in self._packed:
            self.base.require_readable(name)

    def fetch(self, names: Iterable[str], progress: Progress | None = None) -> None:
        """Bring the parts of these weights onto this machine."""
        packed = self._packed
        self.base.fetch(
            [part for name in names for part in (packed[name].parts if name in packed else [name])], progress
        )

    def stamp(self) -> list[Any]:
        """What changes when the numbers do."""
        return self.base.stamp()

    def _read(self, name: str, rows: slice) -> "Tensor":
        if name in self._packed:
            return self._packed[name].unpack(self.base.stored, rows)
        return self.base.stored(name, rows)
