"""What the loudness of single channels does to continuity: seeded nulls that keep it alone, a variant without it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256

import pandas as pd
import torch
from torch import Tensor

from manifolds import projection_overlap

from ..network import Side, Weight
from ..spectrum import Spectrum, leading_frames
from ..threads import one_ahead, workers
from .head_factors import ProjectionHeads
from .head_nulls import HeadCut

NULL_COLUMNS = ("role", "side", "null", "measure", "mean", "sd", "draws")
#: The two seeded nulls. The third kind of row, ``equalised``, is no null but a measurement.
SEEDED_NULLS = ("margin_matched", "sign_flip")

_MEASURES = ("abs_cos_1", "overlap")
# Frames of a surrogate by side, and the leverages of its heads where there are some.
_Drawn = tuple[dict[Side, Tensor], tuple[Tensor, Tensor] | None]
# Rounds of rescaling, after which the column norms of trained weights are met to 1e-4.
_ROUNDS = 4


@dataclass(frozen=True)
class Profile:
    """What the nulls need of a matrix W of shape [m, n] once the matrix itself is gone.

    Attributes
    ----------
    row_norms : Tensor, shape=[m]
    column_norms : Tensor, shape=[n]
        Euclidean norms, in at least float32.
    equalised_left : Tensor, shape=[m, r]
        Leading left singular vectors of W with every row rescaled to unit norm: what W writes when no
        channel is louder than another.
    equalised_right : Tensor, shape=[n, r]
        Leading right singular vectors of W with every column rescaled to unit norm.
    """

    row_norms: Tensor
    column_norms: Tensor
    equalised_left: Tensor
    equalised_right: Tensor

    def equalised(self, side: Side) -> Tensor:
        """Equalised frame of what the weight reads or writes."""
        return self.equalised_right if side is Side.READ else self.equalised_left


@dataclass(frozen=True)
class Nulls:
    """Continuity of one role under its nulls, and where its surrogates lie.

    Attributes
    ----------
    table : pandas.DataFrame
        One row a side, null and measure; the columns are `NULL_COLUMNS`.
    leverages : mapping of str to Tensor
        By subspace (``layers.3.q.read``), shape=[n]: the squared norms of the rows of the leading frame of a
        `margin_matched` surrogate, averaged over draws. They are in [0, 1] and sum to the rank. The signs of the
        coordinates of a surrogate are free, so the mean projector of its frame is the diagonal matrix of the
        expected leverages, and the mean overlap of two independent surrogates needs no more than these. A head
        (``layers.3.q.heads.0.read``) is cut from the surrogates of its projection.
    whole_head_leverages : mapping of str to Tensor
        The same of all that a head reads from the stream or writes there, see `ProjectionHeads`.
    """

    table: pd.DataFrame
    leverages: Mapping[str, Tensor]
    whole_head_leverages: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def joined(roles: Sequence["Nulls"]) -> "Nulls":
        """Those of all these roles as one."""
        table = pd.concat([nulls.table for nulls in roles], ignore_index=True) if roles else null_table()
        return Nulls(
            table,
            {name: found for nulls in roles for name, found in nulls.leverages.items()},
            {name: found for nulls in roles for name, found in nulls.whole_head_leverages.items()},
        )


def norm_profile(matrix: Tensor, rank: int) -> Profile:
    """Row and column norms of a matrix, and its leading frames when they are equalised.

    Parameters
    ----------
    matrix : Tensor, shape=[m, n]
        Any floating dtype, on any device. A zero row or column stays zero.
    rank : int
        Singular directions kept: at most the rank of the matrix, which equalising leaves alone; maybe 0.

    Returns
    -------
    profile : Profile

    References
    ----------
    theory/continuity, section 2.4.
    """
    dtype = torch.promote_types(matrix.dtype, torch.float32)
    row_norms, column_norms = (torch.linalg.vector_norm(matrix, dim=dim, dtype=dtype) for dim in (1, 0))
    if rank == 0:
        left, right = (norms.new_zeros(len(norms), 0) for norms in (row_norms, column_norms))
        return Profile(row_norms, column_norms, equalised_left=left, equalised_right=right)
    equal_rows = matrix / torch.where(row_norms > 0, row_norms, 1.0)[:, None]
    equal_columns = matrix / torch.where(column_norms > 0, column_norms, 1.0)
    right_of_columns, _ = leading_frames(equal_columns, rank)
    _, left_of_rows = leading_frames(equal_rows, rank)
    return Profile(row_norms, column_norms, equalised_left=left_of_rows, equalised_right=right_of_columns)


def margin_matched(row_norms: Tensor, column_norms: Tensor, generator: torch.Generator) -> Tensor:
    r"""Random matrix with these row and column norms and nothing else of the original.

    Parameters
    ----------
    row_norms : Tensor, shape=[m]
    column_norms : Tensor, shape=[n]
        Euclidean norms of the rows and columns of one matrix, so that their squares have equal sums.
    generator : torch.Generator
        On the device of the norms.

    Returns
    -------
    surrogate : Tensor, shape=[m, n]
        float32. The rows have their norms to rounding, the columns to 1e-4 for the weights of SmolLM2 and
        MiniLM; where a few rows are 30 times louder than the rest, to 1e-2.

    Notes
    -----
    A standard normal matrix Z whose columns, then rows, are rescaled to their norms, four times (Sinkhorn).
    The result is :math:`\mathrm{diag}(\sqrt{a})\, Z\, \mathrm{diag}(\sqrt{b})`, and the rounds act on the
    squared scales alone: :math:`b = c^2 / (Z^{\circ 2})^\top a`, :math:`a = r^2 / Z^{\circ 2} b`.

    References
    ----------
    theory/continuity, section 2.3.

    Examples
    --------
    >>> surrogate = margin_matched(torch.tensor([3.0, 4.0]), torch.tensor([5.0, 0.0]), torch.Generator())
    >>> surrogate.norm(dim=0), surrogate.norm(dim=1)
    (tensor([5.0000, 0.0000]), tensor([3.0000, 4.0000]))
    """
    surrogate = torch.randn(
        len(row_norms), len(column_norms), generator=generator, device=row_norms.device, dtype=torch.float32
    )
    total = torch.linalg.vector_norm(row_norms)
    if total == 0:
        return surrogate.zero_()
    # Relative to the whole, so that squares of small weights do not vanish in float32.
    rows, columns = ((norms / total).square().float() for norms in (row_norms, column_norms))
    squares = surrogate.square()
    row_scales = torch.ones_like(rows)
    for _ in range(_ROUNDS):
        column_scales = _ratio(columns, squares.mT @ row_scales)
        row_scales = _ratio(rows, squares @ column_scales)
    return surrogate.mul_(column_scales.sqrt()).mul_((total.float() * row_scales.sqrt())[:, None])


def _ratio(norms: Tensor, sums: Tensor) -> Tensor:
    """Quotient that is zero where a row or column is."""
    return torch.where(norms > 0, norms / sums, 0.0)


def continuity_nulls(
    chain: Sequence[Weight],
    spectra: Mapping[str, Spectrum],
    profiles: Mapping[str, Profile],
    heads: Mapping[str, ProjectionHeads] | None = None,
    *,
    draws: int,
    seed: int = 0,
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
        Random draws of either null, at least 1; theory/continuity asks for 20 in a release.
    seed : int, optional
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
    **margin_matched** replaces every weight of the chain by `margin_matched` surrogates. It keeps the norms
    of rows and columns and destroys the rest. **sign_flip** multiplies one of the two real frames by a
    random sign per coordinate. It keeps how much of a frame lives on each coordinate and destroys how the
    coordinates are combined. Neither is always the larger. **equalised** has no draws: it is the measurement
    itself with the norms of the side's coordinates removed.

    A head has no surrogate of its own: its share of that of its projection keeps what all heads of it have in common
    by loud channels. Two heads of one surrogate are not quite independent, and yet the mean of their overlap is
    that of :math:`\sum_i p_i q_i`, of their leverages: given the squares of all entries, and so all scales, the signs
    are free, and those of one head may be flipped along the stream without the other's. It lies below the
    product of mean leverages by their covariance, since heads compete for the fixed norm of a channel: in simulations
    by 0.2 % for 9 heads of 64 dimensions in a stream of 576, by 0.6 % for 3 and by 6 % for 2 heads of 8 in 64.

    References
    ----------
    theory/continuity, sections 2.3 and 2.4; practice/checkpoints-and-engine, section 4.
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

        for weight, cut, drawn in one_ahead(map(begin, chain)):
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
                    "margin_matched": (earlier_surrogates[side], surrogates[side]),
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
            rows.append((chain[0].role, side_name, null, measure, float(of_draws.mean()), sd, len(of_draws)))
    return Nulls(null_table(rows), leverages, whole_heads)


def null_table(rows: Iterable[Sequence[str | float]] = ()) -> pd.DataFrame:
    """Table of rows under `NULL_COLUMNS`, of the same types also where there are none."""
    return pd.DataFrame(list(rows), columns=list(NULL_COLUMNS)).astype(
        {"mean": "float64", "sd": "float64", "draws": "int64"}
    )


def sign_flipped(frame: Tensor, generator: torch.Generator) -> Tensor:
    """The frame with a random sign on each coordinate, shape=[n, r]: still orthonormal."""
    coins = torch.randint(0, 2, (frame.shape[0], 1), generator=generator, device=frame.device)
    return frame * (2 * coins - 1)


def _surrogate(name: str, spectrum: Spectrum, profile: Profile, cut: HeadCut | None, seed: int, draw: int) -> _Drawn:
    """Leading frames of one surrogate of a weight, as many directions as it has, and leverages of its heads."""
    generator = seeded_generator(seed, f"margin matched {name} {draw}", profile.row_norms.device)
    surrogate = margin_matched(profile.row_norms, profile.column_norms, generator)
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


def seeded_generator(seed: int, stream: str, device: torch.device) -> torch.Generator:
    """A stream of its own for every purpose, whatever was drawn before."""
    digest = sha256(f"{seed} {stream}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8]) >> 1)
