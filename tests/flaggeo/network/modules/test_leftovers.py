"""Why tensors are left out, and what is remarked."""

import pytest
import torch
from torch import nn

import flaggeo
from tests.flaggeo.network.modules.models import MODULES, images, seeded


class Everything(nn.Module):
    """One parameter of every kind."""

    def __init__(self):
        super().__init__()
        self.conv, self.depthwise = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 6, 3, groups=6)
        self.grouped, self.bn = nn.Conv2d(6, 6, 1, groups=2), nn.BatchNorm2d(6)
        self.scale, self.shift = nn.Parameter(torch.ones(6, 1, 1)), nn.Parameter(torch.ones(6, 1, 1))
        self.rnn, self.unused = nn.GRU(6, 5, batch_first=True), nn.Linear(6, 6)
        self.head, self.tied = nn.Linear(5, 4), nn.Linear(5, 4)
        self.tied.weight = self.head.weight
        self.norm = nn.LayerNorm(4)
        self.register_buffer("index", torch.arange(3))

    def forward(self, x):
        x = self.scale * self.grouped(self.depthwise(torch.relu(self.bn(self.conv(x))))) + self.shift
        x, _ = self.rnn(x.flatten(2).mT)
        return torch.relu(self.norm(self.tied(x) + self.head.bias))


@pytest.fixture(scope="module")
def found():
    return flaggeo.load(seeded(Everything), example=images(1, 3, 8, 8))


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        ("conv.bias", "bias: a translation"),
        ("depthwise.weight", "convolution in 6 groups"),
        ("grouped.weight", "convolution in 2 groups"),
        ("bn.weight", "folded into the weights beside it on request"),
        ("bn.running_var", "running mean or variance of a batch norm"),
        ("bn.num_batches_tracked", "a buffer"),
        ("scale", "not applied as a linear, convolution or embedding layer, but by mul"),
        ("shift", "added to activations"),
        ("rnn.weight_ih_l0", "not applied as a linear, convolution or embedding layer, but by gru"),
        ("unused.weight", "not used in the run on the example"),
        ("tied.weight", "the same tensor as 'head.weight'"),
        ("norm.weight", "folded into the weights beside it on request"),
        ("index", "a buffer"),
    ],
)
def test_every_tensor_that_no_weight_uses_has_its_reason(found, tensor, reason):
    assert reason in next(one.reason for one in found.skipped if one.tensor == tensor)


def test_ends_that_meet_no_other_weight_are_remarked(found):
    assert found.remarks[0].startswith("the structure was found by running the module")
    remarked = [remark for remark in found.remarks if "lies in a space of its own" in remark]
    assert [remark.split()[1] for remark in remarked] == ["conv_out:conv", "map:head"]


def test_projections_that_are_fused_are_remarked_once():
    module, example = MODULES["gpt"]()
    remarked = [remark for remark in flaggeo.load(module, example=example).remarks if "not told apart" in remark]
    assert len(remarked) == 1
    assert "in:qkv" in remarked[0]
    assert "in 3 layers" in remarked[0]
