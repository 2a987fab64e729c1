"""From any module and an example of its input to a `Network`."""

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from torch import nn

from ...checkpoint import Checkpoint, CheckpointError
from ..families.lookup import INFERRED, Structure, find_structure
from ..folding import Folding, Gain
from ..quiver import Network, Weight
from ..reading import read_network
from ..reading.settings_by_name import SettingsByName
from ..roles import ROLE_RECORDS, BlockKind, in_tower, roles_in, tower_of
from ..spaces import Side, Space, SpaceKind, Symmetry
from ..splits import Split
from .example import Example, NoExampleError, find_inputs
from .leftovers import remarks, skipped
from .linear_maps import LinearMap
from .placing import Place, Placing
from .probing import Pattern, UnsteadyModuleError
from .steps import Norm, Scale, Step
from .wiring import Coupled, End, ImpatientError, Wiring, find_wiring


def load_module(module: nn.Module, checkpoint: Checkpoint, example: Example | None = None) -> Network:
    """Read a module by its names where they say what it is, and otherwise by running it; see `read_module`.

    Raises
    ------
    CheckpointError
        As `read_module` and `read_network` do.
    """
    settings = SettingsByName(checkpoint)
    structure = find_structure(checkpoint, settings.model_types, settings)
    if structure is not None and (structure.known or (example is None and _explains(structure, checkpoint))):
        return read_network(checkpoint)
    try:
        return read_module(module, checkpoint, example)
    except NoExampleError:
        if structure is None:
            raise
        return read_network(checkpoint)


def _explains(structure: Structure, checkpoint: Checkpoint) -> bool:
    """Whether a table knows every matrix by its name."""
    placed = {one.tensor for one in structure.names.placed}
    matrices = {name for name, header in checkpoint.headers.items() if len(header.shape) > 1}
    return structure.name != INFERRED and matrices <= placed


def read_module(module: nn.Module, checkpoint: Checkpoint, example: Example | None = None) -> Network:
    """Run a module on an example and build the quiver of its linear, convolution, embedding and attention layers.

    Parameters
    ----------
    module : nn.Module
        Left as it was.
    checkpoint : Checkpoint
        Its tensors.
    example : Tensor, sequence or mapping, optional
        What the module is called with: one tensor, several in order, or several by name. Without it an input is made
        up where torch.fx can trace the module.

    Returns
    -------
    network : Network
        Weights by tower and layer, in the order in which they are applied.

    Raises
    ------
    NoExampleError
        If no input could be made up.
    CheckpointError
        If the module does not run on the example, applies no layer that is known,
        computes other numbers each time, or is too large to be asked.
    """
    name = type(module).__name__
    inputs = find_inputs(module, example)
    try:
        wiring = find_wiring(module, inputs)
    except (UnsteadyModuleError, ImpatientError) as error:
        raise CheckpointError(f"{name}: {error}") from error
    except Exception as error:  # whatever the module raises where its input is not what it expects
        raise CheckpointError(f"{name}: expected an example that it runs on, found {_one_line(error)}") from error
    if not wiring.recording.calls:
        raise CheckpointError(f"{name}: expected a linear, convolution or embedding layer, found none that it applies")
    reader = _Reader(checkpoint, wiring)
    weights = tuple(sorted(reader.weights(), key=lambda weight: weight.stage))
    for weight in weights:
        checkpoint.require_readable(weight.tensor)
    return Network(
        name, checkpoint, weights, tuple(skipped(checkpoint, wiring.recording, weights)), tuple(remarks(weights))
    )


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class _Reader:
    """Builds the weights of one module."""

    def __init__(self, checkpoint: Checkpoint, wiring: Wiring) -> None:
        self._checkpoint, self._recording, self._coupled = checkpoint, wiring.recording, wiring.coupled
        self._placing = Placing(wiring)
        self._towers = {label: number for number, label in enumerate(self._placing.towers)}
        self._order = {one: number for number, one in enumerate(wiring.recording.maps)}
        self._ends: dict[tuple[LinearMap, Side], list[tuple[Coupled, End]]] = {}
        for space in wiring.coupled:
            for end in space.ends:
                self._ends.setdefault((end.map, end.side), []).append((space, end))
        for ends in self._ends.values():
            ends.sort(key=lambda one: one[1].pattern.offset)
        self._spaces = {space: self._space(space) for space in wiring.coupled}

    # Spaces

    def _base(self, one: LinearMap) -> str:
        """What the spaces inside its layer are called by."""
        place = self._placing.places[one]
        within = place.part if place.expert is None else f"experts.{place.expert}.{place.part}"
        return in_tower(place.tower, within if place.layer is None else f"layers.{place.layer}.{within}")

    def _space(self, coupled: Coupled) -> Space:
        symmetry, assumed = coupled.symmetry
        first = coupled.ends[0]
        if coupled in self._placing.streams:
            tower = self._placing.tower_of(coupled)
            alike = [other for other in self._placing.streams if self._placing.tower_of(other) == tower]
            number = "" if len(alike) == 1 else str(1 + alike.index(coupled))
            name = in_tower(in_tower(tower, number) if tower and number else tower or number, "stream")
            return Space(name, SpaceKind.STREAM, coupled.dim, symmetry, assumed=assumed)
        if coupled.is_data:
            alike = [other for other in self._coupled if other.is_data and other.points == coupled.points]
            name = min(coupled.points)
            name = name if len(alike) == 1 else f"{self._base(first.map)}.{name}"
            return Space(name, SpaceKind.DATA, coupled.dim, symmetry)
        kind = SpaceKind.MIXED if coupled.is_open else SpaceKind.HIDDEN
        name = self._base(first.map) + ("" if first.side is Side.WRITE else ".source")
        return Space(name, kind, coupled.dim, symmetry, self._placing.places[first.map].layer, assumed)

    def _facing(self, one: LinearMap, side: Side) -> Space:
        return self._spaces[self._ends[one, side][0][0]]

    # Weights

    def weights(self) -> Iterator[Weight]:
        """All weights, in no order. A parameter that several maps apply is counted once."""
        found: list[Weight] = []
        inside, counted = set(), set(self._checkpoint.aliases)
        for output, (queries, keys, values, count) in self._recording.heads.items():
            inside |= {output, queries, keys, values}
            yield from self._attention(output, (queries, keys, values), count)
        for one in self._order:
            if one not in inside and one.tensor not in counted:
                found += self._map(one)
                counted |= {one.tensor} if one.rows is None else set()
        plain = [weight.role.partition(":")[0] for weight in found if weight.layer is None]
        for weight in found:
            role = weight.role.partition(":")[0]
            if weight.layer is None and plain.count(role) == 1:  # one alone needs no further name
                weight = replace(weight, name=role, role=role)
            yield weight

    def _map(self, one: LinearMap) -> Iterator[Weight]:
        place, target, written = self._placing.places[one], self._facing(one, Side.WRITE), self._written(one)
        if one.is_table:
            tables = [other for other in self._order if other.is_table]
            name = "vocabulary" if len(tables) == 1 else f"{self._base(one)}.vocabulary"
            vocabulary = Space(name, SpaceKind.VOCABULARY, one.reads, Symmetry.TRIVIAL)
            yield self._weight(one, self._outside(place), vocabulary, target, written)
            return
        ends = self._ends[one, Side.READ]
        size = one.kernel * ends[0][1].pattern.positions
        for number, (coupled, end) in enumerate(ends):
            source, read = self._spaces[coupled], self._read(coupled, end)
            if size == 1:
                role = self._plain_role(source, target) if place.layer is not None else self._outside(place)
                folding = Folding(read.read, written.written, written.centred, read.reads_centred, read.passed)
                yield self._weight(one, role, source, target, folding, end=end, number=number)
            elif place.layer is not None or source.kind is SpaceKind.STREAM:
                yield self._reading(one, source, target, read, written, size, end=end, number=number)
        if size > 1:
            yield self._writing(one, target, written, size)

    @staticmethod
    def _plain_role(source: Space, target: Space) -> str:
        match source.kind is SpaceKind.STREAM, target.kind is SpaceKind.STREAM:
            case True, False:
                return "in"
            case False, True:
                return "out"
            case _:
                return "map"

    @staticmethod
    def _outside(place: Place) -> str:
        (before,), (behind,) = roles_in(BlockKind.EMBEDDING), roles_in(BlockKind.UNEMBEDDING)
        return before if place.before else behind

    def _reading(
        self,
        one: LinearMap,
        source: Space,
        target: Space,
        read: Folding,
        written: Folding,
        size: int,
        *,
        end: End,
        number: int,
    ) -> Weight:
        """The unfolding of a kernel that reads single channels; what leaves a stream belongs to its tower."""
        inside = self._placing.places[one].layer is not None
        role = roles_in(BlockKind.CONVOLUTION if inside else BlockKind.UNEMBEDDING)[0]
        gain = written.written and replace(written.written, each=size)
        seen = _patches(f"{self._base(one)}.out", target, size, unseen=written.centred)
        folding = Folding(read.read, gain, reads_centred=read.reads_centred, passed=read.passed)
        tower = None if inside else tower_of(source.name)
        return self._weight(one, role, source, seen, folding, unfolded=Side.READ, tower=tower, end=end, number=number)

    def _writing(self, one: LinearMap, target: Space, written: Folding, size: int) -> Weight:
        """The unfolding of a kernel that writes single channels."""
        place, ends = self._placing.places[one], self._ends[one, Side.READ]
        coupled, end = ends[0]
        read, name = self._read(coupled, end), f"{self._base(one)}.in"
        if end.is_whole:
            taken = _patches(name, self._spaces[coupled], size, unseen=read.reads_centred)
            gain = read.read and replace(read.read, each=size)
        else:
            taken = Space(name, SpaceKind.PATCHES, one.reads * size, Symmetry.GENERAL_LINEAR, place.layer, assumed=True)
            gain = None
        role = roles_in(BlockKind.CONVOLUTION)[1] if place.layer is not None else self._outside(place)
        folding = Folding(gain, written.written, written.centred)
        return self._weight(one, role, taken, target, folding, unfolded=Side.WRITE)

    def _weight(
        self,
        one: LinearMap,
        role: str,
        source: Space,
        target: Space,
        folding: Folding,
        *,
        unfolded: Side | None = None,
        tower: str | None = None,
        end: End | None = None,
        number: int = 0,
    ) -> Weight:
        place = self._placing.places[one]
        tower = place.tower if tower is None else tower
        part = place.part if end is None or end.is_whole else f"{place.part}_{number}"
        part += "_in" if place.layer is None and unfolded is Side.READ else ""
        for space, word in ((source, "from"), (target, "to")):
            other = tower_of(space.name)
            if place.layer is not None and space.kind is SpaceKind.STREAM and other != tower:
                part += f"_{word}_{other.replace('.', '')}"
        within = f"{role}:{part}"
        name = within if place.layer is None else f"layers.{place.layer}.{within}"
        name += "" if place.expert is None else f".experts.{place.expert}"
        return Weight(
            in_tower(tower, name),
            in_tower(tower, within),
            place.layer,
            None,
            source,
            target,
            one.tensor,
            self._split(one, unfolded, end),
            folding,
            place.expert,
            towers_before=self._towers[tower],
            position=self._order[one],
        )

    def _split(self, one: LinearMap, unfolded: Side | None, end: End | None) -> Split:
        if unfolded is None and len(self._checkpoint.headers[one.tensor].shape) > 2:
            unfolded = Side.WRITE
        elif unfolded is not None and one.transposed:
            unfolded = unfolded.other
        ends = self._ends.get((one, Side.READ), [])
        pattern = ends[0][1].pattern if ends else Pattern()
        dim = 0 if end is None or end.is_whole else self._facing_dim(one, end)
        return Split(
            positions=pattern.positions,
            positions_first=pattern.positions_first,
            unfolded=unfolded,
            transposed=one.transposed,
            rows=one.rows,
            columns=(end.pattern.offset, end.pattern.offset + dim) if end is not None and dim else None,
        )

    def _facing_dim(self, one: LinearMap, end: End) -> int:
        return next(space.dim for space, other in self._ends[one, Side.READ] if other is end)

    # Attention whose heads are known

    def _attention(self, output: LinearMap, projections: tuple[LinearMap, ...], count: int) -> Iterator[Weight]:
        """Queries, keys, values and outputs of one attention, whole and head by head."""
        target = self._facing(output, Side.WRITE)
        crosses = self._facing(projections[0], Side.READ) != self._facing(projections[1], Side.READ)
        block = BlockKind.CROSS_ATTENTION if crosses else BlockKind.ATTENTION
        place = self._placing.places[output]
        prefix = "" if place.layer is None else f"layers.{place.layer}."
        middle = "cross." if crosses else ""
        records = [ROLE_RECORDS[role] for role in roles_in(block) if ROLE_RECORDS[role].heads]
        for record, one in zip(records, (*projections, output), strict=True):
            role, writes = record.name, one is output
            folding = self._written(one) if writes else self._read(*self._ends[one, Side.READ][0])
            outer = target if writes else self._facing(one, Side.READ)
            dim = one.reads if writes else one.writes
            whole = Space(
                in_tower(place.tower, f"{prefix}{middle}{record.concatenation}"),
                record.inner,
                dim,
                Symmetry.GENERAL_LINEAR,
                place.layer,
                concatenated=True,
            )
            spans = [(head * dim // count, (head + 1) * dim // count) for head in range(count)]
            first = one.rows[0] if one.rows else 0
            for head, span in enumerate([None, *spans], start=-1):
                inner, split = whole, Split(rows=one.rows)
                if span is not None:
                    name = in_tower(place.tower, f"{prefix}{middle}heads.{head}.{record.inner.value}")
                    inner = Space(name, record.inner, dim // count, Symmetry.GENERAL_LINEAR, place.layer)
                    rows = (first + span[0], first + span[1])
                    split = Split(columns=span) if writes else Split(rows=rows)
                yield Weight(
                    in_tower(place.tower, f"{prefix}{role}" + ("" if span is None else f".heads.{head}")),
                    in_tower(place.tower, role),
                    place.layer,
                    None if span is None else head,
                    inner if writes else outer,
                    outer if writes else inner,
                    one.tensor,
                    split,
                    folding,
                    towers_before=self._towers[place.tower],
                    position=self._order[one],
                )

    # Norms

    def _read(self, space: Coupled, end: End) -> Folding:
        """What the norm before a map adds to it."""
        step = end.steps[-1] if end.steps else None
        gain = self._gain(step, space.dim, end)
        if not isinstance(step, Norm):
            return Folding(read=gain)
        centred = step.kind == "layer" and end.is_whole
        if step in space.on_the_way:
            return Folding(passed=gain, reads_centred=True) if centred else Folding()
        return Folding(read=gain, reads_centred=centred)

    def _written(self, one: LinearMap) -> Folding:
        """What the norm behind a map adds to it."""
        space, end = self._ends[one, Side.WRITE][0]
        step = end.steps[0] if end.steps else None
        read = [reading.steps for reading in space.side(Side.READ)]
        # What a map reads through at once is folded into that one.
        alone = not space.is_sum and any(steps[-1:] == end.steps for steps in read)
        gain = None if alone or step in space.on_the_way else self._gain(step, space.dim, end)
        unseen = bool(read) and "output" not in space.points and all(map(_begins_with_layer_norm, read))
        return Folding(written=gain, centred=unseen)

    def _gain(self, step: Step | None, dim: int, end: End) -> Gain | None:
        """The gain of a norm, or a scale, of every coordinate of a space."""
        tensor = step.gain if isinstance(step, Norm) else step.tensor if isinstance(step, Scale) else None
        size = 0 if tensor is None else prod(self._checkpoint.headers[tensor].shape)
        if tensor is None or size not in (dim, end.map.reads if end.side is Side.READ else dim):
            return None
        first = end.pattern.offset if size != dim else 0
        if isinstance(step, Norm):
            return Gain(tensor, step.offset, first, variance=step.variance, epsilon=step.epsilon)
        return Gain(tensor, first=first)


def _patches(name: str, space: Space, size: int, *, unseen: bool) -> Space:
    """Coordinates of a space at all positions of a kernel.

    Its changes of basis act on it at each position alike. What a layer norm does not see may be added besides.
    """
    symmetry, assumed = (Symmetry.GENERAL_LINEAR, True) if unseen else (space.symmetry, space.assumed)
    return Space(name, SpaceKind.PATCHES, space.dim * size, symmetry, space.depth, assumed)


def _begins_with_layer_norm(steps: tuple[Step, ...]) -> bool:
    return bool(steps) and isinstance(steps[0], Norm) and steps[0].kind == "layer"
