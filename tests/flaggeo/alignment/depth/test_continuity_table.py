import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from flaggeo import load
from flaggeo.alignment import (
    constant_component,
    gram_cosines,
    gram_matrix,
    continuity_by_lag,
    participation_ratio,
    trajectory_variance_table,
)
from flaggeo.alignment.depth.continuity import (
    ABS_COSINE,
    CONTINUITY_COLUMNS,
    LEADING_OVERLAP,
    SIGMA2_WEIGHTED,
    continuity_table,
    singular_vector_continuity,
)
from flaggeo.alignment.depth.layer_pair import LayerPair
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from tests.builders import CONFIG, chain_of, planted, random_frame, tiny_llama

VALUES = [5.0, 3.0, 2.0, 1.0]


def rotated_in_first_plane(angle):
    """Two weights whose right singular vectors differ by a rotation in the plane of the first two."""
    matrix, left, right = planted(VALUES, 20, 30, seed=0)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return matrix, (left * torch.tensor(VALUES)) @ (right @ turn).mT


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, np.pi / 2])
def test_a_planted_rotation_comes_back_as_its_cosine(angle):
    first, second = (leading_spectrum(matrix, 4) for matrix in rotated_in_first_plane(angle))
    read = singular_vector_continuity(first, second, Side.READ)
    assert read.abs_cos_1 == pytest.approx(abs(np.cos(angle)), abs=1e-12)
    assert read.abs_cos_2 == pytest.approx(abs(np.cos(angle)), abs=1e-12)
    assert read.overlap == pytest.approx(1.0)
    assert read.sigma2_weighted == pytest.approx(((25 + 9) * abs(np.cos(angle)) + 4 + 1) / 39)
    write = singular_vector_continuity(first, second, Side.WRITE)
    assert write.abs_cos_1 == pytest.approx(1.0)


def test_matches_a_brute_force_over_full_svds():
    generator = torch.Generator().manual_seed(1)
    first, second = (torch.randn(12, 9, generator=generator, dtype=torch.float64) for _ in range(2))
    (u, s, vh), (u2, _, vh2) = (torch.linalg.svd(matrix, full_matrices=False) for matrix in (first, second))
    for side, mine, theirs in ((Side.READ, vh.mT, vh2.mT), (Side.WRITE, u, u2)):
        found = singular_vector_continuity(leading_spectrum(first, 9), leading_spectrum(second, 9), side)
        cosines = (mine * theirs).sum(0).abs()
        assert found.abs_cos_1 == pytest.approx(float(cosines[0]), abs=1e-10)
        assert found.sigma2_weighted == pytest.approx(float((s**2 * cosines).sum() / (s**2).sum()), abs=1e-10)
        assert found.overlap == pytest.approx(float((mine.mT @ theirs).square().sum()) / 9, abs=1e-10)


def test_truncation_is_a_lower_bound_within_the_missing_energy():
    generator = torch.Generator().manual_seed(2)
    first, second = (torch.randn(30, 30, generator=generator) for _ in range(2))
    whole = singular_vector_continuity(leading_spectrum(first, 30), leading_spectrum(second, 30), Side.READ)
    part = singular_vector_continuity(leading_spectrum(first, 5), leading_spectrum(second, 5), Side.READ)
    assert part.sigma2_weighted <= whole.sigma2_weighted <= part.sigma2_weighted + 1 - leading_spectrum(first, 5).energy


def test_one_rotation_of_the_space_changes_nothing_and_one_of_a_single_weight_does():
    first, second = rotated_in_first_plane(0.4)
    turn = random_frame(30, 30, seed=3)
    plain = singular_vector_continuity(leading_spectrum(first, 3), leading_spectrum(second, 3), Side.READ)
    both = singular_vector_continuity(leading_spectrum(first @ turn, 3), leading_spectrum(second @ turn, 3), Side.READ)
    one = singular_vector_continuity(leading_spectrum(first @ turn, 3), leading_spectrum(second, 3), Side.READ)
    assert (both.abs_cos_1, both.overlap) == pytest.approx((plain.abs_cos_1, plain.overlap), abs=1e-10)
    assert one.abs_cos_1 < 0.6 < plain.abs_cos_1


def test_a_general_linear_map_of_the_space_changes_it():
    first, second = rotated_in_first_plane(0.4)
    shear = torch.eye(30, dtype=torch.float64)
    shear[0, 1] = 3
    plain = singular_vector_continuity(leading_spectrum(first, 3), leading_spectrum(second, 3), Side.READ)
    moved = singular_vector_continuity(
        leading_spectrum(first @ shear, 3), leading_spectrum(second @ shear, 3), Side.READ
    )
    assert abs(moved.abs_cos_1 - plain.abs_cos_1) > 1e-3


@pytest.mark.parametrize(("matrix", "second_is_nan"), [(torch.zeros(4, 6), True), (torch.ones(4, 6), True)])
def test_directions_that_do_not_exist_are_undefined_not_one(matrix, second_is_nan):
    """An SVD of a zero matrix returns the identity: every continuity would read 1.00."""
    found = singular_vector_continuity(leading_spectrum(matrix, 3), leading_spectrum(matrix, 3), Side.READ)
    assert np.isnan(found.abs_cos_2) == second_is_nan
    assert np.isnan(found.abs_cos_1) == (float(matrix.sum()) == 0)


def test_table_pairs_neighbouring_layers_of_each_role_and_side():
    network = load(tiny_llama(), config=CONFIG)
    spectra = {w.name: leading_spectrum(w.split(network.checkpoint.read(w.tensor)), 4) for w in network.weights}
    table = continuity_table(network.weights, spectra)
    assert tuple(table.columns) == CONTINUITY_COLUMNS
    assert len(table) == 7 * 2 * 2
    assert set(zip(table["layer"], table["next_layer"], strict=True)) == {(0, 1), (1, 2)}
    shared = table[table["shared_space"]]
    assert set(zip(shared["role"], shared["side"], strict=True)) == {
        *((role, "read") for role in ("q", "k", "v", "gate", "up")),
        ("o", "write"),
        ("down", "write"),
    }
    assert set(shared["space"]) == {"stream"}


def test_random_weights_stand_at_their_null():
    """80 independent layers: the mean lies within four standard errors of the Haar mean."""
    generator = torch.Generator().manual_seed(4)
    spectra = [leading_spectrum(torch.randn(32, 24, generator=generator), 2) for _ in range(81)]
    from manifolds import abs_cosine_moments

    for side, dim in ((Side.READ, 24), (Side.WRITE, 32)):
        cosines = [singular_vector_continuity(a, b, side).abs_cos_1 for a, b in itertools.pairwise(spectra)]
        mean, spread = abs_cosine_moments(dim)
        assert abs(np.mean(cosines) - mean) < 4 * spread / np.sqrt(len(cosines))


NUMBERS = ["abs_cos_1", "sigma2_weighted", "overlap", "best_match", "projection", "block_overlap", "signed_rank_one"]


def test_every_number_stands_beside_its_null():
    generator = torch.Generator().manual_seed(5)
    table = continuity_table(*chain_of([torch.randn(20, 30, generator=generator) for _ in range(60)]))
    for number in NUMBERS:
        prefix = "" if number == "abs_cos_1" else f"{number}_"
        for _, rows in table.groupby("side"):
            # Blocks differ in size from pair to pair, and with them the null.
            z = (rows[number] - rows[f"{prefix}null_mean"]) / rows[f"{prefix}null_sd"]
            assert abs(z.mean()) < 4 / len(rows) ** 0.5, number


def test_the_table_finds_a_planted_swap():
    matrix, left, right = planted(VALUES, 20, 30, seed=0)
    swapped = (left * torch.tensor(VALUES)) @ right[:, [1, 0, 2, 3]].mT
    read = continuity_table(*chain_of([matrix, swapped])).set_index("side").loc["read"]
    assert read["abs_cos_1"] == pytest.approx(0, abs=1e-9)
    assert (read["best_match"], read["best_match_index"]) == (pytest.approx(1), 2)
    assert (read["projection"], read["overlap"]) == (pytest.approx(1), pytest.approx(1))
    assert read["signed_rank_one"] == pytest.approx(0, abs=1e-9)


def test_gram_cosines_stand_where_they_were_given():
    generator = torch.Generator().manual_seed(6)
    matrices = [torch.randn(20, 30, generator=generator) for _ in range(3)]
    weights, spectra = chain_of(matrices)
    grams = [gram_matrix(matrix, Side.READ) for matrix in matrices]
    found = gram_cosines(grams[1], grams[2])
    table = continuity_table(weights, spectra, {("layers.1.up", Side.READ): found}).set_index(["side", "layer"])
    row = table.loc[("read", 1)]
    assert (row["gram_cosine"], row["gram_cosine_null_mean"]) == (found.gram_cosine, found.gram_cosine_null_mean)
    assert row["centred_gram_cosine_null_sd"] == found.centred_gram_cosine_null_sd
    others = table.drop(("read", 1))
    assert others[[column for column in CONTINUITY_COLUMNS if "gram" in column]].isna().all(axis=None)


def test_a_chain_with_a_zero_weight_has_no_numbers_there():
    table = continuity_table(*chain_of([torch.zeros(4, 6), torch.ones(4, 6)]))
    assert table[[*NUMBERS, "abs_cos_2", "best_match_index"]].isna().all(axis=None)
    assert list(table["rank"]) == [0, 0]


def test_weights_of_rank_one_have_no_second_direction():
    table = continuity_table(*chain_of([torch.ones(4, 6), torch.ones(4, 6)]))
    assert table["abs_cos_2"].isna().all()
    assert table[NUMBERS].notna().all(axis=None)


def test_a_subspace_that_fills_the_space_says_nothing():
    table = continuity_table(*chain_of([random_frame(6, 4, seed=seed) for seed in (1, 2)])).set_index("side")
    assert table.loc["read", ["overlap", "projection"]].isna().all()
    assert table.loc["write", ["overlap", "projection"]].notna().all()


@pytest.mark.parametrize("matrices", [[torch.ones(4, 6)], [torch.ones(1, 1)] * 3, []], ids=["one layer", "1x1", "none"])
def test_no_rows_where_there_is_nothing_to_compare(matrices):
    table = continuity_table(*chain_of(matrices))
    assert (len(table), tuple(table.columns)) == (0, CONTINUITY_COLUMNS)


@pytest.mark.parametrize("observable", [ABS_COSINE, SIGMA2_WEIGHTED, LEADING_OVERLAP], ids=lambda o: o.column)
def test_single_precision(observable):
    first, second = (leading_spectrum(matrix, 4) for matrix in rotated_in_first_plane(0.4))
    single = [
        replace(s, all_values=s.all_values.float(), left=s.left.float(), right=s.right.float()) for s in (first, second)
    ]
    expected = float(observable.measure(LayerPair(first, second, Side.READ)))
    assert float(observable.measure(LayerPair(*single, Side.READ))) == pytest.approx(expected, abs=1e-6)


@pytest.fixture(scope="module")
def minilm(minilm_folder):
    """Means of MiniLM at rank 8 by role and side, under the names of the published table."""
    network = load(minilm_folder)
    weights = [weight for weight in network.weights if weight.layer is not None and weight.head is None]
    spectra = {w.name: leading_spectrum(w.split(network.checkpoint.read(w.tensor)), 8) for w in weights}
    table = continuity_table(weights, spectra).groupby(["role", "side"])
    measured = table[["abs_cos_1", "best_match", "overlap", "signed_rank_one"]].mean()
    measured["evr"] = trajectory_variance_table(weights, spectra).set_index(["role", "side"])["evr"]
    lags = continuity_by_lag(weights, spectra).query("distant")
    summed = (lags["abs_cos_1"] * lags["pairs"]).groupby([lags["role"], lags["side"]]).sum()
    measured["distant"] = summed / lags.groupby(["role", "side"])["pairs"].sum()
    for role, side in measured.index:
        frames = [spectra[w.name].frame(Side(side)) for w in weights if w.role == role]
        measured.loc[(role, side), "pr"] = np.mean([participation_ratio(frame) / len(frame) for frame in frames])
        measured.loc[(role, side), "const"] = np.mean([constant_component(frame) for frame in frames])
    return measured


@pytest.mark.parametrize(
    ("role", "side", "c", "distant", "best", "overlap", "evr", "pr", "const", "signed"),
    [
        ("q", "read", 0.294, 0.18, 0.58, 0.383, 0.90, 0.184, 0.24, -0.023),
        ("k", "read", 0.247, 0.21, 0.58, 0.604, 0.84, 0.122, 0.09, 0.009),
        ("v", "read", 0.208, 0.06, 0.31, 0.154, 0.76, 0.246, 0.03, 0.000),
        ("up", "read", 0.724, 0.40, 0.72, 0.300, 0.89, 0.232, 0.06, 0.458),
        ("up", "write", 0.611, 0.56, 0.61, 0.063, 0.70, 0.339, 0.77, 0.458),
        ("o", "write", 0.381, 0.12, 0.41, 0.189, 0.81, 0.186, 0.01, -0.003),
        ("down", "read", 0.021, 0.01, 0.04, 0.005, 0.62, 0.051, 0.09, -0.005),
        ("down", "write", 0.574, 0.20, 0.75, 0.355, 0.96, 0.006, 0.03, -0.005),
    ],
)
def test_minilm_measures_what_the_theory_page_does(
    minilm, role, side, c, distant, best, overlap, evr, pr, const, signed
):
    """theory/continuity, section 10.2, to the two or three digits printed there."""
    row = minilm.loc[(role, side)]
    found = row[["abs_cos_1", "distant", "best_match", "overlap", "evr", "pr", "const", "signed_rank_one"]]
    np.testing.assert_allclose(found.to_numpy(), [c, distant, best, overlap, evr, pr, const, signed], atol=0.01)
