"""Why a tensor is no weight."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ...checkpoint import Checkpoint
from ..families.lookup import INFERRED, Structure
from ..families.names import Placed
from ..families.record import Norm, Piece
from ..quiver import Skipped, Weight

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
_FOLDED = "normalisation gain: a diagonal map, folded into the weights beside it on request"
_PASSED = "normalisation gain: a diagonal map; the stream comes after it, so it cannot be folded into any weight"
_WITHIN = "normalisation gain: a diagonal map between the two factors of a weight, always part of their product"
_ROTARY = "{left} of its {height} rows: the rotary part of queries and keys, one key for all heads, is not analysed"


def skipped_tensors(
    checkpoint: Checkpoint, structure: Structure, weights: Sequence[Weight], reasons: Mapping[str, str]
) -> Iterator[Skipped]:
    """Every tensor that no weight uses, and every part of one, with the reason.

    Parameters
    ----------
    checkpoint : Checkpoint
    structure : Structure
    weights : sequence of Weight
        All of the network.
    reasons : mapping of str to str
        Of tensors, by their names, that have the place of a weight and yet are none.
    """
    used = {tensor for one in weights for tensor in (one.tensor, *([one.after.tensor] if one.after else []))}
    parts: dict[str, Placed] = {}
    for placed in structure.names.placed:
        parts.setdefault(placed.tensor, placed)
    for name, header in checkpoint.headers.items():
        if name not in used:
            placed_here = parts.get(name)
            reason = reasons.get(name) or _reason(placed_here, structure, name)
            is_buffer = placed_here is not None and placed_here.part == _BUFFER
            yield Skipped(name, header.shape, reason, is_parameter=not is_buffer)
    for name, first in checkpoint.aliases.items():
        yield Skipped(name, checkpoint.headers[first].shape, f"the same tensor as {first!r}, which is counted once")
    yield from _rotary_rows(checkpoint, structure, weights)


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
