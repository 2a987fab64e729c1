"""Overlap of the leading rank-one parts of a weight in two layers: both sides at once, with its sign."""

from math import nan

from torch import Tensor

from ...network import Symmetry
from ..observable import Invariance, Null, Observable
from .layer_pair import LayerPair, of_directions


def _comparable(pair: LayerPair) -> bool:
    return pair.earlier.left.shape[-2] == pair.later.left.shape[-2] and (
        pair.earlier.right.shape[-2] == pair.later.right.shape[-2]
    )


def _signed_overlap(pair: LayerPair) -> Tensor:
    if not _comparable(pair):
        return pair.undefined
    left = (pair.earlier.left[..., 0] * pair.later.left[..., 0]).sum(dim=-1)
    right = (pair.earlier.right[..., 0] * pair.later.right[..., 0]).sum(dim=-1)
    return (left * right).clamp(-1, 1)


def _haar_product(pair: LayerPair) -> tuple[Tensor, Tensor]:
    """Mean square 1/(m n): the two cosines are independent, of mean squares 1/m and 1/n."""
    m, n = pair.earlier.left.shape[-2], pair.earlier.right.shape[-2]
    spread = (m * n) ** -0.5 if _comparable(pair) else nan
    return pair.products.new_tensor(0.0), pair.products.new_tensor(spread)


SIGNED_RANK_ONE = Observable(
    title="signed overlap of the leading rank-one parts",
    table="continuity",
    column="signed_rank_one",
    pair=LayerPair,
    measure=of_directions(_signed_overlap),
    formula=r"\langle u_1, u'_1 \rangle \langle v_1, v'_1 \rangle = \langle u_1 v_1^\top, u'_1 v_1'^\top \rangle",
    range=(-1.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "the sign that each pair of singular vectors is given, and one orthogonal map of each space on both "
        "weights; not a general linear map",
        "signed_rank_one_overlap",
    ),
    null=Null(
        text="independent uniform directions on both sides, exact: mean 0, standard deviation 1/sqrt(m n)",
        law=_haar_product,
        statement="signed_rank_one_null",
    ),
    tolerance=1e-5,
    reading="Whether both layers do the same thing to the same input: near 1 they map the same direction to the same "
    "one, near -1 the later one undoes it, near 0 one of the two sides is unrelated. Equal on the two sides of a pair.",
    misuse="It is no continuity of one side: it is 0 as soon as the other side is unrelated. Do not use it for "
    "a first direction that the spectrum leaves undetermined. Where a side lies in a space of its own "
    "in each layer, it depends on how the layers number their coordinates.",
)
