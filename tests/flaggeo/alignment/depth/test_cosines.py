from dataclasses import replace

import numpy as np
import pytest
import torch

from flaggeo.alignment import LayerPair
from flaggeo.alignment.depth.cosines import ABS_COSINE, ABS_COSINE_2, LEADING_OVERLAP, SIGMA2_WEIGHTED
from flaggeo.alignment.table import measured
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from manifolds import uniform_frame
from tests.builders import planted, random_frame
from tests.flaggeo.alignment.builders import gaussian, layer_pair

COSINES = (ABS_COSINE, ABS_COSINE_2, SIGMA2_WEIGHTED, LEADING_OVERLAP)
VALUES = [5.0, 3.0, 2.0, 1.0]


def cosines(first, second, side=Side.READ, *, rank=4):
    pair = layer_pair(first, second, side, rank=rank)
    return {observable.column: float(observable.measure(pair)) for observable in COSINES}


def rotated_in_first_plane(angle):
    """Two weights whose right singular vectors differ by a rotation in the plane of the first two."""
    matrix, left, right = planted(VALUES, 20, 30, seed=0)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return matrix, (left * torch.tensor(VALUES)) @ (right @ turn).mT


@pytest.mark.parametrize("angle", [0.0, 0.3, 1.2, np.pi / 2])
def test_a_planted_rotation_comes_back_as_its_cosine(angle):
    read = cosines(*rotated_in_first_plane(angle))
    assert read["abs_cos_1"] == pytest.approx(abs(np.cos(angle)), abs=1e-12)
    assert read["abs_cos_2"] == pytest.approx(abs(np.cos(angle)), abs=1e-12)
    assert read["overlap"] == pytest.approx(1.0)
    assert read["sigma2_weighted"] == pytest.approx(((25 + 9) * abs(np.cos(angle)) + 4 + 1) / 39)
    assert cosines(*rotated_in_first_plane(angle), Side.WRITE)["abs_cos_1"] == pytest.approx(1.0)


def test_matches_a_brute_force_over_full_svds():
    first, second = gaussian(12, 9, seed=1), gaussian(12, 9, seed=2)
    (u, s, vh), (u2, _, vh2) = (torch.linalg.svd(matrix, full_matrices=False) for matrix in (first, second))
    for side, mine, theirs in ((Side.READ, vh.mT, vh2.mT), (Side.WRITE, u, u2)):
        found, expected = cosines(first, second, side, rank=9), (mine * theirs).sum(0).abs()
        assert found["abs_cos_1"] == pytest.approx(float(expected[0]), abs=1e-10)
        assert found["abs_cos_2"] == pytest.approx(float(expected[1]), abs=1e-10)
        assert found["sigma2_weighted"] == pytest.approx(float((s**2 * expected).sum() / (s**2).sum()), abs=1e-10)
        assert found["overlap"] == pytest.approx(float((mine.mT @ theirs).square().sum()) / 9, abs=1e-10)


def test_truncation_is_a_lower_bound_within_the_missing_energy():
    first, second = gaussian(30, 30, seed=3), gaussian(30, 30, seed=4)
    whole, part = (cosines(first, second, rank=rank)["sigma2_weighted"] for rank in (30, 5))
    assert part <= whole <= part + 1 - leading_spectrum(first, 5).energy


def test_a_rotation_of_a_single_weight_is_seen():
    first, second = rotated_in_first_plane(0.4)
    turned = first @ random_frame(30, 30, seed=3)
    assert cosines(turned, second, rank=3)["abs_cos_1"] < 0.6 < cosines(first, second, rank=3)["abs_cos_1"]


@pytest.mark.parametrize("matrix", [torch.zeros(4, 6), torch.ones(4, 6)], ids=["zero", "rank 1"])
def test_directions_that_do_not_exist_are_undefined_not_one(matrix):
    """An SVD of a zero matrix returns the identity: every continuity would read 1.00."""
    found = cosines(matrix, matrix, rank=3)
    assert np.isnan(found["abs_cos_2"])
    assert np.isnan(found["abs_cos_1"]) == np.isnan(found["overlap"]) == (not matrix.any())


def lines_at(angle, n=12):
    """Two weights that read lines at this angle."""
    first, second = torch.zeros(2, n, dtype=torch.float64)
    first[0], second[:2] = 1, torch.tensor([np.cos(angle), np.sin(angle)])
    return layer_pair(torch.outer(torch.ones(3).double(), first), torch.outer(torch.ones(3).double(), second), rank=1)


def test_the_p_value_is_that_of_simulated_lines():
    lines = uniform_frame(12, 1, (2, 40_000), generator=torch.Generator().manual_seed(0))[..., 0]
    simulated = (lines[0] * lines[1]).sum(dim=1).abs()
    for angle in (0.3, 0.9, 1.2):
        p_value, floor = map(float, ABS_COSINE.null.p_value(lines_at(angle)))
        share = float((simulated >= np.cos(angle)).double().mean())
        assert share == pytest.approx(p_value, abs=4 * (p_value / 40_000) ** 0.5)
        assert floor == 0


def test_single_precision():
    first, second = (leading_spectrum(matrix, 4) for matrix in (gaussian(20, 30, seed=5), gaussian(20, 30, seed=6)))
    single = [
        replace(s, known_values=s.known_values.float(), left=s.left.float(), right=s.right.float())
        for s in (first, second)
    ]
    found, expected = (measured(COSINES, LayerPair(*spectra, Side.READ)) for spectra in (single, (first, second)))
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6)
