"""What kind of change took a weight from one checkpoint to the other: its size, its rank, where it lies."""

import math
from typing import Any

import torch
from torch import Tensor

from manifolds import overlap_moments, projection_overlap

from ..network import Side
from ..numerics.spectrum import Spectrum, leading_spectrum, singular_values
from .change import Change
from .drift import CURVE

#: A change of a rank up to this share of the smaller side is low-rank.
LOW_RANK_SHARE = 0.25
#: A leading singular vector that has no larger |cos| with any of the base is an intruder (Shuttleworth et al.).
INTRUDER_COSINE = 0.5

#: Singular values of a change that are counted where not all are wanted.
COUNTED = 64

# The largest singular value of rounding noise stays below this many times its estimate.
_MARGIN = 1.2


#: Shares of the energy of a change, in percent, of which it is said how many directions hold them.
HELD = (90, 99)

#: What is known of the size and rank of a change that was not measured.
UNRANKED: dict[str, Any] = (
    {"relative_norm": math.nan, "rounding": math.nan, "rank": None, "rank_is_exact": False, "low_rank": False}
    | {"effective_rank": math.nan}
    | {f"rank_{share}": None for share in HELD}
    | {f"energy_{count}": math.nan for count in CURVE}
)
#: Columns of a weight that was changed by nothing, or of which no matrix was at hand.
UNKNOWN: dict[str, Any] = UNRANKED | {
    f"{side.value}_{column}": math.nan
    for side in Side
    for column in ("inside", "inside_null", "inside_z", "trailing", "trailing_null", "intruders")
}


def measure_delta(
    change: Change,
    base: Tensor | None,
    *,
    base_frames: dict[Side, Tensor],
    changed_frames: dict[Side, Tensor],
) -> dict[str, Any]:
    """Measure the difference D of two versions of one weight.

    Parameters
    ----------
    change : Change
    base : Tensor, shape=[m, n], or None
        The version before, of which all singular directions are found, as are all singular values of D: a time that
        grows with the cube of the smaller side. None for the leading `COUNTED` values of D alone.
    base_frames, changed_frames : dict of Side to Tensor
        Leading singular vectors of each, shape=[n or m, k].

    Returns
    -------
    columns : dict
        Those of `measure_rank`. For each side, ``inside`` is the overlap of the leading directions of D with the
        leading subspace of the base, with Haar mean and z. Missing without the base: ``trailing``, the share of these
        directions in the trailing half of the base's singular directions, with the kernel, and ``intruders``, the
        number of leading singular vectors of the changed weight that have ``|cos|`` below `INTRUDER_COSINE` with every
        one of the base.

    References
    ----------
    docs/measurements.md, "Unrelated weights", for the null; R. Shuttleworth et al., LoRA vs full fine-tuning: an
    illusion of equivalence (arXiv:2410.21228), for intruder dimensions.
    """
    columns, leading = measure_rank(change, whole=base is not None)
    columns = UNKNOWN | columns
    if not columns["rank"] or change.base_norm == 0:
        return columns
    whole = {} if base is None else _singular_directions(base.to(change.difference.dtype))
    moved = leading_directions(change, leading, columns["rank"], base_frames[Side.READ].shape[1])
    for side, directions in moved.items():
        found = inside(directions, base_frames[side])
        if side in whole:
            found |= _among(directions, whole[side], changed_frames[side])
        columns |= {f"{side.value}_{column}": value for column, value in found.items()}
    return columns


def measure_rank(change: Change, *, whole: bool) -> tuple[dict[str, Any], Spectrum | None]:
    """Measure the size and the rank of a difference D.

    Parameters
    ----------
    change : Change
    whole : bool
        Whether to find all singular values of D, in a time that grows with the cube of its smaller side, or the
        leading `COUNTED` alone, of which those that rounding explains may be too small.

    Returns
    -------
    columns : dict
        ``relative_norm`` is ``|D| / |base|`` and ``rounding`` the same for the expected rounding error, both in
        the Frobenius norm. ``rank`` counts the singular values of D above what rounding alone can give;
        ``rank_is_exact`` is False where not all are known and all that are, `COUNTED` and one more, are above.
        ``effective_rank`` is the exponential of the entropy of their squares, missing where the rank is not exact.
        ``low_rank`` says that they are few (at most a quarter) and that rounding explains the rest. ``energy_k`` is the
        share of ``|D|^2`` in its leading k directions; ``rank_90`` and ``rank_99`` are the numbers of directions that
        hold 90 and 99 % of it, missing where more would be needed than are known.
    leading : Spectrum or None
        Leading directions of D, where they were found on the way.

    References
    ----------
    arXiv:2605.04971, equation 3, for the effective rank.
    """
    difference, size, noise = change.difference, change.base_norm, change.noise
    norm = change.norm
    columns = UNRANKED | {
        "relative_norm": norm / size if size else math.nan,
        "rounding": noise.frobenius_norm / size if size else math.nan,
        "rank": 0,
        "rank_is_exact": True,
    }
    if norm == 0:
        return columns, None
    leading = None if whole else leading_spectrum(difference, COUNTED, least=noise.norm)
    values = singular_values(difference) if leading is None else leading.known_values
    above = values[values > _MARGIN * noise.norm].square()
    rank, energy = len(above), float(values.square().sum()) if leading is None else leading.frobenius_norm**2
    is_exact = rank < len(values) or len(values) == min(difference.shape)
    held = values.square().cumsum(dim=0) / energy
    columns |= {f"energy_{k}": float(held[k - 1]) for k in CURVE if k <= len(values)}
    columns |= {f"rank_{share}": _first_at(held, share / 100) for share in HELD}
    columns |= {"rank": rank, "rank_is_exact": is_exact}
    if rank and is_exact:
        shares = above / above.sum()
        unexplained = math.sqrt(max(0.0, energy - float(above.sum())))
        columns |= {
            "low_rank": rank <= LOW_RANK_SHARE * min(difference.shape)
            and unexplained <= max(_MARGIN * noise.frobenius_norm, float(values[0]) * 1e-6),
            "effective_rank": float(torch.exp(-torch.special.xlogy(shares, shares).sum())),
        }
    return columns, leading


def _first_at(held: Tensor, share: float) -> int | None:
    """Number of directions that hold a share of the energy, if so many are known."""
    below = int((held < share).sum())
    return below + 1 if below < len(held) else None


def leading_directions(change: Change, leading: Spectrum | None, rank: int, most: int) -> dict[Side, Tensor]:
    """Leading directions of a change on either side, shape=[n or m, k]: as many as its rank, and at most so many.

    Parameters
    ----------
    change : Change
    leading : Spectrum or None
        From `measure_rank`.
    rank, most : int
    """
    count = min(rank, max(1, most))
    leading = leading or leading_spectrum(change.difference, count)
    return {side: leading.frame(side)[:, :count] for side in Side}


def _singular_directions(base: Tensor) -> dict[Side, Tensor]:
    """All of a weight, but for its kernel."""
    left, values, right = torch.linalg.svd(base, full_matrices=False)
    kept = values > values[0] * len(values) * torch.finfo(base.dtype).eps
    return {Side.READ: right.mT[:, kept], Side.WRITE: left[:, kept]}


def inside(moved: Tensor, base_frame: Tensor) -> dict[str, float]:
    """How much of the directions of a change lies in the leading subspace of the base, shape=[n, r] and [n, k]."""
    if not base_frame.shape[1]:
        return {}
    dim, count = moved.shape
    mean, spread = overlap_moments(dim, count, base_frame.shape[1])
    overlap = min(1.0, float(projection_overlap(moved, base_frame.to(moved))))
    return {"inside": overlap, "inside_null": mean, "inside_z": (overlap - mean) / spread if spread else math.nan}


def _among(moved: Tensor, whole: Tensor, changed_frame: Tensor) -> dict[str, float | int]:
    """Where the directions of a change lie among all singular directions of the base."""
    dim, count = moved.shape
    half = (whole.shape[1] + 1) // 2
    products = whole.mT.to(moved) @ moved
    return {
        "trailing": max(0.0, 1 - float(products[:half].square().sum()) / count),
        "trailing_null": 1 - half / dim,
        "intruders": int(((whole.mT.to(changed_frame) @ changed_frame).abs().amax(dim=0) < INTRUDER_COSINE).sum()),
    }
