"""Which weights of a network compose: the interfaces inside its layers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...network import Side, Space, Symmetry, Weight


@dataclass(frozen=True)
class Composable:
    """Two weights, or stacks of them, of which the second reads what the first writes.

    Attributes
    ----------
    name : str
        Such as ``layers.3.up-down``, ``layers.3.heads.5.q-k``, ``layers.3.groups.1.v-o``.
    kind : str
        up-down, gate-down, q-k, v-o; q-k-group and v-o-group for all query heads that share keys and values.
    layer : int or None
    head : int or None
        Query head; of a group, the key and value head; None in an MLP.
    space : Space
        That they meet in.
    first, second : tuple of Weight
        Several where heads share one partner.
    """

    name: str
    kind: str
    layer: int | None
    head: int | None
    space: Space
    first: tuple[Weight, ...]
    second: tuple[Weight, ...]

    def is_basis_independent(self, *, folded: bool, balanced: bool) -> bool:
        """Whether no change of basis that leaves the network's function unchanged alters overlap and commutators.

        None does where the space may be rotated at most, or where single units may be scaled too and are balanced
        first; and where no gain stands beside a weight that is not folded in. The ranks never change.
        """
        members = (*self.first, *self.second)
        scaled = self.first[0].symmetry(Side.WRITE) is Symmetry.SCALED_PERMUTATION
        rotations_alone = Symmetry.ORTHOGONAL.contains(self.space.symmetry) or (balanced and scaled)
        gains = any(weight.folding.read or weight.folding.written for weight in members)
        return rotations_alone and (folded or not gains)

    def matrices(self, of: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """W_1, shape=[d, n], and W_2, shape=[p, d], from the matrices of the weights by name."""
        second = [of[weight.name] for weight in self.second]
        if self.kind.startswith("q-k"):
            second = [keys.mT for keys in second]  # logits are x' W_K^T W_Q x
        return torch.cat([of[weight.name] for weight in self.first], dim=1), torch.cat(second, dim=0)


def interfaces_of(weights: Iterable[Weight]) -> list[Composable]:
    r"""Every interface inside the layers that these weights make up.

    Parameters
    ----------
    weights : iterable of Weight
        With their heads, where the interfaces inside heads are wanted.

    Returns
    -------
    interfaces : list of Composable
        In every MLP up to down and, where there is a gate, gate to down; in every query head q to k and v to o,
        with the key and value head that it uses; where several query heads use one, also all of them together.

    Notes
    -----
    The Gram matrix of a group of queries is the sum over its heads, so that its imbalance is the one that ridge
    removes: :math:`\sum_i W_Q^i W_Q^{i\top} - W_K W_K^\top`.

    References
    ----------
    theory/alignment, sections 1 and 3.5.
    """
    weights = list(weights)
    found = []
    for space in dict.fromkeys(space for weight in weights for space in (weight.target, weight.source)):
        writes = {role: _members(weights, role, "target", space) for role in ("gate", "up", "q", "k", "v")}
        reads = {role: _members(weights, role, "source", space) for role in ("down", "o")}
        for down in reads["down"]:
            found += [_mlp(first, down) for first in writes["up"] + writes["gate"]]
        for key in writes["k"]:
            found += _heads("q-k", writes["q"], [key], key)
        for value in writes["v"]:
            found += _heads("v-o", [value], reads["o"], value)
    return found


def _members(weights: list[Weight], role: str, end: str, space: Space) -> list[Weight]:
    """Weights of a role at this space; of a projection that is split into heads, only its heads."""
    in_heads = role in ("q", "k", "v", "o")
    return [w for w in weights if w.role == role and getattr(w, end) == space and (w.head is not None) == in_heads]


def _mlp(first: Weight, down: Weight) -> Composable:
    kind, layer, space = f"{first.role}-down", first.layer, first.target
    return Composable(f"layers.{layer}.{kind}", kind, layer, None, space, (first,), (down,))


def _heads(kind: str, first: list[Weight], second: list[Weight], shared: Weight) -> list[Composable]:
    """The pairs that share one key or value head, and all of them together where there are several."""
    place, space = f"layers.{shared.layer}", shared.target
    pairs = [(one, other) for one in first for other in second]
    found = []
    for one, other in pairs:
        head = one.head if kind == "q-k" else other.head
        name = f"{place}.heads.{head}.{kind}"
        found.append(Composable(name, kind, shared.layer, head, space, (one,), (other,)))
    if len(pairs) > 1:
        name, group = f"{place}.groups.{shared.head}.{kind}", f"{kind}-group"
        members = tuple(first), tuple(second)
        found.append(Composable(name, group, shared.layer, shared.head, space, *members))
    return found
