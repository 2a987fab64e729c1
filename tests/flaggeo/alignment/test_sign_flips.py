from itertools import product

import numpy as np
import pytest
import torch

from flaggeo.alignment.nulls import margin_matched
from flaggeo.alignment.sign_flips import leverages, sign_flip_moments, sign_flip_p_value
from manifolds import overlap_moments, overlap_p_value, projection_overlap
from tests.builders import random_frame


def loud_frame(n, k, loud, *, seed):
    """What a random matrix with some loud columns reads."""
    columns, generator = torch.ones(n), torch.Generator().manual_seed(seed)
    columns[: len(loud)] = torch.tensor(loud)
    rows = torch.full((2 * n,), float(columns.norm() / (2 * n) ** 0.5))
    return torch.linalg.svd(margin_matched(rows, columns, generator).double(), full_matrices=False).Vh[:k].mT


def moments(first, second):
    mean, spread = sign_flip_moments(torch.stack([leverages(first), leverages(second)]))
    return float(mean[0, 1]), float(spread[0, 1])


def exact_spread(first, second):
    squares = (first @ first.mT).square() * (second @ second.mT).square()
    return float((2 * (squares.sum() - squares.trace())).sqrt())


def test_leverages_are_the_diagonal_of_the_projector():
    frame = random_frame(6, 2, seed=6)
    torch.testing.assert_close(leverages(frame), (frame @ frame.mT).diagonal())


def test_the_mean_is_that_of_all_sign_patterns_and_the_spread_is_about_it():
    first, second = random_frame(8, 2, seed=0), random_frame(8, 3, seed=1)
    signs = torch.tensor(list(product([1.0, -1.0], repeat=8)), dtype=torch.float64)
    overlaps = (first.mT @ (signs[:, :, None] * second)).square().sum(dim=(1, 2))
    mean, spread = moments(first, second)
    assert mean == pytest.approx(float(overlaps.mean()))
    assert exact_spread(first, second) == pytest.approx(float(overlaps.std(correction=0)))
    assert spread == pytest.approx(exact_spread(first, second), rel=0.3)


@pytest.mark.parametrize("loud", [[], [30.0], [30.0, 20, 10], [5.0] * 4, [100.0] * 8])
def test_the_spread_is_close_or_on_the_safe_side_for_loud_channels(loud):
    for seed in range(5):
        first, second = (loud_frame(80, 8, loud, seed=2 * seed + side) for side in (0, 1))
        ratio = moments(first, second)[1] / exact_spread(first, second)
        assert 0.75 < ratio < 2


def test_uniform_subspaces_have_the_haar_moments():
    first, second = random_frame(400, 6, seed=2), random_frame(400, 6, seed=3)
    mean, spread = moments(first, second)
    expected = overlap_moments(400, 6, 6)
    assert mean / 6 == pytest.approx(expected[0], rel=0.05)
    assert spread / 6 == pytest.approx(expected[1], rel=0.05)


def p_value(first, second):
    overlap, rank = projection_overlap(first, second).numpy(), min(first.shape[1], second.shape[1])
    return float(sign_flip_p_value(overlap, *(np.array(moment) / rank for moment in moments(first, second))))


@pytest.mark.parametrize(("n", "k", "loud"), [(24, 3, [9.0, 7, 5, 5]), (60, 4, [5.0] * 10), (24, 4, [100.0] * 6)])
def test_unrelated_weights_with_loud_channels_do_not_stand_out(n, k, loud):
    """Beyond any doubt unlike Haar, and nothing but loudness."""
    pairs = [[loud_frame(n, k, loud, seed=1000 + 2 * draw + side) for side in (0, 1)] for draw in range(100)]
    p_values = np.array([p_value(*pair) for pair in pairs])
    assert np.mean([overlap_p_value(projection_overlap(*pair), n, k, k) < 1e-4 for pair in pairs]) > 0.9
    assert np.mean(p_values <= 0.05) < 0.1
    assert p_values.min() > 1e-3


def test_the_law_of_lines_is_even():
    lines = [[random_frame(60, 1, seed=2 * draw + side) for side in (0, 1)] for draw in range(400)]
    p_values = np.array([p_value(*pair) for pair in lines])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p_values <= level) == pytest.approx(level, abs=4 * (level * (1 - level) / 400) ** 0.5)


def test_one_loud_direction_in_both_does_not_hide_an_alignment():
    """Both hold the loudest coordinate; one pair shares its other directions too."""
    axes = torch.eye(40, dtype=torch.float64)
    first, unrelated = (torch.cat([axes[:, :1], loud_rest], dim=1) for loud_rest in (rest(4), rest(5)))
    assert p_value(first, first) < 1e-6
    assert p_value(first, unrelated) > 0.01


def rest(seed):
    return torch.nn.functional.pad(random_frame(39, 3, seed=seed), (0, 0, 1, 0))


def test_no_room_is_no_evidence():
    ones, zeros = np.ones(2), np.zeros(2)
    assert sign_flip_p_value(ones, ones, zeros).tolist() == [1, 1]
    assert sign_flip_p_value(ones / 2, ones / 2, zeros).tolist() == [1, 1]
    assert sign_flip_p_value(zeros, ones / 2, ones / 2).tolist() == [1, 1]
