"""The share of all parameters that is analysed, against counts by hand."""

from math import prod

import pytest
import torch

from flaggeo import load
from flaggeo.checkpoint import open_checkpoint
from flaggeo.network import BlockKind
from flaggeo.network.coverage import Coverage, coverage
from flaggeo.network.families.derivation.tiny import SMALL, tiny_config, tiny_model
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


def test_rows_that_no_weight_has_are_listed_and_lower_the_share():
    """Multi-head latent attention: what positions turn of queries and keys is not analysed."""
    pytest.importorskip("transformers")
    network = load(tiny_model(tiny_config("deepseek_v3")))
    left_out = {item.tensor: item.shape for item in network.skipped if "its" in item.reason and "rows" in item.reason}
    heads, layers = SMALL.heads, SMALL.layers
    attention = "model.layers.{}.self_attn.{}.weight"
    assert left_out == {
        attention.format(layer, name): shape
        for layer in range(layers)
        for name, shape in (
            ("q_b_proj", (heads * SMALL.turned, SMALL.query_latent)),
            ("kv_a_proj_with_mqa", (SMALL.turned, SMALL.width)),
        )
    }
    whole = {weight.tensor for weight in network.weights if weight.record.block is BlockKind.ATTENTION}
    whole |= {weight.after.tensor for weight in network.weights if weight.after}
    sizes = {name: prod(header.shape) for name, header in network.checkpoint.headers.items()}
    expected = sum(sizes[name] for name in whole) - sum(prod(shape) for shape in left_out.values())
    assert coverage(network).analysed["attention"] == expected


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


@pytest.mark.parametrize(
    ("left_out", "said"), [(0, "100.0% of"), (3, "99.97% of"), (60, "99.4% of"), (0.001, "99.99% of")]
)
def test_what_is_left_out_is_never_rounded_away(left_out, said):
    found = Coverage(10_000_000, {"mlp": 10_000_000 - int(1000 * left_out)})
    assert str(found).startswith(said)
    assert found.left_out == int(1000 * left_out)
