import numpy as np
import pytest
import torch

from flaggeo.alignment.chance.free_sum import stacked_ratio_moments

DRAWS = 400
#: Singular values of both weights, width of the space, directions kept.
SPECTRA = {
    "flat": (np.ones(10), np.ones(10), 40, 5),
    "flat and full": (np.ones(32), np.ones(32), 64, 8),
    "varied": (np.linspace(2, 0.1, 30), np.linspace(1, 0.3, 25), 64, 4),
    "first direction": (np.linspace(2, 0.1, 30), np.linspace(1, 0.3, 25), 64, 1),
    "decaying": (0.7 ** np.arange(40), 0.8 ** np.arange(40), 64, 16),
    "as many as there are": (np.ones(16), np.ones(16), 64, 16),
    "lines": (np.ones(1), np.ones(1), 30, 1),
    "narrow": (np.array([3.0, 2, 1]), np.array([3.0, 2, 1]), 3, 2),
    "wide": (np.linspace(1, 0.05, 60), np.linspace(1, 0.05, 72), 180, 16),
}
#: The same where the value stands apart from the next one.
APART = {
    "one loud direction": (np.r_[10, np.ones(20)], np.ones(20), 64, 1),
    "one in each": (np.r_[10, np.ones(20)], np.r_[10, np.ones(20)], 64, 2),
    "low rank": (np.array([2.0, 1]), np.array([2.0, 1]), 100, 2),
}


def drawn(first, second, dim, k):
    """The ratio for one weight turned at random against the other."""
    rng, ratios = np.random.default_rng(0), []
    for _ in range(DRAWS):
        turned = np.linalg.qr(rng.standard_normal((dim, len(second)))).Q * second / np.linalg.norm(second)
        fixed = np.eye(dim, len(first)) * first / np.linalg.norm(first)
        stacked = np.hstack([fixed, turned])
        # Of the smaller Gram matrix, which is faster; ratios near 0 have 7 digits left.
        gram = min(stacked @ stacked.T, stacked.T @ stacked, key=len)
        values = np.linalg.eigvalsh(gram)[::-1].clip(min=0) ** 0.5
        ratios.append(values[k] / values[k - 1])
    return np.mean(ratios), np.std(ratios)


def law(first, second, dim, k):
    moments = stacked_ratio_moments(torch.tensor(first), torch.tensor(second), torch.tensor(k), dim)
    return tuple(map(float, moments))


@pytest.mark.parametrize("case", SPECTRA)
def test_the_law_is_that_of_random_orientations(case):
    """As documented: the mean within a quarter of a standard deviation, and that within a quarter of itself; 0.1 of
    a standard deviation and 7 % (twice the error of 400 draws) for noise."""
    (mean, spread), (expected, deviation) = law(*SPECTRA[case]), drawn(*SPECTRA[case])
    assert abs(mean - expected) <= 0.35 * deviation
    assert spread == pytest.approx(deviation, rel=0.32)


@pytest.mark.parametrize("case", APART)
def test_the_mean_holds_and_the_spread_is_unknown_where_a_value_stands_apart(case):
    (mean, spread), (expected, deviation) = law(*APART[case]), drawn(*APART[case])
    assert abs(mean - expected) <= 0.35 * deviation
    assert np.isnan(spread)


@pytest.mark.parametrize("k", [1, 4, 30])
def test_beside_a_flat_spectrum_every_orientation_is_the_same(k):
    """Of an orthogonal weight: the eigenvalues of the other one, moved."""
    other = np.linspace(2, 0.5, 64)
    mean, _ = law(np.ones(64), other, 64, k)
    places = 1 / 64 + other**2 / (other**2).sum()
    # Each eigenvalue is a point of the law; it is looked for to a thousandth of its place.
    assert mean == pytest.approx((places[k] / places[k - 1]) ** 0.5, abs=1e-4)


def test_scales_do_not_count_and_zeros_are_none():
    first, second, dim, k = SPECTRA["varied"]
    padded = np.pad(5 * first, (0, 20)), 0.1 * second
    assert law(*padded, dim, k) == pytest.approx(law(first, second, dim, k), rel=1e-6)


def test_each_of_a_batch_is_as_it_is_alone_and_float32_agrees():
    first, second = torch.rand(2, 3, 20, dtype=torch.float64) + 0.1, torch.rand(3, 24, dtype=torch.float64) + 0.1
    kept = torch.tensor([[1, 5, 20], [2, 0, 24]])
    mean, spread = stacked_ratio_moments(first, second, kept, 24)
    assert mean.isnan().tolist() == spread.isnan().tolist() == [[False, False, False], [False, True, True]]
    for i, j in [(0, 0), (0, 2), (1, 0)]:
        alone = stacked_ratio_moments(first[i, j], second[j], kept[i, j], 24)[0]
        assert float(mean[i, j]) == pytest.approx(float(alone), rel=1e-4)
    single, _ = stacked_ratio_moments(first.float(), second.float(), kept, 24)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), mean, rtol=1e-4, atol=0, equal_nan=True)
