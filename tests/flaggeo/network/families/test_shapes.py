"""Shapes decide where names alone say too little: what a structure leaves out of a layer, and how a file stores it."""

import pytest
import torch
from torch import nn

from flaggeo import load
from flaggeo.checkpoint import CheckpointError
from tests.builders import CONFIG, WIDTH, tiny_llama

D, HIDDEN, HEADS, LAYERS = 24, 40, 4, 3
META = {
    "q": ("attention.wq", (D, D)),
    "k": ("attention.wk", (12, D)),
    "v": ("attention.wv", (12, D)),
    "o": ("attention.wo", (D, D)),
    "gate": ("feed_forward.w1", (HIDDEN, D)),
    "down": ("feed_forward.w2", (D, HIDDEN)),
    "up": ("feed_forward.w3", (HIDDEN, D)),
}


def drawn(shapes):
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def whole(network, layer):
    return {weight.role: weight for weight in network.weights if weight.layer == layer and weight.head is None}


@pytest.mark.parametrize("config", [{}, {"model_type": "llama"}])
def test_a_structure_that_knows_some_matrices_of_a_layer_is_not_taken(config):
    """The names of Meta's Llama: those of its MLP are also names of another model."""
    shapes = {f"layers.{i}.{name}.weight": shape for i in range(LAYERS) for name, shape in META.values()}
    tensors = drawn(shapes | {"tok_embeddings.weight": (50, D), "output.weight": (50, D)})
    network = load(tensors, config=config | {"num_attention_heads": HEADS})
    assert network.family == "inferred"
    assert {weight.role for weight in network.weights} == META.keys() | {"embed", "unembed"}
    for role, (name, _) in META.items():
        assert torch.equal(network.matrix(whole(network, 1)[role]), tensors[f"layers.1.{name}.weight"])


def test_a_matrix_that_faces_the_stream_and_no_structure_knows_is_told_by_width_alone():
    narrow, wide = (
        tiny_llama() | {f"model.layers.{i}.extra.weight": torch.ones(7, width) for i in range(3)}
        for width in (5, WIDTH)
    )
    assert load(narrow).family == "llama"
    assert load(wide).family == "inferred"
    assert load(wide, config=CONFIG).structure.known  # the settings are the stronger witness


def test_most_of_a_checkpoint_has_to_be_of_a_structure_that_no_settings_name():
    tensors = tiny_llama()
    beside = {f"vision.{i}.map.weight": torch.ones(300, 300) for i in range(2)}
    assert [load(tensors, config=config).family for config in ({}, CONFIG)] == ["llama", "llama"]
    assert [load(tensors | beside, config=config).family for config in ({}, CONFIG)] == ["inferred", "llama"]


def test_torchs_own_encoder_is_read_as_its_attention_cuts_it():
    layer = nn.TransformerEncoderLayer(D, HEADS, HIDDEN, batch_first=True)
    tensors = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False).state_dict()
    network = load(tensors, config={"num_attention_heads": HEADS})
    weights = whole(network, 2)
    fused = tensors["layers.2.self_attn.in_proj_weight"]
    for role, rows in zip("qkv", fused.chunk(3), strict=True):
        assert torch.equal(network.matrix(weights[role]), rows)
    assert {"o", "up", "down"} <= weights.keys()


def nano_gpt(**changes):
    """GPT-2's names with matrices stored (out, in), as nn.Linear has them."""
    shapes = {"transformer.wte.weight": (50, D), "transformer.ln_f.weight": (D,)}
    matrices = {"attn.c_attn": (3 * D, D), "attn.c_proj": (D, D), "mlp.c_fc": (4 * D, D), "mlp.c_proj": (D, 4 * D)}
    for layer in range(LAYERS):
        shapes |= {f"transformer.h.{layer}.{name}.weight": shape for name, shape in (matrices | changes).items()}
    return drawn(shapes)


@pytest.mark.parametrize("config", [{"num_attention_heads": HEADS}, {"model_type": "gpt2", "n_head": HEADS}])
@pytest.mark.parametrize("biases", [False, True])
def test_matrices_that_fit_only_the_other_way_round_are_read_so(config, biases):
    tensors = nano_gpt()
    if biases:
        names = [name for name in tensors if ".c_" in name]
        tensors |= {name.replace("weight", "bias"): torch.zeros(len(tensors[name])) for name in names}
    network = load(tensors, config=config)
    weights = whole(network, 1)
    assert network.family == "gpt2"
    assert sum("transposed" in remark for remark in network.remarks) == 1
    for role, rows in zip("qkv", tensors["transformer.h.1.attn.c_attn.weight"].chunk(3), strict=True):
        assert torch.equal(network.matrix(weights[role]), rows)
    for role, name in {"o": "attn.c_proj", "up": "mlp.c_fc", "down": "mlp.c_proj"}.items():
        assert torch.equal(network.matrix(weights[role]), tensors[f"transformer.h.1.{name}.weight"])


def test_matrices_that_fit_both_ways_are_read_as_the_naming_has_them():
    """Heads that are together as wide as the MLP, and not as the stream: every matrix has the same two sizes."""
    tensors = tiny_llama()
    for name in [name for name in tensors if "k_proj" in name or "v_proj" in name]:
        tensors[name] = torch.cat([tensors[name]] * 2)
    network = load(tensors, config=CONFIG | {"num_key_value_heads": CONFIG["num_attention_heads"]})
    assert {weight.source.dim for weight in whole(network, 1).values() if weight.role in "qkv"} == {WIDTH}
    assert not any("transposed" in remark for remark in network.remarks)


def test_matrices_of_a_layer_that_fit_neither_way_are_refused():
    with pytest.raises(CheckpointError, match="expected a stream width"):
        load(nano_gpt(**{"mlp.c_fc": (D, 4 * D)}), config={"num_attention_heads": HEADS})
    tensors = nano_gpt() | {"transformer.h.0.mlp.c_fc.bias": torch.zeros(D)}
    with pytest.raises(CheckpointError, match="expected a stream width"):
        load(tensors, config={"num_attention_heads": HEADS})


def test_two_names_that_changed_places_do_not_turn_a_model():
    """What reads a hidden layer and what it writes, and square attention: the names may as well be wrong."""
    shapes = {"self_attn.q_proj": (D, D), "self_attn.k_proj": (D, D), "self_attn.v_proj": (D, D)}
    shapes |= {"self_attn.o_proj": (D, D), "mlp.up_proj": (D, HIDDEN), "mlp.down_proj": (HIDDEN, D)}
    tensors = drawn({f"model.layers.{i}.{name}.weight": shape for i in range(2) for name, shape in shapes.items()})
    with pytest.raises(CheckpointError, match="expected a stream width"):
        load(tensors, config={"model_type": "llama", "num_attention_heads": HEADS})


def test_of_equal_structures_the_one_that_people_know_gives_its_name():
    transformers = pytest.importorskip("transformers")
    config = transformers.RobertaConfig(
        vocab_size=50, hidden_size=D, num_hidden_layers=2, num_attention_heads=HEADS, intermediate_size=HIDDEN
    )
    tensors = transformers.RobertaForMaskedLM(config).state_dict()
    assert load(tensors, config={"model_type": "llama"}).family == "roberta"
