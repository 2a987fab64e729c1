import math

import torch

from tests.proofs.builders import assert_close, gaussian, rate, ridge_flow

RIDGE = 0.3
NUMERIC = 1e-6


def attention(query, key, *, seed, between=None):
    """A loss behind softmax attention with the given queries and keys."""
    inputs = gaussian(5, 4, seed=seed)
    logits = inputs @ query.mT @ (key if between is None else between @ key) @ inputs.mT
    return (torch.softmax(logits, dim=-1) @ inputs).pow(3).sum()


def head_rates(loss, *weights):
    return ridge_flow(loss, *weights, ridge=RIDGE)


def test_head_balance():
    query, key = gaussian(2, 4, seed=0), gaussian(2, 4, seed=1)

    def delta(q, k):
        return q @ q.mT - k @ k.mT

    rates = head_rates(lambda q, k: attention(q, k, seed=2), query, key)
    assert_close(rate(delta, (query, key), rates), -2 * RIDGE * delta(query, key), NUMERIC)


def test_grouped_query_balance():
    heads = gaussian(2, 4, seed=3), gaussian(2, 4, seed=4), gaussian(2, 4, seed=5)

    def delta(q1, q2, k):
        return q1 @ q1.mT + q2 @ q2.mT - k @ k.mT

    rates = head_rates(lambda q1, q2, k: attention(q1, k, seed=6) + attention(q2, k, seed=7), *heads)
    assert_close(rate(delta, heads, rates), -2 * RIDGE * delta(*heads), NUMERIC)


def rotary(angle):
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)


def rotary_rates(seed):
    query, key = gaussian(2, 4, seed=seed), gaussian(2, 4, seed=seed + 1)

    def delta(q, k):
        return q @ q.mT - k @ k.mT

    rates = head_rates(lambda q, k: attention(q, k, seed=seed + 2, between=rotary(0.8)), query, key)
    return rate(delta, (query, key), rates), delta(query, key)


def test_rope_trace_balance():
    measured, delta = rotary_rates(8)
    assert_close(measured.trace(), -2 * RIDGE * delta.trace(), NUMERIC)


def test_rope_imbalance():
    measured, delta = rotary_rates(8)
    assert (measured + 2 * RIDGE * delta).norm() > 1e-2


def test_residual_stream_balance():
    """Two blocks write a linear stream that two blocks read."""
    weights = gaussian(3, 2, seed=12), gaussian(3, 2, seed=13), gaussian(2, 3, seed=14), gaussian(2, 3, seed=15)
    x, y = gaussian(2, 6, seed=16), gaussian(2, 6, seed=17)

    def loss(w1, w2, r1, r2):
        stream = w1 @ x + w2 @ y
        return torch.tanh(r1 @ stream).pow(2).sum() + torch.sin(r2 @ stream).sum()

    def delta(w1, w2, r1, r2):
        return w1 @ w1.mT + w2 @ w2.mT - r1.mT @ r1 - r2.mT @ r2

    rates = ridge_flow(loss, *weights, ridge=RIDGE)
    assert_close(rate(delta, weights, rates), -2 * RIDGE * delta(*weights), NUMERIC)


def test_convolution_balance():
    first, second = gaussian(3, 2, 3, seed=18), gaussian(2, 3, 3, seed=19)
    signal = gaussian(1, 2, 12, seed=20)

    def loss(w1, w2):
        hidden = torch.nn.functional.conv1d(signal, w1)
        return torch.nn.functional.conv1d(hidden, w2).tanh().pow(2).sum()

    def delta(w1, w2):
        return torch.einsum("aik,bik->ab", w1, w1) - torch.einsum("oak,obk->ab", w2, w2)

    rates = ridge_flow(loss, first, second, ridge=RIDGE)
    assert_close(rate(delta, (first, second), rates), -2 * RIDGE * delta(first, second), NUMERIC)


def test_normalised_weight_decay():
    weight, inputs = gaussian(1, 4, seed=21), gaussian(4, 30, seed=22)

    def loss(w):
        response = w @ inputs
        return torch.sin((response - response.mean()) / response.std()).pow(3).sum()

    rates = ridge_flow(loss, weight, ridge=RIDGE)
    measured = rate(lambda w: w.square().sum(), (weight,), rates)
    assert_close(measured, -2 * RIDGE * weight.square().sum(), NUMERIC)


def test_rotations_give_no_charge():
    theta, square = gaussian(5, seed=23), gaussian(5, 5, seed=24)
    assert_close(theta @ (square - square.mT) @ theta, 0)
