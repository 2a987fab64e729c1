"""Derivatives against central differences, by torch.autograd and by the transforms of torch.func."""

import math

import pytest
import torch
from torch.autograd.functional import hessian, jacobian

from manifolds.derivatives import evaluate, nearest_frame, safe_sqrt, singular_values
from manifolds.distances import (
    asimov_distance,
    binet_cauchy_distance,
    chordal_distance,
    fubini_study_distance,
    geodesic_distance,
    martin_distance,
    procrustes_distance,
)
from manifolds.flag import Flag
from manifolds.frames import orthonormalize, polar_factor
from manifolds.geodesics import exponential
from manifolds.grassmannian import Grassmannian

from .builders import generator, hide, planted_pair, random_frame, random_tangent

# Forward mode imports what torch itself calls deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

# One block, blocks of different size, more than half of the space, all blocks lines.
SPACES = [Grassmannian(5, 2), Flag(6, (1, 3)), Flag(5, (2, 4)), Flag(4, (1, 2, 3))]
SYMMETRIC_DISTANCES = [
    geodesic_distance,
    chordal_distance,
    procrustes_distance,
    martin_distance,
    fubini_study_distance,
    binet_cauchy_distance,
]


def differences(function, x, step=1e-5):
    """Jacobian of a function at x by central differences, shape=[*output, *x.shape]."""
    units = torch.eye(x.numel(), dtype=x.dtype).reshape(-1, *x.shape)
    ahead, behind = (torch.func.vmap(function)(x + sign * step * units) for sign in (1, -1))
    return ((ahead - behind) / (2 * step)).movedim(0, -1).unflatten(-1, x.shape)


def coordinates(space, *, length):
    """A chart around a point, a place in it away from the middle, and another point this far from the middle."""
    base = random_frame(space.n, space.dims[-1], seed=1)
    goal = exponential(random_tangent(base, space.dims, seed=2, length=length), base)
    place = 0.2 * torch.randn(base.shape, generator=generator(4), dtype=torch.float64)
    return lambda x: space.metric.exp(space.to_tangent(x, base), base), place, hide(goal, space.dims, seed=5)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_hessian_of_the_squared_distance(space):
    chart, place, goal = coordinates(space, length=1.4)

    def function(x):
        return space.metric.squared_dist(chart(x), goal)

    expected = differences(torch.func.jacrev(function), place)
    assert float(expected.abs().max()) > 0.5
    for found in (hessian(function, place), torch.func.hessian(function)(place)):
        torch.testing.assert_close(found, expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_hessian_in_the_other_point_and_across(space):
    chart, place, goal = coordinates(space, length=1.0)
    turn = torch.randn(goal.shape, generator=generator(7), dtype=torch.float64)

    def function(pair):
        return space.metric.dist(space.metric.exp(space.to_tangent(0.1 * pair[0] * turn, goal), goal), chart(pair[1]))

    pair = torch.stack([place, place.flip(0)])
    expected = differences(torch.func.jacrev(function), pair)
    torch.testing.assert_close(hessian(function, pair), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_hessian_of_the_squared_distance_at_its_minimum_is_twice_the_metric(space):
    base = random_frame(space.n, space.dims[-1], seed=1)
    first, second = (random_tangent(base, space.dims, seed=seed, length=1.0) for seed in (2, 4))

    def function(t):
        return space.metric.squared_dist(space.metric.exp(t[0] * first + t[1] * second, base), base)

    inner = space.metric.inner_product(first, second, base)
    expected = 2 * torch.stack(
        [torch.stack([torch.ones_like(inner), inner]), torch.stack([inner, torch.ones_like(inner)])]
    )
    torch.testing.assert_close(hessian(function, torch.zeros(2).double()), expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_derivatives_of_the_logarithm_in_both_points(space):
    chart, place, goal = coordinates(space, length=1.0)
    for function in (lambda x: space.metric.log(chart(x), goal), lambda x: space.metric.log(goal, chart(x))):
        first = differences(function, place)
        assert float(first.abs().max()) > 0.3
        torch.testing.assert_close(jacobian(function, place), first, atol=1e-7, rtol=0)
        torch.testing.assert_close(torch.func.jacfwd(function)(place), first, atol=1e-7, rtol=0)
        second = differences(torch.func.jacrev(function), place)
        torch.testing.assert_close(torch.func.hessian(function)(place), second, atol=1e-7, rtol=0)


def test_the_logarithm_is_the_inverse_of_the_exponential_to_third_order():
    """The coordinates of log(exp(x)) are x, so that all their derivatives from the second on vanish."""
    space = Flag(4, (1, 3))
    base = random_frame(4, 3, seed=1)
    direction = random_tangent(base, space.dims, seed=2, length=1.0)
    other = random_tangent(base, space.dims, seed=4, length=1.0)

    def function(t):
        return space.metric.log(space.metric.exp(direction + t * t * t * other, base), base)

    third = torch.func.jacfwd(torch.func.jacrev(torch.func.jacfwd(function)))(torch.tensor(0.4, dtype=torch.float64))
    torch.testing.assert_close(third, 6 * other, atol=1e-10, rtol=0)
    for outer in (torch.func.jacfwd, torch.func.jacrev):
        for inner in (torch.func.jacfwd, torch.func.jacrev):
            second = outer(inner(function))(torch.tensor(0.4, dtype=torch.float64))
            torch.testing.assert_close(second, 6 * 0.4 * other, atol=1e-11, rtol=0)


METHODS = {
    "exp": lambda m, x, base, _: m.metric.exp(m.to_tangent(x, base), base),
    "log": lambda m, x, base, end: m.metric.log(end, m.metric.exp(m.to_tangent(x, base), base)),
    "dist": lambda m, x, base, end: m.metric.dist(m.metric.exp(m.to_tangent(x, base), base), end),
    "squared_dist": lambda m, x, base, end: m.metric.squared_dist(m.metric.exp(m.to_tangent(x, base), base), end),
    "parallel_transport": lambda m, x, base, _: m.metric.parallel_transport(
        m.to_tangent(x, base), base, direction=m.to_tangent(x.flip(0), base)
    ),
    "parallel_transport to a point": lambda m, x, base, end: m.metric.parallel_transport(
        m.to_tangent(end, base), base, end_point=m.metric.exp(m.to_tangent(x, base), base)
    ),
    "polar_retraction": lambda m, x, base, _: m.metric.polar_retraction(m.to_tangent(x, base), base),
    "qr_retraction": lambda m, x, base, _: m.metric.qr_retraction(m.to_tangent(x, base), base),
    "to_tangent": lambda m, x, base, _: m.to_tangent(x, m.metric.exp(m.to_tangent(x, base), base)),
    "regularize": lambda m, x, base, _: m.regularize(m.metric.exp(m.to_tangent(x, base), base)),
    "norm": lambda m, x, base, _: m.metric.norm(m.to_tangent(x, base), base),
}


@pytest.mark.parametrize("space", [Grassmannian(5, 2), Flag(4, (1, 3))], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_transforms_of_torch_func_agree_with_autograd(name, space):
    base, end = random_frame(space.n, space.dims[-1], seed=1), random_frame(space.n, space.dims[-1], seed=8)
    weights = METHODS[name](space, base.roll(1, 0), base, end).detach().cos()

    def function(x):
        return (weights * METHODS[name](space, x, base, end)).sum()

    places = 0.3 * torch.randn(2, *base.shape, generator=generator(3), dtype=torch.float64)
    gradients = torch.stack([differences(function, place) for place in places])
    hessians = torch.stack([hessian(function, place) for place in places])
    close = {"atol": 1e-7, "rtol": 0}
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(function))(places), gradients, **close)
    torch.testing.assert_close(torch.func.vmap(torch.func.jacfwd(function))(places), gradients, **close)
    torch.testing.assert_close(torch.func.vmap(torch.func.hessian(function))(places), hessians, **close)
    torch.testing.assert_close(hessians[0], differences(torch.func.jacrev(function), places[0]), **close)
    values = torch.func.vmap(function)(places)
    torch.testing.assert_close(values, torch.stack([function(place) for place in places]), atol=1e-12, rtol=0)
    batched = torch.func.grad(lambda x: torch.func.vmap(function)(x).sum())(places)
    torch.testing.assert_close(batched, gradients, **close)


def test_a_vmap_over_one_argument_alone():
    space = Flag(6, (1, 3))
    base, ends = random_frame(6, 3, seed=1), random_frame(6, 3, seed=2, batch=(2, 4))
    expected = space.metric.log(ends, base)
    found = torch.func.vmap(space.metric.log, in_dims=(1, None), out_dims=1)(ends, base)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    slopes = torch.func.vmap(torch.func.vmap(torch.func.grad(space.metric.squared_dist), (None, 0)), (None, 0))(
        base, ends
    )
    gradients = space.metric.riemannian_gradient(slopes, base)
    torch.testing.assert_close(gradients, -2 * expected, atol=1e-11, rtol=0)


def test_float32_keeps_its_kind_and_its_digits():
    space = Flag(6, (1, 3))
    _, place, goal = coordinates(space, length=1.0)
    base = random_frame(6, 3, seed=1)

    def function(x):
        kind = base.to(x.dtype)
        return space.metric.squared_dist(space.metric.exp(space.to_tangent(x, kind), kind), goal.to(x.dtype))

    found = hessian(function, place.float())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), hessian(function, place), atol=2e-5, rtol=0)


@pytest.mark.parametrize("distance", [*SYMMETRIC_DISTANCES, asimov_distance])
@pytest.mark.parametrize(
    "pair",
    [
        (random_frame(6, 2, seed=3), random_frame(6, 2, seed=4)),
        (random_frame(6, 2, seed=3), random_frame(6, 3, seed=4)),
        (random_frame(6, 3, seed=3), random_frame(6, 2, seed=4)),
    ],
    ids=["equal", "wider", "narrower"],
)
def test_hessians_of_distances(distance, pair):
    _check_hessian(distance, *pair)


@pytest.mark.parametrize("distance", SYMMETRIC_DISTANCES)
@pytest.mark.parametrize("angles", [[0.3, 0.3], [0.0, 0.3], [0.4, 1.2, 1.2]])
def test_hessians_of_symmetric_functions_of_repeated_angles(distance, angles):
    _check_hessian(distance, *planted_pair(7, angles, seed=3))


def _check_hessian(distance, first, second):
    def function(x):
        return distance(orthonormalize(x), second)

    expected = differences(torch.func.jacrev(function), first)
    torch.testing.assert_close(hessian(function, first), expected, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(torch.func.hessian(function)(first), expected, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("transform", [hessian, lambda f, x: torch.func.hessian(f)(x)], ids=["autograd", "func"])
@pytest.mark.parametrize(
    ("distance", "angles"),
    [
        (asimov_distance, [0.3, 0.3]),
        (asimov_distance, [0.0, 0.3]),
        (geodesic_distance, [0.0, 0.0]),
        (geodesic_distance, [0.3, math.pi / 2]),
        (procrustes_distance, [0.0, 0.0]),
        (procrustes_distance, [0.3, math.pi / 2]),
        (martin_distance, [0.3, math.pi / 2]),
        (fubini_study_distance, [0.3, math.pi / 2]),
    ],
)
def test_what_has_no_second_derivative_raises(distance, angles, transform):
    first, second = planted_pair(6, angles, seed=3)
    if angles == [0.0, 0.0]:
        second = first.flip(1)
    with pytest.raises(ArithmeticError, match=r"derivative|differentiated"):
        transform(lambda x: distance(orthonormalize(x), second), first)


def test_the_logarithm_has_no_derivative_at_the_cut_locus():
    space = Grassmannian(6, 2)
    base, end = planted_pair(6, [0.3, math.pi / 2], seed=3)
    with pytest.raises(ArithmeticError, match="cut locus"):
        jacobian(lambda x: space.metric.log(end, orthonormalize(x)), base)


def test_the_logarithm_has_no_derivative_between_conjugate_points(monkeypatch):
    """Two planes of one 4-space, a half turn of two columns apart: the geodesics there come in families."""
    space = Flag(4, (1, 2))
    base = torch.eye(4, dtype=torch.float64)[:, :2]
    half_turn = torch.zeros(4, 2, dtype=torch.float64)
    half_turn[2, 0] = math.pi
    monkeypatch.setattr(space.metric, "_logarithm", lambda *_: half_turn)
    with pytest.raises(ArithmeticError, match="conjugate"):
        jacobian(lambda x: space.metric.log(base * torch.tensor([-1.0, 1.0]), orthonormalize(x)), base)


def test_checks_see_all_examples_of_a_vmap():
    space = Grassmannian(5, 2)
    frames = random_frame(5, 2, seed=1, batch=(3,))
    bent = frames.clone()
    bent[1] *= 1.01
    assert torch.func.vmap(space.metric.dist)(frames, frames.flip(0)).shape == (3,)
    with pytest.raises(ValueError, match=r"misses the identity by 2.0e-02"):
        torch.func.vmap(space.metric.dist)(frames, bent)
    with pytest.raises(ValueError, match=r"normal part has an entry"):
        torch.func.vmap(space.metric.exp)(frames, frames)


@pytest.mark.parametrize("shape", [(5, 3), (3, 3)])
def test_polar_factor_has_derivatives_at_frames(shape):
    """All singular values of a frame agree, where those of an SVD are undefined."""
    frame = random_frame(*shape, seed=1)
    weights = torch.randn(shape, generator=generator(2), dtype=torch.float64)

    def function(x):
        return (weights * polar_factor(x)).sum()

    for place in (frame, frame + 0.2 * weights):
        torch.testing.assert_close(jacobian(function, place), differences(function, place), atol=1e-8, rtol=0)
        expected = differences(torch.func.jacrev(function), place)
        torch.testing.assert_close(hessian(function, place), expected, atol=1e-8, rtol=0)
        torch.testing.assert_close(torch.func.hessian(function)(place), expected, atol=1e-8, rtol=0)
        assert torch.autograd.gradgradcheck(nearest_frame, place.clone().requires_grad_())


def test_polar_factor_of_a_singular_matrix_has_no_derivative():
    matrix = torch.diag(torch.tensor([1.0, 0.0], dtype=torch.float64))
    with pytest.raises(ArithmeticError, match="full rank"):
        jacobian(nearest_frame, matrix)


def test_singular_values_have_first_derivatives_where_they_agree():
    frame = random_frame(5, 3, seed=1)
    found = jacobian(lambda x: singular_values(x).sum(), frame)
    torch.testing.assert_close(found, frame, atol=1e-14, rtol=0)
    torch.testing.assert_close(torch.func.jacfwd(lambda x: singular_values(x).sum())(frame), frame, atol=1e-14, rtol=0)


def test_square_root_of_what_vanishes():
    squares = torch.tensor([0.0, -1e-20, 4.0], dtype=torch.float64)
    assert safe_sqrt(squares).tolist() == [0, 0, 2]
    assert torch.func.vmap(torch.func.grad(safe_sqrt))(squares).tolist() == [0, 0, 0.25]
    assert torch.func.grad(torch.func.grad(safe_sqrt))(squares[2]).item() == pytest.approx(-1 / 32)
    with pytest.raises(ArithmeticError, match="second derivative"):
        torch.func.grad(torch.func.grad(safe_sqrt))(squares[0])


def test_value_of_one_formula_with_derivatives_of_another():
    x = torch.tensor(0.7, dtype=torch.float64)

    def function(x):
        return evaluate(torch.sin, lambda x: x**3, x)

    assert function(x) == torch.sin(x)
    assert torch.func.grad(function)(x).item() == pytest.approx(3 * 0.7**2)
    assert torch.func.jacfwd(torch.func.jacfwd(function))(x).item() == pytest.approx(6 * 0.7)
    assert torch.func.jacrev(torch.func.jacrev(torch.func.jacfwd(function)))(x).item() == pytest.approx(6)
