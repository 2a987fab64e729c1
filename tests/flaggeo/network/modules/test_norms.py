"""Norms by the function that is called, and by what a module computes."""

import pytest
import torch
from torch import nn

from flaggeo.network.modules.linear_maps import Parameters
from flaggeo.network.modules.norms import may_be_norms, norm_of_call, norm_of_module
from flaggeo.network.modules.steps import Norm
from tests.flaggeo.network.modules.models import Rms, seeded


class Center(nn.Module):
    """A layer norm written out, with gains of its own name."""

    def __init__(self, width):
        super().__init__()
        self.gamma, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))

    def forward(self, x):
        centred = x - x.mean(-1, keepdim=True)
        return self.gamma * centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt() + self.bias


class Shift(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return x * self.weight


class HalfNorm(Shift):
    """Called a norm, and none."""


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (seeded(Rms, 8), Norm("rms", 8, "own.weight")),
        (seeded(Rms, 8, offset=1.0), Norm("rms", 8, "own.weight", 1.0)),
        (seeded(Center, 8), Norm("layer", 8, "own.gamma")),
        (seeded(Shift, 8), None),
        (seeded(HalfNorm, 8), Norm("unknown", 8)),
        (seeded(nn.PReLU, 8), None),
    ],
)
def test_norms_of_ones_own_are_known_by_what_they_compute(module, expected):
    with torch.no_grad():
        assert norm_of_module("own", module) == expected


def test_only_modules_of_vectors_with_nothing_inside_may_be_norms():
    module = nn.ModuleDict({"a": Rms(4), "b": nn.Linear(3, 3), "c": nn.Sequential(Rms(4)), "d": nn.ReLU()})
    assert [name for name, _ in may_be_norms(module)] == ["a", "c.0"]


def test_functions_of_torch_say_what_they_normalise():
    module = nn.ModuleDict({"layer": nn.LayerNorm(6), "batch": nn.BatchNorm2d(5, eps=0.1), "group": nn.GroupNorm(2, 6)})
    parameters = Parameters(module)
    layer, batch, group = module.values()
    tokens, image = torch.zeros(2, 3, 6), torch.zeros(2, 5, 4, 4)
    assert norm_of_call(parameters, "layer_norm", (tokens, (6,), layer.weight), {}) == Norm("layer", 6, "layer.weight")
    arguments = (image, batch.running_mean, batch.running_var, batch.weight, batch.bias, False, 0.1, batch.eps)
    expected = Norm("batch", 5, "batch.weight", variance="batch.running_var", epsilon=0.1)
    assert norm_of_call(parameters, "batch_norm", arguments, {}) == expected
    named = {"weight": group.weight}
    assert norm_of_call(parameters, "group_norm", (torch.zeros(2, 6, 4), 2), named) == Norm("group", 6, "group.weight")
    assert norm_of_call(parameters, "layer_norm", (tokens, (3, 6), torch.ones(3, 6)), {}) == Norm("unknown", 18)
    assert norm_of_call(parameters, "normalize", (tokens,), {}) == Norm("rms", 6)
    assert norm_of_call(parameters, "relu", (tokens,), {}) is None
