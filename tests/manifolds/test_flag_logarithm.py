import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch

from manifolds.checks import block_slices
from manifolds.flag_logarithm import _Alignment, solve_flag_logarithm
from manifolds.geodesics import exponential

from .builders import full_exponential, generator, hide, lift, projectors, random_frame, random_tangent

ISSUE_SPACES = [(20, (1, 2, 3)), (100, (1, 3, 5, 20)), (768, (16, 32, 48, 64)), (9, (2, 4, 6))]


def end_point_error(logarithm, base, end, dims):
    reached = exponential(logarithm.tangent_vec, base)
    return float((projectors(reached, dims) - projectors(end, dims)).abs().max())


def frame_of(n, *columns):
    return torch.eye(n, dtype=torch.float64)[:, list(columns)]


@pytest.mark.parametrize(("n", "dims"), ISSUE_SPACES)
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


@pytest.mark.parametrize(("n", "dims"), ISSUE_SPACES)
def test_uniform_pairs_are_joined(n, dims):
    count = 3 if n == 768 else 20
    base, end = random_frame(n, dims[-1], seed=1, batch=(count,)), random_frame(n, dims[-1], seed=2, batch=(count,))

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


@pytest.mark.parametrize("seed", range(5))
def test_flags_of_lines_against_all_signs(seed):
    """Complete flags are SO(n) modulo signs: the distance is the least logarithm over all signs."""
    n, dims = 4, (1, 2, 3)
    base, end = (random_frame(n, n, seed=10 * seed + i) for i in (1, 2))
    lengths = []
    for signs in itertools.product([1.0, -1.0], repeat=n):
        rotation = (base.mT @ end).numpy() * np.array(signs)
        if np.linalg.det(rotation) > 0:
            lengths.append(np.linalg.norm(scipy.linalg.logm(rotation).real) / math.sqrt(2))
    found = solve_flag_logarithm(end[:, :3], base[:, :3], dims, n_restarts=60)
    assert float(found.length) == pytest.approx(min(lengths), abs=1e-10)


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


def test_restarts_never_lengthen_and_repeat():
    dims = (1, 3, 5)
    base, end = random_frame(12, 5, seed=1, batch=(10,)), random_frame(12, 5, seed=2, batch=(10,))
    plain = solve_flag_logarithm(end, base, dims)
    restarted = solve_flag_logarithm(end, base, dims, n_restarts=8)
    assert bool((restarted.length <= plain.length + 1e-12).all())
    assert torch.equal(restarted.length, solve_flag_logarithm(end, base, dims, n_restarts=8).length)
    other = solve_flag_logarithm(end, base, dims, n_restarts=8, generator=generator(5))
    assert bool((other.length <= plain.length + 1e-12).all())


def test_batches_are_loops():
    dims = (1, 3)
    base, end = random_frame(8, 3, seed=1, batch=(2, 1)), random_frame(8, 3, seed=2, batch=(3,))
    batched = solve_flag_logarithm(end, base, dims)
    assert batched.tangent_vec.shape == (2, 3, 8, 3)
    for i, j in itertools.product(range(2), range(3)):
        single = solve_flag_logarithm(end[j], base[i, 0], dims)
        torch.testing.assert_close(batched.tangent_vec[i, j], single.tangent_vec, atol=1e-12, rtol=0)
        assert batched.newton_steps[i, j] == single.newton_steps


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
