"""From a checkpoint's headers to a `Network`, with every shape checked and no tensor read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..checkpoint import Checkpoint, CheckpointError
from .architecture import Architecture
from .families import FAMILIES, Family
from .quiver import Network, Skipped, Weight
from .roles import COMPOSED, ROLE_RECORDS, ROLES, BlockKind, HeadGroup, Role, roles_in
from .spaces import Space, SpaceKind, Symmetry
from .splits import Split


class UnknownArchitectureError(CheckpointError):
    """The names of the tensors match no row of the family table."""


def read_network(checkpoint: Checkpoint) -> Network:
    """Recognise the family and build the quiver from names, shapes and settings.

    Parameters
    ----------
    checkpoint : Checkpoint
        Only its headers are used.

    Returns
    -------
    network : Network
        Weights in order of depth by layer number, whatever their order in the file.

    Raises
    ------
    UnknownArchitectureError
        If no family's names are found.
    CheckpointError
        If shapes disagree with each other or with the settings, a layer is missing, a norm has not as many
        gains as there are coordinates, or a weight is stored in a quantised dtype that cannot be undone.
    """
    settings = _text_settings(checkpoint)
    family, remarks = _recognise(checkpoint, settings)
    found: dict[tuple[int | None, str], str] = {}
    skipped = []
    for name, header in checkpoint.headers.items():
        place = family.role_of(checkpoint.naming, name)
        if place is None:
            skipped.append(Skipped(name, header.shape, family.reason_unused(name)))
        elif place[0] in roles_in(BlockKind.UNEMBEDDING) and settings.get("tie_word_embeddings", family.tied):
            skipped.append(Skipped(name, header.shape, "tied to the embedding, which is counted once"))
        else:
            role, layer = place
            if (layer, role) in found:
                raise _error(
                    checkpoint, name, f"one tensor for the role {role!r} of layer {layer}", f"also {found[layer, role]}"
                )
            found[layer, role] = name
    skipped += [
        Skipped(name, checkpoint.headers[first].shape, f"the same tensor as {first!r}, which is counted once")
        for name, first in checkpoint.aliases.items()
    ]
    reader = _Reader(checkpoint, settings, family, found)
    weights = reader.weights()
    for weight in weights:
        checkpoint.require_readable(weight.tensor)
    skipped += reader.skipped
    return Network(family.name, checkpoint, tuple(weights), tuple(skipped), (*remarks, *reader.remarks))


def _text_settings(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Settings of the language model: a model of several towers keeps them one level down."""
    inner = checkpoint.config.get("text_config")
    return {**checkpoint.config, **inner} if isinstance(inner, Mapping) else checkpoint.config


def _recognise(checkpoint: Checkpoint, settings: Mapping[str, Any]) -> tuple[Family, list[str]]:
    model_type = str(settings.get("model_type", ""))
    matches = {
        family.name: sum(family.role_of(checkpoint.naming, name) is not None for name in checkpoint.headers)
        for family in FAMILIES
    }
    candidates = sorted(
        (family for family in FAMILIES if matches[family.name]), key=lambda family: -matches[family.name]
    )
    for family in candidates:
        if model_type in family.model_types:
            return family, []
    if not candidates:
        names = list(checkpoint.headers)
        raise UnknownArchitectureError(
            f"{checkpoint.location}: expected tensor names of one of the families "
            f"{', '.join(family.name for family in FAMILIES)}, found model type {model_type!r} and "
            f"{len(names)} tensors, {names[0]!r} first"
            if names
            else f"{checkpoint.location}: expected tensors, found none"
        )
    family = candidates[0]
    origin = (
        f"model type {model_type!r} is not in the family table" if model_type else "no settings name the model type"
    )
    return family, [f"{origin}: read as {family.name} from the tensor names"]


def _stream_axis(role: str) -> int:
    """Axis of the stored tensor that faces the residual stream."""
    record = ROLE_RECORDS[role]
    return 0 if record.writes_to_stream and not record.is_table else 1


def _error(checkpoint: Checkpoint, tensor: str, expected: str, found: str) -> CheckpointError:
    return CheckpointError(f"{checkpoint.headers[tensor].file}: tensor {tensor!r}: expected {expected}, found {found}")


@dataclass(frozen=True)
class _HeadCounts:
    """How many heads of each group a layer has, and how wide they are."""

    of: Mapping[HeadGroup, int]
    width: int

    def group_of(self, role: Role, head: int) -> int:
        """Number of the key-value head with which a head shares its space."""
        assert role.heads is not None
        return head // (self.of[role.heads] // self.of[HeadGroup.KEY_VALUE])


class _Reader:
    """Builds the weights of one checkpoint; holds what is the same for all layers."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        settings: Mapping[str, Any],
        family: Family,
        found: Mapping[tuple[int | None, str], str],
    ) -> None:
        self.checkpoint = checkpoint
        self.settings = settings
        self.family = family
        self.found = found
        self.architecture = Architecture(checkpoint, settings, family)
        self.remarks: list[str] = []
        self.skipped: list[Skipped] = []
        self.layers = sorted({layer for layer, _ in found if layer is not None})
        # A block faces the stream; a table may be narrower, with a projection between.
        (_, role), first = min(found.items(), key=lambda item: item[0][0] is None)
        width = self._shape(first)[_stream_axis(role)]
        symmetry, assumed = self.architecture.stream
        self.stream = Space("stream", SpaceKind.STREAM, width, symmetry, assumed=assumed)
        model_type = settings.get("model_type")
        self.rotary_rows = checkpoint.naming == "gguf" and model_type in family.rotary_rows_in_gguf

    def weights(self) -> list[Weight]:
        """All weights, in order of depth."""
        self._require_declared_depth()
        self._remark_on_absent_roles()
        weights = self._tables(BlockKind.EMBEDDING)
        for layer in self.layers:
            weights += self._layer(layer)
        return weights + self._tables(BlockKind.UNEMBEDDING)

    def _remark_on_absent_roles(self) -> None:
        """Weights may be absent by design, or because their names are not known: readers of the numbers should know."""
        present = {role for layer, role in self.found if layer is not None}
        for role in ROLES:
            partners = [one if other == role else other for one, other in COMPOSED if role in (one, other)]
            if role in present and partners and present.isdisjoint(partners):
                self.remarks.append(f"no layer has {' or '.join(partners)}, with which {role} composes")
            lacking = [layer for layer in self.layers if (layer, role) not in self.found]
            if role in present and lacking:
                where = f"layers {', '.join(map(str, lacking))} have" if len(lacking) > 1 else f"layer {lacking[0]} has"
                self.remarks.append(f"{where} no {role}, which other layers have")

    def _require_declared_depth(self) -> None:
        found = len(self.layers)
        declared = self._count("num_hidden_layers") or max(found, 1)
        lacking = next((number for number in range(found) if number not in self.layers), found)
        if lacking < declared or found > declared:
            where = f"without layer {lacking}" if lacking < declared else f"up to layer {self.layers[-1]}"
            raise CheckpointError(
                f"{self.checkpoint.location}: expected layers 0 to {declared - 1}, found {found} layers {where}"
            )

    def _count(self, setting: str, layer: int = 0) -> int | None:
        """A whole number from the settings, or the layer's own where they list one for each; None if absent."""
        value = self.settings.get(setting)
        if isinstance(value, list) and layer < len(value):
            value = value[layer]
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
            return value
        raise CheckpointError(
            f"{self.checkpoint.location}: setting {setting!r}: expected a positive whole number, found {value!r}"
        )

    def _shape(self, tensor: str) -> tuple[int, int]:
        shape = self.checkpoint.headers[tensor].shape
        if len(shape) != 2 or 0 in shape:
            raise _error(self.checkpoint, tensor, "a matrix", f"shape {shape}")
        return shape[0], shape[1]

    def _require(self, tensor: str, what: str, expected: int, found: int) -> None:
        if expected != found:
            raise _error(self.checkpoint, tensor, f"{what} of {expected}", f"{found} in shape {self._shape(tensor)}")

    def _tables(self, block: BlockKind) -> list[Weight]:
        weights = []
        for role in roles_in(block):
            if (None, role) not in self.found:
                continue
            tensor = self.found[None, role]
            size, width = self._shape(tensor)
            if width == self.stream.dim:
                vocabulary = Space("vocabulary", SpaceKind.VOCABULARY, size, Symmetry.TRIVIAL)
                split = Split(transposed=ROLE_RECORDS[role].writes_to_stream)
                weights.append(self._weight(role, None, vocabulary, split))
            else:
                reason = f"its width {width} is not the stream's {self.stream.dim}: a projection lies between"
                self.skipped.append(Skipped(tensor, (size, width), reason))
        return weights

    def _layer(self, layer: int) -> list[Weight]:
        roles = [role for role in ROLES if (layer, role) in self.found]
        self._require_widths(layer, roles)
        heads = self._head_counts(layer, [role for role in roles if ROLE_RECORDS[role].heads])
        return [weight for role in roles for weight in self._projection(layer, role, roles, heads)]

    def _require_widths(self, layer: int, roles: Sequence[str]) -> None:
        """All face one stream; roles that meet in a space, or have equally many heads, are equally wide there too."""
        expected: dict[SpaceKind | HeadGroup, int] = {}
        for role in roles:
            tensor, record = self.found[layer, role], ROLE_RECORDS[role]
            self._require(tensor, "a stream width", self.stream.dim, self._shape(tensor)[_stream_axis(role)])
            width = self._inner_width(layer, role)
            what = "a hidden width" if not record.heads else "an input width" if record.writes_to_stream else "a height"
            self._require(tensor, what, expected.setdefault(record.heads or record.inner, width), width)

    def _inner_width(self, layer: int, role: str) -> int:
        """Dimension of the end of a projection that does not face the stream."""
        return self._shape(self.found[layer, role])[1 - _stream_axis(role)]

    def _projection(self, layer: int, role: str, roles: Sequence[str], heads: _HeadCounts | None) -> Iterator[Weight]:
        """A whole projection, and its heads where it has some."""
        record = ROLE_RECORDS[role]
        meeting = [other for other in roles if ROLE_RECORDS[other].inner is record.inner]
        symmetry, assumed = self.architecture.inside(record.inner, layer, meeting)

        def space(name: str, dim: int, *, concatenated: bool = False) -> Space:
            return Space(f"layers.{layer}.{name}", record.inner, dim, symmetry, layer, assumed, concatenated)

        dim = self._inner_width(layer, role)
        if record.heads is None:
            yield self._weight(role, layer, space(record.inner.value, dim), Split())
            return
        count, width = (0, None) if heads is None else (heads.of[record.heads], heads.width)
        rotary = count if self.rotary_rows and record.inner is SpaceKind.KEYS else 0
        whole = space(record.concatenation, dim, concatenated=True)
        yield self._weight(role, layer, whole, Split(rotary_heads=rotary), head_width=width)
        for head in range(count):
            assert heads is not None
            span = (head * heads.width, (head + 1) * heads.width)
            split = Split(columns=span) if record.writes_to_stream else Split(rotary_heads=rotary, rows=span)
            inner = space(f"heads.{heads.group_of(record, head)}.{record.inner.value}", heads.width)
            yield self._weight(role, layer, inner, split, head=head, head_width=width)

    def _weight(
        self,
        role: str,
        layer: int | None,
        inner: Space,
        split: Split,
        *,
        head: int | None = None,
        head_width: int | None = None,
    ) -> Weight:
        """A weight, or a head of it, between the stream and another space."""
        tensor = self.found[layer, role]
        source, target = (inner, self.stream) if ROLE_RECORDS[role].writes_to_stream else (self.stream, inner)
        rows, columns = self._shape(tensor)
        whole = (rows, columns) if split.transposed else (columns, rows)
        folding = self.architecture.folding(role, layer, *whole, head_width)
        name = ("" if layer is None else f"layers.{layer}.") + role + ("" if head is None else f".heads.{head}")
        return Weight(name, role, layer, head, source, target, tensor, split, folding)

    def _head_counts(self, layer: int, roles: Sequence[str]) -> _HeadCounts | None:
        """Head counts by the shapes; the settings only say how many query heads there are."""
        if not roles:
            return None
        query = self._count("num_attention_heads", layer)
        if query is None:
            remark = "the number of heads is unknown (no num_attention_heads in the settings): heads are not split"
            if remark not in self.remarks:
                self.remarks.append(remark)
            return None
        declared = self._count("num_key_value_heads", layer) if self.family.grouped else None
        counts = {HeadGroup.QUERY: query, HeadGroup.KEY_VALUE: declared or query}
        # One projection of each group: all of a group have the same width.
        first = {ROLE_RECORDS[role].heads: role for role in reversed(roles)}
        group = HeadGroup.QUERY if HeadGroup.QUERY in first else HeadGroup.KEY_VALUE
        height = self._inner_width(layer, first[group])
        width, rest = divmod(height, counts[group])
        if rest:
            tensor = self.found[layer, first[group]]
            raise _error(self.checkpoint, tensor, f"a height divisible by {counts[group]} heads", f"{height}")
        if HeadGroup.KEY_VALUE in first:
            tensor = self.found[layer, first[HeadGroup.KEY_VALUE]]
            height = self._inner_width(layer, first[HeadGroup.KEY_VALUE])
            key_value, rest = divmod(height, width)
            if rest or not key_value or query % key_value:
                expected = f"a height that is {width} (the head width) times a divisor of {query} heads"
                raise _error(self.checkpoint, tensor, expected, f"{height}")
            if declared not in (None, key_value):
                raise _error(self.checkpoint, tensor, f"{declared} key-value heads of width {width}", f"{key_value}")
            counts[HeadGroup.KEY_VALUE] = key_value
        elif query % counts[HeadGroup.KEY_VALUE]:
            raise CheckpointError(
                f"{self.checkpoint.location}: expected key-value heads whose number divides that of the {query} query "
                f"heads, found {declared}"
            )
        return _HeadCounts(counts, width)
