"""From two runs of a model type to its record: what tiny models of two sizes say alike is written down."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import torch

from ..record import NORM_KINDS, Cut, Naming, Norm, Piece, Record, Tower
from .layouts import Layout, groups_of, heads_in_order
from .parts import LISTED, DerivationError, Part
from .runs import Run, Stored
from .tiny import OTHER, SMALL, meaning

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def derive_variant(model_type: str, settings: Mapping[str, Any]) -> tuple[Record, Run]:
    """Record of a model type with some settings, and the larger of the two models that it was derived from."""
    one = Run(model_type, SMALL, **settings)
    changes = _other_activations(one.config)
    try:
        other = Run(model_type, OTHER, tied=one.tied, **{**changes, "tie_word_embeddings": False, **settings})
    except (TypeError, ValueError):  # the model type has one function only
        other = Run(model_type, OTHER, tied=one.tied, **{"tie_word_embeddings": False, **settings})
    other.confirm()
    return _Comparison(one, other).record(model_type), other


def _other_activations(config: "PreTrainedConfig") -> dict[str, Any]:
    """Another function for every setting that names one, each its own as far as there are some."""
    from transformers.activations import ACT2FN

    settings = config.to_dict()
    used = {value for _, value in _flat(settings) if isinstance(value, str)}
    others = cycle([name for name in ("relu", "tanh", "relu2", "sigmoid") if name not in used])

    def changed(section: Mapping[str, Any]) -> dict[str, Any]:
        changes = {
            name: changed(value) if isinstance(value, dict) else next(others)
            for name, value in section.items()
            if isinstance(value, dict) or (isinstance(value, str) and value in ACT2FN)
        }
        return {name: value for name, value in changes.items() if value != {}}

    return changed(settings)


@dataclass(frozen=True)
class _Heads:
    """How many heads a stream has in each run; None where that is not one number, or they lie in another order."""

    query: tuple[int, int] | None
    key_value: tuple[int, int] | None

    def of(self, role: str) -> tuple[int, int] | None:
        """Heads of a role; one where it has none."""
        letter = role.removeprefix("cross_")
        return self.query if letter in ("q", "o") else self.key_value if letter in ("k", "v") else (1, 1)


class _Comparison:
    """What two runs of different sizes say alike."""

    def __init__(self, one: Run, other: Run) -> None:
        self.runs = (one, other)
        if len(one.streams) != len(other.streams):
            raise DerivationError(f"{len(one.streams)} streams in one size, {len(other.streams)} in another")
        self.live = [Stored(run, run.live) for run in self.runs]
        self.saved = [Stored(run, run.saved) for run in self.runs]
        self.settings = [dict(_flat(run.config.to_dict())) for run in self.runs]
        self.heads = [self._heads(number) for number in range(len(one.streams))]
        self.names = self._tower_names()

    def record(self, model_type: str) -> Record:
        """The record of the model type."""
        saved, live = self._naming(self.saved), self._naming(self.live)
        staged = len(set(self.names)) < len(self.names)
        towers = (self._staged(),) if staged else tuple(self._tower(number) for number in range(len(self.names)))
        if (set(saved.pieces), set(saved.norms)) == (set(live.pieces), set(live.norms)):
            return Record((model_type,), towers, replace(saved, other={**live.other, **saved.other}))
        return Record((model_type,), towers, saved, live)

    # Towers.

    def _of_stream(self, number: int, *roles: str) -> list[list[Part]]:
        """Parts along a stream in each run, of some roles or of all."""
        return [
            [part for part in run.parts if part.stream == run.streams[number] and (not roles or part.role in roles)]
            for run in self.runs
        ]

    def _heads(self, number: int) -> _Heads:
        counts = []
        for roles in (("q", "o", "cross_q", "cross_o"), ("k", "v")):
            found = [{heads_in_order(part) for part in parts} for parts in self._of_stream(number, *roles)]
            one, other = (next(iter(counted)) if len(counted) == 1 else None for counted in found)
            counts.append(None if one is None or other is None else (one, other))
        return _Heads(*counts)

    def _tower_names(self) -> list[str]:
        paths = []
        for stream in self.runs[0].streams:
            parts = [
                part for part in self.runs[0].parts if part.stream == stream and part.role not in ("embed", "unembed")
            ]
            words = [self.runs[0].name(part).split(".") for part in parts]
            paths.append(list(dict.fromkeys(word for word in words[0] if all(word in other for other in words))))
        if len(paths) == 1:
            return [""]
        stages = [stage for stream in self.runs[0].streams if (stage := self.runs[0].stage(stream)) is not None]
        if stages:
            if len(stages) < len(paths) or len({word for word, _ in stages}) > 1:
                raise DerivationError("streams of which some are stages")
            return ["stages.{stage}"] * len(stages)
        names: list[str] = []
        for path in paths:
            # The first word that is not in the names of all.
            own = [word for word in path if not word.isdigit() and any(word not in other for other in paths)]
            short = [word.removesuffix("_model").removesuffix("_tower") for word in own]
            free = [name for name in short if name not in names]
            if not free:
                raise DerivationError("streams whose names are alike")
            names.append(free[0])
        return names

    def _tower(self, number: int) -> Tower:
        heads = self.heads[number]
        alike = heads.key_value == heads.query
        key_value = (
            None if alike or heads.key_value is None else self._setting(heads.key_value, "key_value_heads", of=number)
        )
        known = heads.query is not None and (alike or key_value is not None)
        widths = [
            {len(part.heads[0]) for part in parts if part.heads} for parts in self._of_stream(number, "q", "k", "v")
        ]
        width = tuple(next(iter(found)) if len(found) == 1 else None for found in widths)
        depth = self._depth(number)
        norm = self.runs[0].found.entry_norms.get(self.runs[0].streams[number])
        rotary, unturned = self._rotary(number)
        return Tower(
            name=self.names[number],
            heads=self._setting(heads.query, "heads", "decoder_heads", of=number) if heads.query and known else None,
            key_value_heads=key_value if known else None,
            head_width=None if None in width else self._setting(width, "head", of=number),  # type: ignore[arg-type]
            activation=self._activation(number),
            rotary=rotary,
            unturned=unturned,
            depth=self._setting((depth[0], depth[1]), "layers", "decoder_layers", of=number)
            if depth[0] != depth[1]
            else None,
            entry_norm=None if norm is None else self.saved[0].holder(norm),
            tied=any(part.stream == self.runs[0].streams[number] for part in self.runs[0].tables),
            embedding_of=self._embedding_of(number),
        )

    def _embedding_of(self, number: int) -> str | None:
        """Tower whose embedding a stream shares; None where it has one of its own, or none."""
        run = self.runs[0]
        own, others = (
            [part for part in parts if part.role == "embed" and (part.stream == run.streams[number]) is same]
            for parts, same in ((run.found.parts, True), (run.parts, False))
        )
        shared = (part.stream for part in others if any(torch.equal(part.elements, table.elements) for table in own))
        return next((self.names[run.streams.index(stream)] for stream in shared), None)

    def _staged(self) -> Tower:
        """One tower for all stages: settings list a number for each."""
        towers = [self._tower(number) for number in range(len(self.names))]
        heads = [[count.query[place] if count.query else None for count in self.heads] for place in (0, 1)]
        depths = [[self._depth(number)[place] for number in range(len(self.names))] for place in (0, 1)]
        return replace(towers[0], heads=self._list_of(heads), depth=self._list_of(depths), key_value_heads=None)

    def _list_of(self, values: Sequence[Sequence[int | None]]) -> str | None:
        """Name of the setting that lists these values in the two runs."""
        one, other = self.settings
        lists = [name for name, value in one.items() if isinstance(value, list | tuple)]
        return next((n for n in lists if [*one[n]] == [*values[0]] and [*other[n]] == [*values[1]]), None)

    def _depth(self, number: int) -> tuple[int, int]:
        """Layers of a stream in each run, counted from 0: the first one may have no weights of its own."""
        one, other = (
            1
            + max(
                place.get("layer", -1)
                for place, part in zip(run.numbers, run.parts, strict=True)
                if part.stream == run.streams[number]
            )
            for run in self.runs
        )
        return one, other

    def _setting(self, values: tuple[int, int], *meanings: str, of: int | None = None) -> str | None:
        """Name of the setting of some meaning, or of any, that has these values in the two runs, or the constant."""
        one, other = self.settings
        names = [
            name
            for name in one
            if (one[name], other.get(name)) == values and type(one[name]) is int and not name.startswith("label2id")
            if not meanings or meaning(name) in meanings
        ]
        if names:
            return min(names, key=lambda name: self._distance(name, of))
        return "1" if values == (1, 1) else None

    def _distance(self, setting: str, of: int | None) -> tuple[bool, bool, int]:
        """The section of the stream's own name first, then that of the text."""
        own = self.names[of] if of is not None else ""
        return not (own and setting.startswith(own)), not setting.startswith("text_config."), setting.count(".")

    def _activation(self, number: int) -> str | None:
        fitting = []
        for parts in self._of_stream(number):
            found = [part.activations for part in parts if part.role.endswith("down")]
            fitting.append(found[-1] if found else frozenset[str]())
        one, other = self.settings
        for name, value in sorted(one.items(), key=lambda item: self._distance(item[0], number)):
            changed = other.get(name)
            if isinstance(value, str) and value != changed and value in fitting[0] and changed in fitting[1]:
                return f"{name}={value}"
        both = fitting[0] & fitting[1]
        return f"={min(both, key=lambda name: (len(name), name))}" if both else None

    def _rotary(self, number: int) -> tuple[bool | None, int | None]:
        """Whether positions turn queries and keys, and every how many layers there is one where they do not."""
        turned: list[dict[int, bool]] = []
        for run in self.runs:
            layers: dict[int, bool] = {}
            for n, part in enumerate(run.parts):
                if part.stream == run.streams[number] and part.role == "q":
                    layer = run.numbers[n].get("layer", 0)
                    layers[layer] = layers.get(layer, False) or part.turned
            turned.append(layers)
        values = {value for layers in turned for value in layers.values()}
        if len(values) < 2:
            return (values.pop() if values else None), None
        for every in range(2, len(turned[0]) + 1):
            if all(value == bool((layer + 1) % every) for layers in turned for layer, value in layers.items()):
                return True, every
        return None, None

    # Names.

    def _naming(self, both: Sequence[Stored]) -> Naming:
        drafts: dict[tuple[str, str], list[tuple[Stored, int | None, Piece]]] = {}
        cuts: dict[str, list[tuple[tuple[str, int], ...]]] = {}
        for place, stored in enumerate(both):
            roles = [part.role for part in stored.run.parts]
            for name, layout in stored.layouts.items():
                if name in stored.repeated:
                    continue
                template = stored.templates(name)
                runs = layout.runs(roles)
                cuts.setdefault(template, [(), ()])
                if len(runs) > 1 and cuts[template][place] not in ((), runs):
                    raise DerivationError(f"{template}: rows in {runs}, elsewhere in {cuts[template][place]}")
                cuts[template][place] = runs
                for part in dict.fromkeys(part for part, _ in layout.slices[0] if part >= 0):
                    draft = self._piece(stored, template, layout, part)
                    layer = stored.run.numbers[part].get("layer")
                    drafts.setdefault((template, draft.role), []).append((stored, layer, draft))
        pieces = []
        for (template, _), members in drafts.items():
            merged = self._merged(members)
            pieces.append(replace(merged, cut=self._cut(template, cuts[template], merged.tower)))
        if not any(piece.role == "unembed" for piece in pieces):
            pieces += self._always_tied(both[0])
        norms = tuple(self._norms(both[0]))
        known = {piece.tensor for piece in pieces} | {norm.tensor for norm in norms}
        known |= {piece.after for piece in pieces if piece.after}
        other: dict[str, str] = {}
        for stored in both:
            other = self._other(stored, known, {piece.tensor for piece in pieces}) | other
        return Naming(tuple(pieces), norms, other)

    def _always_tied(self, stored: Stored) -> Iterator[Piece]:
        """An unembedding that cannot have numbers of its own, under the name that it has in the module."""
        output = stored.run.model.get_output_embeddings()  # type: ignore[no-untyped-call]
        for name, module in stored.run.model.named_modules():
            if module is output:
                for part in stored.run.tables:
                    norm = part.norm if part.norm in (None, *NORM_KINDS) else stored.beside(part.norm, None)
                    tower = self.names[stored.run.streams.index(part.stream)]
                    yield Piece(f"{name}.weight", "unembed", tower, norm=norm)

    def _piece(self, stored: Stored, template: str, layout: Layout, number: int) -> Piece:
        run, part = stored.run, stored.run.parts[number]
        layer = run.numbers[number].get("layer")

        def named(parameter: str | None) -> str | None:
            return parameter if parameter is None or parameter in NORM_KINDS else stored.beside(parameter, layer)

        after = None
        if part.after is not None:
            after = named(run.name(part.after))
        first = part.after or part
        return Piece(
            tensor=template,
            role=part.role,
            tower=self._tower_of(run, number),
            reads_tower=None if part.reads_stream is None else self.names[run.streams.index(part.reads_stream)],
            transposed=layout.transposed,
            stacked=layout.stacked,
            after=after,
            after_norm=named(part.norm) if part.after is not None else None,
            norm=named(first.norm),
            head_norm=named(part.head_norm),
        )

    def _tower_of(self, run: Run, number: int) -> str:
        """Name of the tower of a part; a table that belongs to one stage says to which."""
        stream = run.parts[number].stream
        name, stage = self.names[run.streams.index(stream)], run.stage(stream)
        return name if stage is None or "stage" in run.numbers[number] else name.format(stage=stage[1])

    def _merged(self, drafts: Sequence[tuple[Stored, int | None, Piece]]) -> Piece:
        """One piece for all layers."""
        norms = {piece.norm for _, _, piece in drafts} - {None}
        previous = {norm for norm in norms if norm is not None and "{layer-" in norm}
        merged = []
        for stored, layer, piece in drafts:
            entries = self._entry_norms(stored)
            # In the first layer, what stands before all layers is in the place of the layer before.
            if previous and layer == 0 and piece.norm in (None, *entries):
                continue
            # A norm that a layer does not have needs no other piece.
            others = norms - {None, *entries}
            if not others and piece.norm in entries and None in {piece.norm for _, _, piece in drafts}:
                piece = replace(piece, norm=None)  # on the stream before the first layer alone
            if piece.norm in (None, *entries) and len(others) == 1 and not stored.has(next(iter(others)), layer):
                continue
            merged.append(piece)
        if len({piece.head_norm for piece in merged}) > 1:
            # Nothing says which layers have a norm without gains. Without it more changes of basis are allowed.
            merged = [replace(p, head_norm=None) if p.head_norm in NORM_KINDS else p for p in merged]
        distinct = list(dict.fromkeys(merged))
        if len(distinct) > 1:
            raise DerivationError(f"{distinct[0].tensor}: {_difference(distinct[0], distinct[1])}")
        return distinct[0]

    def _entry_norms(self, stored: Stored) -> list[str]:
        return [stored.templates(stored.holder(norm)) for norm in stored.run.found.entry_norms.values()]

    def _cut(self, template: str, runs: Sequence[tuple[tuple[str, int], ...]], tower: str) -> Cut | None:
        """Formula for the rows of the roles of a tensor."""
        if all(len(rows) <= 1 for rows in runs):
            return None
        if not all(runs):
            raise DerivationError(f"{template}: only in one size")
        (one, block), (other, other_block) = (groups_of(rows) for rows in runs)
        order = tuple(role for role, _ in block)
        if order != tuple(role for role, _ in other_block):
            raise DerivationError(f"{template}: rows of {order} in one size, of {other_block} in another")
        heads = self.heads[self.names.index(tower)]
        groups = {"1": (1, 1), "heads": heads.query, "key_value_heads": heads.key_value, str(one): (one, one)}
        name = next((name for name, counts in groups.items() if counts == (one, other)), None)
        sizes = [[size for _, size in rows] for rows in (block, other_block)]
        if sizes == [[1] * len(order)] * 2:
            name = "rows"
        if name is None:
            raise DerivationError(f"{template}: {one} and {other} blocks, for what is not known")
        if name == "rows":
            return Cut("rows", order)
        return Cut(name, order, self._widths(template, order, sizes, (one, other), heads))

    def _widths(
        self, template: str, order: Sequence[str], sizes: list[list[int]], groups: tuple[int, int], heads: _Heads
    ) -> tuple[str, ...]:
        """Settings of the rows of one head in each segment; empty where all are equal."""
        widths: list[list[int]] = []
        for place, rows in enumerate(sizes):
            counts = [heads.of(role) if role else (groups[place],) * 2 for role in order]
            if any(count is None for count in counts):
                raise DerivationError(f"{template}: parts of heads whose number is not known")
            in_block = [max(count[place] // groups[place], 1) for count in counts if count is not None]
            if any(size % count for size, count in zip(rows, in_block, strict=True)):
                raise DerivationError(f"{template}: {rows} rows are no whole heads")
            widths.append([size // count for size, count in zip(rows, in_block, strict=True)])
        if all(len(set(width)) == 1 for width in widths):
            return ()
        named = [self._setting((one, other)) for one, other in zip(*widths, strict=True)]
        if None in named:
            raise DerivationError(f"{template}: no setting gives the widths {widths}")
        return tuple(name for name in named if name is not None)

    def _norms(self, stored: Stored) -> Iterator[Norm]:
        beside = {norm for part in stored.run.found.parts for norm in (part.norm, part.head_norm)}
        yield from (Norm(kind, kind) for kind in NORM_KINDS if kind in beside)
        seen: set[str] = set()
        for norm in stored.run.norms:
            template = stored.templates(stored.holder(norm.gain))
            if template not in seen:
                seen.add(template)
                yield Norm(template, norm.kind, norm.offset, norm.gain in stored.run.stream_norms)

    def _other(self, stored: Stored, known: set[str], weights: set[str]) -> dict[str, str]:
        other: dict[str, str] = {}
        biases = {norm.bias for norm in stored.run.norms}
        shown: set[str] = set()
        for name in stored.tensors:
            template, parameter = stored.templates(name), stored.parameter(name)
            if template in weights and parameter in stored.run.reasons and name not in stored.layouts:
                # Of a layer that leads from one stage to the next: it has the name of a weight without being one.
                other[name] = self._reason(stored.run, parameter)
            if template in known:
                continue
            if parameter is None:
                # A parameter without numbers is there in a tiny model whose sizes leave it none.
                reason = "buffer" if stored.tensors[name].numel() else "unused"
            elif parameter in shown:
                reason = "second copy"
            elif parameter in biases:
                reason = "norm bias"
            else:
                reason = self._reason(stored.run, parameter)
            shown |= {parameter} if parameter is not None else set()
            other.setdefault(template, reason)
        return other

    def _reason(self, run: Run, parameter: str) -> str:
        """Why a parameter is no weight."""
        uses = run.trace.uses.get(parameter)
        inside = parameter.startswith(run.beginnings)
        if parameter in run.reasons:
            reason = run.reasons[parameter]
            return "state" if reason in ("head", "stem") and inside else reason
        for use, reason in _REASONS.items():
            if use in (uses or ()):
                return reason
        if not uses and inside:
            raise DerivationError(f"{parameter}: used for nothing that is known")
        if uses is not None:
            return "other"
        return "tower" if LISTED.search(parameter) else "unused"


# What a parameter is used for that is no matrix, to the reason that it is given for that.
_REASONS = {
    "bias": "bias",
    "shift": "bias",
    "added": "added",
    "joined": "joined",
    "convolution": "convolution",
    "norm": "norm",
    "gain": "norm",
    "scale": "multiplied",
    "position": "position",
}


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _difference(one: Piece, other: Piece) -> str:
    fields = [name for name in one.__dataclass_fields__ if getattr(one, name) != getattr(other, name)]
    return "; ".join(f"{name} {getattr(one, name)} or {getattr(other, name)}" for name in fields)
