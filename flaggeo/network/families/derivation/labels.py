"""What is known of an activation: which coordinate of which axis each of its numbers is, and what happened to it."""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, count
from typing import Any

import torch
from torch import Tensor

# An entry is the number of its axis times this, plus the coordinate, plus one; zero is an entry that no weight wrote.
# float64 holds such numbers exactly and passes through every operation that moves entries.
_AXIS = 2**24


@dataclass(frozen=True)
class Label:
    """What is known of a tensor.

    Attributes
    ----------
    entries : Tensor or None
        Of the shape of the tensor: which coordinate of which axis each entry is. For a parameter, or a part of one:
        which element of all parameters, plus one.
    parameter : bool
    origins : frozenset of int
        Numbers of the products and attentions that reach the tensor without passing another one.
    marks : tuple of tuple
        What happened since, the first word says what: ``norm`` and the gain; ``own`` norm without one; ``function`` and
        its name; ``turned`` by positions; ``scores`` and the meeting; ``scaled`` and the origins of the factor;
        ``gated``; ``sum``; ``mixed`` over positions, or in a way that is not understood, and the name of the operation.
    state : int
        Equal for tensors that differ by norms and functions alone.
    """

    entries: Tensor | None
    parameter: bool = False
    origins: frozenset[int] = frozenset()
    marks: tuple[tuple[Any, ...], ...] = ()
    state: int = 0

    def marked(self, *mark: Any) -> "Label":
        """The same with another mark."""
        return self if mark in self.marks else replace(self, marks=(*self.marks, mark))

    def has(self, word: str) -> bool:
        """Whether a mark begins with a word."""
        return any(mark[0] == word for mark in self.marks)

    def of(self, word: str) -> list[Any]:
        """What follows the word in the marks that begin with it."""
        return [mark[1] for mark in self.marks if mark[0] == word]


def united(labels: Sequence[Label]) -> Label:
    """What is known of a tensor computed from several; the entries are those of the first."""
    first = labels[0]
    if len(labels) == 1:
        return first
    marks = tuple(dict.fromkeys(chain.from_iterable(label.marks for label in labels)))
    origins = frozenset(chain.from_iterable(label.origins for label in labels))
    return Label(first.entries, all(label.parameter for label in labels), origins, marks, first.state)


@dataclass(frozen=True)
class Product:
    """A weight applied to an activation, or rows of a table looked up.

    Attributes
    ----------
    number : int
    kind : str
        ``linear``, ``convolution`` (also one of single positions) or ``table``.
    elements : Tensor, shape=[rows, columns]
        Which element of the parameters each entry of the matrix is, plus one.
    reads : Tensor or None, shape=[columns]
        Entry that each column reads, zero where it is not known; None for a table.
    writes : Tensor, shape=[rows]
        Entry that each row writes.
    source : Label
        Of what it reads.
    indices : Tensor or None
        Which rows of a table are looked up.
    """

    number: int
    kind: str
    elements: Tensor
    reads: Tensor | None
    writes: Tensor
    source: Label
    indices: Tensor | None = None

    @property
    def mixes_positions(self) -> bool:
        """Whether it is a convolution of more than single positions: each channel is read several times."""
        return self.kind == "convolution" and self.reads is not None and len(self.reads.unique()) < len(self.reads)


@dataclass(frozen=True)
class Meeting:
    """Queries and keys whose products are scores.

    Attributes
    ----------
    pairs : Tensor, shape=[pairs of heads, 2, width]
        Entries of the left and of the right side.
    left, right : Label
    """

    pairs: Tensor
    left: Label
    right: Label


@dataclass(frozen=True)
class Attention:
    """Scores applied to values.

    Attributes
    ----------
    number : int
        Among the products.
    meetings : sequence of Meeting
        Whose scores were added. The pairs of heads are those of the first.
    keys_right : bool
        Whether the right side of a meeting belongs to the positions that are summed over.
    values : Tensor, shape=[pairs of heads, width]
        Entries of the values of each pair of heads; zero where a pair has none.
    writes : Tensor, shape=[pairs of heads, width]
    source : Label
        Of the values.
    """

    number: int
    meetings: Sequence[Meeting]
    keys_right: bool
    values: Tensor
    writes: Tensor
    source: Label


@dataclass(frozen=True)
class Encounter:
    """Two activations of different weights, added or multiplied entry by entry."""

    left: Label
    right: Label


def _axis(entries: Tensor) -> Tensor:
    """Number of the axis of each entry; 0 where it has none."""
    return ((entries - 1).clamp(min=0) / _AXIS).long()


def _common_axis(entries: Tensor) -> int | None:
    """Number of the axis of all entries; None where they have several, or some have none."""
    if not entries.numel():
        return None
    low, high = (float(end) for end in torch.aminmax(entries))
    axis = int((low - 1) // _AXIS)
    return axis if low > 0 and (high - 1) // _AXIS == axis else None


# Scores too are entries: minus the number of a pair of heads times this, minus a position, minus one.
_PAIR = 2**24


def score_entries(pairs: Tensor, positions: Tensor) -> Tensor:
    """Entries of scores of pairs of heads at positions."""
    return -(pairs * float(_PAIR) + positions + 1)


def pairs_and_positions(entries: Tensor) -> tuple[Tensor, Tensor]:
    """What `score_entries` was given; -1 where an entry is no score."""
    known = entries < 0
    pairs = torch.where(known, (-entries - 1).div(_PAIR, rounding_mode="floor"), -1.0)
    return pairs.long(), torch.where(known, torch.remainder(-entries - 1, _PAIR), -1.0).long()


class Axes:
    """Axes of which some are one and the same, because activations along them were added."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self._roots = torch.empty(0, dtype=torch.long)
        # What takes an entry to the root of its axis. That of the first axis is 0, so that entries without one stay.
        self._shifts = torch.empty(0, dtype=torch.float64)

    def new(self, size: int) -> Tensor:
        """Entries of a new axis, shape=[size]."""
        number = len(self.sizes)
        self.sizes.append(size)
        self._roots = torch.cat([self._roots, torch.tensor([number])])
        self._shifts = torch.cat([self._shifts, self._shifts.new_zeros(1)])
        return torch.arange(size, dtype=torch.float64) + (number * _AXIS + 1)

    def unite(self, axes: Collection[int]) -> bool:
        """Let axes be one, if they are equally long; whether they are."""
        if len({self.sizes[axis] for axis in axes}) > 1:
            return False
        roots = {int(self._roots[axis]) for axis in axes}
        for root in roots:
            self._roots[self._roots == root] = min(roots)
        self._shifts = (self._roots - torch.arange(len(self._roots))) * float(_AXIS)
        return True

    def canonical(self, entries: Tensor) -> Tensor:
        """The same entries, by the least number of their axis."""
        axis = _common_axis(entries)
        if axis is None:
            return entries + self._shifts[_axis(entries)] if self.sizes else entries
        return entries if self._roots[axis] == axis else entries + self._shifts[axis]

    def roots(self, entries: Tensor) -> set[int]:
        """Least numbers of the axes of entries."""
        axis = _common_axis(entries)
        axes = _axis(entries[entries > 0]).unique() if axis is None else torch.tensor([axis])
        return set(self._roots[axes].tolist())

    def unite_alike(self, one: Tensor, other: Tensor) -> bool:
        """Let the axes of entries that stand for the same coordinates be one; whether they are.

        Parameters
        ----------
        one, other : Tensor, shape=[entries]
        """
        if not torch.equal(self.coordinates(one), self.coordinates(other)):
            return False
        pairs = (_axis(one) * len(self.sizes) + _axis(other)).unique().tolist()
        united = [self.unite(divmod(pair, len(self.sizes))) for pair in pairs]
        return all(united)

    @staticmethod
    def coordinates(entries: Tensor) -> Tensor:
        """Coordinate of each entry; -1 where it is zero."""
        return torch.where(entries > 0, torch.remainder(entries - 1, _AXIS), -1.0).long()

    def merged(self, entries: Tensor) -> Tensor:
        """One entry for each column where those of all rows agree, shape=[..., columns], from [..., rows, columns].

        Zeros do not count. Rows of several axes that agree in the coordinate make these axes one. Zero where they
        disagree.
        """
        entries = self.canonical(entries)
        known = entries > 0
        top = entries.amax(-2)
        low = torch.where(known, entries, torch.inf).amin(-2)
        if bool(((top == low) | (top == 0)).all()):
            return top
        coordinates = self.coordinates(entries)
        agree = torch.where(known, coordinates, -1).amax(-2) == torch.where(known, coordinates, _AXIS).amin(-2)
        several = agree & (top != low) & (top > 0)
        for *block, column in several.nonzero().tolist():
            agree[(*block, column)] = self.unite(self.roots(entries[(*block, slice(None), column)]))
        return torch.where(agree, self.canonical(top), 0.0)


@dataclass
class Trace:
    """What a forward pass did, gathered as it ran.

    Attributes
    ----------
    axes : Axes
    products : list of Product
    meetings : list of Meeting
    attentions : list of Attention
    sums, gatings : list of Encounter
    normed : list of pair of str and Label
        Gain of a norm, or kernel that leaves channels apart, and what went in.
    shifted : list of Label
        Of what a tensor is added to that no weight wrote.
    chosen : set of int
        Origins of the activations of which the largest are chosen, as routers do.
    factors : set of int
        Origins of what multiplies all coordinates of an activation alike.
    weighed : set of int
        Origins of what a softmax turned into weights without being recognised as the scores of an attention.
    uses : mapping of str to set of str
        Every parameter that an operation was given, and what it was used for where it is no matrix.
    added : list of pair of str and Label
        Each parameter that was added to activations, and these.
    lost : mapping of str to int
        How often each operation was met behind which the coordinates are not known.
    values : mapping of int to pair of Tensor
        What each product or attention was given and what it returned, in numbers.
    first_elements : mapping of str to int
        Number of the first element of each parameter.
    """

    axes: Axes = field(default_factory=Axes)
    products: list[Product] = field(default_factory=list)
    meetings: list[Meeting] = field(default_factory=list)
    attentions: list[Attention] = field(default_factory=list)
    sums: list[Encounter] = field(default_factory=list)
    gatings: list[Encounter] = field(default_factory=list)
    normed: list[tuple[str, Label]] = field(default_factory=list)
    shifted: list[Label] = field(default_factory=list)
    chosen: set[int] = field(default_factory=set)
    factors: set[int] = field(default_factory=set)
    weighed: set[int] = field(default_factory=set)
    uses: dict[str, set[str]] = field(default_factory=dict)
    added: list[tuple[str, Label]] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    values: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    first_elements: dict[str, int] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=count)
    _states: Iterator[int] = field(default_factory=lambda: count(1))

    def next_number(self) -> int:
        """Number of the next product or attention."""
        return next(self._numbers)

    def next_state(self) -> int:
        """A number for a label that differs from all before by more than norms and functions."""
        return next(self._states)

    def parameter_at(self, element: float) -> tuple[str, int]:
        """Name of the parameter that has an element, as `Product.elements` counts them, and its place there."""
        names, firsts = self._parameters
        place = bisect_left(firsts, element) - 1
        return names[place], int(element) - 1 - firsts[place]

    @cached_property
    def _parameters(self) -> tuple[list[str], list[int]]:
        """Names of all parameters and numbers of their first elements, ascending."""
        return list(self.first_elements), list(self.first_elements.values())

    def use(self, parameter: Label, *uses: str) -> None:
        """Note that a parameter is used, and for what."""
        name = self.name_of(parameter)
        if name is not None:
            self.uses.setdefault(name, set()).update(uses)

    def name_of(self, parameter: Label) -> str | None:
        """Name of the parameter that has the entries of a label; None where there are none."""
        assert parameter.entries is not None
        first = parameter.entries[(0,) * parameter.entries.ndim] if parameter.entries.numel() else None
        return None if first is None else self.parameter_at(float(first))[0]
