import math

import pytest
import torch

from manifolds.flag import Flag
from manifolds.grassmannian import Grassmannian

from .builders import SIGNATURES, generator, hide, projectors, random_frame, random_tangent


@pytest.mark.parametrize(("n", "dims"), SIGNATURES)
def test_dimension_is_the_rank_of_the_tangent_space(n, dims):
    flags = Flag(n, dims)
    frame = random_frame(n, dims[-1], seed=1)
    units = torch.eye(n * dims[-1], dtype=torch.float64).reshape(-1, n, dims[-1])
    tangents = flags.to_tangent(units, frame).flatten(1)
    assert flags.dim == int(torch.linalg.matrix_rank(tangents))


def test_to_tangent_is_the_nearest_tangent_vector():
    flags, frame = Flag(7, (2, 4)), random_frame(7, 4, seed=1)
    vector = torch.randn(7, 4, generator=generator(2), dtype=torch.float64)
    tangent = flags.to_tangent(vector, frame)
    assert bool(flags.is_tangent(tangent, frame))
    torch.testing.assert_close(flags.to_tangent(tangent, frame), tangent, atol=1e-15, rtol=0)
    for seed in range(5):
        other = random_tangent(frame, flags.dims, seed=10 * seed)
        assert abs(float(((vector - tangent) * other).sum())) < 1e-13


def test_turning_columns_inside_a_block_is_not_tangent():
    flags, frame = Flag(7, (2, 4)), random_frame(7, 4, seed=1)
    turn = torch.zeros(4, 4, dtype=torch.float64)
    turn[0, 1], turn[1, 0] = 1, -1
    assert not bool(flags.is_tangent(frame @ turn, frame))
    turn = torch.zeros(4, 4, dtype=torch.float64)
    turn[0, 2], turn[2, 0] = 1, -1
    assert bool(flags.is_tangent(frame @ turn, frame))


def test_regularize_gives_one_frame_for_one_flag():
    flags, frame = Flag(7, (2, 4)), random_frame(7, 4, seed=1)
    regular = flags.regularize(frame)
    torch.testing.assert_close(flags.regularize(hide(frame, flags.dims, seed=3)), regular, atol=1e-14, rtol=0)
    torch.testing.assert_close(projectors(regular, flags.dims), projectors(frame, flags.dims), atol=1e-14, rtol=0)
    block = regular[2:4, 2:4]
    torch.testing.assert_close(block, block.mT, atol=1e-15, rtol=0)
    assert float(torch.linalg.eigvalsh(block)[0]) > 0


@pytest.mark.parametrize(
    ("flags", "printed"),
    [
        (Flag(7, (2, 4, 6)), "Flag(n=7, dims=(2, 4, 6))"),
        (Flag(7, (2,), equip=False), "Flag(n=7, dims=(2,), equip=False)"),
        (Grassmannian(576, 16), "Grassmannian(n=576, k=16)"),
        (Grassmannian(576, 16, equip=False), "Grassmannian(n=576, k=16, equip=False)"),
    ],
    ids=str,
)
def test_a_manifold_is_printed_as_it_is_made(flags, printed):
    assert repr(flags) == str(flags) == printed
    again = eval(printed)
    assert (type(again), again.n, again.dims) == (type(flags), flags.n, flags.dims)
    assert hasattr(again, "metric") == hasattr(flags, "metric")


def test_projection_is_the_same_for_one_block_and_many():
    matrix = torch.randn(5, 2, generator=generator(0), dtype=torch.float64)
    assert torch.equal(Flag(5, (1, 2)).projection(matrix), Flag(5, (2,)).projection(matrix))


def test_random_tangent_vectors_are_isotropic():
    """Unit variance in every unit direction, so the squared norm is the dimension on average."""
    flags = Flag(6, (1, 3))
    frame = flags.random_point(generator=generator(0), dtype=torch.float64)
    vectors = flags.random_tangent_vec(frame, 20000, generator=generator(1))
    assert bool(flags.is_tangent(vectors, frame).all())
    for seed in range(3):
        unit = random_tangent(frame, flags.dims, seed=seed, length=1.0)
        coordinates = flags.metric.inner_product(vectors, unit, frame)
        assert float(coordinates.mean()) == pytest.approx(0, abs=0.03)
        assert float(coordinates.square().mean()) == pytest.approx(1, abs=0.04)
    assert float(flags.metric.squared_norm(vectors, frame).mean()) == pytest.approx(flags.dim, rel=0.02)


def test_random_points_have_the_asked_kind():
    flags = Flag(6, (1, 3))
    points = flags.random_point(4, generator=generator(0), dtype=torch.float64)
    assert points.shape == (4, 6, 3)
    assert points.dtype == torch.float64
    assert torch.equal(points, flags.random_point(4, generator=generator(0), dtype=torch.float64))
    assert flags.random_point().shape == (6, 3)
    assert flags.random_tangent_vec(points).shape == (4, 6, 3)
    assert flags.random_tangent_vec(points[0], 5).shape == (5, 6, 3)
    with pytest.raises(ValueError, match="one sample for each of 4 base points; got 3"):
        flags.random_tangent_vec(points, 3)


@pytest.mark.parametrize("dims", [(3, 2), (2, 2), (0, 2), (2, 5), (6,), ()])
def test_signatures_that_do_not_increase_are_refused(dims):
    with pytest.raises(ValueError, match=r"increase strictly between 1 and n - 1 = 4"):
        Flag(5, dims)


FRAME = random_frame(6, 3, seed=1)


@pytest.mark.parametrize(
    "point",
    [
        random_frame(6, 2, seed=1),
        random_frame(7, 3, seed=1),
        1.01 * FRAME,
        torch.full((6, 3), math.nan, dtype=torch.float64),
        torch.ones(6, 3, dtype=torch.int64),
    ],
    ids=["too narrow", "other space", "not orthonormal", "NaN", "integers"],
)
def test_what_is_no_point_is_refused_everywhere(point):
    flags = Flag(6, (1, 3))
    if point.is_floating_point():
        assert not bool(flags.belongs(point))
    tangent = torch.zeros(6, 3, dtype=torch.float64)
    calls = [
        lambda: flags.to_tangent(tangent, point),
        lambda: flags.regularize(point),
        lambda: flags.random_tangent_vec(point),
        lambda: flags.metric.exp(tangent, point),
        lambda: flags.metric.log(point, FRAME),
        lambda: flags.metric.log(FRAME, point),
        lambda: flags.metric.dist(FRAME, point),
        lambda: flags.metric.squared_dist(point, FRAME),
        lambda: flags.metric.dist_pairwise(point[None]),
        lambda: flags.metric.geodesic(point, initial_tangent_vec=tangent),
        lambda: flags.metric.parallel_transport(tangent, point, direction=tangent),
        lambda: flags.metric.parallel_transport(tangent, FRAME, end_point=point),
        lambda: flags.metric.polar_retraction(tangent, point),
        lambda: flags.metric.qr_retraction(tangent, point),
        lambda: flags.metric.riemannian_gradient(tangent, point),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"expected|orthonormal|float"):
            call()


@pytest.mark.parametrize(
    "vector",
    [
        FRAME,
        torch.full((6, 3), math.nan, dtype=torch.float64),
        torch.zeros(6, 2, dtype=torch.float64),
        torch.zeros(6, 3, dtype=torch.float32),
        torch.zeros(6, 3, dtype=torch.float64, device="meta"),
    ],
    ids=["not tangent", "NaN", "other shape", "other dtype", "other device"],
)
def test_what_is_no_tangent_vector_is_refused_everywhere(vector):
    flags, zero = Flag(6, (1, 3)), torch.zeros(6, 3, dtype=torch.float64)
    calls = [
        lambda: flags.metric.exp(vector, FRAME),
        lambda: flags.metric.geodesic(FRAME, initial_tangent_vec=vector),
        lambda: flags.metric.parallel_transport(vector, FRAME, direction=zero),
        lambda: flags.metric.parallel_transport(zero, FRAME, direction=vector),
        lambda: flags.metric.polar_retraction(vector, FRAME),
        lambda: flags.metric.qr_retraction(vector, FRAME),
        lambda: flags.metric.sectional_curvature(vector, zero, FRAME),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"expected"):
            call()


@pytest.mark.parametrize("dims", [2, (1.5, 2), None])
def test_dimensions_that_are_no_whole_numbers_are_refused(dims):
    with pytest.raises(TypeError, match="sequence of whole numbers"):
        Flag(5, dims)


def test_manifolds_are_equal_if_all_that_they_are_made_of_is():
    alike = [Flag(6, (1, 3)), Flag(6, (1, 3))]
    assert alike[0] == alike[1]
    assert len(set(alike)) == 1
    assert Grassmannian(6, 2) == Grassmannian(6, 2)
    others = [Flag(7, (1, 3)), Flag(6, (1, 2)), Flag(6, (1, 3), equip=False), Flag(6, (3,)), Grassmannian(6, 3), "Flag"]
    assert all(alike[0] != other for other in others)
    assert Flag(6, (3,)) != Grassmannian(6, 3)
