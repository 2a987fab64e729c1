import math

import torch

from tests.proofs.builders import assert_close, bracket, frame, gaussian


def grams(seed, n=5, d=4, p=3):
    w1, w2 = gaussian(d, n, seed=seed), gaussian(p, d, seed=seed + 1)
    return w1, w2, w1 @ w1.mT, w2.mT @ w2


def test_projector_commutator():
    u, v = frame(8, 3, seed=0), frame(8, 4, seed=1)
    angles = torch.linalg.svdvals(u.mT @ v).clamp(max=1).acos()
    squares = bracket(u @ u.mT, v @ v.mT).square().sum()
    assert_close(squares, (2 * angles).sin().square().sum() / 2)


def test_integer_overlap():
    root = math.sqrt(0.5)
    first = torch.eye(4, dtype=torch.float64)[:, :2]
    second = torch.tensor([[root, 0], [0, root], [root, 0], [0, root]], dtype=torch.float64)
    assert_close((first.mT @ second).square().sum(), 1)
    assert torch.linalg.matrix_rank(torch.cat([first, second], dim=1)) == 4
    assert bracket(first @ first.mT, second @ second.mT).norm() > 0.5


def test_cheap_commutator():
    w1, w2, a, b = grams(2)
    n = w2 @ w1
    cheap = 2 * torch.trace((w1.mT @ w1) @ n.mT @ (w2 @ w2.mT) @ n) - 2 * torch.trace(n.mT @ n @ n.mT @ n)
    assert_close(bracket(a, b).square().sum(), cheap)


def test_commutator_bound():
    largest = 0.0
    for seed in range(200):
        _, _, a, b = grams(seed, n=1 + seed % 3, p=1 + seed % 2)
        largest = max(largest, float(bracket(a, b).norm() / (a.norm() * b.norm())))
    assert 0.5 < largest <= math.sqrt(0.5) + 1e-12
    indefinite = torch.diag(torch.tensor([1.0, -1.0])), torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert bracket(*indefinite).norm() > math.sqrt(0.5) * indefinite[0].norm() * indefinite[1].norm()


def test_commuting_means_aligned():
    a, b = torch.diag(torch.tensor([2.0, 1.0])), torch.diag(torch.tensor([1.0, 2.0]))
    assert bracket(a, b).norm() == 0
    assert torch.linalg.eigh(a).eigenvectors[:, -1] @ torch.linalg.eigh(b).eigenvectors[:, -1] == 0


def test_rho_of_two_lines():
    for d in (3, 8, 24):
        first, second = torch.zeros(2, d, dtype=torch.float64).unbind()
        first[0], second[:2] = 1, math.sqrt(0.5)
        a, b = torch.outer(first, first), torch.outer(second, second)
        centred = [gram - gram.trace() / d * torch.eye(d, dtype=torch.float64) for gram in (a, b)]
        scale = math.sqrt(2 * d / ((d - 1) * (d + 2))) * centred[0].norm() * centred[1].norm()
        assert_close(bracket(a, b).norm() / scale, math.sqrt(d * (d + 2) / (d - 1)) / 2)
