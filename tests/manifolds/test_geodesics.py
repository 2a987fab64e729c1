"""Against the full n x n exponential and transport on so(n), which share no code with the package."""

import math

import pytest
import scipy.linalg
import torch

from manifolds.checks import block_slices
from manifolds.geodesics import (
    change_representative,
    exponential,
    grassmannian_exponential,
    grassmannian_logarithm,
    parallel_transport,
    polar_retraction,
    qr_retraction,
)

from .builders import (
    SIGNATURES,
    full_exponential,
    full_transport,
    generator,
    hide,
    lift,
    planted_pair,
    projectors,
    random_frame,
    random_tangent,
)


@pytest.mark.parametrize(("n", "dims"), SIGNATURES)
@pytest.mark.parametrize("length", [1e-9, 0.5, math.pi, 12.0])
def test_exponential_is_that_of_the_orthogonal_group(n, dims, length):
    frame = random_frame(n, dims[-1], seed=1)
    tangent = random_tangent(frame, dims, seed=2, length=length)
    expected = full_exponential(tangent, frame)
    torch.testing.assert_close(exponential(tangent, frame), expected, atol=2e-14, rtol=0)
    if len(dims) == 1:
        torch.testing.assert_close(grassmannian_exponential(tangent, frame), expected, atol=2e-14, rtol=0)


@pytest.mark.parametrize(("n", "dims"), [*SIGNATURES, (5, (1, 3)), (50, (1, 3, 5)), (2, (1,))])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("share", [1e-9, 1e-6, 1e-3, 1.0])
def test_exponential_of_the_longest_vectors_is_a_frame(n, dims, dtype, share):
    """Right to the rounding of the angles, and orthonormal to that of a frame."""
    eps = torch.finfo(dtype).eps
    length = share * 1e-3 / eps
    frame = random_frame(n, dims[-1], seed=1, dtype=dtype)
    tangent = random_tangent(frame.double(), dims, seed=2, length=length).to(dtype)
    for function in (exponential, grassmannian_exponential)[: 1 + (len(dims) == 1)]:
        end = function(tangent, frame)
        assert float((end.mT @ end - torch.eye(dims[-1])).abs().max()) <= 4 * n * eps
        if length <= 1e6:  # as far as the reference, a matrix exponential by squaring, is itself right
            reference = full_exponential(tangent.double(), frame.double())
            assert float((end.double() - reference).abs().max()) <= 100 * eps * max(1, length)


@pytest.mark.parametrize(("n", "dims"), SIGNATURES)
def test_exponential_of_a_vector_of_low_rank(n, dims):
    """The normal part vanishes in all columns but one, or in all."""
    frame = random_frame(n, dims[-1], seed=1)
    tangent = random_tangent(frame, dims, seed=2)
    inside = frame @ (frame.mT @ tangent)
    for vector in (inside, inside + torch.nn.functional.pad((tangent - inside)[:, :1], (0, dims[-1] - 1))):
        torch.testing.assert_close(exponential(vector, frame), full_exponential(vector, frame), atol=1e-13, rtol=0)


def test_chains_of_exponentials_stay_orthonormal():
    frame, dims = random_frame(12, 4, seed=1), (1, 4)
    for seed in range(200):
        frame = exponential(random_tangent(frame, dims, seed=seed, length=1.0), frame)
    assert float((frame.mT @ frame - torch.eye(4)).abs().max()) < 2e-15


def test_exponential_has_its_gradient_at_zero():
    frame = random_frame(7, 4, seed=1)
    tangent = torch.zeros(7, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 4, generator=generator(2), dtype=torch.float64)
    (weight * exponential(tangent, frame)).sum().backward()
    inside = frame.mT @ weight
    expected = weight - frame @ inside + frame @ (inside - inside.mT) / 2
    torch.testing.assert_close(tangent.grad, expected, atol=1e-15, rtol=0)


@pytest.mark.parametrize(("n", "dims"), [(7, (2, 4)), (6, (2, 4, 5))])
def test_exponential_passes_gradcheck(n, dims):
    frame = random_frame(n, dims[-1], seed=1)
    tangent = random_tangent(frame, dims, seed=2).requires_grad_()
    assert torch.autograd.gradcheck(lambda vector: exponential(vector, frame), tangent)


@pytest.mark.parametrize(("n", "dims"), SIGNATURES)
@pytest.mark.parametrize("length", [0.7, math.pi, 12.0])
def test_transport_is_that_of_the_orthogonal_group(n, dims, length):
    frame = random_frame(n, dims[-1], seed=1)
    direction = random_tangent(frame, dims, seed=2, length=length)
    vector = random_tangent(frame, dims, seed=4, length=1.0)
    expected = full_transport(vector, frame, direction, dims)
    torch.testing.assert_close(parallel_transport(vector, frame, direction, dims), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize(("n", "dims"), SIGNATURES)
def test_transport_takes_the_velocity_to_the_velocity(n, dims):
    frame = random_frame(n, dims[-1], seed=1)
    direction = random_tangent(frame, dims, seed=2, length=2.0)
    expected = lift(direction, frame) @ full_exponential(direction, frame)
    torch.testing.assert_close(parallel_transport(direction, frame, direction, dims), expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("length", [300.0, 5000.0])
def test_transport_along_a_long_geodesic_of_subspaces_is_its_rotation(dtype, length):
    """Of subspaces exp(Omega) itself moves the vector, here by the n x n matrix; the result is tangent at the end."""
    n, k, eps = 9, 3, torch.finfo(dtype).eps
    frame = random_frame(n, k, seed=1)
    direction, vector = (random_tangent(frame, (k,), seed=seed, length=size) for seed, size in ((2, length), (4, 1.0)))
    rotation = torch.from_numpy(scipy.linalg.expm(lift(direction, frame).numpy()))
    narrow = [tensor.to(dtype) for tensor in (vector, frame, direction)]
    moved, end = parallel_transport(*narrow, (k,)), grassmannian_exponential(narrow[2], narrow[1])
    assert float((moved.double() - rotation @ vector).abs().max()) <= 30 * eps * length
    assert float((end.mT @ moved).abs().max()) <= 20 * eps


@pytest.mark.parametrize(("n", "dims"), SIGNATURES)
def test_transport_along_a_long_geodesic_of_flags_stays_tangent(n, dims):
    eps = torch.finfo(torch.float32).eps
    frame = random_frame(n, dims[-1], seed=1)
    direction, vector = (random_tangent(frame, dims, seed=seed, length=size) for seed, size in ((2, 300.0), (4, 1.0)))
    vector, frame, direction = (tensor.float() for tensor in (vector, frame, direction))
    end = (grassmannian_exponential if len(dims) == 1 else exponential)(direction, frame)
    moved = parallel_transport(vector, frame, direction, dims)
    inside = end.mT @ moved
    blocks = torch.block_diag(*[torch.ones(b.stop - b.start, b.stop - b.start) for b in block_slices(dims)]).bool()
    assert float((inside + inside.mT).abs().max()) <= 10 * n * eps
    assert float(inside[blocks].abs().max()) <= 10 * n * eps


def test_transport_of_a_batch_along_one_direction():
    dims, frame = (1, 3), random_frame(6, 3, seed=1)
    direction = random_tangent(frame, dims, seed=2, length=1.0)
    vectors = torch.stack([random_tangent(frame, dims, seed=seed, length=1.0) for seed in (4, 6)])
    batched = parallel_transport(vectors, frame, direction, dims)
    single = parallel_transport(vectors[1], frame, direction, dims)
    torch.testing.assert_close(batched[1], single, atol=1e-15, rtol=0)


@pytest.mark.parametrize("angles", [[0.3, 1.2], [math.pi / 2, math.pi / 2, 1e-12], [0.0, 0.0], [1e-13, 0.4]])
def test_grassmannian_logarithm_ends_at_the_point(angles):
    base, end = planted_pair(9, angles, seed=3)
    tangent = grassmannian_logarithm(end, base)
    dims = (len(angles),)
    assert float((base.mT @ tangent).abs().max()) < 2e-15
    length = math.sqrt(sum(angle**2 for angle in angles))
    assert float(torch.linalg.matrix_norm(tangent)) == pytest.approx(length, abs=2e-15)
    reached = full_exponential(tangent, base)
    torch.testing.assert_close(projectors(reached, dims), projectors(end, dims), atol=2e-15, rtol=0)


@pytest.mark.parametrize(
    ("n", "dims", "retraction", "order"),
    [
        (7, (3,), polar_retraction, 2),
        (7, (3,), qr_retraction, 2),
        (7, (1, 3), polar_retraction, 1),
        (7, (1, 3), qr_retraction, 1),
        (6, (2, 4, 5), polar_retraction, 1),
    ],
)
def test_retractions_approximate_the_exponential(n, dims, retraction, order):
    """The error falls as the square or the cube of the step: slopes 2 and 3 in a log-log plot."""
    frame = random_frame(n, dims[-1], seed=1)
    tangent = random_tangent(frame, dims, seed=2, length=1.0)
    steps = [1e-2, 5e-3]
    errors = [
        float(
            (
                projectors(retraction(t * tangent, frame), dims) - projectors(exponential(t * tangent, frame), dims)
            ).norm()
        )
        for t in steps
    ]
    slope = math.log(errors[0] / errors[1]) / math.log(2)
    assert slope == pytest.approx(order + 1, abs=0.05)


def test_retractions_depend_on_the_flag_alone_and_polar_moves_with_the_frame():
    dims, frame = (2, 4), random_frame(8, 4, seed=1)
    tangent = random_tangent(frame, dims, seed=2, length=1.0)
    turned, turned_tangent = hide(frame, dims, seed=5), hide(tangent, dims, seed=5)
    for retraction, moves_along in ((polar_retraction, True), (qr_retraction, False)):
        here, there = retraction(tangent, frame), retraction(turned_tangent, turned)
        torch.testing.assert_close(projectors(here, dims), projectors(there, dims), atol=1e-14, rtol=0)
        assert bool((hide(here, dims, seed=5) - there).abs().max() < 1e-14) is moves_along


def test_change_of_representative_moves_the_vector_with_the_frame():
    dims, frame = (2, 5), random_frame(9, 5, seed=1)
    tangent = random_tangent(frame, dims, seed=2)
    turned = hide(frame, dims, seed=5)
    moved = change_representative(tangent, frame, turned, dims)
    torch.testing.assert_close(moved, hide(tangent, dims, seed=5), atol=1e-14, rtol=0)


def test_transport_of_an_empty_batch_is_empty():
    empty = torch.zeros(0, 5, 2, dtype=torch.float64)
    assert parallel_transport(empty, empty, empty, (1, 2)).shape == (0, 5, 2)
