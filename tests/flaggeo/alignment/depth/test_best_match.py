import itertools
import math

import numpy as np
import pytest
import torch

from flaggeo.alignment.depth.best_match import BEST_MATCH, MATCHES, PROJECTION, best_match_moments
from flaggeo.alignment.depth.layer_pair import LayerPair
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from manifolds import abs_cosine_moments, uniform_frame
from tests.builders import planted, random_frame
from tests.flaggeo.alignment.builders import layer_pair

VALUES = [9.0, 7.0, 5.0, 3.0, 1.0]


def pair_of(first, second):
    return layer_pair(first, second, rank=10)


def permuted(order):
    """A weight and one whose directions have changed places."""
    matrix, left, right = planted(VALUES, 20, 30, seed=0)
    return matrix, (left * torch.tensor(VALUES)) @ right[:, order].mT


@pytest.mark.parametrize(("order", "place"), [([0, 1, 2, 3, 4], 1), ([1, 0, 2, 3, 4], 2), ([3, 1, 2, 0, 4], 4)])
def test_a_planted_swap_is_found_where_the_direction_went(order, place):
    pair = pair_of(*permuted(order))
    assert float(BEST_MATCH.measure(pair)) == pytest.approx(1)
    [(_, index)] = BEST_MATCH.companions
    assert int(index(pair)) == place
    assert float(PROJECTION.measure(pair)) == pytest.approx(1)


def test_a_direction_spread_over_two_is_held_by_them_together():
    matrix, left, right = planted(VALUES, 20, 30, seed=0)
    spread = right.clone()
    spread[:, 0], spread[:, 1] = (right[:, 0] + right[:, 1]) / 2**0.5, (right[:, 0] - right[:, 1]) / 2**0.5
    pair = pair_of(matrix, (left * torch.tensor(VALUES)) @ spread.mT)
    assert float(BEST_MATCH.measure(pair)) == pytest.approx(2**-0.5)
    assert float(PROJECTION.measure(pair)) == pytest.approx(1)


def test_a_match_beyond_the_eighth_does_not_count():
    values = [float(12 - i) for i in range(10)]
    matrix, left, right = planted(values, 20, 30, seed=1)
    moved = (left * torch.tensor(values)) @ right[:, [9, *range(1, 9), 0]].mT
    assert float(BEST_MATCH.measure(pair_of(matrix, moved))) < 1e-6
    assert float(PROJECTION.measure(pair_of(matrix, moved))) < 1e-6


@pytest.mark.parametrize("observable", [BEST_MATCH, PROJECTION], ids=lambda observable: observable.column)
def test_a_rotation_of_a_single_weight_is_seen(observable):
    first, second = (random_frame(30, 30, seed=seed)[:20] * torch.linspace(1, 3, 30) for seed in (2, 3))
    plain = float(observable.measure(pair_of(first, second)))
    turned = pair_of(first @ random_frame(30, 30, seed=4), second)
    assert float(observable.measure(turned)) != pytest.approx(plain, abs=1e-3)


@pytest.mark.parametrize(("n", "k"), [(1, 1), (6, 1), (576, 1)])
def test_one_competitor_is_a_single_cosine(n, k):
    assert best_match_moments(n, k) == pytest.approx(abs_cosine_moments(n), abs=1e-6)


def test_two_competitors_in_the_plane_by_hand():
    """Over the angle: the mean of max(|cos|, |sin|) is 2 sqrt(2) / pi, that of its square 1/2 + 1/pi."""
    mean, spread = best_match_moments(2, 2)
    assert mean == pytest.approx(2 * math.sqrt(2) / math.pi, abs=1e-13)
    assert spread**2 + mean**2 == pytest.approx(0.5 + 1 / math.pi, abs=1e-13)


@pytest.mark.parametrize(("n", "k"), [(3, 3), (24, 8), (64, 5)])
def test_the_null_is_that_of_uniform_frames(n, k):
    draws = 20_000
    vectors = uniform_frame(n, 1, (draws,), generator=torch.Generator().manual_seed(n), dtype=torch.float64)[..., 0]
    found = vectors[:, :k].abs().amax(dim=1).numpy()
    mean, spread = best_match_moments(n, k)
    assert abs(found.mean() - mean) < 4 * spread / np.sqrt(draws)
    assert found.std() == pytest.approx(spread, rel=0.03)


def test_more_competitors_than_dimensions_are_refused():
    with pytest.raises(ValueError, match="k = 4 in dimension n = 3"):
        best_match_moments(3, 4)


def test_random_weights_stand_at_the_nulls():
    generator = torch.Generator().manual_seed(5)
    spectra = [leading_spectrum(torch.randn(40, 32, generator=generator), MATCHES) for _ in range(80)]
    pairs = [LayerPair(a, b, Side.READ) for a, b in itertools.pairwise(spectra)]
    for observable in (BEST_MATCH, PROJECTION):
        mean, spread = map(float, observable.null.law(pairs[0]))
        found = np.mean([float(observable.measure(pair)) for pair in pairs])
        assert abs(found - mean) < 4 * spread / np.sqrt(len(pairs))


@pytest.mark.parametrize("observable", [BEST_MATCH, PROJECTION], ids=lambda observable: observable.column)
def test_a_zero_weight_has_no_match_and_no_null(observable):
    for pair in (pair_of(torch.zeros(4, 6), torch.ones(4, 6)), pair_of(torch.ones(4, 6), torch.zeros(4, 6))):
        assert np.isnan(float(observable.measure(pair)))
        assert np.isnan(float(observable.null.law(pair)[0]))


def test_a_later_weight_of_rank_one_offers_one_candidate():
    pair = pair_of(permuted([0, 1, 2, 3, 4])[0], torch.ones(20, 30))
    mean, _ = BEST_MATCH.null.law(pair)
    assert float(mean) == pytest.approx(abs_cosine_moments(30)[0])
    assert float(BEST_MATCH.measure(pair)) ** 2 == pytest.approx(float(PROJECTION.measure(pair)))
