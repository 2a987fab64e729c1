"""The law of overlaps over random signs, against all patterns, drawn signs and dense eigenvalues."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from flaggeo import load
from flaggeo.alignment import norm_matched, pair_table
from flaggeo.alignment.chance.sign_flip import leverages, sign_flip_spread
from flaggeo.alignment.chance.sign_flip_law import sign_flip_law
from manifolds import overlap_moments, overlap_p_value, projection_overlap
from tests.builders import random_frame
from tests.flaggeo.alignment.builders import spectra_of
from tests.flaggeo.alignment.chance.builders import (
    LEVELS,
    flips,
    law_of_pair,
    moments,
    unrelated_p_values,
    unrelated_pair,
    without_diagonal,
)

MEASUREMENTS = Path(__file__).parents[4] / "docs" / "measurements.md"


def line_on(count, n=30):
    """A line along the first coordinates equally."""
    line = torch.zeros(n, 1, dtype=torch.float64)
    line[:count] = count**-0.5
    return line


def p_value_and_floor(first, second):
    overlap = float(projection_overlap(first, second))
    return (float(found[0]) for found in law_of_pair(first, second, overlap).p_value(np.array([overlap])))


# All patterns of few coordinates


@pytest.mark.parametrize(("n", "r", "s"), [(5, 1, 1), (8, 2, 3), (9, 4, 2), (10, 1, 4)])
def test_few_coordinates_are_gone_through(n, r, s):
    """In a space of many more, so that neither the number of coordinates nor the zeros matter."""
    first, second = random_frame(n, r, seed=n), random_frame(n, s, seed=n + 1)
    signs = torch.tensor(list(product([1.0, -1.0], repeat=n)), dtype=torch.float64)
    overlaps = projection_overlap(first, signs[:, :, None] * second).numpy()
    law = law_of_pair(*(torch.nn.functional.pad(frame, (0, 0, 0, 25)) for frame in (first, second)), 1)
    values = np.unique(overlaps)
    between = ((values[1:] + values[:-1]) / 2)[np.diff(values) > 1e-5]
    assert len(between) > 10
    for reached in between:
        assert float(law.tail(np.array([reached]))[0]) == pytest.approx(np.mean(overlaps >= reached), abs=1e-12)
    assert float(law.most[0]) >= overlaps.max() - 1e-6


@pytest.mark.parametrize("count", [4, 6, 8, 10])
def test_equal_lines_meet_only_where_all_signs_are_equal(count):
    line = line_on(count)
    p_value, floor = p_value_and_floor(line, line)
    assert p_value == floor == pytest.approx(2.0 ** (1 - count))


@pytest.mark.parametrize("count", [12, 16, 19])
def test_a_few_more_coordinates_come_within_a_factor_of_two_of_all_patterns(count):
    line = line_on(count)
    assert 0.5 < next(p_value_and_floor(line, line)) * 2.0 ** (count - 1) < 2


def test_the_floor_is_the_p_value_of_the_best_signs():
    """Two lines on the same coordinates in unlike shares, which no signs make equal."""
    first, second = line_on(8), line_on(8)
    first[:4] *= 3
    first /= first.norm()
    second = second * torch.tensor([1.0, -1.0])[torch.arange(30) % 2][:, None]
    best = float(projection_overlap(first, second.abs()))
    law = law_of_pair(first, second, 1)
    assert float(law.most[0]) == pytest.approx(best, abs=1e-6)
    assert best < 0.9
    _, floor = law.p_value(np.array([0.1]))
    assert float(floor[0]) == pytest.approx(2.0**-7)


# Many coordinates


@pytest.mark.parametrize(("n", "r", "s"), [(60, 1, 1), (120, 4, 4), (120, 2, 12), (200, 16, 16), (120, 40, 40)])
def test_degrees_of_freedom_come_from_the_eigenvalues(n, r, s):
    first, second = random_frame(n, r, seed=r), random_frame(n, s, seed=100 + s)
    eigenvalues = torch.linalg.eigvalsh(without_diagonal((first @ first.mT) * (second @ second.mT)))
    expected = float(eigenvalues.square().sum() / eigenvalues.abs().max() ** 2)
    law = law_of_pair(first, second, 1)
    if not law.few:  # the scale does not exceed the largest eigenvalue, nor stay far below it
        assert expected <= float(law.dof[0]) * (1 + 1e-5)
        assert float(law.dof[0]) < 4 * expected
    for few in law.few:
        assert few.eigenvalue[0] <= float(eigenvalues.abs().max()) * (1 + 1e-5)


def test_above_a_twentieth_the_law_is_that_of_two_moments_and_below_it_is_finer():
    first, second = random_frame(300, 8, seed=0), random_frame(300, 8, seed=1)
    mean, sd = (moment / 8 for moment in moments(first, second))
    for z in (-1.0, 0.0, 1.0, 4.0, 7.0):
        reached = mean + z * sd
        found = float(law_of_pair(first, second, reached).tail(np.array([reached]))[0])
        of_moments = stats.chi2(1).sf(max(1 + 2**0.5 * z, 0))
        if of_moments > 0.05:
            assert found == pytest.approx(of_moments, rel=1e-3)
        else:
            assert stats.norm.sf(z) < found < of_moments
    assert found < 1e-4 * of_moments


@pytest.mark.parametrize(
    ("kind", "n", "r", "s"), [("uniform", 200, 8, 8), ("one narrow line", 200, 8, 8), ("outlier channels", 64, 4, 4)]
)
def test_one_law_serves_every_value(kind, n, r, s):
    """Drawn signs of one pair: the tail at any value, not only where it was measured."""
    rng = np.random.default_rng([3, n, r, s])
    first, second = unrelated_pair(kind, n, r, s, rng)
    overlaps = np.concatenate([projection_overlap(first, flips(second, 1000, rng)).numpy() for _ in range(20)])
    law = law_of_pair(first, second, 1)

    def tail(level):
        return float(law.tail(np.array([level]))[0])

    tails = [tail(level) for level in np.linspace(0, 1, 100)]
    assert (np.diff(tails) <= 0).all()
    assert (tails[0], tails[-1]) == (1, pytest.approx(0, abs=1e-9))
    for share in (0.05, 0.01, 0.001):
        found = tail(np.quantile(overlaps, 1 - share))
        assert share * (1 - 4 / (len(overlaps) * share) ** 0.5) <= found < 3 * share


# Rejections


def most_rejections(level, trials):
    """Nominal and three standard errors more."""
    return level + 3 * (level * (1 - level) / trials) ** 0.5


@pytest.mark.parametrize(
    ("kind", "n", "r", "s"),
    [
        ("uniform", 64, 1, 1),
        ("uniform", 128, 16, 16),
        ("outlier channels", 64, 4, 4),
        ("lognormal channels", 64, 1, 4),
        ("Student t 1.5", 64, 4, 4),
        ("lines on 4", 64, 4, 4),
        ("lines on 8", 64, 1, 1),
    ],
)
def test_unrelated_pairs_are_rejected_no_more_often_than_the_level(kind, n, r, s):
    p_values = unrelated_p_values(kind, n, r, s, pairs=5, draws=600)
    for level in LEVELS[:3]:
        assert np.mean(p_values <= level) <= most_rejections(level, p_values.size)


def documented_rates():
    """Rows of the table of rejection rates: kind, n, r, s and the rates in percent."""
    number = r" ([\d.]+) \|"
    row = re.compile(rf"^\| ([\w .]+?) \| (\d+) \| (\d+) \| (\d+) \|{number * 4}$", re.MULTILINE)
    found = row.findall(MEASUREMENTS.read_text(encoding="utf-8"))
    return [(kind, int(n), int(r), int(s), [float(rate) for rate in rates]) for kind, n, r, s, *rates in found]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "n", "r", "s", "rates"), documented_rates())
def test_the_documented_rejection_rates_are_found_again(kind, n, r, s, rates):
    p_values = unrelated_p_values(kind, n, r, s, pairs=20, draws=500)
    for level, rate in zip(LEVELS, rates, strict=True):
        found = np.mean(p_values <= level)
        assert found <= most_rejections(level, p_values.size)
        assert 100 * found == pytest.approx(rate, abs=0.03)  # three of ten thousand, for rounding


def test_all_kinds_are_documented():
    rows = documented_rates()
    assert {kind for kind, *_ in rows} >= {"uniform", "outlier channels", "lognormal channels", "Student t 1.5"}
    assert len(rows) >= 20


def loud_frame(n, k, loud, *, seed):
    """What a random matrix with some loud columns reads."""
    columns, generator = torch.ones(n), torch.Generator().manual_seed(seed)
    columns[: len(loud)] = torch.tensor(loud)
    rows = torch.full((2 * n,), float(columns.norm() / (2 * n) ** 0.5))
    return torch.linalg.svd(norm_matched(rows, columns, generator).double(), full_matrices=False).Vh[:k].mT


@pytest.mark.parametrize(("n", "k", "loud"), [(24, 3, [9.0, 7, 5, 5]), (60, 4, [5.0] * 10), (24, 4, [100.0] * 6)])
def test_unrelated_weights_with_outlier_channels_do_not_stand_out(n, k, loud):
    """Beyond any doubt unlike Haar, and nothing but the norms of channels."""
    pairs = [[loud_frame(n, k, loud, seed=1000 + 2 * draw + side) for side in (0, 1)] for draw in range(100)]
    p_values = np.array([next(p_value_and_floor(*pair)) for pair in pairs])
    assert np.mean([overlap_p_value(projection_overlap(*pair), n, k, k) < 1e-4 for pair in pairs]) > 0.9
    assert np.mean(p_values <= 0.05) < 0.1
    assert p_values.min() > 1e-4  # in one of a hundred such samples of 100 it is not


def test_one_outlier_coordinate_of_both_does_not_hide_an_alignment():
    """Both hold the loudest coordinate; one pair shares its other directions too."""
    axis = torch.eye(40, dtype=torch.float64)[:, :1]
    quiet = [torch.nn.functional.pad(random_frame(39, 3, seed=seed), (0, 0, 1, 0)) for seed in (4, 5)]
    first, unrelated = (torch.cat([axis, rest], dim=1) for rest in quiet)
    assert next(p_value_and_floor(first, first)) < 1e-8
    assert next(p_value_and_floor(first, unrelated)) > 0.01


# Power


def test_an_overlap_of_seven_standard_deviations_is_found_among_three_thousand_pairs():
    """The subspaces that 78 weights read, unrelated but for two of them."""
    n, k, layers = 576, 16, 78
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"model.layers.{layer}.self_attn.q_proj.weight": torch.randn(k, n, generator=generator, dtype=torch.float64)
        for layer in range(layers)
    }
    mean, sd = overlap_moments(n, k, k)
    both = torch.linalg.qr(torch.randn(n, 2 * k, generator=generator, dtype=torch.float64)).Q
    first, apart, squared_cosine = both[:, :k], both[:, k:], mean + 7 * sd
    for layer, frame in ((20, first), (50, squared_cosine**0.5 * first + (1 - squared_cosine) ** 0.5 * apart)):
        tensors[f"model.layers.{layer}.self_attn.q_proj.weight"] = frame.mT
    network = load(tensors)
    table = pair_table(network.weights, spectra_of(network, k))
    table = table[table["kind"] == "read-read"]
    assert len(table) == layers * (layers - 1) // 2 > 3000
    planted = (table["source"] == "layers.20.q.read") & (table["target"] == "layers.50.q.read")
    assert float(table.loc[planted, "overlap_z"].iloc[0]) == pytest.approx(7)
    assert float(table.loc[planted, "overlap_q_value"].iloc[0]) < 0.01
    assert table.loc[~planted, "overlap_q_value"].min() > 0.05


# What leaves the law alone


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), loud=st.sampled_from([1.0, 20.0]), r=st.integers(1, 4), s=st.integers(1, 4))
def test_only_signs_and_the_order_of_coordinates_leave_the_law_alone(seed, loud, r, s):
    rng = np.random.default_rng(seed)
    scales = np.append(np.full(3, loud), np.ones(37))[:, None]
    first, second = (torch.from_numpy(np.linalg.qr(scales * rng.standard_normal((40, k)))[0]) for k in (r, s))
    level = np.array([0.7])

    def tail(first, second):
        return float(law_of_pair(first, second, 1).tail(level)[0])

    order, signs = torch.from_numpy(rng.permutation(40)), torch.from_numpy(2.0 * rng.integers(0, 2, (40, 1)) - 1)
    inside = random_frame(r, r, seed=seed)
    moved = tail((signs * first @ inside)[order], (signs * second)[order])
    assert moved == pytest.approx(tail(first, second), rel=0.02, abs=1e-9)


def test_a_rotation_of_the_space_changes_the_law():
    line, turn = line_on(4), random_frame(30, 30, seed=1)
    assert next(p_value_and_floor(line, line)) == 0.125
    assert next(p_value_and_floor(turn @ line, turn @ line)) < 0.01


def test_many_pairs_together_have_the_laws_of_each_alone():
    """Of different ranks, some of them on few coordinates, one of rank zero."""
    frames = [
        *(loud_frame(70, k, [9.0, 5], seed=k) for k in (1, 4, 7)),
        line_on(4, 70),
        line_on(4, 70),
        random_frame(70, 3, seed=9),
    ]
    frames.append(torch.zeros(70, 3, dtype=torch.float64))
    first, second = np.triu_indices(len(frames), k=1)
    leverage = torch.stack([leverages(frame) for frame in frames])
    ranks = np.array([1, 4, 7, 1, 1, 3, 0])
    smaller = np.minimum(ranks[first], ranks[second])
    smaller = np.where(smaller > 0, smaller, np.nan)
    sizes = leverage @ leverage.mT, *sign_flip_spread(frames)
    moments_of_all = tuple(size.double().numpy()[first, second] / smaller for size in sizes)
    overlaps = (
        np.array([float((frames[i].mT @ frames[j]).square().sum()) for i, j in zip(first, second, strict=True)])
        / smaller
    )
    law = sign_flip_law(frames, (first, second), np.ones_like(smaller), moments_of_all, smaller)
    p_value, floor = law.p_value(overlaps)
    zero = np.isnan(smaller)
    assert zero.sum() == 6
    assert np.isnan(p_value[zero]).all()
    assert np.isnan(floor[zero]).all()
    for place in np.flatnonzero(~zero):
        alone = law_of_pair(frames[first[place]], frames[second[place]], 1)
        expected = [float(found[0]) for found in alone.p_value(overlaps[place : place + 1])]
        assert [p_value[place], floor[place]] == pytest.approx(expected, rel=1e-3)


def test_no_room_is_no_evidence():
    axes = torch.eye(20, dtype=torch.float64)[:, :3]
    turned = axes @ random_frame(3, 3, seed=0)
    for overlap in (0.5, 1.0):
        assert [float(found[0]) for found in law_of_pair(axes, turned, overlap).p_value(np.array([overlap]))] == [1, 1]
