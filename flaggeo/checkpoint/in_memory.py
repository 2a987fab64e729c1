"""Tensors that are already in memory: a state dict, or any ``nn.Module``."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from .dtypes import spelling
from .protocol import Checkpoint, CheckpointError, TensorHeader


class MemoryCheckpoint(Checkpoint):
    """A mapping from names to tensors, read in place.

    Parameters
    ----------
    location : str
        What to call it in messages.
    tensors : mapping of str to Tensor
        A state dict. Of several names for one tensor (tied embeddings) the first is kept, the others are
        `aliases`.
    config : mapping
        The architecture's settings.

    Raises
    ------
    CheckpointError
        If a value is no tensor, or has no numbers because it is on the meta device.
    """

    def __init__(self, location: str, tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> None:
        self.location = location
        self.config = config
        self.metadata = {"format": "in memory"}
        self._tensors: dict[str, Tensor] = {}
        self.aliases = {}
        first_names: dict[tuple[int, tuple[int, ...], tuple[int, ...]], str] = {}
        for name, tensor in tensors.items():
            if not isinstance(tensor, Tensor) or tensor.is_meta:
                found = "one on the meta device" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
                raise CheckpointError(f"{location}: {name!r}: expected a tensor with numbers, found {found}")
            identity = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride())
            if tensor.numel() and identity in first_names:
                self.aliases[name] = first_names[identity]
                continue
            first_names[identity] = name
            self._tensors[name] = tensor.detach()
        self.headers = {
            name: TensorHeader(name, tuple(tensor.shape), spelling(tensor.dtype), location)
            for name, tensor in self._tensors.items()
        }

    def _read(self, name: str, rows: slice) -> Tensor:
        tensor = self._tensors[name]
        return tensor if rows == slice(None) else tensor[rows]
