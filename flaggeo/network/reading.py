"""From a checkpoint's headers to a `Network`, with every shape checked and no tensor read."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..checkpoint import Checkpoint, CheckpointError
from .architecture import Architecture
from .families import FAMILIES, Family
from .quiver import ROLES, Network, Skipped, Space, Symmetry, Weight
from .splits import Split

_BLOCK_ROLES = {"q", "k", "v", "o", "up", "down"}


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
        If shapes disagree with each other or with the settings, a layer lacks a projection, a norm has not
        as many gains as there are coordinates, or a weight is stored in a quantised dtype that cannot be undone.
    """
    settings = _text_settings(checkpoint)
    family, remarks = _recognise(checkpoint, settings)
    found: dict[tuple[int | None, str], str] = {}
    skipped = []
    for name, header in checkpoint.headers.items():
        place = family.role_of(checkpoint.naming, name)
        if place is None:
            skipped.append(Skipped(name, header.shape, family.reason_unused(name)))
        elif place[0] == "unembed" and settings.get("tie_word_embeddings", family.tied):
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
    return 0 if role in ("o", "down") else 1


def _error(checkpoint: Checkpoint, tensor: str, expected: str, found: str) -> CheckpointError:
    return CheckpointError(f"{checkpoint.headers[tensor].file}: tensor {tensor!r}: expected {expected}, found {found}")


@dataclass(frozen=True)
class _HeadCounts:
    query: int
    key_value: int
    width: int


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
        self.stream = Space("stream", width, symmetry, assumed=assumed)
        model_type = settings.get("model_type")
        self.rotary_rows = checkpoint.naming == "gguf" and model_type in family.rotary_rows_in_gguf

    def weights(self) -> list[Weight]:
        """All weights, in order of depth."""
        self._require_declared_depth()
        weights = self._table("embed")
        for layer in self.layers:
            weights += self._layer(layer)
        return weights + self._table("unembed")

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

    def _table(self, role: str) -> list[Weight]:
        tensor = self.found.get((None, role))
        if tensor is None:
            return []
        size, width = self._shape(tensor)
        if width != self.stream.dim:
            reason = f"its width {width} is not the stream's {self.stream.dim}: a projection lies between"
            self.skipped.append(Skipped(tensor, (size, width), reason))
            return []
        vocabulary = Space("vocabulary", size, Symmetry.TRIVIAL)
        if role == "embed":
            source, target, split = vocabulary, self.stream, Split(transposed=True)
        else:
            source, target, split = self.stream, vocabulary, Split()
        folding = self.architecture.folding(role, None, source.dim, target.dim, None)
        return [Weight(role, role, None, None, source, target, tensor, split, folding)]

    def _layer(self, layer: int) -> list[Weight]:
        tensors = {role: self.found[layer, role] for role in ROLES if (layer, role) in self.found}
        lacking = sorted(_BLOCK_ROLES - tensors.keys())
        if lacking:
            raise CheckpointError(
                f"{self.checkpoint.location}: expected the roles {', '.join(sorted(_BLOCK_ROLES))} in layer {layer}, "
                f"found no tensor for {', '.join(lacking)}"
            )
        for role, tensor in tensors.items():
            self._require(tensor, "a stream width", self.stream.dim, self._shape(tensor)[_stream_axis(role)])
        return self._attention(layer, tensors) + self._mlp(layer, tensors)

    def _mlp(self, layer: int, tensors: Mapping[str, str]) -> list[Weight]:
        symmetry, assumed = self.architecture.hidden(gated="gate" in tensors)
        hidden = Space(f"layers.{layer}.hidden", self._shape(tensors["up"])[0], symmetry, layer, assumed)
        weights = []
        for role in ("gate", "up", "down"):
            if role not in tensors:
                continue
            axis = 1 if role == "down" else 0
            self._require(tensors[role], "a hidden width", hidden.dim, self._shape(tensors[role])[axis])
            ends = (hidden, self.stream) if role == "down" else (self.stream, hidden)
            folding = self.architecture.folding(role, layer, ends[0].dim, ends[1].dim, None)
            weights.append(Weight(f"layers.{layer}.{role}", role, layer, None, *ends, tensors[role], folding=folding))
        return weights

    def _attention(self, layer: int, tensors: Mapping[str, str]) -> list[Weight]:
        heights = {role: self._shape(tensors[role])[0] for role in ("q", "k", "v")}
        self._require(tensors["o"], "an input width", heights["q"], self._shape(tensors["o"])[1])
        self._require(tensors["v"], "a height", heights["k"], heights["v"])
        heads = self._head_counts(layer, tensors, heights["q"], heights["k"])
        keys = self.architecture.keys(layer)
        weights: list[Weight] = []
        for role in ("q", "k", "v", "o"):
            symmetry, assumed = keys if role in ("q", "k") else (Symmetry.GENERAL_LINEAR, False)
            count = 0 if heads is None else heads.query if role in ("q", "o") else heads.key_value
            rotary = count if self.rotary_rows and role in ("q", "k") else 0
            # Concatenated heads: angles between them would mix spaces that the network keeps apart.
            whole = Space(
                f"layers.{layer}.{ {'q': 'queries', 'k': 'keys', 'v': 'values', 'o': 'mixed values'}[role] }",
                heights[role] if role != "o" else heights["q"],
                symmetry,
                layer,
                assumed,
            )
            name = f"layers.{layer}.{role}"
            split = Split(rotary_heads=rotary)
            ends = (whole, self.stream) if role == "o" else (self.stream, whole)
            width = None if heads is None else heads.width
            folding = self.architecture.folding(role, layer, ends[0].dim, ends[1].dim, width)
            weights.append(Weight(name, role, layer, None, *ends, tensors[role], split, folding))
            for head in range(count):
                assert heads is not None
                span = (head * heads.width, (head + 1) * heads.width)
                group = head if role in ("k", "v") else head // (heads.query // heads.key_value)
                inner = Space(
                    f"layers.{layer}.heads.{group}.{'keys' if role in ('q', 'k') else 'values'}",
                    heads.width,
                    symmetry,
                    layer,
                    assumed,
                )
                ends = (inner, self.stream) if role == "o" else (self.stream, inner)
                cut = Split(columns=span) if role == "o" else Split(rotary_heads=rotary, rows=span)
                weights.append(Weight(f"{name}.heads.{head}", role, layer, head, *ends, tensors[role], cut, folding))
        return weights

    def _head_counts(self, layer: int, tensors: Mapping[str, str], q_height: int, k_height: int) -> _HeadCounts | None:
        """Head counts by the shapes; the settings only say how many query heads there are."""
        query = self._count("num_attention_heads", layer)
        if query is None:
            remark = "the number of heads is unknown (no num_attention_heads in the settings): heads are not split"
            if remark not in self.remarks:
                self.remarks.append(remark)
            return None
        width, rest = divmod(q_height, query)
        if rest:
            raise _error(self.checkpoint, tensors["q"], f"a height divisible by {query} heads", f"{q_height}")
        key_value, rest = divmod(k_height, width)
        if rest or not key_value or query % key_value:
            raise _error(
                self.checkpoint,
                tensors["k"],
                f"a height that is {width} (the head width) times a divisor of {query} heads",
                f"{k_height}",
            )
        declared = self._count("num_key_value_heads", layer)
        if self.family.grouped and declared not in (None, key_value):
            raise _error(self.checkpoint, tensors["k"], f"{declared} key-value heads of width {width}", f"{key_value}")
        return _HeadCounts(query, key_value, width)
