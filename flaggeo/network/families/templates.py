"""From names with numbers to names with places for numbers."""

from collections.abc import Iterable, Mapping

#: The words that may stand in a template, from the outside to the inside.
WORDS = ("stage", "layer", "expert")

Numbers = Mapping[str, int]


class Templates:
    """Which numbers of names count layers, experts or stages, learned from names for which that is known.

    Parameters
    ----------
    known : iterable of pair of str and mapping of str to int
        Names, each with the numbers of its stage, layer and expert, as far as it has them.
    """

    def __init__(self, known: Iterable[tuple[str, Numbers]]) -> None:
        self._words: dict[tuple[str, ...], str] = {}
        names = [(name.split("."), numbers) for name, numbers in known]
        for place in range(max((len(parts) for parts, _ in names), default=0)):
            counted: dict[tuple[str, ...], list[tuple[int, Numbers]]] = {}
            for parts, numbers in names:
                if len(parts) > place and parts[place].isdigit():
                    counted.setdefault(self._prefix(parts, place), []).append((int(parts[place]), numbers))
            for prefix, members in counted.items():
                fitting = [
                    word
                    for word in WORDS
                    if f"{{{word}}}" not in prefix and all(numbers.get(word) == value for value, numbers in members)
                ]
                if fitting:
                    self._words[prefix] = fitting[0]

    def _prefix(self, parts: list[str], place: int) -> tuple[str, ...]:
        prefix: tuple[str, ...] = ()
        for part in parts[:place]:
            word = self._words.get(prefix) if part.isdigit() else None
            prefix += (f"{{{word}}}" if word else part,)
        return prefix

    def __call__(self, name: str, layer: int | None = None) -> str:
        """Template of a name; numbers of the layer before a given one are written ``{layer-1}``."""
        parts = name.split(".")
        template = list(self._prefix(parts, len(parts)))
        if layer is not None and self.numbers(name).get("layer") == layer - 1:
            template = ["{layer-1}" if part == "{layer}" else part for part in template]
        return ".".join(template)

    def numbers(self, name: str) -> dict[str, int]:
        """Stage, layer and expert of a name, as far as it has them."""
        parts = name.split(".")
        template = self._prefix(parts, len(parts))
        return {
            place[1:-1]: int(part) for part, place in zip(parts, template, strict=True) if place.startswith("{")
        }
