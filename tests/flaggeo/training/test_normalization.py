"""What normalisations do to a signal, and which commute with rotations."""

import pytest
import torch

from flaggeo.training.normalization import NORMS
from manifolds import orthonormalize


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("name", NORMS)
def test_mean_square_and_mean(name):
    found = NORMS[name](gaussian(2, 5, 8) + 3, None, None)
    assert torch.allclose(found.square().mean(dim=-1), torch.ones(2, 5, dtype=torch.float64), atol=1e-4)
    assert (found.mean(dim=-1).abs().max() < 1e-12) == NORMS[name].centred


def test_gain_and_bias_belong_to_each_run():
    gain, bias = torch.tensor([1.0, 2.0]).view(2, 1, 1), torch.tensor([0.0, 5.0]).view(2, 1, 1)
    signal = gaussian(1, 4, 3).float().expand(2, 4, 3)
    found = NORMS["layernorm"](signal, gain, bias)
    assert torch.allclose(found[1], 2 * found[0] + 5)


@pytest.mark.parametrize(("name", "commutes"), [("rmsnorm-no-gain", True), ("layernorm-no-affine", False)])
def test_only_rmsnorm_without_gain_commutes_with_rotations(name, commutes):
    rotation, signal = orthonormalize(gaussian(6, 6)), gaussian(1, 4, 6, seed=1)
    norm = NORMS[name]
    difference = (norm(signal @ rotation, None, None) - norm(signal, None, None) @ rotation).abs().max()
    assert (difference < 1e-12) == commutes
