"""What the settings and the norms of a checkpoint say about the spaces and weights of a tower."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

from ..checkpoint import Checkpoint, CheckpointError
from .families.lookup import Structure
from .families.names import Numbers, of_own_layer, words_in
from .families.record import NORM_KINDS, Norm, Piece, Tower
from .folding import Folding, Gain, Latent
from .roles import ROLE_RECORDS
from .spaces import Side, SpaceKind, Symmetry
from .symmetries import hidden_symmetry, key_symmetry, meet, stream_symmetry

#: From the name of a setting, with dots for sections, to its value or None.
Settings = Callable[[str | None], object]


@dataclass(frozen=True)
class Architecture:
    """The symmetry of every space and the norms beside every weight of one tower, from headers alone.

    Attributes
    ----------
    checkpoint : Checkpoint
    structure : Structure
    tower : Tower
    settings : callable
    pieces : tuple of Piece
        Those of the tower that the checkpoint has.
    """

    checkpoint: Checkpoint
    structure: Structure
    tower: Tower
    settings: Settings
    pieces: tuple[Piece, ...]

    @property
    def norms(self) -> Mapping[str, Norm]:
        """Every norm of the structure, by the template of its gain."""
        return {norm.tensor: norm for norm in self.structure.naming.norms}

    @property
    def stream(self) -> tuple[Symmetry, bool]:
        """Symmetry of the residual stream, and whether it is only assumed."""
        read, written = (self._norms_of(side) for side in (Side.READ, Side.WRITE))
        # A norm on the stream may also be added to it without a weight that reads through it, as where a block pools.
        passed = [norm for norm in self.norms.values() if norm.on_stream and "layer" in words_in(norm.tensor)]
        on_stream = any(norm.on_stream for norm in read) or any(self._stored(norm.tensor) for norm in passed)
        on_stream |= self._stored(self.tower.entry_norm)
        usual = Symmetry.PERMUTATION if on_stream else Symmetry.ORTHOGONAL
        if not read and not written:
            usual = Symmetry.GENERAL_LINEAR
        named = any("norm" in name.lower() for name in self.checkpoint.headers)
        writes_normed = any(not norm.on_stream and self._stored(norm.tensor) for norm in written)
        if not self.structure.known:
            return stream_symmetry(None, normed=named, writes_normed=writes_normed)
        groups = [stream_symmetry(usual, normed=named, writes_normed=writes_normed)]
        if self.tower.channels_apart:
            centred = any(norm.kind == "layer" for norm in read)
            groups.append((Symmetry.PERMUTATION if centred else Symmetry.SCALED_PERMUTATION, False))
        if self.tower.stream_activation is not None:
            groups.append(hidden_symmetry(self._function(self.tower.stream_activation), gated=False))
        return meet(groups)

    def _stored(self, template: str | None) -> bool:
        """Whether the checkpoint has this norm in any layer."""
        return any(isinstance(one.part, Norm) and one.part.tensor == template for one in self.structure.names.placed)

    def _norms_of(self, side: Side) -> list[Norm]:
        """Norms of the structure beside what reads the stream, or behind what writes to it."""
        norms = self.norms
        found = [(ROLE_RECORDS[piece.role].side, of_own_layer(piece.norm)) for piece in self.pieces]
        return [norms[template] for end, template in found if end is side and template in norms]

    def inside(self, kind: SpaceKind, layer: int, pieces: Sequence[Piece]) -> tuple[Symmetry, bool]:
        """Symmetry of a space inside a block, and whether it is only assumed.

        Parameters
        ----------
        kind : SpaceKind
        layer : int
        pieces : sequence of Piece
            The weights that read it or write to it.
        """
        match kind:
            case SpaceKind.HIDDEN:
                gated = not all(ROLE_RECORDS[piece.role].scalable for piece in pieces)
                return hidden_symmetry(self._activation, gated=gated)
            case SpaceKind.KEYS:
                with_gains = any(self._stored(piece.head_norm) for piece in pieces)
                symmetry, assumed = key_symmetry(self._rotary(layer), normed=with_gains)
                turned = symmetry is not Symmetry.GENERAL_LINEAR
                return (Symmetry.ORTHOGONAL if self._has_plain_norm(pieces) and not turned else symmetry), assumed
            case SpaceKind.VALUES if self._has_plain_norm(pieces):
                return Symmetry.ORTHOGONAL, False
            case SpaceKind.VALUES:
                gated = any(piece.role == "attention_gate" for piece in self.pieces)
                return (Symmetry.SCALED_PERMUTATION if gated else Symmetry.GENERAL_LINEAR), False
            case _:
                return Symmetry.TRIVIAL, False

    def _has_plain_norm(self, pieces: Iterable[Piece]) -> bool:
        """Whether queries, keys or values pass a norm without gains."""
        return any(piece.head_norm in NORM_KINDS for piece in pieces)

    @property
    def _activation(self) -> str | None:
        if not self.structure.known or self.tower.activation is None:
            found = self.settings("hidden_activation") or self.settings("hidden_act")
        else:
            return self._function(self.tower.activation)
        return None if found is None else str(found)

    def _function(self, named: str) -> str | None:
        """The function that a setting names, or else the usual one, as `Tower.activation` has them."""
        setting, _, usual = named.partition("=")
        found = self.settings(setting or None) or usual
        return str(found) if found else None

    def _rotary(self, layer: int) -> bool | None:
        if not self.structure.known or self.tower.rotary is None:
            return None
        turned = self.settings("no_rope_layers")  # in spite of its name, 1 where a layer has rotary positions
        if isinstance(turned, list) and layer < len(turned):
            return self.tower.rotary and bool(turned[layer])
        every = self.tower.unturned
        return self.tower.rotary and (every is None or (layer + 1) % every != 0)

    def folding(
        self, piece: Piece, numbers: Numbers, *, source: int, target: int, head_width: int | None = None
    ) -> Folding:
        """Norms beside a weight, of which `source` and `target` are the dimensions before it is cut into heads.

        Raises
        ------
        CheckpointError
            If a norm has not as many gains as there are coordinates.
        """
        if not self.structure.known:
            return Folding(*self._gains(piece, numbers, source, target, head_width))
        read, written = self._gains(piece, numbers, source, target, head_width)
        if ROLE_RECORDS[piece.role].side is Side.WRITE:
            is_table = ROLE_RECORDS[piece.role].is_table
            return Folding(read, written, centred=self._is_centred, before_norm=is_table and self._begins_with_a_norm)
        norm = self.norms.get(of_own_layer(piece.norm))
        if norm is None or norm.kind != "layer":
            return Folding(read, written)
        is_there = norm.tensor in NORM_KINDS or self.structure.names.find(piece.norm, numbers) is not None
        if not norm.on_stream and is_there:
            return Folding(read, written, reads_centred=True)
        passed = self._passed(piece, numbers)
        # The first layer may have no norm of its own (ModernBERT): that of the embeddings stands before it.
        is_first = numbers.get("layer") == 0 and (piece.norm != of_own_layer(piece.norm) or not norm.on_stream)
        if (is_first and self.tower.entry_norm is None) or not (is_first or norm.on_stream):
            return Folding(read, written)
        if passed is not None and self.checkpoint.headers[passed].shape != (source,):
            return Folding(read, written)  # a projection lies between that norm and the stream
        return Folding(read, written, reads_centred=True, passed=Gain(passed, norm.offset) if passed else None)

    @property
    def _begins_with_a_norm(self) -> bool:
        """Whether the stream passes a norm before the first layer, and none behind it."""
        return self._stored(self.tower.entry_norm) and not any(norm.on_stream for norm in self._norms_of(Side.READ))

    @property
    def _is_centred(self) -> bool:
        """Whether all that reads the stream does so through norms that do not see its mean."""
        read = self._norms_of(Side.READ)
        return bool(read) and all(norm.kind == "layer" for norm in read)

    def _passed(self, piece: Piece, numbers: Numbers) -> str | None:
        """Gain of the norm that the stream passed last before a weight reads it."""
        find = self.structure.names.find
        return find(piece.norm, numbers) or find(self.tower.entry_norm, numbers)

    def _gains(
        self, piece: Piece, numbers: Numbers, source: int, target: int, head_width: int | None
    ) -> tuple[Gain | None, Gain | None]:
        """Of the norm that is read through, and of the norm or scale that the output passes."""
        writes = ROLE_RECORDS[piece.role].side is Side.WRITE
        norm = self.norms.get(of_own_layer(piece.norm))
        beside = None if norm is None or norm.on_stream else piece.norm
        read, written = (None, beside or piece.scale) if writes else (beside, piece.head_norm)
        sizes = {target}
        if piece.head_norm:
            sizes |= {head_width} if head_width else {size for size in range(1, target) if target % size == 0}
        return self._gain(read, numbers, {source}), self._gain(written, numbers, sizes)

    def latent(self, piece: Piece, numbers: Numbers, width: int) -> Latent | None:
        """What reads the stream in the place of a piece that reads a latent space of this width."""
        tensor = self.structure.names.find(piece.after, numbers)
        if tensor is None:
            return None
        rows = self.checkpoint.headers[tensor].shape[0]
        part = None if rows == width else (0, width)
        return Latent(tensor, part, self._gain(piece.after_norm, numbers, {width}))

    def _gain(self, template: str | None, numbers: Numbers, sizes: set[int]) -> Gain | None:
        """Gain that a tensor holds, if it has as many numbers as expected."""
        tensor = self.structure.names.find(template, numbers)
        if tensor is None or template is None:
            return None
        header = self.checkpoint.headers[tensor]
        # Of two axes the first counts heads.
        if len(header.shape) not in (1, 2) or not {header.shape[-1], prod(header.shape)} <= sizes:
            raise CheckpointError(
                f"{header.file}: tensor {tensor!r}: expected {' or '.join(map(str, sorted(sizes)))} gains, "
                f"found shape {header.shape}"
            )
        return Gain(tensor, self.norms[template].offset if template in self.norms else 0.0)
