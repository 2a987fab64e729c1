"""Seeded random matrices for the numeric spot checks, and derivatives by torch itself."""

import math

import torch

TOLERANCE = 1e-9
DRAWS = 40_000


def gaussian(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def identity(n):
    return torch.eye(n, dtype=torch.float64)


def orthogonal(n, *, seed):
    return torch.linalg.qr(gaussian(n, n, seed=seed)).Q


def frame(n, k, *, seed):
    return orthogonal(n, seed=seed)[:, :k]


def haar_orthogonal(draws, n, *, seed):
    """Uniform orthogonal matrices: QR with the signs of the diagonal of R taken out."""
    q, r = torch.linalg.qr(gaussian(draws, n, n, seed=seed))
    return q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)


def bracket(left, right):
    return left @ right - right @ left


def imbalance(w1, w2):
    return w1 @ w1.mT - w2.mT @ w2


def assert_close(left, right, tolerance=TOLERANCE):
    left, right = (torch.as_tensor(side, dtype=torch.float64) for side in (left, right))
    scale = 1 + right.abs().max()
    assert (left - right).abs().max() <= tolerance * scale, f"{left} is not {right}"


def gradients(loss, *weights):
    """Gradient of a scalar loss by every weight, computed by autograd."""
    leaves = [weight.clone().requires_grad_() for weight in weights]
    return torch.autograd.grad(loss(*leaves), leaves)


def ridge_flow(loss, *weights, ridge):
    """Right-hand side of gradient flow with ridge: minus the gradient of loss + (ridge / 2) |W|^2."""
    return [-gradient - ridge * weight for gradient, weight in zip(gradients(loss, *weights), weights, strict=True)]


def rate(function, weights, rates, step=1e-6):
    """Central difference of a function along the rates."""
    forward = function(*(w + step * r for w, r in zip(weights, rates, strict=True)))
    backward = function(*(w - step * r for w, r in zip(weights, rates, strict=True)))
    return (forward - backward) / (2 * step)


def within_noise(samples, expected, deviations=5):
    """The sample mean agrees with the expected one to a few of its own standard errors."""
    error = samples.std() / math.sqrt(len(samples))
    assert abs(samples.mean() - expected) <= deviations * error
