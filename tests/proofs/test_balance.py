import math

import torch

from tests.proofs.builders import (
    assert_close,
    bracket,
    frame,
    gaussian,
    gradients,
    identity,
    imbalance,
    rate,
    ridge_flow,
)

RIDGE = 0.3
NUMERIC = 1e-6  # central differences with step 1e-6


def linear_loss(seed):
    """A nonlinear loss of the product of two weights on fixed data."""
    inputs, targets = gaussian(4, 7, seed=seed), gaussian(2, 7, seed=seed + 1)
    return lambda w1, w2: torch.logsumexp((w2 @ w1 @ inputs - targets).flatten(), 0) + (w2 @ w1).pow(4).sum() / 9


def weights(seed, n=4, d=3, p=2):
    return gaussian(d, n, seed=seed), gaussian(p, d, seed=seed + 1)


def test_noether_ridge():
    def charge(t1, t2):
        return t1**2 - t2**2

    def loss(t1, t2):
        return torch.sin(t1 * t2).sum()

    theta = gaussian(1, seed=0), gaussian(1, seed=1)
    measured = rate(charge, theta, ridge_flow(loss, *theta, ridge=RIDGE))
    assert_close(measured, -2 * RIDGE * charge(*theta), NUMERIC)


def test_noether_step():
    step, (t1, t2) = 0.1, (gaussian(1, seed=2), gaussian(1, seed=3))
    g1, g2 = gradients(lambda a, b: torch.cos(a * b).sum(), t1, t2)
    n1, n2 = (1 - step * RIDGE) * t1 - step * g1, (1 - step * RIDGE) * t2 - step * g2
    assert_close(n1**2 - n2**2, (1 - step * RIDGE) ** 2 * (t1**2 - t2**2) + step**2 * (g1**2 - g2**2))


def test_balance_law():
    w = weights(4)
    measured = rate(imbalance, w, ridge_flow(linear_loss(6), *w, ridge=RIDGE))
    assert_close(measured, -2 * RIDGE * imbalance(*w), NUMERIC)


def test_balance_step():
    step, (w1, w2), loss = 0.05, weights(8), linear_loss(10)
    g1, g2 = gradients(loss, w1, w2)
    (g,) = gradients(lambda product: loss(product, identity(2)), w2 @ w1)
    following = imbalance((1 - step * RIDGE) * w1 - step * g1, (1 - step * RIDGE) * w2 - step * g2)
    source = w2.mT @ g @ g.mT @ w2 - w1 @ g.mT @ g @ w1.mT
    assert_close(following, (1 - step * RIDGE) ** 2 * imbalance(w1, w2) + step**2 * source)


def test_unequal_ridge():
    w1, w2 = weights(12)
    g1, g2 = gradients(linear_loss(14), w1, w2)
    measured = rate(imbalance, (w1, w2), (-g1 - 0.2 * w1, -g2 - 0.7 * w2))
    assert_close(measured, -2 * (0.2 * w1 @ w1.mT - 0.7 * w2.mT @ w2), NUMERIC)


def test_critical_points_balanced():
    """Minimise a ridged least-squares loss from an unbalanced start; the imbalance must vanish."""
    target = gaussian(2, 4, seed=16)
    w1, w2 = (weight.requires_grad_() for weight in weights(17))
    optimizer = torch.optim.LBFGS([w1, w2], max_iter=500, tolerance_grad=1e-12, tolerance_change=0.0)

    def closure():
        optimizer.zero_grad()
        value = (w2 @ w1 - target).square().sum() / 2 + RIDGE / 2 * (w1.square().sum() + w2.square().sum())
        value.backward()
        return value

    optimizer.step(closure)
    assert w1.norm() > 0.5
    assert_close(imbalance(w1, w2).detach(), torch.zeros(3, 3), 1e-6)


def test_containment():
    w1, w2 = weights(19)
    outside = identity(3) - torch.linalg.pinv(w2) @ w2
    residual = (outside @ w1).square().sum()
    delta = imbalance(w1, w2)
    assert_close(residual, torch.trace(outside @ delta @ outside))
    assert residual <= torch.linalg.eigvalsh(delta).clamp(min=0).sum()


def test_angle_bound():
    for seed in range(20):
        a = gaussian(5, 5, seed=seed)
        a = a @ a.mT
        noise = 0.1 * gaussian(5, 5, seed=seed + 100)
        b = a + noise + noise.mT
        (values, u), (_, v) = torch.linalg.eigh(a), torch.linalg.eigh(b)
        u, v = u[:, -2:], v[:, -2:]
        sine = (2 - (u.mT @ v).square().sum()).clamp(min=0).sqrt()
        assert sine <= math.sqrt(2) * (a - b).norm() / (values[-2] - values[-3])


def test_angle_bound_is_sharp():
    """A projector onto k axes and half of the projector onto these and k others, which lead as well as any."""
    for k, d in ((1, 2), (2, 5)):
        a, b = torch.zeros(d, d, dtype=torch.float64), torch.zeros(d, d, dtype=torch.float64)
        a[range(k), range(k)], b[range(2 * k), range(2 * k)] = 1, 0.5
        assert_close(math.sqrt(2) * (a - b).norm(), math.sqrt(k))  # all k angles are right ones, the gap is 1


def test_no_signal():
    w1, w2 = weights(21)
    shrunk = imbalance(math.exp(-RIDGE) * w1, math.exp(-RIDGE) * w2)
    assert_close(shrunk / (math.exp(-2 * RIDGE) * (w1 @ w1.mT).norm()), imbalance(w1, w2) / (w1 @ w1.mT).norm())


def test_stacked_recursion():
    step, (w1, w2), loss = 0.05, weights(23), linear_loss(25)
    g1, g2 = gradients(loss, w1, w2)
    (g,) = gradients(lambda product: loss(product, identity(2)), w2 @ w1)
    stacked = torch.cat([w1, w2.mT], dim=1)
    following = (1 - step * RIDGE) * stacked - step * torch.cat([g1, g2.mT], dim=1)
    coupling = torch.zeros(6, 6, dtype=torch.float64)
    coupling[4:, :4], coupling[:4, 4:] = g, g.mT
    assert_close(following, stacked @ ((1 - step * RIDGE) * identity(6) - step * coupling))
    rates = torch.linalg.eigvalsh((1 - step * RIDGE) * identity(6) - step * coupling)
    assert_close(rates[-2:], (1 - step * (RIDGE - torch.linalg.svdvals(g))).flip(0))


def test_noise_keeps_balance():
    """Balanced start, gradient noise of mean zero: the mean imbalance after a step is not zero."""
    start = frame(3, 3, seed=27)
    noise = gaussian(3, 3, seed=28)
    after = [imbalance(start - 0.1 * start.mT @ g, start - 0.1 * g @ start.mT) for g in (noise, -noise)]
    assert_close(imbalance(start, start), torch.zeros(3, 3))
    assert sum(after).norm() > 1e-2
    moved = start - 0.1 * start.mT @ noise
    assert bracket(moved @ moved.mT, moved.mT @ moved).norm() > 1e-3
