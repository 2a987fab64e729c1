"""Matched experts: the assignment against all permutations, its nulls against what they are made of, planted layers."""

from itertools import permutations

import numpy as np
import pytest
import torch

from flaggeo.alignment.experts.matching import (
    DRAWS,
    MATCHED_GAIN,
    MATCHED_OVERLAP,
    Matching,
    matched,
    unrelated_moments,
)
from flaggeo.alignment.table import measured
from manifolds import pairwise_overlap, projection_overlap
from tests.flaggeo.alignment.experts.builders import KINDS, experts_of, layer_of, uniform

OBSERVABLES = (MATCHED_OVERLAP, MATCHED_GAIN)


def overlaps_of(first, second):
    return np.array([[float(projection_overlap(one, other)) for other in second] for one in first])


def largest_p_value(columns, observable=MATCHED_OVERLAP):
    return max(float(columns[column]) for column in observable.p_value_columns)


@pytest.mark.parametrize(("count", "others"), [(4, 4), (3, 5), (5, 2), (1, 3)])
def test_the_partners_are_those_of_the_best_of_all_permutations(count, others):
    first, second = uniform(count, 12, 2, seed=1), uniform(others, 12, 2, seed=2)
    overlaps = overlaps_of(first, second)
    fewer = overlaps if count <= others else overlaps.T
    best = max(
        np.mean([row[place] for row, place in zip(fewer, order, strict=True)])
        for order in permutations(range(fewer.shape[1]), len(fewer))
    )
    overlap, gain = matched(tuple(first), tuple(second)).tolist()
    assert overlap == pytest.approx(best)
    assert gain == pytest.approx(best - overlaps.mean())


def test_experts_in_another_order_are_found_and_their_numbers_say_nothing():
    frames, order = uniform(8, 64, 4, seed=3), [3, 0, 6, 1, 7, 2, 4, 5]
    columns = measured(OBSERVABLES, Matching(experts_of(frames), experts_of([frames[e] for e in order]), "0"))
    assert columns["matched_overlap"] == pytest.approx(1)
    by_number = np.mean([float(projection_overlap(frames[e], frames[order[e]])) for e in range(8)])
    assert by_number == pytest.approx(4 / 64, abs=0.02)
    assert all(columns[f"matched_overlap_{null}_mean"] < 0.13 for null in ("null", "sign_flip", "mean_matched"))
    assert largest_p_value(columns) < 1e-6
    assert columns["matched_gain"] == pytest.approx(1 - np.mean(pairwise_overlap(frames).numpy()))
    assert largest_p_value(columns, MATCHED_GAIN) < 1e-6


def test_a_direction_that_all_experts_share_is_no_gain():
    """With that of each expert beside it, any two overlap by a half."""
    shared, *own = uniform(13, 64, 1, seed=4)
    frames = [torch.linalg.qr(torch.cat([shared, one], dim=1)).Q for one in own]
    columns = measured(OBSERVABLES, Matching(experts_of(frames[:6]), experts_of(frames[6:]), "0"))
    assert columns["matched_overlap"] > 0.5
    assert largest_p_value(columns) < 1e-4
    assert largest_p_value(columns, MATCHED_GAIN) > 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_unrelated_layers_are_hardly_ever_matched(kind):
    """At 1 %: of 25 pairs of layers, 2 are more than three standard errors above. Experts of a layer may be alike."""
    small = np.zeros(2)
    for seed in range(25):
        first, second = (layer_of(kind, 24, 2, seed=2 * seed + place) for place in range(2))
        columns = measured(OBSERVABLES, Matching(first, second, str(seed)))
        small += [largest_p_value(columns, observable) <= 0.01 for observable in OBSERVABLES]
    assert (small <= 1).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_unrelated_layers_are_hardly_ever_matched_in_many_draws(kind):
    """At 1 %, of 600 pairs of layers, no more than three standard errors above."""
    small = np.zeros(2)
    for seed in range(600):
        first, second = (layer_of(kind, 24, 2, seed=2 * seed + place) for place in range(2))
        columns = measured(OBSERVABLES, Matching(first, second, str(seed)))
        small += [largest_p_value(columns, observable) <= 0.01 for observable in OBSERVABLES]
    assert (small <= 6 + 3 * 6**0.5).all()


def test_the_unmatched_null_would_call_chance_a_match():
    """Of 16 unrelated experts, partners lie many standard deviations of a mean of as many pairs above the Haar mean."""
    matching = Matching(experts_of(uniform(16, 64, 2, seed=5)), experts_of(uniform(16, 64, 2, seed=6)), "0")
    columns = measured(OBSERVABLES, matching)
    spread_of_a_mean = float(pairwise_overlap(uniform(40, 64, 2, seed=7))[np.triu_indices(40, k=1)].std()) / 4
    assert columns["matched_overlap"] > 2 / 64 + 5 * spread_of_a_mean
    assert largest_p_value(columns) > 0.05


def test_the_unrelated_null_is_what_independent_uniform_experts_give():
    drawn = torch.stack(
        [matched(tuple(uniform(4, 20, 2, seed=seed)), tuple(uniform(4, 20, 2, seed=900 + seed))) for seed in range(400)]
    )
    moments = unrelated_moments(20, (2,) * 4, (2,) * 4)
    error = drawn.std(dim=0) / DRAWS**0.5
    assert ((moments[:, 0] - drawn.mean(dim=0)).abs() < 4 * error).all()
    torch.testing.assert_close(moments[:, 1], drawn.std(dim=0), rtol=0.3, atol=0)


def test_sign_flips_keep_outlier_channels_and_what_experts_have_in_common():
    """Experts that are equal in each layer have one overlap, of which no best can be chosen."""
    [one], [other] = uniform(1, 24, 2, seed=8), uniform(1, 24, 2, seed=9)
    matching = Matching(experts_of([one] * 5), experts_of([other] * 5), "0")
    (mean, sd), (gain, _) = matching.sign_flips.tolist()
    expected = float((one.square().sum(dim=1) * other.square().sum(dim=1)).sum()) / 2
    assert mean == pytest.approx(expected, abs=5 * sd / DRAWS**0.5)
    assert gain == pytest.approx(0, abs=1e-6)
    channel = torch.eye(24, dtype=torch.float64)[:, :2]
    same = Matching(experts_of([channel] * 3), experts_of([channel] * 3), "0")
    columns = measured(OBSERVABLES, same)
    assert columns["matched_overlap_sign_flip_mean"] == pytest.approx(1)
    assert largest_p_value(columns) == 1


def test_another_order_of_the_experts_changes_nothing():
    first, second = (layer_of("common mean", 24, 2, seed=seed) for seed in (1, 2))
    before = measured(OBSERVABLES, Matching(first, second, "7"))
    turned = [experts_of(one.frames[::-1], one.channel_norms[::-1]) for one in (first, second)]
    for earlier, later in ((turned[0], second), (first, turned[1])):
        after = measured(OBSERVABLES, Matching(earlier, later, "7"))
        for name, value in before.items():
            assert float(after[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-6), name


def test_draws_belong_to_their_stream():
    first, second = (layer_of("uniform", 24, 2, seed=seed) for seed in (1, 2))
    one, again, other = (Matching(first, second, stream).sign_flips for stream in ("a", "a", "b"))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
