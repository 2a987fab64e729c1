"""How a weight's matrix is cut out of the tensor that stores it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Split:
    """The cut from a stored tensor to a matrix of shape (target.dim, source.dim).

    Attributes
    ----------
    transposed : bool
        The file stores (source, target), as embedding tables do.
    rotary_heads : int
        Where not 0: the rows of each of so many heads stand as GGUF's rotary kernels want them, the two
        halves interleaved, and are put back to the order of the trained model.
    rows, columns : tuple of int or None
        Half-open range of the target's and of the source's coordinates, after the steps above.
    """

    transposed: bool = False
    rotary_heads: int = 0
    rows: tuple[int, int] | None = None
    columns: tuple[int, int] | None = None

    def __call__(self, stored: "Tensor") -> "Tensor":
        """Matrix, shape=[target.dim, source.dim], as a view of the stored tensor where possible."""
        matrix = stored.mT if self.transposed else stored
        if self.rotary_heads:
            height, width = matrix.shape
            by_pair = matrix.reshape(self.rotary_heads, height // self.rotary_heads // 2, 2, width)
            matrix = by_pair.transpose(1, 2).reshape(height, width)
        if self.rows is not None:
            matrix = matrix[self.rows[0] : self.rows[1]]
        if self.columns is not None:
            matrix = matrix[:, self.columns[0] : self.columns[1]]
        return matrix
