import math

import pytest
import torch

from flaggeo.alignment import interface_pair
from flaggeo.alignment.interfaces.commutator import GRAM_COMMUTATOR, GRAM_COSINE, RHO
from tests.flaggeo.alignment.builders import gaussian, gaussian_pair, grams, measured, rotation


@pytest.mark.parametrize("shape", [(24, 16, 4), (7, 20, 15), (6, 4, 20)])
def test_agrees_with_the_large_matrices(shape):
    first, second = gaussian_pair(*shape, seed=0)
    a, b = grams(first, second)
    d, commutator = shape[0], (a @ b - b @ a).norm()
    a0, b0 = (gram - gram.trace() / d * torch.eye(d, dtype=torch.float64) for gram in (a, b))
    chance = math.sqrt(2 * d / ((d - 1) * (d + 2))) * a0.norm() * b0.norm()
    assert float(measured(GRAM_COMMUTATOR, first, second)) == pytest.approx(float(commutator / (a.norm() * b.norm())))
    assert float(measured(RHO, first, second)) == pytest.approx(float(commutator / chance))
    cosine = (a * b).sum() / (a.norm() * b.norm())
    assert float(measured(GRAM_COSINE, first, second)) == pytest.approx(float(cosine))


@pytest.mark.parametrize("d", [3, 8, 24])
def test_two_lines_at_45_degrees_attain_the_bound(d):
    first, second = torch.zeros(d, 1).double(), torch.zeros(1, d).double()
    first[0], second[0, :2] = 1, math.sqrt(0.5)
    assert float(measured(GRAM_COMMUTATOR, first, second)) == pytest.approx(math.sqrt(0.5))
    assert float(measured(RHO, first, second)) == pytest.approx(math.sqrt(d * (d + 2) / (d - 1)) / 2)


def test_no_random_pair_exceeds_the_bound():
    for d in (2, 3, 5):
        first, second = gaussian(500, d, 2, seed=d), gaussian(500, 3, d, seed=d + 10)
        assert measured(GRAM_COMMUTATOR, first, second).max() <= math.sqrt(0.5) + 1e-9


def test_commuting_is_not_aligned():
    first, second = torch.diag(torch.tensor([2.0, 1])).double(), torch.diag(torch.tensor([1.0, 2])).double()
    assert float(measured(RHO, first, second)) == pytest.approx(0, abs=1e-7)
    assert float(measured(GRAM_COSINE, first, second)) == pytest.approx(8 / 17)


@pytest.mark.parametrize(("n", "d", "p", "raw"), [(64, 64, 64, 0.0884), (64, 256, 64, 0.0707), (512, 128, 256, 0.0323)])
def test_gaussian_layers_have_rho_1_and_a_small_raw_commutator(n, d, p, raw):
    """Means over draws of an implementation of its own."""
    first, second = gaussian(20, d, n, seed=1), gaussian(20, p, d, seed=2)
    assert float(measured(GRAM_COMMUTATOR, first, second).mean()) == pytest.approx(raw, rel=0.02)
    assert float(measured(RHO, first, second).mean()) == pytest.approx(1, abs=0.02)


def test_nulls_over_rotations():
    first, second = gaussian_pair(6, 4, 3, seed=2)
    pair = interface_pair(first, second, 2)
    turned = second @ torch.stack([rotation(6, seed=seed) for seed in range(2000)])
    found = interface_pair(first, turned, 2)
    for observable in (GRAM_COMMUTATOR, RHO):
        root_mean_square = float(observable.measure(found).square().mean().sqrt())
        assert root_mean_square == pytest.approx(float(observable.null.law(pair)[0]), rel=0.03)
    cosines = GRAM_COSINE.measure(found)
    mean, spread = (float(moment) for moment in GRAM_COSINE.null.law(pair))
    assert float(cosines.mean()) == pytest.approx(mean, abs=4 * spread / math.sqrt(2000))
    assert float(cosines.std()) == pytest.approx(spread, rel=0.08)


def test_level_of_random_layers():
    """24 x 16 and 4 x 24 Gaussian, 200 draws."""
    first, second = gaussian(200, 24, 16, seed=3), gaussian(200, 4, 24, seed=4)
    for observable, mean, spread in ((GRAM_COMMUTATOR, 0.200, 0.025), (RHO, 0.98, 0.12), (GRAM_COSINE, 0.236, 0.042)):
        values = measured(observable, first, second)
        assert float(values.mean()) == pytest.approx(mean, abs=4 * spread / math.sqrt(200))
        assert float(values.std()) == pytest.approx(spread, rel=0.2)


def test_a_scalar_gram_matrix_has_no_orientation():
    identity = torch.eye(5, dtype=torch.float64)
    assert math.isnan(measured(RHO, identity, gaussian(4, 5, seed=5)))
    assert float(measured(GRAM_COMMUTATOR, identity, gaussian(4, 5, seed=5))) == pytest.approx(0, abs=1e-7)
