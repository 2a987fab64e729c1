"""Pairs of subspaces or flags of one space, and what every measurement of them shares."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from manifolds import principal_angles

from ...numerics.threads import cached_property

# A cosine above this gives its angle to working precision over 7 or worse; sines give it in full.
_CLOSE_COSINE = 0.99
# Entries of the frames that are gathered at a time for close pairs: 32 MiB in float64.
_GATHERED_ENTRIES = 2**22


@dataclass(frozen=True)
class SubspacePair:
    """Two subspaces of one space, or two flags: a batch of pairs of orthonormal frames.

    Attributes
    ----------
    first : Tensor, shape=[..., n, r]
    second : Tensor, shape=[..., n, s]
        In order of singular values where the flag matters. Leading axes broadcast: ``first[:, None]`` and
        ``second[None]`` are all pairs of two lists, at the cost of one product of matrices.
    """

    first: Tensor
    second: Tensor

    @property
    def dim(self) -> int:
        """Dimension of the common space."""
        return self.first.shape[-2]

    @property
    def ranks(self) -> tuple[int, int]:
        """Dimensions of the two subspaces."""
        return self.first.shape[-1], self.second.shape[-1]

    @cached_property
    def products(self) -> Tensor:
        """Inner products of all columns, shape=[..., r, s]: all that a rotation of the space leaves alone."""
        # Axes of size 1 become rows and columns of one large product, which `matmul` would copy out.
        return torch.einsum("...nr,...ns->...rs", self.first, self.second)

    @cached_property
    def squared_cosines(self) -> Tensor:
        """Squares of `products`, shape=[..., r, s]: free of the signs of singular vectors."""
        return self.products.square()

    @cached_property
    def angles(self) -> Tensor:
        """Principal angles in radians, ascending, shape=[..., min(r, s)], small ones from sines."""
        cosines = torch.linalg.svdvals(self.products).clamp(max=1)
        return self.recomputed(torch.acos(cosines), cosines[..., 0] > _CLOSE_COSINE, principal_angles)

    def recomputed(self, values: Tensor, where: Tensor, accurate: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Values of the batch with some computed again from the frames.

        Parameters
        ----------
        values : Tensor, shape=[..., *rest]
            From `products`, which have lost digits where two subspaces nearly meet; overwritten.
        where : Tensor of bool, shape=[...]
            Pairs to compute again.
        accurate : callable
            Takes frames of shape [m, n, r] and [m, n, s] to values of shape [m, *rest].

        Returns
        -------
        values : Tensor, shape=[..., *rest]
        """
        pairs = where.nonzero()
        entries = self.dim * sum(self.ranks)
        for part in pairs.split(max(1, _GATHERED_ENTRIES // entries)):
            if len(part):
                place = part.unbind(dim=1)
                first, second = (frame.expand(*where.shape, *frame.shape[-2:]) for frame in (self.first, self.second))
                values[place] = accurate(first[place], second[place])
        return values
