"""Where the maps of a module stand: towers, layers and names, from the names of their parameters."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..spaces import Side
from .linear_maps import LinearMap
from .wiring import Coupled, Wiring

_ENDING = re.compile(r"(.*?)(\d*)")
#: Names of parameters that say no more than that they are matrices.
_PLAIN = frozenset({"weight", "in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"})


@dataclass(frozen=True)
class Place:
    """Where a map stands.

    Attributes
    ----------
    tower : str
        Empty where the network has one.
    layer : int or None
        None for a map outside the layers.
    part : str
        What tells it apart from the others in its layer.
    before : bool
        Of a map outside the layers, whether it is applied before them.
    """

    tower: str
    layer: int | None
    part: str
    before: bool = False


@dataclass(frozen=True)
class _Slot:
    """A number in a name, and what stands around it.

    ``stages.1.layers.3.mlp.fc1`` has one at home in ``stages.1.layers``, and one at home in ``stages``.
    """

    home: tuple[str, ...]
    word: str
    number: int
    rest: tuple[str, ...]

    @property
    def template(self) -> tuple[str, ...]:
        """What stands before it, with a mark in the place of other numbers."""
        return (*(re.sub(r"\d+$", "#", token) for token in self.home), self.word)


def _tokens(tensor: str) -> tuple[str, ...]:
    *module, last = tensor.split(".")
    return tuple(module if last in _PLAIN else [*module, last])


def _slots(tensor: str) -> Iterator[_Slot]:
    """Every number that ends a part of a name, the outermost first."""
    tokens = _tokens(tensor)
    for place, token in enumerate(tokens):
        word, number = _ENDING.fullmatch(token).groups()  # type: ignore[union-attr]
        if number:
            yield _Slot(tokens[:place], word, int(number), tokens[place + 1 :])


class Placing:
    """Towers, layers and parts of all maps.

    A number in the names of what writes to one stream, that takes several values behind one beginning, counts layers.
    Where there is no such number, every map is a layer of its own, in the order in which they are applied.

    Parameters
    ----------
    wiring : Wiring
    """

    def __init__(self, wiring: Wiring) -> None:
        self._maps = wiring.recording.maps
        self._order = {one: number for number, one in enumerate(self._maps)}
        self._space = {(end.map, end.side): space for space in wiring.coupled for end in space.ends}
        self._templates = set(filter(None, map(_repeated, (space for space in wiring.coupled if space.is_sum))))
        slots = {one: self._slot(one.tensor) for one in self._maps}
        self._slots = {one: slot for one, slot in slots.items() if slot is not None}
        self.streams = [space for space in wiring.coupled if space.is_sum and self._spans_layers(space)]
        self._towers = self._labelled()
        self.places = {one: self._place(one) for one in self._maps}
        self._name_parts()

    @property
    def towers(self) -> list[str]:
        """Labels of the towers, in the order in which a signal passes them."""
        return list(dict.fromkeys([*self._towers.values(), *(place.tower for place in self.places.values())]))

    def tower_of(self, stream: Coupled) -> str:
        """Label of the tower along a stream."""
        return self._towers[stream]

    def _slot(self, tensor: str) -> _Slot | None:
        return next((slot for slot in _slots(tensor) if slot.template in self._templates), None)

    def _spans_layers(self, space: Coupled) -> bool:
        """Whether the ends of a space lie in several layers, or outside of all."""
        if not self._templates:
            return True
        slots = (self._slots.get(end.map) for end in space.ends)
        return len({slot and (slot.home, slot.number) for slot in slots}) > 1

    def _home(self, stream: Coupled) -> tuple[str, ...] | None:
        """Where the layers that write to a stream stand."""
        homes = Counter(self._slots[end.map].home for end in stream.side(Side.WRITE) if end.map in self._slots)
        return homes.most_common(1)[0][0] if homes else None

    def _labelled(self) -> dict[Coupled, str]:
        """Label of the tower along each stream, the first stream first."""
        if not self._templates:
            return dict.fromkeys(self.streams, "")
        homes = [self._home(stream) or _tokens(stream.ends[0].map.tensor) for stream in self.streams]
        labels = _labels(homes)
        return dict(zip(self.streams, labels, strict=True))

    def _place(self, one: LinearMap) -> Place:
        facing = [self._space.get((one, side)) for side in (Side.WRITE, Side.READ)]
        streams = [space for space in facing if space in self._towers]
        slot = self._slots.get(one)
        if not self._templates:
            layer = None if one.is_table else sum(not other.is_table for other in self._maps[: self._order[one]])
            return Place("", layer, "", before=one.is_table)
        if slot is None:
            tower = self._towers[streams[0]] if streams else self._nearest(one)
            return Place(tower, None, "", before=self._order[one] < self._begins(tower))
        own = [stream for stream in streams if self._home(stream) == slot.home]
        own = own or [stream for stream in self.streams if self._home(stream) == slot.home] or self.streams[:1]
        return Place(self._towers[own[0]], slot.number, "")

    def _begins(self, tower: str) -> int:
        """When the first layer of a tower is applied."""
        homes = {self._home(stream) for stream, label in self._towers.items() if label == tower}
        inside = (self._order[one] for one, slot in self._slots.items() if slot.home in homes)
        return min(inside, default=len(self._maps))

    def _nearest(self, one: LinearMap) -> str:
        """The tower that has begun last when a map is applied, or else the first."""
        labels = self._towers.values()
        begun = [label for label in labels if self._begins(label) < self._order[one]]
        return max(begun, key=self._begins) if begun else min(labels, key=self._begins)

    def _name_parts(self) -> None:
        """Call each map by the shortest ending of its name that no other in its tower has."""
        groups: dict[tuple[str, bool], dict[tuple[str, ...], list[LinearMap]]] = {}
        for one, place in self.places.items():
            slot = self._slots.get(one)
            rest = _tokens(one.tensor) if slot is None else slot.rest
            groups.setdefault((place.tower, slot is None), {}).setdefault(_joined(rest), []).append(one)
        for members in groups.values():
            alone = not self._templates
            for rest, maps in members.items():
                part = _without_numbers(rest) if alone else _shortest(rest, members)
                for one in maps:
                    place = self.places[one]
                    named = part or ("convolution" if one.kernel > 1 else "linear")
                    self.places[one] = Place(place.tower, place.layer, named, place.before)


def _repeated(stream: Coupled) -> tuple[str, ...] | None:
    """Template of the home of the layers along a stream; None if no number counts any."""
    numbers: dict[tuple[tuple[str, ...], str], dict[tuple[str, ...], set[int]]] = {}
    templates = {}
    for end in stream.side(Side.WRITE):
        for slot in _slots(end.map.tensor):
            numbers.setdefault((slot.home, slot.word), {}).setdefault(slot.rest, set()).add(slot.number)
            templates[slot.home, slot.word] = slot.template
    repeats = {place: sum(len(found) - 1 for found in by_rest.values()) for place, by_rest in numbers.items()}
    place = max(repeats, key=lambda place: (repeats[place], -len(place[0])), default=None)
    return templates[place] if place is not None and repeats[place] else None


def _labels(homes: list[tuple[str, ...]]) -> list[str]:
    """Short names of several homes; empty for one alone."""
    if len(homes) == 1:
        return [""]
    common = 0
    while all(len(home) > common for home in homes) and len({home[common] for home in homes}) == 1:
        common += 1
    if any(home[common : common + 1] and home[common].isdecimal() for home in homes):
        common -= 1  # a number says nothing without the word before it
    short = [home[max(common, 0) :] for home in homes]
    labels = [".".join(_without_last_word(tokens)) or "main" for tokens in short]
    labels = [
        label if labels.count(label) == 1 else ".".join(tokens) or "main"
        for label, tokens in zip(labels, short, strict=True)
    ]
    seen: Counter[str] = Counter()
    for place, label in enumerate(labels):
        seen[label] += 1
        labels[place] = label if seen[label] == 1 else f"{label}.{seen[label]}"
    return labels


def _without_last_word(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """Without the word that only says that layers follow, such as ``layers``, where another word stands before it."""
    return tokens[:-1] if len(tokens) > 1 and not tokens[-1][-1].isdecimal() else tokens


def _joined(tokens: Iterable[str]) -> tuple[str, ...]:
    """Bare numbers put to the word before them: mlp1 for ``mlp.1``."""
    joined: list[str] = []
    for token in tokens:
        if token.isdecimal() and joined:
            joined[-1] += token
        else:
            joined.append(token)
    return tuple(joined)


def _without_numbers(rest: tuple[str, ...]) -> str:
    words = [word for token in rest if (word := token.rstrip("0123456789"))]
    return words[-1] if words else ""


def _shortest(rest: tuple[str, ...], others: Mapping[tuple[str, ...], object]) -> str:
    """The shortest ending that no other name has, written as one word."""
    endings = (rest[start:] for start in reversed(range(len(rest))))
    alone = (end for end in endings if sum(other[-len(end) :] == end for other in others) == 1)
    return "_".join(next(alone, rest))
