"""Where the heads of a random projection lie: what heads share because of outlier channels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ...network import Side
from ...numerics.eigensolver import leading_eigenpairs
from ...numerics.products import matrix_product
from ...numerics.spectrum import Spectrum
from .factors import ProjectionHeads


@dataclass(frozen=True)
class HeadCut:
    """How a projection is cut into heads of equal width, and how many directions of each are compared.

    Attributes
    ----------
    weights : sequence of str
        Names of the heads: ``layers.3.q.heads.0``.
    side : Side
        The one that faces the stream: heads that read it are rows of the projection, heads that write it columns.
    ranks : Tensor of int, shape=[heads, 2]
        For each head the number of its leading directions, and the dimension of all that it reads or writes.
    """

    weights: Sequence[str]
    side: Side
    ranks: Tensor

    @classmethod
    def of(cls, heads: ProjectionHeads, spectra: Mapping[str, Spectrum]) -> "HeadCut":
        """The cut that gave these heads, whose spectra stand under their names."""
        leading = [spectra[weight].frame(heads.side).shape[1] for weight in heads.weights]
        return cls(heads.weights, heads.side, torch.stack([heads.ranks.new_tensor(leading), heads.ranks], dim=1))

    def leverages(self, projection: Tensor) -> tuple[Tensor, Tensor]:
        """Leverages of all heads of another projection of the same shape.

        Parameters
        ----------
        projection : Tensor, shape=[m, n]
            float32 or float64.

        Returns
        -------
        stream : Tensor, shape=[heads, 2, stream dimension]
            Squared row norms of frames of the leading and of all directions, see `leverages`. They sum to
            `ranks`, or to the rank of the head where that is less: a zero head has none.
        inner : Tensor, shape=[heads, 2, w]
            The same at the other end, inside the head.

        Notes
        -----
        All singular vectors of a head come from the Gram matrix of its smaller side. In float32 that leaves out
        directions below ``sqrt(eps * w) s_1``, 0.3 % of s_1 for 64 dimensions; where a head lacks one of them, all
        heads are done again in float64.
        """
        rows = projection if self.side is Side.READ else projection.mT
        heads = rows.unflatten(0, (len(self.weights), -1))
        is_wide = heads.shape[1] <= heads.shape[2]
        tall = heads.mT if is_wide else heads
        smaller = tall.shape[2]
        squares, near = leading_eigenpairs(matrix_product(tall.mT, tall), smaller)
        resolved = squares > squares[:, :1] * smaller * torch.finfo(squares.dtype).eps
        if projection.dtype == torch.float32 and bool((resolved.sum(dim=1) < self.ranks.amax(dim=1)).any()):
            on_cpu = HeadCut(self.weights, self.side, self.ranks.cpu())  # Metal has no float64
            stream, inner = on_cpu.leverages(projection.cpu().double())
            return stream.to(projection), inner.to(projection)
        # Divided by their own lengths: the eigenvalues would give them with the square of the error.
        far = matrix_product(tall, near).square_()
        lengths = far.sum(dim=1, keepdim=True)
        kept = (torch.arange(smaller, device=squares.device) < self.ranks[..., None]) & resolved[:, None]
        of_near = kept.to(near.dtype) @ near.square().mT
        of_far = torch.where(kept, 1 / lengths, 0.0) @ far.mT
        return (of_far, of_near) if is_wide else (of_near, of_far)

    def means(self, drawn: Sequence[tuple[Tensor, Tensor]]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Means of `leverages` over several projections, by name of the subspace.

        Parameters
        ----------
        drawn : sequence of (stream, inner)
            From `leverages`.

        Returns
        -------
        leading : dict of str to Tensor
            Of the leading directions on both sides: ``layers.3.q.heads.0.read`` and ``layers.3.q.heads.0.write``.
        whole : dict of str to Tensor
            Of all directions, on the side of the stream.
        """
        stream, inner = (torch.stack(of_draws).mean(dim=0) for of_draws in zip(*drawn, strict=True))
        leading: dict[str, Tensor] = {}
        for side, means in ((self.side, stream), (self.side.other, inner)):
            leading |= {f"{weight}.{side.value}": mean for weight, mean in zip(self.weights, means[:, 0], strict=True)}
        whole = {f"{weight}.{self.side.value}": mean for weight, mean in zip(self.weights, stream[:, 1], strict=True)}
        return leading, whole
