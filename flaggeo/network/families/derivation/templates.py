"""From names with numbers to names with places for numbers."""

import re
from collections.abc import Iterable, Mapping

#: The words that may stand in a template, from the outside to the inside.
WORDS = ("stage", "layer", "expert")

Numbers = Mapping[str, int]

_NUMBER = re.compile(r"(\d+)")


def counted(name: str) -> list[tuple[str, int]]:
    """Numbers in a name, each with what stands before it, in which other numbers are struck out."""
    parts = _NUMBER.split(name)
    return [
        ("".join("0" if n % 2 else part for n, part in enumerate(parts[:place])), int(parts[place]))
        for place in range(1, len(parts), 2)
    ]


class Templates:
    """Which numbers of names count layers, experts or stages, learned from names for which that is known.

    Parameters
    ----------
    known : iterable of pair of str and mapping of str to int
        Names, each with the numbers of its stage, layer and expert, as far as it has them. One that has none, such as
        that of a table, stands for itself.
    others : iterable of str
        Further names: a list in them that is as long as one of layers is one of layers.
    """

    def __init__(self, known: Iterable[tuple[str, Numbers]], others: Iterable[str] = ()) -> None:
        self._words: dict[str, str] = {}
        known = list(known)
        self._known: dict[str, tuple[str, dict[str, int]]] = {
            name: (name, {}) for name, numbers in known if not numbers
        }
        names = [(_NUMBER.split(name), numbers) for name, numbers in known if numbers]
        for place in range(1, max((len(parts) for parts, _ in names), default=0), 2):
            members: dict[str, list[tuple[int, Numbers]]] = {}
            for parts, numbers in names:
                if len(parts) > place:
                    members.setdefault(self._prefix(parts, place), []).append((int(parts[place]), numbers))
            for prefix, values in members.items():
                fitting = [
                    word
                    for word in WORDS
                    if f"{{{word}}}" not in prefix and all(numbers.get(word) == value for value, numbers in values)
                ]
                if fitting:
                    self._words[prefix] = fitting[0]
        if not any("stage" in numbers for _, numbers in names):  # a list might be one of stages
            self._learn_lists({numbers["layer"] for _, numbers in names if "layer" in numbers}, others)

    def _learn_lists(self, layers: set[int], others: Iterable[str]) -> None:
        lists: dict[str, set[int]] = {}
        for parts in (_NUMBER.split(name) for name in others):
            for place in range(1, len(parts), 2):
                lists.setdefault(self._prefix(parts, place), set()).add(int(parts[place]))
        for prefix, numbers in lists.items():
            if len(numbers) > 1 and numbers == layers and "{layer}" not in prefix:
                self._words.setdefault(prefix, "layer")

    def _prefix(self, parts: list[str], place: int) -> str:
        prefix = ""
        for n, part in enumerate(parts[:place]):
            prefix += f"{{{self._words[prefix]}}}" if n % 2 and prefix in self._words else part
        return prefix

    def __call__(self, name: str, layer: int | None = None) -> str:
        """Template of a name; where its layer is the one before a given one it is written ``{layer-1}``."""
        template, numbers = self._placed(name)
        if layer is not None and numbers.get("layer") == layer - 1:
            return template.replace("{layer}", "{layer-1}")
        return template

    def numbers(self, name: str) -> dict[str, int]:
        """Stage, layer and expert of a name, as far as it has them."""
        return self._placed(name)[1]

    def _placed(self, name: str) -> tuple[str, dict[str, int]]:
        if name not in self._known:
            parts = _NUMBER.split(name)
            prefixes = {place: self._prefix(parts, place) for place in range(1, len(parts), 2)}
            numbers = {
                self._words[prefix]: int(parts[place]) for place, prefix in prefixes.items() if prefix in self._words
            }
            self._known[name] = self._prefix(parts, len(parts)), numbers
        return self._known[name]
