import functools
import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from manifolds import langevin
from manifolds.checks import require_frame
from manifolds.frames import polar_factor
from manifolds.haar import uniform_frame
from manifolds.langevin import AcceptanceError, langevin_frame

from .builders import generator, random_frame

CONCENTRATIONS = [0.1, 1.0, 10.0, 100.0, 1e4]
# Dimension and concentrations: weak, moderate, strong, and strong beside weak.
PARAMETERS = [(4, (0.1, 0.1, 0.1)), (3, (2.0, 2.0)), (5, (4.0, 2.0, 1.0)), (5, (100.0, 30.0, 10.0)), (6, (1e4, 0.1))]


def parameter_of(n, concentrations, *, seed=0):
    k = len(concentrations)
    turn = random_frame(k, k, seed=seed + 1)
    return random_frame(n, k, seed=seed) * torch.tensor(concentrations, dtype=torch.float64) @ turn


@functools.cache
def drawn(n, concentrations, count):
    frames = langevin_frame(parameter_of(n, concentrations), (count,), generator=generator(1))
    require_frame(frames, "frames")
    return frames


def in_standard_errors(values):
    """Means of samples along the first axis, in their standard errors."""
    return values.mean(dim=0) / (values.std(dim=0) / math.sqrt(len(values)))


@pytest.mark.parametrize("concentration", CONCENTRATIONS)
@pytest.mark.parametrize("n", [2, 3, 10, 100])
def test_the_mean_of_a_vector_is_that_of_von_mises_and_fisher(n, concentration):
    """The mean cosine is I_(n/2)(kappa) / I_(n/2 - 1)(kappa)."""
    mode = random_frame(n, 1, seed=n)
    frames = langevin_frame(concentration * mode, (20000,), generator=generator(n))
    cosines = (frames * mode).sum(dim=(1, 2))
    expected = scipy.special.ive(n / 2, concentration) / scipy.special.ive(n / 2 - 1, concentration)
    assert abs(float(in_standard_errors(cosines - expected))) < 4
    across = frames - cosines[:, None, None] * mode
    assert float(in_standard_errors(across).abs().nan_to_num().max()) < 5


@pytest.mark.parametrize("concentration", [0.1, 3.0, 1e3])
def test_the_law_of_the_cosine_on_the_sphere(concentration):
    """In three dimensions its density is proportional to exp(kappa cos)."""
    axis = torch.eye(3, 1, dtype=torch.float64)
    cosines = langevin_frame(concentration * axis, (20000,), generator=generator(3))[:, 0, 0].numpy()
    truncated = scipy.stats.truncexpon(b=2 * concentration, scale=1 / concentration)
    assert scipy.stats.kstest(1 - cosines, truncated.cdf).pvalue > 0.01


@pytest.mark.parametrize(("n", "concentrations"), PARAMETERS[:3])
def test_moments_agree_with_weighted_uniform_frames(n, concentrations):
    parameter, frames = parameter_of(n, concentrations), drawn(n, concentrations, 40000)
    uniform = uniform_frame(n, len(concentrations), (200000,), generator=generator(2), dtype=torch.float64)
    weights = torch.softmax((uniform * parameter).sum(dim=(1, 2)), dim=0)
    assert 1 / float(weights.square().sum()) > 10000  # uniform frames that count
    for moment in (lambda x: x, lambda x: x @ x.mT, lambda x: (x * parameter).sum(dim=(1, 2))):
        reference, found = moment(uniform), moment(frames)
        expected = torch.einsum("l,l...->...", weights, reference)
        variance = torch.einsum("l,l...->...", weights.square(), (reference - expected).square())
        error = (variance + found.var(dim=0) / len(found)).sqrt()
        assert float(((found.mean(dim=0) - expected) / error).abs().max()) < 4.5


@pytest.mark.parametrize(("n", "concentrations"), PARAMETERS)
def test_integration_by_parts(n, concentrations):
    """For skew A the mean of tr(B'AX) + tr(B'X) tr(F'AX) vanishes, since uniform frames are invariant."""
    parameter, frames = parameter_of(n, concentrations), drawn(n, concentrations, 40000)
    draws = generator(4)
    for _ in range(10):
        skew = torch.randn(n, n, generator=draws, dtype=torch.float64)
        skew = skew - skew.mT
        weight = torch.randn(parameter.shape, generator=draws, dtype=torch.float64)
        moved = skew @ frames
        terms = (weight * moved).sum(dim=(1, 2)) + (weight * frames).sum(dim=(1, 2)) * (parameter * moved).sum((1, 2))
        assert abs(float(in_standard_errors(terms))) < 4.5


def test_angles_at_large_concentration():
    """Between columns 1 / (kappa_i + kappa_j), out of the span 1 / kappa_i."""
    concentrations = torch.tensor([1e6, 3e5, 1e5], dtype=torch.float64)
    centre = random_frame(6, 6, seed=5)
    frames = langevin_frame(centre[:, :3] * concentrations, (20000,), generator=generator(6))
    angles = centre.mT @ frames
    for i in range(3):
        for j in (j for j in range(6) if j != i):
            expected = 1 / (concentrations[i] + concentrations[j]) if j < 3 else 1 / concentrations[i]
            # Four standard errors of a variance.
            assert float(angles[:, j, i].var() / expected) == pytest.approx(1, abs=4 * math.sqrt(2 / 20000))


def test_no_concentration_is_uniform():
    frames = langevin_frame(torch.zeros(4, 2, dtype=torch.float64), (20000,), generator=generator(7))
    assert float(in_standard_errors(frames).abs().max()) < 4
    lone = scipy.stats.kstest(frames[:, 0, 1].numpy() ** 2, scipy.stats.beta(0.5, 1.5).cdf)
    assert lone.pvalue > 0.01


@pytest.mark.parametrize("k", range(1, 7))
@pytest.mark.parametrize("concentration", CONCENTRATIONS)
def test_the_accepted_share_stays(k, concentration, monkeypatch):
    """It falls with the number of columns, to a bound that no concentration passes."""
    proposed = []
    propose = langevin._with_next_column

    def counting(frames, *arguments):
        if not frames.shape[-1]:
            proposed.append(len(frames))
        return propose(frames, *arguments)

    monkeypatch.setattr(langevin, "_with_next_column", counting)
    frames = langevin_frame(concentration * torch.eye(k + 2, k), (200,), generator=generator(k))
    assert frames.shape == (200, k + 2, k)
    assert frames.dtype == torch.float32
    require_frame(frames, "frames")
    assert 200 / sum(proposed) > 0.5 * 2 ** (-k * (k + 1) / 4)


def test_too_many_concentrated_columns_are_refused(monkeypatch):
    monkeypatch.setattr(langevin, "_MAX_PROPOSALS", 2**12)
    with pytest.raises(AcceptanceError, match=r"accepted 0 of \d+ proposals of 12 columns"):
        langevin_frame(1e4 * torch.eye(14, 12), generator=generator(8))
    # Many columns of small concentration are accepted.
    assert langevin_frame(0.1 * torch.eye(14, 12), generator=generator(8)).shape == (14, 12)


def test_the_mode_is_the_polar_factor():
    parameter = 1e6 * torch.randn(7, 3, generator=generator(9), dtype=torch.float64)
    frames = langevin_frame(parameter, (2, 5), generator=generator(10))
    assert frames.shape == (2, 5, 7, 3)
    assert float((frames - polar_factor(parameter)).abs().max()) < 0.02


def test_the_same_generator_gives_the_same_frames():
    parameter = parameter_of(5, (3.0, 2.0))
    first, second, other = (langevin_frame(parameter, (4,), generator=generator(seed)) for seed in (11, 11, 12))
    assert torch.equal(first, second)
    assert not np.allclose(first, other)
    assert langevin_frame(parameter, (0,)).shape == (0, 5, 2)


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (torch.ones(3), "shape"),
        (torch.ones(2, 3), "k <= n"),
        (torch.ones(3, 3), "1 <= k < n"),
        (torch.ones(3, 0), "1 <= k < n"),
        (torch.ones(2, 4, 3), "one parameter"),
        (torch.full((3, 1), math.inf), "finite"),
        (torch.ones(3, 1, dtype=torch.float16), "float32 or float64"),
    ],
)
def test_what_is_refused(parameter, message):
    with pytest.raises(ValueError, match=message):
        langevin_frame(parameter)
