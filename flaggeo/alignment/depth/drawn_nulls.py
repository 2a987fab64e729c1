"""What outlier channels do to continuity: seeded nulls that keep the norms alone, and a variant without them."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial

import pandas as pd
import torch
from torch import Tensor

from manifolds import projection_overlap

from ...network import Side, Weight
from ...numerics.spectrum import Spectrum, leading_frames
from ...numerics.threads import ahead, workers
from ..chance.norm_matched import Profile, norm_matched
from ..chance.seeds import seeded_generator
from ..chance.sign_flip import sign_flipped
from ..heads.factors import ProjectionHeads
from ..heads.surrogate_heads import HeadCut
from ..schema import Column, Schema
from .layer_pair import ROLE, SIDE

#: The two seeded nulls. The third kind of row, ``equalised``, is no null but a measurement.
SEEDED_NULLS = ("norm_matched", "sign_flip")

NULL_SCHEMA = Schema(
    "One row for each role, side, null and number: continuity under the nulls that keep outlier channels",
    (
        ROLE,
        SIDE,
        Column(
            "null",
            "str",
            "norm_matched (random weights with the same row and column norms), sign_flip (random signs of the "
            "coordinates) or equalised (no null: the measurement with all coordinates brought to one norm)",
        ),
        Column("measure", "str", "abs_cos_1 or overlap"),
        Column("mean", "float64", "mean over draws, or in closed form, of the mean over neighbouring layers"),
        Column("sd", "float64", "its standard deviation; missing for one draw, and where it has no closed form"),
        Column("draws", "int64", "number of draws; 0 for the closed form, 1 for equalised"),
        Column("closed_form", "float64", "the mean in closed form, whether or not it was drawn; missing for equalised"),
    ),
)

_MEASURES = ("abs_cos_1", "overlap")
# Frames of a surrogate by side, and the leverages of its heads where there are some.
_Drawn = tuple[dict[Side, Tensor], tuple[Tensor, Tensor] | None]


@dataclass(frozen=True)
class Nulls:
    """Continuity of one role under its nulls, and where its surrogates lie.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a side, null and measure; the columns are those of `NULL_SCHEMA`.
    leverages : mapping of str to Tensor
        By subspace (``layers.3.q.read``), shape=[n]: the squared norms of the rows of the leading frame of a
        `norm_matched` surrogate, by `norm_matched_leverages` or averaged over draws. They are in [0, 1] and sum to
        the rank. The signs of the coordinates of a surrogate are free, so the mean projector of its frame is the
        diagonal matrix of the expected leverages, and the mean overlap of two independent surrogates needs no more
        than these. A head (``layers.3.q.heads.0.read``) is cut from the surrogates of its projection.
    whole_head_leverages : mapping of str to Tensor
        The same of all that a head reads from the stream or writes there, see `ProjectionHeads`.
    """

    table: pd.DataFrame
    leverages: Mapping[str, Tensor]
    whole_head_leverages: Mapping[str, Tensor] = field(default_factory=dict)

    def checked_by(self, drawn: "Nulls") -> "Nulls":
        """The same with what was drawn in the place of its closed form, which stays beside it in the table."""
        keys = ["role", "side", "null", "measure"]
        closed = self.table.set_index(keys)["mean"]
        rows = pd.MultiIndex.from_frame(drawn.table[keys])
        known = pd.MultiIndex.from_frame(self.table[keys]).isin(rows)
        beside = drawn.table.assign(closed_form=closed.reindex(rows).to_numpy(dtype=float))
        return Nulls(
            NULL_SCHEMA.concatenated([self.table[~known], beside]),
            {**self.leverages, **drawn.leverages},
            {**self.whole_head_leverages, **drawn.whole_head_leverages},
        )

    @staticmethod
    def joined(roles: Sequence["Nulls"]) -> "Nulls":
        """Those of all these roles as one."""
        table = NULL_SCHEMA.concatenated(nulls.table for nulls in roles)
        return Nulls(
            table,
            {name: found for nulls in roles for name, found in nulls.leverages.items()},
            {name: found for nulls in roles for name, found in nulls.whole_head_leverages.items()},
        )


def continuity_nulls(
    chain: Sequence[Weight],
    spectra: Mapping[str, Spectrum],
    profiles: Mapping[str, Profile],
    heads: Mapping[str, ProjectionHeads] | None = None,
    *,
    draws: int,
    seed: int,
    progress: Callable[[str], None] | None = None,
) -> Nulls:
    r"""Continuity of one role under the two seeded nulls, and with equalised norms.

    Parameters
    ----------
    chain : sequence of Weight
        One role in order of depth, see `layer_chains`.
    spectra : mapping of str to Spectrum
        By name of the weight.
    profiles : mapping of str to Profile
        By name of the weight.
    heads : mapping of str to ProjectionHeads, optional
        By name of the weight that they are parts of; `spectra` has theirs. Without them no head is looked at.
    draws : int
        Random draws of either null, at least 1.
    seed : int
        Equal seeds give equal numbers, in whatever order roles are worked through; each weight and each
        pair has a stream of its own, so that more draws begin with the same ones.
    progress : callable, optional
        Called before each weight with its name.

    Returns
    -------
    nulls : Nulls
        In its table ``mean`` and ``sd`` are over draws of the mean over pairs of neighbouring layers, leaving
        out pairs without a direction; ``sd`` is NaN where there is one draw.

    Notes
    -----
    **norm_matched** replaces every weight of the chain by `norm_matched` surrogates. It keeps the norms
    of rows and columns and destroys the rest. **sign_flip** multiplies one of the two real frames by a
    random sign per coordinate. It keeps how much of a frame lives on each coordinate and destroys how the
    coordinates are combined. Neither is always the larger. **equalised** has no draws: it is the measurement
    itself with the norms of the side's coordinates removed.

    A head has no surrogate of its own: its share of that of its projection keeps what all heads of it have in common
    by outlier channels. Two heads of one surrogate are not quite independent, and yet the mean of their overlap is
    that of :math:`\sum_i p_i q_i`, of their leverages: given the squares of all entries, and so all scales, the signs
    are free, and those of one head may be flipped along the stream without the other's. It lies below the
    product of mean leverages by their covariance, since heads compete for the fixed norm of a channel: in simulations
    by 0.2 % for 9 heads of 64 dimensions in a stream of 576, by 0.6 % for 3 and by 6 % for 2 heads of 8 in 64.

    References
    ----------
    docs/measurements.md, "Nulls that keep outlier channels".
    """
    comparisons: dict[tuple[str, str], list[Future[Tensor]]] = {}
    leverages: dict[str, Tensor] = {}
    whole_heads: dict[str, Tensor] = {}
    earlier: Weight | None = None
    earlier_surrogates: dict[Side, Tensor] = {}
    with workers() as pool:

        def begin(weight: Weight) -> tuple[Weight, HeadCut | None, list[Future[_Drawn]]]:
            cut = HeadCut.of(heads[weight.name], spectra) if heads and weight.name in heads else None
            draw = partial(_surrogate, weight.name, spectra[weight.name], profiles[weight.name], cut, seed)
            return weight, cut, [pool.submit(draw, index) for index in range(draws)]

        for weight, cut, drawn in ahead(map(begin, chain)):
            if progress is not None:
                progress(weight.name)
            frames, of_heads = zip(*(task.result() for task in drawn), strict=True)
            surrogates = {side: torch.stack([of_draw[side] for of_draw in frames]) for side in Side}
            if cut is not None:
                leading, whole = cut.means([found for found in of_heads if found is not None])
                leverages |= leading
                whole_heads |= whole
            for side in Side:
                leverages[f"{weight.name}.{side.value}"] = surrogates[side].square().sum(dim=-1).mean(dim=0)
                if earlier is None or earlier.space(side).dim != weight.space(side).dim:
                    continue
                first, second = (spectra[one.name].frame(side) for one in (earlier, weight))
                flips = seeded_generator(seed, f"sign flip {earlier.name} {weight.name} {side.value}", first.device)
                flipped = torch.stack([sign_flipped(first, flips) for _ in range(draws)])
                for null, pair in {
                    "norm_matched": (earlier_surrogates[side], surrogates[side]),
                    "sign_flip": (flipped, second.expand(draws, -1, -1)),
                    "equalised": tuple(profiles[one.name].equalised(side)[None] for one in (earlier, weight)),
                }.items():
                    comparisons.setdefault((side.value, null), []).append(pool.submit(_compare, *pair))
            earlier, earlier_surrogates = weight, surrogates
    rows = []
    for (side_name, null), of_pairs in comparisons.items():
        means = torch.stack([pair.result() for pair in of_pairs]).nanmean(dim=0)  # [draws, measures], over pairs
        for measure, of_draws in zip(_MEASURES, means.unbind(dim=1), strict=True):
            sd = float(of_draws.std()) if len(of_draws) > 1 else float("nan")
            rows.append(
                {"role": chain[0].role, "side": side_name, "null": null, "measure": measure}
                | {"mean": float(of_draws.mean()), "sd": sd, "draws": len(of_draws), "closed_form": float("nan")}
            )
    return Nulls(NULL_SCHEMA.frame(rows), leverages, whole_heads)


def _surrogate(name: str, spectrum: Spectrum, profile: Profile, cut: HeadCut | None, seed: int, draw: int) -> _Drawn:
    """Leading frames of one surrogate of a weight, as many directions as it has, and leverages of its heads."""
    generator = seeded_generator(seed, f"margin matched {name} {draw}", profile.row_norms.device)
    surrogate = norm_matched(profile.row_norms, profile.column_norms, generator)
    of_heads = None if cut is None else cut.leverages(surrogate)
    rank = spectrum.frame(Side.READ).shape[1]
    if rank == 0:
        return {side: spectrum.frame(side) for side in Side}, of_heads
    right, left = leading_frames(surrogate, rank)
    return {Side.READ: right, Side.WRITE: left}, of_heads


def _compare(first: Tensor, second: Tensor) -> Tensor:
    """The two measures of each pair of frames ``[draws, n, r]``, shape=[draws, 2]; NaN without a direction."""
    if 0 in (first.shape[-1], second.shape[-1]):
        return torch.full((len(first), 2), float("nan"), dtype=torch.float64)
    # One layout, so that frames recalled from a scratch give the same bits as those just computed.
    first, second = first.contiguous(), second.contiguous()
    cosines = (first[..., 0] * second[..., 0]).sum(dim=-1).abs().clamp(max=1)
    return torch.stack([cosines, projection_overlap(first, second)], dim=1).double().cpu()
