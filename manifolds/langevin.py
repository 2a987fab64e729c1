"""Random frames around a given one: the matrix Langevin (von Mises-Fisher) distribution, sampled exactly."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .checks import require_tall
from .frames import residual

# Proposals for each frame after which the sampler gives up.
_MAX_PROPOSALS = 2**20
# Entries of all proposals that exist at a time: 16 MiB in float64.
_PROPOSED_ENTRIES = 2**21


class AcceptanceError(ArithmeticError):
    """A rejection sampler accepted too few proposals."""


@torch.no_grad()
def langevin_frame(parameter: Tensor, batch: Sequence[int] = (), *, generator: torch.Generator | None = None) -> Tensor:
    r"""Independent orthonormal frames from a matrix Langevin (von Mises-Fisher) distribution.

    Its density with respect to uniform frames is proportional to

    .. math:: \exp \operatorname{tr}(F^\top X), \qquad F = U \operatorname{diag}(\kappa) V^\top.

    The most likely frame is ``U V'``, the polar factor of F, and the singular values :math:`\kappa_i` are the
    concentrations around it. For F = 0 frames are uniform. Where all concentrations are large, the columns i and j of
    ``X V`` turn into each other by angles of variance :math:`1 / (\kappa_i + \kappa_j)`, and column i turns into each
    direction orthogonal to U by angles of variance :math:`1 / \kappa_i`. The spans of the leading columns of a frame
    from ``F = P * kappa`` are noisy copies of the subspaces of the flag of a frame P.

    Parameters
    ----------
    parameter : Tensor, shape=[n, k]
        The matrix F, with 1 <= k < n.
    batch : sequence of int
        Leading axes of the result, whose shape is ``[*batch, n, k]``.
    generator : torch.Generator, optional
        On the device of `parameter`; torch's own by default.

    Raises
    ------
    AcceptanceError
        If about a million proposals for each frame do not suffice, which happens for more than 8 large concentrations.

    Notes
    -----
    The samples are exact. The columns are proposed one after the other, each on the sphere orthogonal to those before
    it, around the projection of its own column of F, as in [1]_, but from the envelope of [2]_ instead of the von
    Mises-Fisher law of a vector, so that no Bessel function enters; each is accepted or not at once. At small
    concentrations nearly all proposals are accepted. For k equal concentrations the accepted share falls, as they
    grow, to about ``2 ** (-k * (k + 1) / 4)``, and no further: 0.7, 0.35, 0.12, 0.03, 0.006, 0.0007 for k = 1 to 6.

    References
    ----------
    .. [1] P. D. Hoff, Simulation of the matrix Bingham-von Mises-Fisher distribution, with applications to multivariate
       and relational data, J. Comput. Graph. Statist. 18 (2009).
    .. [2] A. T. A. Wood, Simulation of the von Mises Fisher distribution, Comm. Statist. Simulation Comput. 23 (1994).

    Examples
    --------
    >>> centre = torch.eye(5, dtype=torch.float64)[:, :2]
    >>> frames = langevin_frame(1e4 * centre, (3,), generator=torch.Generator().manual_seed(0))
    >>> frames.shape, bool((frames - centre).abs().max() < 0.1)
    (torch.Size([3, 5, 2]), True)
    """
    require_tall(parameter, "parameter")
    n, k = parameter.shape[-2:]
    if parameter.ndim > 2 or not 1 <= k < n or not bool(parameter.isfinite().all()):
        raise ValueError(
            "langevin_frame expected one parameter of finite entries and shape [n, k] with 1 <= k < n; got shape "
            f"{tuple(parameter.shape)}."
        )
    modes, concentrations, turn = torch.linalg.svd(parameter, full_matrices=False)
    count, accepted = math.prod(batch), [parameter.new_empty(0, n, k)]
    found, proposed = 0, 0
    while found < count:
        if proposed >= _MAX_PROPOSALS * (found + 1):
            raise AcceptanceError(
                f"langevin_frame accepted {found} of {proposed} proposals of {k} columns with concentrations from "
                f"{float(concentrations[-1]):.1e} to {float(concentrations[0]):.1e}; it is meant for fewer columns."
            )
        wanted = (count - found) * (proposed + 1) // (found + 1)  # at the rate of acceptance so far
        size = min(wanted, max(1, _PROPOSED_ENTRIES // (n * k)))
        frames = parameter.new_empty(size, n, 0)
        for column in range(k):
            frames = _with_next_column(frames, modes[:, column, None], concentrations[column], generator)
        accepted.append(frames)
        found, proposed = found + len(frames), proposed + size
    return (torch.cat(accepted)[:count] @ turn).reshape(*batch, n, k)


def _with_next_column(frames: Tensor, mode: Tensor, concentration: Tensor, generator: torch.Generator | None) -> Tensor:
    """Propose one more column for each frame, around a mode, and keep the frames that are accepted."""
    count, n, columns = frames.shape
    d = n - columns - 1  # dimension of the unit sphere orthogonal to the columns so far
    gaussian = torch.randn(count, n, 1, generator=generator, dtype=frames.dtype, device=frames.device)
    uniform = _unit(residual(gaussian, frames))
    centre = _unit(residual(mode, frames))
    along = (centre * uniform).sum(dim=-2, keepdim=True)
    # The projection of the mode is shorter than 1, and the concentration on the sphere is smaller by that factor.
    lost = (frames.mT @ mode).square().sum(dim=-2, keepdim=True)
    projected = concentration * (1 - lost).clamp(min=0).sqrt()
    root, full_root = (torch.sqrt(d**2 + 4 * kappa.square()) for kappa in (projected, concentration))
    # The envelope is what a Möbius transformation towards the centre makes of the uniform law.
    pull = 2 * projected / (d + root)
    stretch = 1 + pull * along
    moved = ((along + pull) * centre + torch.sqrt(2 * d / (d + root)) * (uniform - along * centre)) / stretch
    # The ratio of density to envelope has a maximum over the sphere, of logarithm
    # (root - d) / 2 + d / 2 * log(2 d / (d + root)), which rises with root. A proposal is accepted with the share of
    # its ratio in that maximum, times the share of that maximum in the one where no length is lost.
    log_share = d * (pull * along / stretch - stretch.log())
    difference = 4 * concentration.square() * lost / (root + full_root)  # full_root - root, without cancellation
    log_share += (d * torch.log1p(difference / (d + root)) - difference) / 2
    draws = torch.rand(count, generator=generator, dtype=frames.dtype, device=frames.device)
    return torch.cat([frames, _unit(moved)], dim=-1)[draws.log() < log_share[:, 0, 0]]


def _unit(vectors: Tensor) -> Tensor:
    return vectors / torch.linalg.vector_norm(vectors, dim=-2, keepdim=True)
