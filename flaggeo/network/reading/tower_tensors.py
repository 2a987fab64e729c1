"""The tensors of one tower by the places of its weights, and the shapes that they have there."""

from collections import Counter
from collections.abc import Iterable, Mapping
from math import prod

from ...checkpoint import Checkpoint, CheckpointError
from ..families.lookup import INFERRED, Structure
from ..families.names import Numbers, Placed
from ..families.record import Piece, Tower
from ..roles import ROLE_RECORDS, BlockKind, Role, roles_in
from ..spaces import Side
from .head_counts import Segment
from .settings_by_name import SettingsByName

#: Where a weight stands in its tower: layer, role and expert.
Place = tuple[int | None, str, int | None]

#: Settings that give the width of a stream, in a section that has other settings of the tower.
WIDTHS = ("hidden_size", "d_model", "n_embd", "dim", "emb_dim")


class TowerTensors:
    """Which tensor has which place along one stream, and how wide it is there.

    Parameters
    ----------
    checkpoint : Checkpoint
    structure : Structure
    settings : SettingsByName
    tower : Tower
    label : str
        What its weights and spaces are called after.
    numbers : mapping of str to int
        Those in its name, such as that of a stage.
    placed : iterable of Placed
        Tensors of the tower whose part is a piece.

    Attributes
    ----------
    at : dict of Place to Placed
    layers : list of int
    reasons : dict of str to str
        Of tensors that have a place and are no weights, why.
    width : int
        Of the stream.
    is_described : bool
        Whether the settings are those of this tower.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        structure: Structure,
        settings: SettingsByName,
        tower: Tower,
        label: str,
        numbers: Numbers,
        placed: Iterable[Placed],
    ) -> None:
        self.checkpoint, self.structure, self.settings = checkpoint, structure, settings
        self.tower, self.label, self.numbers = tower, label, numbers
        self.reasons: dict[str, str] = {}
        self.at = self._found(placed)
        self.layers = sorted({layer for layer, *_ in self.at if layer is not None})
        self.width = self._stream_width()
        declared = settings.size("", WIDTHS, 0)
        # Of several towers that were guessed the settings are those of the one that is as wide as they say.
        one_of_several = structure.name == INFERRED and len(structure.towers) > 1
        self.is_described = not one_of_several or declared is None or declared[1] == self.width

    def _found(self, placed: Iterable[Placed]) -> dict[Place, Placed]:
        """Every weight by its place; the parts of one role in a layer by the names of their modules."""
        at: dict[Place, list[Placed]] = {}
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
                members.sort(key=lambda one: order.index(piece_of(one)))
                while len(members) > 1:
                    self.reasons[members.pop(0).tensor] = "a table that is used only where it is tied to others"
        several = {role for (_, role, _), members in at.items() if len(members) > 1}
        found: dict[Place, Placed] = {}
        for (layer, role, expert), members in at.items():
            for one in members:
                name = role
                if role in several:
                    if ROLE_RECORDS[role].block not in (BlockKind.MIXER, BlockKind.CONVOLUTION):
                        first, second = members[0].tensor, members[-1].tensor
                        what = f"one tensor for the role {role!r} of layer {layer}"
                        raise mismatch(self.checkpoint, second, what, f"also {first}")
                    name = f"{role}:{one.tensor.removesuffix('.weight').rpartition('.')[2]}"
                found[layer, name, expert] = one
        return found

    def _experts(self, one: Placed) -> Iterable[int | None]:
        if isinstance(one.part, Piece) and one.part.stacked:
            return range(self.checkpoint.headers[one.tensor].shape[0])
        return [one.numbers.get("expert")]

    def _stream_width(self) -> int:
        # A block faces the stream; a table may be narrower, with a projection between.
        inside = [place for place in self.at if place[0] is not None and not self.piece(place).reads_tower]
        # What most have: of weights that contradict each other the fewer are at fault.
        return Counter(map(self.facing, inside or [next(iter(self.at))])).most_common(1)[0][0]

    @property
    def pieces(self) -> tuple[Piece, ...]:
        """Those of the structure that are there."""
        return tuple(dict.fromkeys(map(piece_of, self.at.values())))

    def piece(self, place: Place) -> Piece:
        """Record of the tensor of a place."""
        return piece_of(self.at[place])

    def role(self, place: Place) -> Role:
        """Record of the role of a place."""
        return ROLE_RECORDS[self.piece(place).role]

    def shape(self, place: Place) -> tuple[int, ...]:
        """As it is stored, whatever else the tensor has in it."""
        return self.checkpoint.headers[self.at[place].tensor].shape

    def matrix(self, place: Place) -> tuple[int, int]:
        """Shape of the matrix that a tensor stores for a place, (out, in), before rows are cut out of it."""
        one, piece, stored = self.at[place], self.piece(place), self.shape(place)
        shape = stored[1:] if piece.stacked else stored
        kernel = unfolded(piece, shape)
        if 0 in stored or (len(shape) != 2 and kernel is None):
            expected = "stacked matrices" if piece.stacked else "a matrix"
            raise mismatch(self.checkpoint, one.tensor, expected, f"shape {stored}")
        if kernel is Side.WRITE:
            shape = shape[0], prod(shape[1:])
        elif kernel is Side.READ:
            shape = prod(shape) // shape[1], shape[1]
        rows, columns = reversed(shape) if piece.transposed else shape
        if piece.after is not None:
            first = self.structure.names.find(piece.after, one.numbers)
            if first is None:
                raise mismatch(self.checkpoint, one.tensor, f"a tensor {piece.after!r} that it composes with", "none")
            columns = self.checkpoint.headers[first].shape[-1]
        return rows, columns

    def is_lookup(self, place: Place) -> bool:
        """Whether it is a table stored (vocabulary, width)."""
        return self.role(place).is_table and len(self.shape(place)) == 2 and not self.piece(place).transposed

    def facing(self, place: Place) -> int:
        """Width of the end that faces the stream."""
        rows, columns = self.matrix(place)
        return rows if self.role(place).writes_to_stream and not self.is_lookup(place) else columns

    def inner_width(self, place: Place, segments: Mapping[Place, Segment | None]) -> int:
        """Dimension of the end of a projection that does not face the stream; of a part of a tensor, by its segment."""
        rows, columns = self.matrix(place)
        own = segments.get(place)
        if self.role(place).writes_to_stream:
            return columns
        return rows if own is None else own.groups * own.heads * own.width

    def require(self, place: Place, what: str, expected: int, found: int, witness: str = "") -> None:
        """Raise `CheckpointError` unless a size is what is expected, by whatever is the witness."""
        if expected != found:
            expectation = f"{what} of {expected}" + (f" ({witness})" if witness else "")
            found_there = f"{found} in shape {self.shape(place)}"
            raise mismatch(self.checkpoint, self.at[place].tensor, expectation, found_there)


def mismatch(checkpoint: Checkpoint, tensor: str, expected: str, found: str) -> CheckpointError:
    """What to raise where a tensor is not as expected."""
    return CheckpointError(f"{checkpoint.headers[tensor].file}: tensor {tensor!r}: expected {expected}, found {found}")


def piece_of(one: Placed) -> Piece:
    """Record of a tensor that may become a weight."""
    assert isinstance(one.part, Piece)
    return one.part


def unfolded(piece: Piece, shape: tuple[int, ...]) -> Side | None:
    """The end that keeps an axis of its own where the tensor is the kernel of a convolution."""
    record = ROLE_RECORDS[piece.role]
    is_kernel = record.is_table or record.block is BlockKind.CONVOLUTION or set(shape[2:]) == {1}
    return record.side if len(shape) > 2 and is_kernel else None
