import itertools

import numpy as np
import pytest
import torch

from flaggeo import load
from flaggeo.alignment.continuity import CONTINUITY_COLUMNS, continuity_table, singular_vector_continuity
from flaggeo.network import Side
from flaggeo.spectrum import leading_spectrum
from tests.builders import CONFIG, planted, random_frame, tiny_llama

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
