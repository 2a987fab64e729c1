"""The nulls of an overlap, and how small their p-values can become."""

import numpy as np
import pytest
import torch

from flaggeo.alignment.chance.mean_matched import mean_matched_moments
from flaggeo.alignment.chance.overlaps import MEAN_MATCHED, NORM_MATCHED, SIGN_FLIP, UNRELATED, Overlaps
from manifolds import overlap_moments, projection_overlap
from tests.builders import random_frame
from tests.flaggeo.alignment.chance.builders import law_of_pair

N = 60


def overlaps_of(first, second, norm_matched=np.nan, norms=None):
    """One pair of frames among its nulls, of weights whose channels have these norms, or equal ones."""
    ranks = first.shape[1], second.shape[1]
    value = np.array([float(projection_overlap(first, second))])
    law = law_of_pair(first, second, value[0])
    matched, spread = mean_matched_moments([first, second], [torch.ones(len(first)) if norms is None else norms] * 2)
    others = (np.array([float(moment[0, 1]) / min(ranks)]) for moment in (matched, spread))
    return Overlaps(value, len(first), tuple(map(np.array, zip(ranks))), law, *others, np.array([norm_matched]))


def test_each_null_is_made_of_its_own_numbers():
    found = overlaps_of(random_frame(N, 3, seed=0), random_frame(N, 5, seed=1), norm_matched=0.2)
    assert [float(moment[0]) for moment in UNRELATED.law(found)] == list(overlap_moments(N, 3, 5))
    assert SIGN_FLIP.law(found) == (found.sign_flips.mean, found.sign_flips.sd)
    assert MEAN_MATCHED.law(found) == (found.mean_matched_mean, found.mean_matched_sd)
    assert found.mean_matched_sd == pytest.approx((found.mean_matched_spread**2 + found.sign_flips.sd**2) ** 0.5)
    assert NORM_MATCHED.law(found) == (found.norm_matched_mean, None)
    assert NORM_MATCHED.p_value is None


@pytest.mark.parametrize("null", [UNRELATED, SIGN_FLIP, MEAN_MATCHED], ids=lambda null: null.name)
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


def test_the_p_value_of_kept_means_is_the_tail_of_random_signs_at_as_many_standard_deviations():
    line = on_coordinates(N // 2)
    found = overlaps_of(line, torch.linalg.qr(line + 0.3 * random_frame(N, 1, seed=2)).Q)
    law = found.sign_flips
    assert found.mean_matched_mean > law.mean + 0.1
    z = (np.array([found.values, np.ones(1)]) - found.mean_matched_mean) / found.mean_matched_sd
    expected, floor = (law.tail(law.mean + law.sd * deviations) for deviations in z)
    assert [float(p_value[0]) for p_value in MEAN_MATCHED.p_value(found)] == pytest.approx([*expected, *floor])
    assert SIGN_FLIP.p_value(found)[0] < expected


def test_two_constant_lines_are_what_their_means_make_them():
    line = on_coordinates(N)
    found = overlaps_of(line, line)
    assert MEAN_MATCHED.law(found)[0] == pytest.approx(1)
    assert MEAN_MATCHED.p_value(found)[0] > 0.1
    assert SIGN_FLIP.p_value(found)[0] < 1e-6


def test_a_mean_never_exceeds_perfect_alignment():
    """In three dimensions, of which the means take two, the formula gives more."""
    line = torch.tensor([[1.0], [-1.0], [0.0]], dtype=torch.float64) / 2**0.5
    found = overlaps_of(line, line, norms=torch.tensor([1.0, 1.0, 3.0]))
    assert found.mean_matched_mean == pytest.approx(1.5)
    assert MEAN_MATCHED.law(found)[0] == 1


def test_a_missing_overlap_has_no_p_value():
    found = overlaps_of(*(random_frame(N, 2, seed=seed) for seed in (4, 5)))
    missing = Overlaps(np.array([np.nan]), *(getattr(found, name) for name in list(vars(found))[1:]))
    assert np.isnan(MEAN_MATCHED.p_value(missing)).all()
