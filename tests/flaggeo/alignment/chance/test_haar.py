import numpy as np
import pytest
import torch

from flaggeo.alignment.chance.haar import Dimensions, haar_overlap, haar_overlap_p_value, squared_cosine_moments
from manifolds import overlap_moments, overlap_p_value, uniform_frame

OVERLAPS, RANKS = np.array([0.5, 0.2, 0.9]), (np.array([2, 1, 2]), np.array([3, 4, 3]))


def test_each_pair_is_held_against_the_law_of_its_own_ranks():
    pairs = Dimensions(10, RANKS)
    (mean, sd), (p_value, floor) = haar_overlap(pairs), haar_overlap_p_value(pairs, OVERLAPS)
    for place, (r, s) in enumerate(zip(*RANKS, strict=True)):
        assert (mean[place], sd[place]) == overlap_moments(10, r, s)
        assert p_value[place] == pytest.approx(float(overlap_p_value(OVERLAPS[place], 10, r, s)))
        assert floor[place] == float(overlap_p_value(np.ones(1), 10, r, s)[0])


def test_ranks_broadcast_and_one_pair_is_a_number():
    both = haar_overlap(Dimensions(10, (2, np.arange(1, 4))))
    assert both[0].tolist() == [overlap_moments(10, 2, s)[0] for s in (1, 2, 3)]
    mean, sd = haar_overlap(Dimensions(10, (2, 3)))
    assert (float(mean), float(sd)) == overlap_moments(10, 2, 3)


def test_the_whole_space_is_never_improbable_and_the_zero_space_has_no_law():
    pairs = Dimensions(4, (np.array([4, 0]), np.array([2, 2])))
    (mean, sd), (p_value, floor) = haar_overlap(pairs), haar_overlap_p_value(pairs, np.array([1.0, np.nan]))
    assert (mean[0], sd[0], p_value[0], floor[0]) == (1, 0, 1, 1)
    assert all(np.isnan(numbers[1]) for numbers in (mean, sd, p_value, floor))


@pytest.mark.parametrize(("n", "r", "s"), [(1, 1, 1), (5, 1, 3), (9, 4, 4), (6, 6, 2)])
def test_equal_weights_give_the_moments_of_the_overlap(n, r, s):
    mean, spread = squared_cosine_moments(torch.ones(r, s, dtype=torch.float64) / min(r, s), n)
    assert (float(mean), float(spread)) == pytest.approx(overlap_moments(n, r, s), abs=1e-8)


def test_moments_of_any_weights_against_draws():
    n, draws, generator = 7, 40_000, torch.Generator().manual_seed(5)
    weights = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    basis = uniform_frame(n, 3, (draws,), generator=generator, dtype=torch.float64)
    sums = (basis[:, :2].mT.square() * weights).sum(dim=(1, 2))  # against the first two axes
    mean, spread = squared_cosine_moments(weights, n)
    assert float(sums.mean()) == pytest.approx(float(mean), abs=5 * float(spread) / draws**0.5)
    assert float(sums.std()) == pytest.approx(float(spread), rel=0.03)
