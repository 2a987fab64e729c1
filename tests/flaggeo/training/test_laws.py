"""The laws against closed forms, brute force over samples, and the derivatives that autograd gives."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flaggeo.training.laws import decay_rate, imbalance, obstructions, outside, ridge_gradient_norm
from flaggeo.training.models import Chain
from flaggeo.training.run import Recipe, train
from flaggeo.training.tasks import gaussian_classes, teacher_regression
from manifolds import orthonormalize

SEEDS = (1, 2)
SMOOTH, HOMOGENEOUS = ("tanh", "gelu", "silu"), ("linear", "relu", "leaky-relu")


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(model, parameters, task):
    weights = {name: weight.requires_grad_() for name, weight in parameters.items()}
    found = torch.autograd.grad(task.loss(model(weights, task.inputs), task.targets).sum(), list(weights.values()))
    return dict(zip(weights, found, strict=True))


def test_without_a_gradient_ridge_alone_moves_the_imbalance():
    """Inputs of zero: Delta_t = (1 - eta lambda)^(2t) Delta_0, to rounding."""
    chain, task = Chain((16, 6, 4), (1.0, 0.7)), teacher_regression(SEEDS, "linear")
    task.inputs.zero_()
    history = train(chain, task, Recipe(50, 0.1, ridge=0.3), SEEDS, recorded=range(0, 50, 10))
    deltas = {step: imbalance(kept["W1"], kept["W2"]) for step, kept in history.snapshots.items()}
    for step, delta in deltas.items():
        assert torch.allclose(delta, (1 - 0.03) ** (2 * step) * deltas[0], rtol=1e-11)


@pytest.mark.parametrize("place", [0, 1])
def test_one_step_of_a_deep_linear_network_obeys_the_step_law(place):
    """Delta+ = (1 - eta lambda)^2 Delta + eta^2 (g_1 g_1^T - g_2^T g_2) with the gradients of the two weights."""
    eta, ridge = 0.05, 0.4
    chain, task = Chain((16, 6, 5, 4), (1.0, 1.0, 0.7)), teacher_regression(SEEDS, "relu")
    history = train(chain, task, Recipe(1, eta, ridge=ridge), SEEDS)
    one, other = chain.names[place : place + 2]
    slopes = gradients(chain, chain.initial(SEEDS), task)
    before, after = (imbalance(kept[one], kept[other]) for kept in (history.first, history.last))
    expected = (1 - eta * ridge) ** 2 * before + eta**2 * imbalance(slopes[one], slopes[other])
    assert torch.allclose(after, expected, rtol=1e-10, atol=1e-13)


@given(st.floats(1e-4, 1e-1), st.floats(0.1, 10))
@settings(max_examples=30)
def test_the_fitted_rate_is_the_planted_one(rate, size):
    steps = list(range(0, 100, 7))
    sizes = size * torch.exp(-rate * torch.tensor(steps, dtype=torch.float64))
    assert decay_rate(steps, sizes).item() == pytest.approx(rate, rel=1e-9)


def test_outside_is_the_planted_part():
    axes = orthonormalize(gaussian(6, 6))
    second = gaussian(3, 3, seed=1) @ axes[:, :3].mT
    first = axes[:, :4] @ torch.diag(torch.tensor([9.0, 8.0, 7.0, 2.5], dtype=torch.float64))
    assert outside(first, second).item() == pytest.approx(2.5)
    assert outside(first, gaussian(6, 6)).isnan()


TASKS = {"regression": lambda: teacher_regression(SEEDS, "relu"), "classes": lambda: gaussian_classes(SEEDS)}


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", [*SMOOTH, *HOMOGENEOUS])
def test_obstructions_are_what_ridge_is_not(activation, task):
    """The derivative of the imbalance along the gradient, by autograd alone."""
    chain, task = Chain((16, 7, 5, 4), (1.0, 1.0, 0.7), activation), TASKS[task]()
    parameters = chain.initial(SEEDS)
    slopes = gradients(chain, parameters, task)
    for place, found in enumerate(obstructions(chain, parameters, task)):
        one, other = chain.names[place : place + 2]
        rising, falling = -slopes[one] @ parameters[one].mT, -parameters[other].mT @ slopes[other]
        expected = rising + rising.mT - falling - falling.mT
        assert torch.allclose(found.whole, expected, atol=1e-12)
        assert (found.remainder.abs().max() < 1e-12) == (activation in HOMOGENEOUS)
        diagonal = found.commutator.diagonal(dim1=-2, dim2=-1)
        assert diagonal.abs().max() < 1e-12


def test_the_commutator_is_the_mean_over_samples():
    chain, task = Chain((16, 5, 4), (1.0, 0.7), "tanh"), teacher_regression([1], "relu", count=6)
    parameters = chain.initial([1])
    first, second = parameters["W1"][0], parameters["W2"][0]
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for x, y in zip(task.inputs[0], task.targets[0], strict=True):
        a = first @ x
        b = second.T @ (second @ torch.tanh(a) - y)
        gates, skew = torch.diag(1 - torch.tanh(a) ** 2), torch.outer(a, b) - torch.outer(b, a)
        expected += (gates @ skew - skew @ gates) / 6
    (found,) = obstructions(chain, parameters, task)
    assert torch.allclose(found.commutator[0], expected)


def test_the_gradient_with_ridge_vanishes_where_training_has_come_to_rest():
    chain, task = Chain((16, 5, 4), (1.0, 0.7)), teacher_regression(SEEDS, "linear")
    history = train(chain, task, Recipe(1000, 0.2, ridge=0.1), SEEDS)
    assert (ridge_gradient_norm(chain, history.first, task, 0.1) > 0.1).all()
    assert (ridge_gradient_norm(chain, history.last, task, 0.1) < 1e-6).all()
    assert imbalance(history.last["W1"], history.last["W2"]).abs().max() < 1e-6
