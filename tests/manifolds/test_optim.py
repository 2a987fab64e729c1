"""The optimisers reach minima that other algorithms find: the Fréchet mean, and the flag of leading eigenvectors."""

import copy

import pytest
import torch

from manifolds.flag import Flag
from manifolds.grassmannian import Grassmannian
from manifolds.means import frechet_mean
from manifolds.optim import RiemannianAdam, RiemannianSGD

from .builders import random_frame, random_tangent

SPACES = [Flag(6, (1, 3)), Grassmannian(6, 2)]
OPTIMIZERS = {
    "descent": lambda point, space, lr: RiemannianSGD([point], space, lr=lr),
    "momentum": lambda point, space, lr: RiemannianSGD([point], space, lr=lr / 2, momentum=0.5),
    "adam": lambda point, space, lr: RiemannianAdam([point], space, lr=lr / 2, betas=(0.5, 0.9)),
}


def minimise(objective, start, space, kind, *, lr, steps):
    point = start.clone().requires_grad_()
    optimizer = OPTIMIZERS[kind](point, space, lr)
    # Adam keeps steps of the size of lr, so lr falls to a billionth.
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 10 ** (-9 / steps) if kind == "adam" else 1)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(point).backward()
        optimizer.step()
        scheduler.step()
        assert bool(space.belongs(point.detach()).all())
    return point.detach()


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize(("kind", "steps"), [("descent", 40), ("momentum", 60), ("adam", 240)])
def test_the_mean_squared_distance_leads_to_the_mean(kind, steps, space):
    centre = random_frame(space.n, space.dims[-1], seed=1)
    directions = [random_tangent(centre, space.dims, seed=seed, length=0.4) for seed in range(2, 12, 2)]
    cloud = space.metric.exp(torch.stack(directions), centre)

    def objective(point):
        return space.metric.squared_dist(point, cloud).mean()

    found = minimise(objective, cloud[0], space, kind, lr=0.5, steps=steps)
    assert float(space.metric.dist(found, frechet_mean(cloud, space.dims).point)) < 1e-8


@pytest.mark.parametrize("space", SPACES, ids=str)
@pytest.mark.parametrize(
    ("kind", "steps"), [("descent", 150), ("momentum", 200), pytest.param("adam", 700, marks=pytest.mark.slow)]
)
def test_the_explained_variance_of_nested_subspaces_leads_to_the_eigenvectors(kind, steps, space):
    vectors = random_frame(space.n, space.n, seed=1)
    covariance = vectors * torch.linspace(2, 0, space.n, dtype=torch.float64) @ vectors.mT
    goal = vectors[:, : space.dims[-1]]
    start = space.metric.exp(random_tangent(goal, space.dims, seed=2, length=0.7), goal)

    def objective(point):
        explained = [((covariance @ point[:, :dim]) * point[:, :dim]).sum() for dim in space.dims]
        return -torch.stack(explained).sum()

    found = minimise(objective, start, space, kind, lr=0.2, steps=steps)
    assert float(space.metric.dist(found, goal)) < 1e-8


def test_a_batch_of_points_moves_as_its_points_alone():
    space = Flag(6, (1, 3))
    starts = random_frame(6, 3, seed=1, batch=(3,))
    goals = space.metric.exp(
        torch.stack([random_tangent(start, space.dims, seed=2, length=0.8) for start in starts]), starts
    )
    for kind in OPTIMIZERS:
        together = minimise(lambda x: space.metric.squared_dist(x, goals).sum(), starts, space, kind, lr=0.2, steps=4)
        for start, goal, found in zip(starts, goals, together, strict=True):
            alone = minimise(
                lambda x, goal=goal: space.metric.squared_dist(x, goal), start, space, kind, lr=0.2, steps=4
            )
            torch.testing.assert_close(found, alone, atol=1e-11, rtol=0)


def test_groups_have_manifolds_and_step_sizes_of_their_own():
    flags, planes = Flag(6, (1, 3)), Grassmannian(5, 2)
    points = [random_frame(6, 3, seed=1).requires_grad_(), random_frame(5, 2, seed=2).requires_grad_()]
    before = [point.detach().clone() for point in points]
    groups = [{"params": [points[0]]}, {"params": [points[1]], "manifold": planes, "lr": 0.0}]
    optimizer = RiemannianSGD(groups, flags, lr=0.1)
    sum(point.square().sum() + point.sum() for point in points).backward()
    optimizer.step()
    assert float(flags.metric.dist(points[0].detach(), before[0])) > 0.01
    assert float(planes.metric.dist(points[1].detach(), before[1])) < 1e-15


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_state_that_is_loaded_goes_on_as_before(kind, tmp_path):
    space, goal = Flag(6, (1, 3)), random_frame(6, 3, seed=2)
    make = OPTIMIZERS[kind]
    point = random_frame(6, 3, seed=1).requires_grad_()
    optimizer = make(point, space, 0.2)

    def step(point, optimizer):
        optimizer.zero_grad()
        loss = space.metric.squared_dist(point, goal)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(lambda: step(point, optimizer))
    torch.save(optimizer.state_dict(), tmp_path / "state.pt")
    other = copy.deepcopy(point.detach()).requires_grad_()
    again = make(other, space, 0.7)
    again.load_state_dict(torch.load(tmp_path / "state.pt"))
    before = space.metric.squared_dist(point.detach(), goal).item()
    assert optimizer.step(lambda: step(point, optimizer)).item() == pytest.approx(before)
    again.step(lambda: step(other, again))
    assert torch.equal(point, other)


def test_what_is_no_point_or_no_step_size_is_refused():
    space, point = Flag(6, (1, 3)), random_frame(6, 3, seed=1)
    with pytest.raises(ValueError, match="a parameter"):
        RiemannianSGD([(1.1 * point).requires_grad_()], space, lr=0.1)
    for options in ({"lr": -1}, {"lr": 0.1, "momentum": 1.0}):
        with pytest.raises(ValueError, match="RiemannianSGD expected"):
            RiemannianSGD([point.requires_grad_()], space, **options)
    for options in ({"lr": -1}, {"betas": (0.9, 1.0)}, {"eps": -1e-8}):
        with pytest.raises(ValueError, match="RiemannianAdam expected"):
            RiemannianAdam([point.requires_grad_()], space, **options)


@pytest.mark.parametrize("space", [Flag(50, (1, 3, 5)), Flag(8, (1, 3)), Grassmannian(8, 3)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_momentum_stays_tangent_where_a_short_gradient_comes_of_a_long_one(space, dtype, scale):
    """Near the optimum the Euclidean gradient is as long as the covariance, and the Riemannian one is its rounding."""
    spectrum = scale / torch.arange(1, space.n + 1, dtype=dtype)
    axes = torch.eye(space.n, dtype=dtype)[:, : space.dims[-1]]

    def objective(point):
        return -sum((spectrum[:, None] * point[:, :d].square()).sum() for d in space.dims)

    noise = random_frame(space.n, space.dims[-1], seed=1).to(dtype)
    start = space.metric.exp(0.3 * space.to_tangent(noise, axes), axes)
    found = minimise(objective, start, space, "momentum", lr=0.4 / scale, steps=200)
    least = objective(axes)
    assert float(objective(found) - least) <= 0.2 * float(objective(start) - least)


@pytest.mark.parametrize("scale", [1.0, 1e4, 1e8, 1e12])
@pytest.mark.parametrize("space", SPACES, ids=str)
def test_the_gradient_of_a_long_normal_vector_is_tangent(space, scale):
    """Almost all of the Euclidean gradient is turned away: what is left is as short as one asks."""
    point = random_frame(space.n, space.dims[-1], seed=1)
    short = random_tangent(point, space.dims, seed=2, length=1e-3)
    symmetric = torch.diag(torch.arange(1.0, space.dims[-1] + 1, dtype=torch.float64))
    euclidean = scale * point @ symmetric + short
    for vector in (space.metric.riemannian_gradient(euclidean, point), space.to_tangent(euclidean, point)):
        assert bool(space.is_tangent(vector, point))
        assert float((vector - short).norm()) <= 1e-3 + 100 * scale * torch.finfo(torch.float64).eps


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_gradient_that_is_not_finite_is_refused_and_moves_nothing(kind):
    space, start = Flag(6, (1, 3)), random_frame(6, 3, seed=1)
    point = start.clone().requires_grad_()
    optimizer = OPTIMIZERS[kind](point, space, 0.1)
    point.grad = torch.full_like(start, torch.nan)
    with pytest.raises(ValueError, match="finite gradients"):
        optimizer.step()
    assert torch.equal(point, start)
    assert not optimizer.state[point]


def test_what_is_no_manifold_is_refused():
    point = random_frame(6, 3, seed=1).requires_grad_()
    for manifold in (None, 3):
        with pytest.raises(TypeError, match="Flag or Grassmannian"):
            RiemannianSGD([point], manifold, lr=0.1)
