import math
from functools import partial

import pytest
import torch

from manifolds.flag import Flag
from manifolds.flag_logarithm import AlignmentError, solve_flag_logarithm
from manifolds.flag_metric import FlagMetric
from manifolds.geodesics import exponential
from manifolds.grassmannian import Grassmannian

from .builders import SIGNATURES, generator, hide, lift, projectors, random_frame, random_tangent

FLAGS = [Flag(n, dims) for n, dims in SIGNATURES]


def pair(flags, *, seed, length=1.0):
    """Two points this far apart, the second by a frame of its own."""
    base = random_frame(flags.n, flags.dims[-1], seed=seed)
    end = exponential(random_tangent(base, flags.dims, seed=seed + 1, length=length), base)
    return base, hide(end, flags.dims, seed=seed + 3)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_inner_product_is_half_the_trace_form_of_the_lifts(flags):
    base = random_frame(flags.n, flags.dims[-1], seed=1)
    first, second = (random_tangent(base, flags.dims, seed=seed) for seed in (2, 4))
    expected = float((lift(first, base) * lift(second, base)).sum()) / 2
    assert flags.metric.inner_product(first, second, base).item() == pytest.approx(expected, rel=1e-13)


def test_inner_product_of_a_known_case():
    """Frozen numbers: a rotation between the two blocks, and one out of the plane."""
    flags, base = Flag(3, (1, 2)), torch.eye(3, dtype=torch.float64)[:, :2]
    turn = torch.tensor([[0.0, -2.0], [2.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    leave = torch.tensor([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0]], dtype=torch.float64)
    assert flags.metric.squared_norm(turn, base).item() == 4
    assert flags.metric.squared_norm(leave, base).item() == 9
    assert flags.metric.inner_product(turn, leave, base).item() == 0


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_distance_is_the_planted_length(flags):
    base, end = pair(flags, seed=5, length=1.2)
    assert flags.metric.dist(base, end).item() == pytest.approx(1.2, abs=1e-12)
    assert flags.metric.norm(flags.metric.log(end, base), base).item() == pytest.approx(1.2, abs=1e-12)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_everything_depends_on_the_flags_alone(flags):
    """Another frame of the same flags turns vectors with it; an orthogonal map of the space changes no number."""
    base, end = pair(flags, seed=1)
    turned, moved_end = hide(base, flags.dims, seed=7), hide(end, flags.dims, seed=8)
    rotation = random_frame(flags.n, flags.n, seed=9)
    metric = flags.metric
    close = {"atol": 1e-11, "rtol": 0}

    torch.testing.assert_close(metric.dist(turned, moved_end), metric.dist(base, end), **close)
    torch.testing.assert_close(metric.dist(rotation @ base, rotation @ end), metric.dist(base, end), **close)
    logarithm = metric.log(end, base)
    torch.testing.assert_close(metric.log(moved_end, turned), hide(logarithm, flags.dims, seed=7), **close)
    torch.testing.assert_close(metric.log(rotation @ end, rotation @ base), rotation @ logarithm, **close)
    vector = random_tangent(base, flags.dims, seed=20, length=1.0)
    transported = metric.parallel_transport(vector, base, end_point=end)
    also = metric.parallel_transport(hide(vector, flags.dims, seed=7), turned, end_point=end)
    torch.testing.assert_close(also, transported, **close)


def test_distance_changes_under_a_general_linear_map():
    flags = Flag(6, (1, 3))
    base, end = pair(flags, seed=1)
    shear = torch.eye(6, dtype=torch.float64) + 0.5 * torch.ones(6, 6, dtype=torch.float64).triu(1)
    moved = flags.metric.dist(torch.linalg.qr(shear @ base).Q, torch.linalg.qr(shear @ end).Q)
    assert abs(float(moved - flags.metric.dist(base, end))) > 0.05


def test_a_larger_gauge_group_is_another_space():
    """Turning columns across blocks keeps the largest subspace, but not the flag."""
    frame = random_frame(8, 3, seed=1)
    turned = frame @ random_frame(3, 3, seed=2)
    assert Grassmannian(8, 3).metric.dist(frame, turned).item() < 1e-14
    assert Flag(8, (1, 3)).metric.dist(frame, turned).item() > 0.1


def test_refining_a_flag_does_not_shorten_distances():
    base, end = pair(Flag(9, (1, 2, 4)), seed=3, length=1.4)
    chain = [(4,), (2, 4), (1, 2, 4)]
    lengths = [Flag(9, dims).metric.dist(base, end).item() for dims in chain]
    assert lengths == sorted(lengths)
    for dims in chain:
        for dim in dims:
            prefix = Grassmannian(9, dim).metric.dist(base[:, :dim], end[:, :dim]).item()
            assert prefix <= Flag(9, dims).metric.dist(base, end).item() + 1e-12


def test_subspaces_are_as_far_apart_as_their_complements():
    first, second = random_frame(7, 7, seed=1), random_frame(7, 7, seed=2)
    here = Grassmannian(7, 3).metric.dist(first[:, :3], second[:, :3])
    there = Grassmannian(7, 4).metric.dist(first[:, 3:], second[:, 3:])
    torch.testing.assert_close(here, there, atol=1e-13, rtol=0)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_geodesics_have_constant_speed(flags):
    base, end = pair(flags, seed=2)
    path = flags.metric.geodesic(base, end_point=end)
    points = path([0.0, 0.25, 0.5, 1.0])
    assert points.shape == (4, flags.n, flags.dims[-1])
    lengths = flags.metric.dist(base, points)
    torch.testing.assert_close(lengths, torch.tensor([0.0, 0.25, 0.5, 1.0]).double(), atol=1e-11, rtol=0)
    torch.testing.assert_close(projectors(points[-1], flags.dims), projectors(end, flags.dims), atol=1e-11, rtol=0)


def test_geodesic_needs_one_end():
    flags = Flag(5, (1, 2))
    base, end = pair(flags, seed=1)
    for arguments in ({}, {"end_point": end, "initial_tangent_vec": torch.zeros_like(base)}):
        with pytest.raises(ValueError, match="both or neither"):
            flags.metric.geodesic(base, **arguments)
    for arguments in ({}, {"end_point": end, "direction": torch.zeros_like(base)}):
        with pytest.raises(ValueError, match="both or neither"):
            flags.metric.parallel_transport(torch.zeros_like(base), base, **arguments)


@pytest.mark.parametrize("flags", [Flag(7, (2, 4)), Flag(6, (2, 4, 5)), Grassmannian(6, 2)], ids=str)
def test_squared_distance_passes_gradcheck(flags):
    """Along the manifold, so that the perturbed arguments stay points."""
    base, end = pair(flags, seed=4, length=0.9)
    vectors = [torch.randn(base.shape, generator=generator(seed), dtype=torch.float64) * 0.1 for seed in (1, 2)]

    def squared(x, y):
        first = flags.metric.exp(flags.to_tangent(x, base), base)
        second = flags.metric.exp(flags.to_tangent(y, end), end)
        return flags.metric.squared_dist(first, second)

    assert torch.autograd.gradcheck(squared, [vector.requires_grad_() for vector in vectors], atol=1e-6)


@pytest.mark.parametrize("flags", [Flag(7, (2, 4, 6)), Grassmannian(6, 2)], ids=str)
def test_gradient_of_the_squared_distance_is_minus_twice_the_logarithm(flags):
    """For any batch axes, the smaller operand summed over them."""
    base, _ = pair(flags, seed=1)
    ends = torch.stack([pair(flags, seed=seed)[1] for seed in (1, 11)])[:, None]
    base.requires_grad_()
    flags.metric.squared_dist(base, ends).sum().backward()
    gradient = flags.metric.riemannian_gradient(base.grad, base.detach())
    expected = -2 * flags.metric.log(ends, base.detach()).sum(dim=(0, 1))
    torch.testing.assert_close(gradient, expected, atol=1e-11, rtol=0)


@pytest.mark.parametrize("flags", [Flag(7, (2, 4)), Grassmannian(6, 2)], ids=str)
def test_distance_has_gradient_zero_at_coincident_points(flags):
    base = random_frame(flags.n, flags.dims[-1], seed=1)
    for end in (base.clone(), hide(base, flags.dims, seed=2)):
        first = base.clone().requires_grad_()
        flags.metric.dist(first, end).backward()
        assert float(first.grad.abs().max()) == 0
    base, end = pair(flags, seed=1, length=0.5)
    base.requires_grad_()
    flags.metric.dist(base, end).backward()
    gradient = flags.metric.riemannian_gradient(base.grad, base.detach())
    assert flags.metric.norm(gradient, base.detach()).item() == pytest.approx(1, abs=1e-11)


def test_riemannian_gradient_has_the_slope_of_the_function():
    flags = Flag(7, (2, 4))
    base = random_frame(7, 4, seed=1)
    weights = torch.randn(3, 7, 7, generator=generator(2), dtype=torch.float64)

    def function(point):
        return sum(torch.exp((weights[i] @ part).sum() / 5) for i, part in enumerate(projectors(point, flags.dims)))

    leaf = base.clone().requires_grad_()
    function(leaf).backward()
    gradient = flags.metric.riemannian_gradient(leaf.grad, base)
    assert bool(flags.is_tangent(gradient, base))
    for seed in (3, 5):
        vector = random_tangent(base, flags.dims, seed=seed, length=1.0)
        step = 1e-5
        slope = (function(exponential(step * vector, base)) - function(exponential(-step * vector, base))) / (2 * step)
        assert flags.metric.inner_product(gradient, vector, base).item() == pytest.approx(slope.item(), rel=1e-8)


def test_unit_vectors_are_tangent_units():
    flags = Flag(7, (2, 4))
    base = random_frame(7, 4, seed=1)
    vectors = flags.metric.random_unit_tangent_vec(base, 6, generator=generator(0))
    assert vectors.shape == (6, 7, 4)
    assert bool(flags.is_tangent(vectors, base).all())
    torch.testing.assert_close(flags.metric.norm(vectors, base), torch.ones(6).double(), atol=1e-14, rtol=0)
    zero = torch.zeros_like(base)
    assert torch.equal(flags.metric.normalize(zero, base), zero)


@pytest.mark.parametrize("flags", [*FLAGS, Flag(20, (2, 5, 8)), Grassmannian(8, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_transport_to_a_point_gives_tangent_vectors_of_the_same_length(flags, dtype):
    """To working precision, which is finer than the tolerance of the logarithm."""
    count = 500 if flags.n < 10 else 50  # of which a pair takes longer
    base, end = flags.random_point(2 * count, generator=generator(0), dtype=dtype).view(2, count, flags.n, -1)
    vectors = flags.random_tangent_vec(base, generator=generator(1))
    moved = flags.metric.parallel_transport(vectors, base, end_point=end)
    assert bool(flags.is_tangent(moved, end).all())
    flags.metric.exp(moved, end)
    lengths = flags.metric.norm(vectors, base)
    torch.testing.assert_close(flags.metric.norm(moved, end), lengths, atol=0, rtol=100 * torch.finfo(dtype).eps ** 0.9)


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_curvature_is_that_of_the_lifts_and_between_0_and_2(flags):
    base = random_frame(flags.n, flags.dims[-1], seed=1)
    completed = torch.cat([base, torch.linalg.qr(base, mode="complete").Q[:, flags.dims[-1] :]], dim=1)
    for seed in range(0, 40, 4):
        first, second = (random_tangent(base, flags.dims, seed=seed + i, length=1.0) for i in (0, 2))
        second = second - flags.metric.inner_product(first, second, base) * first
        second = second / flags.metric.norm(second, base)
        left, right = (completed.mT @ lift(vector, base) @ completed for vector in (first, second))
        bracket = left @ right - right @ left
        vertical = torch.block_diag(
            *[
                bracket[start:stop, start:stop]
                for start, stop in zip((0, *flags.dims), (*flags.dims, flags.n), strict=True)
            ]
        )
        expected = float((bracket - vertical).square().sum()) / 8 + float(vertical.square().sum()) / 2
        found = flags.metric.sectional_curvature(first, second, base).item()
        assert found == pytest.approx(expected, abs=1e-12)
        assert -1e-12 <= found <= 2 + 1e-12


@pytest.mark.parametrize("flags", [Flag(9, (1, 3)), Grassmannian(9, 3)], ids=str)
def test_all_distances_are_those_of_the_pairs(flags):
    points = random_frame(9, 3, seed=1, batch=(6,))
    distances = flags.metric.dist_pairwise(points)
    torch.testing.assert_close(distances, distances.mT, atol=0, rtol=0)
    for i in range(6):
        for j in range(i):
            assert distances[i, j].item() == pytest.approx(flags.metric.dist(points[i], points[j]).item(), abs=1e-11)
    assert float(distances.diagonal().abs().max()) == 0
    assert flags.metric.dist_pairwise(points[:1]).tolist() == [[0.0]]
    with pytest.raises(ValueError, match=r"\[n_samples, n, k\]"):
        flags.metric.dist_pairwise(points[0])


def test_a_search_that_fails_raises_instead_of_returning_a_number(monkeypatch):
    flags = Flag(30, (2, 5, 8))
    base, end = random_frame(30, 8, seed=1), random_frame(30, 8, seed=2)
    monkeypatch.setattr("manifolds.flag_metric.solve_flag_logarithm", partial(solve_flag_logarithm, max_steps=1))
    for method in (flags.metric.log, flags.metric.dist, flags.metric.squared_dist):
        with pytest.raises(AlignmentError, match="1 of 1 pairs"):
            method(end, base)


def test_a_metric_is_printed_with_its_space():
    space = Flag(7, (2, 4, 6))
    assert repr(space.metric) == "FlagMetric(Flag(n=7, dims=(2, 4, 6)))"
    assert repr(eval(repr(space.metric), {"Flag": Flag, "FlagMetric": FlagMetric})) == repr(space.metric)
    assert repr(Grassmannian(576, 16).metric) == "GrassmannianMetric(Grassmannian(n=576, k=16))"


def test_injectivity_radius_is_half_pi_of_the_kind_of_the_point():
    flags = Flag(5, (1, 2))
    radius = flags.metric.injectivity_radius(random_frame(5, 2, seed=1, batch=(3,), dtype=torch.float32))
    assert radius.shape == (3,)
    assert radius.dtype == torch.float32
    assert radius[0].item() == pytest.approx(math.pi / 2)
    assert flags.metric.injectivity_radius().item() == pytest.approx(math.pi / 2)


@pytest.mark.parametrize("space", [Flag(5, (1, 3)), Grassmannian(5, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_vector_so_long_that_its_angles_are_lost_is_refused(space, dtype):
    base = random_frame(5, 3, seed=1, dtype=dtype)
    unit = space.to_tangent(random_tangent(base.double(), space.dims, seed=2, length=1.0).to(dtype), base)
    longest = 1e-3 / torch.finfo(dtype).eps
    for length in (0.5 * longest, 0.01 * longest, 30.0):
        assert bool(space.belongs(space.metric.exp(length * unit, base)))
        assert bool(space.belongs(space.metric.geodesic(base, initial_tangent_vec=unit)(length)[0]))
    with pytest.raises(ValueError, match="tangent vector of norm at most"):
        space.metric.exp(2 * longest * unit, base)
    with pytest.raises(ValueError, match="tangent vector of norm at most"):
        space.metric.geodesic(base, initial_tangent_vec=unit)(2 * longest)
    with pytest.raises(ValueError, match="of norm at most"):
        space.metric.parallel_transport(unit, base, direction=2 * longest * unit)


@pytest.mark.parametrize("space", [Flag(5, (1, 3)), Grassmannian(5, 3)], ids=str)
def test_the_exponential_has_derivatives_as_long_as_they_are_accurate(space):
    """By central differences at length 1e5; far beyond, where rounding would make them up, they are refused."""
    base = random_frame(5, 3, seed=1)
    vector, weight = 1e5 * random_tangent(base, space.dims, seed=2, length=1.0), random_frame(5, 3, seed=3)
    along = random_tangent(base, space.dims, seed=4, length=1.0)

    def value(step):
        return (weight * space.metric.exp(vector + step * along, base)).sum()

    step = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(value(step), step)
    difference = (value(1e-4) - value(-1e-4)) / 2e-4
    assert float(slope) == pytest.approx(float(difference), abs=1e-4)
    long = (100 * vector).requires_grad_()
    end = space.metric.exp(long, base)
    with pytest.raises(ArithmeticError, match="accurate derivatives"):
        end.sum().backward()


def test_transport_of_flags_refuses_geodesics_that_would_take_minutes():
    flags, planes = Flag(5, (1, 3)), Grassmannian(5, 3)
    base = random_frame(5, 3, seed=1)
    unit = random_tangent(base, flags.dims, seed=2, length=1.0)
    with pytest.raises(ValueError, match="direction of norm at most 1000"):
        flags.metric.parallel_transport(unit, base, direction=2000 * unit)
    unit = random_tangent(base, planes.dims, seed=2, length=1.0)
    moved = planes.metric.parallel_transport(unit, base, direction=1e6 * unit)
    assert bool(planes.is_tangent(moved, planes.metric.exp(1e6 * unit, base)))


@pytest.mark.parametrize("space", [Flag(5, (1, 3)), Grassmannian(5, 3)], ids=str)
def test_messages_name_what_was_found(space):
    base, other = random_frame(5, 3, seed=1), random_frame(5, 3, seed=2, dtype=torch.float32)
    with pytest.raises(ValueError, match=r"point_a torch.float64 on cpu and point_b torch.float32"):
        space.metric.dist(base, other)
    with pytest.raises(ValueError, match="finite tangent_vec; found NaN"):
        space.metric.exp(base * math.nan, base)
    with pytest.raises(ValueError, match="point_b needs a torch tensor; got a list"):
        space.metric.dist(base, [base])
    empty = space.metric.dist_pairwise(base.new_empty(0, 5, 3))
    assert empty.shape == (0, 0)
    assert empty.dtype is torch.float64
