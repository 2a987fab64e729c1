import math

import torch

from tests.proofs.builders import assert_close, frame, gaussian, gradients, identity


def leading(matrix, k):
    u, s, vh = torch.linalg.svd(matrix)
    return u[:, :k], s, vh.mT[:, :k]


def sine(first, second):
    """Sine of the largest angle of two subspaces."""
    return torch.linalg.matrix_norm(second - first @ (first.mT @ second), ord=2)


def test_wedin_bound():
    for seed in range(30):
        first, k = gaussian(6, 4, seed=seed), 1 + seed % 3
        change = 0.2 * gaussian(6, 4, seed=seed + 100)
        u, s, v = leading(first, k)
        new_u, new_s, new_v = leading(first + change, k)
        if new_s[k - 1] > s[k]:
            bound = torch.linalg.matrix_norm(change, ord=2) / (new_s[k - 1] - s[k])
            assert max(sine(u, new_u), sine(v, new_v)) <= bound + 1e-12


def test_residual_gradients():
    """Of neighbouring linear layers in a stream, by autograd: the closer the smaller the layers are."""
    h, target = gaussian(8, 1, seed=1), gaussian(8, 1, seed=2)
    relative = []
    for scale in (0.02, 0.2):
        weights = [scale * gaussian(8, 8, seed=seed) / math.sqrt(8) for seed in (3, 4)]

        def loss(first, second):
            stream = h + first @ h
            return (stream + second @ stream - target).square().sum() / 2

        first, second = gradients(loss, *weights)
        stream = h + weights[0] @ h
        error = stream + weights[1] @ stream - target
        assert_close(first - second, weights[1].mT @ error @ h.mT - error @ h.mT @ weights[0].mT)
        norms = sum(torch.linalg.matrix_norm(weight, ord=2) for weight in weights)
        assert (first - second).norm() <= norms * error.norm() * h.norm()
        relative.append((first - second).norm() / second.norm())
    assert relative[0] < relative[1] / 5


def test_shared_updates_add_up():
    steps, draws = 64, 4000
    noise = gaussian(draws, steps, 3, seed=5).sum(dim=1)
    square = noise.square().sum(dim=1)
    assert abs(square.mean() - 3 * steps) < 5 * square.std() / math.sqrt(draws)


def test_coherent_updates_give_continuity():
    """Layers that start apart and take noisy updates along one input direction: within the bound, and ever closer."""
    y, start, angles = frame(20, 1, seed=6), 0.2, []
    for steps in (50, 500, 5000):
        vectors, bounds = [], []
        for layer in (0, 1):
            u = frame(12, 1, seed=7 + layer)
            noise = start * gaussian(12, 20, seed=20 + layer) + math.sqrt(steps) * 0.1 * gaussian(
                12, 20, seed=30 + layer
            )
            c = 0.2 * steps
            vectors.append(leading(c * u @ y.mT + noise, 1)[2])
            size = torch.linalg.matrix_norm(noise, ord=2)
            bounds.append(size / (c - size) if c > 2 * size else torch.tensor(1.0))
            assert sine(y, vectors[-1]) <= bounds[-1] + 1e-12
        angles.append(sine(*vectors))
        assert angles[-1] <= sum(bounds) + 1e-12
    assert angles[2] < angles[1] < angles[0]
    assert_close(identity(1), y.mT @ y)
    # A shared part smaller than the rest fixes nothing: noise in one other direction takes the first vector away.
    other, u, w = torch.linalg.qr(torch.cat([y, gaussian(20, 1, seed=40)], dim=1)).Q[:, 1:], *frame(12, 2, seed=41).T
    for size, expected in ((0.9, 0), (1.1, 1)):
        weight = u[:, None] @ y.mT + size * w[:, None] @ other.mT
        assert_close(sine(y, leading(weight, 1)[2]), torch.tensor(expected))
