import itertools
import math

import pytest
import torch

from manifolds import pairwise
from manifolds.angles import projection_overlap
from manifolds.distances import chordal_distance, geodesic_distance
from manifolds.pairwise import (
    pairwise_chordal_distance,
    pairwise_geodesic_distance,
    pairwise_gram_inner_product,
    pairwise_overlap,
)

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


@pytest.mark.parametrize("other", [None, [3, 1, 3]], ids=["itself", "another list"])
def test_both_ways_to_the_products_agree(other):
    left = torch.stack(frames_of([5] * 7))
    right = left if other is None else pairwise._stacked(frames_of(other))
    torch.testing.assert_close(
        pairwise._frame_products(left, right), pairwise._projector_products(left, right), atol=1e-13, rtol=0
    )


def factors_of(widths, *, seed, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(12, width, generator=generator, dtype=torch.float64).to(dtype) for width in widths]


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("entries", [1, 1000, 2**23])
@pytest.mark.parametrize(("first", "second"), [([2, 3], [1, 2, 2]), ([9, 14, 9], [9, 11]), ([9, 1, 9], None)])
def test_gram_inner_products_are_those_of_the_grams(first, second, entries, dtype, monkeypatch):
    monkeypatch.setattr(pairwise, "_TILE_ENTRIES", entries)
    left = factors_of(first, seed=1, dtype=dtype)
    right = left if second is None else factors_of(second, seed=2, dtype=dtype)
    found = pairwise_gram_inner_product(left, None if second is None else right)
    grams = [[factor @ factor.mT for factor in factors] for factors in (left, right)]
    expected = torch.stack([torch.stack([(x * y).sum() for y in grams[1]]) for x in grams[0]])
    torch.testing.assert_close(found, expected, rtol=TOLERANCE[dtype], atol=0)


def test_a_factor_without_values_spoils_its_own_products_alone():
    left, right = factors_of([9] * 3, seed=1), factors_of([9] * 2, seed=2)
    whole = pairwise_gram_inner_product(left, right)
    left[1] = left[1] * float("nan")
    found = pairwise_gram_inner_product(left, right)
    assert found[1].isnan().all()
    assert torch.equal(found[::2], whole[::2])


@pytest.mark.parametrize(("first", "second", "shape"), [([], None, (0, 0)), ([2], [], (1, 0)), ([], [2, 3], (0, 2))])
def test_no_factors_have_no_products(first, second, shape):
    right = None if second is None else factors_of(second, seed=2)
    assert pairwise_gram_inner_product(factors_of(first, seed=1), right).shape == shape


def test_factors_of_two_spaces_are_refused():
    with pytest.raises(ValueError, match=r"dimensions \[11, 12\]"):
        pairwise_gram_inner_product(factors_of([2], seed=1), [torch.ones(11, 2, dtype=torch.float64)])


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
