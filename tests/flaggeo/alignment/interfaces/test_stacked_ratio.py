import math

import pytest
import torch

from flaggeo.alignment.interfaces.stacked_ratio import STACKED_RATIO
from tests.builders import planted
from tests.flaggeo.alignment.builders import gaussian, gaussian_pair, measured, rotation


def by_svd(first, second, k):
    stacked = torch.linalg.svdvals(torch.cat([first / first.norm(), second.mT / second.norm()], dim=1))
    return float(stacked[k] / stacked[k - 1])


@pytest.mark.parametrize("shape", [(24, 16, 8), (7, 20, 15), (300, 150, 200)])
def test_agrees_with_the_weights_side_by_side(shape):
    """The last shape takes Lanczos' method."""
    first, second = gaussian_pair(*shape, seed=0)
    assert float(measured(STACKED_RATIO, first, second)) == pytest.approx(by_svd(first, second, 4))


def test_weights_of_one_subspace_have_none():
    plane = rotation(6, seed=1)[:, :2]
    first, second = plane @ gaussian(2, 4, seed=2), gaussian(5, 2, seed=3) @ plane.mT
    assert float(measured(STACKED_RATIO, first, second, 2)) == pytest.approx(0, abs=1e-7)


def test_directions_beyond_the_rank_are_left_out():
    first, second = gaussian(9, 2, seed=9) @ gaussian(2, 6, seed=10), gaussian(5, 9, seed=11)
    whole, part = (measured(STACKED_RATIO, first, second, rank) for rank in (4, 2))
    torch.testing.assert_close(whole, part)


def test_the_whole_space_has_nothing_beyond_it():
    assert math.isnan(measured(STACKED_RATIO, gaussian(3, 5, seed=12), gaussian(4, 3, seed=13), 3))


def test_repeated_values_are_not_missed_by_the_fast_method():
    """sigma_3 = sigma_4 of the stack: the ratio at k = 3 is 1, and at k = 4 it falls."""
    first, left, _ = planted([4.0, 3.0, 2.0, 2.0, 0.5], 400, 150, seed=16)
    second = rotation(150, seed=17)[:, :5] * torch.tensor([4.0, 3.0, 2.0, 2.0, 0.5]) @ left.mT
    assert float(measured(STACKED_RATIO, first, second, 3)) == pytest.approx(1)
    assert float(measured(STACKED_RATIO, first, second, 4)) == pytest.approx(0.25)


@pytest.mark.parametrize("k", [100, 299, 300])
def test_many_directions_of_a_large_space(k):
    """Too many for Lanczos' method, up to all of them, beyond which there is nothing."""
    first, second = gaussian_pair(300, 300, 320, seed=18)
    expected = math.nan if k == 300 else by_svd(first, second, k)
    assert float(measured(STACKED_RATIO, first, second, k)) == pytest.approx(expected, nan_ok=True)
