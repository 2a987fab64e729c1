import math

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifolds.angles import plucker_inner_product, principal_angles, projection_overlap
from manifolds.frames import orthonormalize

from .builders import generator, planted_pair, random_frame

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("n", "r", "s"), [(8, 3, 3), (8, 5, 2), (60, 1, 16), (5, 5, 2), (6, 4, 5)])
def test_overlap_and_angles_agree_with_scipy(n, r, s, dtype):
    """scipy loses half of the digits of small angles in the company of large ones; random ones are not small."""
    first, second = random_frame(n, r, seed=1, dtype=dtype), random_frame(n, s, seed=2, dtype=dtype)
    expected = scipy.linalg.subspace_angles(first.double().numpy(), second.double().numpy())[::-1].copy()

    angles, overlap = principal_angles(first, second), projection_overlap(first, second)

    assert angles.dtype == overlap.dtype == dtype
    # A shared direction is 0 here and 1e-8 in scipy.
    np.testing.assert_allclose(angles, expected, atol=max(TOLERANCE[dtype], 5e-8))
    assert overlap.item() == pytest.approx(float(np.mean(np.cos(expected) ** 2)), abs=TOLERANCE[dtype])


@pytest.mark.parametrize(
    "angles",
    [
        [1e-15, 1e-12, 1e-8, 1e-4],
        [1e-15, 1e-12, 1e-8, 1e-4, 1.0, math.pi / 2],
        [1e-8, 1e-8, 1e-4, 1e-4, 1.0, 1.0],
        [0.0, 1e-9, 1.4, 1.4, 1.4, 1.4],
        [math.pi / 2 - 1e-8, math.pi / 2 - 1e-12, math.pi / 2],
        [math.pi / 4 - 1e-9, math.pi / 4, math.pi / 4 + 1e-9],
        [1e-12, 1e-9, 1e-6, 1e-3, 0.1, 0.5],
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_angles_are_accurate_at_both_ends(angles, seed):
    first, second = planted_pair(200, angles, seed=10 * seed)
    error = (principal_angles(first, second) - torch.tensor(angles, dtype=torch.float64)).abs()
    assert float(error.max()) <= 1e-15


def test_small_angles_in_single_precision():
    angles = [1e-6, 1e-4, 1.0, math.pi / 2]
    first, second = (frame.float() for frame in planted_pair(200, angles, seed=1))
    error = principal_angles(first, second).double() - torch.tensor(angles, dtype=torch.float64)
    assert float(error.abs().max()) < 5e-7


def test_angles_of_subspaces_of_different_dimension():
    angles = torch.tensor([1e-12, 1e-8, 0.3, math.pi / 2], dtype=torch.float64)
    axes = random_frame(40, 11, seed=0)
    narrow = axes[:, :4] * angles.cos() + axes[:, 4:8] * angles.sin()
    wide = axes[:, [0, 1, 2, 3, 8, 9, 10]]
    for first, second in ((wide, narrow), (narrow, wide)):
        assert float((principal_angles(first, second) - angles).abs().max()) <= 1e-15


@pytest.mark.parametrize("shared", range(5))
def test_overlap_recovers_planted_intersection(shared):
    """Two 4-spaces of R^20 that share `shared` directions and are orthogonal otherwise."""
    axes = random_frame(20, 20, seed=3)
    first, second = axes[:, :4], axes[:, 4 - shared : 8 - shared]
    assert projection_overlap(first, second).item() == pytest.approx(shared / 4, abs=1e-12)


@settings(max_examples=25)
@given(n=st.integers(2, 10), r=st.integers(1, 10), s=st.integers(1, 10), seed=st.integers(0, 10**6))
def test_angles_see_the_subspaces_alone(n, r, s, seed):
    """Unchanged by an orthogonal map of the space and by the choice of frames."""
    r, s = min(r, n), min(s, n)
    first, second = random_frame(n, r, seed=seed), random_frame(n, s, seed=seed + 1)
    angles = principal_angles(first, second)
    space, left, right = (random_frame(m, m, seed=seed + i) for i, m in enumerate((n, r, s), start=2))
    moved = principal_angles(space @ first @ left, space @ second @ right)
    torch.testing.assert_close(moved, angles, atol=1e-13, rtol=0)
    assert bool((angles.diff() >= -1e-15).all())
    assert 0 <= float(angles.min()) <= float(angles.max()) <= math.pi / 2
    torch.testing.assert_close(projection_overlap(first, second), angles.cos().square().mean(), atol=1e-13, rtol=0)


def test_angles_change_under_a_general_linear_map():
    first, second = random_frame(6, 2, seed=1), random_frame(6, 2, seed=2)
    shear = torch.eye(6, dtype=torch.float64) + 0.5 * torch.ones(6, 6, dtype=torch.float64).triu(1)
    moved = principal_angles(orthonormalize(shear @ first), orthonormalize(shear @ second))
    assert float((moved - principal_angles(first, second)).abs().max()) > 0.05


def test_batches_are_loops():
    first, second = random_frame(6, 2, seed=1, batch=(3, 1)), random_frame(6, 3, seed=2, batch=(4,))
    for function in (principal_angles, projection_overlap):
        batched = function(first, second)
        assert batched.shape[:2] == (3, 4)
        torch.testing.assert_close(batched[2, 1], function(first[2, 0], second[1]), atol=1e-14, rtol=0)


@pytest.mark.parametrize("function", [principal_angles, projection_overlap, plucker_inner_product])
def test_gradients_agree_with_differences(function):
    """Through orthonormalisation, so that the perturbed arguments stay frames."""
    first, second = (torch.randn(6, 2, generator=generator(seed), dtype=torch.float64) for seed in (1, 2))
    assert torch.autograd.gradcheck(
        lambda x, y: function(orthonormalize(x), orthonormalize(y)), (first.requires_grad_(), second.requires_grad_())
    )


@pytest.mark.parametrize("function", [principal_angles, projection_overlap])
@pytest.mark.parametrize("angles", [[0.0, 0.0], [0.0, 0.3], [0.3, 0.3]])
def test_gradients_are_finite_at_equal_and_repeated_angles(function, angles):
    first, second = planted_pair(8, angles, seed=3)
    first.requires_grad_()
    function(first, second).sum().backward()
    assert bool(first.grad.isfinite().all())


@pytest.mark.parametrize("function", [principal_angles, projection_overlap, plucker_inner_product])
def test_frames_of_different_spaces_are_refused(function):
    with pytest.raises(ValueError, match=r"dimension 8 .* dimension 6"):
        function(random_frame(8, 2, seed=4), random_frame(6, 2, seed=5))


def test_widths_that_do_not_fit_are_refused():
    first, second = random_frame(6, 2, seed=1), random_frame(6, 3, seed=2)
    with pytest.raises(ValueError, match=r"one dimension; got 2 and 3"):
        plucker_inner_product(first, second)
