"""Flags of eigenspaces: of a sample covariance (flag PCA), and of a mean projector of subspaces."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .checks import block_slices, normalized_weights, require_common_space, require_dims, require_tensor
from .flag_type import Criterion, select_dims


@dataclass(frozen=True)
class PrincipalFlag:
    """The flag of the leading eigenspaces of a positive semi-definite n x n matrix.

    Attributes
    ----------
    point : Tensor, shape=[n, k]
        Orthonormal frame of the flag: eigenvectors in the order of descending eigenvalues, k = dims[-1].
    dims : tuple of int
        Dimensions of the nested subspaces; empty, with k = 0, where no direction stands out.
    eigenvalues : Tensor, shape=[len(dims) + 1]
        Mean eigenvalue of each block of eigenvectors, the last one of the n - k that are left out.
    """

    point: Tensor
    dims: tuple[int, ...]
    eigenvalues: Tensor


@torch.no_grad()
def flag_pca(
    samples: Tensor, dims: Sequence[int] | None = None, *, max_dim: int | None = None, criterion: Criterion = "bic"
) -> PrincipalFlag:
    """Nested principal subspaces of data: principal components, of which close ones count as one subspace.

    Principal components of nearly equal variance are arbitrary directions of their common span. Here they form one
    block, and the result is a point of `Flag`: the flag of maximum likelihood of a Gaussian whose covariance has one
    eigenvalue for each block.

    Parameters
    ----------
    samples : Tensor, shape=[n_samples, n]
        float32 or float64. Their mean is subtracted.
    dims : sequence of int, optional
        Dimensions of the nested subspaces; by default those of `select_dims` under `max_dim` and `criterion`.
    max_dim : int, optional
        Largest dimension to select. It must be given where there are no more samples than dimensions.
    criterion : {"bic", "aic"}

    Returns
    -------
    flag : PrincipalFlag
        Of the sample covariance, with n_samples in the denominator. `eigenvalues` are those of the covariance of
        maximum likelihood.

    Raises
    ------
    ValueError
        Also if the samples do not determine a subspace of the dimension asked for: they span n_samples - 1 directions.

    References
    ----------
    .. [1] T. Szwagier and X. Pennec, The curse of isotropy: from principal components to principal subspaces,
       arXiv:2307.15348.

    Examples
    --------
    Variances 9, 4, 4 and 1, of which the second and third are one plane:

    >>> gaussian = torch.randn(2000, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    >>> found = flag_pca(gaussian * torch.tensor([3.0, 2.0, 2.0, 1.0]))
    >>> found.dims, found.eigenvalues.round()
    ((1, 3), tensor([9., 4., 1.], dtype=torch.float64))
    """
    require_tensor(samples, "samples")
    if samples.ndim != 2 or min(samples.shape) < 2 or samples.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            "flag_pca expected float32 or float64 samples of shape [n_samples >= 2, n >= 2]; got shape "
            f"{tuple(samples.shape)} of {samples.dtype}."
        )
    count, n = samples.shape
    largest = max_dim if dims is None else require_dims(dims, n)[-1]
    if largest is None and count <= n:
        raise ValueError(
            f"flag_pca needs max_dim or dims for {count} samples in {n} dimensions: no more samples than dimensions."
        )
    if largest is not None and largest >= count:
        raise ValueError(f"flag_pca expected dimensions below the number of samples, {count}; got {largest}.")
    if not bool(samples.isfinite().all()):
        raise ValueError(f"flag_pca expected finite samples; found NaN or infinity in {tuple(samples.shape)}.")
    _, lengths, right = torch.linalg.svd(samples - samples.mean(dim=0), full_matrices=False)
    # What subtracting the mean leaves of rounding is no direction.
    spanned = int((lengths > max(count, n) * torch.finfo(samples.dtype).eps * samples.norm()).sum())
    needed = 1 if dims is None or largest is None else largest
    if spanned < needed:
        raise ValueError(
            f"flag_pca expected samples that span at least {needed} directions around their mean; those of shape "
            f"{tuple(samples.shape)} span {spanned}."
        )
    eigenvalues = _extended(lengths.square() / count, n)
    if dims is None:
        dims = select_dims(eigenvalues, count, max_dim=max_dim, criterion=criterion)
    return _principal_flag(right.mT, eigenvalues, tuple(dims))


@torch.no_grad()
def flag_mean(
    frames: Sequence[Tensor], weights: Tensor | None = None, dims: Sequence[int] | None = None
) -> PrincipalFlag:
    r"""Flag mean of subspaces of any dimensions: the eigenspaces of their mean projector.

    .. math:: \bar P = \sum_i w_i X_i X_i^\top, \qquad \sum_i w_i = 1

    The eigenvalue of a direction is the weighted mean of its squared cosines with the subspaces: 1 where it lies in all
    of them, w_i where it lies in the i-th alone and is orthogonal to the others. The leading k eigenvectors span the
    k-dimensional subspace of largest mean squared cosines, which is the `chordal_mean` of subspaces of dimension k.

    Parameters
    ----------
    frames : sequence of Tensor, shape=[n, k_i]
        Orthonormal frames of one space.
    weights : Tensor, shape=[len(frames)], optional
        Non-negative finite weights, not all zero; equal by default.
    dims : sequence of int, optional
        Dimensions of the nested subspaces, up to the number of all columns. By default those of `select_dims`, which
        takes the columns of all frames for samples: as many of them as there are with equal weights, and
        :math:`(\sum_i w_i k_i)^2 / \sum_i w_i^2 k_i` with any weights.

    Returns
    -------
    flag : PrincipalFlag
        Of the mean projector, which is not formed.

    Notes
    -----
    The columns of a frame are not independent, so that the selected type is a convention: neighbouring eigenvalues are
    told apart where that many Gaussian samples would tell them apart. Directions orthogonal to all subspaces are a
    block of their own.

    References
    ----------
    .. [1] B. Draper, M. Kirby, J. Marks, T. Marrinan and C. Peterson, A flag representation for finite collections of
       subspaces of mixed dimensions, Linear Algebra Appl. 451 (2014).

    Examples
    --------
    Two planes of space and a line in which they meet:

    >>> axes = torch.eye(3)
    >>> found = flag_mean([axes[:, [0, 1]], axes[:, [0, 2]], axes[:, :1]], dims=(1,))
    >>> found.point.abs().flatten(), found.eigenvalues
    (tensor([1., 0., 0.]), tensor([1.0000, 0.3333]))
    """
    if not len(frames):
        raise ValueError("flag_mean expected at least one frame; got none.")
    require_common_space(frames, "flag_mean")
    weights = normalized_weights(weights, frames, "flag_mean")
    widths = weights.new_tensor([frame.shape[-1] for frame in frames])
    n, columns = len(frames[0]), int(widths.sum())
    if dims is not None and require_dims(dims, n)[-1] > columns:
        raise ValueError(f"flag_mean expected dims up to the number of columns, {columns}; got {tuple(dims)}.")
    stacked = torch.cat([frame * weight.sqrt() for frame, weight in zip(frames, weights, strict=True)], dim=1)
    left, cosines, _ = torch.linalg.svd(stacked, full_matrices=False)
    eigenvalues = _extended(cosines.square(), n)
    if dims is None:
        count = float((weights @ widths).square() / (weights.square() @ widths))
        dims = select_dims(eigenvalues, max(count, 1.0))  # a single line counts as 1, up to rounding
    return _principal_flag(left, eigenvalues, tuple(dims))


def _extended(eigenvalues: Tensor, n: int) -> Tensor:
    """All n eigenvalues, of which a thin decomposition leaves out zeros."""
    return torch.nn.functional.pad(eigenvalues, (0, n - len(eigenvalues)))


def _principal_flag(eigenvectors: Tensor, eigenvalues: Tensor, dims: tuple[int, ...]) -> PrincipalFlag:
    blocks = block_slices((*dims, len(eigenvalues)))
    means = torch.stack([eigenvalues[block].mean() for block in blocks])
    return PrincipalFlag(eigenvectors[:, : blocks[-1].start], dims, means)
