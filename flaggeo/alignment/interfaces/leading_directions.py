"""The leading directions that one weight writes and another reads: their overlap, and whether they share axes."""

from dataclasses import dataclass, replace
from math import nan

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...network import Symmetry
from ...numerics.threads import cached_property
from ..chance.haar import haar_overlap
from ..chance.mean_matched import mean_matched_at_every_rank
from ..observable import Invariance, Null, Observable


@dataclass(frozen=True)
class LeadingDirections:
    """Leading directions of two weights at an interface of dimension d, see `leading_directions`.

    Attributes
    ----------
    kept : Tensor of int, shape=[...]
        Number of directions compared, at most K.
    products : Tensor, shape=[..., K, K]
        Inner products of the K leading directions of the two weights.
    shared_leverages : Tensor, shape=[..., K]
        For each number k of leading directions, the sum over the hidden units of the products of their leverages.
    mean_matched : Tensor, shape=[..., K]
        `mean_matched_at_every_rank` of the two.
    grams : tuple of Tensor, shape=[..., 2K, 2K] each
        Gram matrices of the two weights between the directions of the first and then those of the second.
    dim : int
        d.
    right_angle : float
        Largest cosine that counts as that of a right angle.
    """

    kept: Tensor
    products: Tensor
    shared_leverages: Tensor
    mean_matched: Tensor
    grams: tuple[Tensor, Tensor]
    dim: int
    right_angle: float

    @property
    def ranks(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Dimensions of the two subspaces compared, shape=[...] each."""
        kept = self.kept.cpu().numpy()
        return kept, kept

    def at_every_rank(self) -> "LeadingDirections":
        """The same compared at 1, 2, ..., K directions, as a first axis; none of a pair beyond its `kept` ones."""
        counts = torch.arange(1, self.products.shape[-1] + 1, device=self.kept.device)
        return replace(self, kept=torch.minimum(self.kept, counts.view(-1, *(1,) * self.kept.ndim)))

    @property
    def inside(self) -> Tensor:
        """Which of the K directions are compared, shape=[..., K]."""
        return torch.arange(self.products.shape[-1], device=self.kept.device) < self.kept[..., None]

    @cached_property
    def compared(self) -> Tensor:
        """Inner products of the directions compared, shape=[..., K, K]; zero beyond them."""
        return self.products * (self.inside[..., :, None] & self.inside[..., None, :])

    @cached_property
    def window_grams(self) -> tuple[Tensor, Tensor]:
        """Both Gram matrices on the common window, shape=[..., K, K] each; NaN where that is undetermined.

        The window is spanned by the leading eigenvectors of the sum of the two projectors, the bisectors of the
        principal angles. A right angle among these leaves it open.
        """
        left, cosines, right = torch.linalg.svd(self.compared)
        scales = self.inside / (2 + 2 * cosines).sqrt()
        bisectors = torch.cat([left, right.mT], dim=-2) * scales[..., None, :]
        undetermined = (self.inside & (cosines <= self.right_angle)).any(dim=-1)
        bisectors = torch.where(undetermined[..., None, None], torch.nan, bisectors)
        first, second = (bisectors.mT @ gram @ bisectors for gram in self.grams)
        return first, second


def leading_directions(
    first: Tensor,
    second: Tensor,
    norms: tuple[Tensor, Tensor],
    kept: Tensor,
    grams: tuple[Tensor, Tensor],
    *,
    right_angle: float,
) -> LeadingDirections:
    """Compare the leading directions of two weights.

    Parameters
    ----------
    first, second : Tensor, shape=[..., d, K]
        Orthonormal frames of what the one writes and the other reads.
    norms : tuple of Tensor, shape=[..., d]
        Of the hidden units in either weight.
    kept, grams, right_angle
        As in `LeadingDirections`.

    Returns
    -------
    leading : LeadingDirections
    """
    leverages = (frame.square().cumsum(dim=-1) for frame in (first, second))
    shared = (next(leverages) * next(leverages)).sum(dim=-2)
    mean_matched = mean_matched_at_every_rank(first, second, norms)
    return LeadingDirections(kept, first.mT @ second, shared, mean_matched, grams, first.shape[-2], right_angle)


def _overlap(pair: LeadingDirections) -> Tensor:
    return pair.compared.square().sum(dim=(-2, -1)) / torch.where(pair.kept > 0, pair.kept, nan)


def _at_kept(pair: LeadingDirections, sums: Tensor) -> Tensor:
    """Mean overlap under a null, from the sums of squared cosines that it gives for each number of directions."""
    sums = sums.expand(*pair.kept.shape, -1)
    at_kept = sums.gather(-1, (pair.kept - 1).clamp(min=0)[..., None])[..., 0]
    return torch.where(pair.kept > 0, at_kept / pair.kept, nan)


def _traceless(gram: Tensor, pair: LeadingDirections) -> Tensor:
    """Compressed Gram matrix minus its mean eigenvalue on the window."""
    mean = gram.diagonal(dim1=-2, dim2=-1).sum(dim=-1) / pair.kept.clamp(min=1)
    return gram - torch.diag_embed(torch.where(pair.inside, mean[..., None], 0))


def _window_rho(pair: LeadingDirections) -> Tensor:
    first, second = (_traceless(gram, pair) for gram in pair.window_grams)
    k = pair.kept.to(first.dtype)
    norms = torch.linalg.matrix_norm(first) * torch.linalg.matrix_norm(second)
    chance = (2 * k / ((k - 1) * (k + 2))).sqrt() * norms
    commutator = torch.linalg.matrix_norm(first @ second - second @ first)
    return torch.where((k > 1) & (norms > 0), commutator / chance, nan)


def _window_contrast(pair: LeadingDirections) -> Tensor:
    shares = [
        torch.linalg.matrix_norm(_traceless(gram, pair)) / torch.linalg.matrix_norm(gram) for gram in pair.window_grams
    ]
    return torch.minimum(*shares)


INTERFACE_OVERLAP = Observable(
    title="overlap of what is written with what is read",
    table="interfaces",
    column="overlap",
    pair=LeadingDirections,
    measure=_overlap,
    formula=r"S_k = \lVert U_k^\top V_k \rVert_F^2 / k",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "one orthogonal map of the hidden space, the scale of either weight, and orthogonal maps of input and "
        "output; not a general linear map, which moves the row space by its inverse transpose",
        "projection_overlap_invariance",
    ),
    null=Null(
        text="independent uniform (Haar) subspaces, exact",
        law=haar_overlap,
        statement="haar_overlap_moments",
    ),
    further_nulls=(
        Null(
            name="sign_flip",
            text="random signs of the hidden units, which keep the norms of the units, exact",
            law=lambda pair: (_at_kept(pair, pair.shared_leverages), None),
            statement="sign_flip_overlap_mean",
            has_sd=False,
        ),
        Null(
            name="mean_matched",
            text="the means of the directions over the hidden units kept, random signs for the rest",
            law=lambda pair: (_at_kept(pair, pair.mean_matched).clamp(max=1), None),
            statement="mean_matched_overlap_mean",
            has_sd=False,
        ),
    ),
    tolerance=1e-5,
    reading="Mean squared cosine between the k leading directions that the first weight writes and those that the "
    "second reads: 1 when the two subspaces are one.",
    misuse="It is no reparameterisation invariant. Do not read it at one k alone: at k equal to the dimension it is "
    "always 1, and the table interfaces_by_rank has every k.",
)
WINDOW_RHO = Observable(
    title="commutator on the common window (ρ_k)",
    table="interfaces",
    column="window_rho",
    pair=LeadingDirections,
    measure=_window_rho,
    formula=r"\rho \text{ of } F^\top A F,\; F^\top B F, \; F \text{ the } k \text{ bisectors of } U_k, V_k",
    range=(0.0, float("inf")),
    aligned=0.0,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "one orthogonal map of the hidden space, the scale of either weight, and orthogonal maps of input and "
        "output; not a scaling of single hidden units",
        "window_invariance",
    ),
    null=Null(text="signed permutations of the second weight's hidden units, drawn", law=None),
    tolerance=3e-4,
    reading="Whether the two weights, on the subspace that they share most, also share a basis: 0 they do, "
    "about 1 they do not. The table interfaces_by_rank has every k from 2.",
    misuse="Do not use it where the window contrast is small: a Gram matrix that is nearly a multiple of the "
    "identity has no basis to share, and the quotient is noise.",
)
WINDOW_CONTRAST = Observable(
    title="contrast on the common window",
    table="interfaces",
    column="window_contrast",
    pair=LeadingDirections,
    measure=_window_contrast,
    formula=r"\min(\lVert A_0 \rVert / \lVert A \rVert, \lVert B_0 \rVert / \lVert B \rVert) "
    r"\text{ of the compressions } F^\top A F, F^\top B F",
    range=(0.0, 1.0),
    aligned=None,
    invariance=Invariance(
        Symmetry.ORTHOGONAL,
        "one orthogonal map of the hidden space, the scale of either weight, and orthogonal maps of input and "
        "output; not a scaling of single hidden units",
        "window_invariance",
    ),
    null=Null(text="signed permutations of the second weight's hidden units, drawn", law=None),
    tolerance=1e-5,
    reading="How far the two Gram matrices on the window are from a multiple of the identity: it says how far the "
    "commutator there can be trusted.",
    misuse="It does not measure alignment.",
)

#: What is measured of the leading directions at an interface, and at every number of them.
LEADING_OBSERVABLES: tuple[Observable[LeadingDirections], ...] = (INTERFACE_OVERLAP, WINDOW_RHO, WINDOW_CONTRAST)
