import math

import torch

from tests.proofs.builders import assert_close, gaussian, imbalance


def flow(w1, w2, gradient, *, ridge, time, steps=800):
    """Gradient flow with ridge by the midpoint rule; `gradient` is dL/d(W_2 W_1) as a function of the product."""
    step = time / steps

    def rates(a, b):
        g = gradient(b @ a)
        return -b.mT @ g - ridge * a, -g @ a.mT - ridge * b

    for _ in range(steps):
        first = rates(w1, w2)
        middle = rates(w1 + step / 2 * first[0], w2 + step / 2 * first[1])
        w1, w2 = w1 + step * middle[0], w2 + step * middle[1]
    return w1, w2


def test_angle_decay():
    """A target of rank 1 above the ridge keeps a gap; the angle stays below the bound and closes at rate 2 lambda."""
    w1, w2 = gaussian(3, 2, seed=1), gaussian(2, 3, seed=2)
    target = torch.diag(torch.tensor([4.0, 0.0], dtype=torch.float64))
    ridge, start, sines = 0.5, imbalance(w1, w2).norm(), []
    for _ in range(4):
        w1, w2 = flow(w1, w2, lambda product: product - target, ridge=ridge, time=2.0)
        (values, u), (_, v) = (torch.linalg.eigh(gram) for gram in (w1 @ w1.mT, w2.mT @ w2))
        sines.append(float((1 - (u[:, -1] @ v[:, -1]) ** 2).clamp(min=0).sqrt()))
        bound = math.sqrt(2) * start * math.exp(-2 * ridge * 2 * len(sines)) / (values[-1] - values[-2])
        assert sines[-1] <= bound
    # Each stretch of 2 units of time takes e^(-2 lambda 2) = e^-2 off the angle.
    assert abs(sines[3] / sines[2] - math.exp(-2)) < 0.02


def test_containment_rate():
    """A second input that no gradient sees decays by e^(-lambda t), and the row space of W_2 stays."""
    w1 = torch.tensor([[1.0, 0.0], [0.0, 2.0]], dtype=torch.float64)
    w2 = torch.tensor([[1.5, 0.0]], dtype=torch.float64)
    seen = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    ended, row = flow(w1, w2, lambda product: (product - 3) * seen, ridge=0.3, time=4.0)
    assert_close(ended[1, 1], 2 * math.exp(-0.3 * 4), 1e-6)
    assert_close(row[0, 1], 0.0)
