"""What the settings and the norms of a checkpoint say about its spaces and weights."""

from collections.abc import Iterable, Mapping
from typing import Any

from ..checkpoint import Checkpoint, CheckpointError
from .families import Family
from .folding import Folding, Gain
from .roles import ROLE_RECORDS, BlockKind
from .spaces import Side, SpaceKind, Symmetry
from .symmetries import hidden_symmetry, key_symmetry, stream_symmetry

# Behind the tables at the start, as `Family.stream_norms` calls it.
_FIRST = ("embedding", None)


class Architecture:
    """The symmetry of every space and the norms beside every weight, from headers alone.

    Parameters
    ----------
    checkpoint : Checkpoint
    settings : mapping
        Of the language model.
    family : Family
        The row that the names matched.
    """

    def __init__(self, checkpoint: Checkpoint, settings: Mapping[str, Any], family: Family) -> None:
        self._checkpoint, self._settings, self._family = checkpoint, settings, family
        self._model_type = str(settings.get("model_type", ""))
        self._known = self._model_type in family.model_types
        plus_one = checkpoint.naming == "huggingface" and self._model_type in family.gains_above_one
        self._offset = 1.0 if plus_one else 0.0
        self._norms = {place: name for name in checkpoint.headers if (place := family.norm_of(checkpoint.naming, name))}
        self._stream_norms = {
            place: name for name in checkpoint.headers if (place := family.stream_norm_of(checkpoint.naming, name))
        }
        for (norm, layer), name in list(self._norms.items()):
            if norm == "after attention":
                behind = ("mlp output", layer) in self._norms
                self._norms["attention output" if behind else "mlp", layer] = name

    @property
    def stream(self) -> tuple[Symmetry, bool]:
        """Symmetry of the residual stream, and whether it is only assumed."""
        behind = {role.writes_through for role in ROLE_RECORDS.values() if role.writes_to_stream}
        return stream_symmetry(
            self._family.stream if self._known else None,
            normed=any("norm" in name.lower() for name in self._checkpoint.headers),
            writes_normed=any(norm in behind for norm, _ in self._norms),
        )

    def inside(self, kind: SpaceKind, layer: int, roles: Iterable[str]) -> tuple[Symmetry, bool]:
        """Symmetry of a space inside a block, and whether it is only assumed.

        Parameters
        ----------
        kind : SpaceKind
        layer : int
        roles : iterable of str
            Of the weights that read it or write to it.
        """
        records = [ROLE_RECORDS[role] for role in roles]
        match kind:
            case SpaceKind.HIDDEN:
                activation = self._settings.get("hidden_activation") or self._settings.get("hidden_act")
                default = self._family.activation if self._known else None
                gated = not all(record.scalable for record in records)
                return hidden_symmetry(default if activation is None else str(activation), gated=gated)
            case SpaceKind.KEYS:
                normed = any((record.writes_through, layer) in self._norms for record in records)
                return key_symmetry(self._rotary(layer), normed=normed)
            case SpaceKind.VALUES:
                return Symmetry.GENERAL_LINEAR, False
            case _:
                return Symmetry.TRIVIAL, False

    def _rotary(self, layer: int) -> bool | None:
        if not self._known:
            return None
        turned = self._settings.get("no_rope_layers")  # in spite of its name, 1 where a layer has rotary positions
        if isinstance(turned, list) and layer < len(turned):
            return self._family.rotary and bool(turned[layer])
        every = self._family.unturned.get(self._model_type)
        return self._family.rotary and (every is None or (layer + 1) % every != 0)

    def folding(self, role: str, layer: int | None, source: int, target: int, head_width: int | None) -> Folding:
        """Norms beside a weight and beside each of its heads.

        Parameters
        ----------
        role : str
        layer : int or None
        source, target : int
            Dimensions of the whole projection.
        head_width : int or None
            Where it is known: the norms of queries and keys may have gains for one head only.

        Raises
        ------
        CheckpointError
            If a norm has not as many gains as there are coordinates.
        """
        record = ROLE_RECORDS[role]
        read = self._gain(record.reads_through, layer, {source})
        sizes = {target}
        if record.heads and record.side is Side.READ:
            sizes |= {head_width} if head_width else {size for size in range(1, target) if target % size == 0}
        written = self._gain(record.writes_through, layer, sizes)
        if not (self._known and self._family.layer_norm):
            return Folding(read, written)
        if record.writes_to_stream:
            return Folding(read, written, centred=True)
        place = _norm_before(record.block, layer)
        if place == _FIRST and self._has_narrow_embedding(source):
            return Folding(read, written)  # a projection lies between that norm and the stream
        passed = self._checked(self._stream_norms.get(place), {source})
        return Folding(read, written, reads_centred=True, passed=passed)

    def _has_narrow_embedding(self, width: int) -> bool:
        """Whether the table at the start is not as wide as the stream."""
        return any(
            ROLE_RECORDS[place[0]].block is BlockKind.EMBEDDING and header.shape[1:] != (width,)
            for name, header in self._checkpoint.headers.items()
            if (place := self._family.role_of(self._checkpoint.naming, name))
        )

    def _gain(self, norm: str | None, layer: int | None, sizes: set[int]) -> Gain | None:
        return self._checked(None if norm is None else self._norms.get((norm, layer)), sizes)

    def _checked(self, tensor: str | None, sizes: set[int]) -> Gain | None:
        """Gain that a tensor holds, if it has as many numbers as expected."""
        if tensor is None:
            return None
        header = self._checkpoint.headers[tensor]
        if len(header.shape) != 1 or header.shape[0] not in sizes:
            raise CheckpointError(
                f"{header.file}: tensor {tensor!r}: expected {' or '.join(map(str, sorted(sizes)))} gains, "
                f"found shape {header.shape}"
            )
        return Gain(tensor, self._offset)


def _norm_before(block: BlockKind, layer: int | None) -> tuple[str, int | None]:
    """The norm of `Family.stream_norms` behind which a block reads the stream, and its layer."""
    match block:
        case BlockKind.UNEMBEDDING:
            return "unembedding", None
        case BlockKind.MLP:
            return "attention", layer
        case _:
            return ("mlp", layer - 1) if layer else _FIRST
