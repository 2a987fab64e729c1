import math

import numpy as np
import pytest
import scipy.linalg
import torch

from manifolds.angles import plucker_inner_product
from manifolds.distances import (
    asimov_distance,
    binet_cauchy_distance,
    chordal_distance,
    fubini_study_distance,
    geodesic_distance,
    martin_distance,
    procrustes_distance,
)
from manifolds.frames import orthonormalize

from .builders import generator, hide, planted_pair, projectors, random_frame

DISTANCES = [
    geodesic_distance,
    chordal_distance,
    asimov_distance,
    procrustes_distance,
    martin_distance,
    fubini_study_distance,
    binet_cauchy_distance,
]


@pytest.mark.parametrize(
    ("distance", "formula"),
    [
        (geodesic_distance, lambda t: np.sqrt(np.sum(t**2))),
        (chordal_distance, lambda t: np.sqrt(np.sum(np.sin(t) ** 2))),
        (asimov_distance, np.max),
        (procrustes_distance, lambda t: 2 * np.sqrt(np.sum(np.sin(t / 2) ** 2))),
        (martin_distance, lambda t: -np.log(np.prod(np.cos(t) ** 2))),
        (fubini_study_distance, lambda t: np.arccos(np.prod(np.cos(t)))),
        (binet_cauchy_distance, lambda t: np.sqrt(1 - np.prod(np.cos(t) ** 2))),
        (lambda x, y: plucker_inner_product(x, y).abs(), lambda t: np.prod(np.cos(t))),
    ],
)
def test_distances_follow_their_formula(distance, formula):
    angles = np.array([0.2, 0.5, 1.1])
    first, second = planted_pair(9, angles, seed=4)
    assert distance(first, second).item() == pytest.approx(formula(angles), abs=1e-13)
    assert distance(second, first).item() == pytest.approx(formula(angles), abs=1e-13)


@pytest.mark.parametrize("distance", [d for d in DISTANCES if d is not martin_distance])
def test_small_distances_keep_their_digits(distance):
    """All of them are proportional to the angle when it is small; Martin's is to its square."""
    first, second = planted_pair(30, [1e-10, 0.0, 0.0], seed=5)
    assert distance(first, second).item() == pytest.approx(1e-10, rel=1e-4)


def test_small_martin_distance_keeps_its_digits():
    assert martin_distance(*planted_pair(30, [1e-6, 0.0], seed=6)).item() == pytest.approx(1e-12, rel=1e-4)


def test_an_orthogonal_direction():
    pair = planted_pair(30, [0.1, math.pi / 2], seed=7)
    assert martin_distance(*pair).item() == math.inf
    assert fubini_study_distance(*pair).item() == pytest.approx(math.pi / 2, abs=1e-15)
    assert binet_cauchy_distance(*pair).item() == 1
    assert abs(plucker_inner_product(*pair).item()) < 1e-15


def test_procrustes_distance_is_the_distance_of_aligned_frames():
    first, second = random_frame(9, 3, seed=1), random_frame(9, 3, seed=2)
    rotation, _ = scipy.linalg.orthogonal_procrustes(second.numpy(), first.numpy())
    expected = np.linalg.norm(first.numpy() - second.numpy() @ rotation)
    assert procrustes_distance(first, second).item() == pytest.approx(expected, abs=1e-13)


@pytest.mark.parametrize("dims", [(3,), (1, 3), (1, 2, 3)])
def test_chordal_distance_of_flags_is_that_of_the_projectors(dims):
    first, second = random_frame(7, 3, seed=1), random_frame(7, 3, seed=2)
    expected = (projectors(first, dims) - projectors(second, dims)).square().sum().div(2).sqrt()
    assert chordal_distance(first, second, dims).item() == pytest.approx(expected.item(), abs=1e-13)
    hidden = hide(second, dims, seed=3)
    assert chordal_distance(first, hidden, dims).item() == pytest.approx(expected.item(), abs=1e-13)
    if len(dims) > 1:
        assert chordal_distance(first, second).item() < expected.item()


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_see_the_subspaces_alone(distance):
    """Unchanged by an orthogonal map of the space and by the choice of frames; changed by a linear map."""
    first, second, rotation = random_frame(7, 2, seed=1), random_frame(7, 3, seed=2), random_frame(7, 7, seed=3)
    value = distance(first, second)
    moved = distance(rotation @ first @ random_frame(2, 2, seed=4), rotation @ second @ random_frame(3, 3, seed=5))
    torch.testing.assert_close(moved, value, atol=1e-13, rtol=0)
    shear = torch.eye(7, dtype=torch.float64) + 0.5 * torch.ones(7, 7, dtype=torch.float64).triu(1)
    assert abs(float(distance(orthonormalize(shear @ first), orthonormalize(shear @ second)) - value)) > 1e-3


@pytest.mark.parametrize("distance", DISTANCES)
def test_batches_are_loops(distance):
    first, second = random_frame(6, 2, seed=1, batch=(3, 1)), random_frame(6, 3, seed=2, batch=(4,))
    batched = distance(first, second)
    assert batched.shape == (3, 4)
    torch.testing.assert_close(batched[2, 1], distance(first[2, 0], second[1]), atol=1e-14, rtol=0)


@pytest.mark.parametrize("distance", DISTANCES)
def test_gradients_agree_with_differences(distance):
    """Through orthonormalisation, so that the perturbed arguments stay frames."""
    first, second = (torch.randn(6, 2, generator=generator(seed), dtype=torch.float64) for seed in (1, 2))
    assert torch.autograd.gradcheck(
        lambda x, y: distance(orthonormalize(x), orthonormalize(y)), (first.requires_grad_(), second.requires_grad_())
    )


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("angles", [[0.0, 0.0], [0.0, 0.3], [0.3, 0.3]])
def test_gradients_are_finite_at_equal_and_repeated_angles(distance, angles):
    first, second = planted_pair(8, angles, seed=3)
    first.requires_grad_()
    distance(first, second).backward()
    assert bool(first.grad.isfinite().all())


@pytest.mark.parametrize("distance", DISTANCES)
def test_frames_of_different_spaces_are_refused(distance):
    with pytest.raises(ValueError, match=r"dimension 8 .* dimension 6"):
        distance(random_frame(8, 2, seed=4), random_frame(6, 2, seed=5))


def test_frames_that_do_not_fit_the_flag_are_refused():
    with pytest.raises(ValueError, match=r"dims\[-1\] = 2 columns"):
        chordal_distance(random_frame(6, 2, seed=1), random_frame(6, 3, seed=2), dims=(1, 2))
