import numpy as np
import pytest

from flaggeo.alignment.chance.haar import Dimensions, haar_overlap, haar_overlap_p_value
from manifolds import overlap_moments, overlap_p_value

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
