"""The vector spaces of a network, and the changes of basis that they allow."""

from dataclasses import dataclass
from enum import Enum


class SpaceKind(Enum):
    """What the activations in a space are."""

    STREAM = "stream"
    HIDDEN = "hidden"
    KEYS = "keys"
    VALUES = "values"
    VOCABULARY = "vocabulary"
    MIXED = "mixed"
    PATCHES = "patches"
    EXPERTS = "experts"
    DATA = "data"


class Symmetry(Enum):
    """The group of basis changes of a space that leave the network's function alone.

    A number measured in the space is basis-independent if it is invariant under a group that `contains` this one;
    otherwise it depends on the basis that training happened to choose.

    A group acts on all weights of a space together, with two reservations. Under ReLU the scalings are positive.
    In a gated MLP, whose hidden layer is ``activation(gate) * up``, they act on up and down; the gate may be
    permuted with them but not scaled (`Weight.symmetry`).

    Where norms are, in the stream or on queries and keys, a number is basis-independent only in matrices with the
    norms folded in (`Network.matrix`): otherwise a gain can be traded for the columns of the weights that read through
    it, and what a LayerNorm does not see can be added to what is written before it or read behind it. And leading
    singular subspaces in one space are cut off by the lengths in the other space of their weight: they are
    basis-independent only if that other space allows rotations at most.
    """

    GENERAL_LINEAR = "general_linear"
    ORTHOGONAL = "orthogonal"
    SCALED_PERMUTATION = "scaled_permutation"
    SIGNED_PERMUTATION = "signed_permutation"
    ROTARY_BLOCK = "rotary_block"
    PERMUTATION = "permutation"
    TRIVIAL = "trivial"

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

#: The changes of basis that a `Symmetry` allows, in words, by its value.
CHANGES_OF_BASIS = {
    "general_linear": "any invertible map",
    "orthogonal": "rotations, once the norm gains are folded into the reads",
    "scaled_permutation": "permutations and scalings of the coordinates",
    "signed_permutation": "permutations and sign changes of the coordinates",
    "rotary_block": "rotations and scalings of each rotary plane",
    "permutation": "permutations of the coordinates",
    "trivial": "none",
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
    kind : SpaceKind
    dim : int
    symmetry : Symmetry
    depth : int or None
        Layer; None for the residual stream and the vocabulary, which all layers share.
    assumed : bool
        The settings do not tell the symmetry: it is the largest group that may apply.
    concatenated : bool
        It is the spaces of several heads or experts side by side (``layers.3.queries``), where each change of basis
        acts on one of them: the network never compares one head's coordinates with another's. Without it, keys and
        values are those of one group of heads.
    """

    name: str
    kind: SpaceKind
    dim: int
    symmetry: Symmetry
    depth: int | None = None
    assumed: bool = False
    concatenated: bool = False
