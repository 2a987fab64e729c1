"""The three nulls of an overlap, and how small their p-values can become."""

import numpy as np
import pytest
import torch

from flaggeo.alignment.chance.overlaps import NORM_MATCHED, SIGN_FLIP, UNRELATED, Overlaps
from manifolds import overlap_moments, projection_overlap
from tests.builders import random_frame
from tests.flaggeo.alignment.chance.builders import law_of_pair

N = 60


def overlaps_of(first, second, norm_matched=np.nan):
    """One pair of frames among its nulls."""
    ranks = first.shape[1], second.shape[1]
    value = np.array([float(projection_overlap(first, second))])
    law = law_of_pair(first, second, value[0])
    return Overlaps(value, len(first), tuple(map(np.array, zip(ranks))), law, np.array([norm_matched]))


def test_each_null_is_made_of_its_own_numbers():
    found = overlaps_of(random_frame(N, 3, seed=0), random_frame(N, 5, seed=1), norm_matched=0.2)
    assert [float(moment[0]) for moment in UNRELATED.law(found)] == list(overlap_moments(N, 3, 5))
    assert SIGN_FLIP.law(found) == (found.sign_flips.mean, found.sign_flips.sd)
    assert NORM_MATCHED.law(found) == (found.norm_matched_mean, None)
    assert NORM_MATCHED.p_value is None


@pytest.mark.parametrize("null", [UNRELATED, SIGN_FLIP], ids=lambda null: null.name)
@pytest.mark.parametrize(("r", "s"), [(1, 1), (2, 3), (4, 4)])
def test_no_pair_has_a_p_value_below_the_floor_and_a_subspace_that_contains_another_reaches_it(null, r, s):
    for seed in range(20):
        first, second = random_frame(N, r, seed=seed), random_frame(N, s, seed=100 + seed)
        p_value, floor = null.p_value(overlaps_of(first, second))
        assert floor <= p_value
        within = torch.cat([first, second[:, r:]], dim=1)
        p_value, floor = null.p_value(overlaps_of(first, torch.linalg.qr(within).Q))
        assert p_value == pytest.approx(floor, rel=1e-6)


def on_coordinates(count):
    """A line along the first coordinates equally."""
    line = torch.zeros(N, 1, dtype=torch.float64)
    line[:count] = count**-0.5
    return line


@pytest.mark.parametrize(("coordinates", "least", "most"), [(2, 0.1, 0.2), (40, 0.0, 0.01)])
def test_lines_on_two_coordinates_cannot_become_significant_and_spread_out_ones_can(coordinates, least, most):
    line = on_coordinates(coordinates)
    p_value, floor = SIGN_FLIP.p_value(overlaps_of(line, line))
    assert least <= float(floor[0]) < most
    assert p_value == pytest.approx(floor)
    # Two equal lines are never found among unrelated ones, wherever they lie.
    assert UNRELATED.p_value(overlaps_of(line, line))[0] == pytest.approx(0, abs=1e-12)
