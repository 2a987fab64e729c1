import itertools
from dataclasses import replace

import pytest
import torch

from flaggeo.alignment.pairs.flags import (
    BASIS_SCORE,
    FLAG_DISTANCE,
    FLAG_SCORE,
    flag_geodesic_distance,
    soft_bruhat,
    soft_bruhat_moments,
    spectral_dims,
)
from flaggeo.alignment.pairs.subspace_pair import SubspacePair
from manifolds import Flag, chordal_distance, projection_overlap, relative_position, solve_flag_logarithm, uniform_frame
from tests.builders import random_frame


@pytest.mark.parametrize(("r", "s"), [(4, 4), (3, 5)])
def test_the_soft_bruhat_matrix_is_a_table_of_overlaps(r, s):
    pair = SubspacePair(random_frame(9, r, seed=0), random_frame(9, s, seed=1))
    table = soft_bruhat(pair)
    for i, j in itertools.product(range(1, r + 1), range(1, s + 1)):
        overlap = projection_overlap(pair.first[:, :i], pair.second[:, :j]) * min(i, j)
        assert float(table[i - 1, j - 1]) == pytest.approx(float(overlap))


def test_it_is_the_bruhat_table_where_all_angles_are_right():
    axes, order = torch.eye(5, dtype=torch.float64), [2, 0, 4, 1]
    pair = SubspacePair(axes[:, :4], axes[:, order])
    exact = relative_position(pair.first, pair.second, (1, 2, 3, 4), (1, 2, 3, 4)).intersections[:4, :4]
    assert torch.equal(soft_bruhat(pair).long(), exact)


def test_its_moments_against_draws():
    n, draws, generator = 8, 20_000, torch.Generator().manual_seed(2)
    first = uniform_frame(n, 3, (draws,), generator=generator, dtype=torch.float64)
    pair = SubspacePair(first, torch.eye(n, dtype=torch.float64)[:, :2])
    tables, (mean, spread) = soft_bruhat(pair), soft_bruhat_moments(pair)
    torch.testing.assert_close(mean[2, 1], torch.tensor(6 / 8, dtype=torch.float64))
    assert ((tables.mean(dim=0) - mean).abs() < 5 * spread / draws**0.5).all()
    torch.testing.assert_close(tables.std(dim=0), spread, rtol=0.05, atol=0)


def scores(pair):
    return [float(observable.measure(pair)) for observable in (FLAG_SCORE, BASIS_SCORE, FLAG_DISTANCE)]


def test_scores_tell_a_changed_order_from_changed_directions():
    axes = random_frame(9, 9, seed=3)
    first = axes[:, :4]
    assert scores(SubspacePair(first, first)) == pytest.approx([1, 1, 0], abs=1e-12)
    assert scores(SubspacePair(first, axes[:, 4:8])) == pytest.approx([0, 0, 2], abs=1e-12)
    # The first two change places: the line is lost, everything from the plane on is kept.
    swapped = SubspacePair(first, axes[:, [1, 0, 2, 3]])
    assert scores(swapped) == pytest.approx([9 / 10, 1 / 2, 2**0.5], abs=1e-12)
    # The third and fourth do so inside a block of the flag of dimensions 1, 2, 4.
    inside = SubspacePair(first, axes[:, [0, 1, 3, 2]])
    assert scores(inside) == pytest.approx([9 / 10, 1 / 2, 0], abs=1e-12)


def test_signs_of_the_singular_vectors_do_not_matter():
    first, second = random_frame(9, 4, seed=4), random_frame(9, 4, seed=5)
    signs = torch.tensor([1.0, -1, -1, 1], dtype=torch.float64)
    assert scores(SubspacePair(first * signs, second)) == pytest.approx(scores(SubspacePair(first, second)))


def test_flags_of_one_subspace_differ_where_overlap_does_not_see_it():
    first, turn = random_frame(9, 4, seed=6), random_frame(4, 4, seed=7)
    flag_score, basis_score, distance = scores(SubspacePair(first, first @ turn))
    assert flag_score < 0.99
    assert basis_score < 0.99
    assert distance > 0.1


@pytest.mark.parametrize(("k", "dims"), [(1, (1,)), (2, (1, 2)), (5, (1, 2, 4, 5)), (16, (1, 2, 4, 8, 16))])
def test_spectral_dims_double(k, dims):
    assert spectral_dims(k) == dims


@pytest.mark.parametrize("angle", [1e-10, 1e-4, 0.5])
def test_flag_distances_agree_with_manifolds_also_when_they_are_small(angle):
    axes = random_frame(12, 12, seed=8)
    generator = torch.randn(12, 12, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    moved = torch.linalg.matrix_exp(angle * (generator - generator.mT) / 10) @ axes
    pair = SubspacePair(axes[:, :5], moved[:, :6])
    same_width = pair.first, pair.second[:, :5]
    chordal, dims = chordal_distance(*same_width, (1, 2, 4, 5)), (1, 2, 4, 5)
    assert float(FLAG_DISTANCE.measure(pair)) == pytest.approx(float(chordal), rel=1e-5)
    geodesic = flag_geodesic_distance(pair)
    assert float(geodesic) == pytest.approx(float(Flag(12, dims).metric.dist(*same_width)), rel=1e-5)
    # A turn of one block into another counts in both blocks, so up to twice in the square.
    assert chordal <= geodesic * 2**0.5


def test_the_whole_space_has_flags_too():
    pair = SubspacePair(torch.eye(3, dtype=torch.float64), random_frame(3, 3, seed=10))
    lines = SubspacePair(pair.first[:, :1], pair.second[:, :1])
    assert FLAG_DISTANCE.measure(pair) > FLAG_DISTANCE.measure(lines) > 0
    assert flag_geodesic_distance(pair) > 0
    point = torch.ones(1, 1, dtype=torch.float64)
    assert flag_geodesic_distance(SubspacePair(point, -point)) == 0


def test_equal_flags_are_at_distance_zero_and_other_pairs_of_the_batch_are_not():
    frame, other = random_frame(9, 4, seed=11), random_frame(9, 4, seed=12)
    stored = frame.float().double()
    pair = SubspacePair(torch.stack([frame, frame, frame]), torch.linalg.qr(torch.stack([-frame, other, stored])).Q)
    expected = float(Flag(9, (1, 2, 4)).metric.dist(frame, other))
    assert flag_geodesic_distance(pair, same=1e-6).tolist() == [0, pytest.approx(expected), 0]


def test_no_distance_is_given_where_no_path_was_found(monkeypatch):
    def lost(*arguments):
        logarithm = solve_flag_logarithm(*arguments)
        return replace(logarithm, converged=torch.tensor([True, False]))

    monkeypatch.setattr("flaggeo.alignment.pairs.flags.solve_flag_logarithm", lost)
    frames = torch.stack([random_frame(9, 4, seed=seed) for seed in (13, 14)])
    found = flag_geodesic_distance(SubspacePair(frames, frames.flip(0)))
    assert found.isnan().tolist() == [False, True]
