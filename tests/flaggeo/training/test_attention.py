"""The attention block against torch's own attention, its symmetries, and the law of its heads."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from flaggeo.training.attention import AttentionBlock, attention_teacher
from flaggeo.training.laws import imbalance
from flaggeo.training.run import Recipe, train

BLOCK = AttentionBlock(inputs=6, outputs=3, heads=2, head_width=4, hidden=5)
SEEDS = (1, 2)


def test_it_is_torchs_attention_and_mlp():
    weights, inputs = BLOCK.initial(SEEDS), attention_teacher(SEEDS, BLOCK).inputs
    for run in range(2):
        of_run = {name: weight[run] for name, weight in weights.items()}
        stream = inputs[run]
        for head in range(2):
            q, k, v = (inputs[run] @ of_run[name][head].mT for name in "qkv")
            stream = stream + scaled_dot_product_attention(q, k, v) @ of_run["o"][head].mT
        stream = stream + torch.relu(stream @ of_run["up"].mT) @ of_run["down"].mT
        expected = stream.mean(dim=1) @ of_run["readout"].mT
        assert torch.allclose(BLOCK(weights, inputs)[run], expected)


def test_the_order_of_the_positions_counts_with_rotary_embedding_alone():
    rotary = replace(BLOCK, rotary=True)
    weights, inputs = BLOCK.initial(SEEDS), attention_teacher(SEEDS, BLOCK).inputs
    assert not torch.allclose(rotary(weights, inputs), rotary(weights, inputs.flip(2)))
    assert torch.allclose(BLOCK(weights, inputs), BLOCK(weights, inputs.flip(2)))


@pytest.mark.parametrize("rotary", [False, True])
def test_one_step_obeys_the_law_inside_heads(rotary):
    """To first order in the step ridge alone moves the imbalance; rotary embedding breaks it for queries and keys."""
    eta, ridge = 1e-5, 0.3
    block = replace(BLOCK, rotary=rotary)
    history = train(block, attention_teacher(SEEDS, block), Recipe(1, eta, ridge=ridge), SEEDS)

    def change(first, second):
        before, after = (imbalance(kept[first], second(kept)) for kept in (history.first, history.last))
        return torch.linalg.matrix_norm((after - before) / eta + 2 * ridge * before).max().item()

    assert change("v", lambda kept: kept["o"]) < 1e-3
    assert (change("q", lambda kept: kept["k"].mT) < 1e-3) is not rotary
    assert change("up", lambda kept: kept["down"]) > 1e-2


def test_runs_are_those_of_single_seeds():
    together, alone = (attention_teacher(seeds, BLOCK).targets for seeds in (SEEDS, SEEDS[1:]))
    assert torch.allclose(together[1:], alone)
