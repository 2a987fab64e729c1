from functools import cache
from itertools import product

import pytest
import torch
from scipy import stats

from flaggeo.alignment.chance.norm_matched import norm_matched
from flaggeo.alignment.chance.sign_flip import (
    leverages,
    sign_flip_spread,
    sign_flipped,
    sign_flips_of_lines,
)
from manifolds import overlap_moments
from tests.builders import random_frame
from tests.flaggeo.alignment.chance.builders import moments, without_diagonal


def loud_frame(n, k, loud, *, seed):
    """What a random matrix with some loud columns reads."""
    columns, generator = torch.ones(n), torch.Generator().manual_seed(seed)
    columns[: len(loud)] = torch.tensor(loud)
    rows = torch.full((2 * n,), float(columns.norm() / (2 * n) ** 0.5))
    return torch.linalg.svd(norm_matched(rows, columns, generator).double(), full_matrices=False).Vh[:k].mT


def test_a_flipped_frame_stays_a_frame_with_the_same_leverages():
    frame = random_frame(30, 3, seed=0)
    flipped = sign_flipped(frame, torch.Generator().manual_seed(1))
    torch.testing.assert_close(flipped.mT @ flipped, torch.eye(3, dtype=torch.float64))
    assert torch.equal(flipped.abs(), frame.abs())
    signs = (flipped / frame)[:, 0]
    assert set(signs.tolist()) == {-1.0, 1.0}
    assert torch.equal(frame * signs[:, None], flipped)  # one sign a coordinate, not one an entry


def test_leverages_are_the_diagonal_of_the_projector():
    frame = random_frame(6, 2, seed=6)
    torch.testing.assert_close(leverages(frame), (frame @ frame.mT).diagonal())


def test_the_moments_are_those_of_all_sign_patterns():
    first, second = random_frame(8, 2, seed=0), random_frame(8, 3, seed=1)
    overlaps = (first.mT @ (sign_patterns(8)[:, :, None] * second)).square().sum(dim=(1, 2))
    mean, spread = moments(first, second)
    assert mean == pytest.approx(float(overlaps.mean()))
    assert spread == pytest.approx(float(overlaps.std(correction=0)), rel=1e-5)


def test_all_pairs_in_blocks_are_the_pairs_one_by_one(monkeypatch):
    frames = [loud_frame(70, k, [9.0, 5], seed=k) for k in (1, 4, 7, 2, 3)]
    spread, largest_part = together = sign_flip_spread(frames)
    monkeypatch.setattr("flaggeo.alignment.chance.sign_flip._BLOCK_ENTRIES", 9 * 5 * 70)
    monkeypatch.setattr("flaggeo.alignment.chance.sign_flip._GROUP", 2)
    torch.testing.assert_close(sign_flip_spread(frames), together)
    for i, j in product(range(5), repeat=2):
        exact = without_diagonal((frames[i] @ frames[i].mT) * (frames[j] @ frames[j].mT))
        assert float(spread[i, j]) == pytest.approx(2**0.5 * float(exact.norm()), rel=1e-5)
        assert float(largest_part[i, j]) == pytest.approx(float(exact.norm(dim=1).max()), rel=1e-5)


def test_uniform_subspaces_have_the_haar_moments():
    first, second = random_frame(400, 6, seed=2), random_frame(400, 6, seed=3)
    mean, spread = moments(first, second)
    expected = overlap_moments(400, 6, 6)
    assert mean / 6 == pytest.approx(expected[0], rel=0.05)
    assert spread / 6 == pytest.approx(expected[1], rel=0.05)


@cache
def sign_patterns(n):
    return torch.tensor(list(product([1.0, -1.0], repeat=n)), dtype=torch.float64)


def of_all_signs(first, second):
    """The mean, the p-value and the least p-value by every pattern of signs."""
    cosines = (sign_patterns(len(first)) @ (first * second)).abs()
    reached = (first @ second).abs(), cosines.max()
    return float(cosines.mean()), *(float((cosines >= level - 1e-9).double().mean()) for level in reached)


def two_lines(n, *, unevenness, agreement, seed):
    """Unit vectors with coordinates of very different size, the second leaning towards the first."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.exp(unevenness * torch.randn(n, generator=generator, dtype=torch.float64))
    first, other = (scales * torch.randn(n, generator=generator, dtype=torch.float64) for _ in range(2))
    second = other + agreement * first
    return first / first.norm(), second / second.norm()


@pytest.mark.parametrize("n", [1, 2, 7, 10])
def test_few_coordinates_are_gone_through(n):
    lines = two_lines(n, unevenness=1, agreement=0.5, seed=n)
    assert [float(value) for value in sign_flips_of_lines(*lines)] == pytest.approx(of_all_signs(*lines), abs=1e-5)


@pytest.mark.parametrize("unevenness", [0, 1, 2])
@pytest.mark.parametrize("agreement", [0, 0.5, 2])
def test_many_coordinates_are_nearly_those_of_all_sign_patterns(unevenness, agreement):
    for seed in range(4):
        lines = two_lines(16, unevenness=unevenness, agreement=agreement, seed=seed)
        mean, p_value, floor = map(float, sign_flips_of_lines(*lines))
        exact_mean, exact_p_value, _ = of_all_signs(*lines)
        assert mean == pytest.approx(exact_mean, rel=1e-3)
        assert p_value > exact_p_value / 3.2
        if exact_p_value >= 0.01:
            assert p_value == pytest.approx(exact_p_value, rel=0.03)
        assert floor <= p_value


def test_equal_coordinates_coincide_only_where_all_signs_are_equal():
    for count in (2, 4, 7):
        line = torch.zeros(30)
        line[:count] = count**-0.5
        _, p_value, floor = sign_flips_of_lines(line, line)
        assert float(p_value) == float(floor) == pytest.approx(2.0 ** (1 - count))


def test_a_batch_of_lines_is_the_lines_one_by_one_in_either_precision():
    pairs = [two_lines(40, unevenness=1, agreement=1, seed=seed) for seed in range(5)]
    first, second = map(torch.stack, zip(*pairs, strict=True))
    together = torch.stack(sign_flips_of_lines(first, second))
    one_by_one = torch.tensor([[float(value) for value in sign_flips_of_lines(*pair)] for pair in pairs]).mT
    torch.testing.assert_close(together, one_by_one.double())
    single = torch.stack(sign_flips_of_lines(first.float(), second.float()))
    torch.testing.assert_close(single, together, rtol=1e-3, atol=1e-7)


def test_an_outlier_coordinate_leaves_no_room_but_quiet_ones_that_agree_do():
    """Both hold 0.9 of their weight on one coordinate; only in one pair do the others agree."""
    loud, generator = torch.eye(200, dtype=torch.float64)[0], torch.Generator().manual_seed(0)
    quiet = torch.randn(2, 200, generator=generator, dtype=torch.float64) * (1 - loud)
    first, unrelated = (0.9**0.5 * loud + 0.1**0.5 * rest / rest.norm() for rest in quiet)
    assert [float(value) for value in sign_flips_of_lines(loud, loud)] == pytest.approx([1, 1, 1])
    assert float(sign_flips_of_lines(first, unrelated)[1]) > 0.01
    mean, p_value, floor = sign_flips_of_lines(first, first)
    assert float(mean) == pytest.approx(0.9, abs=0.01)
    assert float(floor) == float(p_value) < 1e-10


def test_norm_matched_lines_have_even_p_values():
    """Their law is unchanged by coordinate signs, whatever the norm of a channel."""
    pairs = [[loud_frame(20, 1, [9.0, 5], seed=2 * draw + side)[:, 0] for side in (0, 1)] for draw in range(300)]
    p_values = sign_flips_of_lines(*map(torch.stack, zip(*pairs, strict=True)))[1].numpy()
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
