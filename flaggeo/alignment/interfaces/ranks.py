"""Ranks at an interface: the numbers that every change of basis of the hidden space leaves alone."""

import torch
from torch import Tensor

from ...network import Symmetry
from ..observable import Invariance, Null, Observable
from .interface import Interface


def _known(pair: Interface, value: int) -> tuple[Tensor, Tensor]:
    """Moments of a number that is the same for almost all weights of these shapes."""
    shape = pair.batch
    mean = pair.first.columns.new_full(shape, value)
    return mean, torch.zeros_like(mean)


def _product_rank(pair: Interface) -> Tensor:
    return (pair.product_values > 0).sum(dim=-1)


def _defect(pair: Interface) -> Tensor:
    return pair.first.rank + pair.second.rank - 2 * _product_rank(pair)


def _generic_ranks(pair: Interface) -> tuple[int, int, int]:
    first, second = min(pair.inputs, pair.dim), min(pair.outputs, pair.dim)
    return first, second, min(first, second)


_ANY_CHANGE_OF_BASIS = Invariance(
    Symmetry.GENERAL_LINEAR,
    "every invertible map of the hidden space, undone in the second weight",
    "intersection_dimension",
)
_NO_EFFECTIVE_RANK = (
    "It is no effective rank: a singular value of 1e-9 of the largest still counts, and trained weights nearly always "
    "have full rank."
)

FIRST_RANK = Observable(
    title="rank of the first weight",
    table="interfaces",
    column="first_rank",
    pair=Interface,
    measure=lambda pair: pair.first.rank.expand(pair.batch),
    formula=r"r_1 = \mathrm{rank}\, W_1",
    range=(0.0, float("inf")),
    aligned=None,
    invariance=_ANY_CHANGE_OF_BASIS,
    null=Null(
        text="full rank, as random weights have almost surely",
        law=lambda pair: _known(pair, _generic_ranks(pair)[0]),
        statement="random_polystability_defect",
    ),
    tolerance=1e-5,
    reading="How many hidden dimensions the first weight writes to, up to rounding errors.",
    misuse=_NO_EFFECTIVE_RANK,
    dtype="Int64",
)
SECOND_RANK = Observable(
    title="rank of the second weight",
    table="interfaces",
    column="second_rank",
    pair=Interface,
    measure=lambda pair: pair.second.rank.expand(pair.batch),
    formula=r"r_2 = \mathrm{rank}\, W_2",
    range=(0.0, float("inf")),
    aligned=None,
    invariance=_ANY_CHANGE_OF_BASIS,
    null=Null(
        text="full rank, as random weights have almost surely",
        law=lambda pair: _known(pair, _generic_ranks(pair)[1]),
        statement="random_polystability_defect",
    ),
    tolerance=1e-5,
    reading="How many hidden dimensions the second weight reads, up to rounding errors.",
    misuse=_NO_EFFECTIVE_RANK,
    dtype="Int64",
)
PRODUCT_RANK = Observable(
    title="rank of the product",
    table="interfaces",
    column="product_rank",
    pair=Interface,
    measure=_product_rank,
    formula=r"r_{12} = \mathrm{rank}\, W_2 W_1",
    range=(0.0, float("inf")),
    aligned=None,
    invariance=_ANY_CHANGE_OF_BASIS,
    null=Null(
        text="min(n, d, p), as random weights have almost surely",
        law=lambda pair: _known(pair, _generic_ranks(pair)[2]),
        statement="random_polystability_defect",
    ),
    tolerance=1e-5,
    reading="How many dimensions pass through both weights. What counts as zero is measured by the norms of the two "
    "weights, not by that of the product.",
    misuse=_NO_EFFECTIVE_RANK,
    dtype="Int64",
)
UNREAD_DIMENSION = Observable(
    title="written but not read",
    table="interfaces",
    column="unread_dimension",
    pair=Interface,
    measure=lambda pair: pair.first.rank - _product_rank(pair),
    formula=r"\dim(\mathrm{im}\, W_1 \cap \ker W_2) = r_1 - r_{12}",
    range=(0.0, float("inf")),
    aligned=0.0,
    invariance=_ANY_CHANGE_OF_BASIS,
    null=Null(
        text="min(n, d) - min(n, d, p), as random weights have almost surely",
        law=lambda pair: _known(pair, _generic_ranks(pair)[0] - _generic_ranks(pair)[2]),
        statement="random_polystability_defect",
    ),
    tolerance=1e-5,
    reading="Dimensions that the first weight writes and the second does not read. Together with the two ranks "
    "it is all of the two subspaces that no change of basis can alter.",
    misuse="It is not the dimension in which image and row space intersect, which a change of basis can alter.",
    dtype="Int64",
)
POLYSTABILITY_DEFECT = Observable(
    title="polystability defect",
    table="interfaces",
    column="polystability_defect",
    pair=Interface,
    measure=_defect,
    formula=r"\pi = (r_1 - r_{12}) + (r_2 - r_{12})",
    range=(0.0, float("inf")),
    aligned=0.0,
    invariance=_ANY_CHANGE_OF_BASIS,
    null=Null(
        text="r1 + r2 - 2 min(n, d, p) for full ranks: 0 for square weights",
        law=lambda pair: _known(pair, _generic_ranks(pair)[0] + _generic_ranks(pair)[1] - 2 * _generic_ranks(pair)[2]),
        statement="random_polystability_defect",
    ),
    tolerance=1e-5,
    reading="0 exactly if some change of basis of the hidden space makes the two weights balanced, hence aligned.",
    misuse="It does not say how aligned the weights are now: 0 says that a change of basis could align them, "
    "and only a linear interface allows it without changing the network.",
    dtype="Int64",
)
