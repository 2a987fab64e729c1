import numpy as np
import pytest
import scipy.stats
import torch

from manifolds.angles import projection_overlap
from manifolds.flag import Flag
from manifolds.frames import same_span
from manifolds.grassmannian import Grassmannian
from manifolds.means import chordal_mean
from manifolds.principal_flags import flag_mean, flag_pca

from .builders import generator, projectors, random_frame


def planted(eigenvalues, count, *, seed):
    """Gaussian samples with these eigenvalues of their covariance, and its eigenvectors."""
    basis = random_frame(len(eigenvalues), len(eigenvalues), seed=seed)
    gaussian = torch.randn(count, len(eigenvalues), generator=generator(seed + 1000), dtype=torch.float64)
    scales = torch.tensor(eigenvalues, dtype=torch.float64).sqrt()
    return gaussian * scales @ basis.mT + 5, basis


def test_a_planted_flag_and_its_type_in_nineteen_of_twenty():
    """The squared distance is of the order of the number of rotations over the number of samples."""
    flags = Flag(20, (2, 5))
    recovered = 0
    for seed in range(20):
        samples, basis = planted([9.0] * 2 + [4.0] * 3 + [1.0] * 15, 1000, seed=seed)
        found = flag_pca(samples)
        # Asymptotically a rotation of eigenvalues a and b by an angle has the variance a b / ((a - b)^2 N).
        variances = [6 * 36 / 25, 30 * 9 / 64, 45 * 4 / 9]
        bound = 1.5 * (sum(variances) / 1000) ** 0.5
        recovered += found.dims == (2, 5) and float(flags.metric.dist(found.point, basis[:, :5])) < bound
    assert recovered >= 19


def test_noise_without_structure_has_no_flag():
    found = [flag_pca(planted([1.0] * 10, 500, seed=seed)[0]) for seed in range(20)]
    assert [one.dims for one in found].count(()) >= 19
    assert found[0].point.shape == (10, 0)


def test_the_maximum_likelihood_covariance():
    """No other covariance of the same type is more likely: neither other eigenvalues nor another flag."""
    samples, _ = planted([9.0, 4.0, 4.0, 1.0], 200, seed=3)
    found = flag_pca(samples, (1, 3))
    assert found.eigenvalues.shape == (3,)
    flags = Flag(4, (1, 3))

    def log_likelihood(point, eigenvalues):
        blocks = projectors(point, (1, 3))
        rest = torch.eye(4, dtype=torch.float64) - blocks.sum(dim=0)
        covariance = torch.einsum("i,ijk->jk", eigenvalues, torch.cat([blocks, rest[None]]))
        return scipy.stats.multivariate_normal(samples.mean(dim=0).numpy(), covariance.numpy()).logpdf(samples).sum()

    best = log_likelihood(found.point, found.eigenvalues)
    for seed in range(10):
        tangent = 0.02 * flags.metric.random_unit_tangent_vec(found.point, generator=generator(seed))
        factors = 1 + 0.02 * torch.randn(3, generator=generator(seed), dtype=torch.float64)
        assert log_likelihood(flags.metric.exp(tangent, found.point), found.eigenvalues) < best
        assert log_likelihood(found.point, found.eigenvalues * factors) < best


def test_the_flag_is_that_of_the_eigenvectors_of_the_covariance():
    samples, _ = planted([9.0, 4.0, 4.0, 1.0, 0.5], 300, seed=4)
    values, vectors = np.linalg.eigh(np.cov(samples.numpy(), rowvar=False, bias=True))
    found = flag_pca(samples, (1, 3))
    expected = torch.from_numpy(vectors[:, ::-1][:, :3].copy())
    torch.testing.assert_close(projectors(found.point, (1, 3)), projectors(expected, (1, 3)), atol=1e-12, rtol=0)
    np.testing.assert_allclose(found.eigenvalues, [values[4], values[2:4].mean(), values[:2].mean()], rtol=1e-12)


def test_a_rotation_of_the_data_rotates_the_flag_and_another_map_changes_it():
    samples, _ = planted([9.0, 4.0, 4.0, 1.0, 0.5], 300, seed=5)
    turn = random_frame(5, 5, seed=6)
    found, turned = flag_pca(samples, (1, 3)), flag_pca(samples @ turn.mT - 2, (1, 3))
    torch.testing.assert_close(
        projectors(turned.point, (1, 3)), projectors(turn @ found.point, (1, 3)), atol=1e-12, rtol=0
    )
    stretch = torch.diag(torch.tensor([1.0, 2, 3, 4, 5], dtype=torch.float64))
    stretched = flag_pca(samples @ stretch, (1, 3))
    assert not bool(same_span(stretched.point, torch.linalg.qr(stretch @ found.point).Q))


def test_fewer_samples_than_dimensions():
    samples, basis = planted([100.0, 100.0] + [1.0] * 58, 40, seed=7)
    found = flag_pca(samples, max_dim=10)
    assert found.dims == (2,)
    assert float(projection_overlap(found.point, basis[:, :2])) > 0.9
    assert float(found.eigenvalues @ torch.tensor([2.0, 58.0], dtype=torch.float64)) == pytest.approx(
        float(samples.var(dim=0, correction=0).sum())
    )
    with pytest.raises(ValueError, match="needs max_dim or dims for 40 samples in 60 dimensions"):
        flag_pca(samples)
    for options in ({"max_dim": 40}, {"dims": (2, 40)}):
        with pytest.raises(ValueError, match="below the number of samples, 40; got 40"):
            flag_pca(samples, **options)


def test_exact_low_rank():
    samples = torch.randn(100, 3, generator=generator(8), dtype=torch.float64) @ random_frame(8, 3, seed=9).mT
    found = flag_pca(samples)
    assert found.dims == (3,)
    assert float(found.eigenvalues[-1]) < 1e-28


@pytest.mark.parametrize("samples", [torch.ones(1, 3), torch.ones(3), torch.ones(3, 4, dtype=torch.int64)])
def test_what_is_no_data(samples):
    with pytest.raises(ValueError, match="expected float32 or float64 samples"):
        flag_pca(samples)


def noisy_subspaces(count, *, seed, angle=0.3):
    """As many noisy copies of each of the two subspaces of a flag (2, 5) in 30 dimensions, and its frame."""
    basis, draws, frames = random_frame(30, 5, seed=seed), generator(seed), []
    for k in (2, 5):
        metric = Grassmannian(30, k).metric
        tangents = metric.random_unit_tangent_vec(basis[:, :k], count // 2, generator=draws)
        frames.extend(metric.exp(angle * tangents, basis[:, :k]))
    return frames, basis


def test_a_planted_mean_flag_and_its_type_in_nineteen_of_twenty():
    flags = Flag(30, (2, 5))
    recovered = 0
    for seed in range(20):
        frames, basis = noisy_subspaces(60, seed=seed)
        found = flag_mean(frames)
        recovered += found.dims == (2, 5) and float(flags.metric.dist(found.point, basis)) < 0.1
    assert recovered >= 19


def test_the_eigenspaces_of_the_mean_projector():
    frames, _ = noisy_subspaces(8, seed=1)
    weights = torch.rand(8, generator=generator(2), dtype=torch.float64)
    mean = sum(weight * frame @ frame.mT for weight, frame in zip(weights, frames, strict=True)) / weights.sum()
    values, vectors = torch.linalg.eigh(mean)
    found = flag_mean(frames, weights, dims=(2, 5))
    expected = vectors.flip(-1)[:, :5]
    torch.testing.assert_close(projectors(found.point, (2, 5)), projectors(expected, (2, 5)), atol=1e-11, rtol=0)
    means = torch.stack([values[-2:].mean(), values[-5:-2].mean(), values[:-5].mean()])
    torch.testing.assert_close(found.eigenvalues, means, atol=1e-12, rtol=0)


def test_subspaces_of_one_dimension_have_their_chordal_mean():
    frames = random_frame(9, 3, seed=3, batch=(5,))
    weights = torch.rand(5, generator=generator(4), dtype=torch.float64)
    found = flag_mean(list(frames), weights, dims=(1, 3))
    assert bool(same_span(found.point, chordal_mean(frames, weights=weights).point))


def test_exact_subspaces():
    axes = torch.eye(5, dtype=torch.float64)
    assert flag_mean([axes[:, :3]]).dims == (3,)
    assert flag_mean([axes[:, :1]]).dims == (1,)
    assert flag_mean([axes]).dims == ()
    nested = flag_mean([axes[:, :2], axes[:, :4]] * 100)
    assert nested.dims == (2, 4)
    torch.testing.assert_close(nested.eigenvalues, torch.tensor([1, 0.5, 0], dtype=torch.float64))
    assert flag_mean([axes[:, :2], axes[:, 2:]], torch.tensor([1.0, 0.0], dtype=torch.float64)).dims == (2,)


def test_a_rotation_of_the_space_rotates_the_mean_and_another_map_changes_it():
    frames, _ = noisy_subspaces(6, seed=5)
    turn = random_frame(30, 30, seed=6)
    found, turned = (flag_mean(one, dims=(2, 5)) for one in (frames, [turn @ frame for frame in frames]))
    torch.testing.assert_close(
        projectors(turned.point, (2, 5)), projectors(turn @ found.point, (2, 5)), atol=1e-11, rtol=0
    )
    stretch = torch.linspace(1, 3, 30, dtype=torch.float64)[:, None]
    stretched = flag_mean([torch.linalg.qr(stretch * frame).Q for frame in frames], dims=(2, 5))
    assert not bool(same_span(stretched.point, torch.linalg.qr(stretch * found.point).Q))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda _: flag_mean([]), "at least one frame"),
        (lambda axes: flag_mean([axes[:, :1], axes[:2, :1]]), "one space"),
        (lambda axes: flag_mean([2 * axes[:, :1]]), "not an orthonormal frame"),
        (lambda axes: flag_mean([axes[:, :1]], dims=(1, 2)), "up to the number of columns, 1"),
        (lambda axes: flag_mean([axes[:, :1]], -torch.ones(1)), "non-negative weights"),
        (lambda axes: flag_mean([axes[:, :1]], torch.ones(2)), "expected 1 weights"),
    ],
)
def test_what_has_no_mean(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.eye(3))


@pytest.mark.parametrize("dims", [None, (1,)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_without_a_direction_are_refused(dims, dtype):
    constant = torch.tensor([0.1, 1e6, -0.3], dtype=dtype).expand(20, 3)
    with pytest.raises(ValueError, match=r"span at least 1 directions .* span 0"):
        flag_pca(constant, dims)
    for value in (torch.nan, torch.inf):
        samples = torch.randn(20, 3, generator=generator(1), dtype=dtype)
        samples[4, 1] = value
        with pytest.raises(ValueError, match="finite samples"):
            flag_pca(samples, dims)


def test_samples_of_few_directions_do_not_determine_more():
    samples = torch.randn(20, 2, generator=generator(1), dtype=torch.float64) @ random_frame(6, 2, seed=2).mT
    assert flag_pca(samples, (1, 2)).dims == (1, 2)
    with pytest.raises(ValueError, match=r"span at least 3 directions .* span 2"):
        flag_pca(samples, (1, 3))
