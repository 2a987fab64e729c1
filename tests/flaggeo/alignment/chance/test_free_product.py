import math

import pytest
import torch

from flaggeo.alignment.chance.free_product import nuclear_norm_moments
from tests.flaggeo.alignment.builders import gaussian, rotation


@pytest.mark.parametrize(
    ("d", "n", "p", "decay"), [(64, 64, 64, 0), (64, 64, 20, 1.0), (48, 20, 12, 0.5), (24, 24, 4, 0)]
)
def test_agrees_with_random_rotations(d, n, p, decay):
    first = gaussian(d, n, seed=1) * torch.arange(1, n + 1) ** -decay
    second = gaussian(p, d, seed=2)
    turns = torch.stack([rotation(d, seed=seed) for seed in range(600)])
    norms = torch.linalg.svdvals(second @ turns @ first).sum(dim=-1)
    mean, spread = nuclear_norm_moments(torch.linalg.svdvals(first), torch.linalg.svdvals(second), d)
    assert float(mean) == pytest.approx(
        float(norms.mean()), abs=4 * float(norms.std()) / math.sqrt(600) + 0.25 * float(mean) / d
    )
    assert float(spread) == pytest.approx(float(norms.std()), rel=0.15)


def test_two_random_projectors_have_the_arcsine_law():
    half = torch.ones(50, dtype=torch.float64)
    mean, _ = nuclear_norm_moments(half, half, 100)
    assert float(mean) == pytest.approx(100 / math.pi)


def test_the_identity_takes_no_part():
    values = torch.linalg.svdvals(gaussian(20, 30, seed=3))
    mean, spread = nuclear_norm_moments(torch.ones(20, dtype=torch.float64), values, 20)
    assert float(mean) == pytest.approx(float(values.sum()), rel=1e-6)
    assert float(spread) == pytest.approx(0, abs=1e-3)


def test_scales_symmetry_zeros_and_batches():
    first, second = (torch.linalg.svdvals(gaussian(3, 12, 8, seed=seed)) for seed in (4, 5))
    mean, spread = nuclear_norm_moments(first, second, 12)
    for factor, one, other in ((6, 2 * first, 3 * second), (1, second, first)):
        torch.testing.assert_close(nuclear_norm_moments(one, other, 12)[0], factor * mean)
        torch.testing.assert_close(nuclear_norm_moments(one, other, 12)[1], factor * spread)
    padded = torch.nn.functional.pad(first, (0, 3))
    torch.testing.assert_close(nuclear_norm_moments(padded, second, 12)[0], mean)
    torch.testing.assert_close(nuclear_norm_moments(first[1], second, 12)[0][1], mean[1])


def test_singular_values_over_many_orders():
    mean, spread = nuclear_norm_moments(torch.logspace(0, -8, 40).double(), torch.ones(40).double(), 64)
    assert 0 < float(spread) < float(mean)


def test_nothing_is_said_about_a_zero_matrix():
    mean, spread = nuclear_norm_moments(torch.zeros(4), torch.ones(4), 8)
    assert math.isnan(mean)
    assert math.isnan(spread)


def test_refuses_more_values_than_dimensions():
    with pytest.raises(ValueError, match="at most 3 singular values"):
        nuclear_norm_moments(torch.ones(4), torch.ones(2), 3)


def test_results_have_the_precision_asked_for_and_are_computed_in_double():
    first, second = (torch.linalg.svdvals(gaussian(12, 8, seed=seed)) for seed in (6, 7))
    exact, single = (
        nuclear_norm_moments(first.to(dtype), second.to(dtype), 12) for dtype in (torch.float64, torch.float32)
    )
    for one, other in zip(exact, single, strict=True):
        assert (one.dtype, other.dtype) == (torch.float64, torch.float32)
        assert float(other) == pytest.approx(float(one), rel=1e-6)
