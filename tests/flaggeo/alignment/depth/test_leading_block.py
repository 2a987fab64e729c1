from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flaggeo.alignment.depth.leading_block import BLOCK_OVERLAP, leading_block
from flaggeo.numerics.spectrum import leading_spectrum
from manifolds import overlap_moments
from tests.builders import planted, random_frame
from tests.flaggeo.alignment.builders import layer_pair


def weight(values, right):
    left = random_frame(20, len(values), seed=1)
    return (left * torch.tensor(values, dtype=torch.float64)) @ right.mT


def measured(first, second, rank=6):
    pair = layer_pair(first, second, rank=rank)
    return float(BLOCK_OVERLAP.measure(pair)), [float(moment) for moment in BLOCK_OVERLAP.null.law(pair)]


@pytest.mark.parametrize(
    ("values", "size"),
    [([5, 3, 2, 1], 1), ([5, 5, 2, 1], 2), ([5, 4.97, 4.94, 1], 3), ([5, 4.9, 4.89, 1], 1), ([5, 5, 5, 5], 4)],
)
def test_a_block_is_a_run_of_close_values(values, size):
    assert leading_block(leading_spectrum(planted(values, 20, 30, seed=0)[0], 6)) == size


def test_a_block_that_the_rank_cuts_off_is_undetermined():
    matrix = planted([5, 5, 5, 1], 20, 30, seed=0)[0]
    assert [leading_block(leading_spectrum(matrix, rank)) for rank in (1, 2, 3, 4)] == [0, 0, 3, 3]
    overlap, null = measured(matrix, matrix, rank=2)
    assert np.isnan([overlap, *null, sign_flip_mean(layer_pair(matrix, matrix, rank=2))]).all()


@settings(max_examples=20)
@given(angle=st.floats(0, np.pi))
def test_a_rotation_inside_the_block_is_not_seen(angle):
    """Equal values leave the two first vectors free: their cosines say nothing, their plane does."""
    right = random_frame(30, 4, seed=2)
    turn = torch.eye(4, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    overlap, null = measured(weight([5, 5, 2, 1], right), weight([5, 5, 2, 1], right @ turn))
    assert overlap == pytest.approx(1, abs=1e-9)
    assert null == pytest.approx(overlap_moments(30, 2, 2))


def test_single_directions_give_the_squared_cosine():
    frame = random_frame(30, 5, seed=3)
    right, tilted = frame[:, :4], frame[:, :4].clone()
    tilted[:, 0] = 0.6 * frame[:, 0] + 0.8 * frame[:, 4]
    assert measured(weight([5, 3, 2, 1], right), weight([5, 3, 2, 1], tilted))[0] == pytest.approx(0.36)


def test_a_line_inside_a_plane_is_contained():
    right = random_frame(30, 4, seed=4)
    first, second = weight([5, 3, 2, 1], right), weight([5, 5, 2, 1], right)
    overlap, null = measured(first, second)
    assert overlap == pytest.approx(1)
    assert null == pytest.approx(overlap_moments(30, 1, 2))
    assert [int(size(layer_pair(first, second))) for _, size in BLOCK_OVERLAP.companions] == [1, 2]


def test_a_rotation_of_a_single_weight_is_seen():
    first, second = (weight([5, 5, 2, 1], random_frame(30, 4, seed=seed)) for seed in (5, 6))
    turned = first @ random_frame(30, 30, seed=7)
    assert measured(turned, second)[0] != pytest.approx(measured(first, second)[0], abs=1e-4)


def sign_flip_mean(pair):
    (null,) = BLOCK_OVERLAP.further_nulls
    return float(null.law(pair)[0])


@pytest.mark.parametrize(("first", "second"), [([5, 5, 2, 1], [5, 5, 2, 1]), ([5, 3, 2, 1], [5, 5, 5, 1])])
def test_the_sign_flip_mean_is_the_mean_over_all_signs(first, second):
    earlier, later = (planted(values, 8, 6, seed=seed)[0] for values, seed in ((first, 8), (second, 9)))
    overlaps = []
    for signs in product([1.0, -1.0], repeat=6):
        flipped = earlier * torch.tensor(signs, dtype=torch.float64)
        overlaps.append(measured(flipped, later)[0])
    assert sign_flip_mean(layer_pair(earlier, later)) == pytest.approx(np.mean(overlaps), abs=1e-9)


def test_an_outlier_channel_accounts_for_the_overlap_of_blocks():
    """Both blocks lie on two channels: the overlap is high, and as high under random signs."""
    axes = torch.eye(30, 4, dtype=torch.float64)
    first, second = weight([5, 5, 2, 1], axes), weight([5, 5, 2, 1], axes[:, [1, 0, 3, 2]])
    assert measured(first, second)[0] == pytest.approx(1)
    assert sign_flip_mean(layer_pair(first, second)) == pytest.approx(1)


def test_zero_weights_have_no_block():
    assert leading_block(leading_spectrum(torch.zeros(4, 6), 3)) == 0
    overlap, null = measured(torch.zeros(4, 6), torch.ones(4, 6))
    assert np.isnan([overlap, *null]).all()
