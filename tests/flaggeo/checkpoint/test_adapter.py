import json
import math

import pytest
import torch
from safetensors.torch import save_file

from flaggeo.checkpoint import AdaptedCheckpoint, CheckpointError, is_adapter, open_checkpoint
from flaggeo.network import read_network
from tests.builders import VOCABULARY, WIDTH, tiny_llama

Q, V, EMBED = "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.v_proj", "model.embed_tokens"
RANK = 3


def save_adapter(folder, factors, **settings):
    """A folder as PEFT writes it."""
    folder.mkdir()
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config | settings))
    save_file(
        {f"base_model.model.{name}": factor for name, factor in factors.items()}, folder / "adapter_model.safetensors"
    )
    return folder


def factors_of(tensors, modules, *, seed=7):
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for module in modules:
        rows, columns = tensors[f"{module}.weight"].shape
        factors[f"{module}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
        factors[f"{module}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator)
    return factors


@pytest.fixture
def tensors():
    return tiny_llama()


@pytest.mark.parametrize(
    ("settings", "scales"),
    [
        ({}, (2.0, 2.0)),
        ({"use_rslora": True}, (6 / math.sqrt(3), 6 / math.sqrt(3))),
        ({"alpha_pattern": {"v_proj": 12}}, (2.0, 4.0)),
        ({"alpha_pattern": {r"layers\.0\..*q_proj": 3}}, (1.0, 2.0)),
        ({"alpha_pattern": {"((.*)*)*x": 3, "(a|a)*!": 4, "v_proj": 12}}, (2.0, 4.0)),
    ],
)
def test_an_adapter_reads_as_its_merged_checkpoint(tensors, tmp_path, settings, scales):
    factors = factors_of(tensors, (Q, V))
    adapted = AdaptedCheckpoint(open_checkpoint(tensors), save_adapter(tmp_path / "adapter", factors, **settings))

    assert adapted.changed == {f"{Q}.weight", f"{V}.weight"}
    for module, scale in zip((Q, V), scales, strict=True):
        name = f"{module}.weight"
        product = factors[f"{module}.lora_B.weight"].double() @ factors[f"{module}.lora_A.weight"].double()
        merged = tensors[name].double() + scale * product
        torch.testing.assert_close(adapted.read(name), merged, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(adapted.read(name, rows=slice(2, 5)), merged[2:5], rtol=1e-12, atol=1e-12)
    for name in tensors.keys() - adapted.changed:
        assert torch.equal(adapted.read(name), tensors[name])


def test_embeddings_and_transposed_layers_add_the_transposed_product(tensors, tmp_path):
    first, second = torch.randn(RANK, VOCABULARY), torch.randn(WIDTH, RANK)
    factors = {f"{EMBED}.lora_embedding_A": first, f"{EMBED}.lora_embedding_B": second}
    adapted = AdaptedCheckpoint(open_checkpoint(tensors), save_adapter(tmp_path / "embedding", factors))
    expected = tensors[f"{EMBED}.weight"] + 2 * (second @ first).mT
    torch.testing.assert_close(adapted.read(f"{EMBED}.weight").float(), expected)

    rows, columns = tensors[f"{Q}.weight"].shape
    factors = {f"{Q}.lora_A.weight": torch.randn(RANK, rows), f"{Q}.lora_B.weight": torch.randn(columns, RANK)}
    folder = save_adapter(tmp_path / "transposed", factors, fan_in_fan_out=True)
    product = factors[f"{Q}.lora_B.weight"] @ factors[f"{Q}.lora_A.weight"]
    adapted = AdaptedCheckpoint(open_checkpoint(tensors), folder)
    torch.testing.assert_close(adapted.read(f"{Q}.weight").float(), tensors[f"{Q}.weight"] + 2 * product.mT)


def test_tensors_saved_in_full_replace_those_of_the_base_and_biases_are_left_out(tensors, tmp_path):
    head = torch.randn_like(tensors["lm_head.weight"])
    extra = {"lm_head.weight": head, f"{Q}.bias": torch.ones(3)}
    folder = save_adapter(tmp_path / "adapter", factors_of(tensors, (Q,)) | extra)
    adapted = AdaptedCheckpoint(open_checkpoint(tensors), folder)
    assert torch.equal(adapted.read("lm_head.weight"), head)
    assert adapted.changed == {f"{Q}.weight", "lm_head.weight"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"peft_type": "LOHA"}, r"expected a LoRA adapter.*found the kind LOHA"),
        ({"use_dora": True}, r"expected a LoRA adapter.*found use_dora"),
    ],
)
def test_other_kinds_get_one_clear_error(tensors, tmp_path, settings, message):
    folder = save_adapter(tmp_path / "adapter", factors_of(tensors, (Q,)), **settings)
    assert is_adapter(folder)
    assert not is_adapter(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        AdaptedCheckpoint(open_checkpoint(tensors), folder)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda factors: factors.pop(f"{Q}.lora_B.weight"), r"expected factors A and B of a change, found A alone"),
        (lambda factors: factors.clear(), r"expected tensors named lora_A and lora_B, found none"),
        (
            lambda factors: factors.update({f"{Q}.lora_A.weight": torch.ones(RANK, 5)}),
            r"q_proj.*expected factors whose product has the shape \(40, 24\).*A of shape \(3, 5\)",
        ),
        (
            lambda factors: factors.update(
                {"model.layers.9.self_attn.q_proj.lora_A.weight": torch.ones(2, 2)}
                | {"model.layers.9.self_attn.q_proj.lora_B.weight": torch.ones(2, 2)}
            ),
            r"expected a change of a tensor of state dict, found no 'model.layers.9.self_attn.q_proj.weight' there",
        ),
    ],
)
def test_what_is_broken_is_named(tensors, tmp_path, spoil, message):
    factors = factors_of(tensors, (Q,))
    spoil(factors)
    with pytest.raises(CheckpointError, match=message):
        AdaptedCheckpoint(open_checkpoint(tensors), save_adapter(tmp_path / "adapter", factors))


def test_a_missing_or_unreadable_file_is_named(tensors, tmp_path):
    folder = save_adapter(tmp_path / "adapter", factors_of(tensors, (Q,)))
    (folder / "adapter_model.safetensors").write_bytes(b"short")
    with pytest.raises(CheckpointError, match="expected a complete safetensors file"):
        AdaptedCheckpoint(open_checkpoint(tensors), folder)
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="expected the weights of an adapter, found no such file"):
        AdaptedCheckpoint(open_checkpoint(tensors), folder)
    (folder / "adapter_config.json").write_text("[")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: expected the settings of an adapter as JSON"):
        AdaptedCheckpoint(open_checkpoint(tensors), folder)


def test_an_adapter_of_a_base_in_few_bits_reads_what_the_base_stands_for(tensors, tmp_path):
    scale = tensors[f"{Q}.weight"].abs().amax() / 448
    packed = tensors | {
        f"{module}.weight": (tensors[f"{module}.weight"] / scale).to(torch.float8_e4m3fn) for module in (Q, V)
    }
    packed |= {f"{module}.weight_scale": scale.clone() for module in (Q, V)}
    factors = factors_of(tensors, [Q])
    adapted = AdaptedCheckpoint(open_checkpoint(packed), save_adapter(tmp_path / "adapter", factors))
    network = read_network(adapted)
    by_name = {weight.name: network.matrix(weight) for weight in network.weights}
    plain = {module: packed[f"{module}.weight"].float() * scale for module in (Q, V)}
    product = factors[f"{Q}.lora_B.weight"].double() @ factors[f"{Q}.lora_A.weight"].double()
    torch.testing.assert_close(by_name["layers.0.q"], plain[Q].double() + 2 * product, rtol=1e-12, atol=1e-12)
    assert torch.equal(by_name["layers.1.v"], plain[V])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lora_alpha": "6"}, r"adapter_config\.json: lora_alpha: expected a number, found 6"),
        ({"lora_alpha": True}, "lora_alpha: expected a number, found True"),
        ({"lora_alpha": float("nan")}, "lora_alpha: expected a number, found nan"),
        ({"lora_alpha": 10**400}, "lora_alpha: expected a number, found 1000"),
        ({"lora_alpha": None}, "lora_alpha: expected a number, found None"),
        ({"alpha_pattern": ["q_proj"]}, "alpha_pattern: expected patterns with numbers, found "),
        ({"alpha_pattern": {"q_proj": [1]}}, r"alpha_pattern 'q_proj': expected a number, found \[1\]"),
        ({"alpha_pattern": {"(": 1}}, r"alpha_pattern: expected a regular expression that RE2 knows, found '\('"),
        ({"alpha_pattern": {r"(?<=a)b": 1}}, "alpha_pattern: expected a regular expression that RE2 knows"),
        ({"fan_in_fan_out": "no"}, "fan_in_fan_out: expected true or false, found 'no'"),
        ({"use_rslora": 1.5}, "use_rslora: expected true or false, found 1.5"),
    ],
)
def test_settings_of_a_wrong_type_are_named(tensors, tmp_path, settings, message):
    folder = save_adapter(tmp_path / "adapter", factors_of(tensors, (Q,)), **settings)
    with pytest.raises(CheckpointError, match=message):
        AdaptedCheckpoint(open_checkpoint(tensors), folder)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int8, torch.complex64])
def test_factors_that_are_no_floating_numbers_are_named(tensors, tmp_path, dtype):
    factors = {name: factor.to(dtype) for name, factor in factors_of(tensors, (Q,)).items()}
    with pytest.raises(CheckpointError, match=r"q_proj\.lora_A\.weight': expected one of the dtypes .*, found"):
        AdaptedCheckpoint(open_checkpoint(tensors), save_adapter(tmp_path / "adapter", factors))


def test_a_tensor_is_changed_once(tensors, tmp_path):
    body = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    factors = factors_of(tensors, (Q,))
    twice = {name.removeprefix("model."): factor.clone() for name, factor in factors.items()}
    in_full = {f"{Q}.weight": tensors[f"{Q}.weight"]}
    for number, more in enumerate((twice, in_full)):
        folder = save_adapter(tmp_path / str(number), factors | more)
        with pytest.raises(CheckpointError, match=r"expected one change of 'layers\.0.*weight', found also"):
            AdaptedCheckpoint(open_checkpoint(body), folder)
