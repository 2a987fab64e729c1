"""Composition of attention heads: how much of what one head writes another one reads."""

from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

from ...network import Symmetry
from ..observable import Invariance, Null, Observable
from .factors import ProjectionHeads


@dataclass(frozen=True)
class CompositionPair:
    """Two maps that meet in one space, the one writing and the other reading, as factors of their Gram matrices.

    Attributes
    ----------
    writer : Tensor, shape=[..., n, a]
        Y with ``Y Y^T = M M^T`` for what is written, M.
    reader : Tensor, shape=[..., n, b]
        X with ``X X^T = R^T R`` for what reads, R.
    """

    writer: Tensor
    reader: Tensor

    @property
    def dim(self) -> int:
        """Dimension of the common space."""
        return self.writer.shape[-2]


def _composition_score(pair: CompositionPair) -> Tensor:
    passed = torch.linalg.matrix_norm(pair.reader.mT @ pair.writer)
    score: Tensor = passed / (torch.linalg.matrix_norm(pair.reader) * torch.linalg.matrix_norm(pair.writer))
    return score


COMPOSITION_SCORE = Observable(
    title="composition score",
    table="heads",
    column="composition_score",
    pair=CompositionPair,
    measure=_composition_score,
    formula=r"\lVert R\, W_O W_V \rVert_F / (\lVert R \rVert_F \lVert W_O W_V \rVert_F), \quad "
    r"R = W_K^\top W_Q,\; W_Q^\top W_K \text{ or } W_O W_V \text{ of the later head}",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "changes of basis inside either head, the scale of either, and one orthogonal map of the stream; not a "
        "general linear map",
        "composition_score_invariance",
    ),
    null=Null(
        text="independent uniform orientation, exact: the square has mean 1 / n",
        law=lambda pair: (pair.dim**-0.5, None),
        statement="composition_score_null",
        moment="rms",
        has_sd=False,
    ),
    tolerance=1e-5,
    reading="How much of what the earlier head writes passes the later head's reading, each weighed by its singular "
    "values: 1 where the one main direction of both is the same.",
    misuse="It is not the share of a subspace that is read: two heads with one dominant direction each score "
    "high by it alone. The projection kernel is the number without weights.",
)


def composed_factors(near: ProjectionHeads, far: ProjectionHeads) -> Tensor:
    r"""Factors in the stream of what heads do through both of their projections, each of norm 1.

    With :math:`N = F G` the near side (W_Q^T, W_K^T, W_V^T or W_O) and D the far one (W_K, W_Q, W_O^T or W_V,
    each of w rows), the factor is

    .. math:: X = N L / \lVert N L \rVert_F, \qquad L L^\top = \sum_{\text{group}} D D^\top

    so that :math:`X X^\top` is, up to scale, the Gram matrix of the map :math:`N D` in the stream.

    Parameters
    ----------
    near, far : ProjectionHeads
        q and k, k and q, v and o, or o and v of one layer.

    Returns
    -------
    factors : Tensor, shape=[heads of near, n, k]
        NaN for a head whose map is zero.

    Notes
    -----
    With grouped queries a query or output head acts through the one key or value head of its group, and a key or
    value head through all query or output heads of its group at once, their maps stacked. Its squared composition
    score is the mean of theirs, weighed by the squared norms of their maps.

    References
    ----------
    Elhage et al. 2021, A Mathematical Framework for Transformer Circuits; docs/measurements.md, "Heads".
    """
    members = len(far.frames) // len(near.frames)
    if members > 1:
        stacked = far.factors.unflatten(0, (len(near.frames), members)).flatten(1, 2)
        far_side = torch.linalg.qr(stacked, mode="r").R
    else:
        far_side = far.factors.repeat_interleave(len(near.frames) // len(far.frames), dim=0)
    factors = near.frames @ (near.factors @ far_side.mT)
    normalised: Tensor = factors / torch.linalg.matrix_norm(factors)[:, None, None]
    return normalised


def traceless_norms(factors: Tensor) -> Tensor:
    """Frobenius norm of ``X X^T - I / n`` for factors X of norm 1: 0 where all directions of the stream are alike.

    Parameters
    ----------
    factors : Tensor, shape=[heads, n, k]

    Returns
    -------
    norms : Tensor, shape=[heads]
        Dimensionless, in [0, 1).
    """
    gram = factors.mT @ factors
    return (gram.square().sum(dim=(-2, -1)) - 1 / factors.shape[-2]).clamp(min=0).sqrt()


def composition_null(n: int, writers: Tensor, readers: Tensor) -> tuple[float, Tensor]:
    r"""Mean and standard deviation of squared composition scores for unrelated orientations, all pairs.

    .. math::
        \mathrm{E} = \frac1n, \qquad
        \mathrm{Var} = \frac{2\, \lVert A_0 \rVert^2 \lVert B_0 \rVert^2}{(n-1)(n+2)}, \qquad
        A_0 = X X^\top - \frac1n I,\; B_0 = Y Y^\top - \frac1n I

    Parameters
    ----------
    n : int
        Dimension of the stream.
    writers : Tensor, shape=[p]
    readers : Tensor, shape=[q]
        `traceless_norms` of the two kinds of factors.

    Returns
    -------
    mean : float
    standard_deviation : Tensor, shape=[p, q]

    References
    ----------
    docs/measurements.md, "Heads".
    """
    spread = sqrt(2 / ((n - 1) * (n + 2))) if n > 1 else 0.0
    return 1 / n, spread * writers[:, None] * readers
