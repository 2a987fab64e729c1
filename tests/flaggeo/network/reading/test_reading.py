import re

import numpy as np
import pytest
import torch

from flaggeo import CheckpointError, UnknownArchitectureError, load
from flaggeo.checkpoint import open_checkpoint
from flaggeo.network.families.record import Naming, Piece, Record, Tower
from flaggeo.network.families.table import load_records
from flaggeo.network.reading import read_network
from flaggeo.network.reading.skipped_tensors import REASONS
from tests.builders import CONFIG, HEAD_WIDTH, QUERY_HEADS, WIDTH, save_folder, tiny_llama
from tests.flaggeo.checkpoint.test_gguf_file import QUANTISATION, write


def test_layers_are_ordered_by_number_not_by_name():
    tensors = tiny_llama(layers=12)
    network = load(dict(sorted(tensors.items())), config=CONFIG | {"num_hidden_layers": 12})
    order = [weight.layer for weight in network.weights if weight.role == "down"]
    assert order == list(range(12))


def test_grouped_queries_share_the_key_space_of_their_group():
    network = load(tiny_llama(), config=CONFIG)
    by_name = {weight.name: weight for weight in network.weights}
    for head in range(QUERY_HEADS):
        query, group = by_name[f"layers.1.q.heads.{head}"], head // 2
        assert query.target == by_name[f"layers.1.k.heads.{group}"].target
        assert by_name[f"layers.1.o.heads.{head}"].source == by_name[f"layers.1.v.heads.{group}"].target
        assert query.target.dim == HEAD_WIDTH
    assert "layers.1.k.heads.2" not in by_name


def test_unknown_number_of_heads_is_said_and_heads_are_left_whole():
    network = load(tiny_llama())
    assert all(weight.head is None for weight in network.weights)
    assert any("number of heads is unknown" in remark for remark in network.remarks)
    assert any("from the tensor names" in remark for remark in network.remarks)


def test_every_unused_tensor_has_a_reason():
    tensors = tiny_llama() | {"model.layers.0.mystery.weight": torch.ones(2, 2), "x.bias": torch.ones(2)}
    reasons = {item.tensor: item.reason for item in load(tensors, config=CONFIG).skipped}
    assert "llama" in reasons["model.layers.0.mystery.weight"]
    assert "diagonal" in reasons["model.norm.weight"]
    assert "translation" in reasons["x.bias"]


def test_the_beginning_that_most_weights_have_is_taken_for_all():
    stray = "layers.0.self_attn.q_proj.weight"
    network = load(tiny_llama() | {stray: torch.ones(40, WIDTH)}, config=CONFIG)
    assert {weight.tensor for weight in network.weights if weight.name == "layers.0.q"} == {f"model.{stray}"}
    assert "second model" in {item.tensor: item.reason for item in network.skipped}[stray]


def test_a_tied_unembedding_is_counted_once(tmp_path):
    tensors = tiny_llama()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    folder = save_folder(tmp_path, tensors, config=CONFIG | {"tie_word_embeddings": True})
    network = load(folder)
    assert "unembed" not in {weight.role for weight in network.weights}
    assert {item.tensor: item.reason for item in network.skipped}["lm_head.weight"].startswith("tied")


def test_settings_of_a_text_tower_are_found_one_level_down():
    network = load(tiny_llama(), config={"model_type": "gemma3", "text_config": CONFIG | {"model_type": "gemma3_text"}})
    assert not network.remarks
    assert "layers.0.q.heads.3" in {weight.name for weight in network.weights}


def llama_with(change):
    tensors = tiny_llama()
    change(tensors)
    return tensors


BLOCK = "model.layers.1."


@pytest.mark.parametrize(
    ("tensors", "config", "message"),
    [
        (
            llama_with(lambda t: t.update({BLOCK + "mlp.up_proj.weight": torch.ones(40, WIDTH + 1)})),
            CONFIG,
            r"tensor '.*layers\.1\.mlp\.up_proj\.weight': expected .* width of 24 \(.*\), found 25 in shape \(40, 25\)",
        ),
        (
            llama_with(lambda t: t.update({BLOCK + "mlp.down_proj.weight": torch.ones(WIDTH, 41)})),
            CONFIG,
            "expected a hidden width of 40, found 41",
        ),
        (
            llama_with(lambda t: t.update({BLOCK + "self_attn.k_proj.weight": torch.ones(15, WIDTH)})),
            CONFIG,
            "expected a height that is 10 \\(the head width\\) times a divisor of 4 heads, found 15",
        ),
        (
            llama_with(lambda t: t.update({BLOCK + "self_attn.q_proj.weight": torch.ones(10, 10, WIDTH)})),
            CONFIG,
            r"expected a matrix, found shape \(10, 10, 24\)",
        ),
        (
            llama_with(lambda t: [t.pop(name) for name in list(t) if BLOCK in name and "norm" not in name]),
            CONFIG,
            r"expected 3 layers \(num_hidden_layers of the settings\), found 2: layer 1 missing",
        ),
        (tiny_llama(), CONFIG | {"num_attention_heads": 7}, "expected a height divisible by 7 heads, found 40"),
        (tiny_llama(), CONFIG | {"num_key_value_heads": 4}, "expected 4 key-value heads of width 10, found 2"),
        (tiny_llama(), CONFIG | {"num_attention_heads": 1}, "divisor of 1 heads"),
        (tiny_llama(), CONFIG | {"num_hidden_layers": 5}, "expected 5 layers .*, found 3: layers 3, 4 missing"),
        (tiny_llama(), CONFIG | {"num_hidden_layers": 2}, "expected 2 layers .*, found 3$"),
        (
            tiny_llama(),
            CONFIG | {"num_hidden_layers": 10**15},
            "expected 10+ layers .*, found 3: layers 3, 4, 5, 6 and 9+3 more missing",
        ),
        (
            tiny_llama(),
            CONFIG | {"num_hidden_layers": "3"},
            "'num_hidden_layers': expected a positive whole .* found '3'",
        ),
        (tiny_llama(), CONFIG | {"num_attention_heads": -4}, "'num_attention_heads': expected a positive whole number"),
        ({"lm_head.weight": torch.ones(5, 4)}, {}, "expected tensor names of a known architecture"),
        (
            {"layers.0.self_attn.q_proj.weight": torch.ones(8, 4)},
            CONFIG | {"num_hidden_layers": 1, "num_key_value_heads": 3},
            "expected key-value heads whose number divides that of the 4 query heads, found 3",
        ),
        (
            {name: tensor for name, tensor in tiny_llama().items() if ".0." not in name},
            {},
            "expected layers 0 to 2, found 2: layer 0 missing",
        ),
        (
            llama_with(lambda t: t.update({BLOCK + "mlp.up_proj.weight": torch.ones(40, WIDTH, dtype=torch.int8)})),
            CONFIG,
            "found I8: de-quantise",
        ),
    ],
)
def test_contradictions_name_the_tensor_the_expected_and_the_found(tensors, config, message):
    with pytest.raises(CheckpointError, match=message):
        load(tensors, config=config)


@pytest.mark.parametrize(
    ("dropped", "names"),
    [
        (["mlp.gate_proj", "mlp.up_proj"], ["q", "k", "v", "o", "down"]),
        (["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"], ["gate", "up", "down"]),
        (["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"], ["q", "k", "v", "o"]),
        (["self_attn.q_proj", "self_attn.o_proj"], ["k", "v", "gate", "up", "down"]),
        (["self_attn.k_proj", "self_attn.v_proj"], ["q", "o", "gate", "up", "down"]),
    ],
)
def test_a_layer_may_lack_several_of_its_weights_and_the_remarks_say_which(dropped, names):
    tensors = tiny_llama()
    for name in dropped:
        del tensors[f"{BLOCK}{name}.weight"]
    network, full = load(tensors, config=CONFIG), load(tiny_llama(), config=CONFIG)
    assert [w.role for w in network.weights if w.layer == 1 and w.head is None] == names
    complete = {weight.name: weight for weight in full.weights}
    for weight in network.weights:
        expected = complete[weight.name]
        assert (weight.source.name, weight.target.name) == (expected.source.name, expected.target.name)
        assert (weight.source.dim, weight.target.dim) == (expected.source.dim, expected.target.dim)
    heads = {weight.name for weight in full.weights if weight.head is not None and weight.role in names}
    assert heads <= {weight.name for weight in network.weights}
    # One remark on each block that a layer lacks in part, or on the kinds of layers where it lacks one as a whole.
    assert len(network.remarks) == 1
    assert ("layers 0, 2: " in network.remarks[0]) == (len(names) < 5)


@pytest.mark.parametrize(
    ("attending", "told"),
    [({0, 2, 4}, ["0, 2, 4", "1, 3"]), ({0, 1, 2, 4}, ["0-2, 4", "3"]), ({3, 4}, ["0-2", "3-4"])],
)
def test_layers_with_other_blocks_are_told_in_one_remark(attending, told):
    """Attention in some layers and experts in the others, as in a hybrid: no list of all that each lacks."""
    attention = [f"self_attn.{role}_proj" for role in "qkvo"]
    experts = [f"block_sparse_moe.experts.0.{name}" for name in ("w1", "w2", "w3")]
    names = {layer: attention if layer in attending else experts for layer in range(5)}
    tensors = {f"model.layers.{layer}.{name}.weight": torch.ones(4, 4) for layer in names for name in names[layer]}
    config = {"model_type": "mixtral", "num_attention_heads": 2, "num_hidden_layers": 5}
    (remark,) = load(tensors, config=config).remarks
    assert re.findall(r"layers? ([\d, -]*\d):", remark) == told


def test_a_table_that_two_towers_share_is_said_to_be_read_by_both():
    pieces = [Piece(f"{tower}.{{layer}}.{role}.weight", role, tower) for tower in "ab" for role in ("up", "down")]
    naming = Naming((Piece("shared.weight", "embed", "a"), Piece("b.words.weight", "embed", "b"), *pieces))
    record = Record(("two",), (Tower("a"), Tower("b", embedding_of="a")), naming)
    stored = {piece.tensor.format(layer=0): torch.ones(4, 4) for piece in pieces} | {"shared.weight": torch.ones(7, 4)}
    own = {"b.words.weight": torch.ones(7, 4)}
    shared, apart = (
        read_network(open_checkpoint(tensors, {"model_type": "two"}), records=[record])
        for tensors in (stored, stored | own)
    )
    (remark,) = shared.remarks
    assert "a.embed" in remark
    assert not apart.remarks
    assert shared.depth == {"a": 1, "b": 1}


def test_every_reason_of_the_table_is_explained():
    namings = [naming for record in load_records() for naming in (record.saved, record.live) if naming is not None]
    assert {reason for naming in namings for reason in naming.other.values()} <= REASONS.keys()


# What a forward pass tells of tensors that are no weights of a block.
@pytest.mark.parametrize(
    ("model_type", "tensor", "reason"),
    [
        ("gpt_oss", "model.layers.{layer}.self_attn.sinks", "joined"),
        ("vit", "vit.embeddings.cls_token", "joined"),
        ("vit", "vit.embeddings.position_embeddings", "position table"),
        ("gpt2", "transformer.wpe.weight", "position table"),
        (
            "swin",
            "swin.encoder.layers.{stage}.blocks.{layer}.attention.self.relative_position_bias_table",
            "added",
        ),
        ("jamba", "model.layers.{layer}.mamba.dt_proj.bias", "added"),
        ("jamba", "model.layers.{layer}.mamba.D", "multiplied"),
        ("jamba", "model.layers.{layer}.mamba.x_proj.weight", "state"),
        ("rwkv", "rwkv.blocks.{layer}.attention.time_mix_key", "multiplied"),
        ("siglip", "logit_scale", "multiplied"),
        ("siglip", "vision_model.head.probe", "other"),
        ("t5", "encoder.block.{layer}.layer.0.SelfAttention.relative_attention_bias.weight", "position"),
        ("deberta", "deberta.encoder.rel_embeddings.weight", "position"),
        ("whisper", "model.encoder.conv1.weight", "stem"),
        ("whisper", "model.encoder.conv2.weight", "between"),
        ("resnet", "resnet.embedder.embedder.convolution.weight", "stem"),
        ("resnet", "resnet.embedder.embedder.normalization.bias", "bias"),
        ("resnet", "resnet.embedder.embedder.normalization.running_mean", "buffer"),
        ("wav2vec2", "wav2vec2.masked_spec_embed", "unused"),
        ("wav2vec2", "wav2vec2.feature_extractor.conv_layers.1.conv.weight", "stem"),
        ("wav2vec2", "wav2vec2.encoder.pos_conv_embed.conv.parametrizations.weight.original0", "other"),
        ("dinov2", "dinov2.embeddings.mask_token", "unused"),
        ("bart", "final_logits_bias", "buffer"),
        ("granite_speech", "projector.query", "unused"),
    ],
)
def test_the_table_says_only_what_is_known_of_other_tensors(model_type, tensor, reason):
    found = {
        record.saved.other[tensor]
        for record in load_records()
        if model_type in record.model_types and tensor in record.saved.other
    }
    assert found == {reason}


@pytest.mark.parametrize("name", [f"self_attn.{one}_proj" for one in "qkvo"] + ["mlp.up_proj", "mlp.down_proj"])
def test_a_block_that_lacks_one_tensor_is_damaged(name):
    tensors = tiny_llama()
    lost = f"{BLOCK}{name}.weight"
    del tensors[lost]
    for config in (CONFIG, {}):
        with pytest.raises(CheckpointError, match=rf"tensor '{re.escape(lost)}': expected in layer 1"):
            load(tensors, config=config)


@pytest.mark.parametrize("setting", ["num_kv_shared_layers", "attention_k_eq_v"])
def test_a_layer_that_shares_its_values_lacks_them_by_design(setting):
    tensors = tiny_llama()
    del tensors[f"{BLOCK}self_attn.v_proj.weight"]
    network = load(tensors, config=CONFIG | {setting: 1})
    assert "layers.1.v" not in {weight.name for weight in network.weights}


def test_an_expert_that_lacks_one_tensor_is_damaged():
    shapes = {"gate.weight": (2, WIDTH)}
    shapes |= {f"experts.{e}.w{i}.weight": (WIDTH, 40) if i == 2 else (40, WIDTH) for e in range(2) for i in (1, 2, 3)}
    config = CONFIG | {"model_type": "mixtral"}
    tensors = {name: tensor for name, tensor in tiny_llama().items() if "mlp" not in name}
    tensors |= {
        f"model.layers.{i}.block_sparse_moe.{n}": torch.ones(shape) for i in range(3) for n, shape in shapes.items()
    }
    assert "layers.2.expert_up.experts.1" in {weight.name for weight in load(tensors, config=config).weights}
    del tensors[f"{BLOCK}block_sparse_moe.experts.1.w3.weight"]
    with pytest.raises(CheckpointError, match=r"experts\.1\.w3\.weight': expected in layer 1"):
        load(tensors, config=config)


SIZES = {"hidden_size": WIDTH, "intermediate_size": 40, "vocab_size": 50}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 40}, r"expected a stream width of 40 \(hidden_size of the settings\), found 24"),
        ({"intermediate_size": 41}, r"up_proj.*expected a hidden width of 41 \(intermediate_size .*\), found 40"),
        ({"vocab_size": 51}, r"embed_tokens.*expected a height of 51 \(vocab_size of the settings\), found 50"),
    ],
)
def test_sizes_of_the_settings_are_held_against_the_weights(changed, message):
    assert load(tiny_llama(), config=CONFIG | SIZES).remarks == ()
    for model_type in ("llama", "unheard_of"):
        with pytest.raises(CheckpointError, match=message):
            load(tiny_llama(), config=CONFIG | SIZES | changed | {"model_type": model_type})


def test_sizes_of_another_section_say_nothing_of_a_tower():
    config = {"model_type": "gemma3", "hidden_size": 7, "text_config": CONFIG | SIZES | {"model_type": "gemma3_text"}}
    config["vision_config"] = {"hidden_size": 9, "intermediate_size": 11}
    assert load(tiny_llama(), config=config).spaces["stream"].dim == WIDTH


def test_an_embedding_may_be_padded_and_the_remarks_say_so():
    (remark,) = load(tiny_llama(), config=CONFIG | SIZES | {"vocab_size": 45}).remarks
    assert "50" in remark
    assert "45" in remark


def test_the_fewer_of_weights_that_contradict_each_other_are_named():
    tensors = tiny_llama()
    for layer in range(3):
        up, down = (f"model.layers.{layer}.mlp.{name}_proj.weight" for name in ("up", "down"))
        tensors[up], tensors[down] = tensors[down], tensors[up]
    with pytest.raises(CheckpointError, match=r"mlp\.\w+_proj\.weight': expected a stream width of 24 \(as that of "):
        load(tensors, config=CONFIG)


def test_a_block_may_have_a_single_weight_and_the_remarks_say_what_it_lacks():
    network = load({"layers.0.self_attn.k_proj.weight": torch.ones(5, 4)})
    assert [weight.name for weight in network.weights] == ["layers.0.k"]
    assert "no layer has q, with which k composes" in network.remarks
    without_gates = {name: tensor for name, tensor in tiny_llama().items() if "gate" not in name}
    assert load(without_gates, config=CONFIG).remarks == ()


def test_an_unknown_architecture_names_what_was_found():
    with pytest.raises(UnknownArchitectureError, match=r"found 1 tensors, 'a' first: model type 'x' is not"):
        load({"a": torch.ones(2, 2)}, config={"model_type": "x"})
    with pytest.raises(UnknownArchitectureError, match="expected tensors, found none"):
        load({})


def test_an_embedding_narrower_than_the_stream_is_left_out_with_the_reason():
    network = load(tiny_llama() | {"model.embed_tokens.weight": torch.ones(50, 7)}, config=CONFIG)
    reasons = {item.tensor: item.reason for item in network.skipped}
    assert reasons["model.embed_tokens.weight"] == "its width 7 is not the stream's 24: a projection lies between"
    assert network.spaces["stream"].dim == 24


def test_a_tied_tensor_of_a_module_is_listed_as_such():
    tensors = tiny_llama()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    reasons = {item.tensor: item.reason for item in load(tensors, config=CONFIG).skipped}
    assert reasons["lm_head.weight"] == "the same tensor as 'model.embed_tokens.weight', which is counted once"


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_that_training_wrappers_put_in_front_are_known(prefix):
    wrapped = load({f"{prefix}{name}": tensor for name, tensor in tiny_llama().items()}, config=CONFIG)
    assert [weight.name for weight in wrapped.weights] == [
        weight.name for weight in load(tiny_llama(), config=CONFIG).weights
    ]


def test_a_head_count_for_each_layer_is_understood():
    network = load(tiny_llama(), config=CONFIG | {"num_attention_heads": [4, 4, 4], "num_key_value_heads": [2, 2, 2]})
    assert "layers.2.q.heads.3" in {weight.name for weight in network.weights}


def test_gguf_and_hugging_face_give_the_same_matrices(tmp_path):
    """The rows of q and k are interleaved in the file, as the converter of llama.cpp writes them."""
    tensors = tiny_llama()
    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v"}
    names |= {"self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up"}
    names |= {"mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm"}
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stored = {}
    for name, tensor in tensors.items():
        match = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.weight", name)
        ours = f"blk.{match[1]}.{names[match[2]]}" if match else outside[name.removesuffix(".weight")]
        array = tensor.numpy()
        if ours.endswith(("attn_q", "attn_k")):
            array = array.reshape(-1, 2, HEAD_WIDTH // 2, WIDTH).swapaxes(1, 2).reshape(array.shape)
        stored[f"{ours}.weight"] = (np.ascontiguousarray(array), QUANTISATION.F32)
    settings = {"block_count": 3, "attention.head_count": 4, "attention.head_count_kv": 2}
    from_gguf = load(write(tmp_path / "tiny.gguf", stored, **settings))
    from_dict = load(tensors, config=CONFIG)
    assert [weight.name for weight in from_gguf.weights] == [weight.name for weight in from_dict.weights]
    for ours, theirs in zip(from_gguf.weights, from_dict.weights, strict=True):
        assert (ours.source, ours.target) == (theirs.source, theirs.target)
        first, second = (
            weight.split(network.checkpoint.read(weight.tensor))
            for weight, network in ((ours, from_gguf), (theirs, from_dict))
        )
        assert torch.equal(first, second), ours.name
