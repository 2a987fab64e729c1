"""Whether an overlap would stand at another rank, and with numbers stored more exactly."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...network import Side, Weight
from ...numerics.products import matrix_product
from ...numerics.spectrum import Spectrum
from ...numerics.threads import workers
from ..chance.coupling import Places, blocks, runs
from ..schema import Column, Schema
from ..table import q_values
from .overlap import PROJECTION_OVERLAP
from .pair_table import Pairs, pairs_by_space

#: Standard deviations of an overlap's change that rounding may cost it.
DEVIATIONS = 3.0
#: Pairs of at most this q-value and more overlap than every null gives are asked: the edges of any graph of interest.
QUESTIONED = 0.05

# A rotation by any angle moves an overlap by sin(2 angle) / 2 at most, of this mean square over all angles.
_LARGEST_VARIANCE = 1 / 8
_CONDITIONS = {
    "half_rank": "of the leading subspaces of half the rank",
    "double_rank": "of those of twice the rank",
    "rounded": "at the rank, every overlap lowered by its `rounding_loss`",
}


def stability_schema() -> Schema:
    """Columns of `stability_table`."""
    measured = [
        Column(f"{condition}_{number}", "float64", f"`overlap_{number}` {text}; see the table of pairs")
        for condition, text in _CONDITIONS.items()
        for number in ("excess", "q_value")
    ]
    return Schema(
        f"One row for each pair that is significant: of a q-value of at most {QUESTIONED} and more overlap than "
        "every null gives; empty unless stability was measured",
        (
            Column("source", "str", "the earlier subspace: `layers.3.q.read`"),
            Column("target", "str", "the later one"),
            Column("kind", "str", "write-read, read-read or write-write"),
            *measured,
            Column(
                "rounding_loss",
                "float64",
                "what rounding in storage may have added to the overlap: three standard deviations, to first order",
            ),
        ),
    )


@dataclass(frozen=True)
class Rotation:
    """How far rounding errors turn a leading subspace, to first order.

    Attributes
    ----------
    frame : Tensor, shape=[n, r + w]
        Of the subspace, and after it the singular directions behind it that are at hand.
    towards : Tensor, shape=[w, r]
        Variance of the turn of each direction of the subspace towards each of those behind it.
    beyond : Tensor, shape=[r]
        Largest variance of its turn towards any other direction.
    """

    frame: Tensor
    towards: Tensor
    beyond: Tensor


def rotation(spectrum: Spectrum, rank: int, side: Side, noise: float) -> Rotation:
    r"""Turn of a leading singular subspace under independent rounding errors of the entries.

    .. math:: \mathrm{Var}(x_{ij}) = s^2 \frac{\sigma_i^2 + \sigma_j^2}{(\sigma_i^2 - \sigma_j^2)^2}

    where :math:`x_{ij}` is the component along direction i of what errors of standard deviation s add to direction j.

    Parameters
    ----------
    spectrum : Spectrum
        With more directions than the rank, unless the matrix has no more.
    rank : int
        Dimension of the subspace.
    side : Side
    noise : float
        Standard deviation s of the error of an entry, in the units of the matrix.

    Returns
    -------
    rotation : Rotation
        Variances are at most 1/8, where the first order ends.

    References
    ----------
    .. [1] G. W. Stewart and J. Sun, Matrix Perturbation Theory (1990), section V.4.
    """
    frame = spectrum.frame(side)
    wide = frame.shape[1]
    rank = min(rank, wide)
    squares = spectrum.known_values.square()
    last = squares[wide] if wide < len(squares) else squares.new_zeros(())

    def variance(inside: Tensor, outside: Tensor) -> Tensor:
        ratio = (inside + outside) / (inside - outside).square().clamp(min=torch.finfo(inside.dtype).tiny)
        return (noise**2 * ratio).clamp(max=_LARGEST_VARIANCE)

    return Rotation(
        frame=frame,
        towards=variance(squares[:rank], squares[rank:wide, None]),
        beyond=variance(squares[:rank], last),
    )


def rounding_loss(one: Rotation, others: Sequence[Rotation]) -> Tensor:
    r"""What rounding errors may have added to projection overlaps: `DEVIATIONS` standard deviations, to first order.

    Parameters
    ----------
    one : Rotation
        Of the first subspace of every pair.
    others : sequence of Rotation
        Of the second ones, of the same numbers of directions.

    Returns
    -------
    loss : Tensor, shape=[pairs]

    Notes
    -----
    A turn x of the first subspace changes :math:`\lVert A^\top B \rVert_F^2` by
    :math:`2 \langle x, A_\perp^\top B B^\top A \rangle`. The components of this matrix along the directions at hand are
    weighted with the variance of their turns; the others, of which the sum of squares is known, with the largest.
    """
    ranks = one.towards.shape[1], others[0].towards.shape[1]
    rows = torch.cat([other.frame.mT for other in others])
    products = matrix_product(rows, one.frame).unflatten(0, (len(others), -1))  # of all directions at hand
    variance = products.new_zeros(len(others))
    for turns, of_turning, (rank, held) in (([one], products.mT, ranks), (others, products, ranks[::-1])):
        inside, behind = of_turning[..., :rank, :held], of_turning[..., rank:, :held]
        along, gram = behind @ inside.mT, inside @ inside.mT
        beyond = gram.diagonal(dim1=-2, dim2=-1) - gram.square().sum(dim=-2) - along.square().sum(dim=-2)
        near = torch.stack([turn.towards for turn in turns]) * along.square()
        far = torch.stack([turn.beyond for turn in turns]) * beyond.clamp(min=0)
        variance += near.sum(dim=(-2, -1)) + far.sum(dim=-1)
    loss: Tensor = DEVIATIONS * 2 * variance.sqrt() / min(ranks)
    return loss


def stability_table(
    weights: Iterable[Weight],
    spectra: Mapping[str, Spectrum],
    rounding_errors: Mapping[str, float],
    pairs: pd.DataFrame,
    surrogate_leverages: Mapping[str, Tensor] | None = None,
    *,
    rank: int,
) -> pd.DataFrame:
    """Excess and q-value of every overlap at half and twice the rank, and lowered by what rounding may have added.

    Parameters
    ----------
    weights : iterable of Weight
    spectra : mapping of str to Spectrum
        By name of the weight, with twice the rank of directions where the matrix has them.
    rounding_errors : mapping of str to float
        By name of the weight: size of the errors of its entries relative to theirs, see
        `flaggeo.checkpoint.rounding.rounding_error`.
    pairs : pandas.DataFrame
        From `pair_table`, of the same weights and rank.
    surrogate_leverages : mapping of str to Tensor, optional
        As for `pair_table`. They belong to the rank itself: at the others the norm-matched null is missing.
    rank : int
        Number of singular directions that pairs are compared at.

    Returns
    -------
    table : pandas.DataFrame
        One row for each significant pair; the columns are those of `stability_schema`.

    Notes
    -----
    The others count as not significant under every condition, which can only raise the q-values: most of a network's
    pairs are unrelated at every rank, and their laws would take most of the time.

    References
    ----------
    docs/measurements.md, "Would this edge survive?".
    """
    weights = list(weights)

    is_asked = ((pairs["overlap_q_value"] <= QUESTIONED) & (pairs["overlap_excess"] > 0)).to_numpy()
    of_kind = Counter(pairs["kind"])

    def leading(number: int) -> list[Pairs]:
        """Significant pairs at another rank: the same ones, in the same order."""
        found = pairs_by_space(weights, {weight.name: spectra[weight.name].leading(number) for weight in weights})
        *asked, _ = np.split(is_asked, np.cumsum([len(one.first) for one in found], dtype=int))
        return [one.only(of_space) for one, of_space in zip(found, asked, strict=True)]

    turns = {
        f"{weight.name}.{side.value}": rotation(
            spectra[weight.name], rank, side, rounding_errors[weight.name] * spectra[weight.name].mean_entry
        )
        for weight in weights
        for side in weight.sides
    }
    found = leading(rank)
    losses = [_losses(one, turns) for one in found]
    conditions = {
        "half_rank": _tested(leading(max(1, rank // 2)), of_kind),
        "double_rank": _tested(leading(2 * rank), of_kind),
        "rounded": _tested(found, of_kind, losses, surrogate_leverages),
    }
    table = stability_schema().concatenated(
        {"source": one.names[one.first], "target": one.names[one.second], "kind": one.kinds} | {"rounding_loss": loss}
        for one, loss in zip(found, losses, strict=True)
    )
    for condition, numbers in conditions.items():
        table[[f"{condition}_{name}" for name in numbers]] = numbers
    return table


def _losses(pairs: Pairs, turns: Mapping[str, Rotation]) -> NDArray[np.float64]:
    """`rounding_loss` of all pairs, those of equal dimensions together."""
    ends = [turns[name] for name in pairs.names]
    shapes = np.array([tuple(turn.towards.shape) for turn in ends])  # directions beyond the subspace, and in it
    together = np.unique(np.hstack([shapes[pairs.first], shapes[pairs.second]]), axis=0, return_inverse=True)[1].ravel()
    losses, entries = np.empty(len(pairs.first)), max(turn.frame.numel() for turn in ends)

    def of_block(block: Places) -> Tensor:
        return rounding_loss(ends[pairs.first[block[0]]], [ends[place] for place in pairs.second[block]]).cpu()

    with workers() as pool:
        for rows in runs(np.arange(len(together)), together):
            parts = list(blocks(rows, pairs.first[rows], entries))
            for block, found in zip(parts, pool.map(of_block, parts), strict=True):
                losses[block] = found
    return losses


def _tested(
    found: list[Pairs],
    of_kind: Mapping[str, int],
    losses: list[NDArray[np.float64]] | None = None,
    surrogates: Mapping[str, Tensor] | None = None,
) -> pd.DataFrame:
    """Excess and q-value of overlaps lowered by the losses, among so many pairs of each kind."""
    name = PROJECTION_OVERLAP.column
    parts = []
    for number, pairs in enumerate(found):
        if len(pairs.first):
            overlaps = pairs.measured((PROJECTION_OVERLAP,))[name] - (losses[number] if losses else 0.0)
            parts.append(pd.DataFrame(pairs.tested(overlaps, surrogates or {})))
    if not parts:
        return pd.DataFrame(columns=["excess", "q_value"], dtype="float64")
    table = pd.concat(parts, ignore_index=True)
    found_q = q_values(table, PROJECTION_OVERLAP, "kind", of_kind)
    return pd.DataFrame({"excess": table[f"{name}_excess"], "q_value": found_q})
