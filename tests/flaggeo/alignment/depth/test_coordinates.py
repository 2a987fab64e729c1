import numpy as np
import pytest
import torch

from flaggeo.alignment.depth.coordinates import constant_component, participation_ratio
from manifolds import abs_cosine_moments, uniform_frame
from tests.builders import random_frame


@pytest.mark.parametrize("count", [1, 3, 12])
def test_a_direction_on_some_coordinates_equally(count):
    frame = torch.zeros(12, 2, dtype=torch.float64)
    frame[:count, 0] = count**-0.5
    assert participation_ratio(frame) == pytest.approx(count)
    assert constant_component(frame) == pytest.approx((count / 12) ** 0.5)
    assert participation_ratio(-frame) == pytest.approx(count)
    assert constant_component(-frame) == pytest.approx((count / 12) ** 0.5)


def test_permutations_change_nothing_and_rotations_do():
    frame, order = random_frame(20, 3, seed=0), torch.randperm(20, generator=torch.Generator().manual_seed(1))
    turned = random_frame(20, 20, seed=2) @ frame
    for measure in (participation_ratio, constant_component):
        assert measure(frame[order]) == pytest.approx(measure(frame))
        assert measure(turned) != pytest.approx(measure(frame), abs=1e-3)


def test_random_directions():
    """The mean of the fourth power of a coordinate is 3 / (n (n + 2)); the other is a cosine with a fixed vector."""
    frames = uniform_frame(200, 1, (400,), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    assert np.mean([1 / participation_ratio(frame) for frame in frames]) == pytest.approx(3 / 202, rel=0.03)
    mean, spread = abs_cosine_moments(200)
    assert abs(np.mean([constant_component(frame) for frame in frames]) - mean) < 4 * spread / 20


def test_without_a_direction_they_are_undefined():
    assert np.isnan([participation_ratio(torch.zeros(5, 0)), constant_component(torch.zeros(5, 0))]).all()


def test_the_constant_direction_does_not_exceed_one_by_rounding():
    assert constant_component(torch.full((7, 1), 7**-0.5, dtype=torch.float32)) <= 1
