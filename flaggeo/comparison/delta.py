"""What kind of change took a weight from one checkpoint to the other: its size, its rank, where it lies."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from manifolds import overlap_moments, projection_overlap

from ..checkpoint.rounding import rounding_steps
from ..network import Side
from ..numerics.spectrum import leading_spectrum, singular_values
from .drift import CURVE

#: A change of a rank up to this share of the smaller side is low-rank.
LOW_RANK_SHARE = 0.25
#: A leading singular vector that has no larger |cos| with any of the base is an intruder (Shuttleworth et al.).
INTRUDER_COSINE = 0.5

# The largest singular value of rounding noise stays below this many times its estimate.
_MARGIN = 1.2
_FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@dataclass(frozen=True)
class Rounding:
    """What is known of the errors that storing a matrix in its dtype left in it.

    Attributes
    ----------
    norm : float
        Estimate of their largest singular value.
    frobenius_norm : float
        Of the same errors.
    """

    norm: float
    frobenius_norm: float

    def and_also(self, other: "Rounding") -> "Rounding":
        """Of the difference of two matrices with independent errors."""
        return Rounding(math.hypot(self.norm, other.norm), math.hypot(self.frobenius_norm, other.frobenius_norm))


EXACT = Rounding(0.0, 0.0)


def rounding_variance(stored: Tensor, dtype: str) -> Tensor:
    r"""Variance of each entry's rounding error, taken to be uniform over one step of the stored dtype.

    Parameters
    ----------
    stored : Tensor, shape=[rows, columns]
        As read from the checkpoint, in its layout.
    dtype : str
        In the format's spelling: ``BF16``, ``Q4_K`` ...

    Returns
    -------
    variance : Tensor, shape=[rows, columns]
        ``step^2 / 12``. The step of a floating dtype is taken as ``eps |w|``, the largest that it can be; that of
        fewer bits as `flaggeo.checkpoint.rounding.rounding_steps` has it.
    """
    if dtype in _FLOATS:
        limits = torch.finfo(_FLOATS[dtype])
        steps = stored.abs().to(torch.float32) * limits.eps + limits.smallest_normal * limits.eps
    else:
        steps = rounding_steps(stored, dtype).to(torch.float32)
    return steps.square() / 12


def rounding(variance: Tensor) -> Rounding:
    """Norms of independent errors with these variances.

    The largest singular value of a matrix of independent entries is close to the largest norm of a row plus
    the largest of a column of the standard deviations, and ``sd (sqrt(m) + sqrt(n))`` where they are equal.

    References
    ----------
    A. S. Bandeira and R. van Handel, Sharp nonasymptotic bounds on the norm of random matrices with
    independent entries, Ann. Probab. 44 (2016).
    """
    rows, columns = variance.sum(dim=1), variance.sum(dim=0)
    return Rounding(float(rows.max().sqrt() + columns.max().sqrt()), float(rows.sum().sqrt()))


def gain_rounding(variance: Tensor, diagonal: Tensor, values: Tensor) -> Rounding:
    """Norms of what the rounding errors of a gain leave in the matrix that it is folded into.

    A coordinate is off by one factor in all its entries, so that the errors follow the matrix and not the law of
    independent ones: the largest is at most the largest singular value times the largest relative error.

    Parameters
    ----------
    variance : Tensor, shape=[n]
        Of the stored numbers, from `rounding_variance`.
    diagonal : Tensor, shape=[n]
        The gains.
    values : Tensor, shape=[k]
        Singular values of the matrix with the gain folded in, descending.
    """
    relative = float(torch.where(diagonal != 0, variance.sqrt() / diagonal.abs(), 0).max())
    # A uniform error is at most sqrt(3) times its standard deviation.
    return Rounding(math.sqrt(3) * relative * float(values[0]), relative * float(values.norm()))


#: Columns of a weight that was changed by nothing, or of which no matrix was at hand.
UNKNOWN: dict[str, Any] = (
    {"relative_norm": math.nan, "rounding": math.nan, "rank": None, "low_rank": False, "effective_rank": math.nan}
    | {f"energy_{count}": math.nan for count in CURVE}
    | {
        f"{side.value}_{column}": math.nan
        for side in Side
        for column in ("inside", "inside_null", "inside_z", "trailing", "trailing_null", "intruders")
    }
)


def measure_delta(
    base: Tensor,
    changed: Tensor,
    *,
    base_frames: dict[Side, Tensor],
    changed_frames: dict[Side, Tensor],
    noise: Rounding,
) -> dict[str, Any]:
    """Measure the difference D of two versions of one weight.

    Parameters
    ----------
    base, changed : Tensor, shape=[m, n]
    base_frames, changed_frames : dict of Side to Tensor
        Leading singular vectors of each, shape=[n or m, k].
    noise : Rounding
        Of the difference.

    Returns
    -------
    columns : dict
        ``relative_norm`` is ``|D| / |base|`` and ``rounding`` the same for the expected rounding error, both in
        the Frobenius norm. ``rank`` counts the singular values of D above what rounding alone can give, and
        ``effective_rank`` is the exponential of the entropy of their squares. ``low_rank`` says that they are few
        (at most a quarter) and that rounding explains the rest. ``energy_k`` is the share of ``|D|^2`` in its
        leading k directions. For each side, ``inside`` is the overlap of the leading directions of D with the
        leading subspace of the base, with Haar mean and z; ``trailing`` the share of them in the trailing half
        of the base's singular directions, with the kernel; ``intruders`` counts leading singular vectors of
        the changed weight that have ``|cos|`` below `INTRUDER_COSINE` with every one of the base.

    References
    ----------
    docs/measurements.md, "Unrelated weights", for the null; arXiv:2605.04971, equation 3, for the effective rank;
    R. Shuttleworth et al., LoRA vs full fine-tuning: an illusion of equivalence (arXiv:2410.21228), for intruder
    dimensions.
    """
    dtype = torch.promote_types(torch.promote_types(base.dtype, changed.dtype), torch.float32)
    base, difference = base.to(dtype), changed.to(dtype) - base.to(dtype)
    size, norm = float(base.norm()), float(difference.norm())
    columns = UNKNOWN | {
        "relative_norm": norm / size if size else math.nan,
        "rounding": noise.frobenius_norm / size if size else math.nan,
        "rank": 0,
    }
    if norm == 0:
        return columns
    values = singular_values(difference)
    above = values[values > _MARGIN * noise.norm].square()
    rank, energy = len(above), values.square().sum()
    columns |= {f"energy_{k}": float(values[:k].square().sum() / energy) for k in CURVE if k <= len(values)}
    if rank == 0:
        return columns
    shares = above / above.sum()
    unexplained = float((energy - above.sum()).clamp(min=0).sqrt())
    columns |= {
        "rank": rank,
        "low_rank": rank <= LOW_RANK_SHARE * len(values)
        and unexplained <= max(_MARGIN * noise.frobenius_norm, float(values[0]) * 1e-6),
        "effective_rank": float(torch.exp(-torch.special.xlogy(shares, shares).sum())),
    }
    if size == 0:
        return columns
    left, base_values, right = torch.linalg.svd(base, full_matrices=False)
    kept = base_values > base_values[0] * len(base_values) * torch.finfo(dtype).eps
    for side, whole in ((Side.READ, right.mT[:, kept]), (Side.WRITE, left[:, kept])):
        leading = leading_spectrum(difference, min(rank, max(1, base_frames[side].shape[1]))).frame(side)
        columns |= _place(leading, whole, base_frames[side], changed_frames[side], side)
    return columns


def _place(
    moved: Tensor, whole: Tensor, base_frame: Tensor, changed_frame: Tensor, side: Side
) -> dict[str, float | int]:
    """Where the directions of a change lie among all singular directions of the base."""
    columns: dict[str, float | int] = {}
    dim, count = moved.shape
    if base_frame.shape[1]:
        mean, spread = overlap_moments(dim, count, base_frame.shape[1])
        inside = min(1.0, float(projection_overlap(moved, base_frame.to(moved))))
        columns |= {"inside": inside, "inside_null": mean, "inside_z": (inside - mean) / spread if spread else math.nan}
    half = (whole.shape[1] + 1) // 2
    products = whole.mT.to(moved) @ moved
    columns |= {
        "trailing": max(0.0, 1 - float(products[:half].square().sum()) / count),
        "trailing_null": 1 - half / dim,
        "intruders": int(((whole.mT.to(changed_frame) @ changed_frame).abs().amax(dim=0) < INTRUDER_COSINE).sum()),
    }
    return {f"{side.value}_{column}": value for column, value in columns.items()}
