"""A structure guessed from names and shapes alone, for checkpoints that no table knows."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from ..roles import ROLE_RECORDS
from ..spaces import Side
from .record import Cut, Naming, Piece

_Shape = tuple[int, ...]

# What people call the weights of a layer, one word of the module's own name or of its parent's.
_HINTS = (
    ("qkv", r"qkv|c_attn|in_proj|query_key_value|wqkv"),
    ("q", r"q|wq|to_q|q_proj|query|q_lin|queries"),
    ("k", r"k|wk|to_k|k_proj|key|k_lin|keys"),
    ("v", r"v|wv|to_v|v_proj|value|v_lin|values"),
    ("gate", r"gate|gate_proj|w_gate|w1_gate|linear_gate"),
    ("up", r"up|up_proj|fc1|fc_1|fc|c_fc|w_in|linear1|lin1|intermediate|dense_h_to_4h|wi|fc_in|expand"),
    ("down", r"down|down_proj|fc2|fc_2|w_out|linear2|lin2|dense_4h_to_h|fc_out|contract"),
    ("o", r"o|wo|to_out|o_proj|out_proj|out_lin"),
)
_ATTENTION = re.compile(r"attn|attention|\bsa\b|mha")
_EMBEDDING = re.compile(r"(?<!un)emb|wte|tok|vocab")
_UNEMBEDDING = re.compile(r"lm_head|unembed|logits")
# The output of a classifier is called so as well: with as many rows as the embedding has it is the unembedding.
_OUTPUT = re.compile(r"output|\bhead")
_EXPERTS = re.compile(r"experts?$")


@dataclass(frozen=True)
class Guess:
    """A naming that was guessed.

    Attributes
    ----------
    naming : Naming
        With the reason why a matrix was left out among the other tensors.
    remarks : tuple of str
        What was guessed, and from what.
    """

    naming: Naming
    remarks: tuple[str, ...]


def infer(shapes: Mapping[str, _Shape]) -> Guess | None:
    """Guess which matrices of a repeated layer read and write the stream.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Of every tensor, by name.

    Returns
    -------
    guess : Guess or None
        None where no template of names repeats from layer to layer, or none of its matrices face one width.

    Notes
    -----
    The stream is the width that most matrices of the layer have at one end. A matrix with this width as its columns
    reads it, one with it as its rows writes it; a bias tells where a file stores (in, out). Which role it has, and
    which end of a square one faces the stream, is taken from the words of its name; without a known word a square
    matrix is left out.
    """
    templates = _repeated(shapes)
    matrices = {template: shape for template, shape in templates.items() if len(shape) == 2}
    width = _stream_width(matrices.values(), shapes)
    if width is None:
        return None
    pieces: list[Piece] = []
    reasons: dict[str, str] = {}
    for template, shape in matrices.items():
        stored = _is_stored_in_out(template, shape, templates)
        oriented = (shape[1], shape[0]) if stored else shape
        found = list(_pieces(template, oriented, width, transposed=stored))
        if not found:
            square = oriented == (width, width)
            reasons[template] = (
                "square, and nothing in its name says whether it reads or writes the stream"
                if square
                else f"neither side has the stream's width, {width}"
                if width not in oriented
                else "faces the stream, but nothing in its name says in which role"
            )
        pieces += found
    pieces = _without_ambiguous(pieces, reasons)
    sides = {ROLE_RECORDS[piece.role].side for piece in pieces}
    if sides != {Side.READ, Side.WRITE}:
        return None
    pieces += _tables(shapes, templates, width)
    told = ", ".join(f"{piece.role} from {piece.tensor}" for piece in pieces)
    remarks = (f"roles are inferred from names and shapes, with a stream of width {width}: {told}",)
    return Guess(Naming(tuple(pieces), other=reasons), remarks)


def _repeated(shapes: Mapping[str, _Shape]) -> dict[str, _Shape]:
    """Templates of the tensors that every layer has, with the shape that they have in all of them."""
    numbered: dict[str, dict[int, dict[str, _Shape]]] = defaultdict(lambda: defaultdict(dict))
    for name, shape in shapes.items():
        parts = name.split(".")
        place = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
        if place is not None:
            inside = [_expert_number(parts, i) if i > place else part for i, part in enumerate(parts)]
            beginning, rest = ".".join(parts[:place]), ".".join(inside[place + 1 :])
            numbered[beginning][int(parts[place])][rest] = shape
    if not numbered:
        return {}
    beginning, layers = max(numbered.items(), key=lambda item: sum(len(rests) for rests in item[1].values()))
    if len(layers) < 2 or sorted(layers) != list(range(len(layers))):
        return {}
    start = f"{beginning}." if beginning else ""
    common: dict[str, _Shape] = {}
    for rest, shape in layers[0].items():
        if all(layer.get(rest) == shape for layer in layers.values()):
            common[f"{start}{{layer}}.{rest}"] = shape
    return common


def _expert_number(parts: list[str], place: int) -> str:
    """A part of a name, with a place for the number of an expert."""
    return "{expert}" if parts[place].isdecimal() and _EXPERTS.search(parts[place - 1]) else parts[place]


def _stream_width(matrices: Iterable[_Shape], shapes: Mapping[str, _Shape]) -> int | None:
    """The width that most matrices of a layer have at one end, and of equals the one that tables outside have."""
    counts = Counter(size for shape in matrices for size in set(shape))
    outside = Counter(shape[-1] for shape in shapes.values() if len(shape) == 2)
    if not counts:
        return None
    return max(counts, key=lambda size: (counts[size], outside[size]))


def _is_stored_in_out(template: str, shape: _Shape, templates: Mapping[str, _Shape]) -> bool:
    """Whether a matrix is stored (in, out), as the length of its bias tells."""
    bias = templates.get(template.removesuffix("weight") + "bias")
    return bias is not None and shape[0] != shape[1] and bias == (shape[1],)


def _pieces(template: str, shape: _Shape, width: int, *, transposed: bool) -> Iterator[Piece]:
    rows, columns = shape
    hint = _hint(template)
    if hint == "qkv" and columns == width:
        cut = Cut("1", ("q", "k", "v"))
        yield from (Piece(template, role, transposed=transposed, cut=cut) for role in cut.order)
    elif hint is not None and hint in ROLE_RECORDS:
        reads = ROLE_RECORDS[hint].side is Side.READ
        if (columns if reads else rows) == width:
            yield Piece(template, hint, transposed=transposed)
    elif rows != columns:
        if columns == width and not _ATTENTION.search(template):
            yield Piece(template, "up", transposed=transposed)
        elif rows == width and not _ATTENTION.search(template):
            yield Piece(template, "down", transposed=transposed)


def _hint(template: str) -> str | None:
    """What the last words of a name call a matrix; a projection in attention without a word of its own is ``o``."""
    words = [
        word for word in template.removesuffix(".weight").lower().split(".") if not word.isdecimal() and "{" not in word
    ]
    for word in reversed(words[-2:]):
        for role, pattern in _HINTS:
            if re.fullmatch(pattern, word):
                return role
        if word in ("proj", "c_proj", "dense", "out"):
            return "o" if _ATTENTION.search(template.lower()) else "down"
    return None


def _without_ambiguous(pieces: list[Piece], reasons: dict[str, str]) -> list[Piece]:
    """The pieces of which there is one of a role; several have been guessed at least once too often."""
    counts = Counter(piece.role for piece in pieces)
    several = [piece for piece in pieces if counts[piece.role] > 1]
    for piece in several:
        reasons[piece.tensor] = f"one of several matrices of a layer that could be {piece.role}"
    return [piece for piece in pieces if piece not in several]


def _tables(shapes: Mapping[str, _Shape], templates: Mapping[str, _Shape], width: int) -> Iterator[Piece]:
    """Embedding and unembedding outside of the layers."""
    layers = {template.partition("{layer}")[0] for template in templates}
    tables = [
        name
        for name, shape in shapes.items()
        if len(shape) == 2 and shape[1] == width and "pos" not in name.lower()
        if not any(name.startswith(start) for start in layers if start)
    ]
    embeddings = [name for name in tables if _EMBEDDING.search(name.lower())]
    words = {shapes[name][0] for name in embeddings[:1]}
    unembeddings = [
        name
        for name in tables
        if name not in embeddings
        if _UNEMBEDDING.search(name.lower()) or (_OUTPUT.search(name.lower()) and shapes[name][0] in words)
    ]
    yield from (Piece(name, "embed") for name in embeddings[:1])
    yield from (Piece(name, "unembed") for name in unembeddings[:1])
