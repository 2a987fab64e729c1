"""The names of a checkpoint's tensors against the names of a structure."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache

from .record import Naming, Norm, Piece

Numbers = Mapping[str, int]

_NUMBER = re.compile(r"\d+")
_PLACE = re.compile(r"\{(\w+)(?:-(\d+))?\}")


@dataclass(frozen=True)
class Placed:
    """A tensor whose part is known.

    Attributes
    ----------
    tensor : str
        Name in the checkpoint.
    part : Piece, Norm or str
        What it is, or the reason why it is no weight.
    numbers : mapping of str to int
        Its layer, its expert and whatever else stands in the name.
    """

    tensor: str
    part: Piece | Norm | str
    numbers: Numbers


class Endings(dict[str, list[tuple[str, str]]]):
    """Every way to cut the names of a checkpoint at a dot, by the shape of what stands behind it.

    Made once for all structures that are held against a checkpoint.

    Parameters
    ----------
    tensors : iterable of str
        All names of the checkpoint.

    Attributes
    ----------
    tensors : tuple of str
    """

    def __init__(self, tensors: Iterable[str]) -> None:
        super().__init__()
        self.tensors = tuple(dict.fromkeys(tensors))
        for tensor in self.tensors:
            for start, rest in _endings(tensor):
                self.setdefault(_shape(rest), []).append((start, rest))


class Names:
    """The names of one structure as a checkpoint has them, whatever stands before them.

    A model without its head lacks the first part of its names, and wrappers put more of them in front. The beginning
    that most weights have is taken for all; names with another beginning are not of this structure.

    Parameters
    ----------
    naming : Naming
    tensors : iterable of str, or Endings
        All names of the checkpoint.
    as_written : bool, optional
        The naming was made for this checkpoint: no name has another beginning.
    """

    def __init__(self, naming: Naming, tensors: Iterable[str] | Endings, *, as_written: bool = False) -> None:
        self._endings = tensors if isinstance(tensors, Endings) else Endings(tensors)
        self._tensors = frozenset(self._endings.tensors)
        self._parts: dict[str, list[Piece | Norm | str]] = {}
        for piece in naming.pieces:
            self._parts.setdefault(piece.tensor, []).append(piece)
        for norm in naming.norms:
            self._parts.setdefault(norm.tensor, []).append(norm)
        for template, reason in naming.other.items():
            self._parts.setdefault(template, []).append(reason)
        self._base = _common_beginning([piece.tensor for piece in naming.pieces])
        self._by_shape: dict[tuple[bool, str], list[str]] = {}
        for template in self._parts:
            inside, rest = self._split(template)
            self._by_shape.setdefault((inside, _shape(_PLACE.sub("0", rest))), []).append(template)
        pieces = {piece.tensor for piece in naming.pieces}
        written = {True: self._base, False: ""}
        self._beginnings = {
            inside: start if as_written else self._beginning(inside, pieces) for inside, start in written.items()
        }

    def _split(self, template: str) -> tuple[bool, str]:
        """Whether a template has the common beginning, and what stands behind it."""
        inside = bool(self._base) and template.startswith(self._base)
        return inside, template.removeprefix(self._base) if inside else template

    def _beginning(self, inside: bool, pieces: set[str]) -> str:
        """What stands before most weights of the checkpoint, of those with the common beginning or of the others."""
        counts: Counter[str] = Counter()
        for (is_inside, shape), templates in self._by_shape.items():
            rests = [self._split(template)[1] for template in templates if template in pieces]
            if is_inside is inside and rests:
                for start, rest in self._endings.get(shape, ()):
                    counts[start] += any(_matched(template, rest) is not None for template in rests)
        # The shortest of equals: the model itself before what a wrapper holds besides.
        return min(+counts, key=lambda start: (-counts[start], len(start)), default=self._base if inside else "")

    @cached_property
    def placed(self) -> tuple[Placed, ...]:
        """Every tensor whose part is known, as often as it has one, in the order of the checkpoint."""
        return tuple(one for tensor in self._endings.tensors for one in self.place(tensor))

    def place(self, tensor: str) -> Iterator[Placed]:
        """The parts of a name, whether or not the checkpoint has it."""
        for inside, beginning in self._beginnings.items():
            if not tensor.startswith(beginning):
                continue
            rest = tensor.removeprefix(beginning)
            fitting = {
                template: numbers
                for template in self._by_shape.get((inside, _shape(rest)), ())
                if (numbers := _matched(self._split(template)[1], rest)) is not None
            }
            # A name that stands in the structure as it is means itself, whatever others of its shape mean.
            exact = [template for template, numbers in fitting.items() if not numbers]
            for template in exact or fitting:
                yield from (Placed(tensor, part, fitting[template]) for part in self._parts[template])

    def is_inside(self, tensor: str) -> bool:
        """Whether a tensor has the beginning that all weights of layers have, if they have one."""
        beginning = self._beginnings[True]
        return bool(self._base and beginning) and tensor.startswith(beginning)

    def is_in_layers(self, tensor: str) -> bool:
        """Whether a tensor stands in one of the layers that have weights of the structure."""
        return any(
            tensor.startswith(start) and tensor[len(start) : len(start) + 1].isdecimal()
            for start in self._layer_beginnings
        )

    @cached_property
    def _layer_beginnings(self) -> frozenset[str]:
        """What stands before the first number in the names of weights that the checkpoint has."""
        templates = {one.part.tensor for one in self.placed if isinstance(one.part, Piece) and one.numbers}
        return frozenset(
            self._beginnings[inside] + rest.partition("{")[0] for inside, rest in map(self._split, templates)
        )

    def is_elsewhere(self, tensor: str) -> bool:
        """Whether a tensor has a name of the structure behind another beginning than the weights of this one."""
        return any(
            _matched(self._split(template)[1], rest) is not None
            for start, rest in _endings(tensor)
            for inside, beginning in self._beginnings.items()
            if start != beginning
            for template in self._by_shape.get((inside, _shape(rest)), ())
        )

    def find(self, template: str | None, numbers: Numbers) -> str | None:
        """Name in the checkpoint of what a template names at these numbers; None if it is not there."""
        if template is None or any(numbers.get(name, -1) < int(back or 0) for name, back in _PLACE.findall(template)):
            return None
        name = self.name(template, numbers)
        return name if name in self._tensors else None

    def name(self, template: str, numbers: Numbers) -> str:
        """What the checkpoint calls, or would call, what a template names at these numbers."""
        inside, rest = self._split(template)
        return self._beginnings[inside] + _PLACE.sub(lambda place: str(numbers[place[1]] - int(place[2] or 0)), rest)


def words_in(template: str) -> list[str]:
    """The words in the places for numbers of a template."""
    return [word for word, _ in _PLACE.findall(template)]


def of_own_layer(template: str | None) -> str:
    """The template with the layer itself in the place of an earlier one; empty for None."""
    return _PLACE.sub(r"{\1}", template or "")


def _common_beginning(templates: list[str]) -> str:
    """The first part of the names that all weights of layers have, with its dot; empty if there is none."""
    first = {template.partition(".")[0] for template in templates if "{" in template}
    # Towers that differ in it alone must keep it: without it the names of one are those of the other.
    return f"{first.pop()}." if len(first) == 1 and "{" not in "".join(first) else ""


def _endings(name: str) -> Iterator[tuple[str, str]]:
    """Every way to cut a name at a dot, from the whole name on."""
    yield "", name
    for dot in re.finditer(r"\.", name):
        yield name[: dot.end()], name[dot.end() :]


@lru_cache(maxsize=2**17)
def _shape(name: str) -> str:
    """The name with its numbers struck out, for a table: names of one shape are few."""
    return _NUMBER.sub("0", name)


def _matched(template: str, name: str) -> Numbers | None:
    found = _compiled(template).fullmatch(name)
    return None if found is None else {key: int(value) for key, value in found.groupdict().items()}


@cache
def _compiled(template: str) -> re.Pattern[str]:
    literals, numbers = _PLACE.split(template)[::3], _PLACE.split(template)[1::3]
    pattern = re.escape(literals[0])
    for place, (number, literal) in enumerate(zip(numbers, literals[1:], strict=True)):
        again = number in numbers[:place]
        pattern += (f"(?P={number})" if again else rf"(?P<{number}>\d+)") + re.escape(literal)
    return re.compile(pattern)
