"""From the tensors of one tower to its weights."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from ...checkpoint import CheckpointError
from ..architecture import Architecture
from ..families.record import Piece
from ..quiver import Weight
from ..roles import ROLES, BlockKind, HeadGroup, in_tower, roles_in
from ..spaces import Space, SpaceKind, Symmetry
from ..splits import Split
from .expectations import absent_roles, require_declared_depth, require_declared_widths, require_whole_blocks
from .head_counts import HeadCounts, Segment, segment
from .tower_tensors import Place, TowerTensors, mismatch, unfolded

# GGUF architectures whose query and key rows are interleaved for the rotary kernels.
_ROTARY_ROWS_IN_GGUF = frozenset({"llama"})


class TowerReader:
    """Builds the weights along one stream; holds what is the same for all its layers.

    Parameters
    ----------
    tensors : TowerTensors
    before : int
        Number of towers that come before.

    Attributes
    ----------
    stream : Space
    remarks : list of str
        What readers of the numbers should know; complete once all `weights` are built.
    """

    def __init__(self, tensors: TowerTensors, before: int) -> None:
        require_declared_depth(tensors)
        self.tensors, self.before = tensors, before
        self.label, self.checkpoint, self.settings = tensors.label, tensors.checkpoint, tensors.settings
        self.architecture = Architecture(
            self.checkpoint, tensors.structure, tensors.tower, self.settings, tensors.pieces
        )
        symmetry, assumed = self.architecture.stream
        name = in_tower(self.label, "stream")
        self.stream = Space(name, SpaceKind.STREAM, tensors.width, symmetry, assumed=assumed)
        self.remarks = require_declared_widths(tensors)
        gguf = self.checkpoint.naming == "gguf"
        self.rotary_rows = gguf and not _ROTARY_ROWS_IN_GGUF.isdisjoint(self.settings.model_types)

    @property
    def embedding(self) -> str | None:
        """Name of its table of tokens; None where it has none."""
        tables = (role for layer, role, _ in self.tensors.at if layer is None and role in roles_in(BlockKind.EMBEDDING))
        return next((in_tower(self.label, role) for role in tables), None)

    def weights(self, streams: Mapping[str, Space]) -> Iterator[Weight]:
        """All weights of the tower, in order of depth; `streams` are those of all towers."""
        self.streams = streams
        require_whole_blocks(self.tensors)
        self.remarks += absent_roles(self.tensors)
        yield from self._tables(BlockKind.EMBEDDING)
        by_layer: dict[int | None, list[Place]] = {}
        for place in self.tensors.at:
            by_layer.setdefault(place[0], []).append(place)
        for layer in self.tensors.layers:
            yield from self._layer(layer, by_layer[layer])
        yield from self._tables(BlockKind.UNEMBEDDING)

    def _tables(self, block: BlockKind) -> Iterator[Weight]:
        for place, one in self.tensors.at.items():
            record = self.tensors.role(place)
            if place[0] is not None or record.block is not block:
                continue
            rows, columns = self.tensors.matrix(place)
            lookup = self.tensors.is_lookup(place)
            size, width = (rows, columns) if lookup or not record.writes_to_stream else (columns, rows)
            if width != self.stream.dim:
                reason = f"its width {width} is not the stream's {self.stream.dim}: a projection lies between"
                self.tensors.reasons[one.tensor] = reason
                continue
            kernel = unfolded(self.tensors.piece(place), self.tensors.shape(place))
            kind = SpaceKind.VOCABULARY if kernel is None else SpaceKind.PATCHES
            inner = Space(in_tower(self.label, kind.value) if kernel else kind.value, kind, size, Symmetry.TRIVIAL)
            split = Split(unfolded=kernel, transposed=lookup and record.writes_to_stream)
            yield self._weight(place, inner, split)

    def _layer(self, layer: int, places: list[Place]) -> Iterator[Weight]:
        tensors = self.tensors
        places = sorted(places, key=lambda place: (ROLES.index(tensors.piece(place).role), place[1], place[2] or 0))
        self._require_widths([place for place in places if tensors.piece(place).cut is None], {})
        counts = {
            block: self._head_counts(layer, [place for place in places if tensors.role(place).block is block])
            for block in dict.fromkeys(tensors.role(place).block for place in places)
        }
        segments = {place: self._segment(place, counts[tensors.role(place).block]) for place in places}
        places = [place for place in places if tensors.at[place].tensor not in tensors.reasons]
        self._require_widths(places, segments)
        meetings: dict[tuple[BlockKind, SpaceKind], dict[Piece, None]] = {}
        for place in places:
            role = tensors.role(place)
            meetings.setdefault((role.block, role.inner), {})[tensors.piece(place)] = None
        for place in places:
            role = tensors.role(place)
            meeting = meetings[role.block, role.inner]
            yield from self._projection(place, list(meeting), counts[role.block], segments)

    def _segment(self, place: Place, heads: HeadCounts | None) -> Segment | None:
        """The rows of a place in a tensor that it shares; None where it has the tensor for itself."""
        name, piece = self.tensors.at[place].tensor, self.tensors.piece(place)
        if piece.cut is None:
            return None
        rows, _ = self.tensors.matrix(place)
        try:
            found = segment(piece.cut, piece.role, rows, heads, self.settings.count)
        except ValueError as error:
            raise mismatch(self.checkpoint, name, str(error), f"{rows} rows") from error
        if found is None:
            shared = ", ".join(role for role in piece.cut.order if role)
            self.tensors.reasons[name] = f"the rows of {shared} cannot be told apart without the number of heads"
        return found

    def _require_widths(self, places: list[Place], segments: Mapping[Place, Segment | None]) -> None:
        """All face their stream; roles that meet in a space, or have equally many heads, are equally wide there too."""
        expected: dict[object, int] = {}
        for place in places:
            record = self.tensors.role(place)
            stream = self._source_stream(self.tensors.piece(place)).dim
            facing = self.tensors.facing(place)
            if facing != stream:
                self.tensors.require(place, "a stream width", stream, facing, self._witness(stream, place))
            width = self.tensors.inner_width(place, segments)
            if record.inner is SpaceKind.HIDDEN or record.heads:
                of_heads = "an input width" if record.writes_to_stream else "a height"
                group = (record.block, record.inner, record.heads, place[2])
                what = of_heads if record.heads else "a hidden width"
                self.tensors.require(place, what, expected.setdefault(group, width), width)

    def _witness(self, width: int, place: Place) -> str:
        """Another weight of the layer that faces a stream of this width."""
        beside = [(at, one) for at, one in self.tensors.at.items() if at[0] == place[0]]
        return next((f"as that of {one.tensor}" for at, one in beside if self.tensors.facing(at) == width), "")

    def _source_stream(self, piece: Piece) -> Space:
        """The stream that a piece faces."""
        return self.stream if piece.reads_tower is None else self.streams[piece.reads_tower]

    def _projection(
        self,
        place: Place,
        meeting: list[Piece],
        heads: HeadCounts | None,
        segments: Mapping[Place, Segment | None],
    ) -> Iterator[Weight]:
        """A whole projection, and its heads where it has some; `meeting` are the pieces of all that share its space."""
        layer, role, expert = place
        piece, own, record = self.tensors.piece(place), segments[place], self.tensors.role(place)
        assert layer is not None
        symmetry, assumed = self.architecture.inside(record.inner, layer, meeting)

        def space(name: str, dim: int, *, concatenated: bool = False) -> Space:
            part = "" if ":" not in role else "." + role.partition(":")[2]
            beside = f"{record.place}." if record.place and record.place != name else ""
            inside = "" if expert is None else f"experts.{expert}."
            full = in_tower(self.label, f"layers.{layer}.{inside}{beside}{name}{part}")
            return Space(full, record.inner, dim, symmetry, layer, assumed, concatenated)

        dim = self.tensors.inner_width(place, segments)
        shape = self.tensors.shape(place)
        split = Split(
            expert=expert if piece.stacked else None,
            unfolded=unfolded(piece, shape[1:] if piece.stacked else shape),
            transposed=piece.transposed,
            groups=1 if own is None else own.groups,
            rows=None if own is None else own.rows,
        )
        if record.heads is None:
            plain = record.inner.value if record.inner in (SpaceKind.HIDDEN, SpaceKind.EXPERTS) else record.place
            yield self._weight(place, space(plain, dim), split)
            return
        count = 0 if heads is None else heads.of[record.heads]
        width = dim // count if count else None
        rotary = count if self.rotary_rows and record.inner is SpaceKind.KEYS else 0
        whole = replace(split, rotary_heads=rotary)
        yield self._weight(place, space(record.concatenation, dim, concatenated=True), whole, head_width=width)
        for head in range(count):
            assert heads is not None
            assert width is not None
            span = (head * width, (head + 1) * width) if own is None else own.of_head(head)
            inner = space(f"heads.{heads.group_of(record, head)}.{record.inner.value}", width)
            cut = replace(whole, columns=span) if record.writes_to_stream else replace(whole, groups=1, rows=span)
            yield self._weight(place, inner, cut, head=head, head_width=width)

    def _weight(
        self, place: Place, inner: Space, split: Split, *, head: int | None = None, head_width: int | None = None
    ) -> Weight:
        """A weight, or a head of it, between the stream and another space."""
        layer, role, expert = place
        one, piece = self.tensors.at[place], self.tensors.piece(place)
        stream = self._source_stream(piece)
        source, target = (inner, stream) if self.tensors.role(place).writes_to_stream else (stream, inner)
        rows, columns = self.tensors.matrix(place)
        whole = (
            {"source": rows, "target": columns}
            if self.tensors.is_lookup(place) and split.transposed
            else {"source": columns, "target": rows}
        )
        if piece.cut is not None and head_width is not None:
            whole["target"] = head_width * (rows // head_width)
        folding = self.architecture.folding(piece, one.numbers, **whole, head_width=head_width)
        after = None
        if piece.after is not None:
            stored = self.tensors.shape(place)
            after = self.architecture.latent(piece, one.numbers, stored[0] if piece.transposed else stored[1])
        name = in_tower(self.label, ("" if layer is None else f"layers.{layer}.") + role)
        name += "" if expert is None else f".experts.{expert}"
        name += "" if head is None else f".heads.{head}"
        return Weight(
            name,
            in_tower(self.label, role),
            layer,
            head,
            source,
            target,
            one.tensor,
            split,
            folding,
            expert,
            after,
            self.before,
        )

    def _head_counts(self, layer: int, places: list[Place]) -> HeadCounts | None:
        """Head counts by the shapes; the settings only say how many query heads there are."""
        first: dict[HeadGroup, Place] = {}
        for place in places:
            group = self.tensors.role(place).heads
            if group is not None:
                first.setdefault(group, place)
        if not first:
            return None
        setting = self.tensors.tower.heads or "num_attention_heads"
        number = self.tensors.numbers.get("stage", layer)  # in a setting that lists one for each
        query = self.settings.count(setting, number) or self.settings.count("num_attention_heads", number)
        if query is None or not self.tensors.is_described:
            self.remarks.append(f"the number of heads is unknown (no {setting} in the settings): heads are not split")
            return None
        declared = self.settings.count(self.tensors.tower.key_value_heads, number)
        counts = {HeadGroup.QUERY: query, HeadGroup.KEY_VALUE: declared or query}
        plain = {group: place for group, place in first.items() if self.tensors.piece(place).cut is None}
        if plain:
            counts = self._checked_counts(plain, counts, declared)
        if query % counts[HeadGroup.KEY_VALUE]:
            raise CheckpointError(
                f"{self.checkpoint.location}: expected key-value heads whose number divides that of the {query} query "
                f"heads, found {counts[HeadGroup.KEY_VALUE]}"
            )
        return HeadCounts(counts)

    def _checked_counts(
        self, places: Mapping[HeadGroup, Place], counts: dict[HeadGroup, int], declared: int | None
    ) -> dict[HeadGroup, int]:
        """Counts of heads whose projections have a tensor each, by their heights."""
        group = HeadGroup.QUERY if HeadGroup.QUERY in places else HeadGroup.KEY_VALUE
        height = self.tensors.inner_width(places[group], {})
        width, rest = divmod(height, counts[group])
        if rest:
            tensor = self.tensors.at[places[group]].tensor
            raise mismatch(self.checkpoint, tensor, f"a height divisible by {counts[group]} heads", f"{height}")
        query = counts[HeadGroup.QUERY]
        if HeadGroup.KEY_VALUE in places and HeadGroup.QUERY in places:
            place = places[HeadGroup.KEY_VALUE]
            tensor = self.tensors.at[place].tensor
            height = self.tensors.inner_width(place, {})
            key_value, rest = divmod(height, width)
            if rest or not key_value or query % key_value:
                expected = f"a height that is {width} (the head width) times a divisor of {query} heads"
                raise mismatch(self.checkpoint, tensor, expected, f"{height}")
            if declared not in (None, key_value):
                raise mismatch(self.checkpoint, tensor, f"{declared} key-value heads of width {width}", f"{key_value}")
            return {**counts, HeadGroup.KEY_VALUE: key_value}
        return counts
