"""Random matrices with the row and column norms of a weight, and its leading frames when the norms are equalised."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...network import Side
from ...numerics.spectrum import leading_frames

# Rounds of rescaling, after which the column norms of trained weights are met to 1e-4.
_ROUNDS = 4


@dataclass(frozen=True)
class Profile:
    """What the nulls need of a matrix W of shape [m, n] once the matrix itself is gone.

    Attributes
    ----------
    row_norms : Tensor, shape=[m]
    column_norms : Tensor, shape=[n]
        Euclidean norms, in at least float32.
    equalised_left : Tensor, shape=[m, r]
        Leading left singular vectors of W with every row rescaled to unit norm: what W writes when no
        channel has a larger norm than another.
    equalised_right : Tensor, shape=[n, r]
        Leading right singular vectors of W with every column rescaled to unit norm.
    """

    row_norms: Tensor
    column_norms: Tensor
    equalised_left: Tensor
    equalised_right: Tensor

    def equalised(self, side: Side) -> Tensor:
        """Equalised frame of what the weight reads or writes."""
        return self.equalised_right if side is Side.READ else self.equalised_left


def norm_profile(matrix: Tensor, rank: int) -> Profile:
    """Row and column norms of a matrix, and its leading frames when they are equalised.

    Parameters
    ----------
    matrix : Tensor, shape=[m, n]
        Any floating dtype, on any device. A zero row or column stays zero.
    rank : int
        Singular directions kept: at most the rank of the matrix, which equalising leaves alone; maybe 0.

    Returns
    -------
    profile : Profile

    References
    ----------
    docs/measurements.md, "Nulls that keep outlier channels".
    """
    dtype = torch.promote_types(matrix.dtype, torch.float32)
    row_norms, column_norms = (torch.linalg.vector_norm(matrix, dim=dim, dtype=dtype) for dim in (1, 0))
    if rank == 0:
        left, right = (norms.new_zeros(len(norms), 0) for norms in (row_norms, column_norms))
        return Profile(row_norms, column_norms, equalised_left=left, equalised_right=right)
    equal_rows = matrix / torch.where(row_norms > 0, row_norms, 1.0)[:, None]
    equal_columns = matrix / torch.where(column_norms > 0, column_norms, 1.0)
    right_of_columns, _ = leading_frames(equal_columns, rank)
    _, left_of_rows = leading_frames(equal_rows, rank)
    return Profile(row_norms, column_norms, equalised_left=left_of_rows, equalised_right=right_of_columns)


def norm_matched(row_norms: Tensor, column_norms: Tensor, generator: torch.Generator) -> Tensor:
    r"""Random matrix with these row and column norms and nothing else of the original.

    Parameters
    ----------
    row_norms : Tensor, shape=[m]
    column_norms : Tensor, shape=[n]
        Euclidean norms of the rows and columns of one matrix, so that their squares have equal sums.
    generator : torch.Generator
        On the device of the norms.

    Returns
    -------
    surrogate : Tensor, shape=[m, n]
        float32. The rows have their norms to rounding, the columns to 1e-4 for the weights of SmolLM2 and
        MiniLM; where the norms of a few rows are 30 times those of the rest, to 1e-2.

    Notes
    -----
    A standard normal matrix Z whose columns, then rows, are rescaled to their norms, four times (Sinkhorn).
    The result is :math:`\mathrm{diag}(\sqrt{a})\, Z\, \mathrm{diag}(\sqrt{b})`, and the rounds act on the
    squared scales alone: :math:`b = c^2 / (Z^{\circ 2})^\top a`, :math:`a = r^2 / Z^{\circ 2} b`.

    References
    ----------
    docs/measurements.md, "Nulls that keep outlier channels".

    Examples
    --------
    >>> surrogate = norm_matched(torch.tensor([3.0, 4.0]), torch.tensor([5.0, 0.0]), torch.Generator())
    >>> surrogate.norm(dim=0), surrogate.norm(dim=1)
    (tensor([5.0000, 0.0000]), tensor([3.0000, 4.0000]))
    """
    surrogate = torch.randn(
        len(row_norms), len(column_norms), generator=generator, device=row_norms.device, dtype=torch.float32
    )
    total = torch.linalg.vector_norm(row_norms)
    if total == 0:
        return surrogate.zero_()
    # Relative to the whole, so that squares of small weights do not vanish in float32.
    rows, columns = ((norms / total).square().float() for norms in (row_norms, column_norms))
    squares = surrogate.square()
    row_scales = torch.ones_like(rows)
    for _ in range(_ROUNDS):
        column_scales = _ratio(columns, squares.mT @ row_scales)
        row_scales = _ratio(rows, squares @ column_scales)
    return surrogate.mul_(column_scales.sqrt()).mul_((total.float() * row_scales.sqrt())[:, None])


def _ratio(norms: Tensor, sums: Tensor) -> Tensor:
    """Quotient that is zero where a row or column is."""
    return torch.where(norms > 0, norms / sums, 0.0)
