from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from scipy import stats

from flaggeo.alignment.chance.norm_matched import norm_matched
from flaggeo.alignment.chance.sign_flip import (
    leverages,
    sign_flip_p_value,
    sign_flip_spread,
    sign_flipped,
    sign_flips_of_lines,
)
from manifolds import overlap_moments, overlap_p_value, projection_overlap
from tests.builders import random_frame


def loud_frame(n, k, loud, *, seed):
    """What a random matrix with some loud columns reads."""
    columns, generator = torch.ones(n), torch.Generator().manual_seed(seed)
    columns[: len(loud)] = torch.tensor(loud)
    rows = torch.full((2 * n,), float(columns.norm() / (2 * n) ** 0.5))
    return torch.linalg.svd(norm_matched(rows, columns, generator).double(), full_matrices=False).Vh[:k].mT


def moments(first, second):
    return float(leverages(first) @ leverages(second)), float(sign_flip_spread([first, second])[0, 1])


def p_value(first, second):
    overlap, rank = projection_overlap(first, second).numpy(), min(first.shape[1], second.shape[1])
    return float(sign_flip_p_value(overlap, *(np.array(moment) / rank for moment in moments(first, second)))[0])


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
    frames = [loud_frame(70, k, [9.0, 5], seed=k) for k in (1, 4, 7)]
    together = sign_flip_spread(frames)
    monkeypatch.setattr("flaggeo.alignment.chance.sign_flip._BLOCK_ENTRIES", 9 * 3 * 70)
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
        assert share <= float(sign_flip_p_value(np.array(level), np.array(mean), np.array(spread))[0])


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
def test_unrelated_weights_with_outlier_channels_do_not_stand_out(n, k, loud):
    """Beyond any doubt unlike Haar, and nothing but the norms of channels."""
    pairs = [[loud_frame(n, k, loud, seed=1000 + 2 * draw + side) for side in (0, 1)] for draw in range(100)]
    p_values = np.array([p_value(*pair) for pair in pairs])
    assert np.mean([overlap_p_value(projection_overlap(*pair), n, k, k) < 1e-4 for pair in pairs]) > 0.9
    assert np.mean(p_values <= 0.05) < 0.1
    assert p_values.min() > 1e-3


def test_the_law_of_lines_is_even():
    first, second = ([random_frame(60, 1, seed=2 * draw + side) for draw in range(400)] for side in (0, 1))
    first_lines, second_lines = torch.stack(first), torch.stack(second)
    overlaps = projection_overlap(first_lines, second_lines)
    means = (leverages(first_lines) * leverages(second_lines)).sum(dim=1)
    sds = sign_flip_spread(first + second)[:400, 400:].diagonal()
    p_values, _ = sign_flip_p_value(*(moment.double().numpy() for moment in (overlaps, means, sds)))
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p_values <= level) == pytest.approx(level, abs=4 * (level * (1 - level) / 400) ** 0.5)


def test_one_outlier_coordinate_of_both_does_not_hide_an_alignment():
    """Both hold the loudest coordinate; one pair shares its other directions too."""
    axes = torch.eye(40, dtype=torch.float64)
    first, unrelated = (torch.cat([axes[:, :1], loud_rest], dim=1) for loud_rest in (rest(4), rest(5)))
    assert p_value(first, first) < 1e-4
    assert p_value(first, unrelated) > 0.01


def rest(seed):
    return torch.nn.functional.pad(random_frame(39, 3, seed=seed), (0, 0, 1, 0))


def test_no_room_is_no_evidence():
    ones, zeros = np.ones(2), np.zeros(2)
    for overlap, mean in ((ones, ones), (ones / 2, ones / 2)):
        assert [found.tolist() for found in sign_flip_p_value(overlap, mean, zeros)] == [[1, 1], [1, 1]]
    p_value, floor = sign_flip_p_value(zeros, ones / 2, ones / 2)
    assert p_value.tolist() == [1, 1]
    assert (floor < 1).all()


def test_the_floor_is_the_p_value_of_the_largest_overlap_and_undefined_where_there_is_none():
    overlap, mean, sd = np.array([0.3, 1.0, np.nan]), np.array([0.2, 0.1, 0.1]), np.array([0.1, 0.05, 0.05])
    p_value, floor = sign_flip_p_value(overlap, mean, sd)
    assert floor[:2].tolist() == sign_flip_p_value(np.ones(3), mean, sd)[0][:2].tolist()
    assert floor[0] < p_value[0]
    assert floor[1] == p_value[1]
    assert np.isnan([p_value[2], floor[2]]).all()


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
