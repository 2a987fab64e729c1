import itertools

import torch

from tests.manifolds.builders import full_exponential, full_transport, lift, random_tangent
from tests.proofs.builders import assert_close, bracket, frame, gaussian, identity, orthogonal

N, DIMS = 6, (1, 3, 4)
K = DIMS[-1]
BLOCKS = list(itertools.pairwise((0, *DIMS)))


def off(matrix):
    """Matrix without its diagonal blocks, by cutting them out."""
    kept = matrix.clone()
    for a, b in BLOCKS:
        kept[a:b, a:b] = 0
    return kept


def point():
    return frame(N, K, seed=1)


def tangents(*seeds):
    return [random_tangent(point(), DIMS, seed=10 * seed) for seed in seeds]


def along(curve, step=1e-4):
    """Value, first and second derivative of a curve at 0, by central differences."""
    before, now, after = (curve(time) for time in (-step, 0.0, step))
    return now, (after - before) / (2 * step), (after - 2 * now + before) / step**2


def test_flag_dimension():
    """Rank of the velocities of the block projectors under random turns of the space."""
    base = torch.eye(N, dtype=torch.float64)
    blocks = [base[:, a:b] @ base[:, a:b].mT for a, b in BLOCKS]
    turns = [gaussian(N, N, seed=seed) for seed in range(20)]
    moved = torch.stack([torch.stack([bracket(turn - turn.mT, block) for block in blocks]).flatten() for turn in turns])
    assert torch.linalg.matrix_rank(moved) == 1 * 5 + 2 * 3 + 1 * 2


def test_flag_inner_product():
    base = point()
    first, second = tangents(1, 2)
    formula = (first * second).sum() - ((base.mT @ first) * (base.mT @ second)).sum() / 2
    assert_close(formula, (lift(first, base) * lift(second, base)).sum() / 2)


def test_tangent_projection():
    """No tangent vector is nearer to a matrix, by least squares over a basis of the tangent space."""
    base, ambient = point(), gaussian(N, K, seed=5)
    inside = base.mT @ ambient
    nearest = ambient - base @ inside + base @ off((inside - inside.mT) / 2)
    basis = torch.stack([vector.flatten() for vector in tangents(*range(1, 21))], dim=1)
    solution = torch.linalg.lstsq(basis, ambient.reshape(-1, 1), driver="gelsd").solution
    assert_close((basis @ solution).reshape(N, K), nearest, 1e-8)


def test_flag_gradient():
    """Of a function of the block projectors: its derivative along a geodesic is the product with the gradient."""
    base, weight = point(), gaussian(N, N, seed=6)
    (vector,) = tangents(3)

    def function(at):
        return sum((i + 1) * (weight * (at[:, a:b] @ at[:, a:b].mT)).sum() for i, (a, b) in enumerate(BLOCKS))

    leaf = base.clone().requires_grad_()
    (derivative,) = torch.autograd.grad(function(leaf), leaf)
    inside = base.mT @ derivative
    gradient = derivative - base @ inside + base @ off(inside - inside.mT)
    _, speed, _ = along(lambda time: function(full_exponential(time * vector, base)))
    assert_close((lift(gradient, base) * lift(vector, base)).sum() / 2, speed, 1e-6)


def test_flag_exponential():
    base = point()
    (vector,) = tangents(4)
    inside = base.mT @ vector
    normal, scale = vector - base @ inside, 0.3
    top = torch.cat([inside, -normal.mT @ normal / scale], dim=1)
    bottom = torch.cat([scale * identity(K), torch.zeros(K, K, dtype=torch.float64)], dim=1)
    columns = torch.linalg.matrix_exp(torch.cat([top, bottom]))[:, :K]
    assert_close(base @ columns[:K] + normal / scale @ columns[K:], full_exponential(vector, base))


def test_flag_geodesic_equation():
    base = point()
    (vector,) = tangents(5)
    now, speed, acceleration = along(lambda time: full_exponential((0.7 + time) * vector, base))
    inside = now.mT @ speed
    bend = speed @ speed.mT @ now + now @ (inside @ inside + speed.mT @ speed)
    assert_close(acceleration, -bend, 1e-5)
    assert_close(inside, base.mT @ vector, 1e-6)


def test_squared_distance_gradient():
    """For planes, whose distance the principal angles give without any logarithm."""
    axes = orthogonal(5, seed=7)
    angles = torch.tensor([0.4, 1.1], dtype=torch.float64)
    base, end = axes[:, :2], axes[:, :2] * angles.cos() + axes[:, 2:4] * angles.sin()
    logarithm = axes[:, 2:4] * angles
    leaf = base.clone().requires_grad_()
    squared = torch.arccos(torch.linalg.svdvals(leaf.mT @ end)).square().sum()
    (derivative,) = torch.autograd.grad(squared, leaf)
    outside = derivative - base @ (base.mT @ derivative)
    assert_close(outside, -2 * logarithm)


def test_flag_transport():
    """Of two vectors along a geodesic, by the equation in so(n): inner products stay, the velocity is carried along."""
    base = point()
    direction, first, second = tangents(6, 7, 8)
    end = full_exponential(direction, base)
    moved = [full_transport(vector, base, direction, DIMS) for vector in (first, second)]
    before = (lift(first, base) * lift(second, base)).sum()
    assert_close((lift(moved[0], end) * lift(moved[1], end)).sum(), before)
    _, velocity, _ = along(lambda time: full_exponential((1 + time) * direction, base))
    assert_close(full_transport(direction, base, direction, DIMS), velocity, 1e-6)


def test_flag_retractions():
    """The flags differ by K A / 2 in second order, which for one block is nothing."""
    base = point()
    (vector,) = tangents(9)
    inside = base.mT @ vector
    normal, time = vector - base @ inside, 1e-3
    exponential = full_exponential(time * vector, base)
    for retracted in (polar(base + time * vector), positive_qr(base + time * vector)):
        rest = (identity(N) - base @ base.mT) @ (exponential - retracted)
        assert_close(rest / time**2, normal @ inside / 2, 5e-3)
    plane = full_exponential(time * normal, base)
    for retracted in (polar(base + time * normal), positive_qr(base + time * normal)):
        assert (plane @ plane.mT - retracted @ retracted.mT).norm() < 50 * time**3


def polar(matrix):
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    return left @ right


def positive_qr(matrix):
    q, r = torch.linalg.qr(matrix)
    return q * r.diagonal().sign()


def test_grassmannian_geodesic():
    """In a basis of principal vectors each turns in a plane of its own."""
    axes = orthogonal(6, seed=8)
    angles = torch.tensor([0.3, 2.5], dtype=torch.float64)
    turn = orthogonal(2, seed=9)
    base, vector = axes[:, :2], axes[:, 2:4] * angles @ turn.mT
    expected = (axes[:, :2] @ turn * angles.cos() + axes[:, 2:4] * angles.sin()) @ turn.mT
    assert_close(full_exponential(vector, base), expected)


def test_inverse_polar_retraction():
    base, end = frame(6, 2, seed=10), frame(6, 2, seed=11)
    vector = end @ torch.linalg.inv(base.mT @ end) - base
    assert_close(base.mT @ vector, torch.zeros(2, 2))
    reached = polar(base + vector)
    assert_close(reached @ reached.mT, end @ end.mT)
    tangents_of_angles = torch.arccos(torch.linalg.svdvals(base.mT @ end)).tan()
    assert_close(torch.linalg.svdvals(vector), tangents_of_angles.flip(0))
