import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifolds.backend import import_geomstats
from manifolds.checks import require_frame
from manifolds.conversions import from_isospectral, from_projector, nearest_frame, to_isospectral, to_projector
from manifolds.flag import Flag
from manifolds.frames import orthogonal_complement

from .builders import SIGNATURES, generator, hide, projectors, random_frame


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize(("n", "k"), [(5, 2), (6, 6), (40, 39), (3, 1)])
def test_projector_round_trip(n, k, batch):
    frame = random_frame(n, k, seed=0, batch=batch)
    projector = to_projector(frame)
    back = from_projector(projector, k)
    require_frame(back, "back")
    assert back.shape == frame.shape
    torch.testing.assert_close(to_projector(back), projector, atol=1e-12, rtol=0)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)])
@pytest.mark.parametrize(("n", "dims"), SIGNATURES)
def test_isospectral_round_trip(n, dims, batch):
    frame = random_frame(n, dims[-1], seed=1, batch=batch)
    draws = torch.randperm(len(dims) + 1, generator=generator(2)) - 1.5  # in no order, of both signs
    eigenvalues = draws.tolist()
    matrix = to_isospectral(frame, dims, eigenvalues)
    back = from_isospectral(matrix, dims, eigenvalues)
    torch.testing.assert_close(projectors(back, dims), projectors(frame, dims), atol=1e-12, rtol=0)
    torch.testing.assert_close(to_isospectral(back, dims, eigenvalues), matrix, atol=1e-12, rtol=0)


def test_the_isospectral_matrix_has_the_blocks_for_eigenspaces():
    frame = random_frame(7, 4, seed=3)
    matrix = to_isospectral(frame, (1, 4), (2.0, -3.0, 0.5))
    for block, eigenvalue in ((frame[:, :1], 2), (frame[:, 1:], -3), (orthogonal_complement(frame), 0.5)):
        torch.testing.assert_close(matrix @ block, eigenvalue * block, atol=1e-13, rtol=0)


def test_projectors_and_reflections_are_isospectral():
    frame = random_frame(7, 3, seed=4)
    projector = to_projector(frame)
    torch.testing.assert_close(to_isospectral(frame, (3,), (1, 0)), projector)
    torch.testing.assert_close(to_isospectral(frame, (3,), (1, -1)), 2 * projector - torch.eye(7, dtype=torch.float64))


def test_geomstats_takes_the_projectors():
    space = import_geomstats("geomstats.geometry.grassmannian").Grassmannian(6, 2, equip=False)
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # in which geomstats makes its constants
    try:
        assert bool(space.belongs(to_projector(random_frame(6, 2, seed=5)), atol=1e-12))
        assert bool(space.belongs(to_projector(from_projector(space.random_point(), 2)), atol=1e-12))
    finally:
        torch.set_default_dtype(dtype)


@settings(max_examples=25)
@given(st.sampled_from(SIGNATURES), st.integers(0, 100))
def test_matrices_depend_on_the_flag_alone(signature, seed):
    n, dims = signature
    frame = random_frame(n, dims[-1], seed=seed)
    eigenvalues = [float(number) for number in range(len(dims) + 1)]
    matrix = to_isospectral(frame, dims, eigenvalues)
    same = to_isospectral(hide(frame, dims, seed=seed + 1), dims, eigenvalues)
    torch.testing.assert_close(same, matrix, atol=1e-13, rtol=0)
    turn = random_frame(n, n, seed=seed + 2)
    torch.testing.assert_close(to_isospectral(turn @ frame, dims, eigenvalues), turn @ matrix @ turn.mT)
    if len(dims) > 1:
        across = frame @ random_frame(dims[-1], dims[-1], seed=seed + 3)
        assert float((to_isospectral(across, dims, eigenvalues) - matrix).abs().max()) > 1e-3


@pytest.mark.parametrize(("n", "dims"), SIGNATURES)
def test_a_stiefel_point_comes_back_from_its_flag(n, dims):
    frame = random_frame(n, dims[-1], seed=6, batch=(4,))
    back = nearest_frame(hide(frame, dims, seed=7), frame, dims)
    torch.testing.assert_close(back, frame, atol=1e-12, rtol=0)


def test_the_nearest_frame_is_nearest():
    frame, reference = random_frame(9, 5, seed=8), random_frame(9, 5, seed=9)
    dims = (2, 5)
    best = nearest_frame(frame, reference, dims)
    torch.testing.assert_close(projectors(best, dims), projectors(frame, dims), atol=1e-13, rtol=0)
    for seed in range(50):
        assert float((hide(frame, dims, seed=seed) - reference).norm()) > float((best - reference).norm())
    # It is a critical point: no rotation inside a block brings it nearer.
    for block in (slice(0, 2), slice(2, 5)):
        inside = best[:, block].mT @ reference[:, block]
        torch.testing.assert_close(inside, inside.mT, atol=1e-13, rtol=0)
        assert bool((torch.linalg.eigvalsh(inside) > 0).all())


def test_the_nearest_frame_depends_on_the_flag_alone():
    frame, reference = random_frame(9, 5, seed=10), random_frame(9, 5, seed=11)
    for dims in ((2, 5), None):
        same = hide(frame, dims or (5,), seed=12)
        torch.testing.assert_close(nearest_frame(same, reference, dims), nearest_frame(frame, reference, dims))
    across = frame @ random_frame(5, 5, seed=13)
    assert float((nearest_frame(across, reference, (2, 5)) - nearest_frame(frame, reference, (2, 5))).abs().max()) > 0.1


@pytest.mark.parametrize(("n", "dims"), SIGNATURES)
def test_regularize_is_the_frame_nearest_to_the_axes(n, dims):
    frame = random_frame(n, dims[-1], seed=14)
    axes = torch.eye(n, dims[-1], dtype=torch.float64)
    torch.testing.assert_close(nearest_frame(frame, axes, dims), Flag(n, dims).regularize(frame))


AXES = torch.eye(4, dtype=torch.float64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: to_projector(2 * AXES[:, :1]), "not an orthonormal frame"),
        (lambda: from_projector(AXES[:, :2], 1), "shape"),
        (lambda: from_projector(AXES.int(), 4), "float32 or float64"),
        (lambda: from_projector(AXES, 3), "off by 1.0e"),
        (lambda: from_projector(AXES, 5), "from 1 to n = 4"),
        (lambda: from_projector(AXES + torch.triu(AXES + 1), 1), "symmetric"),
        (lambda: from_projector(AXES * float("nan"), 1), "symmetric"),
        (lambda: to_isospectral(AXES[:, :2], (1, 2), (1.0, 2.0)), "expected 3 distinct eigenvalues"),
        (lambda: to_isospectral(AXES[:, :2], (1, 2), (1.0, 2.0, 1.0)), "expected 3 distinct eigenvalues"),
        (lambda: to_isospectral(AXES[:, :2], (1, 3), (1.0, 2.0, 3.0)), "3 columns"),
        (lambda: from_isospectral(AXES, (1,), (1.0, 0.0)), "off by 1.0e"),
        (lambda: nearest_frame(AXES[:, :2], AXES[:, :1]), "reference of 2 columns"),
        (lambda: nearest_frame(AXES[:, :2], AXES[:, :2], (1, 3)), "3 columns"),
    ],
)
def test_what_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
