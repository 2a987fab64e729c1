"""A network as a quiver: vector spaces, and the weights that map one to another."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from itertools import groupby
from math import inf
from pathlib import PurePath
from typing import TYPE_CHECKING

from ..checkpoint import Checkpoint
from ..display import Displayed
from .families.lookup import Structure
from .folding import Folding, Latent
from .roles import ROLE_RECORDS, BlockKind, HeadGroup, Role, bare, in_tower, layers_by_tower, tower_of
from .spaces import Side, Space, Symmetry
from .splits import Split

if TYPE_CHECKING:
    import torch
    from torch import Tensor

# Names that an error offers for one that no weight has.
_NAMES_TOLD = 3
_SHORT_NAME = re.compile(r"(?P<tower>.+\.)?L(?P<layer>\d+)(H(?P<head>\d+))?\.(?P<role>[^.]+)")


@dataclass(frozen=True)
class Weight:
    """A linear map from one space to another.

    Attributes
    ----------
    name : str
        Independent of the file's spelling: ``layers.3.q``, ``layers.3.q.heads.0``, ``embed``.
    role : str
        One of `ROLES`; behind its tower in a network of several: ``encoder.q``.
    layer : int or None
        Counted in each tower; None for the embedding and the unembedding.
    head : int or None
        None for a whole projection. Query heads and output heads are numbered 0 .. H-1, key and value
        heads 0 .. Kv-1.
    source, target : Space
        The matrix has shape (target.dim, source.dim).
    tensor : str
        Name in the checkpoint.
    split : Split
        The cut from that tensor to the matrix.
    folding : Folding
        The parts of the neighbouring norms that belong to the weight, for `Network.matrix`.
    expert : int or None
        Where a layer has several weights of the role, of which each token takes some. Their numbers mean nothing
        in another layer.
    after : Latent or None
        What reads the source in its place, where the matrix is a product: the tensor holds the second factor alone.
    towers_before : int
        How many towers a signal has passed before it comes to this one.
    position : int or None
        When it is applied, counted in its network, where a forward pass has shown it; None where its role tells.
    """

    name: str
    role: str
    layer: int | None
    head: int | None
    source: Space
    target: Space
    tensor: str
    split: Split = field(default=Split(), repr=False)
    folding: Folding = field(default=Folding(), repr=False)
    expert: int | None = None
    after: Latent | None = field(default=None, repr=False)
    towers_before: int = field(default=0, repr=False)
    position: int | None = field(default=None, repr=False)

    @property
    def record(self) -> Role:
        """What is known of its role."""
        return ROLE_RECORDS[bare(self.role)]

    @property
    def tower(self) -> str:
        """Name of its tower; empty where the network has one."""
        return tower_of(self.role)

    def space(self, side: Side) -> Space:
        """Space that this side of the weight lies in."""
        return self.source if side is Side.READ else self.target

    @property
    def sides(self) -> tuple[Side, ...]:
        """Ends whose leading directions are compared with those of other weights."""
        return tuple(Side)

    @property
    def smaller_side(self) -> int:
        """Largest rank that the matrix can have."""
        return min(self.source.dim, self.target.dim)

    def symmetry(self, side: Side) -> Symmetry:
        """Group that acts on this side of the weight: that of the space, but permutations alone on a gate."""
        if not self.record.scalable and side is not self.record.side:
            return Symmetry.PERMUTATION
        return self.space(side).symmetry

    @property
    def stage(self) -> tuple[float, float, int]:
        """Position along the signal: a weight's writing can reach a reading of a later stage only."""
        outside = -inf if self.record.block is BlockKind.EMBEDDING else inf
        within = self.record.stage if self.position is None else self.position
        return self.towers_before, (outside if self.layer is None else self.layer), within

    def read(self, checkpoint: Checkpoint, *, device: "str | torch.device" = "cpu") -> "Tensor":
        """What `matrix` is cut from: the tensor, or of one that holds all experts the block of its own."""
        own = self.split.expert
        rows = slice(None) if own is None else slice(own, own + 1)
        return checkpoint.read(self.tensor, rows=rows, device=device)

    def matrix(
        self,
        checkpoint: Checkpoint,
        stored: "Tensor | None" = None,
        *,
        folded: bool = False,
        device: "str | torch.device" = "cpu",
    ) -> "Tensor":
        """Matrix of the weight in a checkpoint, see `Network.matrix`."""
        if stored is None:
            stored = self.read(checkpoint, device=device)

        def read(name: str) -> "Tensor":
            return checkpoint.read(name, device=stored.device)

        matrix = self.split(stored)
        if self.after is not None:
            matrix = self.after(matrix, read)
        if not folded:
            return matrix
        first_row = 0 if self.head is None or self.record.writes_to_stream else self.head * self.target.dim
        return self.folding(matrix, read, first_row)


@dataclass(frozen=True)
class Stack(Weight):
    """All experts of one role in a layer as one weight.

    Where they read the stream, their matrices stand on top of each other; where they write to it, side by side. The
    Gram matrix at this end is the sum of theirs, whatever their order. At the other end the units of all experts stand
    in the order of the experts' numbers, which mean nothing in another layer: that side is not compared. `tensor` has a
    star in the place of what differs between the names of the experts' tensors.

    Attributes
    ----------
    experts : tuple of Weight
        In order of their numbers.
    """

    experts: tuple[Weight, ...] = field(default=(), repr=False)

    @property
    def sides(self) -> tuple[Side, ...]:
        """The end that faces the stream."""
        return (Side.WRITE if self.record.writes_to_stream else Side.READ,)

    def matrix(
        self,
        checkpoint: Checkpoint,
        stored: "Tensor | None" = None,
        *,
        folded: bool = False,
        device: "str | torch.device" = "cpu",
    ) -> "Tensor":
        """All matrices at once, which no measurement needs; `stored` is for experts that share one tensor."""
        from torch import cat

        matrices = [expert.matrix(checkpoint, stored, folded=folded, device=device) for expert in self.experts]
        return cat(matrices, dim=0 if self.sides == (Side.READ,) else 1)


def with_stacks(weights: Iterable[Weight]) -> Iterator[Weight]:
    """The weights of a layer, the experts of each role behind the `Stack` of them all."""
    for (_, mixed), group in groupby(weights, lambda weight: (weight.role, weight.expert is not None)):
        members = tuple(group)
        if mixed:
            yield _stack(members)
        yield from members


def _stack(experts: tuple[Weight, ...]) -> Stack:
    first, names = experts[0], [expert.tensor.split(".") for expert in experts]
    side = Side.WRITE if first.record.writes_to_stream else Side.READ
    inner = replace(
        first.space(side.other),
        name=in_tower(first.tower, f"layers.{first.layer}.experts.{first.record.inner.value}"),
        dim=sum(expert.space(side.other).dim for expert in experts),
        concatenated=True,
    )
    return Stack(
        name=first.name.removesuffix(f".experts.{first.expert}"),
        role=first.role,
        layer=first.layer,
        head=None,
        source=inner if side is Side.WRITE else first.source,
        target=first.target if side is Side.WRITE else inner,
        tensor=".".join(parts[0] if len(set(parts)) == 1 else "*" for parts in zip(*names, strict=True)),
        folding=first.folding,
        towers_before=first.towers_before,
        experts=experts,
    )


@dataclass(frozen=True)
class Block:
    """One part of a layer, with whatever weights it has.

    Attributes
    ----------
    kind : BlockKind
    weights : tuple of Weight
        In order of stage; heads follow the projection that they are part of, experts the `Stack` of them all.
    """

    kind: BlockKind
    weights: tuple[Weight, ...]


@dataclass(frozen=True)
class Layer:
    """The blocks between which a signal passes one after the other, and where their numbers are.

    Attributes
    ----------
    number : int or None
        None for the embedding and for the unembedding, which are layers of their own here.
    blocks : tuple of Block
        In the order of the signal. No block is mandatory.
    checkpoint : Checkpoint
    """

    number: int | None
    blocks: tuple[Block, ...]
    checkpoint: Checkpoint = field(repr=False)

    @property
    def name(self) -> str:
        """``layers.3``, or the block that stands outside the layers; behind its tower where there are several."""
        name = self.blocks[0].kind.value if self.number is None else f"layers.{self.number}"
        return in_tower(self.weights[0].tower, name)

    @property
    def weights(self) -> tuple[Weight, ...]:
        """Of all its blocks."""
        return tuple(weight for block in self.blocks for weight in block.weights)


@dataclass(frozen=True)
class Skipped:
    """A tensor that no weight uses, or some rows of one, and why.

    Attributes
    ----------
    tensor : str
    shape : tuple of int
    reason : str
    is_parameter : bool
        False for a buffer, such as the running mean of a batch norm: its numbers belong to no share of parameters.
    """

    tensor: str
    shape: tuple[int, ...]
    reason: str
    is_parameter: bool = True


def _long_name(name: str) -> str:
    """``layers.3.q.heads.0`` of ``L3H0.q``; any other name as it is."""
    short = _SHORT_NAME.fullmatch(name)
    if short is None:
        return name
    head = "" if short["head"] is None else f".heads.{short['head']}"
    return f"{short['tower'] or ''}layers.{short['layer']}.{short['role']}{head}"


@dataclass(frozen=True, repr=False)
class Network(Displayed):
    """The quiver of a checkpoint.

    Attributes
    ----------
    family : str
        Row of the family table that the names matched.
    checkpoint : Checkpoint
        Where the numbers are.
    weights : tuple of Weight
        In order of depth; heads follow the projection that they are part of. Stacks of experts are in `layers` alone.
    skipped : tuple of Skipped
        Every tensor that is not used.
    remarks : tuple of str
        What was inferred and what could not be known.
    structure : Structure or None
        What the names and settings said; None for a module that was followed.
    """

    family: str
    checkpoint: Checkpoint
    weights: tuple[Weight, ...]
    skipped: tuple[Skipped, ...]
    remarks: tuple[str, ...]
    structure: Structure | None = None

    def __getitem__(self, name: str) -> Weight:
        """A weight by any of its names.

        Parameters
        ----------
        name : str
            Its own, ``layers.3.q`` or ``layers.3.q.heads.0``; in short ``L3.q`` or ``L3H0.q``, behind a tower
            ``encoder.L3.q``; or that of its tensor, where it is cut into no others.

        Raises
        ------
        KeyError
            If no weight, or more than one, has the name.
        TypeError
            If it is no text. A network is no sequence: its weights are gone through as `weights`.
        """
        if not isinstance(name, str):
            raise TypeError(
                f"network[{name!r}]: expected the name of a weight, such as {self.weights[0].name!r}; "
                "network.weights has all of them in order"
            )
        spelt = _long_name(name)
        found = [weight for weight in self.weights if weight.name == spelt]
        found = found or [weight for weight in self.weights if weight.tensor == name and weight.head is None]
        if len(found) != 1:
            near = [weight.name for weight in found] or self._meant(name)
            raise KeyError(f"{name}: expected the name of one weight, such as {', '.join(near)}")
        return found[0]

    def _meant(self, name: str) -> list[str]:
        """Weights that one may mean by a name that none has: one with its side, their role, or what is spelt alike."""
        for side in Side:
            name = name.removesuffix(f".{side.value}")
        spelt, known = _long_name(name), [weight.name for weight in self.weights]
        if spelt in known:
            return [spelt]
        of_role = [weight.name for weight in self.weights if weight.role == name and weight.head is None]
        return of_role[:_NAMES_TOLD] or get_close_matches(spelt, known, _NAMES_TOLD) or known[:1]

    @property
    def spaces(self) -> Mapping[str, Space]:
        """Every space that a weight touches, by name, in order of first appearance."""
        return {space.name: space for weight in self.weights for space in (weight.source, weight.target)}

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its layers in order of depth, the embedding first and the unembedding last where there are some."""
        groups = (list(group) for _, group in groupby(self.weights, lambda weight: (weight.tower, weight.stage[1])))
        return tuple(Layer(group[0].layer, _blocks(group), self.checkpoint) for group in groups)

    @property
    def layer_numbers(self) -> list[int]:
        """Numbers of the layers, ascending."""
        return sorted({weight.layer for weight in self.weights if weight.layer is not None})

    @property
    def depth(self) -> Mapping[str, int]:
        """Number of layers along each stream, by its tower; by the empty name where there is one stream."""
        return layers_by_tower((weight.tower, weight.layer) for weight in self.weights)

    def _facts(self) -> Mapping[str, object]:
        sliced = [weight for weight in self.weights if weight.head is not None]
        return {
            "checkpoint": PurePath(self.checkpoint.location).name,
            "family": self.family,
            "layers": sum(self.depth.values()),
            "weights": len(self.weights) - len(sliced),
            "heads": len(
                {
                    (weight.tower, weight.layer, weight.head)
                    for weight in sliced
                    if weight.record.heads is HeadGroup.QUERY
                }
            ),
            "spaces": len(self.spaces),
            "skipped": len(self.skipped),
        }

    def matrix(
        self,
        weight: Weight,
        stored: "Tensor | None" = None,
        *,
        folded: bool = False,
        device: "str | torch.device" = "cpu",
    ) -> "Tensor":
        """Matrix of one weight.

        Parameters
        ----------
        weight : Weight
            One of `weights`.
        stored : Tensor, optional
            What ``checkpoint.read(weight.tensor)`` gave, where several weights are cut from it; read by default.
        folded : bool, optional
            Take over the parts of the neighbouring norms: the gain that a weight reads through, the gain that
            its output passes, and the mean that a LayerNorm removes from what it writes. The norms keep their
            gains by default. BERT's stream lies behind its norms, and the residual branch carries their gains too:
            its reads lose only the direction in which the LayerNorm's output never moves.
        device : str or torch.device, optional
            Where to read to; that of `stored` where it is given.

        Returns
        -------
        matrix : Tensor, shape=[target.dim, source.dim]
            In the dtype read; with norms folded in, in float32 at least.

        Raises
        ------
        CheckpointError
            If a tensor turns out to be unreadable or not finite.
        """
        return weight.matrix(self.checkpoint, stored, folded=folded, device=device)


def _blocks(weights: list[Weight]) -> tuple[Block, ...]:
    groups = groupby(with_stacks(weights), lambda weight: weight.record.block)
    return tuple(Block(kind, tuple(group)) for kind, group in groups)
