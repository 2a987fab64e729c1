"""Two weights of which the second reads what the first writes, as a pair that numbers can be made of."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ...numerics.eigensolver import leading_eigenpairs
from ...numerics.products import matrix_product
from ...numerics.threads import cached_property
from .leading_directions import LeadingDirections, leading_directions

# Rounding errors of a product or a decomposition, in units of eps times the larger side and the norms.
_ROUNDING_UNITS = 50


@dataclass(frozen=True)
class Factor:
    """One weight as a hidden space of dimension d sees it: columns X, whose Gram matrix :math:`X X^T` acts there.

    Attributes
    ----------
    columns : Tensor, shape=[..., d, m]
        With m at most d.
    gram : Tensor, shape=[..., m, m]
        :math:`X^T X`, the smaller of the two Gram matrices, with the same non-zero eigenvalues.
    singular_values : Tensor, shape=[..., m]
        Of X, descending; those that cannot be told from rounding are 0.
    frame : Tensor, shape=[..., d, k]
        Orthonormal: the leading left singular vectors of X.
    """

    columns: Tensor
    gram: Tensor
    singular_values: Tensor
    frame: Tensor

    @property
    def dim(self) -> int:
        """Dimension d of the hidden space."""
        return self.columns.shape[-2]

    @property
    def rank(self) -> Tensor:
        """Number of non-zero singular values, shape=[...]."""
        return (self.singular_values > 0).sum(dim=-1)

    @cached_property
    def square_norm(self) -> Tensor:
        """Squared Frobenius norm of X, the trace of its Gram matrix, shape=[...]."""
        return self.singular_values.square().sum(dim=-1)

    @cached_property
    def gram_norm(self) -> Tensor:
        """Frobenius norm of the Gram matrix, shape=[...]."""
        norm: Tensor = torch.linalg.vector_norm(self.singular_values.square(), dim=-1)
        return norm

    @cached_property
    def traceless_norm(self) -> Tensor:
        """Frobenius norm of the Gram matrix minus its mean eigenvalue times the identity, shape=[...].

        From the eigenvalues, so that nothing cancels; 0 where the Gram matrix is the identity to rounding.
        """
        mean = self.square_norm[..., None] / self.dim
        spread = torch.linalg.vector_norm(self.singular_values.square() - mean, dim=-1)
        norm = torch.hypot(spread, mean[..., 0] * (self.dim - self.singular_values.shape[-1]) ** 0.5)
        return torch.where(norm > rounding(self.columns) * self.gram_norm, norm, 0)

    @cached_property
    def diagonal(self) -> Tensor:
        """Squared norms of the rows of X, one for each hidden unit, shape=[..., d]."""
        return self.columns.square().sum(dim=-1)

    def compressed(self, *frames: Tensor) -> Tensor:
        """Gram matrix between the columns of all these frames, shape=[..., k, k] with k of all together."""
        small = torch.broadcast_tensors(*(matrix_product(self.columns.mT, frame) for frame in frames))
        both = torch.cat(small, dim=-1)
        return both.mT @ both

    def to(self, dtype: torch.dtype) -> "Factor":
        """The same in another precision."""
        return Factor(*(part.to(dtype) for part in (self.columns, self.gram, self.singular_values, self.frame)))


@dataclass(frozen=True)
class Interface:
    """Weights W_1, shape=[..., d, n], and W_2, shape=[..., p, d], that compose at a hidden space of dimension d.

    Built by `interface_pair`. Every number made of it is unchanged when orthogonal maps act on the input and on the
    output, so each weight is kept as a `Factor` with at most d columns; no d x d matrix is formed where d is
    larger than n and p. Leading axes broadcast: one second weight may meet a batch of first ones.

    Attributes
    ----------
    first : Factor
        Of W_1: its Gram matrix is :math:`A = W_1 W_1^T`.
    second : Factor
        Of the transpose of W_2: its Gram matrix is :math:`B = W_2^T W_2`.
    rank : int
        Leading directions of each that the subspace and window numbers compare.
    inputs, outputs : int
        n and p.
    """

    first: Factor
    second: Factor
    rank: int
    inputs: int
    outputs: int

    @property
    def dim(self) -> int:
        """Dimension d of the hidden space."""
        return self.first.dim

    @property
    def batch(self) -> torch.Size:
        """Shape of whatever is measured of the pair."""
        return self.leading.kept.shape

    @cached_property
    def product(self) -> Tensor:
        """:math:`W_2 W_1` up to orthogonal maps of input and output, shape=[..., min(p, d), min(n, d)]."""
        return self.second.columns.mT @ self.first.columns

    @cached_property
    def product_values(self) -> Tensor:
        """Singular values of the product, descending, shape=[..., min(n, d, p)]; rounding is 0.

        What counts as rounding is measured by the two weights, never by the product itself.
        """
        values = _singular_values(self.product)
        largest = self.first.singular_values[..., :1] * self.second.singular_values[..., :1]
        size = max(self.dim, self.inputs, self.outputs)
        return torch.where(values > _ROUNDING_UNITS * size * torch.finfo(values.dtype).eps * largest, values, 0)

    @cached_property
    def commutator_norm(self) -> Tensor:
        r"""Frobenius norm of :math:`[A, B]`, without forming either matrix, shape=[...].

        .. math::
            \lVert [A, B] \rVert^2 = 2\, \mathrm{tr}\bigl((W_1^\top W_1)\, N^\top (W_2 W_2^\top)\, N\bigr)
            - 2\, \mathrm{tr}\bigl((N^\top N)^2\bigr), \qquad N = W_2 W_1

        The two traces cancel where the matrices commute, so it is known to ``sqrt(eps) |A| |B|`` only, 1e-8 in
        float64.
        """
        mixed = ((self.product @ self.first.gram) * (self.second.gram @ self.product)).sum(dim=(-2, -1))
        return (2 * (mixed - self.product_values.pow(4).sum(dim=-1))).clamp(min=0).sqrt()

    @cached_property
    def leading(self) -> LeadingDirections:
        """The `rank` leading directions of the two weights, or as many as both have, beside each other."""
        first, second = self.first.frame, self.second.frame
        kept = torch.minimum(self.first.rank, self.second.rank).clamp(max=self.rank)
        grams = self.first.compressed(first, second), self.second.compressed(first, second)
        norms = self.first.diagonal.sqrt(), self.second.diagonal.sqrt()
        return leading_directions(first, second, norms, kept, grams, right_angle=rounding(first.mT @ second))

    def reordered(self, order: Tensor, signs: Tensor) -> LeadingDirections:
        """The leading directions in other relative orientations of the two weights.

        Parameters
        ----------
        order, signs : Tensor, shape=[draws, d]
            Signed permutations of the hidden units of W_2. They move the leading directions, so that no matrix has to
            be decomposed again.

        Returns
        -------
        leading : LeadingDirections
            In float32, with the draws as a first axis.
        """
        first, second = (factor.to(torch.float32) for factor in (self.first, self.second))
        signs, inverse, kept = signs.to(torch.float32), order.argsort(dim=-1), self.leading.kept
        moved = _moved(second.frame, kept.shape, order, signs)
        moved_back = _moved(first.frame, kept.shape, inverse, signs.gather(-1, inverse))
        grams = first.compressed(first.frame, moved), second.compressed(moved_back, second.frame)
        # Of many draws some come close to a right angle. Their window has fewer digits, and a mean needs no more.
        eps = torch.finfo(torch.float32).eps
        norms = first.diagonal.sqrt(), _moved(second.diagonal.sqrt()[..., None], kept.shape, order, signs)[..., 0].abs()
        return leading_directions(first.frame, moved, norms, kept, grams, right_angle=eps)


def _moved(frame: Tensor, batch: torch.Size, order: Tensor, signs: Tensor) -> Tensor:
    """A frame of shape [..., d, k] after signed permutations of its coordinates, shape=[draws, *batch, d, k]."""
    each = frame.expand(*batch, *frame.shape[-2:])[..., order, :]
    return (signs[..., None] * each).movedim(-3, 0)


def interface_pair(first: Tensor, second: Tensor, rank: int) -> Interface:
    """Two composable weights as a pair to measure.

    Parameters
    ----------
    first : Tensor, shape=[..., d, n]
        W_1, which writes to the hidden space. float64 where residuals matter: half of the digits of commutators
        and imbalances cancel.
    second : Tensor, shape=[..., p, d]
        W_2, which reads from it, with the dtype and device of `first`. Leading axes broadcast.
    rank : int
        Leading directions to compare, at least 1; capped at min(n, d, p).

    Returns
    -------
    pair : Interface

    Raises
    ------
    ValueError
        If the hidden dimensions differ or the rank is below 1.

    References
    ----------
    docs/measurements.md, "Interfaces".

    Examples
    --------
    >>> pair = interface_pair(torch.tensor([[2.0], [0.0]]), torch.tensor([[1.0, 0.0]]), rank=1)
    >>> pair.product_values, pair.leading.kept
    (tensor([2.]), tensor(1))
    """
    if first.ndim < 2 or second.ndim < 2 or first.shape[-2] != second.shape[-1]:
        raise ValueError(
            "interface_pair expected weights of shapes [..., d, n] and [..., p, d] with one hidden dimension d; got "
            f"{tuple(first.shape)} and {tuple(second.shape)}."
        )
    if rank < 1:
        raise ValueError(f"interface_pair needs a rank of at least 1; got {rank}.")
    inputs, outputs, dim = first.shape[-1], second.shape[-2], first.shape[-2]
    rank = min(rank, inputs, outputs, dim)
    return Interface(_factor(first, rank), _factor(second.mT, rank), rank, inputs, outputs)


def rounding(matrix: Tensor) -> float:
    """Largest singular value, relative to the first, that counts as zero in a decomposition of this matrix."""
    return _ROUNDING_UNITS * max(matrix.shape[-2:]) * torch.finfo(matrix.dtype).eps


def _factor(columns: Tensor, rank: int) -> Factor:
    tolerance = rounding(columns)
    if columns.shape[-1] > columns.shape[-2]:  # only what an orthogonal map of the outer space leaves
        columns = torch.linalg.qr(columns.mT, mode="r").R.mT
    gram = matrix_product(columns.mT, columns)
    squares, vectors = leading_eigenpairs(gram.clone(), rank, all_values=True)
    values = squares.clamp(min=0).sqrt()
    if _resolved(values):
        frame = torch.linalg.qr(matrix_product(columns, vectors)).Q
    else:
        left, values, _ = torch.linalg.svd(columns, full_matrices=False)
        frame = left[..., :rank]
    values = torch.where(values > tolerance * values[..., :1], values, 0)
    return Factor(columns, gram, values, frame)


def _singular_values(matrix: Tensor) -> Tensor:
    """All of them, descending; by the Gram matrix, in half of the time, where that resolves them."""
    tall = matrix if matrix.shape[-2] >= matrix.shape[-1] else matrix.mT
    squares, _ = leading_eigenpairs(matrix_product(tall.mT, tall), 1, all_values=True)
    values = squares.clamp(min=0).sqrt()
    return values if _resolved(values) else torch.linalg.svdvals(matrix)


def _resolved(values: Tensor) -> bool:
    """Whether singular values that come from Gram matrices are all the matrices' own.

    A Gram matrix squares the condition number; what lies below the root of its rounding is lost.
    """
    unresolved = (values.shape[-1] * torch.finfo(values.dtype).eps) ** 0.5
    return bool((values[..., -1] > unresolved * values[..., 0]).all())
