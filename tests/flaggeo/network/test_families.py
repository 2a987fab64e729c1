"""The family table against transformers' own modules: tiny random models, from disk and alive."""

import pytest
import torch

from flaggeo import load
from flaggeo.network.families.gguf_names import gguf_naming
from flaggeo.network.families.names import Names

transformers = pytest.importorskip("transformers")

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "vocab_size": 101,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
DECODERS = {
    "llama": {},
    "mistral": {},
    "qwen2": {},
    "qwen3": {"head_dim": 16},
    "olmo2": {},
    "gemma": {"head_dim": 16},
    "gemma2": {"head_dim": 16},
    "gemma3_text": {"head_dim": 16},
    "smollm3": {},
    "granite": {},
}
ENCODERS = {"bert": {}, "roberta": {}, "xlm-roberta": {}, "camembert": {}, "electra": {"embedding_size": 20}}


def build(model_type, extra):
    torch.manual_seed(0)  # transformers draws its weights from the global generator
    config = transformers.AutoConfig.for_model(model_type, **SMALL | extra)
    auto = transformers.AutoModelForCausalLM if model_type in DECODERS else transformers.AutoModel
    return auto.from_config(config, attn_implementation="eager").eval()


@pytest.mark.filterwarnings("ignore")  # transformers warns of its own deprecations
@pytest.mark.parametrize(("model_type", "extra"), (DECODERS | ENCODERS).items())
def test_disk_and_live_module_give_one_network_and_every_tensor_is_accounted_for(tmp_path, model_type, extra):
    model = build(model_type, extra)
    model.save_pretrained(tmp_path)
    alive, saved = load(model), load(tmp_path)

    assert [weight.name for weight in alive.weights] == [weight.name for weight in saved.weights]
    family = alive.family
    assert family == model_type
    assert not saved.remarks
    whole = [weight for weight in saved.weights if weight.head is None and weight.layer is not None]
    assert len(whole) == SMALL["num_hidden_layers"] * (7 if model_type in DECODERS else 6)
    for weight, other in zip(alive.weights, saved.weights, strict=True):
        matrix = weight.split(alive.checkpoint.read(weight.tensor))
        assert torch.equal(matrix, other.split(saved.checkpoint.read(other.tensor)))
    for network in (alive, saved):
        used = {weight.tensor for weight in network.weights}
        skipped = {item.tensor for item in network.skipped}
        assert used | skipped == {*network.checkpoint.headers, *network.checkpoint.aliases}
        assert not used & skipped
        known = {placed.tensor for placed in network.structure.names.placed}
        # Heads are in no table of what stands below them.
        assert {name for name in skipped - known if "pooler" not in name} <= {*network.checkpoint.aliases}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "bert"])
def test_heads_are_what_the_module_itself_cuts(model_type):
    """Run the projection on basis vectors, cut its output as attention does, compare with the slices."""
    model = build(model_type, (DECODERS | ENCODERS)[model_type])
    network = load(model)
    width = 16 if model_type == "qwen3" else 8
    modules = dict(model.named_modules())
    basis = torch.eye(SMALL["hidden_size"])
    for weight in network.weights:
        if weight.head is None or weight.role == "o":
            continue
        module = modules[weight.tensor.removesuffix(".weight")]
        output = module(basis) - module(torch.zeros_like(basis))  # without the bias
        cut = output.view(len(basis), -1, width)[:, weight.head]
        torch.testing.assert_close(weight.split(network.checkpoint.read(weight.tensor)), cut.mT, atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_an_output_head_maps_its_slice_of_the_concatenated_heads():
    model = build("llama", {})
    network = load(model)
    module = dict(model.named_modules())["model.layers.1.self_attn.o_proj"]
    for weight in network.weights:
        if weight.role == "o" and weight.layer == 1 and weight.head is not None:
            inputs = torch.zeros(8, 4, 8)
            inputs[:, weight.head] = torch.eye(8)
            expected = module(inputs.view(8, 32)).mT
            torch.testing.assert_close(weight.split(network.checkpoint.read(weight.tensor)), expected)
            assert weight.source.name == f"layers.1.heads.{weight.head // 2}.values"


@pytest.mark.parametrize(("architecture", "on_stream"), [("LLAMA", False), ("GEMMA2", False), ("BERT", True)])
def test_gguf_names_agree_with_the_gguf_package(architecture, on_stream):
    """Each name that the package gives a role has that role here, and the norms stand where it says."""
    gguf = pytest.importorskip("gguf")
    kinds = {
        "TOKEN_EMBD": "embed", "ATTN_Q": "q", "ATTN_K": "k", "ATTN_V": "v", "ATTN_OUT": "o",
        "FFN_GATE": "gate", "FFN_UP": "up", "FFN_DOWN": "down", "OUTPUT": "unembed",
    }  # fmt: skip
    arch = gguf.MODEL_ARCH[architecture]
    theirs = {
        gguf.TENSOR_NAMES[gguf.MODEL_TENSOR[kind]].format(bid=2) + ".weight": role
        for kind, role in kinds.items()
        if gguf.MODEL_TENSOR[kind] in gguf.MODEL_TENSORS[arch]
    }
    placed = Names(gguf_naming(on_stream=on_stream, kind="rms"), theirs).placed
    assert {one.tensor: one.part.role for one in placed} == theirs
    assert {one.numbers["layer"] for one in placed if "blk" in one.tensor} == {2}
