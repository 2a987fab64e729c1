import json
import pickle

import pytest
import torch

from flaggeo import analyze, compare, load
from flaggeo.checkpoint import CheckpointError, open_checkpoint
from tests.builders import CONFIG, related_llama, save_folder, tiny_llama

LARGEST = 448  # of the eight-bit numbers


def in_eight_bits(tensors):
    """The matrices of the layers in eight bits, a scale a row, and what they stand for."""
    packed, plain = {}, {}
    for name, tensor in tensors.items():
        if tensor.ndim < 2 or "layers" not in name:
            packed[name] = plain[name] = tensor
            continue
        scale = tensor.abs().amax(dim=1, keepdim=True) / LARGEST
        packed[name] = (tensor / scale).to(torch.float8_e4m3fn)
        packed[f"{name}_scale"] = scale
        plain[name] = packed[name].float() * scale
    return packed, plain


@pytest.mark.parametrize("shards", [1, 3])
def test_a_packed_network_is_the_network_that_it_stands_for(tmp_path, shards):
    """With shards, many a weight and its scale are in two of them."""
    packed, plain = in_eight_bits(tiny_llama())
    found = load(save_folder(tmp_path / "packed", packed, shards=shards))
    expected = load(plain, config=CONFIG)
    assert [weight.name for weight in found.weights] == [weight.name for weight in expected.weights]
    assert [item.tensor for item in found.skipped] == [item.tensor for item in expected.skipped]
    assert all(torch.equal(found.matrix(weight), expected.matrix(weight)) for weight in found.weights)
    metadata = found.checkpoint.metadata
    assert metadata["packed weights"] == "21 in F8_E4M3 with a scale for each row"
    assert metadata["tensor types"] == "F8_E4M3"
    assert found.checkpoint.location == str(tmp_path / "packed")
    pair = compare(found, expected, rank=2)
    assert pair.deltas["relative_norm"].max() == 0


def test_tensors_keep_the_order_of_storage(tmp_path):
    packed, plain = in_eight_bits(tiny_llama())
    folder = save_folder(tmp_path, packed)
    assert set(open_checkpoint(folder).headers) == set(plain)
    assert list(open_checkpoint(packed).headers) == list(plain)


def test_rounding_of_the_stored_numbers_reaches_the_stability_of_pairs():
    packed, plain = in_eight_bits(related_llama())
    options = {"rank": 2, "measure": ["pairs", "stability"]}
    coarse = analyze(load(packed, config=CONFIG), **options).stability["rounding_loss"]
    fine = analyze(load(plain, config=CONFIG), **options).stability["rounding_loss"]
    assert 0 < fine.max() < 1e-4 < coarse.max()


def test_a_packed_checkpoint_can_go_to_another_process(tmp_path):
    checkpoint = open_checkpoint(save_folder(tmp_path, in_eight_bits(tiny_llama())[0]))
    name = "model.layers.1.mlp.up_proj.weight"
    assert torch.equal(pickle.loads(pickle.dumps(checkpoint)).read(name), checkpoint.read(name))


def test_another_name_of_a_packed_weight_is_kept_and_one_of_a_part_is_not():
    tensors, _ = in_eight_bits(tiny_llama())
    name = "model.layers.0.mlp.up_proj.weight"
    tensors |= {"again": tensors[name], "scale again": tensors[f"{name}_scale"]}
    assert open_checkpoint(tensors).aliases == {"again": name}


@pytest.mark.parametrize("place", ["text_config", "compression_config", "given"])
def test_settings_are_found_where_they_stand(tmp_path, place):
    settings = {"quant_method": "fp8", "weight_block_size": [8, 8]}
    config = {
        "text_config": {"text_config": {"quantization_config": settings}},
        "compression_config": {"compression_config": settings},
        "given": {},
    }[place]
    tensors = {"a": torch.ones(16, 16).to(torch.float8_e4m3fn), "a_scale_inv": torch.ones(2, 2)}
    folder = save_folder(tmp_path, tensors, config=config)
    given = {"quantization_config": settings} if place == "given" else None
    assert open_checkpoint(folder, given).read("a").sum() == 256


@pytest.mark.parametrize("settings", [None, [], "fp8", {"config_groups": []}, {"config_groups": {"a": {}}}])
def test_settings_that_are_none_explain_nothing(tmp_path, settings):
    tensors = {"a": torch.ones(16, 16).to(torch.float8_e4m3fn), "a_scale_inv": torch.ones(2, 2)}
    with pytest.raises(CheckpointError, match=r"which no config\.json gives"):
        open_checkpoint(
            save_folder(tmp_path, tensors, config=json.loads(json.dumps({"quantization_config": settings})))
        )


def test_what_is_not_packed_is_refused_as_before():
    packed, _ = in_eight_bits(tiny_llama())
    checkpoint = open_checkpoint(packed | {"counts": torch.ones(2).byte()})
    with pytest.raises(CheckpointError, match=r"'counts': expected one of the dtypes .* found U8"):
        checkpoint.read("counts")
    with pytest.raises(CheckpointError, match="expected a tensor 'b', found"):
        checkpoint.read("b")
