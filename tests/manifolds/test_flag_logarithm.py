import itertools
import math
import time

import numpy as np
import pytest
import scipy.linalg
import torch

from manifolds import flag_logarithm
from manifolds.checks import block_slices
from manifolds.flag_logarithm import (
    _Alignment,
    _cheapest_flips,
    _follow,
    _reduce,
    _shortest,
    _Starts,
    solve_flag_logarithm,
)
from manifolds.geodesics import exponential, same_block

from .builders import SIGNATURES, full_exponential, generator, hide, lift, projectors, random_frame, random_tangent

# Small and large blocks, many lines, and two flags with n < 2k.
FAR_SPACES = [
    (12, (2, 5, 8)),
    (20, (1, 3, 5)),
    (30, (5, 10)),
    (20, (1, 2, 3, 4, 5, 6)),
    (9, (2, 4, 6)),
    (11, (1, 4, 8)),
]
PLANTED_SPACES = [(20, (1, 2, 3)), (100, (1, 3, 5, 20)), (768, (16, 32, 48, 64)), (9, (2, 4, 6))]


def end_point_error(logarithm, base, end, dims):
    reached = exponential(logarithm.tangent_vec, base)
    return float((projectors(reached, dims) - projectors(end, dims)).abs().max())


def uniform_pairs(n, dims, count, *, seed):
    return (random_frame(n, dims[-1], seed=seed + i, batch=(count,)) for i in (1, 2))


def lengths_over_all_signs(base, end):
    """Complete flags are SO(n) modulo signs: lengths of the logarithms for all signs, from the eigenvalues."""
    n = base.shape[-1]
    signs = np.array(list(itertools.product([1.0, -1.0], repeat=n)))
    rotation = (base.mT @ end).numpy()[..., None, :, :] * signs[:, None, :]
    angles = np.angle(np.linalg.eigvals(rotation))
    proper = np.prod(signs, axis=1) * np.linalg.det((base.mT @ end).numpy())[..., None] > 0
    return np.where(proper, np.sqrt(np.square(angles).sum(axis=-1) / 2), np.inf)


def geodesic_of_the_nearest_start(base, end, dims):
    _, rotation = _reduce(base, end)
    dims = (*dims, rotation.shape[-1])
    unknown = torch.full((len(rotation),), torch.inf, dtype=torch.float64)
    return _shortest(_Starts.of(rotation, dims).part(0, 1), unknown, same_block(dims, rotation.device), 1e-12, 60)


def shortest_of_random_starts(base, end, dims, *, count, seed):
    """Least length that Newton's method finds from uniform block rotations of either determinant."""
    _, rotation = _reduce(base, end)
    size = rotation.shape[-1]
    dims = (*dims, size)
    turns = torch.zeros(len(rotation), count, size, size, dtype=torch.float64)
    for block in block_slices(dims):
        width = block.stop - block.start
        frame = random_frame(width, width, seed=seed + block.start, batch=turns.shape[:2])
        signs = torch.randn(*turns.shape[:2], 1, width, generator=generator(seed + block.stop)).sign()
        turns[..., block, block] = frame * signs
    starts = rotation[:, None] @ turns
    starts[..., -1] *= torch.linalg.det(starts).sign()[..., None]
    # Pairs of their own, so that none is given up for another one. The residual enters the length in the square.
    starts = starts.flatten(0, 1)[:, None]
    unknown = torch.full((len(starts),), torch.inf, dtype=torch.float64)
    return _follow(starts, unknown, same_block(dims, rotation.device), 1e-6, 60).rank.view(-1, count).amin(dim=1)


def frame_of(n, *columns):
    return torch.eye(n, dtype=torch.float64)[:, list(columns)]


@pytest.mark.parametrize(("n", "dims"), PLANTED_SPACES)
def test_planted_vectors_of_length_half_pi_are_recovered(n, dims):
    for seed in range(0, 50, 10):
        base = random_frame(n, dims[-1], seed=seed)
        planted = random_tangent(base, dims, seed=seed + 1, length=math.pi / 2)
        end = hide(exponential(planted, base), dims, seed=seed + 3)

        logarithm = solve_flag_logarithm(end, base, dims)

        assert bool(logarithm.certified)
        assert float(logarithm.residual) <= 1e-10
        assert int(logarithm.newton_steps) <= 15
        assert end_point_error(logarithm, base, end, dims) <= 1e-10
        assert float(logarithm.length) == pytest.approx(math.pi / 2, abs=1e-12)
        # In R^n with n < 2k half pi may already be at the cut locus of the pair; the others are unique.
        torch.testing.assert_close(logarithm.tangent_vec, planted, atol=1e-10, rtol=0)


@pytest.mark.parametrize(("n", "dims"), [(20, (1, 2, 3)), (100, (1, 3, 5, 20)), (80, (8, 16, 24)), (9, (2, 4, 6))])
def test_uniform_pairs_are_joined(n, dims):
    base, end = uniform_pairs(n, dims, 5, seed=0)

    logarithm = solve_flag_logarithm(end, base, dims)

    assert bool(logarithm.converged.all())
    assert float(logarithm.residual.max()) <= 1e-10
    assert int(logarithm.newton_steps.max()) <= 15
    assert end_point_error(logarithm, base, end, dims) <= 1e-10


@pytest.mark.parametrize(
    ("n", "dims", "base", "end", "length"),
    [
        (8, (1, 3), (0, 1, 2), (0, 1, 2), 0),
        (8, (1, 3), (0, 1, 2), (0, 1, 5), math.pi / 2),
        (4, (1, 2), (0, 1), (1, 0), math.pi / 2),
        (3, (1, 2), (0, 1), (1, 2), 2 * math.pi / 3),
        (8, (3,), (0, 1, 2), (5, 6, 7), math.sqrt(3) * math.pi / 2),
        (8, (1, 3), (0, 1, 2), (5, 6, 7), math.sqrt(3) * math.pi / 2),
        # Two swaps: the Procrustes start has the eigenvalue -1 twice, and its logarithm does not exist.
        (5, (1, 2, 3, 4), (0, 1, 2, 3), (1, 0, 3, 2), math.sqrt(2) * math.pi / 2),
        (8, (2, 4), (0, 1, 2, 3), (2, 3, 0, 1), math.sqrt(2) * math.pi / 2),
        (9, (3, 6), (0, 1, 2, 3, 4, 5), (3, 4, 5, 0, 1, 2), math.sqrt(3) * math.pi / 2),
    ],
)
def test_flags_of_coordinate_axes(n, dims, base, end, length):
    """Random frames hide the faults of rank-deficient cases; these show them."""
    base, end = frame_of(n, *base), frame_of(n, *end)
    logarithm = solve_flag_logarithm(end, base, dims)
    assert float(logarithm.length) == pytest.approx(length, abs=1e-12)
    assert end_point_error(logarithm, base, end, dims) < 1e-12


@pytest.mark.parametrize("length", [1e-12, 1e-8, 1e-3])
def test_small_distances_keep_their_absolute_accuracy(length):
    dims = (1, 3, 5)
    base = random_frame(30, 5, seed=1)
    end = hide(exponential(random_tangent(base, dims, seed=2, length=length), base), dims, seed=4)
    assert float(solve_flag_logarithm(end, base, dims).length) == pytest.approx(length, abs=2e-15)


def require_shortest_of_all_signs(n, count, *, seed):
    base, end = (random_frame(n, n, seed=seed + i, batch=(count,)) for i in (1, 2))
    found = solve_flag_logarithm(end[..., :-1], base[..., :-1], tuple(range(1, n)))
    least = torch.from_numpy(lengths_over_all_signs(base, end)).amin(dim=1)
    torch.testing.assert_close(found.length, least, atol=0, rtol=1e-9)


def require_no_shorter_from_random_starts(n, dims, count, starts, *, seed):
    for first in range(0, count, 10):
        base, end = uniform_pairs(n, dims, min(10, count), seed=seed + 10 * first)
        found = solve_flag_logarithm(end, base, dims)
        other = shortest_of_random_starts(base, end, dims, count=starts, seed=seed + 10 * first + 3)
        assert bool(found.converged.all())
        assert bool((found.length <= other * (1 + 1e-9)).all())


def require_triangles(n, dims, count, *, seed):
    """All triangles of two points, the middle of the geodesic between them, and a third point."""
    first, second, third = (random_frame(n, dims[-1], seed=seed + i, batch=(count,)) for i in (1, 2, 3))
    geodesic = solve_flag_logarithm(second, first, dims)
    points = torch.stack([first, second, third, exponential(geodesic.tangent_vec / 2, first)])
    sides = {
        (i, j): solve_flag_logarithm(points[i], points[j], dims).length for i, j in itertools.combinations(range(4), 2)
    }
    torch.testing.assert_close(sides[0, 1], geodesic.length, atol=1e-10, rtol=0)  # the other way round
    for corners in itertools.combinations(range(4), 3):
        lengths = torch.stack([sides[side] for side in itertools.combinations(corners, 2)])
        assert float((lengths.sum(dim=0) - 2 * lengths).min()) >= -1e-10


@pytest.mark.parametrize("n", range(4, 9))
def test_flags_of_lines_against_all_signs(n):
    require_shortest_of_all_signs(n, 20, seed=10 * n)


def test_more_signs_than_starts_still_hold_the_shortest():
    require_shortest_of_all_signs(10, 10, seed=1)


def test_a_component_of_determinants_may_hold_several_minima():
    """One start for each choice of determinants leads to 3.9944 at the least in the fifth of these pairs."""
    base, end = uniform_pairs(30, (5, 10), 10, seed=20_500)
    assert float(solve_flag_logarithm(end[4], base[4], (5, 10)).length) == pytest.approx(3.98900, abs=1e-4)


@pytest.mark.parametrize(("n", "dims"), FAR_SPACES)
def test_no_random_start_leads_to_a_shorter_geodesic(n, dims):
    require_no_shorter_from_random_starts(n, dims, 4, 20, seed=7)


@pytest.mark.parametrize(("n", "dims"), [(12, (2, 5, 8)), (9, (2, 4, 6)), (6, (1, 2, 3, 4, 5))])
def test_triangle_inequality_through_midpoints(n, dims):
    require_triangles(n, dims, 3, seed=3)


@pytest.mark.slow
@pytest.mark.parametrize("n", range(4, 9))
def test_500_flags_of_lines_against_all_signs(n):
    require_shortest_of_all_signs(n, 500, seed=1000 + 10 * n)


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 12])
def test_100_flags_with_more_signs_than_starts(n):
    for seed in range(0, 100, 10):
        require_shortest_of_all_signs(n, 10, seed=seed)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "dims"), FAR_SPACES)
def test_200_random_starts_in_200_pairs(n, dims):
    require_no_shorter_from_random_starts(n, dims, 200, 200, seed=20_000)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "dims"), [*FAR_SPACES, *((n, tuple(range(1, n))) for n in range(4, 9))])
def test_triangles_of_100_pairs(n, dims):
    require_triangles(n, dims, 100, seed=40_000)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "dims"), FAR_SPACES)
def test_all_starts_take_at_most_half_as_long_again_as_so_many_single_ones(n, dims):
    base, end = uniform_pairs(n, dims, 50, seed=1)
    single, whole = [], []
    for times, solve in ((single, geodesic_of_the_nearest_start), (whole, solve_flag_logarithm)) * 3:
        begin = time.process_time()
        solve(end, base, dims)
        times.append(time.process_time() - begin)
    assert min(whole) <= 1.5 * flag_logarithm._MOST_STARTS * min(single)


@pytest.mark.parametrize(("n", "dims"), [(5, (1, 2, 3, 4)), (12, (2, 5, 8)), (20, (1, 2, 3, 4, 5, 6))])
def test_the_nearest_start_alone_misses_the_shortest(n, dims):
    base, end = uniform_pairs(n, dims, 20, seed=1)
    found, nearest = solve_flag_logarithm(end, base, dims), geodesic_of_the_nearest_start(base, end, dims)
    assert bool(nearest.converged.all())
    assert bool((found.length <= nearest.length + 1e-10).all())
    assert int((nearest.length > found.length + 1e-3).sum()) >= 2


@pytest.mark.parametrize("most", [256, 5])
def test_starts_are_the_cheapest_choices_of_a_parity(most):
    costs = torch.rand(6, 5, generator=generator(1), dtype=torch.float64)
    odd = torch.tensor([True, False] * 3)
    every = torch.tensor(list(itertools.product([0, 1], repeat=5)))
    for cost, parity, flips in zip(costs, odd, _cheapest_flips(costs, odd, most), strict=True):
        allowed = every[every.sum(dim=1) % 2 == int(parity)]
        expected = (allowed * cost).sum(dim=1).sort().values[:most]
        torch.testing.assert_close((flips * cost).sum(dim=1), expected, atol=1e-14, rtol=0)
        assert bool((flips.sum(dim=1) % 2 == int(parity)).all())
        assert len({tuple(row) for row in flips.tolist()}) == min(most, 16)


def test_lower_bound_against_principal_angles_of_all_blocks():
    n, dims = 11, (1, 4, 8)
    base, end = (random_frame(n, n, seed=seed) for seed in (1, 2))

    def distance(columns):
        return np.linalg.norm(scipy.linalg.subspace_angles(base[:, columns].numpy(), end[:, columns].numpy()))

    rows = [distance(block) for block in block_slices((*dims, n))]
    nested = [distance(slice(dim)) for dim in dims]
    found = solve_flag_logarithm(end[:, :8], base[:, :8], dims)
    expected = max(math.sqrt(sum(np.square(rows)) / 2), *nested)
    assert float(found.lower_bound) == pytest.approx(expected, abs=1e-12)
    assert 0.8 * float(found.length) < float(found.lower_bound) < float(found.length)


@pytest.mark.parametrize(("n", "dims"), [space for space in [*SIGNATURES, *FAR_SPACES] if len(space[1]) > 1])
@pytest.mark.parametrize("length", [1e-6, 0.3, 1.5, None])
def test_the_distance_is_above_the_lower_bound(n, dims, length):
    """Up to pi/2 the planted length is the distance. Generic geodesics turn in no plane alone: the bound is strict."""
    base = random_frame(n, dims[-1], seed=1, batch=(10,))
    if length is None:
        end = random_frame(n, dims[-1], seed=2, batch=(10,))
    else:
        planted = [random_tangent(point, dims, seed=seed, length=length) for seed, point in enumerate(base)]
        end = exponential(torch.stack(planted), base)
    found = solve_flag_logarithm(end, base, dims)
    if length is not None:
        torch.testing.assert_close(found.length, torch.full_like(found.length, length), atol=1e-11, rtol=0)
    assert bool((found.lower_bound <= found.length).all())
    if length != 1e-6:  # the first order of the bound is the length
        assert bool((found.lower_bound < found.length * (1 - 1e-5)).all())


@pytest.mark.parametrize("k", [1, 3, 5])
def test_one_subspace_is_certified_at_any_distance(k):
    base, end = random_frame(8, k, seed=1, batch=(5,)), random_frame(8, k, seed=2, batch=(5,))
    found = solve_flag_logarithm(end, base, (k,))
    for length, first, second in zip(found.length, base, end, strict=True):
        angles = scipy.linalg.subspace_angles(first.numpy(), second.numpy())
        assert float(length) == pytest.approx(np.linalg.norm(angles), abs=1e-12)
    assert bool(found.certified.all())


@pytest.mark.parametrize(("n", "dims"), [(7, (2, 4, 6)), (6, (1, 3))])
def test_tangent_vector_is_horizontal_and_leads_to_the_end_by_the_full_exponential(n, dims):
    base, end = random_frame(n, dims[-1], seed=1), random_frame(n, dims[-1], seed=2)
    tangent = solve_flag_logarithm(end, base, dims).tangent_vec
    inside = base.mT @ tangent
    assert float((inside + inside.mT).abs().max()) < 1e-13
    assert max(float(inside[block, block].abs().max()) for block in block_slices(dims)) < 1e-12
    reached = full_exponential(tangent, base)
    torch.testing.assert_close(projectors(reached, dims), projectors(end, dims), atol=1e-11, rtol=0)
    assert float(lift(tangent, base).norm()) / math.sqrt(2) == pytest.approx(
        float(solve_flag_logarithm(end, base, dims).length), abs=1e-12
    )


@pytest.mark.parametrize(
    "angles",
    [
        # Symmetric about the phase 1.0123 of the Hermitian matrix, whose eigenvalues then collide.
        [1.0123 + 0.3, 1.0123 - 0.3, 0.5],
        [1.0123 + 0.3, 1.0123 - 0.3 + 1e-9, 0.5],
        [0.7, 0.7, 0.7],
        [1e-12, 1e-8, 1.0],
        [math.pi - 1e-6, 1.0, 0.0],
    ],
)
def test_orthogonal_logarithm(angles):
    turns = [torch.tensor([[0.0, -angle], [angle, 0.0]], dtype=torch.float64) for angle in angles]
    basis = random_frame(6, 6, seed=1)
    generator_matrix = basis @ torch.block_diag(*turns) @ basis.mT
    rotation = torch.from_numpy(scipy.linalg.expm(generator_matrix.numpy()))
    log = _Alignment.of(rotation[None]).log[0]
    # Near pi the logarithm is as ill conditioned as the distance to pi is small.
    torch.testing.assert_close(log, generator_matrix, atol=1e-13 if max(angles) < 3 else 1e-8, rtol=0)


@pytest.mark.parametrize(("n", "dims"), [(8, (1, 3)), (5, (1, 2, 3, 4)), (9, (2, 4, 6)), (12, (2, 5, 8))])
def test_a_pair_gives_the_same_alone_and_anywhere_in_a_batch(n, dims, monkeypatch):
    # Coordinate axes have ties, and starts with the eigenvalue -1.
    axes = torch.eye(n, dtype=torch.float64)[:, : dims[-1]]
    shuffled = [axes[torch.randperm(n, generator=generator(seed))] for seed in range(4)]
    base = torch.cat([random_frame(n, dims[-1], seed=1, batch=(4,)), axes.expand(4, -1, -1)])
    end = torch.cat([random_frame(n, dims[-1], seed=2, batch=(4,)), torch.stack(shuffled)])
    order = torch.tensor([5, 2, 7, 0, 1, 6, 3, 4])
    together = solve_flag_logarithm(end, base, dims)
    permuted = solve_flag_logarithm(end[order], base[order], dims)
    monkeypatch.setattr(flag_logarithm, "_TILE_ENTRIES", 1)  # one start at a time
    singles = [solve_flag_logarithm(*pair, dims) for pair in zip(end, base, strict=True)]
    assert bool(together.converged.all())
    for name in ("tangent_vec", "length", "lower_bound", "residual", "certified"):
        expected = getattr(together, name)
        alone = torch.stack([getattr(single, name) for single in singles])
        for found in (getattr(permuted, name)[order.argsort()], alone):
            torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)


def test_batches_broadcast():
    dims = (1, 3)
    base, end = random_frame(8, 3, seed=1, batch=(2, 1)), random_frame(8, 3, seed=2, batch=(3,))
    batched = solve_flag_logarithm(end, base, dims)
    assert batched.tangent_vec.shape == (2, 3, 8, 3)
    assert batched.lower_bound.shape == batched.certified.shape == (2, 3)
    for i, j in itertools.product(range(2), range(3)):
        single = solve_flag_logarithm(end[j], base[i, 0], dims)
        torch.testing.assert_close(batched.tangent_vec[i, j], single.tangent_vec, atol=1e-12, rtol=0)
    assert solve_flag_logarithm(end[:0], base[:, :, :, :], dims).length.shape == (2, 0)


def test_single_precision_is_solved_in_double():
    dims = (1, 3, 5)
    base = random_frame(40, 5, seed=1, dtype=torch.float32)
    end = random_frame(40, 5, seed=2, dtype=torch.float32)
    logarithm = solve_flag_logarithm(end, base, dims)
    assert logarithm.tangent_vec.dtype == logarithm.length.dtype == torch.float32
    assert bool(logarithm.converged)
    assert end_point_error(logarithm, base, end, dims) < 2e-6


def test_too_few_steps_are_reported_not_hidden():
    base, end = random_frame(30, 8, seed=1), random_frame(30, 8, seed=2)
    logarithm = solve_flag_logarithm(end, base, (2, 5, 8), max_steps=1)
    assert not bool(logarithm.converged)
    assert not bool(logarithm.certified)
    assert float(logarithm.residual) > 1e-10


def test_certificate_ends_at_the_injectivity_radius():
    dims, base = (1, 3), random_frame(9, 3, seed=1)
    for length, certified in ((1.5, True), (1.6, False)):
        end = exponential(random_tangent(base, dims, seed=2, length=length), base)
        logarithm = solve_flag_logarithm(end, base, dims)
        assert bool(logarithm.converged)
        assert bool(logarithm.certified) is certified


def test_frames_that_do_not_fit_the_flag_are_refused():
    with pytest.raises(ValueError, match=r"dims\[-1\] = 2 columns"):
        solve_flag_logarithm(random_frame(6, 3, seed=1), random_frame(6, 3, seed=2), (1, 2))
