"""A structure guessed from names and shapes alone, for checkpoints that no table knows."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ..roles import ROLE_RECORDS
from ..spaces import Side
from .record import Cut, Naming, Piece

_Shape = tuple[int, ...]

# What people call the weights of a layer, one word of the module's own name or of its parent's.
_HINTS = (
    ("qkv", r"(\w+_)?qkv(_\w+)?|c_attn|in_proj|query_key_value"),
    ("q", r"q|wq|to_q|q_proj|query|q_lin|queries"),
    ("k", r"k|wk|to_k|k_proj|key|k_lin|keys"),
    ("v", r"v|wv|to_v|v_proj|value|v_lin|values"),
    ("gate", r"gate|gate_proj|w_gate|w1_gate|linear_gate"),
    ("up", r"up|up_proj|fc1|fc_1|fc|c_fc|w_in|linear1|lin1|intermediate|dense_h_to_4h|wi|fc_in|expand"),
    ("down", r"down|down_proj|fc2|fc_2|w_out|linear2|lin2|dense_4h_to_h|fc_out|contract"),
    ("o", r"o|wo|to_out|o_proj|out_proj|out_lin"),
)
# Numbered as in the first Llama: only where all three are there, since two of them are numbered in any order.
_NUMBERED = {"w1": "gate", "w2": "down", "w3": "up"}
_ATTENTION = re.compile(r"attn|attention|\bsa\b|mha")
_EMBEDDING = re.compile(r"(?<!un)emb|wte|tok|vocab")
_UNEMBEDDING = re.compile(r"lm_head|unembed|logits")
# The output of a classifier is called so as well: with as many rows as the embedding has it is the unembedding.
_OUTPUT = re.compile(r"output|\bhead")
_EXPERTS = re.compile(r"experts?$")
# A parameter of a module rather than the weight of a module in it, as in torch's attention: in_proj_weight.
_WEIGHT = re.compile(r"[._]weight$")


@dataclass(frozen=True)
class Guess:
    """A naming that was guessed.

    Attributes
    ----------
    naming : Naming
        With the reason why a matrix was left out among the other tensors.
    towers : tuple of str
        Their names; an empty one if there is only one.
    remarks : tuple of str
        What was guessed, and from what.
    """

    naming: Naming
    towers: tuple[str, ...]
    remarks: tuple[str, ...]


def infer(shapes: Mapping[str, _Shape]) -> Guess | None:
    """Guess which matrices of repeated layers read and write a stream.

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
    Layers whose names begin alike are a tower. Its stream is the width that most matrices of a layer have at one end.
    A matrix with this width as its columns reads it, one with it as its rows writes it; a bias tells where a file
    stores (in, out). Which role it has, and which end of a square one faces the stream, is taken from the words of its
    name; without a known word a square matrix is left out.
    """
    guesses = {
        beginning: guess
        for beginning, templates in _repeated(shapes).items()
        if (guess := _guessed_tower(templates, shapes)) is not None
    }
    if not guesses:
        return None
    pieces: list[Piece] = []
    reasons: dict[str, str] = {}
    remarks = []
    starts = _telling_starts(list(guesses))
    labels = _labels(starts)
    for beginning, (width, found, why) in guesses.items():
        label, start = labels[beginning], starts[beginning]
        others = [other for other in starts.values() if len(other) > len(start)]
        found += _tables(shapes, width, start, others)
        pieces += (replace(piece, tower=label) for piece in found)
        reasons |= why
        by_tensor: dict[str, list[str]] = {}
        for piece in found:
            by_tensor.setdefault(piece.tensor, []).append(piece.role)
        told = "; ".join(f"{', '.join(roles)} from {tensor}" for tensor, roles in by_tensor.items())
        where = f" in {label}" if label else ""
        remarks.append(f"roles{where} are inferred from names and shapes, with a stream of width {width}: {told}")
    return Guess(Naming(tuple(pieces), other=reasons), tuple(labels.values()), tuple(remarks))


def _guessed_tower(
    templates: Mapping[str, _Shape], shapes: Mapping[str, _Shape]
) -> tuple[int, list[Piece], dict[str, str]] | None:
    """Width of the stream, weights, why other matrices are none; None unless some read the stream and some write it."""
    matrices = {template: shape for template, shape in templates.items() if len(shape) == 2}
    width = _stream_width(matrices.values(), shapes)
    if width is None:
        return None
    pieces: list[Piece] = []
    reasons: dict[str, str] = {}
    for template, shape in matrices.items():
        stored = _is_stored_in_out(template, shape, templates)
        oriented = (shape[1], shape[0]) if stored else shape
        found = list(_pieces(template, oriented, width, transposed=stored, templates=templates))
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
    return (width, pieces, reasons) if sides == {Side.READ, Side.WRITE} else None


def _telling_starts(beginnings: Sequence[str]) -> dict[str, str]:
    """What stands before the names of each tower and of its tables: its beginning without what all towers end with.

    Examples
    --------
    >>> _telling_starts(["visual.transformer.blocks", "transformer.blocks"])
    {'visual.transformer.blocks': 'visual.', 'transformer.blocks': ''}
    """
    if len(beginnings) == 1:
        return {beginnings[0]: ""}
    parts = [beginning.split(".") for beginning in beginnings]
    same = 0
    while same < min(map(len, parts)) and len({own[-1 - same] for own in parts}) == 1:
        same += 1
    starts = [".".join(own[: len(own) - same]) for own in parts]
    return {beginning: f"{start}." if start else "" for beginning, start in zip(beginnings, starts, strict=True)}


def _labels(starts: Mapping[str, str]) -> dict[str, str]:
    """Names of the towers, by their beginnings: what tells them apart, without what all towers begin with."""
    if len(starts) == 1:
        return dict.fromkeys(starts, "")
    parts = {beginning: start.split(".")[:-1] for beginning, start in starts.items()}
    same = 0
    while same < min(map(len, parts.values())) - 1 and len({own[same] for own in parts.values()}) == 1:
        same += 1
    return {
        beginning: ".".join(own[same:]) or beginning.partition(".")[0] or "layers" for beginning, own in parts.items()
    }


def _repeated(shapes: Mapping[str, _Shape]) -> dict[str, dict[str, _Shape]]:
    """Templates of tensors with one shape in all layers that have them, by what stands before the layer's number."""
    numbered: dict[str, dict[str, dict[int, _Shape]]] = defaultdict(lambda: defaultdict(dict))
    for name, shape in shapes.items():
        parts = name.split(".")
        place = next((i for i, part in enumerate(parts) if part.isdecimal()), None)
        if place is not None:
            inside = [_expert_number(parts, i) if i > place else part for i, part in enumerate(parts)]
            beginning, rest = ".".join(parts[:place]), ".".join(inside[place + 1 :])
            numbered[beginning][rest][int(parts[place])] = shape
    return {
        beginning: {
            f"{beginning}.{{layer}}.{rest}".removeprefix("."): next(iter(by_layer.values()))
            for rest, by_layer in rests.items()
            if len(by_layer) > 1 and len({*by_layer.values()}) == 1
        }
        for beginning, rests in numbered.items()
    }


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


def _pieces(
    template: str, shape: _Shape, width: int, *, transposed: bool, templates: Mapping[str, _Shape]
) -> Iterator[Piece]:
    rows, columns = shape
    hint = _hint(template, templates)
    if hint == "qkv" and shape == (3 * width, width) and _ATTENTION.search(template.lower()):
        cut = Cut("1", ("q", "k", "v"))
        yield from (Piece(template, role, transposed=transposed, cut=cut) for role in cut.order)
    elif hint is not None and hint in ROLE_RECORDS:
        reads = ROLE_RECORDS[hint].side is Side.READ
        if (columns if reads else rows) == width:
            yield Piece(template, hint, transposed=transposed)
    elif hint is None and rows != columns and not _ATTENTION.search(template.lower()):
        if columns == width:
            yield Piece(template, "up", transposed=transposed)
        elif rows == width:
            yield Piece(template, "down", transposed=transposed)


def _hint(template: str, templates: Iterable[str]) -> str | None:
    """What the last words of a name call a matrix; a projection in attention without a word of its own is ``o``."""
    words = [word for word in _WEIGHT.sub("", template).lower().split(".") if not word.isdecimal() and "{" not in word]
    for word in reversed(words[-2:]):
        if word in _NUMBERED and all(template.replace(word, other) in templates for other in _NUMBERED):
            return _NUMBERED[word]
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


def _tables(shapes: Mapping[str, _Shape], width: int, start: str, others: Iterable[str]) -> Iterator[Piece]:
    """Embedding and unembedding of a tower, outside of all numbered modules; `others` begin names of other towers."""
    modules: dict[str, str] = {}
    for name, shape in shapes.items():
        outside = not any(part.isdecimal() for part in name.split("."))
        own = name.startswith(start) and not any(name.startswith(other) for other in others)
        module = _WEIGHT.sub("", name).lower().rpartition(".")[2]
        if outside and own and len(shape) == 2 and shape[1] == width and "pos" not in module:
            modules[name] = module
    embeddings = [name for name, module in modules.items() if _EMBEDDING.search(module)]
    words = {shapes[name][0] for name in embeddings[:1]}
    unembeddings = [
        name
        for name, module in modules.items()
        if name not in embeddings
        if _UNEMBEDDING.search(module) or (_OUTPUT.search(module) and shapes[name][0] in words)
    ]
    yield from (Piece(name, "embed") for name in embeddings[:1])
    yield from (Piece(name, "unembed") for name in unembeddings[:1])
