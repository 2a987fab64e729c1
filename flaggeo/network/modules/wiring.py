"""The spaces of a module: which ends of its maps face each of them, and what activations pass on the way."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import takewhile
from time import monotonic

import networkx as nx
from torch import nn

from ..spaces import Side, Symmetry
from ..symmetries import Allowed, meet
from .linear_maps import LinearMap, Parameters
from .probing import Link, Pattern, Questioner
from .recording import Path, Recording, record
from .replaying import Point
from .running import Inputs, evaluating
from .steps import Norm, Step, allowed_between, allowed_by, allowed_on_the_way, along

#: How long a module is asked at most, in seconds.
PATIENCE = 120.0


class ImpatientError(Exception):
    """A module with so many maps that to ask for all of them takes too long."""


@dataclass(frozen=True)
class End:
    """One end of a map, in a space.

    Attributes
    ----------
    map : LinearMap
    side : Side
    steps : tuple of Step
        What activations pass between the map and the next sum or map, in the order of the signal.
    pattern : Pattern
        Where the coordinates of the space are among the columns of the map, if it reads.
    is_whole : bool
        Whether it reads nothing else.
    """

    map: LinearMap
    side: Side
    steps: tuple[Step, ...] = ()
    pattern: Pattern = field(default_factory=Pattern)
    is_whole: bool = True


@dataclass(frozen=True)
class Coupled:
    """Ends of maps that lie in one space.

    Attributes
    ----------
    dim : int
    ends : tuple of End
        In the order in which the maps are applied, what reads before what writes.
    is_sum : bool
        Whether the outputs of several maps are added in it.
    points : frozenset of str
        ``input`` and ``output`` where it is seen from outside of the module.
    on_the_way : tuple of Step
        What the sums themselves pass before others are added to them.
    """

    dim: int
    ends: tuple[End, ...]
    is_sum: bool
    points: frozenset[str]
    on_the_way: tuple[Step, ...]

    def side(self, side: Side) -> list[End]:
        """The ends that read it, or those that write to it."""
        return [end for end in self.ends if end.side is side]

    @property
    def is_data(self) -> bool:
        """Whether it is what the module is given or returns, and nothing between two maps."""
        return bool(self.points) and not (self.side(Side.READ) and self.side(Side.WRITE)) and not self.is_sum

    @property
    def is_open(self) -> bool:
        """Whether nothing is known of what lies at its other end."""
        return not self.is_data and not self.is_sum and not (self.side(Side.READ) and self.side(Side.WRITE))

    @property
    def symmetry(self) -> Allowed:
        """Changes of basis that it allows, and whether that is only assumed."""
        if self.is_data:
            return Symmetry.TRIVIAL, False
        if self.is_open:
            return Symmetry.GENERAL_LINEAR, True
        if not self.is_sum:
            return allowed_between(step for end in self.ends for step in end.steps)
        read = [allowed_on_the_way(end.steps) for end in self.side(Side.READ)]
        written = [_allowed_after(step) for end in self.side(Side.WRITE) for step in end.steps]
        return meet([*read, *written, *map(_allowed_in_the_stream, self.on_the_way)])


def _allowed_after(step: Step) -> Allowed:
    """Changes of basis of a stream that a step behind a map leaves possible, before the output is added."""
    if isinstance(step, Norm) and step.gain is not None and step.kind != "batch":
        # No weight can take that gain over, and signed permutations alone keep it diagonal.
        symmetry, assumed = allowed_by(step)
        return meet([(symmetry, assumed), (Symmetry.SIGNED_PERMUTATION, False)])
    return allowed_by(step)


def _allowed_in_the_stream(step: Step) -> Allowed:
    """The same of a step that the stream itself passes: it keeps the gains of its norms."""
    return (Symmetry.PERMUTATION, False) if isinstance(step, Norm) else allowed_by(step)


@dataclass(frozen=True)
class Wiring:
    """What a module does with its parameters.

    Attributes
    ----------
    recording : Recording
    coupled : tuple of Coupled
        Every space that a map reads or writes, but for those inside whole attentions.
    """

    recording: Recording
    coupled: tuple[Coupled, ...]


def find_wiring(module: nn.Module, inputs: Inputs) -> Wiring:
    """Run a module on an example and ask it which maps face which space.

    Raises
    ------
    UnsteadyModuleError
        If it returns other numbers each time.
    ImpatientError
        If to ask for all maps takes longer than `PATIENCE`.
    """
    parameters = Parameters(module)
    began = monotonic()
    with evaluating(module):
        recording = record(module, inputs, parameters)
        questioner = Questioner(module, inputs, parameters, recording)
        links = list(questioner.links_from_inputs())
        for number, writer in enumerate(recording.writers):
            if monotonic() - began > PATIENCE:
                raise ImpatientError(f"asked for {number} of {len(recording.writers)} maps in {PATIENCE:.0f} s")
            links += questioner.links_from(writer)
    return Wiring(recording, tuple(_coupled(recording, _apart(links))))


#: One end of a map, with the place of the space in what it reads, or an axis of other activations.
_Node = tuple[LinearMap, Side, Pattern] | Point


def _coupled(recording: Recording, links: list[Link]) -> Iterable[Coupled]:
    """Join the ends that links connect."""
    inside = {one for *projections, _ in recording.heads.values() for one in projections}
    read = _read_by(recording, links)
    graph: nx.Graph[_Node] = nx.Graph()
    for one in recording.maps:
        if one not in recording.heads and not one.is_table and one not in read:
            graph.add_node((one, Side.READ, Pattern()))
        if one not in inside:
            graph.add_node((one, Side.WRITE, Pattern()))
    for link in links:
        writer: _Node = link.writer if isinstance(link.writer, Point) else (link.writer, Side.WRITE, Pattern())
        if isinstance(link.reader, Point):
            if link.channels == link.width:
                graph.add_edge(writer, link.reader)
        elif link.pattern in read.get(link.reader, {}):
            graph.add_edge(writer, (link.reader, Side.READ, link.pattern))
    order = {one: number for number, one in enumerate(recording.maps)}
    for members in nx.connected_components(graph):
        points = frozenset(node.kind for node in members if isinstance(node, Point))
        ends = [node for node in members if not isinstance(node, Point)]
        ends.sort(key=lambda end: (order[end[0]], end[1] is Side.WRITE, end[2].offset))
        if ends:
            yield _space(recording, ends, read, points)


def _read_by(recording: Recording, links: Iterable[Link]) -> dict[LinearMap, dict[Pattern, Link]]:
    """How each map reads the spaces that it reads; nothing of those whose links contradict each other."""
    read: dict[LinearMap, dict[Pattern, Link]] = {}
    for link in links:
        if isinstance(link.reader, LinearMap):
            read.setdefault(link.reader, {})[link.pattern] = link
    paths = recording.read_through
    return {
        one: ways
        for one, ways in read.items()
        if _agree(list(ways.values())) and _can_be_cut(one, ways, paths[one].steps if one in paths else ())
    }


def _apart(links: list[Link]) -> list[Link]:
    """Links with each channel several times taken apart, where others reach only some of these."""
    parts = {link.reader for link in links if not link.is_whole}
    found = []
    for link in links:
        several = link.reader in parts and link.pattern.positions_first
        places = range(link.pattern.positions) if several else ()
        found += [replace(link, pattern=Pattern(offset=place * link.channels)) for place in places] or [link]
    return found


def _agree(links: list[Link]) -> bool:
    """Whether a map reads one space, or several side by side."""
    if len(links) == 1:
        return True
    links = sorted(links, key=lambda link: link.pattern.offset)
    ends = [0, *(link.pattern.offset + link.channels for link in links)]
    return all(
        link.pattern.positions == 1 and not link.is_whole and end <= link.pattern.offset
        for end, link in zip(ends, links, strict=False)
    )


def _can_be_cut(one: LinearMap, ways: Iterable[Pattern], steps: Iterable[Step]) -> bool:
    """Whether the columns of a flattened image can be told apart: no norm may have taken all of them together."""
    normed = any(isinstance(step, Norm) and step.size == one.reads for step in steps)
    return all(way.positions == 1 for way in ways) or (one.kernel == 1 and not one.transposed and not normed)


def _space(
    recording: Recording,
    ends: list[tuple[LinearMap, Side, Pattern]],
    read: dict[LinearMap, dict[Pattern, Link]],
    points: frozenset[str],
) -> Coupled:
    writers = {one for one, side, _ in ends if side is Side.WRITE}
    added = writers & recording.added
    is_sum = len(added) > 1 or (bool(added) and "input" in points)
    first, side, pattern = ends[0]
    link = read.get(first, {}).get(pattern)
    dim = first.writes if side is Side.WRITE else first.reads if link is None else link.channels
    passed = (along(steps, dim) for origins, steps in recording.on_stream if origins & writers)
    return Coupled(
        dim,
        tuple(_end(recording, end, read, is_sum=is_sum) for end in ends),
        is_sum,
        points & {"input", "output"},
        tuple(dict.fromkeys(step for steps in passed for step in steps)),
    )


def _end(
    recording: Recording,
    end: tuple[LinearMap, Side, Pattern],
    read: dict[LinearMap, dict[Pattern, Link]],
    *,
    is_sum: bool,
) -> End:
    one, side, pattern = end
    if side is Side.WRITE:
        return End(one, side, along(recording.written_through.get(one, ()), one.writes))
    link = read.get(one, {}).get(pattern)
    path = recording.read_through.get(one, Path(frozenset()))
    steps = path.steps
    if is_sum and not path.summed:
        # What the output of the map before passes too, before it is added to others, lies before the space.
        before = max((_shared(steps, recording.written_through.get(origin, ())) for origin in path.origins), default=0)
        steps = steps[before:]
    sizes = (one.reads,) if link is None else (one.reads, link.channels)
    return End(one, side, along(steps, *sizes), pattern, link is None or link.is_whole)


def _shared(steps: tuple[Step, ...], others: tuple[Step, ...]) -> int:
    """How many steps are the same from the first on."""
    return len(list(takewhile(lambda pair: pair[0] == pair[1], zip(steps, others, strict=False))))
