"""How a weight's matrix is cut out of the tensor that stores it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .spaces import Side

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """The cut from a stored tensor to a matrix of shape (target.dim, source.dim), step by step.

    Attributes
    ----------
    expert : int or None
        Position on the first axis of a tensor that stores the matrices of all experts.
    positions : int
        Where not 1: each channel has so many columns, one for each position of an image that was flattened, and the
        tensor is taken for the kernel of a convolution.
    positions_first : bool
        The columns of one position stand together, rather than those of one channel.
    unfolded : Side or None
        Of a convolution's kernel, shape (out, in, ...), the end that keeps an axis of its own: WRITE gives a matrix of
        shape (out, in * ...), READ one of shape (out * ..., in).
    transposed : bool
        The file stores (source, target), as embedding tables do.
    rotary_heads : int
        Where not 0: the rows of each of so many heads stand as GGUF's rotary kernels want them, the two
        halves interleaved, and are put back to the order of the trained model.
    groups : int
        The rows are those of so many blocks of equal size one after the other.
    rows, columns : tuple of int or None
        Half-open range of the rows of each block, and of the source's coordinates, after the steps above.
    """

    expert: int | None = None
    positions: int = 1
    positions_first: bool = False
    unfolded: Side | None = None
    transposed: bool = False
    rotary_heads: int = 0
    groups: int = 1
    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None

    def __call__(self, stored: "Tensor") -> "Tensor":
        """Matrix, shape=[target.dim, source.dim], as a view of the stored tensor where possible.

        Of a tensor that stores all experts, the block of this one alone serves as well.
        """
        matrix = stored if self.expert is None else stored[self.expert if len(stored) > 1 else 0]
        if self.positions > 1:
            matrix = (
                matrix.unflatten(1, (self.positions, -1)).transpose(1, 2)
                if self.positions_first
                else matrix.unflatten(1, (-1, self.positions))
            )
        if self.unfolded is Side.WRITE:
            matrix = matrix.flatten(1)
        elif self.unfolded is Side.READ:
            matrix = matrix.movedim(1, -1).flatten(0, -2)
        if self.transposed:
            matrix = matrix.mT
        if self.rotary_heads:
            height, width = matrix.shape
            by_pair = matrix.reshape(self.rotary_heads, height // self.rotary_heads // 2, 2, width)
            matrix = by_pair.transpose(1, 2).reshape(height, width)
        if self.rows is not None:
            first, last = self.rows
            if self.groups == 1:
                matrix = matrix[first:last]
            else:
                matrix = matrix.unflatten(0, (self.groups, -1))[:, first:last].flatten(0, 1)
        if self.columns is not None:
            matrix = matrix[:, self.columns[0] : self.columns[1]]
        return matrix
