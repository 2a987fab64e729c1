import math

import pytest
import torch

from manifolds.backend import import_geomstats
from manifolds.checks import require_frame
from manifolds.distances import chordal_distance
from manifolds.flag import Flag
from manifolds.frames import same_span
from manifolds.geodesics import exponential
from manifolds.grassmannian import Grassmannian
from manifolds.means import chordal_mean, chordal_median, frechet_mean

from .builders import hide, projectors, random_frame, random_tangent

CASES = [(8, (3,)), (8, (1, 3)), (7, (2, 4, 6)), (10, (1, 2, 5))]


def cloud(n, dims, *, seed, count=7, radius=0.6):
    """Points around a centre, each by a frame of its own."""
    centre = random_frame(n, dims[-1], seed=seed)
    vectors = [random_tangent(centre, dims, seed=seed + 10 * i, length=radius) for i in range(1, count + 1)]
    return centre, torch.stack(
        [hide(exponential(vector, centre), dims, seed=seed + i) for i, vector in enumerate(vectors)]
    )


def flags_agree(first, second, dims, tolerance):
    return float((projectors(first, dims) - projectors(second, dims)).abs().max()) < tolerance


def nearby(point, dims, count, step):
    return [exponential(random_tangent(point, dims, seed=50 + 2 * i, length=step), point) for i in range(count)]


@pytest.mark.parametrize(("n", "dims"), CASES)
def test_chordal_mean_is_a_minimum(n, dims):
    _, samples = cloud(n, dims, seed=1)
    mean = chordal_mean(samples, dims)
    assert mean.converged
    assert mean.iterations <= 30

    def objective(point):
        return float((projectors(samples, dims) - projectors(point, dims)).square().sum()) / 2 / len(samples)

    assert mean.objective == pytest.approx(objective(mean.point), abs=1e-12)
    for point in nearby(mean.point, dims, 10, 1e-2):
        assert objective(point) > mean.objective


def test_chordal_mean_of_subspaces_is_the_leading_eigenspace_of_the_mean_projector():
    _, samples = cloud(8, (3,), seed=3)
    eigenvectors = torch.linalg.eigh(projectors(samples, (3,)).mean(dim=(0, 1))).eigenvectors
    assert bool(same_span(chordal_mean(samples).point, eigenvectors[:, -3:]))


@pytest.mark.parametrize(("n", "dims"), CASES)
def test_means_of_one_flag_are_that_flag(n, dims):
    frame = random_frame(n, dims[-1], seed=1)
    samples = torch.stack([hide(frame, dims, seed=seed) for seed in (2, 12, 22)])
    for mean in (chordal_mean, chordal_median, frechet_mean):
        found = mean(samples, dims)
        assert found.converged
        assert flags_agree(found.point, frame, dims, 1e-12)
        assert found.objective < 1e-13


@pytest.mark.parametrize(("n", "dims"), CASES)
def test_frechet_mean_has_gradient_zero(n, dims):
    _, samples = cloud(n, dims, seed=5)
    flags = Flag(n, dims)
    mean = frechet_mean(samples, dims)
    assert mean.converged
    gradient = flags.metric.log(samples, mean.point).mean(dim=0)
    assert flags.metric.norm(gradient, mean.point).item() < 2e-11
    for point in nearby(mean.point, dims, 5, 1e-2):
        assert float(flags.metric.squared_dist(samples, point).mean()) > mean.objective


def test_frechet_mean_of_two_points_is_their_midpoint():
    dims = (1, 3)
    _, samples = cloud(8, dims, seed=7, count=2)
    flags = Flag(8, dims)
    middle = flags.metric.geodesic(samples[0], end_point=samples[1])(0.5)[0]
    assert flags_agree(frechet_mean(samples, dims).point, middle, dims, 1e-11)
    weights = torch.tensor([3.0, 1.0], dtype=torch.float64)
    quarter = flags.metric.geodesic(samples[0], end_point=samples[1])(0.25)[0]
    assert flags_agree(frechet_mean(samples, dims, weights).point, quarter, dims, 1e-11)


@pytest.mark.parametrize("mean", [chordal_mean, chordal_median, frechet_mean])
def test_means_follow_the_samples_and_ignore_their_frames(mean):
    dims = (1, 3)
    _, samples = cloud(8, dims, seed=9)
    rotation = random_frame(8, 8, seed=2)
    turned = torch.stack([hide(sample, dims, seed=i) for i, sample in enumerate(samples)])
    found = mean(samples, dims).point
    assert flags_agree(mean(turned, dims).point, found, dims, 1e-7)
    assert flags_agree(mean(rotation @ samples, dims).point, rotation @ found, dims, 1e-7)
    weights = torch.tensor([2.0, 1, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert flags_agree(
        mean(samples, dims, weights).point, mean(torch.cat([samples[:1], samples]), dims).point, dims, 1e-7
    )


def test_median_resists_outliers_and_the_mean_does_not():
    dims = (1, 3)
    centre, samples = cloud(20, dims, seed=11, count=9, radius=0.05)
    outliers = random_frame(20, 3, seed=3).expand(4, -1, -1)
    contaminated = torch.cat([samples, outliers])
    flags = Flag(20, dims)
    distance = {
        mean: flags.metric.dist(mean(contaminated, dims).point, centre).item()
        for mean in (chordal_mean, chordal_median)
    }
    assert distance[chordal_median] < 0.05 < 0.1 < distance[chordal_mean]


def test_single_precision_converges_too():
    dims = (1, 3)
    _, samples = cloud(20, dims, seed=13)
    exact = frechet_mean(samples, dims).point
    for mean in (chordal_mean, chordal_median, frechet_mean):
        found = mean(samples.float(), dims)
        assert found.converged
        assert found.point.dtype == torch.float32
    assert flags_agree(frechet_mean(samples.float(), dims).point.double(), exact, dims, 1e-4)


@pytest.mark.parametrize("mean", [chordal_mean, chordal_median, frechet_mean])
def test_samples_and_weights_that_do_not_fit_are_refused(mean):
    samples = random_frame(6, 3, seed=1, batch=(2,))
    with pytest.raises(ValueError, match=r"\[n_samples >= 1, n, k\]"):
        mean(samples[0])
    with pytest.raises(ValueError, match=r"dims\[-1\] = 2 columns"):
        mean(samples, (1, 2))
    with pytest.raises(ValueError, match="orthonormal"):
        mean(2 * samples)
    for weights in ([1.0, -1.0], [0.0, 0.0], [1.0, math.nan]):
        with pytest.raises(ValueError, match="non-negative"):
            mean(samples, None, torch.tensor(weights, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"2 weights of torch\.float64"):
        mean(samples, None, torch.ones(3, dtype=torch.float64))


@pytest.fixture
def float64_default():
    """geomstats' learning algorithms make their constants in torch's default dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def learning(module, name, *arguments, **keywords):
    return getattr(import_geomstats(f"geomstats.learning.{module}"), name)(*arguments, **keywords)


@pytest.mark.usefixtures("float64_default")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:geomstats", "ignore:__array_:DeprecationWarning")
@pytest.mark.parametrize("space", [Flag(8, (1, 3)), Grassmannian(8, 3)], ids=str)
class TestGeomstatsLearning:
    """geomstats' algorithms run on our spaces unchanged."""

    def test_frechet_mean(self, space):
        _, samples = cloud(8, space.dims, seed=5)
        estimator = learning("frechet_mean", "FrechetMean", space)
        estimator.set(epsilon=1e-20, max_iter=200)
        estimate = estimator.fit(samples).estimate_
        assert flags_agree(estimate, frechet_mean(samples, space.dims).point, space.dims, 1e-8)

    def test_frechet_mean_with_its_own_settings(self, space):
        _, samples = cloud(8, space.dims, seed=5)
        estimate = learning("frechet_mean", "FrechetMean", space).fit(samples).estimate_
        assert bool(space.belongs(estimate))
        assert space.metric.dist(estimate, frechet_mean(samples, space.dims).point).item() < 0.1

    def test_tangent_principal_components(self, space):
        """Samples along one geodesic have one component, which is its velocity."""
        base = random_frame(8, 3, seed=1)
        velocity = random_tangent(base, space.dims, seed=2, length=1.0)
        samples = torch.stack([space.metric.exp(t * velocity, base) for t in (-0.4, -0.1, 0.0, 0.2, 0.3)])
        analysis = learning("pca", "TangentPCA", space, n_components=2)
        analysis.fit(samples, base_point=base)
        ratios = torch.as_tensor(analysis.explained_variance_ratio_)
        assert float(ratios[0]) == pytest.approx(1, abs=1e-10)
        scores = torch.as_tensor(analysis.transform(samples))[:, 0]
        steps = torch.tensor([0.3, 0.1, 0.2, 0.1], dtype=torch.float64) * velocity.norm()
        torch.testing.assert_close(scores.diff().abs(), steps, atol=1e-10, rtol=0)
        component = torch.as_tensor(analysis.components_)[0].reshape(8, 3)
        assert abs(float((component * velocity).sum() / velocity.norm())) == pytest.approx(1, abs=1e-8)

    def test_clusters(self, space):
        _, first = cloud(8, space.dims, seed=1, count=5, radius=0.2)
        _, second = cloud(8, space.dims, seed=500, count=5, radius=0.2)
        # Its random starts come from an unseeded generator, and two in one cloud may never part.
        starts = torch.stack([first[0], second[0]])
        clustering = learning("kmeans", "RiemannianKMeans", space, n_clusters=2, init=starts)
        labels = torch.as_tensor(clustering.fit(torch.cat([first, second])).labels_)
        assert len(set(labels[:5].tolist())) == len(set(labels[5:].tolist())) == 1
        assert labels[0] != labels[-1]


@pytest.mark.parametrize("columns", [([0, 2], [1, 3]), ([0, 1], [2, 3]), ([0, 1], [2, 3], [4, 5])])
def test_flags_without_a_common_direction_have_means_too(columns):
    """A block of the start may be orthogonal to that block of every sample; any completion lowers the objective."""
    axes = torch.eye(6, dtype=torch.float64)
    frames = torch.stack([axes[:, chosen] for chosen in columns])
    for mean in (chordal_mean, chordal_median, frechet_mean):
        point = mean(frames, (1, 2)).point
        require_frame(point, "point")


def test_the_median_leaves_a_sample_that_is_not_the_median():
    """Weiszfeld's iteration alone stops at the sample where it starts: the mean lies on it by construction."""
    angles = torch.tensor([0.0, 0.1, -0.3], dtype=torch.float64)
    frames = torch.stack([angles.cos(), angles.sin()], dim=-1)[..., None]
    a, b = 1.0, math.sin(0.2) / math.sin(0.6)
    weights = torch.tensor([(a * math.cos(0.1) - b * math.cos(0.3)) / 1.3, a, b], dtype=torch.float64)
    median = chordal_median(frames, weights=weights)
    candidates = [float(weights @ chordal_distance(frames, frame)) / float(weights.sum()) for frame in frames]
    assert median.converged
    assert median.objective == pytest.approx(min(candidates), abs=1e-7)
    assert candidates[1] == min(candidates) < candidates[0] - 0.005


@pytest.mark.parametrize("average", [chordal_mean, chordal_median, frechet_mean])
def test_a_list_of_frames_is_refused(average):
    frame = random_frame(5, 2, seed=1)
    with pytest.raises(ValueError, match="needs a torch tensor; got a list"):
        average([frame, frame])
