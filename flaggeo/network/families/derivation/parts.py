"""What each weight does, from what a forward pass did with it: its streams, its role, its heads and its norms."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from .labels import Attention, Axes, Label, Trace


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
        Axis of another stream that it reads instead: keys and values of cross-attention.
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
    activations : frozenset of str
        Of a weight that reads a hidden layer: names of the functions that this layer may have, and all before it.
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
    activations: frozenset[str] = frozenset()


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
    others : mapping of str to str
        Parameters that face a stream without being weights of a layer, and the reason.
    unknown : mapping of str to str
        Parameters that face a stream, and why their role is not known.
    """

    parts: tuple[Part, ...]
    stream_norms: frozenset[str]
    entry_norms: Mapping[int, str]
    others: Mapping[str, str]
    unknown: Mapping[str, str]


class Analysis:
    """Finds the parts of one trace.

    Parameters
    ----------
    trace : Trace
    tokens : sequence of Tensor
        Numbers of the tokens that the model was given: what looks these up is an embedding.
    logits : Label or None
        Of what the model returned.
    tied : bool
        Whether the unembedding is that of the stream even if a head lies between, because it may be the embedding.
    """

    def __init__(
        self, trace: Trace, *, tokens: Sequence[Tensor], logits: Label | None = None, tied: bool = False
    ) -> None:
        self.trace, self.axes, self.tokens, self.logits, self.tied = trace, trace.axes, tokens, logits, tied
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
            entries = {n for n in writers if self.products[n].kind == "table" or not self._back_to(n, axis)}
            if len(entries) < len(writers):
                streams[axis] = frozenset(entries)
        return streams

    def is_stream(self, label: Label, axis: int) -> bool:
        """Whether a label is that of a stream, and not only of what is about to be added to it."""
        entries = self.streams.get(axis)
        return axis in self.streams and (bool(label.origins & entries) if entries else label.has("sum"))

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
                if axis is not None and self.is_stream(label, axis):
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
        self.taken = {number: torch.zeros(len(p.writes), dtype=torch.bool) for number, p in self.products.items()}
        self.unknown: dict[str, str] = {}
        self.possible: dict[int, frozenset[str]] = {}  # names of the functions of all hidden layers along a stream
        self.others: dict[str, str] = {}
        for attention in self.attentions.values():
            self._attention(attention)
        for find in (self._hidden, self._convolutions, self._mixer):
            for number in self._block_writers():
                if not self.taken[number].any():
                    find(number)
        for number in self.trace.chosen & set(self.products):
            if self.stream_read(number) is not None and not self.taken[number].any():
                self._reader("router", number, torch.arange(len(self.products[number].writes)))
        self._tables()
        for number in self._block_writers():
            if self.products[number].kind == "convolution" and self.stream_read(number) == self.writes[number]:
                self.others[self.name(number)] = "convolution"
                self.taken[number][:] = True
            elif not self.taken[number].any():
                self.unknown.setdefault(self.name(number), "writes a stream, for what is not known")
        for number in self.products:
            if self.stream_read(number) is not None and not self.taken[number].all():
                self._leftover(number)
        return Parts(
            tuple(sorted(self.found, key=lambda part: part.number)),
            frozenset(self.stream_norms),
            {**self._first_norms(), **self._entry_norms()},
            self.others,
            self.unknown,
        )

    def _block_writers(self) -> list[int]:
        """Products that write a stream, other than those before its first block."""
        return [
            number for number, axis in self.writes.items() if axis in self.streams and number not in self.streams[axis]
        ]

    def _first_norms(self) -> dict[int, str]:
        """Norms on the streams through which their first blocks read."""
        norms: dict[int, str] = {}
        for part in sorted(self.found, key=lambda part: part.number):
            if part.role not in ("embed", "unembed") and part.stream not in norms and part.reads_stream is None:
                norms[part.stream] = part.norm or ""
        return {axis: norm for axis, norm in norms.items() if norm in self.stream_norms}

    def _entry_norms(self) -> dict[int, str]:
        norms: dict[int, str] = {}
        for encounter in self.trace.sums:
            for label in (encounter.left, encounter.right):
                axis = self._axis(label)
                before = frozenset() if axis is None else self.streams.get(axis, frozenset())
                if axis is not None and label.origins and label.origins <= before and label.of("norm"):
                    norms.setdefault(axis, label.of("norm")[-1])
        return norms

    def uses_of_products(self) -> dict[str, str]:
        """Reasons why parameters that are parts of no block are no weights."""
        feeding: set[int] = set()
        for writer in self._block_writers():
            feeding |= self._inside(writer, self.writes[writer])[0]
        entries = frozenset[int]().union(*self.streams.values())
        preparing: set[int] = set()
        for entry in entries:
            preparing |= self._inside(entry, _NO_AXIS)[0]
        reasons: dict[str, str] = {}
        for number, product in self.products.items():
            if product.indices is not None and self.writes[number] not in self.streams:
                reason = "position"
            elif product.indices is not None:
                steps = product.indices.flatten().unique().diff()
                reason = "position table" if len(steps) and bool((steps == 1).all()) else "segment table"
            elif number in entries:
                reason = "between"
            elif number in preparing and number not in self._behind_streams:
                reason = "stem"
            else:
                reason = "state" if number in feeding else "head"
            reasons[self.name(number)] = reason
        on_streams = {
            name
            for name, label in self.trace.added
            if (axis := self._axis(label)) is not None and self.is_stream(label, axis)
        }
        return reasons | dict.fromkeys(on_streams, "position table")

    @cached_property
    def _behind_streams(self) -> set[int]:
        """Products and attentions that work on what was read from a stream, at once or through others."""
        behind: set[int] = set()
        for number in sorted({*self.products, *self.attentions}):
            is_read = number in self.products and self.stream_read(number) is not None
            if is_read or not behind.isdisjoint(self.origins(number)):
                behind.add(number)
        return behind

    def name(self, number: int) -> str:
        """Name of the parameter that holds the matrix of a product."""
        return self.trace.parameter_at(float(self.products[number].elements.flatten()[0]))[0]

    def _reader(
        self,
        role: str,
        number: int,
        rows: Tensor,
        heads: Sequence[Sequence[int]] | None = None,
        side: Label | None = None,
        stream: int | None = None,
    ) -> None:
        """Rows of a product that reads a stream, at once or through another product."""
        product, axis = self.products[number], self.stream_read(number)
        before = self._latent(number) if axis is None else None
        if axis is None and before is None:
            return
        place = {row: n for n, row in enumerate(rows.tolist())}
        reads = axis if axis is not None or before is None else before.stream
        assert reads is not None
        self.found.append(
            Part(
                role=role,
                elements=product.elements[rows],
                stream=reads if stream is None else stream,
                reads_stream=None if stream in (None, reads) else reads,
                number=number,
                heads=None if heads is None else tuple(torch.tensor([place[row] for row in head]) for head in heads),
                after=before,
                norm=self._norm_before(number),
                head_norm=_last(side.of("own") or side.of("norm")) if side is not None else None,
                turned=side is not None and side.has("turned"),
            )
        )
        self.taken[number][rows] = True

    def _latent(self, number: int) -> Part | None:
        """The product through which another reads a stream."""
        product = self.products[number]
        before = self._only_source(number)
        axis = None if before is None else self.stream_read(before)
        if before is None or axis is None or product.reads is None:
            return None
        rows = self.axes.coordinates(product.reads)
        first = self.products[before]
        self.taken[before][rows] = True
        return Part("latent", first.elements[rows], axis, before, norm=self._norm_before(before))

    def _norm_before(self, number: int) -> str | None:
        """Gain of the last norm that a product reads through, or the kind of one without gains."""
        source = self.products[number].source
        if not source.has("own"):
            return _last(source.of("norm"))
        read = self.trace.values[number][0].flatten(0, -2).float()
        sizes = read.square().mean(-1)
        if (
            source.has("norm")
            or source.has("gain")
            or not torch.allclose(sizes, sizes.mean().expand_as(sizes), rtol=_ALIKE)
        ):
            self.unknown[self.name(number)] = "reads through a norm of another kind than those that are known"
        return "layer" if bool((read.mean(-1).square() < _ALIKE**2 * sizes).all()) else "rms"

    def _only_source(self, number: int) -> int | None:
        """The product whose writing another reads, if it is one."""
        if len(self.reads[number]) != 1:
            return None
        before = [n for n in self.writers.get(min(self.reads[number]), ()) if n in self.origins(number)]
        return before[0] if len(before) == 1 else None

    def _stream_behind(self, number: int) -> int | None:
        """Axis of the stream that a product reads, at once or through another product."""
        axis, before = self.stream_read(number), self._only_source(number)
        return self.stream_read(before) if axis is None and before is not None else axis

    def _located(self, entries: Tensor, origins: Collection[int]) -> list[tuple[int, Tensor]]:
        """Products and rows that write entries; the rows have the shape of the entries, -1 elsewhere."""
        found = []
        canonical = self.axes.canonical(entries).contiguous()
        for axis in self.axes.roots(entries):
            for number in self.writers.get(axis, ()):
                if number in origins:
                    writes, order = self.axes.canonical(self.products[number].writes).sort()
                    place = torch.searchsorted(writes, canonical).clamp(max=len(writes) - 1)
                    rows = torch.where(writes[place] == canonical, order[place], -1)
                    if (rows >= 0).any():
                        found.append((number, rows))
        return found

    # Attention.

    def _attention(self, attention: Attention) -> None:
        """Queries, keys, values and outputs."""
        right = int(attention.keys_right)
        sides = [
            *(
                (role, meeting.pairs[:, place], (meeting.left, meeting.right)[place])
                for meeting in attention.meetings
                for role, place in (("q", 1 - right), ("k", right))
            ),
            ("v", attention.values, attention.source),
        ]
        members = [
            (role, number, rows, side)
            for role, entries, side in sides
            for number, rows in self._located(entries, side.origins)
            if self._stream_behind(number) is not None
        ]
        streams = {role: {self._stream_behind(number) for r, number, _, _ in members if r == role} for role in "qkv"}
        if any(len(axes) != 1 for axes in streams.values()) or streams["k"] != streams["v"]:
            return
        if any(side.has("function") or set(side.of("mixed")) - {"add"} for _, _, side in sides):
            return  # a block of another kind, that has such products inside
        if any(side.has("norm") and (role == "v" or side.has("own")) for role, _, side in sides):
            for _, number, _, _ in members:
                self.unknown[self.name(number)] = "a norm of values, or two norms"
            return
        prefix = "" if streams["q"] == streams["k"] else "cross_"
        (stream,) = streams["q"]
        known = self._head_pairs_are_in_order(attention)
        # Where keys come from a latent, the part of them that positions turn comes from the stream at once, for all
        # heads alike. It is left out, with what it meets in the queries.
        through = {number for role, number, _, _ in members if role == "k" and self.stream_read(number) is None}
        shared = [rows >= 0 for role, number, rows, _ in members if role == "k" and through and number not in through]
        for role, number, rows, side in members:
            left_out = role in ("q", "k") and bool(shared) and number not in through
            if left_out:
                self.taken[number][rows[rows >= 0]] = True
            if left_out and role == "k":
                continue
            kept = torch.where(shared[0], -1, rows) if left_out else rows
            self._heads(f"{prefix}{role}", number, kept, side, known=known, stream=stream)
        self._attention_gate(attention)
        self._outputs(f"{prefix}o", attention, known=known)

    def _head_pairs_are_in_order(self, attention: Attention) -> bool:
        """Whether equally many query heads, one after the other, share each key-value head."""
        right = int(attention.keys_right)
        heads: list[list[int]] = []
        for place in (1 - right, right):
            entries = attention.meetings[0].pairs[:, place]
            firsts = [min((e for e in row if e > 0), default=0) for row in entries.tolist()]
            order = sorted(set(firsts))
            heads.append([order.index(first) for first in firsts])
        queries, keys = max(heads[0]) + 1, max(heads[1]) + 1
        return queries % keys == 0 and all(k == q // (queries // keys) for q, k in zip(*heads, strict=True))

    def _heads(self, role: str, number: int, rows: Tensor, side: Label, *, known: bool, stream: int | None) -> None:
        """A part whose heads are in the rows of a matrix, -1 for what is not of this product."""
        heads = sorted({tuple(sorted(set(row) - {-1})) for row in rows.tolist()} - {()})
        taken = sorted({row for head in heads for row in head})
        apart = known and sum(map(len, heads)) == len(taken) and len(set(map(len, heads))) == 1
        if all(part.number != number or part.role != role for part in self.found):
            self._reader(role, number, torch.tensor(taken), heads if apart else None, side, stream)

    def _attention_gate(self, attention: Attention) -> None:
        """Rows that multiply the output of attention, coordinate by coordinate."""
        root = min(self.axes.roots(attention.writes))
        for encounter in self.trace.gatings:
            for outputs, gate in ((encounter.left, encounter.right), (encounter.right, encounter.left)):
                if attention.number in outputs.origins and self._axis(outputs) == root and gate.entries is not None:
                    for number, rows in self._located(gate.entries.unique(), gate.origins):
                        rows = rows[rows >= 0].sort().values
                        if self.stream_read(number) is not None and not self.taken[number][rows].any():
                            whole = len(rows) == attention.writes.numel()
                            if whole:
                                self._reader("attention_gate", number, rows)

    def _outputs(self, role: str, attention: Attention, *, known: bool) -> None:
        root = min(self.axes.roots(attention.writes))
        place = {entry: n for n, entry in enumerate(self.axes.canonical(attention.writes).flatten().tolist())}
        side = attention.meetings[0].pairs[:, 1 - int(attention.keys_right)]
        order = sorted(range(len(side)), key=lambda pair: min(e for e in side[pair].tolist() if e > 0))
        for number, reads in self.reads.items():
            product = self.products[number]
            if root in reads and (product.source.has("norm") or product.source.has("own")):
                self.unknown[self.name(number)] = "a norm between values and outputs"
            elif root in reads and self.writes[number] in self.streams and product.reads is not None:
                columns = torch.tensor([place.get(entry, -1) for entry in self.axes.canonical(product.reads).tolist()])
                pairs = torch.where(columns < 0, -1, columns.div(attention.writes.shape[1], rounding_mode="floor"))
                heads = tuple((pairs == pair).nonzero().flatten() for pair in order)
                whole = known and bool((columns >= 0).all()) and all(map(len, heads))
                self._writer(role, number, heads=heads if whole else None)

    def _writer(
        self,
        role: str,
        number: int,
        heads: tuple[Tensor, ...] | None = None,
        activations: frozenset[str] = frozenset(),
    ) -> None:
        if self.taken[number].any():
            return
        label = self.written(number)
        if label is not None and label.has("own"):
            self.unknown[self.name(number)] = "writes through a norm without gains"
        self.found.append(
            Part(
                role,
                self.products[number].elements,
                self.writes[number],
                number,
                heads=heads,
                norm=_last(label.of("norm")) if label is not None else None,
                activations=activations,
            )
        )
        self.taken[number][:] = True

    # Hidden layers.

    def _hidden(self, number: int) -> None:
        """A block of one hidden layer that ends in a product."""
        product = self.products[number]
        source = product.source
        if source.has("attended") or source.has("mixed") or len(self.reads[number]) != 1 or product.reads is None:
            return
        before = [n for n in source.origins if n in self.products]
        if len(before) < len(source.origins) or any(self.stream_read(n) is None for n in before):
            return
        if any(self.products[n].mixes_positions for n in (number, *before)):
            return
        if not (source.has("function") or source.has("gated")):
            return
        if source.has("norm") or source.has("own"):
            self.unknown[self.name(number)] = "a norm inside the hidden layer"
            return
        reads = self.axes.canonical(product.reads)
        located = {"up": self._located(reads, source.origins)}
        if source.has("gated"):
            gate = self._gate(reads, source.origins)
            if gate is None:
                self.unknown[self.name(number)] = "gate and up cannot be told apart"
                return
            located["gate"] = self._located(gate, source.origins)
        # Experts that are applied as one batch read the same coordinates, each those of its own place in the batch.
        batch = [n for n, other in self.products.items() if other.source is source]
        located = {
            role: members if len(batch) != len(members) else [members[batch.index(number)]]
            for role, members in located.items()
        }
        if len(batch) > 1:
            before = [n for members in located.values() for n, _ in members]
        if any(len(members) != 1 for members in located.values()):
            return
        if {n for members in located.values() for n, _ in members} != set(before):
            return
        prefix = "expert_" if self._chosen(number) else "shared_" if self._beside_router(before[0]) else ""
        for role, [(n, rows)] in located.items():
            self._reader(f"{prefix}{role}", n, rows[rows >= 0].sort().values)
        outputs = [(self.trace.values[n][1].flatten(0, -2), rows) for [(n, rows)] in located.values()]
        fitting = frozenset[str]()
        if all(out.shape[-1] > rows.max() for out, rows in outputs):
            hidden = self.trace.values[number][0].flatten(0, -2)
            layers = (out[:, rows] for out, rows in outputs)
            fitting = activations_of(self.possible.get(self.writes[number]), hidden, *layers)
            self.possible[self.writes[number]] = fitting
        self._writer(f"{prefix}down", number, activations=fitting)

    def _gate(self, reads: Tensor, origins: Collection[int]) -> Tensor | None:
        """Entries of the gate beside each entry of what it multiplies."""
        for encounter in self.trace.gatings:
            sides = (encounter.left, encounter.right)
            if any(not side.origins <= set(origins) for side in sides) or sides[0].has("function") == sides[1].has(
                "function"
            ):
                continue
            gate, up = sides if sides[0].has("function") else sides[::-1]
            partner = dict(zip(_flat(self.axes, up), _flat(self.axes, gate), strict=True))
            if all(entry in partner for entry in reads.tolist()):
                return torch.tensor([partner[entry] for entry in reads.tolist()], dtype=torch.float64)
        return None

    def _chosen(self, number: int) -> bool:
        """Whether a router weighs what a product writes, or what its block reads."""
        before = [self.products[n].source for n in self.products[number].source.origins if n in self.products]
        labels = [self.written(number), self.products[number].source, *before]
        return any(factor & self.trace.chosen for label in labels if label is not None for factor in label.of("scaled"))

    def _beside_router(self, number: int) -> bool:
        """Whether a product reads the very activations that a router reads."""
        source = self.products[number].source
        routers = [self.products[n].source for n in self.trace.chosen if n in self.products]
        return any((router.state, router.of("norm")) == (source.state, source.of("norm")) for router in routers)

    # What is left.

    def _inside(self, number: int, axis: int) -> tuple[set[int], list[int]]:
        """All between a stream and a product that writes it, and what of these reads the stream."""
        inputs, inside, waiting = self._back_to(number, axis), set[int](), [number]
        while waiting:
            here = waiting.pop()
            if here not in inside:
                inside.add(here)
                waiting += [] if here in inputs else self.origins(here)
        return inside, inputs

    def _convolutions(self, number: int) -> None:
        """A block of convolutions, one after the other."""
        inside, inputs = self._inside(number, self.writes[number])
        products = [self.products[n] for n in inside if n in self.products]
        if len(products) < len(inside) or any(product.kind != "convolution" for product in products):
            return
        if any(product.source.has("mixed") or len(self.reads[product.number]) != 1 for product in products):
            return
        if number in inputs or any(self.stream_read(n) is None or self.taken[n].any() for n in inputs):
            return
        for n in inputs:
            self._reader("conv_in", n, torch.arange(len(self.products[n].writes)))
        self._writer("conv_out", number)

    def _mixer(self, number: int) -> None:
        """A block that mixes positions in another way than attention."""
        if self.name(number) in self.unknown:
            return
        axis = self.writes[number]
        inside, inputs = self._inside(number, axis)
        if inside & self.trace.weighed or any(self.taken[n].any() for n in inputs if self.found_as(n) != "mixer_in"):
            return
        sources = [self.products[n].source if n in self.products else self.attentions[n].source for n in inside]
        if not any(source.has("mixed") for source in sources):
            return
        for n in inputs:
            free = (~self.taken[n]).nonzero().flatten()
            if n != number and self.stream_read(n) == axis and len(free):
                self._reader("mixer_in", n, free)
        self._writer("mixer_out", number)

    def found_as(self, number: int) -> str | None:
        """Role of the first part of a product."""
        return next((part.role for part in self.found if part.number == number), None)

    def _leftover(self, number: int) -> None:
        """A product that reads a stream and belongs to no block."""
        name = self.name(number)
        if self._leads_elsewhere(number):
            self.others[name] = "between"
            return
        back: set[int] = set()
        for writer in self._block_writers():
            back |= self._inside(writer, self.writes[writer])[0]
        selecting: set[int] = set()
        for n in self.trace.chosen:
            selecting |= self._inside(n, _NO_AXIS)[0]
        beginnings = {LISTED.split(self.name(part.number))[0] for part in self.found if part.role not in _TABLES}
        if number not in back and LISTED.split(name)[0] not in beginnings:
            self.others[name] = "head"
        elif number in self.trace.factors or any(
            number in side.origins and side.has("function")
            for encounter in self.trace.gatings
            for side in (encounter.left, encounter.right)
        ):
            self.others[name] = "factor"
        elif number in selecting:
            self.others[name] = "selection"
        else:
            self.unknown.setdefault(name, "reads a stream, for what is not known")

    def _leads_elsewhere(self, number: int) -> bool:
        """Whether a product that reads a stream is on the way to the beginning of another one."""
        own = self.stream_read(number)
        for axis, entries in self.streams.items():
            if axis != own and own is not None:
                for entry in entries:
                    if self.products[entry].kind != "table" and number in self._inside(entry, own)[0]:
                        return True
        return False

    def _tables(self) -> None:
        """The embedding and the unembedding."""
        for number, product in self.products.items():
            if product.indices is not None and any(torch.equal(product.indices, tokens) for tokens in self.tokens):
                axis = self.writes[number] if self.writes[number] in self.streams else min(self.streams, default=None)
                if axis is not None:
                    self.found.append(Part("embed", product.elements, axis, number))
            is_first = number in self.streams.get(self.writes[number], ())
            if product.kind == "convolution" and product.reads is None and is_first:
                self.found.append(Part("embed", product.elements, self.writes[number], number))
        if self.logits is None or self.logits.entries is None:
            return
        tables = [part.elements for part in self.found if part.role == "embed"]
        for number in self.logits.origins & set(self.products):
            product, axis = self.products[number], self.stream_read(number)
            if self.writes[number] not in self.axes.roots(self.logits.entries) or self.taken[number].any():
                continue
            # A head may lie between the stream and a table that is that of the embedding.
            shared = self.tied or any(torch.equal(product.elements, table) for table in tables)
            if axis is not None or shared:
                stream = axis if axis is not None else min(self.streams)
                norm = self._norm_before(number)
                self.found.append(Part("unembed", product.elements, stream, number, norm=norm))
                self.taken[number][:] = True


def activations_of(
    names: Iterable[str] | None, hidden: Tensor, up: Tensor, gate: Tensor | None = None
) -> frozenset[str]:
    """Names of the functions that give a hidden layer.

    Parameters
    ----------
    names : iterable of str or None
        To try; all if None.
    hidden, up, gate : Tensor, shape=[tokens, units]
    """
    from transformers.activations import ACT2CLS, ACT2FN

    fitting = []
    for name in set(ACT2CLS) - _WITH_PARAMETERS if names is None else names:
        function = ACT2FN[name]
        layer = function(up) if gate is None else function(gate) * up
        if layer.shape == hidden.shape and torch.allclose(layer, hidden, rtol=1e-3, atol=1e-5):
            fitting.append(name)
    return frozenset(fitting)


#: A number between dots: that of a member of a list of modules.
LISTED = re.compile(r"\.\d+\.")
_TABLES = ("embed", "unembed")
# To go back from a product as far as there are others.
_NO_AXIS = -1
# Of lengths of activations behind a norm, which adds a small number to them.
_ALIKE = 1e-2
_WITH_PARAMETERS = frozenset({"prelu", "xielu"})


def _last(values: list[str]) -> str | None:
    return values[-1] if values else None


def _flat(axes: Axes, label: Label) -> list[float]:
    assert label.entries is not None
    return axes.canonical(label.entries).flatten().tolist()
