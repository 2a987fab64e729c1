import itertools
import math

import pytest
import torch

from tests.proofs.builders import DRAWS, assert_close, gaussian, haar_orthogonal, identity, within_noise


@pytest.fixture(scope="module")
def rotations():
    return haar_orthogonal(DRAWS, 4, seed=0)


def test_haar_second_moments(rotations):
    b = gaussian(4, 4, seed=1)
    b = b + b.mT
    b = b - b.trace() / 4 * identity(4)
    y = rotations @ b @ rotations.mT
    scale = b.square().sum() / (3 * 6)
    within_noise(y[:, 0, 1] ** 2, scale)
    within_noise(y[:, 0, 0] ** 2, scale * (2 - 2 / 4))
    within_noise(y[:, 0, 0] * y[:, 1, 1], scale * (-2 / 4))
    within_noise(y[:, 0, 1] * y[:, 2, 3], 0)


def test_haar_overlap_moments(rotations):
    n, k, m = 4, 1, 2
    overlaps = rotations[:, :k, :m].square().sum(dim=(1, 2))
    within_noise(overlaps, k * m / n)
    variance = 2 * k * m * (n - k) * (n - m) / (n**2 * (n - 1) * (n + 2))
    within_noise((overlaps - k * m / n) ** 2, variance)


def test_haar_abs_cosine_moments(rotations):
    cosines = rotations[:, 0, 0].abs()
    within_noise(cosines, math.gamma(2) / (math.sqrt(math.pi) * math.gamma(2.5)))
    within_noise(cosines**2, 1 / 4)


def test_chain_independence():
    vectors = torch.nn.functional.normalize(gaussian(DRAWS, 3, 5, seed=2), dim=-1)
    first, second = ((vectors[:, k] * vectors[:, k + 1]).sum(dim=-1).square() for k in (0, 1))
    within_noise((first - 0.2) * (second - 0.2), 0)


def test_best_match_null(rotations):
    normals = gaussian(DRAWS, 4, seed=40)
    largest, length = normals[:, :3].abs().amax(dim=1), normals.norm(dim=1)
    found = rotations[:, 0, :3].abs().amax(dim=1)
    within_noise(found, largest.mean() / length.mean())
    within_noise(found**2, (largest**2).mean() / 4)


def test_signed_rank_one_null(rotations):
    product = rotations[: DRAWS // 2, 0, 1] * rotations[DRAWS // 2 :, 2, 3]
    within_noise(product, 0)
    within_noise(product**2, 1 / 16)


def test_flag_score_null(rotations):
    top = 3
    scores = sum(rotations[:, :k, :k].square().sum(dim=(1, 2)) for k in range(1, top + 1)) / (top * (top + 1) / 2)
    within_noise(scores, (2 * top + 1) / (3 * 4))


def test_squared_cosine_moments(rotations):
    """A weighted sum over all vectors of two bases, so that every kind of covariance takes part."""
    d, weights = 4, gaussian(3, 2, seed=30)
    sums = (rotations[:, :3, :2].square() * weights).sum(dim=(1, 2))
    within_noise(sums, weights.sum() / d)
    rows, columns = ((identity(size) - 1 / d) for size in (3, 2))
    centred_norm = (weights * (rows @ weights @ columns)).sum()
    within_noise((sums - weights.sum() / d) ** 2, 2 / ((d - 1) * (d + 2)) * centred_norm)


def test_sign_flip_overlap_mean():
    a, b = gaussian(6, 2, seed=31), gaussian(6, 3, seed=32)
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=6)), dtype=torch.float64)
    overlaps = (a.mT @ (signs[:, :, None] * b)).square().sum(dim=(1, 2))
    assert_close(overlaps.mean(), a.square().sum(dim=1) @ b.square().sum(dim=1))


def test_sign_flip_overlap_spread():
    a, b = gaussian(6, 2, seed=33), gaussian(6, 3, seed=34)
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=6)), dtype=torch.float64)
    overlaps = (a.mT @ (signs[:, :, None] * b)).square().sum(dim=(1, 2))
    entries = (a @ a.mT).square() * (b @ b.mT).square()
    assert_close(overlaps.var(correction=0), 2 * (entries.sum() - entries.trace()))


def test_mean_matched_overlap_mean():
    p, q, e, f = (gaussian(6, width, seed=35 + number) for number, width in enumerate((2, 3, 2, 3)))
    signs = torch.tensor(list(itertools.product([1.0, -1.0], repeat=6)), dtype=torch.float64)
    overlaps = (p.mT @ q + e.mT @ (signs[:, :, None] * f)).square().sum(dim=(1, 2))
    assert_close(overlaps.mean(), (p.mT @ q).square().sum() + e.square().sum(dim=1) @ f.square().sum(dim=1))


def test_explained_variance_null():
    for layers, expected in ((8, 3 / 7), (4, 1), (3, 1)):  # 3 / 2 of three layers would be more than all
        directions = torch.linalg.qr(gaussian(50, layers, seed=10)).Q
        values = torch.linalg.svdvals(directions - directions.mean(dim=1, keepdim=True)) ** 2
        assert_close(values[:3].sum() / values.sum(), expected)


def test_random_polystability_defect():
    for seed, (n, d, p) in enumerate([(16, 24, 4), (5, 5, 5), (3, 7, 6)]):
        w1, w2 = gaussian(d, n, seed=11 + seed), gaussian(p, d, seed=20 + seed)
        r1, r2, r12 = (int(torch.linalg.matrix_rank(w)) for w in (w1, w2, w2 @ w1))
        assert (r1 - r12) + (r2 - r12) == min(n, d) + min(d, p) - 2 * min(n, d, p)
