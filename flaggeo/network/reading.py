"""From a checkpoint's headers to a `Network`, with every shape checked and no tensor read."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, islice
from math import prod
from typing import Any

from ..checkpoint import Checkpoint, CheckpointError, Progress, shortened
from .architecture import Architecture
from .families.lookup import INFERRED, Structure, find_structure, why_not_by_type
from .families.names import Numbers, Placed, words_in
from .families.record import Norm, Piece, Record, Tower
from .head_counts import HeadCounts, Segment, segment
from .quiver import Network, Skipped, Weight
from .roles import COMPOSED, ROLE_RECORDS, ROLES, BlockKind, HeadGroup, in_tower, roles_in
from .spaces import Side, Space, SpaceKind, Symmetry
from .splits import Split

#: What is said of a tensor that is no weight, by the word that a record has for it.
REASONS = {
    "bias": "bias: a translation, not a linear map",
    "norm bias": "bias: a translation, not a linear map",
    "norm": "normalisation gain: a diagonal map, folded into no weight",
    "position table": "position table: its rows are added to the stream, not mapped",
    "segment table": "table of segments or the like: its rows are added to the stream, not mapped",
    "position": "works on positions, segments or other indices, not on activations, and writes to no stream",
    "added": "added to activations inside a block: a translation, not a linear map",
    "joined": "placed among the activations as it is, like a class token or an attention sink: not a map of them",
    "scale": "scale of each channel: a diagonal map, folded into the weights beside it on request",
    "multiplied": "multiplies activations entry by entry, or all by one number: a diagonal map",
    "state": "inside a block, where it neither reads nor writes the stream",
    "convolution": "convolution over positions, within channels or straight from the stream back to it",
    "stem": "before the first block: it prepares what enters the stream",
    "between": "leads into a stream, from the input or from another stream, and belongs to no block",
    "head": "outside the blocks: a head, or another part beside or behind the stream",
    "unused": "outside the blocks, and not used in a plain forward pass",
    "factor": "reads the stream only to scale or to mix what other weights write",
    "selection": "reads the stream only to choose which positions attention sees",
    "tower": "part of another tower, which is not read",
    "buffer": "a buffer, not a parameter: not counted",
    "second copy": "a second copy of a tensor that is stored under another name too",
    "other": "used in another way than as a linear map of activations",
}
# Numbers that a model stores beside its parameters, such as running means.
_BUFFER = "buffer"
# Of tensors outside of the model that a structure was derived from: what fine-tuning puts on top.
_HEADS = re.compile(r"pooler|classifier|seq_relationship|qa_outputs|score\.|(?:^|\.)(?:cls|lm_head|head)\.")
# Of layers that are missing so many are named.
_SHOWN = 4
# Settings by which layers lack keys or values, which they have in common with other layers or with each other.
_SHARING = ("num_kv_shared_layers", "attention_k_eq_v")
# Settings that give the width of a stream and of its hidden layers, in a section that has other settings of the tower.
_WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "emb_dim")
_HIDDEN_WIDTHS = ("intermediate_size", "ffn_dim", "d_ff", "n_inner")
# Model types whose code makes another width of the setting, or none.
_OTHER_HIDDEN_WIDTHS = frozenset({"lfm2", "lfm2_moe", "tipsv2"})
_FOLDED = "normalisation gain: a diagonal map, folded into the weights beside it on request"
_PASSED = "normalisation gain: a diagonal map; the stream comes after it, so it cannot be folded into any weight"
_WITHIN = "normalisation gain: a diagonal map between the two factors of a weight, always part of their product"
_ROTARY = "{left} of its {height} rows: the rotary part of queries and keys, one key for all heads, is not analysed"


class UnknownArchitectureError(CheckpointError):
    """The names of the tensors are those of no known structure."""


def read_network(
    checkpoint: Checkpoint, *, records: Sequence[Record] | None = None, progress: Progress | None = None
) -> Network:
    """Recognise the structure and build the quiver from names, shapes and settings.

    Parameters
    ----------
    checkpoint : Checkpoint
        Only its headers are used.
    records : sequence of Record, optional
        Structures that it may have; by default those of the table, and what transformers gives for a type it lacks.
    progress : callable, optional
        Is told where the structure has to be derived from the code of transformers, which takes some ten seconds.

    Returns
    -------
    network : Network
        Weights in order of depth by layer number, whatever their order in the file.

    Raises
    ------
    UnknownArchitectureError
        If the names are those of no known structure.
    CheckpointError
        If shapes disagree with each other or with the settings, a layer is missing, a norm has not as many
        gains as there are coordinates, or a weight is stored in a quantised dtype that cannot be undone.
    """
    settings = SettingsByName(checkpoint)
    structure = find_structure(checkpoint, settings.model_types, settings, records=records, progress=progress)
    if structure is None:
        raise _unknown(checkpoint, next(iter(settings.model_types), ""))
    reader = _Reader(checkpoint, structure, settings)
    weights = tuple(reader.weights())
    for weight in weights:
        checkpoint.require_readable(weight.tensor)
    _require_spaces(checkpoint, weights)
    remarks = (*structure.remarks, *dict.fromkeys(reader.remarks))
    skipped = (*_skipped(checkpoint, structure, reader, weights), *_rotary_rows(checkpoint, structure, weights))
    return Network(structure.name, checkpoint, weights, skipped, remarks, structure)


def _require_spaces(checkpoint: Checkpoint, weights: Iterable[Weight]) -> None:
    """Weights that meet in a space are equally wide there."""
    known: dict[str, int] = {}
    for weight in weights:
        # Embedding and unembedding may count different words.
        for space in (weight.source, weight.target) if weight.layer is not None else ():
            expected = known.setdefault(space.name, space.dim)
            if expected != space.dim:
                what = f"a width of {expected} in {space.name}"
                raise _error(checkpoint, weight.tensor, what, f"{space.dim}")


def _unknown(checkpoint: Checkpoint, model_type: str) -> UnknownArchitectureError:
    names = list(checkpoint.headers)
    if not names:
        return UnknownArchitectureError(f"{checkpoint.location}: expected tensors, found none")
    return UnknownArchitectureError(
        f"{checkpoint.location}: expected tensor names of a known architecture, found {len(names)} tensors, "
        f"{names[0]!r} first: {why_not_by_type(checkpoint, model_type)}; name a model type that has them in a "
        "config.json beside them, or load the module in Python with flaggeo.load(module, example=input)"
    )


def _skipped(
    checkpoint: Checkpoint, structure: Structure, reader: "_Reader", weights: Iterable[Weight]
) -> Iterator[Skipped]:
    """Every tensor that no weight uses, with the reason."""
    used = {tensor for one in weights for tensor in (one.tensor, *([one.after.tensor] if one.after else []))}
    parts: dict[str, Placed] = {}
    for placed in structure.names.placed:
        parts.setdefault(placed.tensor, placed)
    for name, header in checkpoint.headers.items():
        if name not in used:
            placed_here = parts.get(name)
            reason = reader.reasons.get(name) or _reason(placed_here, structure, name)
            is_buffer = placed_here is not None and placed_here.part == _BUFFER
            yield Skipped(name, header.shape, reason, is_parameter=not is_buffer)
    for name, first in checkpoint.aliases.items():
        yield Skipped(name, checkpoint.headers[first].shape, f"the same tensor as {first!r}, which is counted once")


def _rotary_rows(checkpoint: Checkpoint, structure: Structure, weights: Iterable[Weight]) -> Iterator[Skipped]:
    """Rows that no weight has, of tensors whose other rows belong to one: what positions turn beside a latent."""
    pieces = {one.tensor: one.part for one in structure.names.placed if isinstance(one.part, Piece)}
    used: dict[str, int] = {}
    for weight in weights:
        piece = pieces.get(weight.tensor)
        if weight.head is None and piece is not None and piece.cut is not None and "" in piece.cut.order:
            used[weight.tensor] = used.get(weight.tensor, 0) + weight.target.dim
        if weight.after is not None and weight.after.rows is not None:
            first, last = weight.after.rows
            used[weight.after.tensor] = last - first  # by keys and values alike
    for name, rows in used.items():
        piece, shape = pieces.get(name), checkpoint.headers[name].shape
        height, width = reversed(shape) if piece is not None and piece.transposed else shape
        if rows < height:
            yield Skipped(name, (height - rows, width), _ROTARY.format(left=height - rows, height=height))


def _reason(placed: Placed | None, structure: Structure, name: str) -> str:
    match placed.part if placed else None:
        case Norm() as norm if any(norm.tensor == piece.after_norm for piece in structure.naming.pieces):
            return _WITHIN
        case Norm() as norm if norm.on_stream:
            return _PASSED
        case Norm() as norm:
            beside = {tensor for piece in structure.naming.pieces for tensor in (piece.norm, piece.head_norm)}
            return _FOLDED if norm.tensor in beside else REASONS["norm"]
        case str() as code:
            return REASONS.get(code, code)
        case _ if structure.names.is_elsewhere(name):
            return "part of a second model: the same names behind another prefix"
        case _ if name.endswith("bias"):
            return REASONS["bias"]
        case _ if _HEADS.search(name):
            return REASONS["head"]
        case _:
            known = "no role could be inferred from its name and shape"
            return known if structure.name == INFERRED else f"{structure.name} has no tensor of this name"


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


def _error(checkpoint: Checkpoint, tensor: str, expected: str, found: str) -> CheckpointError:
    return CheckpointError(f"{checkpoint.headers[tensor].file}: tensor {tensor!r}: expected {expected}, found {found}")


#: Where a weight stands in its tower: layer, role and expert.
_Place = tuple[int | None, str, int | None]


class _Reader:
    """Builds the weights of one checkpoint, tower by tower."""

    def __init__(self, checkpoint: Checkpoint, structure: Structure, settings: SettingsByName) -> None:
        self.checkpoint, self.structure, self.settings = checkpoint, structure, settings
        self.remarks: list[str] = []
        self.reasons: dict[str, str] = {}

    def weights(self) -> Iterator[Weight]:
        """All weights, in order of depth."""
        towers = self._towers()
        streams = {tower.label: tower.stream for tower in towers}
        for tower in towers:
            yield from tower.weights(streams)
            self.remarks += tower.remarks
            self.reasons |= tower.reasons
        embeddings = {tower.tower.name: tower.embedding for tower in towers}
        for tower in towers:
            shared = embeddings.get(tower.tower.embedding_of or "")
            if tower.embedding is None and shared is not None:
                self.remarks.append(f"{tower.label} reads the embedding {shared} too: both towers share the one table")

    def _under_second_names(self) -> Iterator[Placed]:
        """Weights that have their part under a second name alone: an embedding behind its tied unembedding."""
        unembeddings = roles_in(BlockKind.UNEMBEDDING)
        placed = self.structure.names.placed
        has_a_part = {one.tensor for one in placed if isinstance(one.part, Piece) and one.part.role not in unembeddings}
        for name, first in self.checkpoint.aliases.items():
            if first not in has_a_part:
                for one in self.structure.names.place(name):
                    if isinstance(one.part, Piece) and one.part.role not in unembeddings:
                        yield replace(one, tensor=first)

    def _towers(self) -> "list[_TowerReader]":
        order = {tower.name: place for place, tower in enumerate(self.structure.towers)}
        known = {tower.name: tower for tower in self.structure.towers}
        placed: dict[str, list[Placed]] = {}
        for one in (*self.structure.names.placed, *self._under_second_names()):
            if isinstance(one.part, Piece):
                placed.setdefault(one.part.tower.format(**one.numbers), []).append(one)
        found: list[tuple[Tower, str, Numbers]] = []
        for label, members in placed.items():
            # A table names the stage that it belongs to; the tower itself has a place for its number.
            first = next((one for one in members if _piece(one).tower in known), members[0])
            name = _piece(first).tower
            found.append((known.get(name, Tower(name)), label, {word: first.numbers[word] for word in words_in(name)}))
        found.sort(key=lambda one: (order.get(one[0].name, len(order)), tuple(one[2].values()), one[1]))
        return [_TowerReader(self, *one, before, placed[one[1]]) for before, one in enumerate(found)]


class _TowerReader:
    """Builds the weights along one stream; holds what is the same for all its layers."""

    def __init__(
        self, reader: _Reader, tower: Tower, label: str, numbers: Numbers, before: int, placed: list[Placed]
    ) -> None:
        self.checkpoint, self.settings, self.structure = reader.checkpoint, reader.settings, reader.structure
        # The first stage alone begins with the norm that stands before all.
        self.tower = replace(tower, entry_norm=None) if numbers.get("stage") else tower
        self.label, self.numbers, self.before = label, numbers, before
        self.remarks: list[str] = []
        self.reasons: dict[str, str] = {}
        self.found = self._found(placed)
        self.layers = sorted({layer for layer, *_ in self.found if layer is not None})
        pieces = tuple(dict.fromkeys(map(_piece, self.found.values())))
        width = self._stream_width()
        declared = self.settings.size("", _WIDTHS, 0)
        # Of several towers that were guessed the settings are those of the one that is as wide as they say.
        one_of_several = self.structure.name == INFERRED and len(self.structure.towers) > 1
        self.is_described = not one_of_several or declared is None or declared[1] == width
        self._require_declared_depth(pieces)
        self.architecture = Architecture(self.checkpoint, self.structure, self.tower, self.settings, pieces)
        symmetry, assumed = self.architecture.stream
        name = in_tower(label, "stream")
        self.stream = Space(name, SpaceKind.STREAM, width, symmetry, assumed=assumed)
        self._require_declared_widths()
        gguf = self.checkpoint.naming == "gguf"
        self.rotary_rows = gguf and not _ROTARY_ROWS_IN_GGUF.isdisjoint(self.settings.model_types)

    def _found(self, placed: list[Placed]) -> dict[_Place, Placed]:
        """Every weight by its place; the parts of one role in a layer by the names of their modules."""
        at: dict[_Place, list[Placed]] = {}
        tied = self.settings("tie_word_embeddings")
        for one in placed:
            assert isinstance(one.part, Piece)
            role, layer = one.part.role, one.numbers.get("layer")
            if role in roles_in(BlockKind.UNEMBEDDING) and (self.tower.tied if tied is None else tied):
                self.reasons[one.tensor] = "tied to the embedding, which is counted once"
                continue
            for expert in self._experts(one):
                at.setdefault((layer, role, expert), []).append(one)
        order = self.structure.naming.pieces
        for (_, role, _), members in at.items():
            if ROLE_RECORDS[role].is_table:
                # Where tables are not tied, the one that they share otherwise may be there without being used.
                members.sort(key=lambda one: order.index(_piece(one)))
                while len(members) > 1:
                    self.reasons[members.pop(0).tensor] = "a table that is used only where it is tied to others"
        several = {role for (_, role, _), members in at.items() if len(members) > 1}
        found: dict[_Place, Placed] = {}
        for (layer, role, expert), members in at.items():
            for one in members:
                name = role
                if role in several:
                    if ROLE_RECORDS[role].block not in (BlockKind.MIXER, BlockKind.CONVOLUTION):
                        first, second = members[0].tensor, members[-1].tensor
                        what = f"one tensor for the role {role!r} of layer {layer}"
                        raise _error(self.checkpoint, second, what, f"also {first}")
                    name = f"{role}:{one.tensor.removesuffix('.weight').rpartition('.')[2]}"
                found[layer, name, expert] = one
        return found

    def _experts(self, one: Placed) -> Iterable[int | None]:
        if isinstance(one.part, Piece) and one.part.stacked:
            return range(self.checkpoint.headers[one.tensor].shape[0])
        return [one.numbers.get("expert")]

    @property
    def embedding(self) -> str | None:
        """Name of its table of tokens; None where it has none."""
        tables = (role for layer, role, _ in self.found if layer is None and role in roles_in(BlockKind.EMBEDDING))
        return next((in_tower(self.label, role) for role in tables), None)

    def weights(self, streams: Mapping[str, Space]) -> Iterator[Weight]:
        """All weights of the tower, in order of depth; `streams` are those of all towers."""
        self.streams = streams
        self._require_whole_blocks()
        self._remark_on_absent_roles()
        yield from self._tables(BlockKind.EMBEDDING)
        by_layer: dict[int | None, list[_Place]] = {}
        for place in self.found:
            by_layer.setdefault(place[0], []).append(place)
        for layer in self.layers:
            yield from self._layer(layer, by_layer[layer])
        yield from self._tables(BlockKind.UNEMBEDDING)

    # Shapes

    def _matrix(self, place: _Place) -> tuple[int, int]:
        """Shape of the matrix that a tensor stores for a place, (out, in), before rows are cut out of it."""
        one = self.found[place]
        piece, header = _piece(one), self.checkpoint.headers[one.tensor]
        shape = header.shape[1:] if piece.stacked else header.shape
        kernel = _unfolded(piece, shape)
        if 0 in header.shape or (len(shape) != 2 and kernel is None):
            raise _error(
                self.checkpoint,
                one.tensor,
                "stacked matrices" if piece.stacked else "a matrix",
                f"shape {header.shape}",
            )
        if kernel is Side.WRITE:
            shape = shape[0], prod(shape[1:])
        elif kernel is Side.READ:
            shape = prod(shape) // shape[1], shape[1]
        rows, columns = reversed(shape) if piece.transposed else shape
        if piece.after is not None:
            first = self.structure.names.find(piece.after, one.numbers)
            if first is None:
                raise _error(self.checkpoint, one.tensor, f"a tensor {piece.after!r} that it composes with", "none")
            columns = self.checkpoint.headers[first].shape[-1]
        return rows, columns

    def _facing(self, place: _Place) -> int:
        """Width of the end that faces the stream."""
        rows, columns = self._matrix(place)
        record = ROLE_RECORDS[_piece(self.found[place]).role]
        return rows if record.writes_to_stream and not self._is_lookup(place) else columns

    def _is_lookup(self, place: _Place) -> bool:
        """Whether it is a table stored (vocabulary, width)."""
        piece = _piece(self.found[place])
        return (
            ROLE_RECORDS[piece.role].is_table
            and len(self.checkpoint.headers[self.found[place].tensor].shape) == 2
            and not piece.transposed
        )

    def _stream_width(self) -> int:
        # A block faces the stream; a table may be narrower, with a projection between.
        inside = [place for place in self.found if place[0] is not None and not _piece(self.found[place]).reads_tower]
        # What most have: of weights that contradict each other the fewer are at fault.
        return Counter(map(self._facing, inside or [next(iter(self.found))])).most_common(1)[0][0]

    def _require(self, place: _Place, what: str, expected: int, found: int, witness: str = "") -> None:
        if expected != found:
            tensor = self.found[place].tensor
            shape = self.checkpoint.headers[tensor].shape
            expectation = f"{what} of {expected}" + (f" ({witness})" if witness else "")
            raise _error(self.checkpoint, tensor, expectation, f"{found} in shape {shape}")

    def _witness(self, width: int, place: _Place) -> str:
        """Another weight of the layer that faces a stream of this width."""
        others = (one for at, one in self.found.items() if at[0] == place[0] and self._facing(at) == width)
        return next((f"as that of {one.tensor}" for one in others), "")

    def _source_stream(self, piece: Piece) -> Space:
        """The stream that a piece faces."""
        return self.stream if piece.reads_tower is None else self.streams[piece.reads_tower]

    # What should be there

    def _remark_on_absent_roles(self) -> None:
        """Weights may be absent by design, or because their names are not known: readers of the numbers should know."""
        roles: dict[int, set[str]] = {layer: set() for layer in self.layers}
        for (layer, *_), one in self.found.items():
            if layer is not None:
                roles[layer].add(_piece(one).role)
        blocks = {layer: {ROLE_RECORDS[role].block for role in there} for layer, there in roles.items()}
        present = [role for role in ROLES if any(role in there for there in roles.values())]
        lacking: dict[tuple[int, ...], list[str]] = {}
        for role in present:
            partners = [one if other == role else other for one, other in COMPOSED if role in (one, other)]
            if partners and not set(present) & set(partners):
                self.remarks.append(f"no layer has {' or '.join(partners)}, with which {role} composes")
            of_block = [layer for layer in self.layers if ROLE_RECORDS[role].block in blocks[layer]]
            without = tuple(layer for layer in of_block if role not in roles[layer])
            if without:
                lacking.setdefault(without, []).append(in_tower(self.label, role))
        if len(set(map(frozenset, blocks.values()))) > 1:
            self.remarks.append(in_tower(self.label, f"layers are of several kinds: {_kinds(blocks)}"))
        for layers, names in lacking.items():
            have = "has" if len(layers) == 1 else "have"
            self.remarks.append(f"{_spelt(layers)} {have} no {', '.join(names)}, which other layers have")

    def _require_whole_blocks(self) -> None:
        """A block that has all tensors but one of those that it has in other layers is damaged.

        One that lacks several may be so by design, as where layers share keys and values.
        """
        if any(self.settings(name) for name in _SHARING):
            return
        blocks: dict[tuple[int, BlockKind, int | None], dict[str, Placed]] = {}
        usual: dict[BlockKind, dict[str, set[str]]] = {}
        for (layer, role, expert), one in self.found.items():
            record, template = ROLE_RECORDS[_piece(one).role], _piece(one).tensor
            if layer is not None and (record.heads or record.inner is SpaceKind.HIDDEN):
                blocks.setdefault((layer, record.block, expert), {})[role] = one
                usual.setdefault(record.block, {}).setdefault(template, set()).add(role)
        for (layer, kind, _), members in blocks.items():
            # A role may have its rows in another tensor here.
            missing = [template for template, roles in usual[kind].items() if roles.isdisjoint(members)]
            if len(missing) == 1:
                name = self.structure.names.name(missing[0], next(iter(members.values())).numbers)
                there = shortened(list(dict.fromkeys(one.tensor for one in members.values())))
                raise CheckpointError(
                    f"{self.checkpoint.location}: tensor {name!r}: expected in layer {layer} beside {there}, "
                    "as in other layers, found none"
                )

    def _require_declared_depth(self, pieces: Iterable[Piece]) -> None:
        setting = self.tower.depth or (None if self.structure.known else "num_hidden_layers")
        setting = setting if self.is_described else None
        declared = self.settings.count(setting, self.numbers.get("stage", 0)) if setting else None
        # A layer may be there without weights of its tower: it leads from one stage to the next.
        templates = [piece.tensor for piece in pieces if "layer" in words_in(piece.tensor)]
        there = {
            layer
            for layer in range(len(self.layers) + 1)
            if any(self.structure.names.find(template, {**self.numbers, "layer": layer}) for template in templates)
        }.union(self.layers)
        found = len(there)
        expected = declared or max(there, default=0) + 1
        missing = (number for number in range(expected) if number not in there)
        first = [str(number) for number in islice(missing, _SHOWN)]
        if not first and found <= expected:
            return
        said = f"{expected} layers ({setting} of the settings)" if declared else f"layers 0 to {expected - 1}"
        more = expected - sum(number < expected for number in there) - len(first)
        which = ", ".join(first) + (f" and {more} more" if more else "")
        lacking = f": layer{'s' if len(first) > 1 else ''} {which} missing" if first else ""
        where = f" in {self.label}" if self.label else ""
        raise CheckpointError(f"{self.checkpoint.location}: expected {said}{where}, found {found}{lacking}")

    def _require_declared_widths(self) -> None:
        """The settings give the widths of the stream and of hidden layers, and how many words the embedding has."""
        if self.numbers or not self.is_described:  # the settings are of the last stage, or of another tower
            return
        section = (self.tower.depth or self.tower.heads or "").rpartition(".")[0]
        for place, one in self.found.items():
            layer, role, expert = place
            if layer is not None and expert is None and (declared := self.settings.size(section, _WIDTHS, layer)):
                if not _piece(one).reads_tower:
                    setting, width = declared
                    self._require(place, "a stream width", width, self._facing(place), f"{setting} of the settings")
                if role == "up":
                    self._require_declared_hidden_width(place, section)
            if role == "embed" and self._is_lookup(place):
                self._require_declared_words(place, section)

    def _require_declared_hidden_width(self, place: _Place, section: str) -> None:
        names = (*_HIDDEN_WIDTHS, f"{self.label}_ffn_dim")
        declared = self.settings.size(section, names, place[0] or 0)
        model_types = {self.structure.name, *self.settings.model_types}
        if declared is None or not _OTHER_HIDDEN_WIDTHS.isdisjoint(model_types):
            return
        # Gates may stand in the same tensor, and other hidden layers may be those that the setting means.
        sizes = {size for one in self.found.values() for size in self.checkpoint.headers[one.tensor].shape}
        if declared[1] not in sizes:
            found = self._inner_width(place, {})
            self._require(place, "a hidden width", declared[1], found, f"{declared[0]} of the settings")

    def _require_declared_words(self, place: _Place, section: str) -> None:
        declared, (rows, _) = self.settings.size(section, ("vocab_size",), 0), self._matrix(place)
        if declared is None:
            return
        setting, words = declared
        if rows < words:
            self._require(place, "a height", words, rows, f"{setting} of the settings")
        if rows > words:
            tensor = self.found[place].tensor
            self.remarks.append(
                f"{tensor} has {rows} rows for the {words} words of the settings: others may be padding"
            )

    # Weights

    def _tables(self, block: BlockKind) -> Iterator[Weight]:
        for place, one in self.found.items():
            record = ROLE_RECORDS[_piece(one).role]
            if place[0] is not None or record.block is not block:
                continue
            rows, columns = self._matrix(place)
            lookup = self._is_lookup(place)
            size, width = (rows, columns) if lookup or not record.writes_to_stream else (columns, rows)
            if width != self.stream.dim:
                reason = f"its width {width} is not the stream's {self.stream.dim}: a projection lies between"
                self.reasons[one.tensor] = reason
                continue
            kernel = _unfolded(_piece(one), self.checkpoint.headers[one.tensor].shape)
            kind = SpaceKind.VOCABULARY if kernel is None else SpaceKind.PATCHES
            inner = Space(in_tower(self.label, kind.value) if kernel else kind.value, kind, size, Symmetry.TRIVIAL)
            split = Split(unfolded=kernel, transposed=lookup and record.writes_to_stream)
            yield self._weight(place, inner, split)

    def _layer(self, layer: int, places: list[_Place]) -> Iterator[Weight]:
        places = sorted(
            places, key=lambda place: (ROLES.index(_piece(self.found[place]).role), place[1], place[2] or 0)
        )
        self._require_widths([place for place in places if _piece(self.found[place]).cut is None], {})
        counts = {
            block: self._head_counts(layer, [place for place in places if self._block(place) is block])
            for block in dict.fromkeys(map(self._block, places))
        }
        segments = {place: self._segment(place, counts[self._block(place)]) for place in places}
        places = [place for place in places if self.found[place].tensor not in self.reasons]
        self._require_widths(places, segments)
        meetings: dict[tuple[BlockKind, SpaceKind], dict[Piece, None]] = {}
        for place in places:
            piece = _piece(self.found[place])
            meetings.setdefault((self._block(place), ROLE_RECORDS[piece.role].inner), {})[piece] = None
        for place in places:
            block = self._block(place)
            meeting = meetings[block, ROLE_RECORDS[_piece(self.found[place]).role].inner]
            yield from self._projection(place, list(meeting), counts[block], segments)

    def _block(self, place: _Place) -> BlockKind:
        return ROLE_RECORDS[_piece(self.found[place]).role].block

    def _segment(self, place: _Place, heads: HeadCounts | None) -> Segment | None:
        """The rows of a place in a tensor that it shares; None where it has the tensor for itself."""
        one = self.found[place]
        piece = _piece(one)
        if piece.cut is None:
            return None
        rows, _ = self._matrix(place)
        try:
            found = segment(piece.cut, piece.role, rows, heads, self.settings.count)
        except ValueError as error:
            raise _error(self.checkpoint, one.tensor, str(error), f"{rows} rows") from error
        if found is None:
            shared = ", ".join(role for role in piece.cut.order if role)
            self.reasons[one.tensor] = f"the rows of {shared} cannot be told apart without the number of heads"
        return found

    def _require_widths(self, places: list[_Place], segments: Mapping[_Place, Segment | None]) -> None:
        """All face their stream; roles that meet in a space, or have equally many heads, are equally wide there too."""
        expected: dict[object, int] = {}
        for place in places:
            piece = _piece(self.found[place])
            record = ROLE_RECORDS[piece.role]
            stream = self._source_stream(piece).dim
            facing = self._facing(place)
            if facing != stream:
                self._require(place, "a stream width", stream, facing, self._witness(stream, place))
            width = self._inner_width(place, segments)
            if record.inner is SpaceKind.HIDDEN or record.heads:
                what = (
                    "a hidden width"
                    if not record.heads
                    else "an input width"
                    if record.writes_to_stream
                    else "a height"
                )
                group = (record.block, record.inner, record.heads, place[2])
                self._require(place, what, expected.setdefault(group, width), width)

    def _inner_width(self, place: _Place, segments: Mapping[_Place, Segment | None]) -> int:
        """Dimension of the end of a projection that does not face the stream."""
        rows, columns = self._matrix(place)
        own = segments.get(place)
        if ROLE_RECORDS[_piece(self.found[place]).role].writes_to_stream:
            return columns
        return rows if own is None else own.groups * own.heads * own.width

    def _projection(
        self,
        place: _Place,
        meeting: list[Piece],
        heads: HeadCounts | None,
        segments: Mapping[_Place, Segment | None],
    ) -> Iterator[Weight]:
        """A whole projection, and its heads where it has some; `meeting` are the pieces of all that share its space."""
        layer, role, expert = place
        piece, own = _piece(self.found[place]), segments[place]
        record = ROLE_RECORDS[piece.role]
        assert layer is not None
        symmetry, assumed = self.architecture.inside(record.inner, layer, meeting)

        def space(name: str, dim: int, *, concatenated: bool = False) -> Space:
            part = "" if ":" not in role else "." + role.partition(":")[2]
            beside = f"{record.place}." if record.place and record.place != name else ""
            inside = "" if expert is None else f"experts.{expert}."
            full = in_tower(self.label, f"layers.{layer}.{inside}{beside}{name}{part}")
            return Space(full, record.inner, dim, symmetry, layer, assumed, concatenated)

        dim = self._inner_width(place, segments)
        shape = self.checkpoint.headers[self.found[place].tensor].shape
        split = Split(
            expert=expert if piece.stacked else None,
            unfolded=_unfolded(piece, shape[1:] if piece.stacked else shape),
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
        self, place: _Place, inner: Space, split: Split, *, head: int | None = None, head_width: int | None = None
    ) -> Weight:
        """A weight, or a head of it, between the stream and another space."""
        layer, role, expert = place
        one = self.found[place]
        piece = _piece(one)
        stream = self._source_stream(piece)
        source, target = (inner, stream) if ROLE_RECORDS[piece.role].writes_to_stream else (stream, inner)
        rows, columns = self._matrix(place)
        whole = (
            {"source": rows, "target": columns}
            if self._is_lookup(place) and split.transposed
            else {"source": columns, "target": rows}
        )
        if piece.cut is not None and head_width is not None:
            whole["target"] = head_width * (rows // head_width)
        folding = self.architecture.folding(piece, one.numbers, **whole, head_width=head_width)
        after = None
        if piece.after is not None:
            stored = self.checkpoint.headers[one.tensor].shape
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

    def _head_counts(self, layer: int, places: list[_Place]) -> HeadCounts | None:
        """Head counts by the shapes; the settings only say how many query heads there are."""
        first: dict[HeadGroup, _Place] = {}
        for place in places:
            group = ROLE_RECORDS[_piece(self.found[place]).role].heads
            if group is not None:
                first.setdefault(group, place)
        if not first:
            return None
        setting = self.tower.heads or "num_attention_heads"
        number = self.numbers.get("stage", layer)  # in a setting that lists one for each
        query = self.settings.count(setting, number) or self.settings.count("num_attention_heads", number)
        if query is None or not self.is_described:
            self.remarks.append(f"the number of heads is unknown (no {setting} in the settings): heads are not split")
            return None
        declared = self.settings.count(self.tower.key_value_heads, number)
        counts = {HeadGroup.QUERY: query, HeadGroup.KEY_VALUE: declared or query}
        plain = {group: place for group, place in first.items() if _piece(self.found[place]).cut is None}
        if plain:
            counts = self._checked_counts(plain, counts, declared)
        if query % counts[HeadGroup.KEY_VALUE]:
            raise CheckpointError(
                f"{self.checkpoint.location}: expected key-value heads whose number divides that of the {query} query "
                f"heads, found {counts[HeadGroup.KEY_VALUE]}"
            )
        return HeadCounts(counts)

    def _checked_counts(
        self, places: Mapping[HeadGroup, _Place], counts: dict[HeadGroup, int], declared: int | None
    ) -> dict[HeadGroup, int]:
        """Counts of heads whose projections have a tensor each, by their heights."""
        group = HeadGroup.QUERY if HeadGroup.QUERY in places else HeadGroup.KEY_VALUE
        height = self._inner_width(places[group], {})
        width, rest = divmod(height, counts[group])
        if rest:
            tensor = self.found[places[group]].tensor
            raise _error(self.checkpoint, tensor, f"a height divisible by {counts[group]} heads", f"{height}")
        query = counts[HeadGroup.QUERY]
        if HeadGroup.KEY_VALUE in places and HeadGroup.QUERY in places:
            place = places[HeadGroup.KEY_VALUE]
            tensor = self.found[place].tensor
            height = self._inner_width(place, {})
            key_value, rest = divmod(height, width)
            if rest or not key_value or query % key_value:
                expected = f"a height that is {width} (the head width) times a divisor of {query} heads"
                raise _error(self.checkpoint, tensor, expected, f"{height}")
            if declared not in (None, key_value):
                raise _error(self.checkpoint, tensor, f"{declared} key-value heads of width {width}", f"{key_value}")
            return {**counts, HeadGroup.KEY_VALUE: key_value}
        return counts


def _kinds(blocks: Mapping[int, set[BlockKind]]) -> str:
    """Layers with the same blocks together: ``layers 0-2: mixer, mlp; layer 3: attention, mlp``."""
    alike: dict[tuple[BlockKind, ...], list[int]] = {}
    for layer, there in blocks.items():
        alike.setdefault(tuple(kind for kind in BlockKind if kind in there), []).append(layer)
    return "; ".join(f"{_spelt(layers)}: {', '.join(kind.value for kind in kinds)}" for kinds, layers in alike.items())


def _spelt(layers: Sequence[int]) -> str:
    """Ascending numbers of layers, those one after the other as a range: ``layers 0-2, 4``."""
    runs = [[*run] for _, run in groupby(enumerate(layers), lambda item: item[1] - item[0])]
    spelt = [f"{run[0][1]}-{run[-1][1]}" if len(run) > 1 else f"{run[0][1]}" for run in runs]
    return f"layer{'s' * (len(layers) > 1)} {', '.join(spelt)}"


# GGUF architectures whose query and key rows are interleaved for the rotary kernels.
_ROTARY_ROWS_IN_GGUF = frozenset({"llama"})


def _piece(one: Placed) -> Piece:
    assert isinstance(one.part, Piece)
    return one.part


def _unfolded(piece: Piece, shape: tuple[int, ...]) -> Side | None:
    """The end that keeps an axis of its own where the tensor is the kernel of a convolution."""
    record = ROLE_RECORDS[piece.role]
    is_kernel = record.is_table or record.block is BlockKind.CONVOLUTION or set(shape[2:]) == {1}
    return record.side if len(shape) > 2 and is_kernel else None
