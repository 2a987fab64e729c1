import functools
import math

import numpy as np
import pytest
import scipy.stats
import torch

from manifolds.checks import require_frame
from manifolds.haar import abs_cosine_moments, overlap_moments, overlap_p_value, overlap_z, uniform_frame

from .builders import generator

DIMENSIONS = [(20, 3, 4), (30, 10, 25), (30, 28, 5), (12, 1, 5), (64, 8, 8), (5, 4, 4), (4, 4, 2)]
SAMPLES = 20000


@functools.cache
def sampled_overlaps(n, r, s):
    """By invariance one of the two subspaces may be spanned by axes."""
    frames = uniform_frame(n, r, (SAMPLES,), generator=generator(0), dtype=torch.float64)
    return (frames[:, :s].square().sum(dim=(1, 2)) / min(r, s)).numpy()


@pytest.mark.parametrize(("n", "r", "s"), DIMENSIONS)
def test_moments_of_the_overlap(n, r, s):
    overlaps = sampled_overlaps(n, r, s)
    mean, deviation = overlap_moments(n, r, s)
    assert overlaps.mean() == pytest.approx(mean, abs=5 * deviation / math.sqrt(SAMPLES) + 1e-12)
    assert overlaps.std() == pytest.approx(deviation, rel=0.03, abs=1e-12)
    assert overlap_moments(n, s, r) == (mean, deviation)


def test_published_moments():
    """Two 64-dimensional heads in 768 dimensions: 5.333 and .1080 for the overlap times 64."""
    mean, deviation = overlap_moments(768, 64, 64)
    assert 64 * mean == pytest.approx(5.3333, abs=1e-4)
    assert 64 * deviation == pytest.approx(0.1080, abs=1e-4)
    published = {64: (0.1001, 0.0748), 256: (0.0499, 0.0376), 4096: (0.0125, 0.0094)}
    for n, moments in published.items():
        assert abs_cosine_moments(n) == pytest.approx(moments, abs=5e-5)


@pytest.mark.parametrize(("n", "r", "s"), DIMENSIONS)
def test_p_values_of_unrelated_subspaces_are_uniform(n, r, s):
    p_values = overlap_p_value(sampled_overlaps(n, r, s), n, r, s)
    if n in (r, s):
        assert np.all(p_values == 1)
        return
    # Four standard errors of the Kolmogorov distance for a law that is exact, more for a fitted one.
    exact = 1 in (r, s, n - r, n - s)
    assert scipy.stats.kstest(p_values, "uniform").statistic < (0.014 if exact else 0.025)
    assert np.mean(p_values < 0.05) == pytest.approx(0.05, abs=0.006 if exact else 0.01)


def test_p_value_of_lines_is_that_of_the_angle():
    """In a plane the angle between two lines is uniform."""
    for degrees in (10, 45, 80):
        p_value = overlap_p_value(math.cos(math.radians(degrees)) ** 2, 2, 1, 1)
        assert float(p_value) == pytest.approx(degrees / 90, abs=1e-12)


def test_z_counts_standard_deviations():
    mean, deviation = overlap_moments(50, 4, 6)
    np.testing.assert_allclose(overlap_z([mean, mean + 2 * deviation], 50, 4, 6), [0, 2], atol=1e-12)
    with pytest.raises(ValueError, match="below n = 5"):
        overlap_z(1.0, 5, 5, 2)


def test_uniform_frames_are_uniform():
    frames = uniform_frame(4, 2, (SAMPLES,), generator=generator(2), dtype=torch.float64)
    require_frame(frames, "frames")
    # Signs too: the mean vanishes, and so it does not for the Q factor that LAPACK returns.
    assert float(frames.mean(dim=0).abs().max()) < 5 * 0.5 / math.sqrt(SAMPLES)
    projectors = (frames @ frames.mT).mean(dim=0)
    torch.testing.assert_close(projectors, torch.eye(4, dtype=torch.float64) / 2, atol=0.02, rtol=0)
    lone = scipy.stats.kstest(frames[:, 0, 0].numpy() ** 2, scipy.stats.beta(0.5, 1.5).cdf)
    assert lone.statistic < 0.014


@pytest.mark.parametrize(
    "call",
    [
        lambda: overlap_moments(4, 0, 1),
        lambda: overlap_moments(4, 1, 5),
        lambda: overlap_p_value(0.5, 4, 1, 5),
        lambda: uniform_frame(4, 5),
        lambda: abs_cosine_moments(0),
    ],
)
def test_dimensions_out_of_range_are_refused(call):
    with pytest.raises(ValueError, match="needs"):
        call()
