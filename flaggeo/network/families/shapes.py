"""What the shapes of tensors say for or against a structure whose names they have."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

from ...checkpoint import TensorHeader
from ..roles import ROLE_RECORDS
from .names import Names
from .record import Naming, Piece

Headers = Mapping[str, TensorHeader]

# Roles of matrices that are not square, at least, to tell that a file stores them the other way round: two that have
# changed their names look the same.
_WITNESSES = 3


def explains_most(names: Names, headers: Headers) -> bool:
    """Whether a structure knows tensors with half of the numbers, or more, in all matrices of numbered modules."""
    known = _known(names)
    sizes = {
        name: prod(headers[name].shape)
        for name in _matrices(headers)
        if any(part.isdecimal() for part in name.split("."))
    }
    return 2 * sum(size for name, size in sizes.items() if name in known) >= sum(sizes.values())


def explains_its_layers(names: Names, headers: Headers) -> bool:
    """Whether a structure knows every matrix of its layers that is as wide as the stream at one of its ends."""
    known = _known(names)
    widths = {one.facing for one in _faces(names, headers)}
    unknown = (name for name in _matrices(headers) if name not in known and names.is_in_layers(name))
    return not any(not widths or widths.intersection(headers[name].shape) for name in unknown)


def stored_the_other_way(naming: Naming, names: Names, headers: Headers) -> Naming | None:
    """The naming with the matrices of layers stored (in, out) in place of (out, in), or the reverse, if they are.

    Returns
    -------
    naming : Naming or None
        None unless in some tower no matrix that is not square fits as the naming has it, and all of them do the other
        way round, with their biases. Where both ways fit, as they do if the heads together are as wide as the MLP, the
        naming stands.
    """
    towers: dict[str, list[_Face]] = {}
    for face in _faces(names, headers):
        towers.setdefault(face.piece.tower, []).append(face)
    turned = {tower for tower, faces in towers.items() if _all_fit_turned(faces, headers)}
    if not turned:
        return None
    inside = {face.piece for tower in turned for face in towers[tower]}
    pieces = (replace(one, transposed=not one.transposed) if one in inside else one for one in naming.pieces)
    return replace(naming, pieces=tuple(pieces))


def _known(names: Names) -> set[str]:
    """Tensors that a structure knows, those among them that a weight is a product with."""
    placed = names.placed
    products = {names.find(one.part.after, one.numbers) for one in placed if isinstance(one.part, Piece)}
    return {one.tensor for one in placed}.union(name for name in products if name is not None)


@dataclass(frozen=True)
class _Face:
    """A matrix in a layer, the size of its axis that a structure lets face the stream, and that of the other one."""

    tensor: str
    piece: Piece
    facing: int
    inner: int


def _faces(names: Names, headers: Headers) -> Iterator[_Face]:
    for one in names.placed:
        piece = one.part
        if not isinstance(piece, Piece) or not one.numbers or piece.after or piece.reads_tower:
            continue
        record, shape = ROLE_RECORDS[piece.role], headers[one.tensor].shape
        shape = shape[1:] if piece.stacked else shape
        if len(shape) == 2 and record.side is not None and not record.is_table:
            rows, columns = reversed(shape) if piece.transposed else shape
            ends = (rows, columns) if record.writes_to_stream else (columns, rows)
            yield _Face(one.tensor, piece, *ends)


def _all_fit_turned(faces: list[_Face], headers: Headers) -> bool:
    oblong = [face for face in faces if face.facing != face.inner]
    widths = {face.inner for face in oblong}
    fit_as_named = len({face.facing for face in faces}) == 1
    if fit_as_named or len(widths) != 1 or len({face.piece.role for face in oblong}) < _WITNESSES:
        return False
    (width,) = widths
    return all(face.inner == width and _bias_fits_turned(face, headers) for face in faces) and not any(
        face.facing == width for face in oblong
    )


def _bias_fits_turned(face: _Face, headers: Headers) -> bool:
    """Whether the bias beside a matrix, if there is one, is as long as what the matrix writes when it is turned."""
    bias = headers.get(face.tensor.removesuffix("weight") + "bias")
    written = face.inner if ROLE_RECORDS[face.piece.role].writes_to_stream else face.facing
    return bias is None or face.tensor == bias.name or bias.shape == (written,)


def _matrices(headers: Headers) -> Iterator[str]:
    """Tensors of which two axes or more are longer than 1, but for biases of any shape."""
    for name, header in headers.items():
        if sum(size > 1 for size in header.shape) > 1 and not name.endswith("bias"):
            yield name
