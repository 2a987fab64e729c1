"""Continuity of a stack of weights, as `flaggeo analyze` measures it, for all runs at once."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Continuity:
    r"""Mean over the pairs of neighbouring layers, one number for each run; NaN where a weight is zero.

    Attributes
    ----------
    read, write : Tensor, shape=[runs]
        \|cos\| of the first right and of the first left singular vectors.
    read_second, write_second : Tensor, shape=[runs]
        Of the second ones.
    read_overlap, write_overlap : Tensor, shape=[runs]
        Overlap of the 8 leading right and left singular vectors: 1 for one subspace, 8 / d for unrelated ones.
    """

    read: Tensor
    write: Tensor
    read_second: Tensor
    write_second: Tensor
    read_overlap: Tensor
    write_overlap: Tensor


def continuity(weights: Tensor) -> Continuity:
    r"""Continuity of the layers of every run.

    .. math:: \frac{1}{L - 1} \sum_l |\langle v_1^l, v_1^{l+1} \rangle|

    Parameters
    ----------
    weights : Tensor, shape=[runs, L, m, n]
        Of any matrices: weights, gradients or updates.

    Returns
    -------
    continuity : Continuity
        float64, on the CPU.

    References
    ----------
    arXiv:2605.04971, equation 1.

    Examples
    --------
    Two layers that read one direction and write two others:

    >>> first, second = torch.zeros(2, 3, 3)
    >>> first[0, 0], second[1, 0] = 2.0, 3.0
    >>> found = continuity(torch.stack([first, second])[None])
    >>> found.read, found.write
    (tensor([1.], dtype=torch.float64), tensor([0.], dtype=torch.float64))
    """
    left, values, right = torch.linalg.svd(_finite(weights), full_matrices=False)
    defined = values[..., :1] > 0
    written, read = (torch.where(defined[..., None], frame, torch.nan) for frame in (left.mT, right))

    def cosines(frames: Tensor, index: int) -> Tensor:
        return (frames[:, :-1, index] * frames[:, 1:, index]).sum(dim=-1).abs().mean(dim=-1)

    def overlap(frames: Tensor) -> Tensor:
        leading = frames[:, :, :8]
        products = leading[:, :-1] @ leading[:, 1:].mT
        return products.square().sum(dim=(-2, -1)).mean(dim=-1) / leading.shape[-2]

    first, second = ((cosines(read, index), cosines(written, index)) for index in (0, 1))
    return Continuity(*first, *second, overlap(read), overlap(written))


def drift(weights: Tensor, reference: Tensor) -> Tensor:
    """Mean angle in degrees of the first right singular vectors from those of a reference, shape=[runs].

    Parameters
    ----------
    weights, reference : Tensor, shape=[runs, L, d, d]
    """
    return torch.rad2deg(_read_cosines(weights, reference).clamp(max=1).acos()).mean(dim=-1)


def read_agreement(weights: Tensor, reference: Tensor) -> Tensor:
    r"""Mean \|cos\| of the first right singular vectors with those of a reference, shape=[runs].

    Parameters
    ----------
    weights, reference : Tensor, shape=[runs, L, d, d]
        Any matrices of equal shape, such as weights and gradients; NaN where one is zero.
    """
    return _read_cosines(weights, reference).mean(dim=-1)


def _read_cosines(weights: Tensor, reference: Tensor) -> Tensor:
    found = [torch.linalg.svd(_finite(one)) for one in (weights, reference)]
    now, then = (torch.where(one.S[..., :1] > 0, one.Vh[:, :, 0], torch.nan) for one in found)
    cosines: Tensor = (now * then).sum(dim=-1).abs()
    return cosines


def _finite(weights: Tensor) -> Tensor:
    """In float64 on the CPU; zero for a weight of a run that has diverged, so that its numbers are undefined."""
    weights = weights.cpu().double()
    return torch.where(weights.isfinite().all(dim=(-2, -1))[..., None, None], weights, 0)


def update_ratio(weights: Tensor, reference: Tensor) -> Tensor:
    """Norm of the change of the weights over that of the reference, mean over the layers, shape=[runs]."""
    change, size = (torch.linalg.matrix_norm(one.cpu().double()) for one in (weights - reference, reference))
    ratio: Tensor = change / size
    return ratio.mean(dim=-1)
