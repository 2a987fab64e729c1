"""The transformer, held against transformers' Llama run by run."""

from dataclasses import replace

import pytest
import torch

from flaggeo.training.run import Recipe, held_out_loss, train
from flaggeo.training.tasks import Task, cross_entropy, library_bytes
from flaggeo.training.transformer import Transformer

SEEDS = (1, 2)
SMALL = Transformer(width=16, hidden=20, depth=2, heads=2, tokens=30)


def perturbed(parameters):
    """Gains that differ from 1, and weights large enough for attention to matter."""
    stream = torch.Generator().manual_seed(7)
    return {
        name: 10 * tensor + 0.3 * torch.randn(tensor.shape, generator=stream, dtype=tensor.dtype)
        for name, tensor in parameters.items()
    }


def tokens(*shape):
    return torch.randint(30, shape, generator=torch.Generator().manual_seed(3))


def llama(model, own):
    """The same network as transformers builds it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=model.tokens,
        hidden_size=model.width,
        intermediate_size=model.hidden,
        num_hidden_layers=model.depth,
        num_attention_heads=model.heads,
        hidden_act=model.activation,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        attn_implementation="eager",
    )
    network = LlamaForCausalLM(config).double()
    named = {"model.embed_tokens.weight": own["embedding"], "lm_head.weight": own["head"]}
    named["model.norm.weight"] = own["last_gain"].flatten()
    places = dict.fromkeys("qkvo", "self_attn") | dict.fromkeys(("gate", "up", "down"), "mlp")
    for layer in range(model.depth):
        start = f"model.layers.{layer}"
        named |= {f"{start}.{place}.{name}_proj.weight": own[name][layer] for name, place in places.items()}
        named[f"{start}.input_layernorm.weight"] = own["attention_gains"][layer, 0]
        named[f"{start}.post_attention_layernorm.weight"] = own["mlp_gains"][layer, 0]
    network.load_state_dict(named)
    return network


@pytest.mark.parametrize("activation", ["silu", "relu"])
def test_every_run_is_the_llama_that_transformers_makes_of_its_weights(activation):
    model, text = replace(SMALL, activation=activation), tokens(2, 3, 11)
    parameters = perturbed(model.initial(SEEDS))
    found = model(parameters, text)
    for run in range(2):
        network = llama(model, {name: tensor[run] for name, tensor in parameters.items()})
        with torch.no_grad():
            assert torch.allclose(found[run], network(text[run]).logits, atol=1e-4)  # its norms and angles are float32


def test_the_loss_on_text_held_out_is_that_of_all_of_it_at_once():
    """37 sequences, of which 16 are held at a time."""
    parameters, text, following = perturbed(SMALL.initial(SEEDS)), tokens(2, 37, 5), tokens(2, 37, 5)
    task = Task(text, following, cross_entropy, text, following)
    found = held_out_loss(SMALL, parameters, task)
    torch.testing.assert_close(found, cross_entropy(SMALL(parameters, text), following))


def test_without_residuals_only_the_last_mlp_reaches_the_head():
    model = replace(SMALL, residual=False)
    parameters, text = perturbed(model.initial(SEEDS)), tokens(2, 3, 5)
    scores = model(parameters, text)
    silent = parameters | {"down": torch.zeros_like(parameters["down"])}
    assert scores.abs().max() > 0.1
    assert (model(silent, text) == 0).all()
    assert (SMALL(silent, text) != 0).any()


def test_a_token_is_predicted_from_those_up_to_it():
    parameters, text = perturbed(SMALL.initial(SEEDS)), tokens(2, 3, 9)
    other = text.clone()
    other[..., 6:] = (other[..., 6:] + 1) % 30
    one, changed = SMALL(parameters, text), SMALL(parameters, other)
    assert torch.allclose(one[:, :, :6], changed[:, :, :6], atol=1e-10)
    assert not torch.allclose(one[:, :, 6:], changed[:, :, 6:])


def test_first_weights_are_the_same_whatever_the_cause():
    first = SMALL.initial(SEEDS)
    other = replace(SMALL, activation="linear", residual=False).initial(SEEDS)
    assert all(torch.equal(first[name], other[name]) for name in first)
    assert torch.equal(SMALL.initial([2])["down"][0], first["down"][1])
    assert replace(SMALL, hidden=500).initial([1])["up"].std().item() == pytest.approx(0.02, rel=0.03)


def test_it_learns_the_source_of_python():
    model = Transformer(width=16, hidden=32, depth=1, heads=2)
    task = library_bytes(SEEDS, length=32, train=64_000, test=1600)
    recipe = Recipe(60, 1e-2, "adamw", batch=8, betas=(0.9, 0.95), warmup=10, clip=1.0)
    history = train(model, task, recipe, SEEDS, dtype=torch.float32)
    before, after = (held_out_loss(model, parameters, task) for parameters in (history.first, history.last))
    assert before.tolist() == pytest.approx([5.545] * 2, abs=0.05)  # log 256
    assert (after < 3.6).all()
