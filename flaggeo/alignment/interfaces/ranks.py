"""Ranks at an interface: the numbers that every change of basis of the hidden space leaves alone."""

from dataclasses import replace

import torch
from torch import Tensor

from ...network import Symmetry
from ..observable import Observable
from .interface import Interface


def _known(pair: Interface, value: int) -> tuple[Tensor, Tensor]:
    """Moments of a number that is the same for almost all weights of these shapes."""
    shape = pair.kept.shape
    mean = pair.first.columns.new_full(shape, value)
    return mean, torch.zeros_like(mean)


def _product_rank(pair: Interface) -> Tensor:
    return (pair.product_values > 0).sum(dim=-1)


def _defect(pair: Interface) -> Tensor:
    return pair.first.rank + pair.second.rank - 2 * _product_rank(pair)


def _generic_ranks(pair: Interface) -> tuple[int, int, int]:
    first, second = min(pair.inputs, pair.dim), min(pair.outputs, pair.dim)
    return first, second, min(first, second)


FIRST_RANK = Observable[Interface](
    name="rank of the first weight",
    table="interfaces",
    column="first_rank",
    measure=lambda pair: pair.first.rank.expand(pair.kept.shape),
    formula=r"r_1 = \mathrm{rank}\, W_1",
    range=(0.0, float("inf")),
    aligned=None,
    invariant_under=Symmetry.GENERAL_LINEAR,
    invariance="every invertible map of the hidden space, undone in the second weight",
    invariance_statement="intersection_dimension",
    null="full rank, as random weights have almost surely",
    null_moments=lambda pair: _known(pair, _generic_ranks(pair)[0]),
    null_statement="random_polystability_defect",
    reading="How many hidden dimensions the first weight writes to, up to rounding errors.",
    misuse="Not as an effective rank: a singular value of 1e-9 of the largest still counts, and trained weights are "
    "of full rank nearly always.",
)
SECOND_RANK = replace(
    FIRST_RANK,
    name="rank of the second weight",
    column="second_rank",
    measure=lambda pair: pair.second.rank.expand(pair.kept.shape),
    formula=r"r_2 = \mathrm{rank}\, W_2",
    null_moments=lambda pair: _known(pair, _generic_ranks(pair)[1]),
    reading="How many hidden dimensions the second weight reads, up to rounding errors.",
)
PRODUCT_RANK = replace(
    FIRST_RANK,
    name="rank of the product",
    column="product_rank",
    measure=_product_rank,
    formula=r"r_{12} = \mathrm{rank}\, W_2 W_1",
    null="min(n, d, p), as random weights have almost surely",
    null_moments=lambda pair: _known(pair, _generic_ranks(pair)[2]),
    reading="How many dimensions pass through both weights. What counts as zero is measured by the norms of the two "
    "weights, not by that of the product.",
)
UNREAD_DIMENSION = replace(
    PRODUCT_RANK,
    name="written but not read",
    column="unread_dimension",
    measure=lambda pair: pair.first.rank - _product_rank(pair),
    formula=r"\dim(\mathrm{im}\, W_1 \cap \ker W_2) = r_1 - r_{12}",
    aligned=0.0,
    null="min(n, d) - min(n, d, p), as random weights have almost surely",
    null_moments=lambda pair: _known(pair, _generic_ranks(pair)[0] - _generic_ranks(pair)[2]),
    reading="Dimensions that the first weight writes to and the second is blind to. With the two ranks it is all that "
    "a change of basis leaves of the two subspaces.",
    misuse="Not the dimension in which image and row space meet, which a change of basis can alter.",
)
POLYSTABILITY_DEFECT = replace(
    UNREAD_DIMENSION,
    name="polystability defect",
    column="polystability_defect",
    measure=_defect,
    formula=r"\pi = (r_1 - r_{12}) + (r_2 - r_{12})",
    null="r1 + r2 - 2 min(n, d, p) for full ranks: 0 for square weights",
    null_moments=lambda pair: _known(
        pair, _generic_ranks(pair)[0] + _generic_ranks(pair)[1] - 2 * _generic_ranks(pair)[2]
    ),
    reading="0 exactly if some change of basis of the hidden space makes the two weights balanced, hence aligned.",
    misuse="Not how aligned the weights are now: 0 says that a change of basis could align them, which only a linear "
    "interface allows without changing the network.",
)
