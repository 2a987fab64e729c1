"""What attention heads read from the stream and write into it, kept small once the matrices are gone."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ...network import ROLE_RECORDS, Side, Weight
from ...network.roles import bare, in_tower, tower_of
from ...numerics.spectrum import leading_spectrum


@dataclass(frozen=True)
class ProjectionHeads:
    """The heads of one projection of one layer, each as what it faces in the stream times the rest.

    A query, key or value head W of shape [w, n] reads its row space, an output head of shape [n, w] writes its
    column space; with k = min(n, w), ``frame @ factor`` is W^T and W respectively. Grouped queries need nothing
    further: there are fewer key and value heads, each with a subspace of its own.

    Attributes
    ----------
    layer : int
    role : str
        q, k, v or o.
    frames : Tensor, shape=[heads, n, k]
        Orthonormal columns in order of singular values, and columns of zeros beyond a head's rank.
    factors : Tensor, shape=[heads, k, w]
        Of the dtype and device of the frames. The two tensors, with the fields beside them, are all there is to store.
    stream : str
        Name of the space that the frames lie in.
    has_latent : bool
        Whether all heads read the stream through one latent, and so inside one subspace of it.
    """

    layer: int
    role: str
    frames: Tensor
    factors: Tensor
    stream: str = "stream"
    has_latent: bool = False

    @property
    def projection(self) -> str:
        """Name of the weight that the heads are parts of: ``layers.3.o``."""
        return in_tower(tower_of(self.role), f"layers.{self.layer}.{bare(self.role)}")

    @property
    def side(self) -> Side:
        """Side of the heads that faces the stream."""
        side = ROLE_RECORDS[bare(self.role)].side
        assert side is not None
        return side

    @property
    def weights(self) -> list[str]:
        """Names of the heads as weights: ``layers.3.o.heads.5``."""
        return [f"{self.projection}.heads.{head}" for head in range(len(self.frames))]

    @property
    def names(self) -> list[str]:
        """Names of the subspaces: ``layers.3.o.heads.5.write``."""
        return [f"{weight}.{self.side.value}" for weight in self.weights]

    @property
    def channel_norms(self) -> Tensor:
        """Norm of the projector onto each head's subspace at each coordinate of the stream, shape=[heads, n].

        That of its weights would depend on the basis inside the head.
        """
        norms: Tensor = torch.linalg.vector_norm(self.frames, dim=-1)
        return norms

    @property
    def ranks(self) -> Tensor:
        """Dimensions of the subspaces, shape=[heads]."""
        return self.frames.any(dim=1).sum(dim=1)


def projection_heads(weights: Iterable[Weight], matrices: Mapping[str, Tensor]) -> list[ProjectionHeads]:
    """Reduce attention heads to subspaces of the stream and small factors.

    Parameters
    ----------
    weights : iterable of Weight
        All heads of one or more projections; weights that are no heads are passed over.
    matrices : mapping of str to Tensor, shape=[target.dim, source.dim]
        By name of the weight. Any floating dtype, on any device.

    Returns
    -------
    heads : list of ProjectionHeads
        One for each layer and role, on the device of the matrices, in float64 where they are and float32
        otherwise.

    Notes
    -----
    Decomposed by `leading_spectrum`, in float64. Directions of singular value below ``max(n, w) * eps * s_1``,
    with the eps of the result (7e-5 s_1 at n = 576 in float32), belong to rounding and are left out: a head
    has the rank of its subspace.

    A change of basis inside the head, (W_Q R, W_K R^-T) or (W_V R, R^-1 W_O), leaves the subspaces alone.
    Norm gains are not folded, nor are writes centred: do so before, where it is wanted.

    References
    ----------
    docs/measurements.md, "Heads".
    """
    projections: dict[tuple[int, str], list[Weight]] = {}
    for weight in weights:
        if weight.layer is not None and weight.head is not None:
            projections.setdefault((weight.layer, weight.role), []).append(weight)
    reduced = []
    for (layer, role), heads in projections.items():
        writes = heads[0].record.writes_to_stream
        split = [_split(matrices[weight.name] if writes else matrices[weight.name].mT) for weight in heads]
        frames, factors = (torch.stack(parts) for parts in zip(*split, strict=True))
        assert heads[0].record.side is not None
        stream = heads[0].space(heads[0].record.side).name
        reduced.append(ProjectionHeads(layer, role, frames, factors, stream, heads[0].after is not None))
    return reduced


def _split(facing: Tensor) -> tuple[Tensor, Tensor]:
    """Frame and factor of a matrix whose columns lie in the stream, shape=[n, w]."""
    spectrum = leading_spectrum(facing, min(facing.shape))
    dtype = torch.promote_types(facing.dtype, torch.float32)
    rounding = max(facing.shape) * torch.finfo(dtype).eps * spectrum.values[0]
    frame = spectrum.left * (spectrum.values > rounding)
    factor = frame.mT @ facing.to(frame.dtype)
    return frame.to(dtype), factor.to(dtype)
