"""The spaces of a module: which ends of its maps face each of them, and what activations pass on the way."""

from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic

from torch import nn

from ..spaces import Side, Symmetry
from .linear_maps import LinearMap, Parameters
from .probing import Link, Point, Questioner
from .recording import Inputs, Path, Recording, evaluating, record
from .steps import Allowed, Function, Gate, Norm, Step, allowed_between, allowed_by, allowed_on_the_way, meet

#: How long a module is asked at most, in seconds.
PATIENCE = 60.0


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
    positions : int
        Columns for each coordinate of the space: several where an image is flattened before it is read.
    positions_first : bool
        As in `Link`.
    """

    map: LinearMap
    side: Side
    steps: tuple[Step, ...] = ()
    positions: int = 1
    positions_first: bool = False


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
        written = [allowed_after(step) for end in self.side(Side.WRITE) for step in end.steps]
        return meet([*read, *written, *map(_allowed_in_the_stream, self.on_the_way)])


def allowed_after(step: Step) -> Allowed:
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
    return Wiring(recording, tuple(_coupled(recording, links)))


#: One end of a map, or an axis of other activations.
_Node = tuple[LinearMap, Side] | Point


def _coupled(recording: Recording, links: Iterable[Link]) -> Iterable[Coupled]:
    """Join the ends that links connect."""
    inside = {projection for queries, keys, values, _ in recording.heads.values() for projection in (queries, keys, values)}
    readings = {end: link for end, link in _readings(recording, links).items() if end[0] not in recording.heads}
    groups = _Groups()
    for one in recording.maps:
        if one not in recording.heads and not one.is_table:
            groups.add((one, Side.READ))
        if one not in inside:
            groups.add((one, Side.WRITE))
    for link in links:
        reader: _Node = link.reader if isinstance(link.reader, Point) else (link.reader, Side.READ)
        writer: _Node = link.writer if isinstance(link.writer, Point) else (link.writer, Side.WRITE)
        taken = link.positions == 1 if isinstance(reader, Point) else reader in readings
        if taken:
            groups.unite(writer, reader)
    order = {one: number for number, one in enumerate(recording.maps)}
    for members in groups.members():
        ends = [node for node in members if not isinstance(node, Point)]
        if ends:
            ends.sort(key=lambda end: (order[end[0]], end[1] is Side.WRITE))
            yield _space(recording, [_end(recording, end, readings) for end in ends], members)


def _readings(recording: Recording, links: Iterable[Link]) -> dict[tuple[LinearMap, Side], Link]:
    """How each map reads a space; none where several links disagree."""
    found: dict[tuple[LinearMap, Side], set[tuple[int, bool]]] = {}
    example: dict[tuple[LinearMap, Side], Link] = {}
    for link in links:
        if not isinstance(link.reader, Point):
            end = (link.reader, Side.READ)
            found.setdefault(end, set()).add((link.positions, link.positions_first))
            example[end] = link
    return {
        end: example[end]
        for end, ways in found.items()
        if len(ways) == 1 and _can_be_unfolded(example[end], recording.read_through.get(end[0]))
    }


def _can_be_unfolded(link: Link, path: Path | None) -> bool:
    """Whether columns at several positions can be told apart: no norm over all of them may lie between."""
    assert isinstance(link.reader, LinearMap)
    normed = path is not None and any(isinstance(step, Norm) for step in path.steps[-1:])
    return link.positions == 1 or (link.reader.kernel == 1 and not link.reader.transposed and not normed)


def _end(recording: Recording, end: tuple[LinearMap, Side], readings: dict[tuple[LinearMap, Side], Link]) -> End:
    one, side = end
    if side is Side.WRITE:
        return End(one, side, recording.written_through.get(one, ()))
    path, link = recording.read_through.get(one), readings.get(end)
    steps = () if path is None else path.steps
    return End(one, side, steps) if link is None else End(one, side, steps, link.positions, link.positions_first)


def _space(recording: Recording, ends: list[End], members: Iterable[_Node]) -> Coupled:
    writers = {end.map for end in ends if end.side is Side.WRITE}
    first = ends[0]
    dim = first.map.writes if first.side is Side.WRITE else first.map.reads // first.positions
    passed = (steps for origins, steps in recording.on_stream if origins & writers)
    return Coupled(
        dim,
        tuple(ends),
        is_sum=len(writers & recording.added) > 1 or _adds_to_input(writers & recording.added, members),
        points=frozenset(node.kind for node in members if isinstance(node, Point) and node.kind in ("input", "output")),
        on_the_way=tuple(dict.fromkeys(step for steps in passed for step in steps)),
    )


def _adds_to_input(added: set[LinearMap], members: Iterable[_Node]) -> bool:
    """Whether something is added to what the module is given, which is then a stream of one writer at least."""
    return bool(added) and any(isinstance(node, Point) and node.kind == "input" for node in members)


class _Groups:
    """Nodes of which some are known to be in one space."""

    def __init__(self) -> None:
        self._parents: dict[_Node, _Node] = {}

    def add(self, node: _Node) -> None:
        self._parents.setdefault(node, node)

    def _root(self, node: _Node) -> _Node:
        while self._parents[node] != node:
            node = self._parents[node]
        return node

    def unite(self, one: _Node, other: _Node) -> None:
        self.add(one)
        self.add(other)
        self._parents[self._root(other)] = self._root(one)

    def members(self) -> Iterable[list[_Node]]:
        found: dict[_Node, list[_Node]] = {}
        for node in self._parents:
            found.setdefault(self._root(node), []).append(node)
        return found.values()
