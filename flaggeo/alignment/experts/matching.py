"""Experts of two layers matched one to one, against what the same matching gives of unrelated ones."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from manifolds import pairwise_gram_inner_product, uniform_frame

from ...network import Symmetry
from ...numerics.threads import cached_property, workers
from ..chance.heaviest_tail import heavy_tailed_null
from ..chance.mean_matched import mean_matched_flipped
from ..chance.seeds import seeded_generator
from ..observable import Invariance, Null, Observable
from .expert_pairs import Experts

#: Draws of each null: the mean is then known to an eighth of its standard deviation, and this to 9 %.
DRAWS = 64

_Frames = tuple[Tensor, ...]


@dataclass(frozen=True)
class Matching:
    """The experts of a layer and those of the next one, each with one partner at most.

    Attributes
    ----------
    earlier, later : Experts
    stream : str
        Seed and name of the random numbers of its nulls.
    """

    earlier: Experts
    later: Experts
    stream: str

    @cached_property
    def overlap_and_gain(self) -> Tensor:
        """Of the partners, shape=[2], see `matched`."""
        return matched(self.earlier.frames, self.later.frames)

    @cached_property
    def unrelated(self) -> Tensor:
        """Moments of both numbers for uniform subspaces, see `unrelated_moments`."""
        return unrelated_moments(self.earlier.dim, *(tuple(one.ranks.tolist()) for one in (self.earlier, self.later)))

    @cached_property
    def sign_flips(self) -> Tensor:
        """Moments over random signs of the coordinates, the same for all experts of a layer."""
        return self._moments(lambda frame, _, signs: frame * signs[:, None])

    @cached_property
    def mean_matched(self) -> Tensor:
        """The same where the means of the directions are kept, see `mean_matched_flipped`."""
        return self._moments(mean_matched_flipped)

    def _moments(self, turned: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Tensor:
        """Moments where a frame, the norms of its channels and the signs of a draw give another frame."""
        device, n = self.earlier.frames[0].device, self.earlier.dim

        def draw(index: int) -> Tensor:
            generator = seeded_generator(index, self.stream, device)
            coins = torch.randint(0, 2, (2, n), generator=generator, device=device)
            earlier, later = (
                tuple(
                    turned(frame.float(), norms, signs)
                    for frame, norms in zip(of_layer.frames, of_layer.channel_norms, strict=True)
                )
                for of_layer, signs in zip((self.earlier, self.later), (2 * coins - 1).float(), strict=True)
            )
            return matched(earlier, later)

        with workers() as pool:
            return _mean_and_sd(list(pool.map(draw, range(DRAWS))))


def matched(earlier: _Frames, later: _Frames) -> Tensor:
    """Mean overlap of experts matched one to one, and how far it lies above that of all pairs.

    Parameters
    ----------
    earlier, later : tuple of Tensor, shape=[n, k]
        Orthonormal frames. Of the fewer of the two every one has a partner.

    Returns
    -------
    overlap_and_gain : Tensor, shape=[2]
        The sum of the overlaps of the partners is the largest that a one-to-one matching has.

    Examples
    --------
    >>> axes = torch.eye(3).split(1, dim=1)
    >>> matched(axes, axes[::-1])
    tensor([1.0000, 0.6667])
    """
    from scipy.optimize import linear_sum_assignment

    ranks = [torch.tensor([frame.shape[1] for frame in frames], device=frames[0].device) for frames in (earlier, later)]
    overlaps = pairwise_gram_inner_product(earlier, later) / torch.minimum(ranks[0][:, None], ranks[1])
    of_partners = overlaps[linear_sum_assignment(overlaps.cpu().numpy(), maximize=True)].mean()
    return torch.stack([of_partners, of_partners - overlaps.mean()]).clamp(0, 1)


@cache
def unrelated_moments(n: int, ranks: tuple[int, ...], other_ranks: tuple[int, ...]) -> Tensor:
    """Moments of `matched` of independent uniform (Haar) subspaces, from `DRAWS` seeded draws.

    Parameters
    ----------
    n : int
        Dimension of the space.
    ranks, other_ranks : tuple of int
        Dimensions of the subspaces of either layer.

    Returns
    -------
    moments : Tensor, shape=[2, 2]
        Mean and standard deviation of the overlap, and below of the gain.

    Notes
    -----
    The largest of many chance overlaps lies far above their mean: of 64 experts of rank 16 in 2048 dimensions matched
    ones overlap by 0.0094, where a pair has 0.0078 with a standard deviation of 0.0007.
    """

    def draw(index: int) -> Tensor:
        generator = seeded_generator(index, f"unrelated experts {n} {ranks} {other_ranks}", torch.device("cpu"))
        frames = [
            tuple(uniform_frame(n, k, generator=generator, dtype=torch.float32) for k in of_layer)
            for of_layer in (ranks, other_ranks)
        ]
        return matched(*frames)

    with workers() as pool:
        return _mean_and_sd(list(pool.map(draw, range(DRAWS))))


def _mean_and_sd(draws: list[Tensor]) -> Tensor:
    numbers = torch.stack(draws).cpu().double()
    return torch.stack([numbers.mean(dim=0), numbers.std(dim=0)], dim=1)


def _nulls(place: int) -> tuple[Null[Matching], ...]:
    """All three for the number at this place of `matched`."""

    def null(name: str, text: str, moments: Callable[[Matching], Tensor]) -> Null[Matching]:
        def law(pair: Matching) -> tuple[float, float]:
            mean, sd = moments(pair)[place].tolist()
            return mean, sd

        return heavy_tailed_null(lambda pair: pair.overlap_and_gain[place], law, text, name=name)

    return (
        null(
            "null",
            f"independent uniform (Haar) subspaces, matched in the same way, {DRAWS} draws",
            lambda pair: pair.unrelated,
        ),
        null(
            "sign_flip",
            "random signs of the coordinates, the same for all experts of a layer, matched in the same way, "
            f"{DRAWS} draws",
            lambda pair: pair.sign_flips,
        ),
        null(
            "mean_matched",
            "the means of the directions over the channels kept, random signs for the rest, matched in the same way, "
            f"{DRAWS} draws",
            lambda pair: pair.mean_matched,
        ),
    )


_UNCHANGED = Invariance(
    Symmetry.ORTHOGONAL,
    "the order of the experts of either layer, the choice of frames, and one orthogonal map of the stream on all "
    "experts; not a general linear map",
    "projection_overlap_invariance",
)

_UNRELATED, *_FURTHER = _nulls(0)
MATCHED_OVERLAP = Observable(
    title="mean overlap of matched experts",
    table="experts",
    column="matched_overlap",
    pair=Matching,
    measure=lambda pair: pair.overlap_and_gain[0],
    formula=r"\max_\pi \tfrac1E \sum_e \lVert A_e^\top B_{\pi(e)} \rVert_F^2 / \min(r_e, s_{\pi(e)})",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=_UNCHANGED,
    null=_UNRELATED,
    further_nulls=tuple(_FURTHER),
    tolerance=1e-5,
    reading="How far each expert continues in an expert of its own in the next layer, whatever the numbers of the two: "
    "1 where the experts of both layers are the same in some order.",
    misuse="Do not compare it with the null of a single overlap: the best of many chance overlaps are matched. Where "
    "all experts have directions in common, it is high whoever is matched with whom: see the gain.",
)

_UNRELATED, *_FURTHER = _nulls(1)
MATCHED_GAIN = Observable(
    title="gain of matching experts",
    table="experts",
    column="matched_gain",
    pair=Matching,
    measure=lambda pair: pair.overlap_and_gain[1],
    formula=r"\omega_\pi - \tfrac{1}{E E'} \sum_{e, f} \lVert A_e^\top B_f \rVert_F^2 / \min(r_e, s_f)",
    range=(0.0, 1.0),
    aligned=1.0,
    invariance=_UNCHANGED,
    null=_UNRELATED,
    further_nulls=tuple(_FURTHER),
    tolerance=1e-5,
    reading="How much more matched experts overlap than any two experts of the two layers do: what is left of the "
    "matched overlap without the directions that all experts have in common.",
    misuse="It cannot reach 1: equal layers of E orthogonal experts have 1 - 1/E.",
)
