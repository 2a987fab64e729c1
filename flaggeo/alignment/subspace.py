"""Leading singular subspaces of weights, and where they lie."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ..network import Side, Space, Symmetry, Weight
from ..spectrum import Spectrum


@dataclass(frozen=True)
class Subspace:
    """One side of a weight at the chosen rank.

    Attributes
    ----------
    weight : Weight
    side : Side
    frame : Tensor, shape=[space.dim, rank]
        Orthonormal.
    """

    weight: Weight
    side: Side
    frame: Tensor

    @property
    def name(self) -> str:
        """Name of the weight and the side, as tables and the graph spell it: ``layers.3.q.read``."""
        return f"{self.weight.name}.{self.side.value}"

    @property
    def space(self) -> Space:
        """Space that the subspace lies in."""
        return self.weight.space(self.side)

    def survives(self, *, folded: bool) -> bool:
        """Whether angles with it keep their values under every change of basis that leaves the network alone.

        Three things can move it: the group of its space, where that is more than rotations; the group of the
        space at the other end, since lengths there decide which directions are the leading ones, unless all of
        them are kept; and a gain between its space and the weight, which can be traded for the scale of single
        coordinates unless it is folded in.
        """
        here, there = (self.weight.symmetry(side) for side in (self.side, self.side.other))
        complete = self.frame.shape[1] == min(self.weight.source.dim, self.weight.target.dim)
        gain = self.weight.folding.read if self.side is Side.READ else self.weight.folding.written
        rotations_alone = Symmetry.ORTHOGONAL.contains(here) and (complete or Symmetry.ORTHOGONAL.contains(there))
        return rotations_alone and (folded or gain is None)


def subspaces_of(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> list[Subspace]:
    """Both sides of every weight; a side without a non-zero singular value has no subspace."""
    sides = [Subspace(weight, side, spectra[weight.name].frame(side)) for weight in weights for side in Side]
    return [subspace for subspace in sides if subspace.frame.shape[1]]
