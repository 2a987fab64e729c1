"""What each observable declares of itself, held against what it does: symmetry, precision, range and null."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from math import pi, sqrt
from typing import Any

import numpy as np
import pytest
import torch

from flaggeo.alignment import (
    Interface,
    LayerPair,
    Observable,
    SubspacePair,
    gram_matrix,
    interface_pair,
    observables,
    pair_table,
    trajectory_variance_table,
)
from flaggeo.alignment.depth.gram_cosine import GramPair
from flaggeo.alignment.depth.trajectory import Trajectory
from flaggeo.alignment.experts.expert_pairs import ExpertPairs, Experts
from flaggeo.alignment.experts.matching import Matching
from flaggeo.alignment.heads.composition import CompositionPair
from flaggeo.alignment.interfaces.leading_directions import LeadingDirections
from flaggeo.network import Side, Symmetry
from flaggeo.numerics.spectrum import Spectrum, leading_spectrum
from tests.builders import chain_of
from tests.flaggeo.alignment.builders import gaussian, positive_diagonal, rotation, signed_permutation

RANK = 2  # that interfaces compare


# Two weights act on a common space of dimension d: X, shape=[d, n], and Y, shape=[d, p], have their columns there.
# Every kind of pair is made of such two.


def spectrum(columns) -> Spectrum:
    """Of the weight that reads these columns, in their precision."""
    found = leading_spectrum(columns.mT, columns.shape[1])
    return replace(found, **{part: getattr(found, part).to(columns) for part in ("known_values", "left", "right")})


def frame(columns):
    """Of the flag that the columns span one after the other, which every invertible map takes to that of its images."""
    return torch.linalg.qr(columns).Q[:, : int(torch.linalg.matrix_rank(columns))]


def directions(x, y):
    columns = torch.cat([x, y], dim=1).mT
    return columns / torch.linalg.vector_norm(columns, dim=1, keepdim=True)


def experts(columns):
    """Two experts, of which one faces the first column and the other one the others."""
    frames = tuple(frame(part) for part in (columns[:, :1], columns[:, 1:]) if part.numel() and part.any())
    return Experts(frames, tuple(torch.ones_like(one[:, 0]) for one in frames), tuple(range(len(frames))))


def together(g):
    """How two readings move, up to the inverse transpose, and two writings."""
    return g, g


def opposed(g):
    """How a writing and a reading of it move."""
    return g, torch.linalg.inv(g).mT


@dataclass(frozen=True)
class Kind:
    """A kind of pair: how it is made, and the ways in which a change of basis moves it."""

    pair: Callable[[torch.Tensor, torch.Tensor], Any]
    moves: tuple[Callable[..., Any], ...]


KINDS = {
    LayerPair: Kind(lambda x, y: LayerPair(spectrum(x), spectrum(y), Side.READ), (together,)),
    GramPair: Kind(lambda x, y: GramPair(*(gram_matrix(z.mT, Side.READ) for z in (x, y))), (together,)),
    Trajectory: Kind(lambda x, y: Trajectory(directions(x, y)), (together,)),
    SubspacePair: Kind(lambda x, y: SubspacePair(frame(x), frame(y)), (together, opposed)),
    Interface: Kind(lambda x, y: interface_pair(x, y.mT, RANK), (opposed,)),
    LeadingDirections: Kind(lambda x, y: interface_pair(x, y.mT, RANK).leading, (opposed,)),
    CompositionPair: Kind(CompositionPair, (opposed,)),
    ExpertPairs: Kind(lambda x, y: ExpertPairs(experts(x), experts(y)), (together,)),
    Matching: Kind(lambda x, y: Matching(experts(x), experts(y), "0"), (together,)),
}


def place(observable: Observable) -> str:
    return f"{observable.table}-{observable.column}"


every_observable = pytest.mark.parametrize("observable", observables(), ids=place)


def related(d: int = 8, n: int = 3):
    """Two weights that share one direction and are blind to one of each other's, so that every count is above 0."""
    x = gaussian(d, n, seed=1)
    shared, other = torch.linalg.qr(x[:, :2]).Q.unbind(dim=1)
    y = gaussian(d, n, seed=2)
    y[:, 0] = shared
    return x, y - torch.outer(other, other @ y)


def permutation(d, *, seed):
    return signed_permutation(d, seed=seed).abs()


def rotary(d, *, seed):
    angles, scales = 2 * pi * gaussian(d // 2, seed=seed), gaussian(d // 2, seed=seed + 100).exp()
    turns = [torch.stack([a.cos(), -a.sin(), a.sin(), a.cos()]).view(2, 2) for a in angles]
    return torch.block_diag(*(scale * turn for scale, turn in zip(scales, turns, strict=True)))


MEMBERS = {
    Symmetry.GENERAL_LINEAR: lambda d, seed: (
        rotation(d, seed=seed) @ positive_diagonal(d, seed=seed) @ rotation(d, seed=seed + 100)
    ),
    Symmetry.ORTHOGONAL: lambda d, seed: rotation(d, seed=seed),
    Symmetry.SCALED_PERMUTATION: lambda d, seed: signed_permutation(d, seed=seed) @ positive_diagonal(d, seed=seed),
    Symmetry.SIGNED_PERMUTATION: lambda d, seed: signed_permutation(d, seed=seed),
    Symmetry.ROTARY_BLOCK: lambda d, seed: rotary(d, seed=seed),
    Symmetry.PERMUTATION: lambda d, seed: permutation(d, seed=seed),
    Symmetry.TRIVIAL: lambda d, seed: torch.eye(d, dtype=torch.float64),  # noqa: ARG005
}


def test_there_is_a_member_of_every_group():
    assert set(MEMBERS) == set(Symmetry)


@cache
def related_pair(kind: type, dtype: torch.dtype = torch.float64):
    x, y = related()
    return KINDS[kind].pair(x.to(dtype), y.to(dtype))


@cache
def moved_pairs(kind: type, symmetry: Symmetry):
    """The same in other bases of the common space."""
    x, y = related()
    members = [MEMBERS[symmetry](len(x), seed=seed) for seed in range(5)]
    moves = [move(g) for g in members for move in KINDS[kind].moves]
    return [KINDS[kind].pair(first @ x, second @ y) for first, second in moves]


@every_observable
def test_it_is_unchanged_by_the_groups_that_it_declares_and_by_no_other(observable):
    value = observable.measure(related_pair(observable.pair)).double()
    assert value.isfinite()
    for symmetry in Symmetry:
        moved = moved_pairs(observable.pair, symmetry)
        change = max((observable.measure(pair).double() - value).abs() for pair in moved)
        # Commutators and imbalances lose half of the digits where they cancel; condition numbers of g are below 1000.
        assert change < 1e-6 if observable.is_basis_independent(symmetry) else change > 1e-3, symmetry


@every_observable
def test_single_precision_agrees_with_double_to_the_tolerance_that_it_declares(observable):
    single, double = (
        observable.measure(related_pair(observable.pair, dtype)) for dtype in (torch.float32, torch.float64)
    )
    if single.is_floating_point():
        assert single.dtype == torch.float32
    assert float(single) == pytest.approx(float(double), abs=observable.tolerance)


RANDOM = (gaussian(8, 3, seed=3), gaussian(8, 3, seed=4))
LINE = torch.outer(gaussian(8, seed=5), gaussian(3, seed=6))
INPUTS = {
    "random": RANDOM,
    "of unequal shapes": (RANDOM[0], gaussian(8, 4, seed=13)),
    "equal": (RANDOM[0], RANDOM[0]),
    "unrelated": (torch.eye(8, 3).double(), torch.eye(8).double()[:, 3:]),
    "first zero": (torch.zeros(8, 3).double(), RANDOM[1]),
    "second zero": (RANDOM[0], torch.zeros(8, 3).double()),
    "both zero": (torch.zeros(8, 3).double(), torch.zeros(8, 3).double()),
    "rank 1": (LINE, RANDOM[1]),
    "both of rank 1": (LINE, LINE.roll(1, dims=0)),
    "whole space": (gaussian(4, 9, seed=7), gaussian(4, 5, seed=8)),
    "1 wide": (gaussian(1, 3, seed=9), gaussian(1, 2, seed=10)),
    "1 wide of 1 column": (gaussian(1, 1, seed=11), gaussian(1, 1, seed=12)),
}


# A zero weight has no subspace, and a zero vector no direction: the tables leave both out, see below.
WITHOUT_ZERO = (SubspacePair, Trajectory, ExpertPairs, Matching)


@cache
def extreme_pairs(kind: type):
    return {
        (name, dtype): KINDS[kind].pair(*(columns.to(dtype) for columns in pair))
        for name, pair in INPUTS.items()
        for dtype in (torch.float32, torch.float64)
        if not ("zero" in name and kind in WITHOUT_ZERO)
    }


@every_observable
def test_it_stays_in_its_range_or_is_undefined(observable):
    least, most = observable.range
    for (name, dtype), pair in extreme_pairs(observable.pair).items():
        value = observable.measure(pair).double()
        assert value.shape == ()
        assert value.isnan() or least - 1e-6 <= value <= most + 1e-6, (name, dtype)
        if name == "random":
            assert value.isfinite()


def test_a_zero_weight_has_no_pair_and_no_place_in_a_trajectory():
    weights, spectra = chain_of([gaussian(9, 8, seed=layer) * (layer != 2) for layer in range(6)])
    pairs, trajectories = pair_table(weights, spectra), trajectory_variance_table(weights, spectra)
    assert not {"layers.2.up.read", "layers.2.up.write"} & ({*pairs["source"]} | {*pairs["target"]})
    assert len(pairs) == 5 * 4 // 2
    assert set(trajectories["layers"]) == {5}


DRAWS = 600
DIM, COLUMNS = 40, 9
# What limit laws and drawn nulls may be off by: the mean in standard deviations, and the standard deviation relative to
# itself. Of angles as documented; the nuclear norm of low rank in 40 dimensions is 1.5 % too high, a sixth of its
# spread; 400 draws stand behind the trajectory's. All others are exact, or so close that nothing is granted.
MODEL_ERRORS = {
    "evr": (0.1, 0.1),
    "smallest_angle": (0.2, 0.06),
    "geodesic_distance": (0.25, 0.1),
    "kempf_ness_gap": (0.2, 0.05),
}
#: Drawn by the tables.
WITHOUT_LAW = {"window_rho", "window_contrast"}


def spread_out(seed):
    """Columns with the first two singular values too close to tell their directions apart."""
    values = torch.tensor([4.0, 3.99, *torch.linspace(3, 1, COLUMNS - 2)], dtype=torch.float64)
    left, right = (torch.linalg.qr(gaussian(size, COLUMNS, seed=seed + size)).Q for size in (DIM, COLUMNS))
    return left * values @ right.mT


def haar(rows, columns, *, seed):
    """Uniform orthonormal frames, shape=[DRAWS, rows, columns]: QR with positive diagonals."""
    q, r = torch.linalg.qr(gaussian(DRAWS, rows, columns, seed=seed))
    return q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None, :]


def unrelated_layers():
    earlier, later = spectrum(spread_out(1)), spectrum(spread_out(2))
    turned = zip(haar(DIM, COLUMNS, seed=3), haar(COLUMNS, COLUMNS, seed=4), strict=True)
    return [LayerPair(earlier, replace(later, right=right, left=left), Side.READ) for right, left in turned]


def unrelated_grams():
    (a, b), q = (gram_matrix(spread_out(seed).mT, Side.READ) for seed in (1, 2)), haar(DIM, DIM, seed=3)
    return [GramPair(a, q @ b @ q.mT)]


def unrelated_trajectories():
    x = gaussian(DRAWS, 2 * COLUMNS, DIM, seed=5)
    return [Trajectory(directions) for directions in x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)]


def unrelated_subspaces():
    return [SubspacePair(frame(spread_out(1)), haar(DIM, COLUMNS - 2, seed=6))]


def unrelated_orientations():
    return [interface_pair(spread_out(1), spread_out(2).mT @ haar(DIM, DIM, seed=3), RANK)]


def unrelated_leading_directions():
    return [pair.leading for pair in unrelated_orientations()]


def unrelated_compositions():
    return [CompositionPair(spread_out(1), haar(DIM, DIM, seed=3) @ spread_out(2))]


def unrelated_experts():
    """Two layers of two experts, of which one is turned as a whole."""
    first, second = (experts(spread_out(seed)[:, :6]) for seed in (1, 2))
    turns = haar(DIM, DIM, seed=9)
    return [ExpertPairs(first, replace(second, frames=tuple(turn @ one for one in second.frames))) for turn in turns]


def unrelated_matchings():
    """Every expert uniform for itself."""
    ones, others = haar(DIM, 1, seed=10), haar(DIM, COLUMNS - 1, seed=11)
    layers = [experts(torch.cat(pair, dim=1)) for pair in zip(ones, others, strict=True)]
    return [Matching(*pair, "0") for pair in zip(layers, layers[1:] + layers[:1], strict=True)]


def permuted_units():
    orders = torch.stack([torch.randperm(DIM, generator=torch.Generator().manual_seed(s)) for s in range(DRAWS)])
    return [interface_pair(spread_out(1), spread_out(2)[orders].mT, RANK)]


def gaussian_weights():
    x, y = gaussian(DRAWS, DIM, COLUMNS, seed=7), gaussian(DRAWS, COLUMNS + 3, DIM, seed=8)
    return [interface_pair(x, y, RANK)]


UNRELATED = {
    LayerPair: unrelated_layers,
    GramPair: unrelated_grams,
    Trajectory: unrelated_trajectories,
    SubspacePair: unrelated_subspaces,
    Interface: unrelated_orientations,
    LeadingDirections: unrelated_leading_directions,
    CompositionPair: unrelated_compositions,
    ExpertPairs: unrelated_experts,
    Matching: unrelated_matchings,
}
# Of some interfaces the null is another one than relative rotations.
OTHERWISE_UNRELATED = {"diagonal_imbalance": permuted_units, "gate_commutator": gaussian_weights} | dict.fromkeys(
    ("first_rank", "second_rank", "product_rank", "unread_dimension", "polystability_defect"), gaussian_weights
)


@cache
def drawn(make: Callable[[], list[Any]]) -> list[Any]:
    return make()


def test_only_those_that_are_drawn_have_no_law():
    assert {observable.column for observable in observables() if observable.null.law is None} == WITHOUT_LAW


@pytest.mark.parametrize("observable", [one for one in observables() if one.null.law], ids=place)
def test_its_null_is_what_unrelated_weights_give(observable):
    pairs = drawn(OTHERWISE_UNRELATED.get(observable.column, UNRELATED[observable.pair]))
    values = torch.cat([observable.measure(pair).double().expand(DRAWS // len(pairs)) for pair in pairs])
    expected, spread = observable.null.law(pairs[0])
    expected = float(np.ravel(expected)[0])
    mean_error, spread_error = MODEL_ERRORS.get(observable.column, (0, 0))
    found, error = {"mean": mean_of, "rms": root_mean_square_of}[observable.null.moment](values)
    assert abs(expected - found) <= 5 * error + mean_error * float(values.std())
    assert (spread is not None) == observable.null.has_sd
    if observable.null.has_sd:
        deviation, error = deviation_of(values)
        assert abs(float(np.ravel(spread)[0]) - deviation) <= 5 * error + spread_error * deviation


def mean_of(values):
    """Estimate and its standard error, like the next two."""
    return float(values.mean()), float(values.std()) / sqrt(DRAWS)


def root_mean_square_of(values):
    square, error = mean_of(values.square())
    return sqrt(square), error / (2 * sqrt(square)) if square else 0.0


def deviation_of(values):
    return root_mean_square_of(values - values.mean())
