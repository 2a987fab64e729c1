"""Leading singular subspaces of weights, and where they lie."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ...network import Side, Space, Weight
from ...numerics.spectrum import Spectrum
from ..invariance import angles_are_basis_independent


@dataclass(frozen=True)
class Subspace:
    """One side of a weight at the chosen rank.

    Attributes
    ----------
    weight : Weight
    side : Side
    frame : Tensor, shape=[space.dim, rank]
        Orthonormal.
    channel_norms : Tensor, shape=[space.dim]
        Norm of the weight at each coordinate of the space.
    """

    weight: Weight
    side: Side
    frame: Tensor
    channel_norms: Tensor

    @property
    def name(self) -> str:
        """Name of the weight and the side, as tables and the graph spell it: ``layers.3.q.read``."""
        return f"{self.weight.name}.{self.side.value}"

    @property
    def space(self) -> Space:
        """Space that the subspace lies in."""
        return self.weight.space(self.side)

    def is_basis_independent(self, *, folded: bool) -> bool:
        """Whether no change of basis that leaves the network's function unchanged alters angles with it."""
        complete = self.frame.shape[1] == self.weight.smaller_side
        return angles_are_basis_independent(self.weight, self.side, folded=folded, complete=complete)


def subspaces_of(weights: Iterable[Weight], spectra: Mapping[str, Spectrum]) -> list[Subspace]:
    """The sides of every weight; one without a non-zero singular value has no subspace."""
    sides = [
        Subspace(weight, side, spectra[weight.name].frame(side), spectra[weight.name].channel_norms(side))
        for weight in weights
        for side in weight.sides
    ]
    return [subspace for subspace in sides if subspace.frame.shape[1]]
