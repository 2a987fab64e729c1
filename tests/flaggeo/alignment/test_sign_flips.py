from itertools import product

import numpy as np
import pytest
import torch

from flaggeo.alignment.nulls import margin_matched
from flaggeo.alignment.sign_flips import leverages, sign_flip_p_value, sign_flip_spread
from manifolds import overlap_moments, overlap_p_value, projection_overlap
from tests.builders import random_frame


def loud_frame(n, k, loud, *, seed):
    """What a random matrix with some loud columns reads."""
    columns, generator = torch.ones(n), torch.Generator().manual_seed(seed)
    columns[: len(loud)] = torch.tensor(loud)
    rows = torch.full((2 * n,), float(columns.norm() / (2 * n) ** 0.5))
    return torch.linalg.svd(margin_matched(rows, columns, generator).double(), full_matrices=False).Vh[:k].mT


def moments(first, second):
    return float(leverages(first) @ leverages(second)), float(sign_flip_spread([first, second])[0, 1])


def p_value(first, second):
    overlap, rank = projection_overlap(first, second).numpy(), min(first.shape[1], second.shape[1])
    return float(sign_flip_p_value(overlap, *(np.array(moment) / rank for moment in moments(first, second))))


def test_leverages_are_the_diagonal_of_the_projector():
    frame = random_frame(6, 2, seed=6)
    torch.testing.assert_close(leverages(frame), (frame @ frame.mT).diagonal())


def test_the_moments_are_those_of_all_sign_patterns():
    first, second = random_frame(8, 2, seed=0), random_frame(8, 3, seed=1)
    signs = torch.tensor(list(product([1.0, -1.0], repeat=8)), dtype=torch.float64)
    overlaps = (first.mT @ (signs[:, :, None] * second)).square().sum(dim=(1, 2))
    mean, spread = moments(first, second)
    assert mean == pytest.approx(float(overlaps.mean()))
    assert spread == pytest.approx(float(overlaps.std(correction=0)), rel=1e-5)


def test_all_pairs_in_blocks_are_the_pairs_one_by_one(monkeypatch):
    frames = [loud_frame(70, k, [9.0, 5], seed=k) for k in (1, 4, 7)]
    together = sign_flip_spread(frames)
    monkeypatch.setattr("flaggeo.alignment.sign_flips._BLOCK_ROWS", 9)
    torch.testing.assert_close(sign_flip_spread(frames), together)
    for i, j in product(range(3), repeat=2):
        squares = (frames[i] @ frames[i].mT).square() * (frames[j] @ frames[j].mT).square()
        exact = float((2 * (squares.sum() - squares.trace())).sqrt())
        assert float(together[i, j]) == pytest.approx(exact, rel=1e-5)


def coupled(n, k, *, seed):
    """Directions that live on two coordinates each, the case in which signs matter most."""
    generator = torch.Generator().manual_seed(seed)
    frame = torch.zeros(n, k, dtype=torch.float64)
    for place in range(k):
        frame[2 * place : 2 * place + 2, place] = 0.5**0.5
    return torch.linalg.qr(frame + 0.05 * torch.randn(n, k, generator=generator, dtype=torch.float64)).Q


@pytest.mark.parametrize(
    "pair",
    [
        *([coupled(40, k, seed=0), coupled(40, k, seed=1)] for k in (3, 8, 16)),
        *(
            [loud_frame(80, k, loud, seed=0), loud_frame(80, k, loud, seed=1)]
            for k, loud in [(8, [30.0, 20, 10]), (4, [])]
        ),
    ],
    ids=["3 coupled", "8 coupled", "16 coupled", "loud", "uniform"],
)
def test_small_p_values_are_not_too_small(pair):
    """The share of sign patterns with at least an overlap is at most the p-value of that overlap."""
    (first, second), k = pair, pair[0].shape[1]
    generator = torch.Generator().manual_seed(2)
    signs = 2.0 * torch.randint(0, 2, (20_000, len(first), 1), generator=generator) - 1
    overlaps = (first.float().mT @ (signs * second.float())).square().sum(dim=(1, 2)).double().numpy() / k
    mean, spread = (moment / k for moment in moments(first, second))
    for share in (0.05, 0.01, 0.001):
        level = np.quantile(overlaps, 1 - share)
        assert share <= float(sign_flip_p_value(np.array(level), np.array(mean), np.array(spread)))


def test_lines_on_two_coordinates_are_the_worst_case():
    """They meet fully or not at all, each half of the time; the law for many coordinates says a tenth."""
    line = torch.zeros(6, 1, dtype=torch.float64)
    line[:2] = 0.5**0.5
    assert moments(line, line) == pytest.approx((0.5, 0.5))
    assert p_value(line, line) == pytest.approx(0.12, abs=0.01)


def test_uniform_subspaces_have_the_haar_moments():
    first, second = random_frame(400, 6, seed=2), random_frame(400, 6, seed=3)
    mean, spread = moments(first, second)
    expected = overlap_moments(400, 6, 6)
    assert mean / 6 == pytest.approx(expected[0], rel=0.05)
    assert spread / 6 == pytest.approx(expected[1], rel=0.05)


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
    assert p_value(first, first) < 1e-4
    assert p_value(first, unrelated) > 0.01


def rest(seed):
    return torch.nn.functional.pad(random_frame(39, 3, seed=seed), (0, 0, 1, 0))


def test_no_room_is_no_evidence():
    ones, zeros = np.ones(2), np.zeros(2)
    assert sign_flip_p_value(ones, ones, zeros).tolist() == [1, 1]
    assert sign_flip_p_value(ones / 2, ones / 2, zeros).tolist() == [1, 1]
    assert sign_flip_p_value(zeros, ones / 2, ones / 2).tolist() == [1, 1]
