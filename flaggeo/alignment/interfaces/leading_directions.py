"""The leading directions at an interface: how what is written there meets what is read, and what lies beyond."""

from dataclasses import replace
from functools import partial
from math import nan

import numpy as np
import scipy.sparse.linalg
import torch
from torch import Tensor

from manifolds import overlap_moments

from ...network import Symmetry
from ..chance.free_sum import stacked_ratio_moments
from ..observable import Observable
from .commutator import GRAM_COMMUTATOR
from .interface import Interface

# Above this size Lanczos' method finds a few eigenvalues faster than LAPACK all of them (20 against 130 ms at 1152),
# as long as they are no more than this share of all.
_LANCZOS_SIZE = 256
_LANCZOS_SHARE = 1 / 16


def _overlap(pair: Interface) -> Tensor:
    return pair.subspace_products.square().sum(dim=(-2, -1)) / torch.where(pair.kept > 0, pair.kept, nan)


def haar_overlap(pair: Interface) -> tuple[Tensor, Tensor]:
    """Exact mean and spread of the overlap of independent uniform subspaces."""
    moments = [overlap_moments(pair.dim, k, k) if k else (nan, nan) for k in pair.kept.flatten().tolist()]
    mean, spread = pair.subspace_products.new_tensor(moments).mT
    return mean.view(pair.kept.shape), spread.view(pair.kept.shape)


def sign_flip_mean(pair: Interface) -> Tensor:
    """Mean overlap under random signs of the hidden units: what units that are loud on both sides account for."""
    first, second = (factor.frame.square().cumsum(dim=-1) for factor in (pair.first, pair.second))
    shared = (first * second).sum(dim=-2)  # for every number of leading directions
    at_kept = shared.expand(*pair.kept.shape, -1).gather(-1, (pair.kept - 1).clamp(min=0)[..., None])[..., 0]
    return torch.where(pair.kept > 0, at_kept / pair.kept, nan)


def adjusted(overlap: Tensor, null_mean: Tensor) -> Tensor:
    """Share of what lies beyond chance, (S - E) / (1 - E); NaN where the space leaves no choice."""
    return torch.where(null_mean < 1, (overlap - null_mean) / (1 - null_mean), nan)


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
    values = torch.nn.functional.pad(values, (0, 1))
    last, beyond = (values.gather(-1, (pair.kept - step).clamp(min=0)[..., None])[..., 0] for step in (1, 0))
    return torch.where((pair.kept > 0) & (pair.kept < pair.dim), beyond / last, nan)


def _free_stacked_ratio(pair: Interface) -> tuple[Tensor, Tensor]:
    return stacked_ratio_moments(pair.first.singular_values, pair.second.singular_values, pair.kept, pair.dim)


def _largest_eigenvalues(gram: Tensor, count: int) -> Tensor:
    """Largest eigenvalues of symmetric matrices, descending, shape=[..., count]."""
    size = gram.shape[-1]
    if gram.device.type != "cpu" or size <= _LANCZOS_SIZE or count > _LANCZOS_SHARE * size:
        values: Tensor = torch.linalg.eigvalsh(gram)
        return values.flip(-1)[..., :count]
    find = partial(
        scipy.sparse.linalg.eigsh,
        k=count,
        which="LA",
        v0=np.random.default_rng(0).standard_normal(size),
        tol=torch.finfo(gram.dtype).eps ** 0.5,
        return_eigenvectors=False,
    )
    found = [np.sort(find(matrix.numpy()))[::-1] for matrix in gram.reshape(-1, *gram.shape[-2:])]
    return torch.from_numpy(np.stack(found)).to(gram).view(*gram.shape[:-2], count)


def _traceless(gram: Tensor, pair: Interface) -> Tensor:
    """Compressed Gram matrix minus its mean eigenvalue on the window."""
    inside = torch.arange(gram.shape[-1], device=gram.device) < pair.kept[..., None]
    mean = gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1) / pair.kept.clamp(min=1)
    return gram - torch.diag_embed(torch.where(inside, mean[..., None], 0))


def _window_rho(pair: Interface) -> Tensor:
    first, second = (_traceless(gram, pair) for gram in pair.window_grams)
    k = pair.kept.to(first.dtype)
    norms = torch.linalg.matrix_norm(first) * torch.linalg.matrix_norm(second)
    chance = (2 * k / ((k - 1) * (k + 2))).sqrt() * norms
    commutator = torch.linalg.matrix_norm(first @ second - second @ first)
    return torch.where((k > 1) & (norms > 0), commutator / chance, nan)


def _window_contrast(pair: Interface) -> Tensor:
    shares = [
        torch.linalg.matrix_norm(_traceless(gram, pair)) / torch.linalg.matrix_norm(gram) for gram in pair.window_grams
    ]
    return torch.minimum(*shares)


INTERFACE_OVERLAP = Observable[Interface](
    name="overlap of what is written with what is read",
    table="interfaces",
    column="overlap",
    measure=_overlap,
    formula=r"S_k = \lVert U_k^\top V_k \rVert_F^2 / k",
    range=(0.0, 1.0),
    aligned=1.0,
    invariant_under=Symmetry.ORTHOGONAL,
    invariance="one orthogonal map of the hidden space, the scale of either weight, and orthogonal maps of input and "
    "output; not a general linear map, which moves the row space by its inverse transpose",
    invariance_statement="projection_overlap_invariance",
    null="independent uniform subspaces, exact mean and spread; beside it the exact mean under random signs of the "
    "hidden units",
    null_moments=haar_overlap,
    null_statement="haar_overlap_moments",
    reading="Mean squared cosine between the k leading directions that the first weight writes and those that the "
    "second reads: 1 when the two subspaces are one.",
    misuse="Not as a reparameterisation invariant, and not at one k alone: at k equal to the dimension it is always 1. "
    "The table interface_curves has every k.",
    derived=("adjusted_overlap", "overlap_sign_flip_mean", "excess"),
)
STACKED_RATIO = replace(
    INTERFACE_OVERLAP,
    name="stacked ratio",
    column="stacked_ratio",
    measure=_stacked_ratio,
    formula=r"\sigma_{k+1} / \sigma_k \text{ of } [W_1 / \lVert W_1 \rVert,\; W_2^\top / \lVert W_2 \rVert]",
    aligned=0.0,
    invariance="one orthogonal map of the hidden space, the scale of either weight, and orthogonal maps of input and "
    "output; not a general linear map",
    invariance_statement="stacked_ratio_invariance",
    null="relative rotations: mean in the limit of large width, spread by Wigner's surmise where no value stands apart",
    null_moments=_free_stacked_ratio,
    null_statement=None,
    reading="0 exactly if both weights live in one k-dimensional subspace of the hidden space; near 1 where nothing "
    "sets k directions apart.",
    misuse="Not without its null, nor across values of k: neighbouring singular values are close in any large matrix.",
    derived=(),
)
WINDOW_RHO = replace(
    GRAM_COMMUTATOR,
    name="commutator on the common window (ρ_k)",
    column="window_rho",
    measure=_window_rho,
    formula=r"\rho \text{ of } F^\top A F,\; F^\top B F, \; F \text{ the } k \text{ bisectors of } U_k, V_k",
    range=(0.0, float("inf")),
    invariance_statement="window_invariance",
    null="signed permutations of the second weight's hidden units, drawn",
    null_moments=None,
    null_statement=None,
    reading="Whether the two weights, on the subspace that they share most, also share a basis: 0 they do, about 1 "
    "they do not. The table interface_curves has every k from 2.",
    misuse="Not where the window contrast is small: a Gram matrix that is nearly a multiple of the identity has no "
    "basis to share, and the quotient is noise.",
)
WINDOW_CONTRAST = replace(
    WINDOW_RHO,
    name="contrast on the common window",
    column="window_contrast",
    measure=_window_contrast,
    formula=r"\min(\lVert A_0 \rVert / \lVert A \rVert, \lVert B_0 \rVert / \lVert B \rVert) "
    r"\text{ of the compressions } F^\top A F, F^\top B F",
    range=(0.0, 1.0),
    aligned=None,
    reading="How far the two Gram matrices on the window are from a multiple of the identity: it says how far the "
    "commutator there can be trusted.",
    misuse="Not as alignment.",
)
