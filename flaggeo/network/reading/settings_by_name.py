"""Settings of a checkpoint by the names that records have for them."""

from collections.abc import Iterable, Mapping
from typing import Any

from ...checkpoint import Checkpoint, CheckpointError


class SettingsByName:
    """Settings of a checkpoint by name, with dots for sections; those of the language model where there are several."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._location = checkpoint.location
        self._config = checkpoint.config
        inner = self._config.get("text_config")
        self._text: Mapping[str, Any] = inner if isinstance(inner, Mapping) else {}

    def __call__(self, name: str | None) -> Any:
        """Value of a setting; None if it is missing."""
        if name is None:
            return None
        *sections, last = name.split(".")
        found: Any = self._config
        for section in sections:
            found = found.get(section) if isinstance(found, Mapping) else None
        if isinstance(found, Mapping) and last in found and (sections or last not in self._text):
            return found[last]
        return self._text.get(last, self._config.get(last))

    def size(self, section: str, names: Iterable[str], layer: int) -> tuple[str, int] | None:
        """The first of some settings that a section gives as a whole number, or as one a layer, with its name."""
        within: Any = self._config
        for part in section.split(".") if section else ():
            within = within.get(part) if isinstance(within, Mapping) else None
        own = {**within, **({} if section else self._text)} if isinstance(within, Mapping) else {}
        for name in names:
            value = own.get(name)
            value = value[layer] if isinstance(value, list) and layer < len(value) else value
            if isinstance(value, int) and not isinstance(value, bool):
                return name, value
        return None

    @property
    def model_types(self) -> tuple[str, ...]:
        """Of the whole, and of its language model, as far as they are given."""
        given = (self._config.get("model_type"), self._text.get("model_type"))
        return tuple(str(name) for name in given if name)

    def count(self, name: str | None, layer: int = 0) -> int | None:
        """A whole number, or the layer's own where they list one for each; None if absent."""
        if name is not None and name.isdecimal():
            return int(name)
        value = self(name)
        if isinstance(value, list) and layer < len(value):
            value = value[layer]
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
            return value
        raise CheckpointError(f"{self._location}: setting {name!r}: expected a positive whole number, found {value!r}")
