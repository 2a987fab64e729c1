import itertools

import torch

from tests.proofs.builders import assert_close, bracket, gaussian, imbalance, rate, ridge_flow

RIDGE = 0.3
NUMERIC = 1e-6


def sample(activation, seed, bias=None):
    """One sample through W_2 activation(W_1 x + bias): weights, flow, gate, a, b and h, all by autograd."""
    w1, w2, x = gaussian(4, 3, seed=seed), gaussian(2, 4, seed=seed + 1), gaussian(3, 1, seed=seed + 2)
    a = (w1 @ x + (0 if bias is None else bias)).requires_grad_()
    h = activation(a)
    gate = torch.diag(torch.autograd.grad(h.sum(), a)[0].flatten())
    output = (w2 @ h).detach().requires_grad_()
    (delta,) = torch.autograd.grad(torch.logsumexp(output, 0).sum(), output)

    def loss(w1, w2, *shift):
        return torch.logsumexp(w2 @ activation(w1 @ x + sum(shift)), 0).sum()

    return w1, w2, loss, gate, a.detach(), w2.mT @ delta, h.detach()


def commutator(gate, a, b):
    return bracket(gate, a @ b.mT - b @ a.mT)


def test_gate_law():
    for activation in (torch.relu, lambda x: torch.nn.functional.leaky_relu(x, 0.3), torch.abs):
        w1, w2, loss, gate, a, b, _ = sample(activation, 0)
        measured = rate(imbalance, (w1, w2), ridge_flow(loss, w1, w2, ridge=RIDGE))
        assert_close(measured, -2 * RIDGE * imbalance(w1, w2) + commutator(gate, a, b), NUMERIC)


def test_smooth_gate_law():
    for activation in (torch.tanh, torch.nn.functional.gelu, torch.nn.functional.silu):
        w1, w2, loss, gate, a, b, h = sample(activation, 3)
        e = h - gate @ a
        measured = rate(imbalance, (w1, w2), ridge_flow(loss, w1, w2, ridge=RIDGE))
        expected = -2 * RIDGE * imbalance(w1, w2) + commutator(gate, a, b) + e @ b.mT + b @ e.mT
        assert_close(measured, expected, NUMERIC)


def test_gate_law_with_bias():
    bias = gaussian(4, 1, seed=6)
    w1, w2, loss, gate, a, b, _ = sample(torch.relu, 7, bias)

    def delta(w1, w2, bias):
        return imbalance(w1, w2) + bias @ bias.mT

    measured = rate(delta, (w1, w2, bias), ridge_flow(loss, w1, w2, bias, ridge=RIDGE))
    assert_close(measured, -2 * RIDGE * delta(w1, w2, bias) + commutator(gate, a, b), NUMERIC)


def test_balance_per_neuron():
    w1, w2, loss, *_ = sample(torch.relu, 10)
    measured = rate(imbalance, (w1, w2), ridge_flow(loss, w1, w2, ridge=RIDGE))
    assert_close(measured.diagonal(), -2 * RIDGE * imbalance(w1, w2).diagonal(), NUMERIC)


def test_gate_commutator_entries():
    gate, a, b = gaussian(5, seed=13), gaussian(5, 1, seed=14), gaussian(5, 1, seed=15)
    entries = (gate[:, None] - gate[None, :]) * (a * b.mT - b * a.mT)
    assert_close(commutator(torch.diag(gate), a, b), entries)


def test_obstruction_bound():
    for seed in range(20):
        gate, a, b = gaussian(5, seed=seed), gaussian(5, 1, seed=seed + 30), gaussian(5, 1, seed=seed + 60)
        area = a.square().sum() * b.square().sum() - (a.mT @ b).square().sum()
        assert commutator(torch.diag(gate), a, b).norm() <= (gate.max() - gate.min()) * (2 * area).sqrt() + 1e-12


def single_neuron_imbalance(activation):
    """w_1^2 - w_2^2 where one neuron, one sample and ridge 0.1 have come to rest; the bound is 0 for one gate."""
    w1, w2 = (torch.tensor(start, dtype=torch.float64, requires_grad=True) for start in (1.5, 0.5))
    optimizer = torch.optim.LBFGS([w1, w2], max_iter=500, tolerance_grad=1e-12, tolerance_change=0.0)

    def closure():
        optimizer.zero_grad()
        value = (w2 * activation(w1) - 0.9) ** 2 / 2 + 0.05 * (w1**2 + w2**2)
        value.backward()
        return value

    optimizer.step(closure)
    assert max(w1.grad.abs(), w2.grad.abs()) < 1e-8
    assert w1.abs() > 0.1
    return (w1**2 - w2**2).detach()


def test_obstruction_bound_is_for_homogeneous_activations():
    assert_close(single_neuron_imbalance(torch.relu), 0, 1e-6)
    assert single_neuron_imbalance(torch.tanh).abs() > 0.1


def test_stationary_imbalance():
    """Train a small tanh network to stationarity; no symbol of the proof enters."""
    x, y, start = gaussian(3, 12, seed=16), gaussian(2, 12, seed=17), (gaussian(4, 3, seed=18), gaussian(2, 4, seed=19))
    w1, w2 = (w.requires_grad_() for w in start)
    optimizer = torch.optim.LBFGS(
        [w1, w2], max_iter=3000, line_search_fn="strong_wolfe", tolerance_grad=1e-10, tolerance_change=0.0
    )

    def closure():
        optimizer.zero_grad()
        fit = (w2 @ torch.tanh(w1 @ x) - y).square().sum() / 24
        value = fit + 0.01 * (w1.square().sum() + w2.square().sum())
        value.backward()
        return value

    optimizer.step(closure)
    w1, w2 = w1.detach(), w2.detach()
    obstruction = torch.zeros(4, 4, dtype=torch.float64)
    for k in range(12):
        a = w1 @ x[:, k : k + 1]
        gate, e = torch.diag((1 - torch.tanh(a) ** 2).flatten()), torch.tanh(a) - (1 - torch.tanh(a) ** 2) * a
        b = w2.mT @ (w2 @ torch.tanh(a) - y[:, k : k + 1])
        obstruction += (commutator(gate, a, b) + e @ b.mT + b @ e.mT) / 12
    assert imbalance(w1, w2).norm() > 1e-2
    assert_close(2 * 0.02 * imbalance(w1, w2), obstruction, 1e-7)


def test_mask_commutator():
    gram, mask = gaussian(5, 5, seed=20), torch.diag(torch.tensor([1.0, 0, 1, 1, 0], dtype=torch.float64))
    gram = gram @ gram.mT
    inside, outside = [0, 2, 3], [1, 4]
    block = gram[inside][:, outside]
    assert_close(bracket(mask, gram).square().sum(), 2 * block.square().sum())
    gated = bracket(mask @ gram @ mask, gram)[inside][:, outside]
    assert_close(gated, gram[inside][:, inside] @ block)


def test_mask_codimension():
    mask = torch.diag(torch.tensor([1.0, 1, 0, 0, 0], dtype=torch.float64))
    images = []
    for seed in range(30):
        symmetric = gaussian(5, 5, seed=seed)
        images.append(bracket(mask, symmetric + symmetric.mT).flatten())
    assert torch.linalg.matrix_rank(torch.stack(images)) == 2 * 3


def test_independent_gates():
    gram, q = gaussian(4, 4, seed=21), 0.3
    gram = gram @ gram.mT
    mean = torch.zeros((), dtype=torch.float64)
    for gates in itertools.product((0.0, 1.0), repeat=4):
        gate = torch.tensor(gates, dtype=torch.float64)
        mean += (q * gate + (1 - q) * (1 - gate)).prod() * bracket(torch.diag(gate), gram).square().sum()
    off_diagonal = gram.square().sum() - gram.diagonal().square().sum()
    assert_close(mean, 2 * q * (1 - q) * off_diagonal)
