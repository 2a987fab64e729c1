"""Balance at an interface: how far the two Gram matrices are from equal, and the pairs for which they are."""

from math import nan

import torch
from torch import Tensor

from manifolds import polar_factor

from ...network import Symmetry
from ..chance.free_product import nuclear_norm_moments
from ..observable import Invariance, Null, Observable
from .commutator import haar_gram_product
from .interface import Interface, interface_pair


def balanced_representative(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    r"""The balanced pair with the same product that lies nearest to two weights.

    A change of basis of the hidden space leads there. Of all pairs with this product it has the least square norm,
    twice the nuclear norm of the product, and the two Gram matrices are equal: subspaces, directions and singular
    values all agree.

    .. math::
        W_2 W_1 = U S V^\top: \qquad W_1' = E S^{1/2} V^\top, \quad W_2' = U S^{1/2} E^\top

    Parameters
    ----------
    first : Tensor, shape=[d, n]
    second : Tensor, shape=[p, d]
        float32 or float64.

    Returns
    -------
    first, second : Tensor, shape=[d, n] and [p, d]
        Unique up to an orthogonal map E of the hidden space; this one moves the two weights least.

    Raises
    ------
    ValueError
        If the pair is not polystable, that is if the ranks of the weights and of the product differ: the infimum
        of the square norm is then approached and never attained. Also for batches.

    References
    ----------
    docs/measurements.md, "Interfaces"; arXiv:2511.01137.

    Examples
    --------
    >>> first, second = balanced_representative(torch.tensor([[4.0], [0.0]]), torch.tensor([[1.0, 3.0]]))
    >>> bool(torch.allclose(second, first.mT)), bool(torch.allclose(second @ first, torch.tensor([[4.0]])))
    (True, True)
    """
    if first.ndim != 2 or second.ndim != 2:
        raise ValueError(
            f"balanced_representative expected two matrices; got shapes {tuple(first.shape)}, {tuple(second.shape)}."
        )
    pair = interface_pair(first, second, rank=1)
    ranks = [int(pair.first.rank), int(pair.second.rank), int((pair.product_values > 0).sum())]
    if len(set(ranks)) > 1:
        raise ValueError(
            "balanced_representative needs a polystable pair, with equal ranks of both weights and of their product; "
            f"found {ranks[0]}, {ranks[1]} and {ranks[2]}. No change of basis balances this one."
        )
    if ranks[0] == 0:
        return torch.zeros_like(first), torch.zeros_like(second)
    left, values, right = torch.linalg.svd(second @ first, full_matrices=False)
    root = values[: ranks[0]].sqrt()
    reading, writing = root[:, None] * right[: ranks[0]], left[:, : ranks[0]] * root
    hidden = polar_factor(first @ reading.mT + second.mT @ writing)
    return hidden @ reading, writing @ hidden.mT


def neuron_balanced(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    r"""Rescale each hidden unit so that its incoming and outgoing weights have equal norm.

    .. math:: w_i \to s_i w_i, \quad v_i \to v_i / s_i, \quad s_i = \sqrt{\lVert v_i \rVert / \lVert w_i \rVert}

    Where the network allows such scalings (ReLU, or the up and down weights of a gated layer), the raw Gram
    matrices depend on them, and these do not.

    Parameters
    ----------
    first : Tensor, shape=[..., d, n]
        With rows w_i.
    second : Tensor, shape=[..., p, d]
        With columns v_i.

    Returns
    -------
    first, second : Tensor
        With the same product. A unit without incoming or without outgoing weights is left as it is.

    References
    ----------
    docs/measurements.md, "Interfaces".

    Examples
    --------
    >>> neuron_balanced(torch.tensor([[8.0]]), torch.tensor([[2.0]]))
    (tensor([[4.]]), tensor([[4.]]))
    """
    incoming = torch.linalg.vector_norm(first, dim=-1)
    outgoing = torch.linalg.vector_norm(second, dim=-2)
    alive = (incoming > 0) & (outgoing > 0)
    scale = torch.where(alive, outgoing / torch.where(alive, incoming, 1), 1).sqrt()
    return scale[..., :, None] * first, second / scale[..., None, :]


def _gap(pair: Interface) -> Tensor:
    return (pair.first.square_norm + pair.second.square_norm) / (2 * pair.product_values.sum(dim=-1))


def _haar_gap(pair: Interface) -> tuple[Tensor, Tensor]:
    mean, spread = nuclear_norm_moments(pair.first.singular_values, pair.second.singular_values, pair.dim)
    variation = spread / mean
    gap = (pair.first.square_norm + pair.second.square_norm) / (2 * mean)
    return gap * (1 + variation.square()), gap * variation


def _imbalance(pair: Interface) -> Tensor:
    product = pair.product_values.square().sum(dim=-1)
    square = (pair.first.gram_norm.square() + pair.second.gram_norm.square() - 2 * product).clamp(min=0)
    return _share(pair, square.sqrt())


def _share(pair: Interface, size: Tensor) -> Tensor:
    whole = pair.first.gram_norm + pair.second.gram_norm
    return torch.where(whole > 0, size / whole, nan)


def _from_square(pair: Interface, mean: Tensor, spread: Tensor) -> tuple[Tensor, Tensor]:
    """Root mean square, and the spread to first order, of the share whose square has these moments."""
    root = mean.clamp(min=0).sqrt()
    return _share(pair, root), _share(pair, torch.where(spread > 0, spread / (2 * root), 0))


def _haar_imbalance(pair: Interface) -> tuple[Tensor, Tensor]:
    product, spread = haar_gram_product(pair)
    mean = pair.first.gram_norm.square() + pair.second.gram_norm.square() - 2 * product
    return _from_square(pair, mean, 2 * spread)


def _diagonal_imbalance(pair: Interface) -> Tensor:
    return _share(pair, torch.linalg.vector_norm(pair.first.diagonal - pair.second.diagonal, dim=-1))


def _permuted_imbalance(pair: Interface) -> tuple[Tensor, Tensor]:
    first, second = pair.first.diagonal, pair.second.diagonal
    square = first.square().sum(dim=-1) + second.square().sum(dim=-1)
    mean = square - 2 * first.sum(dim=-1) * second.sum(dim=-1) / pair.dim
    spreads = [torch.linalg.vector_norm(norms - norms.mean(dim=-1, keepdim=True), dim=-1) for norms in (first, second)]
    return _from_square(pair, mean, 2 * spreads[0] * spreads[1] / max(pair.dim - 1, 1) ** 0.5)


KEMPF_NESS_GAP = Observable(
    title="Kempf-Ness gap (κ)",
    table="interfaces",
    column="kempf_ness_gap",
    pair=Interface,
    measure=_gap,
    formula=r"\kappa = (\lVert W_1 \rVert^2 + \lVert W_2 \rVert^2) / (2 \lVert W_2 W_1 \rVert_*)",
    range=(1.0, float("inf")),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "one orthogonal map of the hidden space, a common scale of both weights, and orthogonal maps of input "
        "and output; not separate scales, nor a general linear map, along which it measures the way to balance",
        "balance_invariance",
    ),
    null=Null(
        text="relative rotations: mean and standard deviation in the limit of large width",
        law=_haar_gap,
        statement="free_nuclear_norm",
    ),
    tolerance=1e-5,
    reading="Square norm of the two weights over the least that any pair with the same product has: 1 exactly if the "
    "two Gram matrices are equal. Infinite where the product is 0.",
    misuse="It is no angle: two aligned weights of different norm are far from balance too.",
)
IMBALANCE = Observable(
    title="imbalance",
    table="interfaces",
    column="imbalance",
    pair=Interface,
    measure=_imbalance,
    formula=r"\lVert A - B \rVert / (\lVert A \rVert + \lVert B \rVert)",
    range=(0.0, 1.0),
    aligned=0.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "one orthogonal map of the hidden space, a common scale of both weights, and orthogonal maps of input "
        "and output; not separate scales",
        "balance_invariance",
    ),
    null=Null(
        text="relative rotations: root mean square exact, standard deviation to first order",
        law=_haar_imbalance,
        statement="gram_imbalance_null",
        moment="rms",
    ),
    tolerance=1e-5,
    reading="What ridge removes from a linear interface at twice its rate: 0 when both weights have equal Gram "
    "matrices in the hidden space.",
    misuse="Do not use it at a nonlinear interface without the imbalance of single units beside it: gates keep "
    "the rest from vanishing.",
)
DIAGONAL_IMBALANCE = Observable(
    title="imbalance of single units",
    table="interfaces",
    column="diagonal_imbalance",
    pair=Interface,
    measure=_diagonal_imbalance,
    formula=r"\lVert \mathrm{diag}(A - B) \rVert / (\lVert A \rVert + \lVert B \rVert)",
    range=(0.0, 1.0),
    aligned=0.0,
    invariance=Invariance(
        Symmetry.SIGNED_PERMUTATION,
        "permutations and signs of the hidden units, a common scale of both weights, and orthogonal maps of "
        "input and output; not rotations of the hidden space",
        "unit_norms_invariance",
    ),
    null=Null(
        text="hidden units of the second weight permuted: root mean square exact, standard deviation to first order",
        law=_permuted_imbalance,
        statement="permuted_diagonal_null",
        moment="rms",
    ),
    tolerance=1e-5,
    reading="What ridge removes under every homogeneous activation too: 0 when each unit's incoming and outgoing "
    "weights have equal norm.",
    misuse="It does not measure alignment: it depends on the norms of units alone.",
)
