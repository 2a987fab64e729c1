from math import isnan, pi, sqrt

import pytest
import torch

from flaggeo.alignment.pairs.distances import (
    GEODESIC_DISTANCE,
    SMALLEST_ANGLE,
    geodesic_distance_moments,
    smallest_angle_moments,
)
from flaggeo.alignment.pairs.subspace_pair import SubspacePair
from manifolds import asimov_distance, geodesic_distance, uniform_frame
from tests.builders import random_frame


@pytest.mark.parametrize(("n", "r", "s"), [(8, 3, 3), (9, 5, 2), (6, 4, 5), (5, 1, 1)])
def test_distances_agree_with_manifolds(n, r, s):
    pair = SubspacePair(random_frame(n, r, seed=0), random_frame(n, s, seed=1))
    assert float(GEODESIC_DISTANCE.measure(pair)) == pytest.approx(float(geodesic_distance(pair.first, pair.second)))
    assert SMALLEST_ANGLE.measure(pair) <= asimov_distance(pair.first, pair.second)


@pytest.mark.parametrize("angle", [0.0, 1e-10, 0.3, pi / 2])
def test_a_planted_angle_comes_back(angle):
    axes, angle = random_frame(9, 9, seed=2), torch.tensor(angle, dtype=torch.float64)
    turned = torch.stack([angle.cos() * axes[:, i] + angle.sin() * axes[:, 2 + i] for i in range(2)], dim=1)
    pair = SubspacePair(axes[:, :2], turned)
    assert float(SMALLEST_ANGLE.measure(pair)) == pytest.approx(float(angle), rel=1e-5, abs=1e-15)
    assert float(GEODESIC_DISTANCE.measure(pair)) == pytest.approx(sqrt(2) * float(angle), rel=1e-5, abs=1e-15)


MOMENTS = [smallest_angle_moments, geodesic_distance_moments]


@pytest.mark.parametrize("moments", MOMENTS)
def test_two_lines_of_a_plane_meet_at_any_angle_alike(moments):
    assert moments(2, 1, 1) == pytest.approx((pi / 4, pi / 4 / sqrt(3)), rel=1e-3)


@pytest.mark.parametrize(("n", "s"), [(6, 2), (6, 5), (30, 4)])
@pytest.mark.parametrize("moments", MOMENTS)
def test_the_law_of_a_line_is_exact(moments, n, s):
    draws = uniform_frame(n, 1, (20_000,), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    angles = torch.acos(torch.linalg.vector_norm(draws[:, :s, 0], dim=1))
    mean, spread = moments(n, 1, s)
    assert float(angles.mean()) == pytest.approx(mean, abs=5 * spread / 20_000**0.5)
    assert float(angles.std()) == pytest.approx(spread, rel=0.03)


def test_subspaces_too_wide_to_miss_each_other():
    assert smallest_angle_moments(9, 5, 6) == (0, 0)
    assert isnan(smallest_angle_moments(9, 5, 4)[0])
    assert geodesic_distance_moments(9, 9, 4) == (0, 0)
    assert geodesic_distance_moments(30, 26, 24) == geodesic_distance_moments(30, 6, 4)


@pytest.mark.parametrize(("n", "r", "s"), [(20, 2, 2), (24, 4, 6), (30, 12, 20), (24, 12, 12)])
def test_the_limit_law_of_the_distance_is_as_close_as_it_says(n, r, s):
    generator = torch.Generator().manual_seed(4)
    pair = SubspacePair(
        uniform_frame(n, r, (3000,), generator=generator, dtype=torch.float64), torch.eye(n, dtype=torch.float64)[:, :s]
    )
    distances = GEODESIC_DISTANCE.measure(pair)
    mean, spread = geodesic_distance_moments(n, r, s)
    assert abs(float(distances.mean()) - mean) < 0.25 * spread + 5 * spread / 3000**0.5
    assert float(distances.std()) == pytest.approx(spread, rel=0.13)
