"""Which row of which weight wrote every number of a forward pass.

Each activation carries beside its values a tensor of the same shape that says, entry by entry, which row of which
weight wrote it. Whatever a model does to the shape of its activations is done to that tensor too, so that the cut of a
fused projection and the order of its heads can be read off where they are used, without a name or a layout being known.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod
from string import ascii_letters
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from .labels import Encounter, Label, Product, Trace, united
from .operations import ADDS, ASKS, CHOOSES, KEEPS, MOVES, NORMS, POOLS, PUTS, PUTS_ALONG, REDUCES, TIMES, WEIGHS
from .products import Operand, applied, product, spread


@dataclass(frozen=True)
class _Call:
    """One operation of the forward pass."""

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    labels: Mapping[int, Label]
    out: Any

    def argument(self, place: int, name: str) -> Any:
        """An argument given by its place or its name; None where it is not given."""
        return self.arguments[place] if len(self.arguments) > place else self.named.get(name)

    def label(self, tensor: Any) -> Label | None:
        """What was known of a tensor before the operation."""
        return self.labels.get(id(tensor))

    @property
    def outputs(self) -> list[Tensor]:
        """Tensors that it returned."""
        return list(_tensors(self.out))


class Flow(TorchFunctionMode):
    """Labels every tensor of a forward pass, and notes in `trace` where weights meet.

    Parameters
    ----------
    model : nn.Module
        Its norms are wrapped: for one pass only.
    norms : mapping of str to str
        Names of modules that are norms, to the names of their gains; nothing inside these is looked at.
    """

    def __init__(self, model: nn.Module, norms: Mapping[str, str]) -> None:
        super().__init__()
        self.trace = Trace()
        self._labels: dict[int, tuple[Tensor, Label]] = {}  # with the tensors, or others would get their ids
        self._paused = False
        next_element = 0
        for name, parameter in model.named_parameters():
            self.trace.first_elements[name] = next_element
            elements = torch.arange(parameter.numel(), dtype=torch.float64).reshape(parameter.shape) + next_element + 1
            self._set(parameter, Label(elements, parameter=True))
            next_element += parameter.numel()
        modules = dict(model.named_modules())
        for name, gain in norms.items():
            self._watch(modules[name], gain)

    def label(self, tensor: Any) -> Label | None:
        """What is known of a tensor."""
        if id(tensor) in self._labels:
            return self._labels[id(tensor)][1]
        return None if tensor._base is None else self._seen_through(tensor, tensor._base)

    def _seen_through(self, view: Tensor, base: Tensor) -> Label | None:
        """What is known of a view that was made before anything was known of its base."""
        if id(base) not in self._labels or not base.is_contiguous() or base.dtype is not view.dtype:
            return None
        label = self._labels[id(base)][1]
        if label.entries is None:
            return label
        return replace(label, entries=_viewed(label.entries.contiguous(), view, base))

    def _write_through(self, view: Tensor, label: Label) -> None:
        """Let the base of a view know what was written into the view."""
        base = view._base
        if base is None or label.entries is None or not base.is_contiguous() or base.dtype is not view.dtype:
            return
        old = self._labels[id(base)][1] if id(base) in self._labels else None
        entries = torch.zeros(base.shape, dtype=torch.float64)
        if old is not None and old.entries is not None:
            entries = old.entries.clone(memory_format=torch.contiguous_format)
        _viewed(entries, view, base).copy_(label.entries)
        self._set(base, replace(united([label] if old is None else [old, label]), entries=entries))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        named = dict(kwargs or {})
        if self._paused:
            return func(*args, **named)
        name = func.__name__
        if name == "__get__":
            name = getattr(func, "__self__").__name__  # noqa: B009
        # Before the call: an operation in place changes what is known of its argument.
        self._paused = True
        labels = {id(x): label for x in _tensors([*args, *named.values()]) if (label := self.label(x)) is not None}
        self._paused = False
        out = func(*args, **named)
        if labels and name not in ASKS:
            self._paused = True
            try:
                self._follow(_Call(name, func, tuple(args), named, labels, out))
            finally:
                self._paused = False
        return out

    def _watch(self, module: nn.Module, gain: str) -> None:
        inner = module.forward

        def forward(activation: Tensor, *arguments: Any, **named: Any) -> Any:
            self._paused = True
            try:
                out = inner(activation, *arguments, **named)
            finally:
                self._paused = False
            label = self.label(activation)
            if label is not None:
                self.trace.normed.append((gain, label))
                self._set(out, label.marked("norm", gain))
            return out

        module.forward = forward

    def _set(self, tensor: Any, label: Label | None) -> None:
        if isinstance(tensor, Tensor) and label is not None:
            self._labels[id(tensor)] = (tensor, label)

    def _follow(self, call: _Call) -> None:
        rules: Mapping[frozenset[str], Callable[[_Call], Label | None]] = {
            KEEPS: self._kept,
            NORMS: self._normed,
            POOLS: self._pooled,
            ADDS: self._sum,
            TIMES: self._product_of_entries,
            PUTS: self._put,
            PUTS_ALONG: self._put_along,
        }
        name, out = call.name, call.out
        for given in call.labels.values():
            if given.parameter:
                self.trace.use(given)
        if name in _PRODUCTS:
            label = _PRODUCTS[name](self.trace, call)
            out = call.outputs[0]
            self._set(out, label)
            for number in label.origins if label is not None else ():
                inputs = [
                    x for x in _tensors(call.arguments) if (known := call.label(x)) is None or not known.parameter
                ]
                self.trace.values.setdefault(number, (inputs[-1] if inputs else out, out))
            return
        if name in MOVES:
            self._move(call)
            return
        if all(label.parameter for label in call.labels.values()):
            label = next(iter(call.labels.values()))
            if label.entries is not None and isinstance(out, Tensor) and out.shape == label.entries.shape:
                self._set(out, label)
            for label in call.labels.values():
                self.trace.use(label, "position" if name in ADDS else "state")
            return
        for names, rule in rules.items():
            if name in names:
                target = call.arguments[0] if out is None else next(iter(call.outputs), None)
                label = rule(call)
                self._set(target, label)
                if target is call.arguments[0] and label is not None:
                    self._write_through(target, label)
                return
        if name in REDUCES and not isinstance(call.argument(1, "other"), Tensor):
            self._set(next(iter(call.outputs), None), self._reduced(call))
        elif name == "where" and len(call.arguments) == 3:
            self._set(out, self._either(call))
        elif name == "glu":
            self._set(out, self._gated_half(call))
        else:
            self._function(call)

    # What each kind of operation does to labels.

    def _move(self, call: _Call) -> None:
        """Entries go where the numbers go."""
        labels = list(call.labels.values())
        alone = all(label.parameter for label in labels)
        for label in labels:
            if label.parameter and not alone:
                self.trace.use(label, "joined")
        listed = isinstance(call.arguments[0], list | tuple)

        def entries(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [entries(item) for item in value]
            label = call.label(value)
            if label is not None and label.entries is not None:
                return torch.zeros_like(label.entries) if label.parameter and not alone else label.entries
            return torch.zeros(value.shape, dtype=torch.float64)

        first = call.arguments[0]
        known = [label for label in labels if label.entries is not None and (alone or not label.parameter)]
        parts: list[Tensor] = []
        if known and (listed or call.label(first) is not None):
            named = {name: value for name, value in call.named.items() if name != "value"}
            # Entries may lie in memory in another way than the numbers.
            function = Tensor.reshape if call.name == "view" else call.function
            parts = list(_tensors(function(entries(first), *call.arguments[1:], **named)))
        label = united(known or labels)
        for number, out in enumerate(call.outputs):
            self._set(out, replace(label, entries=parts[number] if number < len(parts) else None))

    def _pooled(self, call: _Call) -> Label | None:
        """Channels stay what they are."""
        label, out = call.label(call.arguments[0]), call.outputs[0]
        if label is None or label.entries is None:
            return label
        channels = self.trace.axes.merged(label.entries.movedim(1, -1).reshape(-1, out.shape[1]))
        return replace(label, entries=channels.reshape(-1, *[1] * (out.ndim - 2)).expand(out.shape))

    def _kept(self, call: _Call) -> Label | None:
        """The same numbers up to their sizes."""
        first, *others = call.labels.values()
        for label, use in zip((label for label in others if label.parameter), ("norm", "bias"), strict=False):
            self.trace.use(label, use)
        return call.label(call.arguments[0]) or first

    def _normed(self, call: _Call) -> Label | None:
        """A norm that is no module: it has no gain that could be named."""
        label = call.label(call.arguments[0])
        parameters = (label for label in call.labels.values() if label.parameter)
        for parameter, use in zip(parameters, ("gain", "shift"), strict=False):
            self.trace.use(parameter, use)
        return None if label is None else label.marked("own", "layer" if call.name == "layer_norm" else "rms")

    def _sum(self, call: _Call) -> Label | None:
        _, b, left, right = self._two(call)
        if right is not None and right.parameter:
            self.trace.use(right, "bias" if b.ndim == 1 else "added")
            name = self.trace.name_of(right)
            if left is not None and name is not None:
                self.trace.added.append((name, left))
            right = None
        if left is None or right is None:
            if left is not None and isinstance(b, Tensor) and b.ndim > 1 and b.shape[-1] > 1 and right is None:
                self.trace.shifted.append(left)
            return _spread(left or right, call.out)
        if left.entries is None or (right.has("scores") and not left.has("scores")):
            left, right = right, left
        label = united([left, right])
        if right.entries is None or left.has("scores"):
            return _spread(label, call.out)
        return self._added(left, right, label, call.out)

    def _added(self, left: Label, right: Label, label: Label, out: Tensor) -> Label:
        axes = self.trace.axes
        one, other = (axes.canonical(_expanded(side, out)) for side in (left, right))
        differ = (one > 0) & (other > 0) & (one != other)
        entries = torch.where(one > 0, one, other)
        if left.origins == right.origins and not differ.any():
            return replace(label, entries=entries)
        if axes.unite_alike(one[differ], other[differ]):
            self.trace.sums.append(Encounter(left, right))
            both = left.has("scaled") and right.has("scaled")
            return self._summed(axes.canonical(entries), label if both else replace(label, marks=()))
        # Pairs of coordinates of one axis, each times numbers that depend on the position: a rotation.
        rotation = left.origins == right.origins and left.has("factor") and right.has("factor")
        return replace(label, entries=entries).marked(*(("turned", True) if rotation else ("mixed", "add")))

    def _summed(self, entries: Tensor, label: Label) -> Label:
        scaled = [mark for mark in label.marks if mark[0] == "scaled"]
        return Label(entries, False, label.origins, (("sum", True), *scaled), self.trace.next_state())

    def _product_of_entries(self, call: _Call) -> Label | None:
        a, b, left, right = self._two(call)
        if left is None:
            return None
        if right is None:
            label = left.marked("turned", True) if isinstance(b, Tensor) and b.is_complex() else left
            return _spread(label.marked("factor", True) if isinstance(b, Tensor) and b.ndim > 1 else label, call.out)
        if right.parameter:
            self.trace.use(right, "scale")
            return _spread(left.marked("gain", True), call.out)
        label = united([left, right])
        for side in (left, right):
            if side.has("scores") and side.entries is not None:
                return _spread(replace(label, entries=side.entries), call.out)
        if left.entries is None or (right.entries is not None and _is_factor(a, b)):
            a, b, left, right = b, a, right, left
        if left.entries is None:
            return replace(label, entries=None)
        if _is_factor(b, a):
            own = right.origins <= left.origins  # divided by its norm
            self.trace.factors |= frozenset() if own else right.origins
            return _spread(left.marked("own", "rms") if own else left.marked("scaled", right.origins), call.out)
        if right.entries is None:
            return _spread(replace(label, entries=left.entries), call.out)
        return self._gated(left, right, label, call.out)

    def _gated(self, left: Label, right: Label, label: Label, out: Tensor) -> Label:
        one, other = (self.trace.axes.canonical(_expanded(side, out)) for side in (left, right))
        if torch.equal(one, other):
            return replace(label, entries=one)
        self.trace.gatings.append(Encounter(replace(left, entries=one), replace(right, entries=other)))
        first = left.has("attended") >= right.has("attended")
        if left.has("attended") == right.has("attended"):
            first = left.has("function") <= right.has("function")
        main, rest = (one, other) if first else (other, one)
        return replace(label, entries=torch.where(main > 0, main, rest)).marked("gated", True)

    def _gated_half(self, call: _Call) -> Label | None:
        label = call.label(call.arguments[0])
        if label is None or label.entries is None:
            return label
        one, other = label.entries.chunk(2, call.argument(1, "dim") or -1)
        gate = replace(label, entries=other).marked("function", "sigmoid")
        return self._gated(replace(label, entries=one), gate, label.marked("function", "sigmoid"), call.out)

    def _two(self, call: _Call) -> tuple[Any, Any, Label | None, Label | None]:
        """Both arguments and what is known of them, a parameter last."""
        a, b = call.arguments[0], call.argument(1, "other")
        left, right = call.label(a), call.label(b)
        swap = left is None or (left.parameter and right is not None)
        return (b, a, right, left) if swap else (a, b, left, right)

    def _either(self, call: _Call) -> Label | None:
        condition, *branches = call.arguments
        labels = [label for x in branches if (label := call.label(x)) is not None and not label.parameter]
        known = [_expanded(label, call.out) for label in labels if label.entries is not None]
        if not labels:
            return None
        if len(known) < 2:
            return replace(united(labels), entries=known[0] if known else None)
        chosen = torch.where(condition, known[0], known[1])
        other = torch.where(condition, known[1], known[0])
        return replace(united(labels), entries=torch.where(chosen != 0, chosen, other))

    def _put(self, call: _Call) -> Label | None:
        """Some numbers of a tensor in the place of others."""
        target, value = call.arguments[0], call.arguments[-1]
        old, new = call.label(target), call.label(value)
        if old is None and new is None:
            return self._lost(call)
        label = united([label for label in (old, new) if label is not None])
        if (old is None or old.entries is None) and (new is None or new.entries is None):
            return replace(label, entries=None)
        entries = torch.zeros(target.shape, dtype=torch.float64)
        if old is not None and old.entries is not None:
            entries = old.entries.clone()
        part: Any = new.entries if new is not None and not new.parameter else None
        if part is None:
            part = torch.zeros(value.shape, dtype=torch.float64) if isinstance(value, Tensor) else 0.0
        if call.name == "__setitem__":
            entries[call.arguments[1]] = part
            return replace(label, entries=entries)
        if call.name == "copy_":
            return replace(label, entries=torch.as_tensor(part, dtype=torch.float64).expand(target.shape))
        return replace(label, entries=call.function(entries, *call.arguments[1:-1], part))

    def _put_along(self, call: _Call) -> Label | None:
        """Rows added to others, or put in their places."""
        target, dim, index, source = (*call.arguments, *call.named.values())[:4]
        old, new = call.label(target), call.label(source)
        if old is None and new is None:
            return self._lost(call)
        label = united([label for label in (old, new) if label is not None])
        if new is None or new.entries is None:
            return replace(label, entries=old.entries if old is not None else None)
        entries = torch.zeros(target.shape, dtype=torch.float64)
        if old is not None and old.entries is not None:
            entries = old.entries
        put = entries.index_copy if index.ndim == 1 else entries.scatter
        after = put(dim, index, new.entries)
        both = (entries > 0) & (after > 0)
        self.trace.axes.unite_alike(entries[both], after[both])
        return self._summed(self.trace.axes.canonical(torch.where(after > 0, after, entries)), label)

    def _reduced(self, call: _Call) -> Label | None:
        label, dims = call.label(call.arguments[0]), call.argument(1, "dim")
        if label is not None and len(call.outputs) > 1 and not label.has("scores"):
            self.trace.chosen |= label.origins  # the largest, and where it is
        if label is None or label.entries is None or label.has("scores") or not isinstance(dims, int | list | tuple):
            return self._lost(call)
        sizes = label.entries.shape
        summed = sorted({d % len(sizes) for d in ([dims] if isinstance(dims, int) else dims)})
        rest = [d for d in range(len(sizes)) if d not in summed]
        merged = self.trace.axes.merged(
            label.entries.permute(*summed, *rest).reshape(prod(sizes[d] for d in summed), -1)
        )
        if not merged.any():
            return self._lost(call)
        return replace(label, entries=merged.reshape(call.outputs[0].shape)).marked("mixed", call.name)

    def _function(self, call: _Call) -> None:
        """Any other operation: of one activation, entry by entry, or not understood."""
        labels = list(call.labels.values())
        known = [label for label in labels if label.entries is not None and not label.parameter]
        for label in labels:
            if label.parameter:
                self.trace.use(label, call.name)
        if call.name in WEIGHS and not any(label.has("scores") for label in known):
            self.trace.weighed |= united(labels).origins
        if call.name in CHOOSES:
            self.trace.chosen |= united(labels).origins
        elif len(known) == 1 and len(call.outputs) == 1:
            entries = known[0].entries
            if entries is not None and entries.shape == call.out.shape:
                label = united([known[0], *(label for label in labels if not label.parameter)])
                self._set(call.out, label.marked("function", call.name))
                return
        for out in call.outputs:
            self._set(out, self._lost(call))

    def _lost(self, call: _Call) -> Label | None:
        """What is left of labels behind an operation that is not understood."""
        labels = [label for label in call.labels.values() if not label.parameter]
        if not labels:
            return None
        self.trace.lost[call.name] = self.trace.lost.get(call.name, 0) + 1
        return replace(united(labels), entries=None).marked("mixed", call.name)


def _linear(trace: Trace, call: _Call) -> Label | None:
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    _use_bias(trace, call, call.argument(2, "bias"))
    names = ascii_letters[: x.ndim - 1]
    one, other = Operand(call.label(weight), "YZ"), Operand(call.label(x), names + "Z")
    return product(trace, one, other, names + "Y", call.out.shape)


def _matmul(trace: Trace, call: _Call) -> Label | None:
    factors = call.arguments if call.name != "__rmatmul__" else call.arguments[::-1]
    return _matrix_product(trace, call, factors[0], call.argument(1, "other") if len(factors) < 2 else factors[1])


def _matrix_product(trace: Trace, call: _Call, a: Tensor, b: Tensor) -> Label | None:
    if a.ndim < 2 or b.ndim < 2:
        labels = [label for x in (a, b) if (label := call.label(x)) is not None and not label.parameter]
        return replace(united(labels), entries=None).marked("mixed", call.name) if labels else None
    batch = ascii_letters[: max(a.ndim, b.ndim) - 2]
    one = Operand(call.label(a), batch[len(batch) - a.ndim + 2 :] + "XZ")
    other = Operand(call.label(b), batch[len(batch) - b.ndim + 2 :] + "ZY")
    return product(trace, one, other, batch + "XY", call.out.shape)


def _added_matmul(trace: Trace, call: _Call) -> Label | None:
    batch = call.name == "baddbmm"
    a, b = call.argument(1, "batch1" if batch else "mat1"), call.argument(2, "batch2" if batch else "mat2")
    _use_bias(trace, call, call.arguments[0])
    return _matrix_product(trace, call, a, b)


def _einsum(trace: Trace, call: _Call) -> Label | None:
    equation, *factors = call.arguments
    if len(factors) == 1 and isinstance(factors[0], list | tuple):
        factors = list(factors[0])
    inputs, _, result = equation.replace(" ", "").partition("->")
    names = inputs.split(",")
    labels = [label for x in factors if (label := call.label(x)) is not None and not label.parameter]
    if len(factors) != 2 or not result or any(len(set(name)) < len(name) for name in names):
        return replace(united(labels), entries=None).marked("mixed", "einsum") if labels else None
    free = "".join(x for x in ascii_letters if x not in equation)
    spelt = []
    for name, factor in zip(names, factors, strict=True):
        hidden = factor.ndim - len(name.replace("...", ""))
        spelt.append(name.replace("...", free[:hidden]))
    hidden = call.out.ndim - len(result.replace("...", ""))
    one, other = (Operand(call.label(factor), name) for factor, name in zip(factors, spelt, strict=True))
    return product(trace, one, other, result.replace("...", free[:hidden]), call.out.shape)


def _attention(trace: Trace, call: _Call) -> Label | None:
    queries, keys, values = (call.argument(place, name) for place, name in enumerate(("query", "key", "value")))
    batch = ascii_letters[: queries.ndim - 2]

    def operand(tensor: Tensor, names: str) -> Operand:
        label = call.label(tensor)
        if label is not None and label.entries is not None and label.entries.shape[-3] < queries.shape[-3]:
            groups = queries.shape[-3] // label.entries.shape[-3]
            label = replace(label, entries=label.entries.repeat_interleave(groups, -3))
        return Operand(label, batch + names)

    shape = (*queries.shape[:-1], keys.shape[-2])
    scores = product(trace, operand(queries, "XZ"), operand(keys, "YZ"), batch + "XY", shape)
    weights = None if scores is None else scores.marked("function", "softmax")
    return product(trace, Operand(weights, batch + "XY"), operand(values, "YZ"), batch + "XZ", call.out.shape)


def _convolution(trace: Trace, call: _Call) -> Label | None:
    x, weight = call.argument(0, "input"), call.argument(1, "weight")
    _use_bias(trace, call, call.argument(2, "bias"))
    kernel, source = call.label(weight), call.label(x)
    if kernel is None or kernel.entries is None:
        return source
    channels, rows = x.shape[-weight.ndim + 1], weight.shape[0]
    groups = channels // weight.shape[1]
    columns = None
    if source is not None and source.entries is not None:
        entries = source.entries.movedim(-weight.ndim + 1, -1).reshape(-1, channels)
        columns = trace.axes.merged(entries)
    if weight.shape[1] == 1 and groups == rows and groups > 1:
        trace.use(kernel, "convolution")
        if source is not None:
            trace.normed.append((trace.parameter_at(float(kernel.entries.flatten()[0]))[0], source))
        if source is None or columns is None:
            return source
        spread_out = columns.reshape(-1, *[1] * (weight.ndim - 2)).expand(call.out.shape)
        return replace(source, entries=spread_out).marked("mixed", "convolution")
    size = prod(weight.shape[2:])
    elements = kernel.entries.reshape(groups, rows // groups, -1)
    if columns is not None:
        columns = columns.reshape(groups, -1, 1).expand(-1, -1, size).reshape(groups, -1)
    writes, numbers = applied(trace, "convolution", elements, source, columns)
    entries = writes.reshape(-1, *[1] * (weight.ndim - 2)).expand(call.out.shape)
    return Label(entries, origins=numbers, state=trace.next_state())


def _lookup(trace: Trace, call: _Call) -> Label | None:
    indices, weight = call.argument(0, "input"), call.argument(1, "weight")
    table = call.label(weight)
    if table is None or table.entries is None:
        return None
    writes = trace.axes.new(weight.shape[1])
    number = trace.next_number()
    trace.products.append(Product(number, "table", table.entries, None, writes, Label(None), indices))
    names = ascii_letters[: indices.ndim]
    entries = spread(writes, "Z", names + "Z", call.out.shape)
    return Label(entries, origins=frozenset({number}), state=trace.next_state())


def _several_heads(trace: Trace, call: _Call) -> Label | None:
    """Attention of `torch.nn`, whose inside is not seen: what its projections read and write is."""
    query, key, value = call.arguments[:3]
    weight, output = call.label(call.argument(5, "in_proj_weight")), call.label(call.argument(11, "out_proj_weight"))
    if weight is None or weight.entries is None or output is None or output.entries is None:
        return None
    for bias in (call.argument(6, "in_proj_bias"), call.argument(12, "out_proj_bias")):
        _use_bias(trace, call, bias)
    numbers: frozenset[int] = frozenset()
    for x, elements in zip((query, key, value), weight.entries.chunk(3), strict=True):
        source = call.label(x)
        columns = None
        if source is not None and source.entries is not None and not source.parameter:
            columns = trace.axes.merged(source.entries.reshape(-1, x.shape[-1]))[None]
        numbers |= applied(trace, "linear", elements[None], source, columns)[1]
    trace.weighed |= numbers
    inner = Label(None, origins=numbers, marks=(("mixed", call.name),), state=trace.next_state())
    writes, numbers = applied(trace, "linear", output.entries[None], inner, None)
    entries = writes.flatten().expand(call.outputs[0].shape)
    return Label(entries, origins=numbers, state=trace.next_state())


def _use_bias(trace: Trace, call: _Call, bias: Any) -> None:
    label = call.label(bias)
    if label is not None and label.parameter:
        trace.use(label, "bias")


_PRODUCTS: Mapping[str, Callable[[Trace, _Call], Label | None]] = {
    "linear": _linear,
    **dict.fromkeys(("matmul", "__matmul__", "__rmatmul__", "mm", "bmm"), _matmul),
    **dict.fromkeys(("addmm", "baddbmm"), _added_matmul),
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _convolution),
    "embedding": _lookup,
    "multi_head_attention_forward": _several_heads,
}


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item)


def _viewed(entries: Tensor, view: Tensor, base: Tensor) -> Tensor:
    """Entries of a view, from those of its base."""
    return entries.as_strided(view.shape, view.stride(), view.storage_offset() - base.storage_offset())


def _expanded(label: Label, out: Tensor) -> Tensor:
    assert label.entries is not None
    return label.entries.expand(out.shape)


def _spread(label: Label | None, out: Tensor) -> Label | None:
    """The same, of a tensor that was repeated to the shape of a result."""
    return label if label is None or label.entries is None else replace(label, entries=_expanded(label, out))


def _is_factor(factor: Tensor, other: Tensor) -> bool:
    """Whether a tensor multiplies all coordinates of another alike."""
    return factor.ndim > 0 and factor.shape[-1] == 1 and other.shape[-1] > 1
