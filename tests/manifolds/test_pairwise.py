import itertools
import math

import pytest
import torch

from manifolds import pairwise
from manifolds.angles import projection_overlap
from manifolds.distances import chordal_distance, geodesic_distance
from manifolds.pairwise import pairwise_chordal_distance, pairwise_geodesic_distance, pairwise_overlap

from .builders import planted_pair, random_frame

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}
SINGLE = {
    pairwise_overlap: projection_overlap,
    pairwise_geodesic_distance: geodesic_distance,
    pairwise_chordal_distance: chordal_distance,
}
WIDTHS = {"narrow": [2, 2, 2, 2, 2], "wide": [9, 9, 9, 9, 9], "mixed": [1, 9, 3, 3, 12, 7], "one": [4]}


def frames_of(widths, dtype=torch.float64):
    return [random_frame(12, width, seed=seed, dtype=dtype) for seed, width in enumerate(widths)]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("all_pairs", SINGLE)
def test_all_pairs_are_the_single_pairs(all_pairs, widths, dtype):
    frames = frames_of(widths, dtype)
    matrix = all_pairs(frames)
    assert matrix.dtype == dtype
    for i, j in itertools.product(range(len(frames)), repeat=2):
        # Far from 0 the single value is right; at 0 both are rounding.
        single = SINGLE[all_pairs](frames[i], frames[j]).item()
        assert matrix[i, j].item() == pytest.approx(single, abs=TOLERANCE[dtype])


@pytest.mark.parametrize("entries", [1, 100, 1000])
@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("all_pairs", SINGLE)
def test_small_tiles_change_nothing(all_pairs, widths, entries, monkeypatch):
    frames = frames_of(widths)
    whole = all_pairs(frames)
    monkeypatch.setattr(pairwise, "_TILE_ENTRIES", entries)
    torch.testing.assert_close(all_pairs(frames), whole, atol=1e-13, rtol=0)


def test_both_ways_to_the_overlaps_agree():
    stacked = torch.stack(frames_of([5] * 7))
    torch.testing.assert_close(
        pairwise._frame_products(stacked), pairwise._projector_products(stacked), atol=1e-13, rtol=0
    )


@pytest.mark.parametrize(("angle", "tolerance"), [(1e-12, 1e-15), (1e-9, 1e-15), (1e-6, 1e-15), (1e-3, 1e-12)])
def test_close_pairs_keep_their_digits(angle, tolerance):
    first, second = planted_pair(12, [angle, 0.0], seed=3)
    far = random_frame(12, 2, seed=9)
    for all_pairs, distance in ((pairwise_geodesic_distance, angle), (pairwise_chordal_distance, math.sin(angle))):
        assert all_pairs([first, far, second])[0, 2].item() == pytest.approx(distance, abs=tolerance)


def test_one_small_angle_among_large_ones():
    first, second = planted_pair(12, [1e-9, 1.0, 1.5], seed=4)
    expected = geodesic_distance(first, second).item()
    assert pairwise_geodesic_distance([first, second])[0, 1].item() == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("all_pairs", SINGLE)
def test_no_frames_have_no_pairs(all_pairs):
    assert all_pairs([]).shape == (0, 0)


FRAME = random_frame(6, 2, seed=1)


@pytest.mark.parametrize("all_pairs", SINGLE)
@pytest.mark.parametrize(
    ("other", "message"),
    [
        (random_frame(5, 2, seed=1), r"dimensions \[5, 6\]"),
        (FRAME.float(), "one dtype and device"),
        (FRAME.to("meta"), "one dtype and device"),
        (FRAME[None], r"shape \[n, k\]"),
        (FRAME[:, :0], "k >= 1"),
        (2 * FRAME, "orthonormal"),
        (FRAME * float("nan"), "orthonormal"),
    ],
)
def test_frames_that_do_not_fit_are_refused(all_pairs, other, message):
    with pytest.raises(ValueError, match=message):
        all_pairs([FRAME, other])


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("angle", [1e-3, 3e-3, 1e-2, 3e-2, 0.1])
def test_chordal_distances_keep_their_accuracy_around_the_switch(dtype, bound, angle):
    n, k = 160, 64
    axes = torch.linalg.qr(torch.randn(n, n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    first = axes[:, :k]
    second = first * math.cos(angle) + axes[:, k : 2 * k] * math.sin(angle)
    found = pairwise_chordal_distance([first.to(dtype), second.to(dtype)])[0, 1]
    assert float(found) == pytest.approx(math.sqrt(k) * math.sin(angle), abs=bound)


def test_a_batch_of_frames_is_taken_as_a_list():
    frames = torch.linalg.qr(torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(2))).Q
    for function in (pairwise_overlap, pairwise_chordal_distance, pairwise_geodesic_distance):
        torch.testing.assert_close(function(frames), function(list(frames)))


def test_distances_carry_no_gradient_and_say_so():
    frames = torch.linalg.qr(torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(2))).Q.requires_grad_()
    assert not pairwise_chordal_distance(frames).requires_grad
    assert not pairwise_geodesic_distance(frames).requires_grad
    assert pairwise_overlap(frames).requires_grad
