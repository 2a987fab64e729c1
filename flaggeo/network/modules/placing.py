"""Where the maps of a module stand: towers, layers and names, from the names of their parameters."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

from ..spaces import Side
from .linear_maps import LinearMap
from .wiring import Coupled, Wiring

_ENDING = re.compile(r"(.*?)(\d*)")
_EXPERTS = re.compile(r"experts?\.?$")
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
    expert : int or None
        Where there are several of a kind in a layer, called so.
    """

    tower: str
    layer: int | None
    part: str = ""
    before: bool = False
    expert: int | None = None


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
    """Every number that ends a part of a name and may count layers, the outermost first."""
    tokens = _tokens(tensor)
    for place, token in enumerate(tokens):
        word, number = _ENDING.fullmatch(token).groups()  # type: ignore[union-attr]
        if number and not _EXPERTS.search(".".join((*tokens[:place], word))):
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
        sums = [space for space in wiring.coupled if space.is_sum]
        self._templates = _layer_templates(sums, self._maps)
        slots = {one: self._slot(one.tensor) for one in self._maps}
        self._slots = {one: slot for one, slot in slots.items() if slot is not None}
        self.streams = [space for space in sums if self._spans_layers(space)]
        homes = set(map(self._home, self.streams))
        self._slots = {one: slot for one, slot in self._slots.items() if slot.home in homes}
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
            return Place("", layer, before=one.is_table)
        if slot is None:
            tower = self._towers[streams[0]] if streams else self._nearest(one)
            return Place(tower, None, before=self._order[one] < self._begins(tower))
        own = [stream for stream in (*streams, *self.streams) if self._home(stream) == slot.home]
        return Place(self._towers[own[0]], slot.number)

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
            rest, expert = _apart_from_expert(_tokens(one.tensor) if slot is None else slot.rest)
            self.places[one] = replace(place, expert=expert)
            groups.setdefault((place.tower, slot is None), {}).setdefault(_joined(rest), []).append(one)
        for members in groups.values():
            for rest, maps in members.items():
                part = _shortest(rest, members) if self._templates else _without_numbers(rest)
                for one in maps:
                    kind = "convolution" if one.kernel > 1 else "linear"
                    named = kind + part if not part or part.isdecimal() else part
                    self.places[one] = replace(self.places[one], part=named)


def _layer_templates(sums: list[Coupled], maps: Iterable[LinearMap]) -> set[tuple[str, ...]]:
    """What stands before the numbers that count layers: along a stream each has one, or else any blocks are taken."""
    if not sums:
        return set()
    found = set()
    for space in sums:
        repeats = _repeats(end.map.tensor for end in space.side(Side.WRITE))
        most = max(repeats, key=lambda slot: (repeats[slot], -len(slot.home)), default=None)
        found |= {most.template} if most is not None else set()
    blocks = _repeats(one.tensor for one in maps)
    return found or {slot.template for slot in blocks if slot.rest}


def _repeats(tensors: Iterable[str]) -> dict[_Slot, int]:
    """How many names repeat others but for the number in a slot; slots are given with one of their numbers."""
    numbers: dict[tuple[tuple[str, ...], str], dict[tuple[str, ...], dict[int, _Slot]]] = {}
    for tensor in tensors:
        for slot in _slots(tensor):
            numbers.setdefault((slot.home, slot.word), {}).setdefault(slot.rest, {})[slot.number] = slot
    repeats = {}
    for by_rest in numbers.values():
        count = sum(len(slots) - 1 for slots in by_rest.values())
        if count:
            most = max(by_rest.values(), key=len)
            repeats[next(iter(most.values()))] = count
    return repeats


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
    short = [("stages", *tokens[1:]) if tokens[:1] == ("layers",) else tokens for tokens in short]
    labels = [
        ".".join(_without_last_word(tokens)) or ".".join(home[-1:]) or "main"
        for tokens, home in zip(short, homes, strict=True)
    ]
    labels = [
        label if homes.count(home) == labels.count(label) else ".".join(tokens)
        for label, tokens, home in zip(labels, short, homes, strict=True)
    ]
    # Several streams along the same layers are numbered.
    seen: Counter[str] = Counter()
    numbered = []
    for label in labels:
        seen[label] += 1
        numbered.append(label if labels.count(label) == 1 else f"{label}.{seen[label]}")
    return numbered


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


def _apart_from_expert(tokens: tuple[str, ...]) -> tuple[tuple[str, ...], int | None]:
    """What is left of a name without the number of an expert, and that number."""
    for place, (word, number) in enumerate(pairwise(tokens)):
        if _EXPERTS.search(word) and number.isdecimal():
            return (*tokens[:place], *tokens[place + 2 :]), int(number)
    return tokens, None


def _without_numbers(rest: tuple[str, ...]) -> str:
    words = [word for token in rest if (word := token.rstrip("0123456789"))]
    return words[-1] if words else ""


def _shortest(rest: tuple[str, ...], others: Mapping[tuple[str, ...], object]) -> str:
    """The shortest ending that no other name has, written as one word."""
    endings = (rest[start:] for start in reversed(range(len(rest))))
    alone = (end for end in endings if sum(other[-len(end) :] == end for other in others) == 1)
    return "_".join(next(alone, rest))
