"""Neighbouring layers by their Gram matrices: no singular vectors, so nothing that a small gap leaves undetermined."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...network import Side, Symmetry
from ...numerics.products import matrix_product
from ...numerics.threads import cached_property
from ..observable import Invariance, Null, Observable
from ..table import measured
from .layer_pair import unless_forced


@dataclass(frozen=True)
class GramPair:
    """Gram matrices A and B of one side of a weight in two layers: a batch of pairs.

    Attributes
    ----------
    earlier, later : Tensor, shape=[..., n, n]
        Symmetric and positive semidefinite, of any scale, see `gram_matrix`.
    """

    earlier: Tensor
    later: Tensor

    @cached_property
    def norms(self) -> tuple[Tensor, Tensor]:
        """Frobenius norms of the two, shape=[...]."""
        return _norm(self.earlier), _norm(self.later)

    @cached_property
    def centred_norms(self) -> tuple[Tensor, Tensor]:
        """Norms without the multiple of the identity, shape=[...]; 0 where only rounding is left."""
        n = self.dim
        noise = 10 * math.sqrt(n) * torch.finfo(self.earlier.dtype).eps
        left, right = (
            torch.where(centred > noise * norm, centred, 0.0)
            for centred, norm in zip(map(_norm, self.centred), self.norms, strict=True)
        )
        return left, right

    @cached_property
    def centred(self) -> tuple[Tensor, Tensor]:
        """The two without their trace, ``A - (tr A / n) I``, shape=[..., n, n]."""
        return _traceless(self.earlier), _traceless(self.later)

    @property
    def dim(self) -> int:
        """Dimension of the common space."""
        return self.earlier.shape[-1]


def _traceless(gram: Tensor) -> Tensor:
    """Subtracted before anything is squared, so that nothing cancels afterwards."""
    centred = gram.clone()
    diagonal = centred.diagonal(dim1=-2, dim2=-1)
    diagonal -= diagonal.mean(dim=-1, keepdim=True)
    return centred


def _norm(matrix: Tensor) -> Tensor:
    """Frobenius norm; the norms of torch add up in sequence and lose up to 1e-4 of it in float32."""
    return matrix.square().sum(dim=(-2, -1)).sqrt()


def _cosine(first: Tensor, second: Tensor, norms: tuple[Tensor, Tensor]) -> Tensor:
    lengths = norms[0] * norms[1]
    return torch.where(lengths > 0, ((first * second).sum(dim=(-2, -1)) / lengths).clamp(-1, 1), torch.nan)


def _raw_null(pair: GramPair) -> tuple[Tensor, Tensor]:
    lengths = pair.norms[0] * pair.norms[1]
    traces = pair.earlier.diagonal(dim1=-2, dim2=-1).sum(-1) * pair.later.diagonal(dim1=-2, dim2=-1).sum(-1)
    varying = pair.centred_norms[0] * pair.centred_norms[1]
    return traces / (pair.dim * lengths), varying / lengths * _centred_spread(pair.dim)


def _centred_null(pair: GramPair) -> tuple[Tensor, Tensor]:
    mean = torch.zeros_like(pair.norms[0])
    return mean, mean + _centred_spread(pair.dim)


def _centred_spread(n: int) -> float:
    return math.sqrt(2 / ((n - 1) * (n + 2))) if n > 1 else 0.0


_ROTATIONS = (
    "the scale of either weight, any rotation of its other side, and one orthogonal map of the space on both; not a "
    "general linear map, not even scalings of single coordinates"
)

GRAM_COSINE = Observable(
    title="cosine of Gram matrices",
    table="continuity",
    column="gram_cosine",
    pair=GramPair,
    measure=lambda pair: _cosine(pair.earlier, pair.later, pair.norms),
    formula=r"\langle A, A' \rangle / (\lVert A \rVert_F \lVert A' \rVert_F)",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(Symmetry.ORTHOGONAL, _ROTATIONS, "gram_observables_invariance"),
    null=Null(
        text="spectra kept, relative orientation uniform, exact: the mean is tr A tr A' / (n |A| |A'|), above 1/2 "
        "where the spectra are flat",
        law=_raw_null,
        statement="gram_cosine_null",
    ),
    tolerance=1e-5,
    reading="Whether two layers weigh the directions of the space alike, all of them at once: no singular vectors, no "
    "choice of rank, nothing that close singular values could leave undetermined.",
    misuse="Do not read it without its null: two unrelated flat spectra are almost parallel. Read the centred cosine "
    "first.",
)
CENTRED_GRAM_COSINE = Observable(
    title="centred cosine of Gram matrices",
    table="continuity",
    column="centred_gram_cosine",
    pair=GramPair,
    measure=lambda pair: _cosine(*pair.centred, pair.centred_norms),
    formula=r"\langle A_0, A'_0 \rangle / (\lVert A_0 \rVert_F \lVert A'_0 \rVert_F), \quad "
    r"A_0 = A - \tfrac{\mathrm{tr} A}{n} I",
    range=(-1.0, 1.0),
    aligned=1.0,
    invariance=Invariance(Symmetry.ORTHOGONAL, _ROTATIONS, "centred_gram_cosine_invariance"),
    null=Null(
        text="relative orientation uniform, exact: mean 0, sd sqrt(2 / ((n - 1)(n + 2))) whatever the spectra",
        law=_centred_null,
        statement="centred_gram_cosine_null",
    ),
    tolerance=1e-5,
    reading="The same without what both have in common by being positive: 0 for unrelated weights, 1 for equal "
    "directions with equal relative strength.",
    misuse="It says nothing about the first direction alone: every direction counts, by its squared singular value. "
    "Outlier channels raise it like any other agreement.",
)


#: What is measured of two Gram matrices.
GRAM_OBSERVABLES: tuple[Observable[GramPair], ...] = (GRAM_COSINE, CENTRED_GRAM_COSINE)


def gram_matrix(matrix: Tensor, side: Side) -> Tensor:
    r"""Gram matrix of one side of a weight, scaled to trace 1.

    .. math:: A = W^\top W / \lVert W \rVert_F^2 \text{ (read)}, \qquad A = W W^\top / \lVert W \rVert_F^2
        \text{ (write)}

    Form it once a weight and compare it with both neighbours by `gram_cosines`. It has as many entries as the
    space has pairs of coordinates: take the sides that lie in a space shared by the layers.

    Parameters
    ----------
    matrix : Tensor, shape=[..., m, n]
        Any floating dtype, on any device.
    side : Side

    Returns
    -------
    gram : Tensor, shape=[..., n, n] or [..., m, m]
        Trace 1, or 0 for a zero weight. In the dtype of `matrix`, in float32 where that has fewer digits.

    Notes
    -----
    The scale, which no cosine sees, keeps the squares of the entries within the range of float32. In
    float32 the cosines of neighbouring weights of SmolLM2 and MiniLM are off by 2e-7 at most.
    Cost: ``2 m n^2`` operations for the read side.
    """
    matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    largest = matrix.abs().amax(dim=(-2, -1), keepdim=True)
    scaled = matrix / torch.where(largest > 0, largest, 1.0)
    gram = matrix_product(scaled.mT, scaled) if side is Side.READ else matrix_product(scaled, scaled.mT)
    return unit_trace(gram)


def unit_trace(gram: Tensor) -> Tensor:
    """A Gram matrix, shape=[..., n, n], scaled to trace 1; 0 stays 0."""
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1)[..., None, None]
    return gram / torch.where(trace > 0, trace, 1.0)


def gram_cosines(earlier: Tensor, later: Tensor) -> dict[str, float]:
    """Raw and centred cosine of the Gram matrices of two layers, with their nulls.

    Parameters
    ----------
    earlier, later : Tensor, shape=[n, n]
        From `gram_matrix`, for one side of a weight in two layers.

    Returns
    -------
    columns : dict of str to float
        Columns of `GRAM_OBSERVABLES`. Dimensionless; NaN where a weight is zero or, for the cosines, where one is a
        multiple of an orthogonal matrix and every direction is alike.

    Raises
    ------
    ValueError
        If the two are not square matrices of one size.

    Examples
    --------
    >>> first, second = torch.diag(torch.tensor([2.0, 1.0, 1.0])), torch.diag(torch.tensor([1.0, 2.0, 1.0]))
    >>> found = gram_cosines(first, second)
    >>> round(found["gram_cosine"], 4), round(found["centred_gram_cosine"], 4)
    (0.8333, -0.5)
    """
    if earlier.shape != later.shape or earlier.ndim != 2 or earlier.shape[0] != earlier.shape[1]:
        raise ValueError(
            "gram_cosines needs two square matrices of one size; "
            f"got shapes {tuple(earlier.shape)} and {tuple(later.shape)}."
        )
    columns = unless_forced(GRAM_OBSERVABLES, measured(GRAM_OBSERVABLES, GramPair(earlier, later)))
    return {name: float(value) for name, value in columns.items()}
