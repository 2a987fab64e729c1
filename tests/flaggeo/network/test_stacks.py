"""The experts of a role in a layer as one weight."""

import pytest
import torch

from flaggeo import load
from flaggeo.network import Side, SpaceKind, Stack
from flaggeo.network.quiver import with_stacks
from flaggeo.settings import Settings
from tests.builders import CONFIG as LLAMA
from tests.builders import tiny_llama
from tests.mixtures import CONFIG, EXPERTS, HIDDEN, WIDTH, expert_tensor, tiny_mixtral


@pytest.fixture(scope="module")
def network():
    return load(tiny_mixtral(), config=CONFIG)


@pytest.fixture(scope="module")
def layer(network):
    return network.layers[2]


def stacks(layer):
    return {weight.role: weight for weight in layer.weights if isinstance(weight, Stack)}


def test_every_expert_role_of_a_layer_has_one_and_no_other_role(network, layer):
    assert list(stacks(layer)) == ["expert_gate", "expert_up", "expert_down"]
    assert not any(isinstance(weight, Stack) for weight in network.weights)
    assert [weight for weight in layer.weights if not isinstance(weight, Stack)] == [
        weight for weight in network.weights if weight.layer == 1
    ]
    assert list(with_stacks(load(tiny_llama(), config=LLAMA).weights)) == list(load(tiny_llama(), config=LLAMA).weights)


def test_it_stands_before_its_experts_and_has_their_stream(layer):
    names = [weight.name for weight in layer.weights]
    for role, stack in stacks(layer).items():
        place = names.index(f"layers.1.{role}")
        assert names[place + 1 : place + 1 + EXPERTS] == [f"layers.1.{role}.experts.{e}" for e in range(EXPERTS)]
        assert [expert.name for expert in stack.experts] == names[place + 1 : place + 1 + EXPERTS]
        [side] = stack.sides
        assert side is (Side.WRITE if role == "expert_down" else Side.READ)
        assert (stack.expert, stack.head, stack.layer) == (None, None, 1)
        assert stack.space(side).name == "stream"
        inner = stack.space(side.other)
        assert (inner.name, inner.kind, inner.dim) == ("layers.1.experts.hidden", SpaceKind.HIDDEN, EXPERTS * HIDDEN)
        assert inner.concatenated
        assert inner.symmetry is stack.experts[0].space(side.other).symmetry
        assert stack.stage == stack.experts[0].stage


def test_its_matrix_is_theirs_on_top_of_each_other_or_side_by_side(network, layer):
    tensors, found = tiny_mixtral(), stacks(layer)
    up = torch.cat([tensors[expert_tensor(1, expert, "w3")] for expert in range(EXPERTS)], dim=0)
    down = torch.cat([tensors[expert_tensor(1, expert, "w2")] for expert in range(EXPERTS)], dim=1)
    assert torch.equal(network.matrix(found["expert_up"]), up)
    assert torch.equal(network.matrix(found["expert_down"]), down)
    assert network.matrix(found["expert_up"]).shape == (EXPERTS * HIDDEN, WIDTH)


def test_its_tensor_has_a_star_for_the_number_of_the_expert(layer):
    assert stacks(layer)["expert_up"].tensor == "model.layers.1.block_sparse_moe.experts.*.w3.weight"


def test_settings_choose_it_with_its_experts(network):
    chosen = [weight.name for weight in Settings(roles=["expert_up"], layers=[1], rank=4).chosen(network)]
    assert chosen == ["layers.1.expert_up", *(f"layers.1.expert_up.experts.{expert}" for expert in range(EXPERTS))]


def one_tensor_for_all(tensors):
    """The same under the names of a module, where all experts are stored in one tensor."""
    together = {name: tensor for name, tensor in tensors.items() if "block_sparse_moe" not in name}
    for layer in range(3):
        at = f"model.layers.{layer}.mlp."
        gates, ups, downs = (
            torch.stack([tensors[expert_tensor(layer, expert, name)] for expert in range(EXPERTS)])
            for name in ("w1", "w3", "w2")
        )
        together[f"{at}gate.weight"] = tensors[f"model.layers.{layer}.block_sparse_moe.gate.weight"]
        together[f"{at}experts.gate_up_proj"] = torch.cat([gates, ups], dim=1)
        together[f"{at}experts.down_proj"] = downs
    return together


def test_a_tensor_of_all_experts_is_read_block_by_block(network, monkeypatch):
    shared = load(one_tensor_for_all(tiny_mixtral()), config=CONFIG)
    asked, original = [], shared.checkpoint.read
    monkeypatch.setattr(
        shared.checkpoint, "read", lambda name, **options: asked.append(options["rows"]) or original(name, **options)
    )
    assert stacks(shared.layers[2])["expert_up"].tensor == "model.layers.1.mlp.experts.gate_up_proj"
    for separate, together in zip(network.layers[2].weights, shared.layers[2].weights, strict=True):
        assert together.name == separate.name
        assert torch.equal(together.matrix(shared.checkpoint), separate.matrix(network.checkpoint))
        if together.expert is not None:
            assert asked[-1] == slice(together.expert, together.expert + 1)
