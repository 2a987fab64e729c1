"""Which weights of a network compose: the interfaces inside its layers."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from ...network import ROLE_RECORDS, Folding, HeadGroup, Side, Space, SpaceKind, Symmetry, Weight
from ...network.roles import COMPOSED, in_tower

#: Kinds of interfaces between two weights, those in MLPs first.
INTERFACE_KINDS = tuple(f"{first}-{second}" for first, second in reversed(COMPOSED))


@dataclass(frozen=True)
class Composable:
    """Two weights, or stacks of them, of which the second reads what the first writes.

    Attributes
    ----------
    name : str
        Such as ``layers.3.up-down``, ``layers.3.experts.2.up-down``, ``layers.3.heads.5.q-k``,
        ``layers.3.groups.1.v-o``.
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

    @property
    def has_scalable_units(self) -> bool:
        """Whether single units may be scaled in what writes them and scaled back in what reads them.

        Behind a square they may not, and are only assumed to; a gate may be permuted with the other two weights alone.
        """
        scaled = self.first[0].symmetry(Side.WRITE) is Symmetry.SCALED_PERMUTATION
        return scaled and not self.space.assumed

    def is_basis_independent(self, *, folded: bool, balanced: bool) -> bool:
        """Whether no change of basis that leaves the network's function unchanged alters overlap and commutators.

        None does where the space may be rotated at most, or where single units may be scaled too and are balanced
        first; and where no norm has a part in a weight that is not folded in. The ranks never change.
        """
        members = (*self.first, *self.second)
        rotations_alone = Symmetry.ORTHOGONAL.contains(self.space.symmetry) or (balanced and self.has_scalable_units)
        return rotations_alone and (folded or all(weight.folding == Folding() for weight in members))

    def matrices(self, of: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """W_1, shape=[d, n], and W_2, shape=[p, d], from the matrices of the weights by name."""
        second = [of[weight.name] for weight in self.second]
        if self.first[0].record.multiplied_with:
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
        Every two weights that share a space inside a layer and whose roles compose there (`Role.read_by` and
        `Role.multiplied_with`), of MLPs first: up to down and, where there is a gate, gate to down, for each expert
        on its own; in every query head q to k and v to o, with the key and value head that it uses. Where several
        query heads use one, also all of them together.

    Notes
    -----
    The Gram matrix of a group of queries is the sum over its heads, so that its imbalance is the one that ridge
    removes: :math:`\sum_i W_Q^i W_Q^{i\top} - W_K W_K^\top`.

    References
    ----------
    docs/measurements.md, "Interfaces".
    """
    at: dict[tuple[Space, str, Side], list[Weight]] = {}
    spaces: dict[Space, None] = {}
    for weight in weights:
        for side in (Side.WRITE, Side.READ):
            spaces.setdefault(weight.space(side))
            at.setdefault((weight.space(side), weight.record.name, side), []).append(weight)
    found = []
    for space in sorted(spaces, key=lambda space: space.kind is not SpaceKind.HIDDEN):
        for first, second in reversed(COMPOSED):
            end = Side.WRITE if ROLE_RECORDS[first].multiplied_with == second else Side.READ
            found += _meetings(at.get((space, first, Side.WRITE), []), at.get((space, second, end), []), space)
    return found


def _meetings(first: list[Weight], second: list[Weight], space: Space) -> list[Composable]:
    """All pairs of weights of two roles in one space, and of heads that share one all pairs together."""
    if not first or not second:
        return []
    kind, layer = f"{first[0].role}-{second[0].record.name}", first[0].layer
    found = []
    for pair in product(first, second):
        head, expert = _head(pair, HeadGroup.QUERY), pair[0].expert
        inside = f"heads.{head}." if head is not None else "" if expert is None else f"experts.{expert}."
        found.append(Composable(_name(pair, inside), kind, layer, head, space, pair[:1], pair[1:]))
    if len(found) > 1:
        shared = _head((first[0], second[0]), HeadGroup.KEY_VALUE)
        name = _name((first[0], second[0]), f"groups.{shared}.")
        found.append(Composable(name, f"{kind}-group", layer, shared, space, tuple(first), tuple(second)))
    return found


def _name(pair: tuple[Weight, Weight], inside: str) -> str:
    first, second = pair
    return in_tower(first.tower, f"layers.{first.layer}.{inside}{first.record.name}-{second.record.name}")


def _head(pair: tuple[Weight, Weight], group: HeadGroup) -> int | None:
    """Number of the one of the two that belongs to a group of heads; None in an MLP."""
    return next((weight.head for weight in pair if weight.record.heads is group), None)
