"""Products of tensors whose axes are named: a weight applied, queries meeting keys, scores applied to values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from .labels import (
    Attention,
    Label,
    Meeting,
    Product,
    Trace,
    pairs_and_positions,
    score_entries,
    united,
)


@dataclass(frozen=True)
class Operand:
    """A factor: what is known of it, and a letter for each of its axes, as `torch.einsum` has them."""

    label: Label | None
    names: str

    def entries(self, *order: Sequence[str]) -> Tensor:
        """Entries with all axes of each group as one axis, in this order."""
        assert self.label is not None
        assert self.label.entries is not None
        entries = self.label.entries
        names = [name for group in order for name in group]
        moved = entries.permute([self.names.index(name) for name in names])
        sizes = dict(zip(self.names, entries.shape, strict=True))
        return moved.reshape([prod(sizes[name] for name in group) for group in order])

    def over(self, sizes: Mapping[str, int]) -> "Operand":
        """The same without axes that are only there to be repeated."""
        if self.label is None or self.label.entries is None:
            return self
        entries, names = self.label.entries, self.names
        for name in self.names:
            place = names.index(name)
            if entries.shape[place] == 1 and sizes.get(name, 1) > 1:
                entries, names = entries.squeeze(place), names.replace(name, "")
        return Operand(replace(self.label, entries=entries), names)


@dataclass(frozen=True)
class _Axes:
    """Letters of the axes of two factors, by where they occur."""

    batch: str
    left: str
    right: str
    contracted: str


def product(trace: Trace, one: Operand, other: Operand, result: str, shape: Sequence[int]) -> Label | None:
    """What is known of a product.

    Parameters
    ----------
    trace : Trace
        Gets what is found.
    one, other : Operand
    result : str
        Letters of the axes of the product.
    shape : sequence of int
        Of the product.
    """
    sizes = dict(zip(result, shape, strict=True))
    one, other = one.over(sizes), other.over(sizes)
    if other.label is not None and other.label.parameter:
        one, other = other, one
    names = _Axes(
        batch="".join(x for x in one.names if x in other.names and x in result),
        left="".join(x for x in one.names if x not in other.names and x in result),
        right="".join(x for x in other.names if x not in one.names and x in result),
        contracted="".join(x for x in one.names if x in other.names and x not in result),
    )
    if one.label is not None and one.label.parameter:
        if other.label is not None and other.label.parameter:
            trace.use(one.label, "position")
            trace.use(other.label, "position")
            return None
        return _applied(trace, one, other, names, result, shape)
    if one.label is None or other.label is None:
        known = other if one.label is None else one
        return _mixed(trace, known, result, shape)
    if one.label.has("scores") or other.label.has("scores"):
        attended = _attended(trace, one, other, names, result, shape)
        if attended is None and "softmax" in (*one.label.of("function"), *other.label.of("function")):
            trace.weighed |= one.label.origins | other.label.origins
        return attended or _unknown(trace, one, other, result, shape)
    return _met(trace, one, other, names, result, shape) or _unknown(trace, one, other, result, shape)


def spread(entries: Tensor, names: str, result: str, shape: Sequence[int]) -> Tensor:
    """Entries along some axes of a result, repeated along all others."""
    sizes = dict(zip(result, shape, strict=True))
    ordered = "".join(x for x in result if x in names)
    entries = entries.reshape([sizes[x] for x in names]).permute([names.index(x) for x in ordered])
    for place, name in enumerate(result):
        if name not in names:
            entries = entries.unsqueeze(place)
    return entries.expand(tuple(shape))


def applied(
    trace: Trace, kind: str, elements: Tensor, source: Label | None, columns: Tensor | None
) -> tuple[Tensor, frozenset[int]]:
    """Note blocks of a weight applied to an activation.

    Parameters
    ----------
    trace : Trace
    kind : str
    elements : Tensor, shape=[blocks, rows, columns]
    source : Label or None
    columns : Tensor or None, shape=[blocks, columns]
        Entries that each block reads.

    Returns
    -------
    writes : Tensor, shape=[blocks, rows]
        Entries. Blocks that read the same, as experts do, write the same axis; others write its parts.
    numbers : frozenset of int
        Of the products.
    """
    blocks, rows, _ = elements.shape
    alike = columns is not None and bool((columns == columns[0]).all())
    writes = trace.axes.new(rows).expand(blocks, rows) if alike else trace.axes.new(rows * blocks).reshape(blocks, rows)
    numbers = []
    for block in range(blocks):
        reads = None if columns is None else columns[block]
        number = trace.next_number()
        trace.products.append(Product(number, kind, elements[block], reads, writes[block], source or Label(None)))
        numbers.append(number)
    return writes, frozenset(numbers)


def _applied(
    trace: Trace, weight: Operand, source: Operand, names: _Axes, result: str, shape: Sequence[int]
) -> Label | None:
    if not names.contracted or not names.left:
        assert weight.label is not None
        trace.use(weight.label, "scale")
        return None if source.label is None else _mixed(trace, source, result, shape)
    elements = weight.entries(names.batch, names.left, names.contracted)
    columns = None
    if source.label is not None and source.label.entries is not None:
        rest = "".join(x for x in source.names if x not in names.batch + names.contracted)
        columns = trace.axes.merged(source.entries(names.batch, rest, names.contracted))
    writes, numbers = applied(trace, "linear", elements, source.label, columns)
    entries = spread(writes, names.batch + names.left, result, shape)
    return Label(entries, origins=numbers, state=trace.next_state())


def _mixed(trace: Trace, operand: Operand, result: str, shape: Sequence[int]) -> Label:
    """Entries mixed along an axis by factors that no weight wrote: the coordinates along other axes stay."""
    assert operand.label is not None
    label = operand.label.marked("mixed", "product")
    own = "".join(x for x in operand.names if x in result)
    summed = "".join(x for x in operand.names if x not in result)
    if label.entries is None or label.has("scores"):
        return replace(label, entries=None)
    merged = trace.axes.merged(operand.entries(summed, own))
    return replace(label, entries=spread(merged, own, result, shape) if merged.any() else None)


def _unknown(trace: Trace, one: Operand, other: Operand, result: str, shape: Sequence[int]) -> Label:
    """A product of activations that is no attention."""
    assert one.label is not None
    assert other.label is not None
    both = replace(united([one.label, other.label]), entries=None).marked("mixed", "product")
    kept = (_mixed(trace, operand, result, shape).entries for operand in (other, one))
    return replace(both, entries=next((entries for entries in kept if entries is not None), None))


def _met(trace: Trace, left: Operand, right: Operand, names: _Axes, result: str, shape: Sequence[int]) -> Label | None:
    """Queries meeting keys: the axis that is summed over is one of coordinates on both sides."""
    assert left.label is not None
    assert right.label is not None
    if left.label.entries is None or right.label.entries is None:
        return None
    if len(names.contracted) != 1 or not names.left or not names.right:
        return None
    queries = trace.axes.canonical(left.entries(names.batch, names.left, names.contracted))
    others = right.entries(names.batch, names.right, names.contracted)
    keys = trace.axes.merged(others)
    if any(_constant(side) for side in (queries, keys)):
        return None
    width = keys.shape[-1]
    if bool((queries == queries[:, :1]).all()):
        queries = queries[:, :1]  # the same at all positions
    pairs = torch.stack([queries, keys[:, None].expand_as(queries)], -2)
    distinct, which = torch.unique(pairs.reshape(-1, 2 * width), dim=0, return_inverse=True)
    positions = torch.arange(others.shape[1], dtype=torch.float64)
    rows = prod(left.label.entries.shape[left.names.index(name)] for name in names.left)
    entries = score_entries(which.reshape(*queries.shape[:2], 1).expand(-1, rows, -1), positions)
    trace.meetings.append(Meeting(distinct.reshape(-1, 2, width), left.label, right.label))
    return Label(
        spread(entries, names.batch + names.left + names.right, result, shape),
        origins=left.label.origins | right.label.origins,
        marks=(("scores", len(trace.meetings) - 1),),
        state=trace.next_state(),
    )


def _attended(
    trace: Trace, scores: Operand, values: Operand, names: _Axes, result: str, shape: Sequence[int]
) -> Label | None:
    """Scores applied to values."""
    assert scores.label is not None
    assert values.label is not None
    if not scores.label.has("scores"):
        swapped = _Axes(names.batch, names.right, names.left, names.contracted)
        return _attended(trace, values, scores, swapped, result, shape)
    if scores.label.entries is None or values.label.entries is None or values.label.has("scores"):
        return None
    if len(names.contracted) != 1 or not names.right:
        return None
    pairs, positions = pairs_and_positions(scores.entries(names.batch, names.left, names.contracted))
    ends = positions.amax(-1), torch.where(positions < 0, positions.amax() + 1, positions).amin(-1)
    pair = pairs.amax(-1)
    if pair.min() < 0:
        return None
    meetings = [trace.meetings[number] for number in scores.label.of("scores")]
    columns = trace.axes.merged(values.entries(names.batch, names.contracted, names.right))
    table = torch.zeros(len(meetings[0].pairs), columns.shape[-1], dtype=torch.float64)
    met = columns[:, None].expand(*pair.shape, -1)
    table.index_reduce_(0, pair.flatten(), met.flatten(0, 1), "amax")
    if not ((met == table[pair]).all(-1) | (met == 0).all(-1)).all():
        return None  # values of one head in several places
    writes = trace.axes.new(table.numel()).reshape(table.shape)
    number = trace.next_number()
    keys_right = bool((ends[0] > ends[1]).any())
    trace.attentions.append(Attention(number, meetings, keys_right, table, writes, values.label))
    return Label(
        spread(writes[pair], names.batch + names.left + names.right, result, shape),
        origins=frozenset({number}),
        marks=(("attended", number),),
        state=trace.next_state(),
    )


def _constant(entries: Tensor) -> bool:
    """Whether nothing is known of entries, or they are the same along an axis of more than one."""
    if not (entries > 0).any():
        return True
    return entries.shape[-1] > 1 and bool((entries == entries[..., :1]).all())
