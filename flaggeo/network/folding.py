"""What the norms beside a weight do to its matrix."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Gain:
    """The diagonal map of a norm, or of a scale of each channel, from the tensors that store it.

    Attributes
    ----------
    tensor : str
        Name in the checkpoint.
    offset : float
        What the architecture adds to the stored numbers: 1 for Gemma.
    first : int
        Number of the gain of the first coordinate, where the others are read by another weight.
    each : int
        Coordinates in a row that share a gain: those of one channel at all places of a kernel.
    variance : str or None
        Name of the running variances of a batch norm, by whose roots it divides.
    epsilon : float
        Added to these variances.
    """

    tensor: str
    offset: float = 0.0
    first: int = 0
    each: int = 1
    variance: str | None = None
    epsilon: float = 0.0

    def numbers(self, read: Callable[[str], "Tensor"]) -> "Tensor":
        """All of its gains, in float32 or wider."""
        gain = self.offset + _at_least_single(read(self.tensor)).flatten()
        if self.variance is not None:
            gain = gain / (_at_least_single(read(self.variance)) + self.epsilon).sqrt()
        return gain

    def diagonal(self, read: Callable[[str], "Tensor"], start: int, stop: int) -> "Tensor":
        """Gains of the coordinates from start to stop; those of one head serve every head."""
        import torch

        gain = self.numbers(read)
        return gain[(self.first + torch.arange(start, stop, device=gain.device) // self.each) % len(gain)]


@dataclass(frozen=True)
class Folding:
    """The parts of the neighbouring norms that belong to one weight.

    Attributes
    ----------
    read : Gain or None
        Of the norm that the weight reads through: W diag(gain) reads the normalised stream. The network with
        it is the same network, its gain being one then.
    written : Gain or None
        Of the norm that the output passes, after a block (Gemma 2 and 3, OLMo 2) or on queries and keys:
        diag(gain) W writes where the output comes to lie, up to the length that the norm fixes for each token. Or a
        scale of each channel behind a block (DINOv2, ConvNeXt): diag(gain) W is the same network, the scale being one.
    centred : bool
        The target is normalised by a LayerNorm, which does not see the mean of what is written.
    reads_centred : bool
        What it reads is the output of a LayerNorm, which never moves along the reciprocals of its gains: W + r h'
        with h = 1 / gains reads the same up to a bias.
    passed : Gain or None
        Of that LayerNorm, where the stream lies behind it (BERT) and keeps its gain; None where all gains are one.
    before_norm : bool
        The stream passes a norm behind what is written, and what all layers write is added later: an embedding with a
        norm of its own (Bloom, ModernBERT). No weight can take its gain over.
    """

    read: Gain | None = None
    written: Gain | None = None
    centred: bool = False
    reads_centred: bool = False
    passed: Gain | None = None
    before_norm: bool = False

    @property
    def gains(self) -> list[Gain]:
        """Those that there are, on which the folded matrix depends."""
        return [gain for gain in (self.read, self.written, self.passed) if gain is not None]

    @property
    def is_empty(self) -> bool:
        """Whether the folded matrix is the stored one."""
        return self.read is None and self.written is None and not (self.centred or self.reads_centred)

    def __call__(self, matrix: "Tensor", read: "Callable[[str], Tensor]", first_row: int = 0) -> "Tensor":
        """Matrix with the norms folded in.

        Parameters
        ----------
        matrix : Tensor, shape=[target.dim, source.dim]
            As the network has it.
        read : callable
            From the name of a tensor to its numbers.
        first_row : int, optional
            Of the matrix in the whole projection, where it is one head.

        Returns
        -------
        folded : Tensor, shape=[target.dim, source.dim]
            In float32 at least, if there is anything to fold.
        """
        rows, columns = matrix.shape
        if self.read is not None:
            matrix = matrix * self.read.diagonal(read, 0, columns)
        if self.reads_centred:
            matrix = self.without_unseen(matrix, read)
        if self.written is not None:
            gains = self.written.diagonal(read, first_row, first_row + rows)
            matrix = gains[:, None] * matrix
        if self.centred:
            matrix = _at_least_single(matrix)
            matrix = matrix - matrix.mean(dim=0)
        return matrix

    def without_unseen(self, matrix: "Tensor", read: "Callable[[str], Tensor]") -> "Tensor":
        """Matrix restricted to the directions in which the LayerNorm's output moves.

        Those are gains * n for all n of mean zero. Of all matrices that read the same of them it is the smallest, and
        the only one that vanishes on the others.
        """
        matrix = _at_least_single(matrix)
        if self.passed is None:
            return matrix - matrix.mean(dim=1, keepdim=True)
        gains = self.passed.diagonal(read, 0, matrix.shape[1]).to(matrix.dtype)
        if bool((gains == 0).any()):  # the output is constant in these coordinates, and free in the others
            return matrix * (gains != 0)
        normal = gains.abs().min() / gains
        normal = normal / normal.norm()
        moving: Tensor = matrix - (matrix @ normal)[:, None] * normal
        return moving


@dataclass(frozen=True)
class Latent:
    """The first of two factors that make a weight together, with the norm between them.

    Attributes
    ----------
    tensor : str
        Name in the checkpoint of what reads the stream.
    rows : tuple of int or None
        Half-open range of its rows that the second factor reads; the others belong to another weight.
    gain : Gain or None
        Of the norm between. It belongs to the product, folded or not: without it the factors do not compose.
    """

    tensor: str
    rows: tuple[int, int] | None = None
    gain: Gain | None = None

    def __call__(self, second: "Tensor", read: "Callable[[str], Tensor]") -> "Tensor":
        """The product, shape=[target.dim, source.dim], in float32 at least."""
        first = _at_least_single(read(self.tensor))
        if self.rows is not None:
            first = first[self.rows[0] : self.rows[1]]
        if self.gain is not None:
            first = self.gain.diagonal(read, 0, len(first))[:, None] * first
        product: Tensor = _at_least_single(second) @ first
        return product


def _at_least_single(tensor: "Tensor") -> "Tensor":
    import torch

    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
