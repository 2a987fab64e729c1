"""Stacked ratio: whether two composable weights live in one subspace of few dimensions."""

from functools import partial
from math import nan

import numpy as np
import torch
from torch import Tensor

from ...network import Symmetry
from ..chance.free_sum import stacked_ratio_moments
from ..observable import Invariance, Null, Observable
from .interface import Interface

# Above this size Lanczos' method finds a few eigenvalues faster than LAPACK all of them (20 against 130 ms at 1152),
# as long as they are no more than this share of all.
_LANCZOS_SIZE = 256
_LANCZOS_SHARE = 1 / 16


def _stacked_ratio(pair: Interface) -> Tensor:
    first, second = (
        torch.where(factor.square_norm > 0, factor.square_norm, 1).sqrt()[..., None, None]
        for factor in (pair.first, pair.second)
    )
    if pair.dim <= sum(pair.product.shape[-2:]):
        left, right = pair.first.columns / first, pair.second.columns / second
        gram = left @ left.mT + right @ right.mT
    else:
        product = pair.product / (first * second)
        corners = (
            (factor.gram / norm.square()).expand(*product.shape[:-2], -1, -1)
            for factor, norm in ((pair.first, first), (pair.second, second))
        )
        gram = torch.cat(
            [torch.cat([next(corners), product.mT], dim=-1), torch.cat([product, next(corners)], dim=-1)], dim=-2
        )
    values = _largest_eigenvalues(gram, min(pair.rank + 1, gram.shape[-1])).clamp(min=0).sqrt()
    values, kept = torch.nn.functional.pad(values, (0, 1)), pair.leading.kept
    last, beyond = (values.gather(-1, (kept - step).clamp(min=0)[..., None])[..., 0] for step in (1, 0))
    return torch.where((kept > 0) & (kept < pair.dim), beyond / last, nan)


def _free_stacked_ratio(pair: Interface) -> tuple[Tensor, Tensor]:
    return stacked_ratio_moments(pair.first.singular_values, pair.second.singular_values, pair.leading.kept, pair.dim)


def _largest_eigenvalues(gram: Tensor, count: int) -> Tensor:
    """Largest eigenvalues of symmetric matrices, descending, shape=[..., count]."""
    size = gram.shape[-1]
    if gram.device.type != "cpu" or size <= _LANCZOS_SIZE or count > _LANCZOS_SHARE * size:
        values: Tensor = torch.linalg.eigvalsh(gram)
        return values.flip(-1)[..., :count]
    from scipy.sparse.linalg import eigsh  # a tenth of a second, and only needed for large matrices

    find = partial(
        eigsh,
        k=count,
        which="LA",
        v0=np.random.default_rng(0).standard_normal(size),
        tol=torch.finfo(gram.dtype).eps ** 0.5,
        return_eigenvectors=False,
    )
    found = [np.sort(find(matrix.numpy()))[::-1] for matrix in gram.reshape(-1, *gram.shape[-2:])]
    return torch.from_numpy(np.stack(found)).to(gram).view(*gram.shape[:-2], count)


STACKED_RATIO = Observable(
    title="stacked ratio",
    table="interfaces",
    column="stacked_ratio",
    pair=Interface,
    measure=_stacked_ratio,
    formula=r"\sigma_{k+1} / \sigma_k \text{ of } [W_1 / \lVert W_1 \rVert,\; W_2^\top / \lVert W_2 \rVert]",
    range=(0.0, 1.0),
    aligned=0.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "one orthogonal map of the hidden space, the scale of either weight, and orthogonal maps of input and "
        "output; not a general linear map",
        "stacked_ratio_invariance",
    ),
    null=Null(
        text="relative rotations: mean in the limit of large width, sd by Wigner's surmise where no value stands "
        "apart from the next",
        law=_free_stacked_ratio,
    ),
    tolerance=1e-5,
    reading="0 exactly if both weights live in one k-dimensional subspace of the hidden space; near 1 where nothing "
    "sets k directions apart.",
    misuse="Do not read it without its null, nor across values of k: neighbouring singular values are close in any "
    "large matrix.",
)
