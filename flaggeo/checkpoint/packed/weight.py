"""A weight that several stored tensors make up, and what the settings say of its packing."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..protocol import Checkpoint, CheckpointError, TensorHeader

if TYPE_CHECKING:
    from torch import Tensor

#: From the name of a stored tensor to its numbers as they are stored, or to a block of its rows.
Stored = Callable[..., "Tensor"]


@dataclass(frozen=True)
class PackedWeight(ABC):
    """A matrix that is stored in another form.

    Attributes
    ----------
    header : TensorHeader
        Of the matrix: its name, its shape, the type that its numbers were rounded to, and the file that holds them.
    parts : tuple of str
        Names of the stored tensors that it is made of, that of the numbers first.
    """

    header: TensorHeader
    parts: tuple[str, ...]

    @property
    @abstractmethod
    def packing(self) -> str:
        """How it is stored, in words."""

    @abstractmethod
    def unpack(self, stored: Stored, rows: slice) -> "Tensor":
        """Rows of the matrix, in a floating dtype that holds them exactly."""


def quantisation_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a ``config.json`` says of the packing; empty if nothing."""
    inner = config.get("text_config")
    for settings in (config, inner if isinstance(inner, Mapping) else {}):
        for name in ("quantization_config", "compression_config"):
            if isinstance(found := settings.get(name), Mapping):
                return found
    return {}


def compressed_settings(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """What compressed-tensors says of the weights, if it says the same of all; else empty."""
    groups = settings.get("config_groups")
    said = [group.get("weights") for group in groups.values()] if isinstance(groups, Mapping) else []
    return said[0] if said and isinstance(said[0], Mapping) and all(one == said[0] for one in said) else {}


def whole_number(settings: Mapping[str, Any], name: str) -> int | None:
    """A whole number that the settings give under a name, None where they do not."""
    value = settings.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def refused(checkpoint: Checkpoint, tensor: str, expected: str, found: str) -> CheckpointError:
    """The error for a tensor that cannot be unpacked."""
    header = checkpoint.headers[tensor]
    return CheckpointError(f"{header.file}: tensor {tensor!r} in {header.dtype}: expected {expected}, found {found}")


def require_shape(checkpoint: Checkpoint, tensor: str, shape: tuple[int, ...], owner: str) -> None:
    """Raise unless a tensor is there and has the shape that goes with that of its owner."""
    if tensor not in checkpoint.headers:
        raise refused(checkpoint, owner, f"{tensor!r} beside it", "no such tensor")
    if (found := checkpoint.headers[tensor].shape) != shape:
        raise refused(checkpoint, tensor, f"shape {shape} to go with {owner!r}", f"{found}")
