"""A network as a quiver: vector spaces, and the weights that map one to another."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import PurePath

import torch
from torch import Tensor

from ..checkpoint import Checkpoint
from ..display import Displayed
from .folding import Folding
from .splits import Split

#: Every role, in the order in which a signal meets them inside a layer.
ROLES = ("embed", "q", "k", "v", "o", "gate", "up", "down", "unembed")

# Weights of one step see the same activations; a later step sees what an earlier one wrote.
_STEPS = {"embed": 0, "q": 0, "k": 0, "v": 0, "o": 1, "gate": 2, "up": 2, "down": 3, "unembed": 4}


class Symmetry(Enum):
    """The group of basis changes of a space that leave the network's function alone.

    The value says it in words. A number measured in the space survives if it is invariant under a group
    that `contains` this one; otherwise it depends on the basis that training happened to choose.

    A group acts on all weights of a space together, with two reservations. Under ReLU the scalings are positive.
    In a gated MLP, whose hidden layer is ``activation(gate) * up``, they act on up and down; the gate may be
    permuted with them but not scaled (`Weight.symmetry`).

    What survives where norms are, in the stream or on queries and keys, does so in matrices with the norms folded in
    (`Network.matrix`): otherwise a gain can be traded for the columns of the weights that read through it. And
    leading singular subspaces in one space are cut off by the lengths in the other space of their weight: they
    survive only if that other space allows rotations at most.
    """

    GENERAL_LINEAR = "any invertible map"
    ORTHOGONAL = "rotations, once the norm gains are folded into the reads"
    SCALED_PERMUTATION = "permutations and scalings of the coordinates"
    SIGNED_PERMUTATION = "permutations and sign changes of the coordinates"
    ROTARY_BLOCK = "rotations and scalings of each rotary plane"
    PERMUTATION = "permutations of the coordinates"
    TRIVIAL = "none"

    def contains(self, other: "Symmetry") -> bool:
        """Whether every change of basis in `other` is one in this group."""
        return self is other or other in _SUBGROUPS.get(self, frozenset())


_SUBGROUPS = {
    Symmetry.GENERAL_LINEAR: frozenset(Symmetry),
    Symmetry.ORTHOGONAL: frozenset({Symmetry.SIGNED_PERMUTATION, Symmetry.PERMUTATION, Symmetry.TRIVIAL}),
    Symmetry.SCALED_PERMUTATION: frozenset({Symmetry.SIGNED_PERMUTATION, Symmetry.PERMUTATION, Symmetry.TRIVIAL}),
    Symmetry.SIGNED_PERMUTATION: frozenset({Symmetry.PERMUTATION, Symmetry.TRIVIAL}),
    Symmetry.ROTARY_BLOCK: frozenset({Symmetry.TRIVIAL}),
    Symmetry.PERMUTATION: frozenset({Symmetry.TRIVIAL}),
}


class Side(Enum):
    """Where a weight touches a space: its row space reads there, its column space writes there."""

    READ = "read"
    WRITE = "write"

    @property
    def other(self) -> "Side":
        """The other end of the weight."""
        return Side.WRITE if self is Side.READ else Side.READ


@dataclass(frozen=True)
class Space:
    """A vector space that activations live in.

    Attributes
    ----------
    name : str
        Unique in the network: ``stream``, ``layers.3.hidden``, ``layers.3.heads.0.keys`` ...
    dim : int
    symmetry : Symmetry
    depth : int or None
        Layer; None for the residual stream and the vocabulary.
    assumed : bool
        The settings do not tell the symmetry: it is the largest group that may apply.
    """

    name: str
    dim: int
    symmetry: Symmetry
    depth: int | None = None
    assumed: bool = False


@dataclass(frozen=True)
class Weight:
    """A linear map from one space to another.

    Attributes
    ----------
    name : str
        Independent of the file's spelling: ``layers.3.q``, ``layers.3.q.heads.0``, ``embed``.
    role : str
        One of `ROLES`.
    layer : int or None
        None for the embedding and the unembedding.
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

    def space(self, side: Side) -> Space:
        """Space that this side of the weight lies in."""
        return self.source if side is Side.READ else self.target

    def symmetry(self, side: Side) -> Symmetry:
        """Group that acts on this side of the weight: that of the space, but permutations alone on a gate."""
        if self.role == "gate" and side is Side.WRITE:
            return Symmetry.PERMUTATION
        return self.space(side).symmetry

    @property
    def stage(self) -> tuple[float, int]:
        """Position along the signal: a weight's writing can reach a reading of a later stage only."""
        before_or_after = float("-inf") if self.role == "embed" else float("inf")
        return (before_or_after if self.layer is None else self.layer), _STEPS[self.role]


@dataclass(frozen=True)
class Skipped:
    """A tensor that no weight uses, and why."""

    tensor: str
    shape: tuple[int, ...]
    reason: str


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
        In order of depth; heads follow the projection that they are part of.
    skipped : tuple of Skipped
        Every tensor that is not used.
    remarks : tuple of str
        What was inferred and what could not be known.
    """

    family: str
    checkpoint: Checkpoint
    weights: tuple[Weight, ...]
    skipped: tuple[Skipped, ...]
    remarks: tuple[str, ...]

    @property
    def spaces(self) -> Mapping[str, Space]:
        """Every space that a weight touches, by name, in order of first appearance."""
        return {space.name: space for weight in self.weights for space in (weight.source, weight.target)}

    @property
    def layers(self) -> list[int]:
        """Layer numbers, ascending."""
        return sorted({weight.layer for weight in self.weights if weight.layer is not None})

    def _facts(self) -> Mapping[str, object]:
        heads = sum(weight.head is not None for weight in self.weights)
        return {
            "checkpoint": PurePath(self.checkpoint.location).name,
            "family": self.family,
            "layers": len(self.layers),
            "weights": len(self.weights) - heads,
            "heads": heads,
            "spaces": len(self.spaces),
            "skipped": len(self.skipped),
        }

    def matrix(
        self,
        weight: Weight,
        stored: Tensor | None = None,
        *,
        folded: bool = False,
        device: str | torch.device = "cpu",
    ) -> Tensor:
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
            gains by default. BERT's reads have nothing to fold: its stream lies behind the norm, and the
            residual branch carries the gain too.
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
        if stored is None:
            stored = self.checkpoint.read(weight.tensor, device=device)
        matrix = weight.split(stored)
        if not folded:
            return matrix
        first_row = weight.split.rows[0] if weight.split.rows else 0
        return weight.folding(matrix, lambda name: self.checkpoint.read(name, device=matrix.device), first_row)
