import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flaggeo.alignment import head_divergences, head_table
from manifolds import overlap_moments
from tests.flaggeo.alignment.builders import gaussian_heads


def as_table(kernels, kind="QQ", n=768, width=64):
    """What `head_divergences` reads of a table of heads of one width."""
    mean, spread = overlap_moments(n, width, width)
    return pd.DataFrame(
        {
            "kind": kind,
            "source_rank": width,
            "target_rank": width,
            "kernel": kernels,
            "kernel_null_mean": width * mean,
            "kernel_null_sd": width * spread,
            "overlap_sign_flip_mean": 1.5 * mean,
            "overlap_mean_matched_mean": 3 * mean,
            "overlap_norm_matched_mean": np.nan,
            "overlap_excess": 0.25,
        }
    )


@pytest.mark.parametrize(("shift", "sd"), [(0, 1.0), (3, 2.0), (1, 0.5), (0, 0.3)])
@pytest.mark.parametrize(("size", "tolerance"), [(4_000, 0.25), (40_000, 0.12)])
def test_gaussian_kernels_give_the_divergence_of_two_gaussians(shift, sd, size, tolerance):
    """The law of heads of width 64 is Gaussian to a few per cent."""
    table = as_table(np.random.default_rng(0).normal(64**2 / 768 + shift, sd, size))
    null_sd = table["kernel_null_sd"].iloc[0]
    expected = math.log(sd / null_sd) + (null_sd**2 + shift**2) / (2 * sd**2) - 0.5
    row = head_divergences(table).iloc[0]
    assert row["kl"] == pytest.approx(expected, abs=tolerance)
    assert row["kernel"] == pytest.approx(5.333 + shift, abs=5 * sd / math.sqrt(size))
    assert row["kernel_sd"] == pytest.approx(sd, rel=5 / math.sqrt(2 * size))
    assert (row["pairs"], row["kernel_null_sd"]) == (size, pytest.approx(0.108, abs=5e-4))
    # Means of what the table of heads holds, in shared dimensions.
    assert (row["kernel_null_mean"], row["kernel_sign_flip_mean"]) == pytest.approx((16 / 3, 8))
    assert row["kernel_mean_matched_mean"] == pytest.approx(16)
    assert np.isnan(row["kernel_norm_matched_mean"])
    assert row["overlap_excess"] == 0.25


def test_random_heads_diverge_by_nothing():
    table = head_divergences(head_table(gaussian_heads(layers=4, heads=8, n=48, width=6, seed=30)))
    assert table["kind"].tolist() == ["QQ", "KK", "VV", "OO", "OQ", "OK", "OV"]
    assert table["kl"].abs().max() < 0.1
    assert table["overlap_excess"].abs().max() < 0.05


def test_heads_of_several_ranks_are_compared_with_the_mixture_of_their_laws():
    rng = np.random.default_rng(1)
    parts = []
    for width in (1, 2):
        mean, spread = overlap_moments(20, width, width)
        weight = mean * (1 - mean) / spread**2 - 1
        overlaps = stats.beta(mean * weight, (1 - mean) * weight).rvs(20_000, random_state=rng)
        parts.append(as_table(width * overlaps, n=20, width=width))
    both = pd.concat(parts)
    assert head_divergences(both)["kl"].iloc[0] == pytest.approx(0, abs=0.05)
    # Under the law of the planes alone the same kernels are not random.
    assert head_divergences(as_table(both["kernel"].to_numpy(), n=20, width=2))["kl"].iloc[0] > 0.1


def test_the_direction_is_from_the_random_law():
    """KL(random || observed) of a wide sample is small beside the reverse, 37 against 1.8."""
    kernels = np.random.default_rng(2).normal(64**2 / 768, 1.0, 20_000)
    assert head_divergences(as_table(kernels))["kl"].iloc[0] == pytest.approx(1.73, abs=0.15)


def test_undefined_where_there_is_no_distribution():
    one_pair = head_divergences(as_table([5.0]))
    assert one_pair["kl"].isna().all()
    whole_stream = head_table(gaussian_heads(layers=2, heads=2, n=4, width=4, seed=31))
    assert head_divergences(whole_stream)["kl"].isna().all()


def test_pairs_without_a_kernel_do_not_count():
    table = as_table(np.random.default_rng(3).normal(6, 1, 500))
    lacking = pd.concat([table, as_table([np.nan] * 3)])
    pd.testing.assert_frame_equal(head_divergences(lacking), head_divergences(table))
