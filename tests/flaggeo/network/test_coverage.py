"""The share of all parameters that is analysed, against counts by hand."""

import pytest
import torch

from flaggeo import load
from flaggeo.network.coverage import coverage
from tests.builders import CONFIG, tiny_llama


def test_every_tensor_counts_once():
    tensors = tiny_llama()
    found = coverage(load(tensors, config=CONFIG))
    norms = sum(tensor.numel() for tensor in tensors.values() if tensor.ndim == 1)
    total = sum(tensor.numel() for tensor in tensors.values())
    assert found.total == total
    assert sum(found.analysed.values()) == total - norms
    assert found.share == pytest.approx(1 - norms / total)
    assert found.analysed["embedding"] == tensors["model.embed_tokens.weight"].numel()


def test_heads_and_tied_tables_are_not_counted_again():
    tensors = tiny_llama()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    network = load(tensors, config=CONFIG)
    unique = {tensor.data_ptr(): tensor.numel() for tensor in tensors.values()}
    assert coverage(network).total == sum(unique.values())
    whole = [weight for weight in network.weights if weight.head is None]
    assert sum(coverage(network).analysed.values()) == sum(weight.target.dim * weight.source.dim for weight in whole)


def test_a_tensor_that_is_left_out_lowers_the_share():
    tensors = tiny_llama() | {"classifier.weight": torch.ones(100, 100)}
    assert coverage(load(tensors, config=CONFIG)).share < coverage(load(tiny_llama(), config=CONFIG)).share - 0.1
