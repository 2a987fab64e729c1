import math

import torch

from tests.proofs.builders import assert_close, frame, gaussian, haar_orthogonal, imbalance, orthogonal, within_noise

DRAWS = 20_000


def nuclear(matrix):
    return torch.linalg.svdvals(matrix).sum(dim=-1)


def test_balance_invariance():
    w1, w2 = gaussian(5, 3, seed=0), gaussian(4, 5, seed=1)
    q = orthogonal(5, seed=2)
    moved1, moved2 = 3 * q @ w1 @ orthogonal(3, seed=3), 3 * orthogonal(4, seed=4) @ w2 @ q.T
    assert_close(nuclear(moved2 @ moved1), 9 * nuclear(w2 @ w1))
    assert_close(imbalance(moved1, moved2).norm(), 9 * imbalance(w1, w2).norm())


def test_unit_norms_invariance():
    w1, w2 = gaussian(5, 3, seed=5), gaussian(4, 5, seed=6)
    turn = torch.eye(5, dtype=torch.float64)[[2, 0, 1, 4, 3]] * torch.tensor([1.0, -1, 1, -1, 1])
    before = imbalance(w1, w2).diagonal().norm()
    assert_close(imbalance(turn @ w1, w2 @ turn.T).diagonal().norm(), before)
    q = orthogonal(5, seed=7)
    assert abs(imbalance(q @ w1, w2 @ q.T).diagonal().norm() - before) > 0.1


def test_stacked_ratio_invariance():
    w1, w2 = gaussian(5, 3, seed=8), gaussian(4, 5, seed=9)
    q = orthogonal(5, seed=10)
    values = torch.linalg.svdvals(torch.cat([w1, w2.T], dim=1))
    assert_close(torch.linalg.svdvals(torch.cat([q @ w1, (w2 @ q.T).T], dim=1)), values)


def test_window_invariance():
    u, v, q = frame(6, 2, seed=11), frame(6, 2, seed=12), orthogonal(6, seed=13)
    a = gaussian(6, 6, seed=14)
    a = a @ a.T

    def window_spectrum(gram, first, second):
        window = torch.linalg.eigh(first @ first.T + second @ second.T).eigenvectors[:, -2:]
        return torch.linalg.eigvalsh(window.T @ gram @ window)

    assert_close(window_spectrum(q @ a @ q.T, q @ u, q @ v), window_spectrum(a, u, v))


def test_gram_imbalance_null():
    a, b = (part @ part.T for part in (gaussian(4, 3, seed=15), gaussian(4, 6, seed=16)))
    rotations = haar_orthogonal(DRAWS, 4, seed=17)
    turned = rotations @ b @ rotations.mT
    mean = a.square().sum() + b.square().sum() - a.trace() * b.trace() / 2
    within_noise((a - turned).square().sum(dim=(1, 2)), mean)
    products = (a * turned).sum(dim=(1, 2))
    traceless = [(gram - gram.trace() / 4 * torch.eye(4, dtype=torch.float64)).square().sum() for gram in (a, b)]
    within_noise((products - a.trace() * b.trace() / 4).square(), 2 * traceless[0] * traceless[1] / (3 * 6))


def test_permuted_diagonal_null():
    a, b = gaussian(6, seed=18).square(), gaussian(6, seed=19).square()
    orders = torch.rand(DRAWS, 6, generator=torch.Generator().manual_seed(20)).argsort(dim=1)
    products = (a * b[orders]).sum(dim=1)
    within_noise(products, a.sum() * b.sum() / 6)
    spread = (a - a.mean()).square().sum() * (b - b.mean()).square().sum() / 5
    within_noise((products - products.mean()).square(), spread)


def test_free_nuclear_norm():
    """Two random projectors onto halves of a wide space: the mean cosine is 2 / pi."""
    d = 400
    cosines = torch.linalg.svdvals(frame(d, d // 2, seed=21).T @ frame(d, d // 2, seed=22))
    assert abs(cosines.mean() - 2 / math.pi) < 2 / d
