import math

import torch

from tests.proofs.builders import assert_close, bracket, frame, gaussian, orthogonal


def leading(gram, k):
    return torch.linalg.eigh(gram).eigenvectors.flip(-1)[:, :k]


def overlap(first, second):
    return float((first.mT @ second).square().sum() / first.shape[1])


def test_levels_imply():
    """Balanced weights with different outer singular vectors agree in every leading window of the hidden space."""
    hidden, values = orthogonal(5, seed=0), torch.diag(torch.tensor([5.0, 4, 3, 2, 1], dtype=torch.float64))
    w1, w2 = hidden @ values @ orthogonal(5, seed=1), orthogonal(5, seed=2) @ values @ hidden.mT
    for k in range(1, 5):
        assert_close(overlap(leading(w1 @ w1.mT, k), leading(w2.mT @ w2, k)), 1)
    turned = hidden.clone()
    turned[:, :2] = hidden[:, :2] @ orthogonal(2, seed=3)
    gram = turned @ values @ values @ turned.mT
    assert_close(overlap(leading(w1 @ w1.mT, 2), leading(gram, 2)), 1)
    assert overlap(leading(w1 @ w1.mT, 1), leading(gram, 1)) < 0.999


def test_subspace_without_basis():
    angle = 0.4
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    a = torch.diag(torch.tensor([3.0, 1.0], dtype=torch.float64))
    b = turn @ torch.diag(torch.tensor([5.0, 2.0], dtype=torch.float64)) @ turn.mT
    assert_close(bracket(a, b).square().sum(), 0.5 * 4 * 9 * math.sin(2 * angle) ** 2)
    assert_close((leading(a, 1).mT @ leading(b, 1)) ** 2, math.cos(angle) ** 2)


def test_whole_space_is_vacuous():
    assert_close(overlap(orthogonal(6, seed=4), orthogonal(6, seed=5)), 1)
    assert overlap(frame(6, 5, seed=4), frame(6, 5, seed=5)) < 1


def test_neural_collapse_link():
    """Minimise the unconstrained-features model with one free feature per class, four samples each."""
    means, weight = gaussian(4, 3, seed=6).requires_grad_(), gaussian(3, 4, seed=7).requires_grad_()
    samples, feature_ridge, weight_ridge = 4, 0.02, 0.05
    labels = torch.arange(3).repeat_interleave(samples)
    optimizer = torch.optim.LBFGS(
        [means, weight], max_iter=2000, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=0.0
    )

    def closure():
        optimizer.zero_grad()
        features = means[:, labels]
        value = torch.nn.functional.cross_entropy((weight @ features).mT, labels, reduction="sum") / 12
        value = value + feature_ridge / 2 * features.square().sum() + weight_ridge / 2 * weight.square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    means, weight = means.detach(), weight.detach()
    assert weight.norm() > 0.1
    assert_close(weight.mT @ weight, feature_ridge * samples / weight_ridge * means @ means.mT, 1e-6)
