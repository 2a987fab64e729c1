"""The state dict inside what a training run saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from ..protocol import shortened

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module")
_LEVELS = 3
T = TypeVar("T")


@dataclass(frozen=True)
class StateDict(Generic[T]):
    """Named tensors, and what was saved beside them.

    Attributes
    ----------
    tensors : dict of str to T
    place : tuple of str
        The keys under which they were found.
    left_out : tuple of str
        Entries that are no tensors of the network: optimizer, epoch ...
    """

    tensors: dict[str, T]
    place: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def metadata(self) -> dict[str, str]:
        """What a reader should know of it, for the metadata of a checkpoint."""
        said = {"entry": ".".join(self.place), "left out": shortened(self.left_out)}
        return {key: value for key, value in said.items() if value}


def state_dict_in(saved: object, kind: type[T]) -> StateDict[T]:
    """Go down to the state dict, a few levels at most, and leave the rest out.

    Parameters
    ----------
    saved : object
        A state dict, or one under ``state_dict``, ``model_state_dict``, ``model`` or ``module``.
    kind : type
        Of a tensor.

    Raises
    ------
    ValueError
        If no tensor has a name there; the message says what there is.

    Examples
    --------
    >>> state_dict_in({"epoch": 3, "model": {"weight": 1.5, "steps": None}}, float)
    StateDict(tensors={'weight': 1.5}, place=('model',), left_out=('epoch', 'steps'))
    """
    place: list[str] = []
    left_out: list[str] = []
    level = saved
    while isinstance(level, Mapping) and len(place) < _LEVELS:
        entries: Mapping[Any, Any] = level
        wrapper = next((key for key in _WRAPPERS if isinstance(entries.get(key), Mapping)), None)
        if wrapper is None:
            break
        left_out += [str(key) for key in entries if key != wrapper]
        place.append(wrapper)
        level = entries[wrapper]
    if not isinstance(level, Mapping):
        raise ValueError(f"a {type(level).__name__}")
    tensors = {name: value for name, value in level.items() if isinstance(name, str) and isinstance(value, kind)}
    others = [str(key) for key in level if key not in tensors]
    if not tensors:
        raise ValueError(f"no tensor among its entries ({shortened(others) or 'none'})")
    return StateDict(tensors, tuple(place), (*left_out, *others))
