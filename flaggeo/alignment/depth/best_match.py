"""Where the first direction of a layer has gone in the next one: its best match, and its share in all of them."""

import math
from functools import cache

import numpy as np
from scipy import special
from torch import Tensor

from ...network import Symmetry
from ..chance.haar import Dimensions, haar_overlap
from ..observable import Invariance, Null, Observable
from ..schema import Column
from .layer_pair import LayerPair, of_directions

#: Directions of the later weight among which the first one of the earlier is looked for.
MATCHES = 8


def matched_cosines(pair: LayerPair) -> Tensor:
    """Absolute cosines of the first direction with the leading ones of the later weight, shape=[..., MATCHES or l]."""
    return pair.products[..., 0, :MATCHES].abs()


def best_match_moments(n: int, k: int) -> tuple[float, float]:
    r"""Mean and standard deviation of the largest of k coordinates of a uniform unit vector, in absolute value.

    .. math::
        \mathrm{E} = \frac{\Gamma(n/2)}{\sqrt{2}\,\Gamma((n+1)/2)} \int_0^\infty 1 - F(t)^k \, dt, \qquad
        \mathrm{E}\max{}^2 = \frac{1}{n} \int_0^\infty 2t \, (1 - F(t)^k) \, dt, \qquad
        F(t) = \mathrm{erf}(t / \sqrt 2)

    Parameters
    ----------
    n : int
        Dimension of the space.
    k : int
        Number of orthogonal directions that compete, 1 <= k <= n.

    Returns
    -------
    mean, standard_deviation : float
        Dimensionless, to 1e-14.

    Raises
    ------
    ValueError
        If k is not between 1 and n.

    Notes
    -----
    A standard normal vector is its length times an independent uniform unit vector, so the moments of the
    largest of k independent normals are those wanted times those of the length. For k = 1 the law is that of
    `manifolds.abs_cosine_moments`.

    References
    ----------
    The statement ``best_match_null`` of `proofs`.

    Examples
    --------
    >>> tuple(round(value, 4) for value in best_match_moments(576, 8))
    (0.0743, 0.0218)
    """
    if not 1 <= k <= n:
        raise ValueError(f"best_match_moments needs 1 <= k <= n; got k = {k} in dimension n = {n}.")
    first, second = _largest_normal(k)
    mean = first * math.exp(math.lgamma(n / 2) - math.lgamma((n + 1) / 2)) / math.sqrt(2)
    return mean, math.sqrt(max(second / n - mean**2, 0.0))


@cache
def _largest_normal(k: int) -> tuple[float, float]:
    """First two moments of the largest absolute value of k independent standard normals."""
    nodes, weights = np.polynomial.legendre.leggauss(64)
    # Beyond 14 the tail is below 1e-43, for any k that fits into a memory.
    values, weights = 7 * (nodes + 1), 7 * weights
    tail = -np.expm1(k * np.log1p(-special.erfc(values / math.sqrt(2))))
    return float(weights @ tail), float(weights @ (2 * values * tail))


def _best_match_null(pair: LayerPair) -> tuple[Tensor, Tensor]:
    mean, spread = math.nan, math.nan
    if pair.products.numel():
        mean, spread = best_match_moments(pair.dim, matched_cosines(pair).shape[-1])
    return pair.products.new_tensor(mean), pair.products.new_tensor(spread)


BEST_MATCH = Observable(
    title="best match of the first direction",
    table="continuity",
    column="best_match",
    pair=LayerPair,
    measure=of_directions(lambda pair: matched_cosines(pair).amax(dim=-1)),
    formula=r"\max_{j \le 8} |\langle v_1, v'_j \rangle|",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "signs of the vectors, and one orthogonal map of the space on both weights; not a general linear map",
        "singular_vector_cosine_invariance",
    ),
    null=Null(
        text="the largest of as many coordinates of a uniform unit vector, exact",
        law=_best_match_null,
        statement="best_match_null",
    ),
    tolerance=1e-5,
    reading="Far above |cos| of the first vectors, the direction persists, no longer as the top one: best_match_index "
    "says which it is now, 1 where the order is the same.",
    misuse="Do not compare it with the null of a single cosine: the largest of 8 is about twice as large for unrelated "
    "weights. It is not symmetric: it looks for the earlier direction in the later weight only.",
    companions=(
        (
            Column("best_match_index", "Int64", "number of the matching direction, counted from 1"),
            of_directions(lambda pair: matched_cosines(pair).argmax(dim=-1) + 1),
        ),
    ),
)
PROJECTION = Observable(
    title="share of the first direction in the next leading subspace",
    table="continuity",
    column="projection",
    pair=LayerPair,
    measure=of_directions(lambda pair: matched_cosines(pair).square().sum(dim=-1).clamp(max=1)),
    formula=r"\lVert V_8'^\top v_1 \rVert^2",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "the choice of frame of the subspace, and one orthogonal map of the space on both weights; "
        "not a general linear map",
        "projection_overlap_invariance",
    ),
    null=Null(
        text="the law Beta(k/2, (n - k)/2) for k = 8 kept directions or fewer, exact",
        law=lambda pair: haar_overlap(Dimensions(pair.dim, (min(1, pair.ranks[0]), min(MATCHES, pair.ranks[1])))),
        statement="haar_overlap_moments",
    ),
    tolerance=1e-5,
    reading="How much of the main direction of one layer the leading directions of the next one hold together: "
    "high where the best match is low, it has been spread over several.",
    misuse="Do not compare it across spaces of different dimension without its null, nor use it where the "
    "eighth gap is so small that the subspace itself is undetermined.",
)
