"""What each weight does, from what a forward pass did with it: its streams, its role, its heads and its norms."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from .labels import Attention, Axes, Encounter, Label, Product, Trace


class DerivationError(Exception):
    """What cannot be found out about a model, in one line."""


@dataclass(frozen=True)
class Part:
    """Rows of a weight that have one role.

    Attributes
    ----------
    role : str
    elements : Tensor, shape=[rows, columns]
        Which element of the parameters each entry is, plus one. A table has a row for each token.
    stream : int
        Axis of the stream that it faces.
    reads_stream : int or None
        Axis of another stream that it reads instead.
    number : int
        Of the product.
    heads : tuple of Tensor or None
        Rows of each head, of a weight that writes to the stream columns; None where it has none.
    after : Part or None
        What reads the stream in its place.
    norm : str or None
        Gain of the last norm that it reads through, or that its writing passes before it is added.
    head_norm : str or None
    turned : bool
        Whether positions turn what it writes.
    """

    role: str
    elements: Tensor
    stream: int
    number: int
    reads_stream: int | None = None
    heads: tuple[Tensor, ...] | None = None
    after: "Part | None" = None
    norm: str | None = None
    head_norm: str | None = None
    turned: bool = False


@dataclass(frozen=True)
class Parts:
    """All of a model.

    Attributes
    ----------
    parts : tuple of Part
    stream_norms : frozenset of str
        Gains of the norms that a stream passes itself.
    entry_norms : mapping of int to str
        Of these, the one before the first layer of each stream.
    activations : mapping of int to frozenset of str
        Names of the functions that the hidden layers along each stream may have.
    unknown : mapping of str to str
        Parameters that face a stream, and why their role is not known.
    """

    parts: tuple[Part, ...]
    stream_norms: frozenset[str]
    entry_norms: Mapping[int, str]
    unknown: Mapping[str, str]


class Analysis:
    """Finds the parts of one trace.

    Parameters
    ----------
    trace : Trace
    tokens : Tensor or None
        Numbers of the tokens that the model was given: what looks these up is the embedding.
    logits : Label or None
        Of what the model returned.
    """

    def __init__(self, trace: Trace, *, tokens: Tensor | None, logits: Label | None) -> None:
        self.trace, self.axes, self.tokens, self.logits = trace, trace.axes, tokens, logits
        self.products = {product.number: product for product in trace.products}
        self.attentions = {attention.number: attention for attention in trace.attentions}
        self.reads = {
            number: frozenset() if product.reads is None else frozenset(self.axes.roots(product.reads))
            for number, product in self.products.items()
        }
        self.writes = {number: min(self.axes.roots(p.writes)) for number, p in self.products.items()}
        self.writers: dict[int, list[int]] = {}
        for number, axis in self.writes.items():
            self.writers.setdefault(axis, []).append(number)

    # Streams.

    def origins(self, number: int) -> frozenset[int]:
        """What a product or an attention works on, by numbers."""
        if number in self.products:
            return self.products[number].source.origins
        attention = self.attentions[number]
        met = [side.origins for meeting in attention.meetings for side in (meeting.left, meeting.right)]
        return frozenset().union(attention.source.origins, *met)

    def _back_to(self, number: int, axis: int) -> list[int]:
        """The products nearest before one, itself included, that read an axis."""
        found, seen, waiting = [], set(), [number]
        while waiting:
            here = waiting.pop()
            if here in seen:
                continue
            seen.add(here)
            if axis in self.reads.get(here, ()):
                found.append(here)
            else:
                waiting += self.origins(here)
        return found

    @cached_property
    def streams(self) -> Mapping[int, frozenset[int]]:
        """Axis of each stream, to the products that write it before its first block."""
        streams = {}
        for axis, writers in self.writers.items():
            entries = {
                n for n in writers if self.products[n].kind == "table" or not self._back_to(n, axis)
            }
            if len(entries) < len(writers):
                streams[axis] = frozenset(entries)
        return streams

    def is_stream(self, label: Label, axis: int) -> bool:
        """Whether a label is that of a stream, and not only of what is about to be added to it."""
        entries = self.streams[axis]
        return bool(label.origins & entries) if entries else label.has("sum")

    def stream_read(self, number: int) -> int | None:
        """Axis of the stream that a product reads."""
        axes = [axis for axis in self.reads[number] if axis in self.streams]
        if len(axes) == 1 and self.is_stream(self.products[number].source, axes[0]):
            return axes[0]
        return None

    # Norms.

    @cached_property
    def stream_norms(self) -> dict[str, bool]:
        """Gains of the norms that streams pass, to whether that is before the first block."""
        norms: dict[str, bool] = {}
        for encounter in self.trace.sums:
            for label in (encounter.left, encounter.right):
                axis = self._axis(label)
                if axis in self.streams and self.is_stream(label, axis):
                    entry = label.origins <= self.streams[axis]
                    norms |= {norm: norms.get(norm, False) or entry for norm in label.of("norm")}
        return norms

    def _axis(self, label: Label) -> int | None:
        if label.entries is None:
            return None
        roots = self.axes.roots(label.entries)
        return min(roots) if len(roots) == 1 else None

    def written(self, number: int) -> Label | None:
        """Of what a product writes, just before it is added to other things."""
        axis = self.writes[number]
        labels = [
            label
            for encounter in self.trace.sums
            for label in (encounter.left, encounter.right)
            if number in label.origins and not self.is_stream(label, axis)
        ]
        return min(labels, key=lambda label: len(label.origins), default=None)

    # Roles.

    def parts(self) -> Parts:
        """Roles of all that faces a stream."""
        self.found: list[Part] = []
        self.taken: dict[int, Tensor] = {
            number: torch.zeros(len(p.writes), dtype=torch.bool) for number, p in self.products.items()
        }
        self.done: set[int] = set()  # products that write a stream
        self.unknown: dict[str, str] = {}
        for attention in self.attentions.values():
            self._attention(attention)
        for number, product in self.products.items():
            axis = self.writes[number]
            if product.kind != "table" and axis in self.streams and number not in self.streams[axis]:
                if number not in self.done:
                    self._hidden(number, axis)
        for number in self.products:
            axis = self.writes[number]
            if axis in self.streams and number not in self.streams[axis] and number not in self.done:
                self._mixer(number, axis)
        self._routers()
        self._tables()
        for number, product in self.products.items():
            if self.stream_read(number) is not None and not self.taken[number].all():
                self.unknown.setdefault(self.name(product.elements), "reads a stream, for what is not known")
        entries = {}
        for norm, entry in self.stream_norms.items():
            if entry:
                entries[norm] = entry
        return Parts(
            tuple(sorted(self.found, key=lambda part: part.number)),
            frozenset(self.stream_norms),
            self._entry_norms(),
            self.unknown,
        )

    def _entry_norms(self) -> dict[int, str]:
        norms = {}
        for encounter in self.trace.sums:
            for label in (encounter.left, encounter.right):
                axis = self._axis(label)
                if axis in self.streams and label.origins and label.origins <= self.streams[axis] and label.of("norm"):
                    norms[axis] = label.of("norm")[-1]
        return norms

    def name(self, elements: Tensor) -> str:
        """Name of the parameter that holds a matrix."""
        return self.trace.parameter_at(float(elements.flatten()[0]))[0]

    def _add(self, part: Part, rows: Tensor | None = None) -> None:
        self.found.append(part)
        if rows is None:
            self.taken[part.number][:] = True
        else:
            self.taken[part.number][rows] = True

    def _reader(self, role: str, number: int, rows: Tensor, heads: list[Tensor] | None, side: Label | None) -> None:
        """Rows of a product that reads a stream, at once or through another product."""
        product = self.products[number]
        elements = product.elements[rows]
        norms = side.of("norm") if side is not None else []
        within = None if heads is None else tuple(torch.searchsorted(rows, head.sort().values) for head in heads)
        axis = self.stream_read(number)
        part = Part(
            role=role,
            elements=elements,
            stream=-1 if axis is None else axis,
            number=number,
            heads=within,
            norm=_last(product.source.of("norm")),
            head_norm=_last(norms),
            turned=side is not None and side.has("turned"),
        )
        if axis is None:
            before = self._latent(number)
            if before is None:
                return
            part = replace(part, stream=before.stream, after=before, norm=part.norm)
        self._add(part, rows)

    def _latent(self, number: int) -> Part | None:
        """The product through which another reads a stream."""
        product = self.products[number]
        if product.reads is None or len(self.reads[number]) != 1:
            return None
        before = [n for n in self.writers[min(self.reads[number])] if n in product.source.origins]
        if len(before) != 1 or (axis := self.stream_read(before[0])) is None:
            return None
        rows = self.axes.coordinates(product.reads)
        first = self.products[before[0]]
        norm = _last(first.source.of("norm"))
        self.taken[before[0]][rows] = True
        return Part("latent", first.elements[rows], axis, before[0], norm=norm)

    def _located(self, entries: Tensor, origins: Collection[int]) -> list[tuple[int, Tensor]]:
        """Products and rows that write entries, shape=[heads, width]; the rows have the same shape, -1 elsewhere."""
        found = []
        canonical = self.axes.canonical(entries)
        for axis in self.axes.roots(entries):
            for number in self.writers.get(axis, ()):
                if number not in origins:
                    continue
                writes = self.axes.canonical(self.products[number].writes)
                order = torch.argsort(writes)
                place = torch.searchsorted(writes[order], canonical.contiguous()).clamp(max=len(writes) - 1)
                rows = torch.where(writes[order][place] == canonical, order[place], -1)
                if (rows >= 0).any():
                    found.append((number, rows))
        return found

    def _attention(self, attention: Attention) -> None:
        """Queries, keys, values and outputs."""
        right = int(attention.keys_right)
        read_by: dict[str, list[tuple[int, Tensor, Label]]] = {"q": [], "k": [], "v": []}
        for meeting in attention.meetings:
            sides = (meeting.left, meeting.right)
            for role, place in (("q", 1 - right), ("k", right)):
                side = sides[place]
                for number, rows in self._located(meeting.pairs[:, place], side.origins):
                    read_by[role].append((number, rows, side))
        for number, rows in self._located(attention.values, attention.source.origins):
            read_by["v"].append((number, rows, attention.source))
        streams = {
            role: {axis for number, _, _ in members if (axis := self._stream_behind(number)) is not None}
            for role, members in read_by.items()
        }
        if not all(streams.values()) or streams["k"] != streams["v"]:
            self._fail(read_by, "attention whose queries, keys or values come from no stream")
            return
        prefix = "" if streams["q"] == streams["k"] else "cross_"
        for role, members in read_by.items():
            for number, rows, side in members:
                if self._stream_behind(number) is not None:
                    self._heads(f"{prefix}{role}", number, rows, side)
        self._outputs(f"{prefix}o", attention)

    def _stream_behind(self, number: int) -> int | None:
        axis = self.stream_read(number)
        if axis is None and self.products[number].kind == "linear" and self.reads[number]:
            before = [n for n in self.writers.get(min(self.reads[number]), ()) if n in self.origins(number)]
            axis = self.stream_read(before[0]) if len(before) == 1 else None
        return axis

    def _fail(self, read_by: Mapping[str, Iterable[tuple[int, Tensor, Label]]], why: str) -> None:
        for members in read_by.values():
            for number, _, _ in members:
                if self._stream_behind(number) is not None:
                    self.unknown[self.name(self.products[number].elements)] = why

    def _heads(self, role: str, number: int, rows: Tensor, side: Label) -> None:
        """Rows of each pair of heads, shape=[pairs, width], to a part with heads."""
        heads = list(dict.fromkeys(tuple(sorted(set(row[row >= 0].tolist()))) for row in rows))
        heads = sorted(head for head in heads if head)
        taken = torch.tensor(sorted({row for head in heads for row in head}))
        width = {len(head) for head in heads}
        disjoint = sum(len(head) for head in heads) == len(taken)
        apart = [torch.tensor(head) for head in heads] if disjoint and len(width) == 1 else None
        if not self.taken[number][taken].all():
            self._reader(role, number, taken, apart, side)

    def _outputs(self, role: str, attention: Attention) -> None:
        root = min(self.axes.roots(attention.writes))
        place = {entry: n for n, entry in enumerate(self.axes.canonical(attention.writes).flatten().tolist())}
        order = self._head_order(attention)
        for number, reads in self.reads.items():
            if root not in reads or self.writes[number] not in self.streams:
                continue
            product = self.products[number]
            assert product.reads is not None
            columns = torch.tensor([place.get(entry, -1) for entry in self.axes.canonical(product.reads).tolist()])
            pairs = columns.div(attention.writes.shape[1], rounding_mode="floor")
            heads = tuple((pairs == pair).nonzero().flatten() for pair in order)
            axis = self.writes[number]
            self._write(role, number, axis, heads=heads if (columns >= 0).all() and all(map(len, heads)) else None)

    def _head_order(self, attention: Attention) -> list[int]:
        """Pairs of heads in the order of the rows of their queries."""
        side = attention.meetings[0].pairs[:, 1 - int(attention.keys_right)]
        return sorted(range(len(side)), key=lambda pair: side[pair].min().item())

    def _write(self, role: str, number: int, axis: int, heads: tuple[Tensor, ...] | None = None) -> None:
        label = self.written(number)
        norm = _last(label.of("norm")) if label is not None else None
        self._add(Part(role, self.products[number].elements, axis, number, heads=heads, norm=norm))
        self.done.add(number)

    def _chosen_by(self, number: int) -> bool:
        """Whether a router weighs what a product writes or reads."""
        label = self.written(number)
        factors = [*(label.of("scaled") if label is not None else ()), *self.products[number].source.of("scaled")]
        factors += [f for o in self.products[number].source.origins if o in self.products for f in self.products[o].source.of("scaled")]
        return any(factor & self.trace.chosen for factor in factors)

    def _hidden(self, number: int, axis: int) -> None:
        """A block of one hidden layer that ends in a product."""
        product = self.products[number]
        source = product.source
        if source.has("attended") or source.has("mixed") or len(self.reads[number]) != 1 or product.reads is None:
            return
        if not (source.has("function") or source.has("gated")):
            return
        before = [n for n in source.origins if n in self.products]
        if len(before) < len(source.origins) or any(self.stream_read(n) is None for n in before):
            return
        reads = self.axes.canonical(product.reads)[None]
        ups = self._located(reads, source.origins)
        gates: list[tuple[int, Tensor]] = []
        if source.has("gated"):
            found = self._gates(reads[0], source.origins)
            if found is None:
                self.unknown[self.name(product.elements)] = "gate and up cannot be told apart"
                return
            gates = self._located(found[None], source.origins)
        if len(ups) != 1 or len(gates) > 1 or {n for n, _ in ups + gates} != set(before):
            return
        prefix = "expert_" if self._chosen_by(number) else "shared_" if self._beside_experts(before[0]) else ""
        for role, located in (("up", ups), ("gate", gates)):
            for n, rows in located:
                self._reader(f"{prefix}{role}", n, rows[rows >= 0].sort().values, None, None)
        self._write(f"{prefix}down", number, axis)

    def _gates(self, reads: Tensor, origins: Collection[int]) -> Tensor | None:
        """Entries of the gate beside each entry of what it multiplies."""
        for encounter in self.trace.gatings:
            if not (encounter.left.origins | encounter.right.origins) <= set(origins):
                continue
            sides = (encounter.left, encounter.right)
            if sides[0].has("function") == sides[1].has("function"):
                return None
            gate, up = sides if sides[0].has("function") else sides[::-1]
            partner = dict(zip(_flat(self.axes, up), _flat(self.axes, gate), strict=True))
            if all(entry in partner for entry in reads.tolist()):
                return torch.tensor([partner[entry] for entry in reads.tolist()], dtype=torch.float64)
        return None

    def _beside_experts(self, number: int) -> bool:
        """Whether a product reads the very activations that a router reads."""
        source = self.products[number].source
        return any(
            self.products[router].source.state == source.state and self.products[router].source.marks == source.marks
            for router in self.trace.chosen
            if router in self.products
        )

    def _mixer(self, number: int, axis: int) -> None:
        """A block that mixes positions in another way than attention."""
        product = self.products[number]
        inputs = self._back_to(number, axis)
        inside, waiting = set(), [number]
        while waiting:
            here = waiting.pop()
            if here not in inside:
                inside.add(here)
                waiting += [] if here in inputs else self.origins(here)
        if inside & self.trace.weighed or inside & set(self.attentions):
            self.unknown[self.name(product.elements)] = "writes a stream behind an attention that is not understood"
            return
        if not any("mixed" in {mark[0] for mark in self.products[n].source.marks} for n in inside if n in self.products):
            self.unknown[self.name(product.elements)] = "writes a stream, for what is not known"
            return
        for n in inputs:
            free = (~self.taken[n]).nonzero().flatten()
            if n != number and self.stream_read(n) == axis and len(free):
                self._reader("mixer_in", n, free, None, None)
        self._write("mixer_out", number, axis)

    def _routers(self) -> None:
        for number in self.trace.chosen & set(self.products):
            if self.stream_read(number) is not None and not self.taken[number].any():
                self._reader("router", number, torch.arange(len(self.products[number].writes)), None, None)

    def _tables(self) -> None:
        """The embedding and the unembedding."""
        for number, product in self.products.items():
            axis = self.writes[number]
            if product.kind == "table" and axis in self.streams and self.tokens is not None:
                if product.indices is not None and torch.equal(product.indices, self.tokens):
                    self._add(Part("embed", product.elements, axis, number))
        if self.logits is None or self.logits.entries is None:
            return
        for number in self.logits.origins & set(self.products):
            axis = self.stream_read(number)
            if axis is not None and self.writes[number] in self.axes.roots(self.logits.entries):
                norm = _last(self.products[number].source.of("norm"))
                self._add(Part("unembed", self.products[number].elements, axis, number, norm=norm))


def _last(values: list[str]) -> str | None:
    return values[-1] if values else None


def _flat(axes: Axes, label: Label) -> list[float]:
    assert label.entries is not None
    return axes.canonical(label.entries).flatten().tolist()  # type: ignore[no-any-return]
