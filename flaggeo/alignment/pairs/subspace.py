"""Leading singular subspaces of weights, and where they lie."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ...network import Side, Space, Symmetry, Weight
from ...numerics.spectrum import Spectrum


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
        """Whether angles with it keep their values under every change of basis that leaves the network alone."""
        complete = self.frame.shape[1] == min(self.weight.source.dim, self.weight.target.dim)
        return angles_survive(self.weight, self.side, folded=folded, complete=complete)


def angles_survive(weight: Weight, side: Side, *, folded: bool, complete: bool = False) -> bool:
    """Whether angles with what a weight reads or writes survive every change of basis that leaves the network alone.

    Three things can move a subspace: the group of its space, where that is more than rotations; the group of the
    space at the other end, since lengths there decide which directions are the leading ones, unless all of them
    are kept; and a gain between its space and the weight, which can be traded for the scale of single coordinates
    unless it is folded in.

    Parameters
    ----------
    weight : Weight
    side : Side
    folded : bool
        Whether the norms beside the weights are folded into them.
    complete : bool, optional
        Whether the subspace is all that the weight reads or writes.

    Returns
    -------
    survives : bool
    """
    here, there = (weight.symmetry(end) for end in (side, side.other))
    gain = weight.folding.read if side is Side.READ else weight.folding.written
    rotations_alone = Symmetry.ORTHOGONAL.contains(here) and (complete or Symmetry.ORTHOGONAL.contains(there))
    return rotations_alone and (folded or gain is None)


def subspaces_of(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> list[Subspace]:
    """Both sides of every weight; a side without a non-zero singular value has no subspace."""
    sides = [Subspace(weight, side, spectra[weight.name].frame(side)) for weight in weights for side in Side]
    return [subspace for subspace in sides if subspace.frame.shape[1]]
