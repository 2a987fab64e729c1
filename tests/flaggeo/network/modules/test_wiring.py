"""The spaces of modules against the modules themselves: a change of basis in one space changes no output."""

import copy

import pytest
import torch
from torch.func import functional_call

from flaggeo.network import Side, Symmetry
from flaggeo.network.modules import wiring as wiring_module
from flaggeo.network.modules.steps import Filter, Function, Norm, Scale
from flaggeo.network.modules.wiring import ImpatientError, find_wiring
from tests.flaggeo.network.modules.models import MODULES, Shuffled, images, seeded, transformers_vision

transformers = pytest.importorskip("transformers")

VISION = ("resnet", "convnext", "vit", "swin")


def build(name):
    module, example = transformers_vision(name[3:]) if name.startswith("hf_") else MODULES[name]()
    return module.double(), double(example)


def double(example):
    if isinstance(example, tuple):
        return tuple(map(double, example))
    return example.double() if example.is_floating_point() else example


def arguments(example):
    return example if isinstance(example, tuple) else (example,)


def outputs(found):
    if isinstance(found, torch.Tensor):
        return [found]
    return [tensor for item in (found.values() if hasattr(found, "values") else found) for tensor in outputs(item)]


def run(module, example, tensors):
    with torch.no_grad():
        return outputs(functional_call(module, tensors, arguments(example)))


def difference(one, other):
    return max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(one, other, strict=True))


def reordered(module, space, order, *, sides=tuple(Side)):
    """Tensors of a module with the coordinates of one space in another order, at some of the sides."""
    tensors = {name: tensor.detach().clone() for name, tensor in [*module.named_parameters(), *module.named_buffers()]}
    beside, done = set(), set()
    for end in space.ends:
        tensor, one = tensors[end.map.tensor], end.map
        axis = (one.tensor, one.rows, (end.side is Side.WRITE) == one.transposed, end.pattern)
        if end.side not in sides:
            continue
        beside |= {(step, end.pattern.offset if end.side is Side.READ else 0) for step in end.steps}
        if axis in done:  # a table may be applied as a matrix too
            continue
        done.add(axis)
        if end.side is Side.WRITE:
            rows = tensor.movedim(1, 0) if one.transposed else tensor
            rows = rows if one.rows is None else rows[slice(*one.rows)]
            rows.copy_(rows[order].clone())
            bias = tensors.get(one.tensor.removesuffix("weight") + "bias")
            if bias is not None and one.rows is None and one.tensor.endswith("weight"):
                bias.copy_(bias[order].clone())
        else:
            rows = tensor if one.rows is None else tensor[slice(*one.rows)]
            columns = rows if one.transposed else rows.movedim(1, 0)
            pattern = end.pattern
            if pattern.positions > 1:
                shape = (pattern.positions, -1) if pattern.positions_first else (-1, pattern.positions)
                columns = columns.unflatten(0, shape)
                columns = columns.movedim(1, 0) if pattern.positions_first else columns
            columns = columns[pattern.offset : pattern.offset + len(order)]
            columns.copy_(columns[order].clone())
    beside |= {(step, 0) for step in space.on_the_way}
    for name in ADDED & tensors.keys() if space.is_sum else ():
        tensors[name].copy_(tensors[name][..., order].clone())
    for step, offset in beside:
        names = {step.tensor} if isinstance(step, Scale) else set()
        if isinstance(step, Norm | Filter):
            module_name = (step.gain if isinstance(step, Norm) else step.tensor).rpartition(".")[0]
            names = {name for name in tensors if name.rpartition(".")[0] == module_name and tensors[name].ndim}
        for name in names:
            part = tensors[name][offset : offset + len(order)]
            part.copy_(part[order].clone())
    return tensors


def is_values(space):
    """Whether attention lies between, which allows another order inside of each head alone."""
    steps = {step for end in space.ends for step in end.steps}
    return Function("scaled_dot_product_attention") in steps


# Parameters whose numbers stand beside the activations of a stream, or are added to them.
ADDED = {"position", "vit.embeddings.cls_token", "vit.embeddings.position_embeddings"}


# Without the one that applies a parameter in a way that is not known, and without Swin, whose norm over four positions
# reads the channels of its first stream too.
REORDERED = [name for name in MODULES if name != "raw"] + ["hf_resnet", "hf_convnext", "hf_vit"]


@pytest.mark.parametrize("name", REORDERED)
def test_the_order_of_the_coordinates_of_a_space_can_be_changed_at_all_its_ends_together(name):
    module, example = build(name)
    found = find_wiring(module, (arguments(example), {}))
    before = run(module, example, dict(module.named_parameters()))
    inner = [space for space in found.coupled if not space.is_data and not space.is_open and not is_values(space)]
    assert inner
    for number, space in enumerate(inner):
        order = torch.randperm(space.dim, generator=torch.Generator().manual_seed(number))
        assert difference(before, run(module, example, reordered(module, space, order))) < 1e-9, space
        for side in Side:
            alone = run(module, example, reordered(module, space, order, sides=(side,)))
            assert space.dim < 3 or difference(before, alone) > 1e-6, (side, space)


@pytest.mark.parametrize("name", ["mlp", "resnet", "hf_convnext", "hf_resnet"])
def test_no_smaller_set_of_ends_is_a_space(name):
    """With one end left out, another order of the coordinates changes what the module computes."""
    module, example = build(name)
    found = find_wiring(module, (arguments(example), {}))
    before = run(module, example, dict(module.named_parameters()))
    for space in found.coupled:
        for end in space.ends if space.dim > 2 and not space.is_data and not space.is_open else ():
            rest = copy.copy(space)
            object.__setattr__(rest, "ends", tuple(other for other in space.ends if other is not end))
            order = torch.arange(space.dim).roll(1)
            assert difference(before, run(module, example, reordered(module, rest, order))) > 1e-7, end


def ends(space):
    return {(end.map.tensor, end.side.value) for end in space.ends}


def sums(found):
    return [space for space in found.coupled if space.is_sum]


def found_in(name):
    module, example = build(name)
    return find_wiring(module, (arguments(example), {}))


def test_residual_additions_unite_spaces():
    found = found_in("resnet")
    first, second, *_ = sums(found)
    assert ends(first) == {
        ("conv1.weight", "write"),
        ("layer1.0.conv1.weight", "read"),
        ("layer1.0.conv2.weight", "write"),
        ("layer1.1.conv1.weight", "read"),
        ("layer1.1.conv2.weight", "write"),
        ("layer2.0.conv1.weight", "read"),
        ("layer2.0.down.0.weight", "read"),
    }
    assert ("layer2.0.down.0.weight", "write") in ends(second)
    assert len(sums(found)) == 4


@pytest.mark.parametrize("name", VISION)
def test_vision_models_of_transformers_have_their_residual_streams(name):
    found = found_in(f"hf_{name}")
    assert [space.dim for space in sums(found)] == {
        "resnet": [12, 16],
        "convnext": [8, 12],
        "vit": [16],
        "swin": [8, 16],
    }[name]
    for space in sums(found):
        written = {tensor.split(".")[-2] for tensor, side in ends(space) if side == "write"}
        assert (
            written
            >= {
                "resnet": {"convolution"},
                "convnext": {"pwconv2"},
                "vit": {"o_proj", "fc2"},
                "swin": {"o_proj", "fc2"},
            }[name]
        )


def symmetry(found, tensor, side):
    """Of the space that an end of a map lies in."""
    return next(space.symmetry for space in found.coupled if (tensor, side.value) in ends(space))


@pytest.mark.parametrize(
    ("name", "tensor", "expected", "assumed"),
    [
        ("mlp", "fc1.weight", Symmetry.SCALED_PERMUTATION, False),  # relu
        ("mlp", "fc2.weight", Symmetry.SIGNED_PERMUTATION, False),  # tanh
        ("mlp", "fc3.weight", Symmetry.PERMUTATION, False),  # gelu
        ("mlp", "fc4.weight", Symmetry.TRIVIAL, False),  # what the module returns
        ("resnet", "conv1.weight", Symmetry.SCALED_PERMUTATION, False),  # batch norms, relu and pooling
        ("resnet", "layer3.1.conv1.weight", Symmetry.SCALED_PERMUTATION, False),
        ("inverted", "blocks.0.expand.weight", Symmetry.SCALED_PERMUTATION, True),  # relu6 is not known
        ("gpt", "token.weight", Symmetry.ORTHOGONAL, False),  # layer norms before every read
        ("gpt", "blocks.1.fc1.weight", Symmetry.PERMUTATION, False),
        ("gpt", "blocks.1.qkv.weight", Symmetry.GENERAL_LINEAR, True),
        ("rotary", "token.weight", Symmetry.ORTHOGONAL, False),
        ("rotary", "layers.0.w1.weight", Symmetry.SCALED_PERMUTATION, False),  # of the gated hidden layer
        ("seq2seq", "encoder.layers.0.linear2.weight", Symmetry.PERMUTATION, False),  # norms on the stream
        ("autoencoder", "down1.weight", Symmetry.SCALED_PERMUTATION, False),
        ("hf_convnext", "convnext.encoder.stages.0.layers.0.pwconv2.weight", Symmetry.SIGNED_PERMUTATION, False),
        ("hf_vit", "vit.layers.0.mlp.fc2.weight", Symmetry.ORTHOGONAL, False),
    ],
)
def test_what_lies_between_limits_the_changes_of_basis(name, tensor, expected, assumed):
    assert symmetry(found_in(name), tensor, Side.WRITE) == (expected, assumed)


def test_rearranged_channels_are_no_space():
    found = find_wiring(seeded(Shuffled), ((images(1, 3, 4, 4),), {}))
    assert [len(space.ends) for space in found.coupled] == [1, 1, 1, 1]


def test_a_module_is_left_as_it_was():
    module, example = MODULES["rotary"]()
    module.train()
    module.norm.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    find_wiring(module, ((example,), {}))
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert [inner.training for inner in (module, module.layers[0], module.norm)] == [True, True, False]
    assert not any(inner._forward_hooks or inner._forward_pre_hooks for inner in module.modules())


def test_it_does_not_ask_for_ever(monkeypatch):
    monkeypatch.setattr(wiring_module, "PATIENCE", 0.0)
    module, example = MODULES["mlp"]()
    with pytest.raises(ImpatientError, match=r"asked for 0 of 4"):
        find_wiring(module, ((example,), {}))
