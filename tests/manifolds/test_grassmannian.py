"""Against libraries that share no code with the package, each inside its safe range."""

import math

import numpy as np
import pymanopt
import pytest
import torch

from manifolds.backend import import_geomstats
from manifolds.flag import Flag
from manifolds.flag_metric import FlagMetric
from manifolds.grassmannian import Grassmannian

from .builders import planted_pair, projectors, random_frame, random_tangent

ProjectorGrassmannian = import_geomstats("geomstats.geometry.grassmannian").Grassmannian


@pytest.fixture
def float64_default():
    """geomstats' own Grassmannian makes its constants in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.usefixtures("float64_default")
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # inside geomstats
@pytest.mark.parametrize(("n", "k"), [(5, 2), (9, 3), (6, 4)])
def test_agrees_with_geomstats_projectors(n, k):
    """Its points are projectors P = XX' and its tangent vectors DX' + XD': lengths are sqrt(2) times ours."""
    ours, theirs = Grassmannian(n, k), ProjectorGrassmannian(n, k)
    base = random_frame(n, k, seed=1)
    tangent = random_tangent(base, (k,), seed=2, length=1.2)
    end = ours.metric.exp(tangent, base)

    def projector_tangent(vector, point):
        return vector @ point.mT + point @ vector.mT

    reached = theirs.metric.exp(projector_tangent(tangent, base), base @ base.mT)
    torch.testing.assert_close(end @ end.mT, reached, atol=1e-13, rtol=0)
    logarithm = theirs.metric.log(end @ end.mT, base @ base.mT)
    torch.testing.assert_close(projector_tangent(ours.metric.log(end, base), base), logarithm, atol=1e-12, rtol=0)
    distance = float(theirs.metric.dist(base @ base.mT, end @ end.mT)) / math.sqrt(2)
    assert ours.metric.dist(base, end).item() == pytest.approx(distance, abs=1e-12)
    vector = random_tangent(base, (k,), seed=4, length=1.0)
    expected = theirs.metric.parallel_transport(
        projector_tangent(vector, base), base @ base.mT, projector_tangent(tangent, base)
    )
    transported = ours.metric.parallel_transport(vector, base, direction=tangent)
    torch.testing.assert_close(projector_tangent(transported, end), expected, atol=1e-13, rtol=0)


@pytest.mark.parametrize(("n", "k"), [(5, 2), (9, 3)])
def test_agrees_with_pymanopt(n, k):
    ours, theirs = Grassmannian(n, k), pymanopt.manifolds.Grassmann(n, k)
    base = random_frame(n, k, seed=1)
    tangent = random_tangent(base, (k,), seed=2, length=1.2)
    end = ours.metric.exp(tangent, base)
    reached = theirs.exp(base.numpy(), tangent.numpy())
    np.testing.assert_allclose(end @ end.mT, reached @ reached.T, atol=1e-13)
    np.testing.assert_allclose(ours.metric.log(end, base), theirs.log(base.numpy(), end.numpy()), atol=1e-12)
    assert ours.metric.dist(base, end).item() == pytest.approx(theirs.dist(base.numpy(), end.numpy()), abs=1e-12)


@pytest.mark.parametrize(("n", "k"), [(5, 2), (9, 3), (6, 4)])
def test_closed_forms_agree_with_those_of_flags(n, k):
    subspaces, flags = Grassmannian(n, k), Flag(n, (k,))
    base, end = random_frame(n, k, seed=1), random_frame(n, k, seed=2)
    logarithm = flags.metric.log(end, base)
    torch.testing.assert_close(subspaces.metric.log(end, base), logarithm, atol=1e-11, rtol=0)
    torch.testing.assert_close(subspaces.metric.dist(base, end), flags.metric.dist(base, end), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        subspaces.metric.exp(logarithm, base), flags.metric.exp(logarithm, base), atol=1e-13, rtol=0
    )
    assert isinstance(subspaces.metric, FlagMetric)
    assert subspaces.dim == k * (n - k)


@pytest.mark.parametrize(
    "angles", [[1e-12, math.pi / 2, math.pi / 2], [1e-15, 1e-8, 1e-4], [0.3, 1.0, math.pi / 2 - 1e-9]]
)
def test_distance_at_both_ends(angles):
    first, second = planted_pair(20, angles, seed=3)
    space = Grassmannian(20, 3)
    length = math.sqrt(sum(angle**2 for angle in angles))
    assert space.metric.dist(first, second).item() == pytest.approx(length, abs=1e-15)
    reached = space.metric.exp(space.metric.log(second, first), first)
    torch.testing.assert_close(projectors(reached, (3,)), projectors(second, (3,)), atol=2e-15, rtol=0)


def test_exponential_differentiates_at_zero_and_at_repeated_angles():
    space, base = Grassmannian(7, 2), random_frame(7, 2, seed=1)
    for vector in (torch.zeros(7, 2, dtype=torch.float64), random_frame(7, 4, seed=1)[:, 2:]):
        tangent = space.to_tangent(vector, base).requires_grad_()
        space.metric.exp(tangent, base).square().sum().backward()
        assert bool(tangent.grad.isfinite().all())


def test_inverse_retraction():
    space = Grassmannian(7, 3)
    base, end = random_frame(7, 3, seed=1), random_frame(7, 3, seed=2)
    tangent = space.metric.inverse_polar_retraction(end, base)
    assert bool(space.is_tangent(tangent, base))
    reached = space.metric.polar_retraction(tangent, base)
    torch.testing.assert_close(projectors(reached, (3,)), projectors(end, (3,)), atol=1e-13, rtol=0)
    with pytest.raises(ValueError, match=r"below pi/2"):
        space.metric.inverse_polar_retraction(*planted_pair(7, [0.1, 0.2, math.pi / 2], seed=1))


@pytest.mark.parametrize("k", [0, 4, 5])
def test_dimensions_out_of_range_are_refused(k):
    with pytest.raises(ValueError, match=r"^Grassmannian needs .* between 1 and n - 1 = 3"):
        Grassmannian(4, k)


@pytest.mark.parametrize("length", [10.0, 30.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_exponential_of_a_long_vector_is_a_point(length, dtype):
    space = Grassmannian(10, 3)
    for seed in range(20):
        axes = torch.linalg.qr(torch.randn(10, 10, generator=torch.Generator().manual_seed(seed), dtype=dtype)).Q
        sizes = torch.tensor([length, length / 20, length / 20], dtype=dtype)
        tangent_vec = axes[:, 3:6] * sizes
        assert bool(space.belongs(space.metric.exp(space.to_tangent(tangent_vec, axes[:, :3]), axes[:, :3])))


def test_a_long_chain_of_steps_stays_on_the_manifold():
    space = Grassmannian(6, 2)
    generator = torch.Generator().manual_seed(0)
    point = space.random_point(generator=generator, dtype=torch.float32)
    for _ in range(3000):
        point = space.metric.exp(space.metric.random_unit_tangent_vec(point, generator=generator), point)
    assert bool(space.belongs(point))


@pytest.mark.parametrize("shape", [(2, 1), (3, 2)])
def test_unit_tangent_vectors_are_tangent(shape):
    space = Grassmannian(*shape)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        point = space.random_point(generator=generator, dtype=torch.float64)
        vector = space.metric.random_unit_tangent_vec(point, generator=generator)
        assert bool(space.is_tangent(vector, point))
        assert float(space.metric.norm(vector, point)) == pytest.approx(1, abs=1e-12)
