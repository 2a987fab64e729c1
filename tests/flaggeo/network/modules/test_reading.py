"""Modules as networks: every matrix against what the module's own layer computes, and names, heads and norms."""

from functools import cache

import pytest
import torch
from torch import nn

import flaggeo
from flaggeo import CheckpointError
from flaggeo.checkpoint import open_checkpoint
from flaggeo.network import Side, SpaceKind, Symmetry
from flaggeo.network.modules import read_module
from tests.flaggeo.network.modules.models import (
    MODULES,
    Mlp,
    images,
    seeded,
    tokens,
    transformers_vision,
)

VISION = ("resnet", "convnext", "vit", "swin")


def build(name):
    return transformers_vision(name[3:]) if name.startswith("hf_") else MODULES[name]()


@cache
def network(name):
    module, example = build(name)
    return module, read_module(module, open_checkpoint(module), example)


def names(found):
    return [weight.name for weight in found.weights if weight.head is None]


def by_name(found):
    return {weight.name: weight for weight in found.weights}


@pytest.mark.parametrize("name", [*MODULES, *(f"hf_{name}" for name in VISION)])
def test_names_and_spaces_are_consistent(name):
    _, found = network(name)
    assert len(by_name(found)) == len(found.weights)
    spaces = {}
    for weight in found.weights:
        for space in (weight.source, weight.target):
            assert spaces.setdefault(space.name, space) == space
        assert found.matrix(weight, folded=True).shape == (weight.target.dim, weight.source.dim)
    used = {weight.tensor for weight in found.weights}
    skipped = {one.tensor: one.reason for one in found.skipped}
    assert used.isdisjoint(skipped)
    assert used | skipped.keys() == {*found.checkpoint.headers, *found.checkpoint.aliases}
    assert all(skipped.values())
    assert [weight.stage for weight in found.weights] == sorted(weight.stage for weight in found.weights)


def responses(layer, channels, size):
    """What a layer returns for one input channel after the other, at the centre of an image; shape=[out, ..., in]."""
    impulses = torch.zeros(channels, channels, *size)
    impulses[:, :, *(extent // 2 for extent in size)] = torch.eye(channels)
    with torch.no_grad():
        return (layer(impulses) - layer(torch.zeros(1, channels, *size))).movedim(0, -1)


def plain(layer):
    """A convolution without strides, so that it shows its whole kernel."""
    copy = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size, padding=layer.kernel_size, bias=False)
    copy.weight = layer.weight
    return copy


@pytest.mark.parametrize("name", ["resnet", "dense", "hf_resnet", "hf_convnext", "autoencoder"])
def test_the_unfoldings_of_a_kernel_are_what_the_convolution_does(name):
    module, found = network(name)
    layers = {f"{own}.weight": layer for own, layer in module.named_modules() if isinstance(layer, nn.Conv2d)}
    checked = 0
    for weight in found.weights:
        layer = layers.get(weight.tensor)
        if layer is None or layer.kernel_size == (1, 1):
            continue
        matrix, (high, wide) = found.matrix(weight), layer.kernel_size
        if weight.split.unfolded is Side.READ:
            seen = responses(plain(layer), layer.in_channels, (1, 1))  # the kernel, back to front
            kernel = seen[:, 1 : high + 1, 1 : wide + 1].flip(1, 2)
            columns = slice(*weight.split.columns) if weight.split.columns else slice(None)
            torch.testing.assert_close(matrix, kernel.flatten(0, 2)[:, columns])
        else:
            patch = images(1, layer.in_channels, high, wide)
            with torch.no_grad():
                written = nn.functional.conv2d(patch, layer.weight)[0, :, 0, 0]
            torch.testing.assert_close(matrix @ patch.flatten(), written)
        checked += 1
    assert checked >= 3


@pytest.mark.parametrize("name", ["mlp", "gpt", "rotary", "routed", "hf_vit", "hf_swin", "hf_convnext", "inverted"])
def test_a_matrix_is_what_a_linear_layer_does(name):
    module, found = network(name)
    layers = {f"{own}.weight": layer for own, layer in module.named_modules() if isinstance(layer, nn.Linear)}
    checked = 0
    for weight in found.weights:
        if weight.tensor in layers and weight.split.positions == 1:
            layer = layers[weight.tensor]
            with torch.no_grad():
                columns = (layer(torch.eye(layer.in_features)) - layer(torch.zeros(layer.in_features))).mT
            torch.testing.assert_close(found.matrix(weight), columns)
            checked += 1
    assert checked >= 4


def test_transposed_convolutions_and_flattened_images_are_unfolded_too():
    module, found = network("autoencoder")
    weights = by_name(found)
    shown = responses(nn.ConvTranspose2d(8, 6, 4, 4, bias=False), 8, (1, 1))
    layer = nn.ConvTranspose2d(8, 6, 4, 4, bias=False)
    layer.weight = module.up1.weight
    shown = responses(layer, 8, (1, 1))
    read, written = (weights[f"layers.3.{role}:up"] for role in ("conv_in", "conv_out"))
    torch.testing.assert_close(found.matrix(read), shown.flatten(0, 2))
    torch.testing.assert_close(found.matrix(written), shown.movedim(-1, 1).flatten(1))
    read, written = (weights[f"layers.2.{role}:code"] for role in ("conv_in", "conv_out"))
    image = images(8, 2, 2)
    flat = module.code(image.flatten()) - module.code.bias
    torch.testing.assert_close(found.matrix(written) @ image.flatten(), flat)
    by_position = found.matrix(read).unflatten(0, (5, 4))
    torch.testing.assert_close(torch.einsum("opc,cp->o", by_position, image.flatten(1)), flat)
    assert read.source.name == "layers.1.down"


def test_parameters_that_are_no_layers():
    module, found = network("raw")
    first, second = found.weights
    torch.testing.assert_close(found.matrix(first), module.first.detach().mT)
    torch.testing.assert_close(found.matrix(second), module.second.detach())
    assert first.target == second.source
    assert {one.tensor: one.reason for one in found.skipped} == {
        "third": "not applied as a linear, convolution or embedding layer, but by einsum"
    }


def test_a_residual_network_has_a_stream_for_each_stage():
    _, found = network("resnet")
    streams = [space for space in found.spaces.values() if space.kind is SpaceKind.STREAM]
    assert [(space.name, space.dim) for space in streams] == [
        ("layer1.stream", 8),
        ("layer2.stream", 12),
        ("layer3.stream", 16),
        ("layer4.stream", 20),
    ]
    inside = [weight for weight in found.weights if weight.tower == "layer3"]
    assert [(weight.name, weight.source.name, weight.target.name) for weight in inside] == [
        ("layer3.layers.0.conv_in:conv1_from_layer2", "layer2.stream", "layer3.layers.0.conv1.out"),
        ("layer3.layers.0.conv_out:conv1", "layer3.layers.0.conv1.in", "layer3.layers.0.conv1"),
        ("layer3.layers.0.conv_in:conv2", "layer3.layers.0.conv1", "layer3.layers.0.conv2.out"),
        ("layer3.layers.0.conv_out:conv2", "layer3.layers.0.conv2.in", "layer3.stream"),
        ("layer3.layers.0.map:down0_from_layer2", "layer2.stream", "layer3.stream"),
        ("layer3.layers.1.conv_in:conv1", "layer3.stream", "layer3.layers.1.conv1.out"),
        ("layer3.layers.1.conv_out:conv1", "layer3.layers.1.conv1.in", "layer3.layers.1.conv1"),
        ("layer3.layers.1.conv_in:conv2", "layer3.layers.1.conv1", "layer3.layers.1.conv2.out"),
        ("layer3.layers.1.conv_out:conv2", "layer3.layers.1.conv2.in", "layer3.stream"),
    ]
    assert names(found)[0] == "layer1.embed"
    assert names(found)[-1] == "layer4.unembed"


def test_a_transformer_has_one_stream_and_its_fused_matrices_are_named():
    _, found = network("gpt")
    assert names(found)[:6] == [
        "embed",
        "layers.0.in:qkv",
        "layers.0.out:proj",
        "layers.0.in:fc1",
        "layers.0.out:fc2",
        "layers.1.in:qkv",
    ]
    facing = {weight.name for weight in found.weights if "stream" in (weight.source.name, weight.target.name)}
    assert facing == set(names(found))
    assert any("in:qkv" in remark and "not told apart" in remark for remark in found.remarks)


def test_whole_attentions_are_cut_into_heads():
    module, found = network("seq2seq")
    weights = by_name(found)
    attention = module.decoder.layers[1].self_attn
    for number, role in enumerate("qkv"):
        rows = attention.in_proj_weight.detach()[16 * number : 16 * (number + 1)]
        torch.testing.assert_close(found.matrix(weights[f"decoder.layers.1.{role}"]), rows)
        torch.testing.assert_close(found.matrix(weights[f"decoder.layers.1.{role}.heads.1"]), rows[8:])
    output = attention.out_proj.weight.detach()
    torch.testing.assert_close(found.matrix(weights["decoder.layers.1.o.heads.1"]), output[:, 8:])
    across = weights["decoder.layers.0.cross_k.heads.0"], weights["decoder.layers.0.cross_q.heads.0"]
    assert [weight.source.name for weight in across] == ["encoder.stream", "decoder.stream"]
    assert [weight.target.name for weight in across] == ["decoder.layers.0.cross.heads.0.keys"] * 2
    assert len([weight for weight in found.weights if weight.head is not None]) == 4 * (2 * 4 + 2 * 2 * 2)


def test_experts_are_numbered_and_no_layers():
    _, found = network("routed")
    chosen = [weight for weight in found.weights if weight.layer == 0]
    assert [(weight.name, weight.expert) for weight in chosen] == [
        ("layers.0.in:router", None),
        *((f"layers.0.{role}.experts.{expert}", expert) for expert in range(3) for role in ("in:fc1", "out:fc2")),
    ]
    # No token of the example takes the first one of the second layer.
    reasons = {one.tensor: one.reason for one in found.skipped}
    assert reasons["blocks.1.experts.0.fc1.weight"] == "not used in the run on the example"


def test_norms_are_folded_into_the_weights_beside_them():
    module, found = network("resnet")
    block, weights = module.layer2[1], by_name(found)
    patch = images(2, 13, 3, 3)
    with torch.no_grad():
        there, back = (block.bn2(nn.functional.conv2d(one[None], block.conv2.weight))[0, :, 0, 0] for one in patch)
    folded = found.matrix(weights["layer2.layers.1.conv_out:conv2"], folded=True)
    torch.testing.assert_close(folded @ (patch[0] - patch[1]).flatten(), there - back)
    read = found.matrix(weights["layer2.layers.1.conv_in:conv2"], folded=True)
    torch.testing.assert_close(read, folded.unflatten(1, (13, 9)).movedim(1, -1).flatten(0, 1))

    module, found = network("dense")
    norm, weights = module.norms[2], by_name(found)
    gains = (norm.weight / (norm.running_var + norm.eps).sqrt()).detach()
    parts = [found.matrix(weights[f"layers.3.conv_in:layers_{part}"]) for part in range(3)]
    torch.testing.assert_close(torch.cat(parts, 1), module.layers[2].weight.detach().movedim(1, -1).flatten(0, 2))
    assert [weight.source.name for weight in found.weights if weight.name.startswith("layers.3.conv_in")] == [
        "layers.0.stem",
        "layers.1.layers",
        "layers.2.layers",
    ]
    assert len(gains) == 14

    module, found = network("gpt")
    block, vectors = module.blocks[1], images(3, 16)
    vectors = vectors - vectors.mean(-1, keepdim=True)
    length = (vectors.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    with torch.no_grad():
        read = (block.fc1(block.norm2(vectors)) - block.fc1(block.norm2(torch.zeros(16)))) * length
    folded = found.matrix(by_name(found)["layers.1.in:fc1"], folded=True)
    torch.testing.assert_close(vectors @ folded.mT, read)
    assert by_name(found)["layers.1.out:fc2"].folding.centred

    module, found = network("rotary")
    gain = by_name(found)["layers.0.in:wq"].folding.read
    assert (gain.tensor, gain.offset) == ("layers.0.before.weight", 1.0)


def test_a_module_without_residual_additions_is_a_chain_of_layers():
    module = seeded(Mlp, 6, 10, 10, 3)
    found = flaggeo.load(module, example=images(2, 6))
    assert [(weight.name, weight.role, weight.layer) for weight in found.weights] == [
        ("layers.0.map:fc", "map:fc", 0),
        ("layers.1.map:fc", "map:fc", 1),
        ("layers.2.map:fc", "map:fc", 2),
    ]
    assert [space.name for space in found.spaces.values()] == ["input", "layers.0.fc", "layers.1.fc", "output"]
    assert found.weights[0].target.symmetry is Symmetry.SCALED_PERMUTATION
    assert found.weights[0].source.kind is found.weights[2].target.kind is SpaceKind.DATA


@pytest.mark.parametrize("name", ["mlp", "resnet", "seq2seq"])
def test_analyze_runs_to_the_page(name, tmp_path):
    _, found = network(name)
    analysis = flaggeo.analyze(
        found, rank=2, measure="all" if name == "seq2seq" else ("continuity", "pairs", "interfaces", "structure")
    )
    analysis.save(tmp_path / "saved")
    page = (tmp_path / "saved" / "report.html").read_text()
    assert ("stream of its own" in page) == (name != "mlp")
    assert analysis.attention_heads == (24 // 2 if name == "seq2seq" else 0)
    directions = analysis.pairs[analysis.pairs["kind"] == "write-read"]
    assert len(directions) > 0
    if name == "resnet":
        between = directions[directions["space"] == "layer2.layers.0.conv1"]
        assert between[["source", "target"]].values.tolist() == [
            ["layer2.layers.0.conv_out:conv1.write", "layer2.layers.0.conv_in:conv2.read"]
        ]
        shared = analysis.continuity[analysis.continuity["shared_space"]]
        assert {"layer1.conv_in:conv1", "layer1.conv_out:conv2", "layer4.conv_out:conv2"} <= set(shared["role"])


def test_a_model_type_that_is_known_is_read_by_its_names():
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(
        "gpt2", n_embd=16, n_layer=2, n_head=4, vocab_size=30, attn_implementation="eager"
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    found = flaggeo.load(model, example=tokens(30, 1, 5))
    assert (found.family, found.weights[1].name) == ("gpt2", "layers.0.q")


def test_bad_input_gets_one_line():
    module, example = MODULES["gpt"]()
    with pytest.raises(CheckpointError, match=r"^Gpt: expected an example that it runs on, found \w+: .+$"):
        flaggeo.load(module, example=images(1, 4))
    with pytest.raises(CheckpointError, match="expected a linear, convolution or embedding layer, found none"):
        flaggeo.load(nn.Sequential(nn.BatchNorm1d(3)), example=images(2, 3))
    with pytest.raises(ValueError, match="expected a module to run on the example; got OrderedDict"):
        flaggeo.load(module.state_dict(), example=example)
    unsteady = nn.Sequential(nn.Linear(3, 4), Noise(), nn.Linear(4, 2))
    with pytest.raises(CheckpointError, match="expected the same numbers for the same input"):
        flaggeo.load(unsteady, example=images(2, 3))


class Noise(nn.Module):
    def forward(self, x):
        return x + torch.randn(x.shape)
