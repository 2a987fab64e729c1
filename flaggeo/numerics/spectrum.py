"""Leading singular triplets of a weight, with a certificate of their accuracy."""

import math
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from ..network import Side
from .blocks import BLOCK_ENTRIES, NEAR_ENTRIES, Rows, row_blocks, with_more_rows
from .eigensolver import leading_eigenpairs
from .krylov import krylov_eigenpairs
from .products import add_gram, matrix_product, mirrored
from .threads import cached_property, single_threaded_blas

#: Neighbouring singular values closer than this, relative to the larger one, leave their vectors free to
#: rotate into each other under a perturbation of that relative size in the spectral norm. The value is that
#: of TransformerLens' degeneracy blocks.
DEGENERATE_GAP = 1e-2


@dataclass(frozen=True)
class Spectrum:
    """Leading singular values of a matrix W of shape [m, n] and their vectors, or all values where asked for.

    Attributes
    ----------
    known_values : Tensor, shape=[min(m, n)] or [k + 1] or more
        Singular values, descending: all of them, or those kept and at least the next.
    left : Tensor, shape=[m, k]
        Left singular vectors: an orthonormal frame of what W writes. Without columns where they were not asked for, see
        `gram_spectrum`.
    right : Tensor, shape=[n, k]
        Right singular vectors: an orthonormal frame of what W reads, likewise. The sign of each pair is such that
        the largest entry of the right vector is positive.
    gaps : Tensor, shape=[k]
        ``(s_i - s_(i+1)) / s_i``, in [0, 1]: how far each value stands from the next.
    undetermined : Tensor of bool, shape=[k]
        Directions that a gap below `DEGENERATE_GAP` on either side leaves free to rotate into their
        neighbour, and those of a zero singular value. Their span may be meaningful, they are not.
    frobenius_norm : float
        Of W, the root of the sum of all squared entries.
    row_norms : Tensor, shape=[m]
    column_norms : Tensor, shape=[n]
        Euclidean norms of the rows and of the columns of W.
    residual : float
        Largest of ``|W v - s u|`` and ``|W^T u - s v|`` over the triplets, divided by s_1; 0 for W = 0.
    """

    known_values: Tensor
    left: Tensor
    right: Tensor
    gaps: Tensor
    undetermined: Tensor
    row_norms: Tensor
    column_norms: Tensor
    frobenius_norm: float
    residual: float

    @property
    def values(self) -> Tensor:
        """Singular values of the kept triplets, descending, shape=[k]."""
        return self.known_values[..., : self.gaps.shape[-1]]

    @property
    def is_whole(self) -> bool:
        """Whether all singular values are known."""
        return len(self.known_values) == min(len(self.left), len(self.right))

    def frame(self, side: Side) -> Tensor:
        """Frame of what the weight reads or writes, shape=[n or m, r]: the directions of non-zero value."""
        return (self.right if side is Side.READ else self.left)[..., : self._nonzero_count]

    @cached_property
    def _nonzero_count(self) -> int:
        return int((self.values > 0).sum(dim=-1).amax())

    def channel_norms(self, side: Side) -> Tensor:
        """Norm of W at each coordinate of what it reads or writes, shape=[n or m]."""
        return self.column_norms if side is Side.READ else self.row_norms

    def leading(self, rank: int) -> "Spectrum":
        """The same with so many triplets at most; the residual is that of all that were there."""
        kept = {name: getattr(self, name)[..., :rank] for name in ("left", "right", "gaps", "undetermined")}
        return replace(self, **kept)

    @property
    def mean_entry(self) -> float:
        """Root mean square of the entries of W."""
        return self.frobenius_norm / math.sqrt(self.left.shape[0] * self.right.shape[0])

    @property
    def energy(self) -> float:
        """Share of the squared Frobenius norm that the kept triplets carry, in [0, 1]; NaN for W = 0."""
        if self.frobenius_norm == 0:
            return float("nan")
        return float(self.values.square().sum()) / self.frobenius_norm**2

    @property
    def effective_rank(self) -> float:
        r"""Number of directions that the energy is spread over, in [1, min(m, n)].

        NaN for W = 0, and where not all singular values are known.

        :math:`\exp(-\sum_i p_i \log p_i)` with :math:`p_i = \sigma_i^2 / \sum_j \sigma_j^2`. Unchanged by
        orthogonal maps and by scaling; at least the stable rank. arXiv:2605.04971, equation 3.
        """
        if not self.is_whole:
            return float("nan")
        shares = self.known_values.square() / self.known_values.square().sum()
        return float(torch.special.entr(shares).sum().exp())

    @property
    def random_edge(self) -> float:
        r"""Where the singular values of a random matrix of this shape and Frobenius norm end.

        :math:`\lVert W \rVert_F (1 / \sqrt m + 1 / \sqrt n)`, the Marchenko-Pastur edge: for independent entries
        of mean zero and equal variance the largest singular value converges to it (Bai and Yin) as m and n grow in
        proportion, from below on average; at 576 it stays within 1 %. Leading values of W itself raise its norm and
        with it the edge, so `above_random_edge` errs towards too few.
        """
        rows, columns = self.left.shape[0], self.right.shape[0]
        return self.frobenius_norm * (1 / math.sqrt(rows) + 1 / math.sqrt(columns))

    @property
    def above_random_edge(self) -> int | None:
        """Number of singular values above `random_edge`: a choice of rank that no threshold enters.

        None where all that are known are above.
        """
        above = int((self.known_values > self.random_edge).sum())
        return above if self.is_whole or above < len(self.known_values) else None


def leading_spectrum(matrix: Rows, rank: int, *, whole: bool = False, least: float = 0.0) -> Spectrum:
    """Leading singular triplets of a matrix.

    Equal to the first `rank` columns of `torch.linalg.svd` in float64, from a symmetric eigenproblem
    of the smaller side. A matrix stored in fewer bits is taken to float64 block by block.

    Parameters
    ----------
    matrix : Tensor or Rows, shape=[m, n]
        Any floating dtype, on any device.
    rank : int
        Number of triplets, at least 1; capped at min(m, n).
    whole : bool, optional
        Whether to compute all singular values, which takes a time that grows with the cube of the smaller side.
    least : float, optional
        Of smaller singular values no triplets are kept, but for the first one: where these are noise, finding its
        directions would take most of the time. They are still among the known values, where they may be too small.

    Returns
    -------
    spectrum : Spectrum
        In float64 (float32 on a device without it), on the device of `matrix`.

    Raises
    ------
    ValueError
        If `matrix` is not a matrix or `rank` is below 1.

    Notes
    -----
    Up to a few thousand columns the Gram matrix of the smaller side is formed in float64, which keeps the leading
    vectors to about 1e-14 over the relative gap; float32 would lose half of the digits, and randomised methods lose up
    to a fifth of the overlap on trained spectra, whose relative gaps are near 1 %. On a CPU LAPACK's partial solver
    finds the kept vectors alone, on one thread; elsewhere the full one is used. Beyond, `krylov_eigenpairs` needs only
    products with a few vectors. Singular values below ``sqrt(eps * min(m, n)) s_1`` (4e-7 at 576) cannot be told from
    zero this way and are returned as zero.

    Examples
    --------
    >>> spectrum = leading_spectrum(torch.diag(torch.tensor([3.0, 2.0, 1.0])), rank=2)
    >>> spectrum.values
    tensor([3., 2.], dtype=torch.float64)
    >>> spectrum.right.abs()
    tensor([[1., 0.],
            [0., 1.],
            [0., 0.]], dtype=torch.float64)
    """
    if len(matrix.shape) != 2:
        raise ValueError(f"leading_spectrum needs a matrix; got shape {tuple(matrix.shape)}.")
    if rank < 1:
        raise ValueError(f"leading_spectrum needs a rank of at least 1; got {rank}.")
    is_tall, tall = matrix.shape[0] >= matrix.shape[1], with_more_rows(matrix)
    smaller = tall.shape[1]
    kept = min(rank, smaller)
    if isinstance(tall, Tensor):
        # In the working precision once for all, or in the order in which its blocks are read many times.
        tall = next(row_blocks(tall)) if tall.numel() <= BLOCK_ENTRIES else tall.contiguous()
    with single_threaded_blas():
        wanted = min(kept + 1, smaller)
        found = _by_products(tall, wanted, least**2) if not whole and _needs_no_gram(tall) else None
        squares, inner, inner_norms, outer_norms = found or _by_gram_matrix(tall, wanted, least**2, whole=whole)
        known_values = resolved(squares, smaller)
        kept = min(kept, max(1, int((known_values >= least).sum())))
        # LAPACK's partial solver leaves 1e-12 of non-orthogonality; a frame has to be one to working precision.
        values, inner = known_values[:kept], orthonormal_columns(inner[:, :kept])
        # Its columns are orthogonal already; QR normalises them, and completes the frame where W maps to zero.
        images = torch.cat([matrix_product(block, inner) for block in row_blocks(tall)])
        outer = orthonormal_columns(images)
        residual = _residual(tall, images - outer * values, outer, values, inner)

    return spectrum_of_sides(known_values, (inner, outer), (inner_norms, outer_norms), residual, is_tall=is_tall)


def spectrum_of_sides(
    known_values: Tensor,
    frames: tuple[Tensor, Tensor],
    norms: tuple[Tensor, Tensor],
    residual: float,
    *,
    is_tall: bool,
) -> Spectrum:
    """Put together what was found of the smaller side of a matrix and of the larger one.

    Parameters
    ----------
    known_values : Tensor, shape=[k + 1] or more
    frames : tuple of Tensor, shape=[n, k] and [m, k]
        Singular vectors of the smaller side and of the other one; all signs may be wrong together.
    norms : tuple of Tensor, shape=[n] and [m]
        Of the lines of the matrix at the coordinates of either side.
    residual : float
    is_tall : bool
        Whether the smaller side is the one that the matrix reads.

    Returns
    -------
    spectrum : Spectrum
    """
    right, left = frames if is_tall else frames[::-1]
    column_norms, row_norms = norms if is_tall else norms[::-1]
    signs = _signs(right)
    gaps, undetermined = _gaps(known_values, right.shape[1])
    return Spectrum(
        known_values=known_values,
        left=left * signs,
        right=right * signs,
        gaps=gaps,
        undetermined=undetermined,
        row_norms=row_norms,
        column_norms=column_norms,
        frobenius_norm=float(torch.linalg.vector_norm(norms[0])),
        residual=residual,
    )


# Costs in units of what an entry of the Gram matrix costs for each row, float64 on a CPU: LAPACK's reduction for each
# entry and column, all products of `krylov_eigenpairs` with the Gram matrix for each entry of it, and with the matrix
# itself for each of its. On one thread the fastest of the three takes 1.1 s at 5632 x 2048 and .4 s at 2048 x 2048,
# where LAPACK takes 1.4 and .8 s, and 2.2 instead of 8.8 s at 4096 x 4096.
_REDUCTION, _GRAM_PRODUCTS, _PRODUCTS = 3, 4500, 5000


def _needs_no_gram(tall: Rows) -> bool:
    """Whether the leading directions are found faster by products with the matrix than from its Gram matrix."""
    rows, columns = tall.shape
    from_gram = columns**2 * min(_REDUCTION * columns, _GRAM_PRODUCTS)
    return tall.device.type != "mps" and _PRODUCTS * rows * columns < rows * columns**2 + from_gram


def _eigenpairs_of_gram(gram: Tensor, wanted: int, least_square: float = 0.0, *, whole: bool) -> tuple[Tensor, Tensor]:
    """Largest eigenvalues, or all, and their vectors, from the lower triangle; writes over the matrix."""
    if not whole and gram.device.type != "mps" and _REDUCTION * len(gram) > _GRAM_PRODUCTS:
        mirrored(gram)
        found = krylov_eigenpairs(lambda rows: matrix_product(rows, gram), gram, len(gram), wanted, least_square)
        if found is not None:
            return found
    return leading_eigenpairs(gram, wanted, all_values=whole)


def _by_gram_matrix(
    tall: Rows, wanted: int, least_square: float, *, whole: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Squared singular values and right vectors, and the norms of columns and rows."""
    gram, row_norms = _gram(tall)
    column_norms = gram.diagonal().clone().sqrt()  # the solver writes over the matrix
    squares, vectors = _eigenpairs_of_gram(gram, wanted, least_square, whole=whole)
    return squares, vectors, column_norms, row_norms


def _by_products(tall: Rows, wanted: int, least_square: float) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """The same without a Gram matrix; None where that takes too long."""

    def product(vectors: Tensor) -> Tensor:
        parts = (matrix_product(matrix_product(vectors, block.mT), block) for block in row_blocks(tall, NEAR_ENTRIES))
        return reduce(torch.add, parts)

    blocks = [
        (block.square().sum(dim=0), torch.linalg.vector_norm(block, dim=1)) for block in row_blocks(tall, NEAR_ENTRIES)
    ]
    column_squares, row_norms = zip(*blocks, strict=True)
    found = krylov_eigenpairs(product, column_squares[0], tall.shape[1], wanted, least_square)
    return None if found is None else (*found, reduce(torch.add, column_squares).sqrt(), torch.cat(row_norms))


def gram_spectrum(gram: Tensor, side: Side, other_norms: Tensor, rank: int, *, whole: bool = False) -> Spectrum:
    r"""Leading singular vectors on one side of a matrix that is known by its Gram matrix there.

    A stack of many matrices need not exist as a whole: its Gram matrix at the common end is the sum of theirs, see
    `side_gram`.

    Parameters
    ----------
    gram : Tensor, shape=[n, n]
        :math:`W^\top W` where the side is READ, :math:`W W^\top` where it is WRITE; float64 (float32 on a device
        without it).
    side : Side
    other_norms : Tensor, shape=[m]
        Euclidean norms of W at the coordinates of the other side.
    rank : int
        Number of directions, at least 1; capped at min(m, n).
    whole : bool, optional
        Whether to compute all singular values.

    Returns
    -------
    spectrum : Spectrum
        That of `leading_spectrum`, but the frame of the other side has no columns, and the residual is that of the
        Gram matrix, :math:`\lVert A v - \sigma^2 v \rVert / \sigma \sigma_1`, the misfit of :math:`W^\top u` with
        :math:`u = W v / \sigma`.

    Examples
    --------
    >>> rows = torch.tensor([[3.0, 4.0], [4.0, -3.0], [6.0, 8.0]], dtype=torch.float64)
    >>> spectrum = gram_spectrum(rows.mT @ rows, Side.READ, rows.norm(dim=1), rank=1)
    >>> spectrum.frame(Side.READ).mT
    tensor([[0.6000, 0.8000]], dtype=torch.float64)
    >>> spectrum.known_values.square(), spectrum.frame(Side.WRITE).shape
    (tensor([125.0000,  25.0000], dtype=torch.float64), torch.Size([3, 0]))
    """
    smaller = min(len(gram), len(other_norms))
    kept = min(rank, smaller)
    own_norms = gram.diagonal().clone().sqrt()
    with single_threaded_blas():
        squares, frame = _eigenpairs_of_gram(gram.clone(), min(kept + 1, smaller), whole=whole)
        known_values = resolved(squares[:smaller], len(gram))
        frame, values = orthonormal_columns(frame[:, :kept]), known_values[:kept]
        misfits = torch.linalg.vector_norm(matrix_product(gram, frame) - frame * values.square(), dim=0)
    gaps, undetermined = _gaps(known_values, kept)
    frame = frame * _signs(frame)
    absent = frame.new_zeros(len(other_norms), 0)
    reads = side is Side.READ
    return Spectrum(
        known_values=known_values,
        left=absent if reads else frame,
        right=frame if reads else absent,
        gaps=gaps,
        undetermined=undetermined,
        row_norms=other_norms if reads else own_norms,
        column_norms=own_norms if reads else other_norms,
        frobenius_norm=float(torch.linalg.vector_norm(own_norms)),
        residual=float((misfits / values)[values > 0].max() / values[0]) if values[0] > 0 else 0.0,
    )


def side_gram(matrix: Tensor, side: Side) -> tuple[Tensor, Tensor]:
    """Gram matrix of one side in the working precision, and the norms at the other side.

    Parameters
    ----------
    matrix : Tensor, shape=[m, n]
        Any floating dtype, on any device.
    side : Side
        READ takes inner products of the columns, WRITE of the rows.

    Returns
    -------
    gram : Tensor, shape=[n, n] or [m, m]
        In float64 (float32 on a device without it).
    other_norms : Tensor, shape=[m] or [n]
        Of the rows or the columns.
    """
    gram, other_norms = _gram(matrix if side is Side.READ else matrix.mT)
    return mirrored(gram), other_norms


def singular_values(matrix: Rows) -> Tensor:
    """All singular values of a matrix, to the accuracy of `leading_spectrum` and without any vector.

    Parameters
    ----------
    matrix : Tensor or Rows, shape=[m, n]
        Any floating dtype, on any device.

    Returns
    -------
    values : Tensor, shape=[min(m, n)]
        Descending, in float64 (float32 on a device without it); those below ``sqrt(eps * min(m, n)) s_1``
        are zero.

    Examples
    --------
    >>> singular_values(torch.tensor([[3.0, 0.0], [4.0, 0.0]]))
    tensor([5., 0.], dtype=torch.float64)
    """
    gram, _ = _gram(with_more_rows(matrix))
    return resolved(torch.linalg.eigvalsh(gram, UPLO="L").flip(0), len(gram))


def resolved(squares: Tensor, size: int) -> Tensor:
    """Singular values from the leading eigenvalues of a Gram matrix; those that cannot be told from zero are."""
    values = squares.clamp(min=0).sqrt()
    return torch.where(values > _noise(values[0], size), values, 0.0)


def _gaps(known_values: Tensor, kept: int) -> tuple[Tensor, Tensor]:
    """Relative gap behind each kept value, and which directions it leaves undetermined."""
    values = known_values[:kept]
    following = torch.cat([known_values, known_values.new_zeros(1)])[1 : kept + 1]
    gaps = torch.where(values > 0, (values - following) / values, 0.0)
    close = gaps < DEGENERATE_GAP
    return gaps, close | torch.cat([close.new_zeros(1), close[:-1]])


def _signs(frame: Tensor) -> Tensor:
    """Those that make the largest entry of each vector positive."""
    return frame.gather(0, frame.abs().argmax(dim=0, keepdim=True)).sign()


def _noise(largest: Tensor, smaller: int) -> Tensor:
    """Below this a singular value that came from a Gram matrix of this size cannot be told from zero."""
    return largest * math.sqrt(smaller * torch.finfo(largest.dtype).eps)


def leading_frames(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Leading right and left singular vectors in single precision, without a certificate.

    For nulls, of which many are needed and none is looked at alone; for a weight use `leading_spectrum`. Call it
    from `workers`: there the result does not depend on the number of cores.

    Parameters
    ----------
    matrix : Tensor, shape=[m, n]
        On any device.
    rank : int
        From 1 to min(m, n).

    Returns
    -------
    right : Tensor, shape=[n, rank]
    left : Tensor, shape=[m, rank]
        Orthonormal, float32. Signs are arbitrary.

    Notes
    -----
    The Gram matrix of the smaller side is formed in float32. For random matrices with the row and column
    norms of SmolLM2's weights, and for those weights with equalised norms, that moves |cos| and overlap by
    less than 1e-6, in less than half of the time. LAPACK's partial eigensolver is faster here than Lanczos,
    since random spectra have no gaps (10 against 15 ms at 576). Directions whose singular value is below
    ``sqrt(eps * min(m, n)) s_1`` (0.8 % of s_1 at 576) are not resolved.
    """
    tall = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.mT
    gram, _ = _gram(tall, torch.float32)
    _, inner = leading_eigenpairs(gram, rank)
    inner = orthonormal_columns(inner)
    outer = orthonormal_columns(matrix_product(tall.float(), inner))
    return (inner, outer) if tall is matrix else (outer, inner)


def orthonormal_columns(vectors: Tensor) -> Tensor:
    """Orthonormal frame of nearly orthogonal columns, each close to a positive multiple of its own."""
    frame, triangle = torch.linalg.qr(vectors)
    signed: Tensor = frame * torch.where(triangle.diagonal() < 0, -1.0, 1.0)
    return signed


def _gram(tall: Rows, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Lower triangle of ``tall.mT @ tall``, shape=[n, n], and the norms of the rows, shape=[m]."""
    size = tall.shape[1]
    gram, norms = None, []
    for block in row_blocks(tall, dtype=dtype):
        gram = block.new_zeros(size, size) if gram is None else gram
        add_gram(gram, block)
        norms.append(torch.linalg.vector_norm(block, dim=1))
    assert gram is not None  # a matrix has at least one row
    return gram, torch.cat(norms)


def _residual(tall: Rows, misfits: Tensor, outer: Tensor, values: Tensor, inner: Tensor) -> float:
    """Largest misfit of the triplets, relative to s_1: of ``W v`` with ``s u``, which is given, and of ``W^T u``."""
    if float(values[0]) == 0:
        return 0.0
    images = torch.zeros_like(inner)
    start = 0
    for block in row_blocks(tall):
        images += matrix_product(block.mT, outer[start : start + len(block)])
        start += len(block)
    norms = (torch.linalg.vector_norm(one, dim=0) for one in (misfits, images - inner * values))
    return float(torch.maximum(*norms).max() / values[0])
