"""How the first direction of a weight lies to the coordinates of its space: spread out, on few, or along all alike."""

from math import nan

from torch import Tensor


def participation_ratio(frame: Tensor) -> float:
    r"""On how many coordinates the first direction of a frame lives.

    .. math:: \mathrm{PR} = \frac{1}{\sum_i v_i^4}

    Parameters
    ----------
    frame : Tensor, shape=[n, r]
        Orthonormal; r may be 0.

    Returns
    -------
    ratio : float
        In coordinates, from 1 (a single channel) to n (all equally); about n / 3 for a random direction. NaN
        where there is no direction.

    Notes
    -----
    It depends on the basis of the space: unchanged by permutations and signs of the coordinates only.

    References
    ----------
    docs/measurements.md, "Continuity across layers".

    Examples
    --------
    >>> import torch
    >>> participation_ratio(torch.tensor([[0.5], [-0.5], [0.5], [0.5], [0.0]]))
    4.0
    """
    return float(1 / frame[:, 0].pow(4).sum()) if frame.shape[1] else nan


def constant_component(frame: Tensor) -> float:
    r"""Absolute cosine of the first direction of a frame with the constant vector.

    .. math:: |\langle v_1, \mathbf{1} / \sqrt{n} \rangle|

    Parameters
    ----------
    frame : Tensor, shape=[n, r]
        Orthonormal; r may be 0.

    Returns
    -------
    cosine : float
        In [0, 1]; for a random direction see `manifolds.abs_cosine_moments`. NaN where there is no direction.

    Notes
    -----
    It depends on the basis of the space: unchanged by permutations of the coordinates only. In the stream of a
    LayerNorm model the constant direction is removed before every reading.

    References
    ----------
    docs/measurements.md, "Continuity across layers".

    Examples
    --------
    >>> import torch
    >>> constant_component(torch.tensor([[0.5], [0.5], [0.5], [-0.5]]))
    0.5
    """
    return min(abs(float(frame[:, 0].sum())) / len(frame) ** 0.5, 1.0) if frame.shape[1] else nan
