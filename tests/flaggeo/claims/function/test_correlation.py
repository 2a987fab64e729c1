"""Rank correlations against SciPy's, and intervals against what is known of them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from flaggeo.claims.function.correlation import mean_difference, rank_correlation


def columns(generator, count, strength):
    first = generator.standard_normal(count)
    second = strength * first + generator.standard_normal(count)
    return pd.Series(first), pd.Series(second), pd.DataFrame({"row": range(count)})


@pytest.mark.parametrize("seed", range(3))
def test_the_value_is_spearmans(seed):
    first, second, units = columns(np.random.default_rng(seed), 60, 0.8)
    second[second > 1] = 1  # ties
    found = rank_correlation(first, second, units)
    assert found.value == pytest.approx(stats.spearmanr(first, second).statistic, abs=1e-12)
    assert found.count == 60


def test_the_interval_is_that_of_fisher():
    """300 independent rows: the bootstrap has to come near Fisher's interval, standard error 1.03 / sqrt(n)."""
    first, second, units = columns(np.random.default_rng(3), 300, 0.0)
    found = rank_correlation(first, second, units)
    half = (found.high - found.low) / 2
    assert half == pytest.approx(1.96 * 1.03 / 300**0.5, rel=0.15)
    assert found.low < found.value < found.high


def test_pairs_that_share_heads_are_not_independent():
    """Effects of heads alone: rows would give an interval that is far too narrow."""
    generator = np.random.default_rng(4)
    heads = 40
    source, target = (places.ravel() for places in np.meshgrid(range(heads), range(heads)))
    first = pd.Series(generator.standard_normal(heads)[source] + 0.1 * generator.standard_normal(heads**2))
    second = pd.Series(generator.standard_normal(heads)[source] + 0.1 * generator.standard_normal(heads**2))
    by_head = rank_correlation(first, second, pd.DataFrame({"source": source, "target": target}))
    by_row = rank_correlation(first, second, pd.DataFrame({"row": range(heads**2)}))
    assert by_head.high - by_head.low > 4 * (by_row.high - by_row.low)
    # 40 heads are what is independent: 2 * 1.96 / sqrt(40) = .62.
    assert by_head.high - by_head.low == pytest.approx(0.62, abs=0.25)


def test_differences_between_groups_do_not_count_within_them():
    generator = np.random.default_rng(5)
    group = pd.Series(np.repeat(range(20), 30))
    first = pd.Series(10.0 * group + generator.standard_normal(600))
    second = pd.Series(10.0 * group + generator.standard_normal(600))
    units = pd.DataFrame({"row": range(600)})
    assert rank_correlation(first, second, units).value > 0.99
    within = rank_correlation(first, second, units, within=group)
    assert within.low < 0 < within.high


def test_missing_rows_are_left_out_and_constants_have_no_correlation():
    first, second = pd.Series([1.0, 2.0, np.nan, 3.0]), pd.Series([1.0, 2.0, 5.0, 3.0])
    units = pd.DataFrame({"row": range(4)})
    assert rank_correlation(first, second, units).value == pytest.approx(1)
    assert rank_correlation(first, second, units).count == 3
    assert np.isnan(rank_correlation(first, second * 0, units).value)


def test_the_mean_of_differences():
    generator = np.random.default_rng(6)
    first = pd.Series(generator.standard_normal(400) + 1)
    found = mean_difference(first, pd.Series(np.zeros(400)))
    assert found.value == pytest.approx(first.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 / 400**0.5, rel=0.15)
    assert mean_difference(first * np.nan, first).count == 0
