"""Networks of stacked parameters, held against torch's own modules run by run."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from flaggeo.training.models import Chain, Mlp

SEEDS = (1, 2, 3)
MLP = Mlp(inputs=5, width=6, depth=3, outputs=4, residual=True, activation="relu")


def inputs(runs, n):
    return torch.randn((runs, 7, n), generator=torch.Generator().manual_seed(9), dtype=torch.float64)


def linear_layer(weight, bias=None):
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias.flatten())
    return layer


MODULES = {
    None: nn.Identity(),
    "rmsnorm": nn.RMSNorm(6, eps=1e-5, dtype=torch.float64),
    "rmsnorm-no-gain": nn.RMSNorm(6, eps=1e-5, elementwise_affine=False),
    "layernorm": nn.LayerNorm(6, dtype=torch.float64),
    "layernorm-no-affine": nn.LayerNorm(6, elementwise_affine=False),
}


@pytest.mark.parametrize("norm", MODULES)
@pytest.mark.parametrize("residual", [True, False])
def test_every_run_is_the_network_that_torch_makes_of_its_weights(norm, residual):
    model = replace(MLP, norm=norm, residual=residual)
    parameters, data = model.initial(SEEDS), inputs(3, 5)
    found = model(parameters, data)
    for run in range(3):
        own = {name: tensor[run] for name, tensor in parameters.items()}
        stream = linear_layer(own["embedding"], own["embedding_bias"])(data[run])
        for weight in own["blocks"]:
            written = nn.functional.relu(linear_layer(weight)(MODULES[norm](stream)))
            stream = stream + written if residual else written
        assert torch.allclose(found[run], linear_layer(own["head"], own["head_bias"])(stream))


def test_cells_that_differ_in_one_cause_begin_with_the_same_weights():
    parameters = MLP.initial(SEEDS)
    other = replace(MLP, activation="linear", norm="layernorm", residual=False).initial(SEEDS)
    assert all(torch.equal(parameters[name], other[name]) for name in parameters)
    assert set(other) - set(parameters) == {"gains", "biases"}
    assert torch.equal(MLP.initial([2])["blocks"][0], parameters["blocks"][1])


def test_first_weights_have_the_default_bounds_or_the_deviation_that_is_given():
    wide = replace(MLP, width=64)
    default = wide.initial([1])["blocks"]
    assert default.abs().max() < 1 / 8
    assert default.std().item() == pytest.approx(1 / 8 / 3**0.5, rel=0.05)
    assert replace(wide, deviation=1e-4).initial([1])["blocks"].std().item() == pytest.approx(1e-4, rel=0.05)


def test_a_chain_without_activation_is_the_product_of_its_weights():
    chain = Chain((5, 6, 3, 2), (1.0, 2.0, 0.5))
    weights, data = chain.initial(SEEDS), inputs(3, 5)
    product = weights["W3"] @ weights["W2"] @ weights["W1"]
    assert torch.allclose(chain(weights, data), data @ product.mT)


def test_a_chain_shows_what_its_hidden_layers_see():
    chain = Chain((5, 6, 3, 2), (1.0, 1.0, 1.0), "tanh")
    weights, data = chain.initial(SEEDS), inputs(3, 5)
    outputs, hidden = chain.traced(weights, data)
    assert torch.equal(hidden[0][0], data @ weights["W1"].mT)
    assert all(torch.equal(after, torch.tanh(before)) for before, after in hidden)
    assert torch.equal(outputs, hidden[1][1] @ weights["W3"].mT)


def test_the_scale_of_a_chain_is_relative_to_the_fan_in():
    weights = Chain((100, 400, 50), (1.0, 0.7)).initial([5])
    assert weights["W1"].std().item() == pytest.approx(0.1, rel=0.02)
    assert weights["W2"].std().item() == pytest.approx(0.7 / 20, rel=0.02)
