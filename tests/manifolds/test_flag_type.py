import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from manifolds.flag import Flag
from manifolds.flag_type import select_dims

from .builders import generator, random_frame


def spectrum(*values):
    return torch.tensor(sorted(values, reverse=True), dtype=torch.float64)


def criterion_from_densities(samples, dims, penalty):
    """Minus twice the log-likelihood by SciPy's density of a Gaussian, plus the penalty of parameters counted anew."""
    p = samples.shape[1]
    covariance = np.cov(samples, rowvar=False, bias=True)
    eigenvalues, vectors = np.linalg.eigh(covariance)
    eigenvalues, vectors = eigenvalues[::-1], vectors[:, ::-1]
    edges = (0, *dims, p)
    averaged = np.concatenate([np.full(b - a, eigenvalues[a:b].mean()) for a, b in itertools.pairwise(edges)])
    model = scipy.stats.multivariate_normal(samples.mean(axis=0), vectors * averaged @ vectors.T)
    parameters = len(edges) - 1 + (Flag(p, dims).dim if dims else 0)
    return -2 * model.logpdf(samples).sum() + penalty * parameters


def all_types(p, largest):
    return [cuts for size in range(p) for cuts in itertools.combinations(range(1, largest + 1), size)]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("criterion", ["bic", "aic"])
def test_the_least_criterion_of_all_types(seed, criterion):
    p, count = 5, 60
    scales = torch.tensor([1.0, 1.0, 0.8, 0.6, 0.6], dtype=torch.float64) * (1 + 0.2 * seed)
    samples = (torch.randn(count, p, generator=generator(seed), dtype=torch.float64) * scales).numpy()
    penalty = {"bic": np.log(count), "aic": 2.0}[criterion]
    eigenvalues = torch.from_numpy(np.linalg.eigvalsh(np.cov(samples, rowvar=False, bias=True))[::-1].copy())
    for max_dim in (None, 2):
        types = all_types(p, max_dim or p - 1)
        best = min(types, key=lambda dims: criterion_from_densities(samples, dims, penalty))
        assert select_dims(eigenvalues, count, max_dim=max_dim, criterion=criterion) == best


def brute_force(values, count, largest):
    def cost(dims):
        blocks = itertools.pairwise((0, *dims, len(values)))
        return sum(
            count * (b - a) * np.log(values[a:b].mean()) + np.log(count) * (1 - (b - a) * (b - a - 1) / 2)
            for a, b in blocks
        )

    costs = {dims: cost(dims) for dims in all_types(len(values), largest)}
    return {dims for dims in costs if costs[dims] < min(costs.values()) + 1e-9}


@settings(max_examples=60)
@given(
    st.lists(st.floats(0.01, 100), min_size=2, max_size=8),
    st.sampled_from([2, 10, 100, 10**4]),
    st.integers(1, 7),
)
def test_dynamic_programming_finds_what_exhaustion_finds(values, count, max_dim):
    values = spectrum(*values)
    max_dim = min(max_dim, len(values) - 1)
    assert select_dims(values, count) in brute_force(values.numpy(), count, len(values) - 1)
    assert select_dims(values, count, max_dim=max_dim) in brute_force(values.numpy(), count, max_dim)


def test_published_threshold_of_two_eigenvalues():
    """A thousand samples tell two eigenvalues apart from a relative gap of 21 % on: abstract of arXiv:2307.15348v3."""
    assert select_dims(spectrum(1, 0.80), 1000) == ()
    assert select_dims(spectrum(1, 0.78), 1000) == (1,)


@settings(max_examples=30)
@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=12), st.integers(-20, 20))
def test_only_ratios_of_eigenvalues_matter(values, exponent):
    values = spectrum(*values)
    assert select_dims(values * 2.0**exponent, 50) == select_dims(values, 50)


def test_more_samples_tell_more_apart():
    values = spectrum(10, 5, 4.5, 1, 0.98)
    assert [select_dims(values, count) for count in (5, 100, 10**4, 10**6)] == [(), (1, 3), (1, 2, 3), (1, 2, 3, 4)]


def test_zeros_are_a_block_unless_the_noise_takes_them_in():
    values = spectrum(3, 1, 1, 0, 0)
    assert select_dims(values, 1000) == (1, 3)
    assert select_dims(values, 1000, max_dim=2) == (1, 2)  # the noise is 1, 0, 0 then
    rounded = values + torch.tensor([0, 0, 0, 1e-17, -1e-17], dtype=torch.float64)
    assert select_dims(rounded, 1000) == (1, 3)


def test_small_eigenvalues_are_not_lost_beside_large_ones():
    assert select_dims(spectrum(1e12, 1e12, 4, 4, 1, 1), 1000) == (2, 4)


def test_equal_eigenvalues_have_no_flag():
    assert select_dims(torch.ones(6), 10**6) == ()
    assert select_dims(torch.ones(1), 10) == ()


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        (torch.ones(2, 2), {}, "shape"),
        (torch.ones(2, dtype=torch.int64), {}, "float32 or float64"),
        (torch.tensor([1.0, 2.0]), {}, "descending"),
        (torch.tensor([1.0, -0.5]), {}, "non-negative"),
        (torch.tensor([1.0, float("nan")]), {}, "finite"),
        (torch.zeros(3), {}, "not all zero"),
        (torch.ones(3), {"n_samples": 0.5}, "at least 1 sample"),
        (torch.ones(3), {"max_dim": 3}, "max_dim from 1 to p - 1 = 2"),
        (torch.ones(3), {"criterion": "hqc"}, "bic, aic"),
    ],
)
def test_what_is_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        select_dims(values, **({"n_samples": 10} | options))


def test_the_planted_type_in_nineteen_of_twenty():
    """Blocks of 1, 3, 2 and 14 eigenvalues: 9, 5, 3 and 1."""
    scales = torch.tensor([9.0] + [5.0] * 3 + [3.0] * 2 + [1.0] * 14, dtype=torch.float64).sqrt()
    found = []
    for seed in range(20):
        samples = torch.randn(1500, 20, generator=generator(seed), dtype=torch.float64) * scales
        samples = samples @ random_frame(20, 20, seed=seed).mT
        eigenvalues = torch.linalg.svdvals(samples - samples.mean(dim=0)).square() / len(samples)
        found.append(select_dims(eigenvalues, len(samples)))
    assert found.count((1, 4, 6)) >= 19
