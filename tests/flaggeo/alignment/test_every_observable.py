"""What each observable declares of itself, held against what it does: symmetry, precision, range and null."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isnan, pi, sqrt
from typing import Any

import pytest
import torch

from flaggeo.alignment import (
    CENTRED_GRAM_COSINE,
    COMPOSITION_SCORE,
    GRAM_COSINE,
    OBSERVABLES,
    LayerPair,
    Observable,
    SubspacePair,
    gram_matrix,
    interface_pair,
    pair_table,
    trajectory_variance_table,
)
from flaggeo.alignment.depth.gram_cosine import GramPair
from flaggeo.alignment.heads.composition import CompositionPair
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
    return replace(found, **{part: getattr(found, part).to(columns) for part in ("all_values", "left", "right")})


def frame(columns):
    """Of the flag that the columns span one after the other, which every invertible map takes to that of its images."""
    return torch.linalg.qr(columns).Q[:, : int(torch.linalg.matrix_rank(columns))]


def directions(x, y):
    columns = torch.cat([x, y], dim=1).mT
    return columns / torch.linalg.vector_norm(columns, dim=1, keepdim=True)


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


LAYERS = Kind(lambda x, y: LayerPair(spectrum(x), spectrum(y), Side.READ), (together,))
GRAMS = Kind(lambda x, y: GramPair(*(gram_matrix(z.mT, Side.READ) for z in (x, y))), (together,))
PATHS = Kind(lambda x, y: Path(directions(x, y)), (together,))
SUBSPACES = Kind(lambda x, y: SubspacePair(frame(x), frame(y)), (together, opposed))
INTERFACES = Kind(lambda x, y: interface_pair(x, y.mT, RANK), (opposed,))
COMPOSITIONS = Kind(CompositionPair, (opposed,))

OF_TABLE = {
    "continuity": LAYERS,
    "path_variance": PATHS,
    "pairs": SUBSPACES,
    "interfaces": INTERFACES,
    "heads": SUBSPACES,
}
EXCEPTIONS = {GRAM_COSINE: GRAMS, CENTRED_GRAM_COSINE: GRAMS, COMPOSITION_SCORE: COMPOSITIONS}


def kind_of(observable: Observable) -> Kind:
    return EXCEPTIONS.get(observable, OF_TABLE[observable.table])


def place(observable: Observable) -> str:
    return f"{observable.table}-{observable.column}"


every_observable = pytest.mark.parametrize("observable", OBSERVABLES, ids=place)


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


@pytest.mark.parametrize("symmetry", Symmetry, ids=lambda symmetry: symmetry.name)
@every_observable
def test_it_survives_the_groups_that_it_declares_and_no_other(observable, symmetry):
    kind, (x, y) = kind_of(observable), related()
    value = observable.measure(kind.pair(x, y)).double()
    assert value.isfinite()
    changes = []
    for seed in range(5):
        g = MEMBERS[symmetry](len(x), seed=seed)
        for move in kind.moves:
            first, second = move(g)
            changes.append((observable.measure(kind.pair(first @ x, second @ y)).double() - value).abs())
    # Commutators and imbalances lose half of the digits where they cancel; condition numbers of g are below 1000.
    if observable.is_basis_independent(symmetry):
        assert max(changes) < 1e-6
    else:
        assert max(changes) > 1e-3


@every_observable
def test_single_precision_agrees_with_double(observable):
    kind, (x, y) = kind_of(observable), related()
    single, double = (observable.measure(kind.pair(x.to(dtype), y.to(dtype))) for dtype in (torch.float32, x.dtype))
    if single.is_floating_point():
        assert single.dtype == torch.float32
    # Half of the seven digits where squares cancel.
    assert float(single) == pytest.approx(float(double), abs=1e-5 if "commutator" not in observable.name else 3e-4)


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
WITHOUT_ZERO = (SUBSPACES, PATHS)
CASES = [
    pytest.param(observable, *pair, id=f"{place(observable)}-{name}")
    for observable in OBSERVABLES
    for name, pair in INPUTS.items()
    if not ("zero" in name and kind_of(observable) in WITHOUT_ZERO)
]


@pytest.mark.parametrize(("observable", "x", "y"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_it_stays_in_its_range_or_is_undefined(observable, x, y, dtype):
    value = observable.measure(kind_of(observable).pair(x.to(dtype), y.to(dtype))).double()
    least, most = observable.range
    assert value.shape == ()
    assert value.isnan() or least - 1e-6 <= value <= most + 1e-6


@every_observable
def test_it_is_defined_for_random_weights(observable):
    assert observable.measure(kind_of(observable).pair(*RANDOM)).double().isfinite()


def test_a_zero_weight_has_no_pair_and_no_place_in_a_path():
    weights, spectra = chain_of([gaussian(9, 8, seed=layer) * (layer != 2) for layer in range(6)])
    pairs, path = pair_table(weights, spectra), trajectory_variance_table(weights, spectra)
    assert not {"layers.2.up.read", "layers.2.up.write"} & ({*pairs["source"]} | {*pairs["target"]})
    assert len(pairs) == 5 * 4 // 2
    assert set(path["layers"]) == {5}


DRAWS = 600
DIM, COLUMNS = 40, 9
# What limit laws and drawn nulls may be off by: the mean in standard deviations, and the standard deviation relative to
# itself. Of angles as documented; the nuclear norm of low rank in 40 dimensions is 1.5 % too high, a sixth of its
# spread; 400 draws stand behind the path's. All others are exact, or so close that nothing is granted.
MODEL_ERRORS = {
    "evr": (0.1, 0.1),
    "smallest_angle": (0.2, 0.06),
    "geodesic_distance": (0.25, 0.1),
    "kempf_ness_gap": (0.2, 0.05),
}
#: Drawn by the tables; of the composition score the square has moments, see test_composition.py.
WITHOUT_MOMENTS = {"window_rho", "window_contrast", "composition_score"}


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


def unrelated_paths():
    x = gaussian(DRAWS, 2 * COLUMNS, DIM, seed=5)
    return [Path(directions) for directions in x / torch.linalg.vector_norm(x, dim=-1, keepdim=True)]


def unrelated_subspaces():
    return [SubspacePair(frame(spread_out(1)), haar(DIM, COLUMNS - 2, seed=6))]


def unrelated_orientations():
    return [interface_pair(spread_out(1), spread_out(2).mT @ haar(DIM, DIM, seed=3), RANK)]


def permuted_units():
    orders = torch.stack([torch.randperm(DIM, generator=torch.Generator().manual_seed(s)) for s in range(DRAWS)])
    return [interface_pair(spread_out(1), spread_out(2)[orders].mT, RANK)]


def gaussian_weights():
    x, y = gaussian(DRAWS, DIM, COLUMNS, seed=7), gaussian(DRAWS, COLUMNS + 3, DIM, seed=8)
    return [interface_pair(x, y, RANK)]


UNRELATED = {
    LAYERS: unrelated_layers,
    GRAMS: unrelated_grams,
    PATHS: unrelated_paths,
    SUBSPACES: unrelated_subspaces,
    INTERFACES: unrelated_orientations,
}
# Of some interfaces the null is another one than relative rotations.
OTHERWISE_UNRELATED = {"diagonal_imbalance": permuted_units, "gate_commutator": gaussian_weights} | dict.fromkeys(
    ("first_rank", "second_rank", "product_rank", "unread_dimension", "polystability_defect"), gaussian_weights
)


def test_only_those_without_a_law_have_no_moments():
    assert {observable.column for observable in OBSERVABLES if observable.null_moments is None} == WITHOUT_MOMENTS


@pytest.mark.parametrize("observable", [one for one in OBSERVABLES if one.null_moments is not None], ids=place)
def test_its_null_is_what_unrelated_weights_give(observable):
    pairs = OTHERWISE_UNRELATED.get(observable.column, UNRELATED[kind_of(observable)])()
    values = torch.cat([observable.measure(pair).double().expand(DRAWS // len(pairs)) for pair in pairs])
    mean, spread = (float(moment.flatten()[0]) for moment in observable.null.law(pairs[0]))
    if spread == 0:
        assert (values == mean).all()
        return
    mean_error, spread_error = MODEL_ERRORS.get(observable.column, (0, 0))
    root_mean_square = "root mean square" in observable.null or "ratio of means" in observable.null
    found, error = root_mean_square_of(values) if root_mean_square else mean_of(values)
    assert abs(mean - found) < 5 * error + mean_error * float(values.std())
    if isnan(spread):
        assert "no closed form" in observable.null
        return
    deviation, error = deviation_of(values)
    assert abs(spread - deviation) < 5 * error + spread_error * deviation


def mean_of(values):
    """Estimate and its standard error, like the next two."""
    return float(values.mean()), float(values.std()) / sqrt(DRAWS)


def root_mean_square_of(values):
    square, error = mean_of(values.square())
    return sqrt(square), error / (2 * sqrt(square))


def deviation_of(values):
    return root_mean_square_of(values - values.mean())
