import numpy as np
import pytest
from scipy import stats

from flaggeo.alignment.chance.heaviest_tail import heaviest_tail, heavy_tailed_null
from tests.builders import random_frame


@pytest.mark.parametrize("z", [-0.5, 0.0, 1.0, 3.0, 10.0])
def test_it_is_the_chi_square_law_of_one_degree_of_freedom(z):
    law = stats.chi2(1, loc=2 - 0.1 / 2**0.5, scale=0.1 / 2**0.5)
    assert law.mean() == pytest.approx(2)
    assert law.std() == pytest.approx(0.1)
    assert heaviest_tail(2 + 0.1 * z, 2.0, 0.1) == pytest.approx(law.sf(2 + 0.1 * z))


@pytest.mark.parametrize("others", [[1.0], [0.5, 0.5], [1.0, 0.1, 0.1], [1.0] * 20])
def test_no_sum_of_squares_reaches_1_percent_more_often(others):
    """Against sums of independent squares with these scales."""
    drawn = np.random.default_rng(0).standard_normal((200_000, len(others))) ** 2 @ others
    mean, sd = float(np.sum(others)), float(np.sqrt(2 * np.sum(np.square(others))))
    rejected = np.mean([heaviest_tail(value, mean, sd) <= 0.01 for value in np.sort(drawn)[::-1][:4000]]) * 0.02
    assert rejected <= 0.01 + 3 * (0.01 / 200_000) ** 0.5


def test_a_number_that_cannot_vary_is_no_evidence():
    assert heaviest_tail(1.0, 0.5, 0.0) == 1


def test_a_null_tests_its_measure_and_says_what_it_can_give():
    null = heavy_tailed_null(lambda _: random_frame(4, 1, seed=0)[0, 0] * 0 + 0.6, lambda _: (0.5, 0.05), "text")
    p_value, floor = null.p_value(None)
    assert p_value == heaviest_tail(0.6, 0.5, 0.05)
    assert floor == heaviest_tail(1.0, 0.5, 0.05) < p_value
