"""What modules say of their spaces against two other witnesses: a library for pruning, and labels on activations."""

import pytest
import torch
from torch import nn

from flaggeo.network import Side
from flaggeo.network.families.derivation.flow import Flow
from flaggeo.network.families.derivation.norms import norm_modules
from flaggeo.network.modules.wiring import find_wiring
from tests.flaggeo.network.modules.models import MODULES, transformers_vision

pytestmark = pytest.mark.filterwarnings("ignore")


def build(name):
    return transformers_vision(name[3:]) if name.startswith("hf_") else MODULES[name]()


def spaces(module, example):
    """Ends of every space, by tensor and side."""
    found = find_wiring(module, ((example,), {}))
    return [{(end.map.tensor, end.side) for end in space.ends} for space in found.coupled]


@pytest.mark.parametrize("name", ["mlp", "resnet", "hf_resnet"])
def test_layers_of_one_space_are_pruned_together(name):
    """Torch-Pruning follows the graph of gradients, and knows which channels go when one of a layer does."""
    pruning = pytest.importorskip("torch_pruning")
    module, example = build(name)
    graph = pruning.DependencyGraph().build_dependency(module, example, verbose=False)
    layers = {
        f"{name}.weight": layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    names = {layer: name for name, layer in layers.items()}
    found, checked = spaces(module, example), 0
    for name, layer in layers.items():
        prune = graph.get_pruner_of_module(layer).prune_out_channels
        group = set()
        for dependency, _ in graph.get_pruning_group(layer, prune, [0]):
            if dependency.target.module in names:
                side = Side.WRITE if graph.is_out_channel_pruning_fn(dependency.handler) else Side.READ
                group.add((names[dependency.target.module], side))
        assert next(space for space in found if (name, Side.WRITE) in space) == group
        checked += len(group)
    assert checked > len(layers)


@pytest.mark.parametrize("name", ["mlp", "gpt", "rotary", "routed", "hf_convnext", "hf_vit"])
def test_labels_on_activations_tell_the_same_spaces(name):
    """What is derived for the table of families: which row of which weight wrote every number."""
    module, example = build(name)
    found = spaces(module, example)
    flow = Flow(module, {norm.name: norm.gain for norm in norm_modules(module)})
    with torch.no_grad(), flow:
        module(example)
    trace, read, written = flow.trace, {}, {}
    for product in trace.products:
        tensor, _ = trace.parameter_at(float(product.elements.flatten()[0]))
        written.setdefault(tensor, set()).update(trace.axes.roots(product.writes))
        if product.reads is not None and bool((product.reads > 0).all()):
            read.setdefault(tensor, set()).update(trace.axes.roots(product.reads))
    # Of a gated hidden layer, what multiplies it has labels of its own.
    gates = [[trace.axes.roots(side.entries) for side in (gating.left, gating.right)] for gating in trace.gatings]
    labelled = {root for roots in written.values() for root in roots}
    for reader, roots in read.items():
        if roots <= labelled:  # what no weight wrote, such as what an attention mixes, is no space of two weights
            roots = roots.union(*(one | other for one, other in gates if roots & (one | other)))
            expected = {tensor for tensor, own in written.items() if own & roots}
            space = next((space for space in found if (reader, Side.READ) in space), set())
            assert {tensor for tensor, side in space if side is Side.WRITE} == expected, reader
    assert len(read) >= 3
