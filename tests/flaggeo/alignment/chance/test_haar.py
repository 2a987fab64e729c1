import numpy as np
import pytest

from flaggeo.alignment.chance.haar import against_chance
from manifolds import overlap_moments, overlap_p_value


def test_each_pair_is_held_against_the_law_of_its_own_ranks():
    overlap, first, second = np.array([0.5, 0.2, 0.9]), np.array([2, 1, 2]), np.array([3, 4, 3])
    columns = against_chance(overlap, 10, first, second)
    for place, (r, s) in enumerate(zip(first, second, strict=True)):
        mean, spread = overlap_moments(10, r, s)
        assert (columns["null_mean"][place], columns["null_sd"][place]) == (mean, spread)
        assert columns["adjusted_overlap"][place] == pytest.approx((overlap[place] - mean) / (1 - mean))
        assert columns["z"][place] == pytest.approx((overlap[place] - mean) / spread)
        assert columns["p_value"][place] == pytest.approx(float(overlap_p_value(overlap[place], 10, r, s)))


def test_the_whole_space_has_no_effect_size_and_the_zero_space_nothing():
    columns = against_chance(np.array([1.0, np.nan]), 4, np.array([4, 0]), np.array([2, 2]))
    assert np.isnan(columns["adjusted_overlap"]).all()
    assert np.isnan(columns["z"]).all()
    assert columns["p_value"][0] == 1
    assert all(np.isnan(column[1]) for column in columns.values())
