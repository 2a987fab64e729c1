import math
from itertools import product

import pytest
import scipy.linalg
import torch

from flaggeo.alignment import interface_pair
from flaggeo.alignment.interfaces.leading_directions import (
    INTERFACE_OVERLAP,
    LEADING_OBSERVABLES,
    WINDOW_CONTRAST,
    WINDOW_RHO,
)
from tests.builders import planted
from tests.flaggeo.alignment.builders import gaussian, gaussian_pair, grams, measured, rotation


def leading(columns, k):
    return torch.linalg.svd(columns).U[:, :k]


@pytest.mark.parametrize("shape", [(24, 16, 8), (7, 20, 15), (60, 30, 40)])
def test_agrees_with_the_large_matrices(shape):
    first, second = gaussian_pair(*shape, seed=0)
    k = 4
    u, v = leading(first, k), leading(second.mT, k)
    angles = scipy.linalg.subspace_angles(u.numpy(), v.numpy())
    assert float(measured(INTERFACE_OVERLAP, first, second)) == pytest.approx((torch.tensor(angles).cos() ** 2).mean())
    window = torch.linalg.eigh(u @ u.mT + v @ v.mT).eigenvectors[:, -k:]
    a, b = (window.mT @ gram @ window for gram in grams(first, second))
    a0, b0 = (gram - gram.trace() / k * torch.eye(k, dtype=torch.float64) for gram in (a, b))
    chance = math.sqrt(2 * k / ((k - 1) * (k + 2))) * a0.norm() * b0.norm()
    assert float(measured(WINDOW_RHO, first, second)) == pytest.approx(float((a @ b - b @ a).norm() / chance))
    contrast = min(float(a0.norm() / a.norm()), float(b0.norm() / b.norm()))
    assert float(measured(WINDOW_CONTRAST, first, second)) == pytest.approx(contrast)


def test_one_common_subspace_with_two_bases():
    """W_1 and W_2 live in one plane of six dimensions, with bases 45 degrees apart."""
    plane = rotation(6, seed=1)[:, :2]
    turn = torch.tensor([[1.0, -1], [1, 1]]).double() / math.sqrt(2)
    values = torch.diag(torch.tensor([3.0, 1])).double()
    first, second = plane @ values @ rotation(4, seed=2)[:2], rotation(5, seed=3)[:, :2] @ values @ turn.mT @ plane.mT
    pair = interface_pair(first, second, 2).leading
    assert float(INTERFACE_OVERLAP.measure(pair)) == pytest.approx(1)
    # |[A0, B0]| = sqrt(2) |A0| |B0| for the axes and the diagonals of a plane, and chance is 1 for k = 2.
    assert float(WINDOW_RHO.measure(pair)) == pytest.approx(math.sqrt(2))
    assert float(WINDOW_CONTRAST.measure(pair)) == pytest.approx(4 * math.sqrt(2) / math.sqrt(82))


def test_a_common_basis_commutes_on_the_window():
    first, left, _ = planted([5.0, 3.0, 2.0, 0.1], 12, 9, seed=4)
    second = rotation(7, seed=5)[:, :4] * torch.tensor([2.0, 4.0, 3.0, 0.2]) @ left.mT
    pair = interface_pair(first, second, 3).leading
    assert float(INTERFACE_OVERLAP.measure(pair)) == pytest.approx(1)
    assert float(WINDOW_RHO.measure(pair)) == pytest.approx(0, abs=1e-9)


def test_orthogonal_subspaces_leave_the_window_open():
    frame = rotation(8, seed=6)
    first, second = frame[:, :2] @ gaussian(2, 3, seed=7), gaussian(3, 2, seed=8) @ frame[:, 2:4].mT
    pair = interface_pair(first, second, 2).leading
    assert float(INTERFACE_OVERLAP.measure(pair)) == pytest.approx(0, abs=1e-12)
    assert math.isnan(WINDOW_RHO.measure(pair))
    assert math.isnan(WINDOW_CONTRAST.measure(pair))


def test_directions_beyond_the_rank_are_left_out():
    """A weight of rank 2 is compared at k = 2, and the null is that of k = 2."""
    first, second = gaussian(9, 2, seed=9) @ gaussian(2, 6, seed=10), gaussian(5, 9, seed=11)
    whole, part = (interface_pair(first, second, rank).leading for rank in (4, 2))
    assert int(whole.kept) == 2
    for observable in LEADING_OBSERVABLES:
        torch.testing.assert_close(observable.measure(whole), observable.measure(part))
    assert INTERFACE_OVERLAP.null.law(whole) == INTERFACE_OVERLAP.null.law(part)


def test_the_whole_space_has_nothing_beyond_it():
    pair = interface_pair(gaussian(3, 5, seed=12), gaussian(4, 3, seed=13), 3).leading
    assert float(INTERFACE_OVERLAP.measure(pair)) == pytest.approx(1)
    assert [float(moment) for moment in INTERFACE_OVERLAP.null.law(pair)] == [1, 0]


def test_level_of_random_layers():
    """24 x 16 and 4 x 24 Gaussian, 200 draws."""
    pair = interface_pair(gaussian(200, 24, 16, seed=14), gaussian(200, 4, 24, seed=15), 4).leading
    values = INTERFACE_OVERLAP.measure(pair)
    assert float(values.mean()) == pytest.approx(0.165, abs=4 * 0.049 / math.sqrt(200))
    assert float(values.std()) == pytest.approx(0.049, rel=0.2)
    mean, spread = (float(moment[0]) for moment in INTERFACE_OVERLAP.null.law(pair))
    assert float(values.mean()) == pytest.approx(mean, abs=4 * spread / math.sqrt(200))


def test_the_sign_flip_mean_is_that_of_all_sign_patterns():
    first, second = gaussian_pair(8, 6, 5, seed=16)
    pair = interface_pair(first, second, 3)
    signs = torch.tensor(list(product([1.0, -1.0], repeat=8)), dtype=torch.float64)
    turned = pair.reordered(torch.arange(8).expand(len(signs), -1), signs)
    sign_flip, _ = INTERFACE_OVERLAP.further_nulls
    found, _ = sign_flip.law(pair.leading)
    assert float(found) == pytest.approx(float(INTERFACE_OVERLAP.measure(turned).double().mean()), rel=1e-5)


def test_at_every_rank_none_is_compared_beyond_those_kept():
    first, second = gaussian(9, 2, seed=17) @ gaussian(2, 6, seed=18), gaussian(5, 9, seed=19)
    at_every_rank = interface_pair(first, second, 4).leading.at_every_rank()
    assert at_every_rank.kept.tolist() == [1, 2, 2, 2]
    assert [ranks.tolist() for ranks in at_every_rank.ranks] == [[1, 2, 2, 2]] * 2
