"""What activations pass in a forward pass, noted in its order."""

import pytest
import torch
from torch import nn

from flaggeo.network.modules.linear_maps import Parameters
from flaggeo.network.modules.recording import record
from flaggeo.network.modules.running import evaluating
from flaggeo.network.modules.steps import Filter, Function, Gate, Norm, Scale
from tests.flaggeo.network.modules.models import MODULES


def recorded(name):
    module, example = MODULES[name]()
    places = example if isinstance(example, tuple) else (example,)
    with evaluating(module):
        recording = record(module, (places, {}), Parameters(module))
    return recording, {one.tensor: one for one in recording.maps}


def test_steps_between_a_map_and_the_next_sum_or_map():
    recording, maps = recorded("resnet")
    batch = Norm("batch", 8, "layer1.0.bn2.weight", variance="layer1.0.bn2.running_var", epsilon=1e-5)
    assert recording.written_through[maps["layer1.0.conv2.weight"]] == (batch,)
    path = recording.read_through[maps["layer1.1.conv1.weight"]]
    assert (path.steps, path.summed) == ((Function("relu"),), True)
    assert path.origins == {maps["conv1.weight"], maps["layer1.0.conv2.weight"]}
    assert recording.read_through[maps["layer1.0.conv1.weight"]].steps[1:] == (Function("relu"), Function("max_pool"))
    assert {steps for _, steps in recording.on_stream} == {(Function("relu"),)}
    assert maps["layer1.0.conv1.weight"] not in recording.added
    assert [one.tensor for one in recording.maps][:3] == [
        "conv1.weight",
        "layer1.0.conv1.weight",
        "layer1.0.conv2.weight",
    ]


def test_filters_gates_and_scales():
    recording, maps = recorded("inverted")
    kinds = [type(step) for step in recording.read_through[maps["blocks.0.project.weight"]].steps]
    assert kinds == [Norm, Function, Filter, Function]
    assert recording.filters == {f"blocks.{number}.depthwise.weight": 13 + number for number in range(3)}
    assert recording.written_through[maps["blocks.0.project.weight"]][-1] == Gate()
    assert recording.uses["blocks.0.bn.running_var"] == {"batch_norm"}

    module = nn.Sequential(nn.Linear(3, 4), Times(4), nn.Linear(4, 2))
    with evaluating(module):
        recording = record(module, ((torch.zeros(2, 3),), {}), Parameters(module))
    (first, *_) = recording.maps
    assert recording.written_through[first] == (Scale("1.gamma"),)


class Times(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width, 1))

    def forward(self, x):
        return (x.mT * self.gamma).mT


def test_norms_of_ones_own_are_one_step():
    recording, maps = recorded("rotary")
    norm = Norm("rms", 16, "layers.1.before.weight", 1.0)
    assert recording.own_norms["layers.1.before"] == norm
    assert recording.read_through[maps["layers.1.wq.weight"]].steps == (norm,)
    gate, up = (recording.written_through[maps[f"layers.0.{name}.weight"]] for name in ("w1", "w3"))
    assert gate == up == (Function("silu"), Gate())


def test_what_multiplies_all_channels_alike_is_no_gate():
    recording, maps = recorded("routed")
    assert recording.written_through[maps["blocks.0.experts.1.fc2.weight"]] == ()
    assert maps["blocks.0.experts.1.fc2.weight"] in recording.added


def test_attentions_are_four_maps_with_heads():
    recording, maps = recorded("seq2seq")
    output = maps["decoder.layers.0.multihead_attn.out_proj.weight"]
    *projections, count = recording.heads[output]
    assert count == 2
    assert [one.rows for one in projections] == [(0, 16), (16, 32), (32, 48)]
    memory = recording.read_through[projections[1]].origins
    assert {one.tensor for one in memory} >= {"source.weight", "encoder.layers.1.linear2.weight"}


@pytest.mark.parametrize("name", ["gpt", "resnet"])
def test_recording_computes_what_the_module_does(name):
    module, example = MODULES[name]()
    with evaluating(module):
        expected = module(example)
        recording = record(module, ((example,), {}), Parameters(module))
    torch.testing.assert_close(recording.outputs[0][0], expected)
