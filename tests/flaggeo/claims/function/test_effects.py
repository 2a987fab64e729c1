"""Heads and layers taken away from a tiny Llama, against copies of it that are built without them."""

from copy import deepcopy

import numpy as np
import pytest
import torch

from flaggeo.claims.function.effects import effects
from flaggeo.claims.function.forward import forward

transformers = pytest.importorskip("transformers")
LAYERS, HEADS = 3, 4


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        initializer_range=0.3,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    # Head 1 of layer 0 is read by nobody.
    model.model.layers[0].self_attn.o_proj.weight.data[:, 8:16] = 0
    return model


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 50, (2, 70), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def found(model, tokens, tmp_path_factory):
    return effects(model, tokens, scratch=tmp_path_factory.mktemp("scratch"))


@torch.no_grad()
def loss(model, tokens):
    return float(model(tokens, labels=tokens, use_cache=False).loss)


def without(model, *, order):
    copy = deepcopy(model)
    copy.model.layers = torch.nn.ModuleList(copy.model.layers[index] for index in order)
    return copy


def test_the_loss_is_the_models_own(model, tokens):
    run = forward(model, tokens)
    assert run.loss == pytest.approx(loss(model, tokens), abs=1e-5)
    assert run.resumed(0, run.streams[0])[0] == pytest.approx(run.loss, abs=1e-6)
    assert [heads.shape for heads in run.heads] == [(2, 70, HEADS, 8)] * LAYERS


@pytest.mark.parametrize("layer", range(LAYERS))
def test_layers_are_missed_as_by_a_model_built_without_them(model, tokens, found, layer):
    left = [index for index in range(LAYERS) if index != layer]
    expected = loss(without(model, order=left), tokens) - loss(model, tokens)
    assert found.without_layer[layer] == pytest.approx(expected, abs=1e-5)
    if layer == 0:
        assert np.isnan(found.as_previous[0])
    else:
        order = [index - (index == layer) for index in range(LAYERS)]
        expected = loss(without(model, order=order), tokens) - loss(model, tokens)
        assert found.as_previous[layer] == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_a_head_is_replaced_by_its_mean(model, tokens, found):
    """A bias of the output projection with the mean does the same."""
    run, copy = forward(model, tokens), deepcopy(model)
    projection = copy.model.layers[1].self_attn.o_proj
    mean = run.heads[1][:, :, 2].mean(dim=(0, 1))
    projection.bias = torch.nn.Parameter(projection.weight[:, 16:24] @ mean)
    projection.weight[:, 16:24] = 0
    assert found.without_head[1, 2] == pytest.approx(loss(copy, tokens) - run.loss, abs=1e-5)
    later = forward(copy, tokens).heads[2]
    before = run.heads[2]
    for head in range(HEADS):
        spread = (before[:, :, head] - before[:, :, head].mean(dim=(0, 1))).norm()
        expected = float((later - before)[:, :, head].norm() / spread)
        assert found.on_heads[1, 2, 2, head] == pytest.approx(expected, rel=1e-3)


def test_a_head_that_nobody_reads_is_not_missed(found):
    assert found.without_head[0, 1] == 0
    assert (found.on_heads[0, 1, 1:] == 0).all()
    assert (found.on_heads[0, 0, 1:] > 0).all()
    assert np.isnan(found.on_heads[1, :, :2]).all()


def test_a_layer_that_does_nothing_has_no_influence(model, tokens, tmp_path):
    copy = deepcopy(model)
    layer = copy.model.layers[1]
    layer.self_attn.o_proj.weight.data.zero_()
    layer.mlp.down_proj.weight.data.zero_()
    found = effects(copy, tokens, scratch=tmp_path)
    assert found.influence[1] == pytest.approx(0, abs=1e-6)
    assert found.without_layer[1] == 0
    assert (found.influence[[0, 2]] > 1e-3).all()


def test_an_interrupted_run_goes_on_and_another_text_starts_anew(model, tokens, found, tmp_path):
    def stop_after_one(done, *_):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        effects(model, tokens, scratch=tmp_path, progress=stop_after_one)
    [kept] = tmp_path.iterdir()
    time = kept.stat().st_mtime_ns
    again = effects(model, tokens, scratch=tmp_path)
    assert kept.stat().st_mtime_ns == time
    np.testing.assert_array_equal(again.without_head, found.without_head)
    effects(model, tokens.flip(0), scratch=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2 * LAYERS


def test_the_model_is_left_as_it_was(model, tokens):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = forward(model, tokens)
    run.resumed(1, run.streams[1])
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_what_is_kept_and_damaged_is_measured_again(model, tokens, found, tmp_path):
    effects(model, tokens, scratch=tmp_path)
    for file, content in zip(sorted(tmp_path.iterdir()), (b"", b"PK\x03\x04", None), strict=True):
        file.write_bytes(file.read_bytes()[:-50] if content is None else content)
    again = effects(model, tokens, scratch=tmp_path)
    np.testing.assert_array_equal(again.without_head, found.without_head)
    np.testing.assert_array_equal(again.on_heads, found.on_heads)
