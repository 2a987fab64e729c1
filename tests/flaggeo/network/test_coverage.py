"""The share of all parameters that is analysed, against counts by hand."""

import pytest
import torch

from flaggeo import load
from flaggeo.checkpoint import open_checkpoint
from flaggeo.network.coverage import Coverage, coverage
from flaggeo.network.families.record import Naming, Piece, Record, Tower
from flaggeo.network.reading import read_network
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


def test_buffers_are_no_parameters():
    naming = Naming(
        tuple(Piece(f"{{layer}}.{role}.weight", role) for role in ("up", "down")),
        other={"{layer}.running_mean": "buffer", "{layer}.bias": "bias"},
    )
    stored = {"0.up.weight": torch.ones(5, 4), "0.down.weight": torch.ones(4, 5)}
    stored |= {"0.running_mean": torch.ones(7), "0.bias": torch.ones(2)}
    checkpoint = open_checkpoint(stored, {"model_type": "normed"})
    network = read_network(checkpoint, records=[Record(("normed",), (Tower(),), naming)])
    assert {item.tensor: item.is_parameter for item in network.skipped} == {"0.running_mean": False, "0.bias": True}
    found = coverage(network)
    assert found.record() == {"total": 42, "analysed": {"mlp": 40}, "buffers": 7}
    assert found.share == pytest.approx(40 / 42)
    assert Coverage(**found.record()) == found


def test_a_module_says_itself_which_of_its_tensors_are_buffers():
    torch.manual_seed(0)
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 3)
    ).eval()
    found = coverage(load(module, example=torch.randn(2, 3, 9, 9)))
    assert found.total == sum(parameter.numel() for parameter in module.parameters())
    assert found.buffers == sum(buffer.numel() for buffer in module.buffers())
