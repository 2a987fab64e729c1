"""Which activations commute with rotations, and which with permutations alone."""

import pytest
import torch

from flaggeo.training.activations import ACTIVATIONS, bounded_radial, radial
from manifolds import orthonormalize


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_only_the_linear_and_radial_ones_commute_with_a_rotation(name):
    activation, rotation = ACTIVATIONS[name], orthonormalize(gaussian(5, 5))
    signal = gaussian(3, 7, 5, seed=1)
    difference = (activation(signal @ rotation) - activation(signal) @ rotation).abs().max()
    assert (difference < 1e-12) == (name in ("linear", "radial", "bounded-radial"))


def test_radial_activations_have_the_length_that_their_name_says():
    signal = gaussian(6, 4)
    length = signal.norm(dim=-1)
    assert torch.allclose(radial(signal).norm(dim=-1), length * torch.tanh(length))
    assert torch.allclose(bounded_radial(signal).norm(dim=-1), torch.tanh(length))


@pytest.mark.parametrize("activation", [radial, bounded_radial])
def test_a_zero_signal_stays_zero_and_has_a_gradient(activation):
    signal = torch.zeros(2, 3, requires_grad=True)
    found = activation(signal)
    (gradient,) = torch.autograd.grad(found.sum(), signal)
    assert found.abs().max() == 0
    assert gradient.isfinite().all()


def test_leaky_relu_keeps_three_tenths_below_zero():
    assert ACTIVATIONS["leaky-relu"](torch.tensor([-10.0, 10.0])).tolist() == [-3, 10]
