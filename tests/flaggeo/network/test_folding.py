"""Folded matrices against what transformers' own modules compute around each norm."""

import numpy as np
import pytest
import torch
from torch import nn

from flaggeo import CheckpointError, load
from tests.builders import CONFIG, HEAD_WIDTH, HIDDEN, WIDTH, tiny_llama
from tests.flaggeo.checkpoint.test_gguf_file import QUANTISATION, write
from tests.flaggeo.network.test_families import DECODERS, ENCODERS, build


def trained(model_type, **settings):
    """A module whose gains differ and whose biases are not zero."""
    model = build(model_type, (DECODERS | ENCODERS)[model_type] | {"tie_word_embeddings": False} | settings).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 3)
    return model


def by_name(network):
    return {weight.name: weight for weight in network.weights}


def folded(network, name):
    return network.matrix(by_name(network)[name], folded=True)


def length(vectors):
    return vectors.pow(2).mean(dim=-1, keepdim=True).sqrt()


def assert_near(first, second):
    # Norms compute in float32 inside, and add an epsilon to the squared length.
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)


@pytest.fixture
def vectors():
    return torch.randn(5, 32, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


READS = {"llama": "post_attention_layernorm", "gemma": "post_attention_layernorm", "qwen3": "post_attention_layernorm"}
READS |= {"gemma2": "pre_feedforward_layernorm", "gemma3_text": "pre_feedforward_layernorm"}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model_type", "norm"), READS.items())
def test_a_read_takes_over_the_gain_of_the_norm_before_it(model_type, norm, vectors):
    model = trained(model_type)
    network, block = load(model), model.model.layers[1]
    rows = vectors @ folded(network, "layers.1.v").mT
    assert_near(block.self_attn.v_proj(block.input_layernorm(vectors)) * length(vectors), rows)
    for role in ("gate", "up"):
        after_norm = getattr(block.mlp, f"{role}_proj")(getattr(block, norm)(vectors))
        assert_near(after_norm * length(vectors), vectors @ folded(network, f"layers.1.{role}").mT)
    logits = model.lm_head(model.model.norm(vectors)) * length(vectors)
    assert_near(logits, vectors @ folded(network, "unembed").mT)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["gemma2", "gemma3_text", "olmo2"])
def test_a_write_takes_over_the_gain_of_the_norm_after_it(model_type):
    model = trained(model_type)
    network, block = load(model), model.model.layers[0]
    inputs = torch.randn(5, 48, dtype=torch.float64)
    written = block.mlp.down_proj(inputs)
    expected = block.post_feedforward_layernorm(written) * length(written)
    assert_near(expected, inputs @ folded(network, "layers.0.down").mT)
    mixed = inputs.repeat(1, 2)[:, : by_name(network)["layers.0.o"].source.dim]
    written = block.self_attn.o_proj(mixed)
    expected = block.post_attention_layernorm(written) * length(written)
    assert_near(expected, mixed @ folded(network, "layers.0.o").mT)
    if model_type == "olmo2":
        assert torch.equal(folded(network, "layers.0.up"), network.matrix(by_name(network)["layers.0.up"]))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["qwen3", "gemma3_text", "olmo2"])
@pytest.mark.parametrize("role", ["q", "k"])
def test_queries_and_keys_take_over_the_gains_of_their_norms(model_type, role, vectors):
    model = trained(model_type)
    network, block = load(model), model.model.layers[0]
    inputs = vectors if model_type == "olmo2" else block.input_layernorm(vectors)
    projected = getattr(block.self_attn, f"{role}_proj")(inputs)
    width = by_name(network)[f"layers.0.{role}.heads.1"].target.dim
    if model_type != "olmo2":  # OLMo 2 normalises all heads together
        projected = projected.view(5, -1, width)
    expected = (getattr(block.self_attn, f"{role}_norm")(projected) * length(projected)).reshape(5, -1)
    scale = 1 if model_type == "olmo2" else length(vectors)
    assert_near(expected * scale, vectors @ folded(network, f"layers.0.{role}").mT)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["qwen3", "olmo2", "gemma2", "bert"])
def test_heads_are_slices_of_the_folded_whole_also_from_one_reading(model_type):
    network = load(trained(model_type))
    for weight in network.weights:
        if weight.head is None:
            continue
        whole = folded(network, weight.name.partition(".heads")[0])
        cut = whole[slice(*(weight.split.rows or (None,))), slice(*(weight.split.columns or (None,)))]
        stored = network.checkpoint.read(weight.tensor)
        torch.testing.assert_close(network.matrix(weight, stored, folded=True), cut, atol=1e-12, rtol=0)
        assert torch.equal(network.matrix(weight, stored), weight.split(stored))


@pytest.mark.filterwarnings("ignore")
def test_what_a_layernorm_removes_from_a_write_makes_no_difference(vectors):
    model = trained("bert")
    network, block = load(model), model.encoder.layer[0]
    inputs = torch.randn(5, 48, dtype=torch.float64)
    dense, norm = block.output.dense, block.output.LayerNorm
    matrix = folded(network, "layers.0.down")
    torch.testing.assert_close(norm(dense(inputs) + vectors), norm(inputs @ matrix.mT + dense.bias + vectors))
    for name in ("embed", "layers.0.o", "layers.1.down"):
        assert folded(network, name).mean(dim=0).abs().max() < 1e-12
    in_half = load({name: tensor.half() for name, tensor in model.state_dict().items()}, config=model.config.to_dict())
    torch.testing.assert_close(folded(in_half, "layers.0.down"), matrix.float(), atol=2e-3, rtol=0)


def norms_before(model):
    """The LayerNorm behind which each weight reads, by name, in BERT."""
    blocks = model.encoder.layer
    before = {
        "layers.0": (model.embeddings.LayerNorm, blocks[0].attention.output.LayerNorm),
        "layers.1": (blocks[0].output.LayerNorm, blocks[1].attention.output.LayerNorm),
    }
    return {
        f"{layer}.{role}": norm
        for layer, (attention, mlp) in before.items()
        for role, norm in {**dict.fromkeys(("q", "k", "v", "q.heads.1"), attention), "up": mlp}.items()
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["bert", "roberta"])
def test_a_read_behind_a_layernorm_keeps_what_the_norm_can_give_and_nothing_else(model_type, vectors):
    model = trained(model_type)
    network = load(model)
    for name, norm in norms_before(model).items():
        matrix, stored = folded(network, name), network.matrix(by_name(network)[name])
        moved = (norm(vectors) - norm(vectors.flip(0))).detach()
        torch.testing.assert_close(moved @ matrix.mT, moved @ stored.mT, atol=1e-5, rtol=1e-5)
        assert (matrix @ (1 / norm.weight.detach())).abs().max() < 1e-10
        assert torch.linalg.matrix_rank(stored - matrix) == 1
    assert not torch.allclose(matrix, stored - stored.mean(dim=1, keepdim=True), atol=1e-2)  # the gains differ


@pytest.mark.filterwarnings("ignore")
def test_what_reads_a_projected_embedding_is_behind_no_norm_in_the_first_layer():
    network = load(trained("electra", embedding_size=20))
    names = ("layers.0.q", "layers.0.up", "layers.1.q")
    assert [by_name(network)[name].folding.reads_centred for name in names] == [False, True, True]
    assert torch.equal(folded(network, "layers.0.q"), network.matrix(by_name(network)["layers.0.q"]))


def encoder(gains):
    """Tensors of one layer of BERT behind a LayerNorm with these gains, or without any."""
    generator = torch.Generator().manual_seed(0)
    block = "encoder.layer.0."
    shapes = {f"{block}attention.self.{name}": (8, 8) for name in ("query", "key", "value")}
    shapes |= {f"{block}attention.output.dense": (8, 8)}
    shapes |= {f"{block}intermediate.dense": (12, 8), f"{block}output.dense": (8, 12)}
    tensors = {f"{name}.weight": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return tensors | ({} if gains is None else {"embeddings.LayerNorm.weight": gains})


def test_a_layernorm_without_gains_never_moves_along_the_constant_direction():
    network = load(encoder(None), config={"model_type": "bert", "num_attention_heads": 2})
    stored = network.matrix(by_name(network)["layers.0.q"])
    torch.testing.assert_close(folded(network, "layers.0.q"), stored - stored.mean(dim=1, keepdim=True))
    unknown = load(encoder(None), config={"model_type": "novel", "num_attention_heads": 2})
    assert torch.equal(folded(unknown, "layers.0.q"), stored)


@pytest.mark.parametrize("zeros", [1, 3])
def test_coordinates_of_gain_zero_are_not_read(zeros):
    gains = torch.cat([torch.zeros(zeros), torch.linspace(-2, 3, 8 - zeros)])
    network = load(encoder(gains), config={"model_type": "bert", "num_attention_heads": 2})
    stored, matrix = network.matrix(by_name(network)["layers.0.q"]), folded(network, "layers.0.q")
    assert (matrix[:, :zeros] == 0).all()
    torch.testing.assert_close(matrix[:, zeros:], stored[:, zeros:])


def test_the_norms_of_a_gguf_encoder_are_found_under_its_own_names(tmp_path):
    generator = np.random.default_rng(0)
    shapes = {"token_embd": (50, WIDTH), "token_embd_norm": WIDTH}
    for layer in range(2):
        block = dict.fromkeys(("attn_q", "attn_k", "attn_v", "attn_output"), (WIDTH, WIDTH))
        block |= {"ffn_up": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN)}
        block |= dict.fromkeys(("attn_output_norm", "layer_output_norm"), WIDTH)
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in block.items()}
    arrays = {name: generator.uniform(0.5, 2, shape).astype(np.float32) for name, shape in shapes.items()}
    file = write(
        tmp_path / "tiny.gguf",
        {f"{name}.weight": (array, QUANTISATION.F32) for name, array in arrays.items()},
        architecture="bert",
        **{"block_count": 2, "attention.head_count": 4},
    )
    network = load(file)
    before = {"layers.0.q": "token_embd_norm", "layers.1.v": "blk.0.layer_output_norm"}
    before |= {"layers.0.up": "blk.0.attn_output_norm", "layers.1.up": "blk.1.attn_output_norm"}
    for name, norm in before.items():
        assert (folded(network, name) @ torch.from_numpy(1 / arrays[norm])).abs().max() < 1e-4, name


@pytest.mark.filterwarnings("ignore")
def test_folded_matrices_are_those_of_a_module_folded_by_hand():
    model, by_hand = trained("llama").float(), trained("llama").float()
    by_hand.load_state_dict(model.state_dict())
    with torch.no_grad():
        for layer in by_hand.model.layers:
            reads = {
                layer.input_layernorm: (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj),
                layer.post_attention_layernorm: (layer.mlp.gate_proj, layer.mlp.up_proj),
            }
            for norm, projections in reads.items():
                for projection in projections:
                    projection.weight.mul_(norm.weight)
                nn.init.ones_(norm.weight)
        by_hand.lm_head.weight.mul_(by_hand.model.norm.weight)
        nn.init.ones_(by_hand.model.norm.weight)
        tokens = torch.arange(1, 8)[None]
        torch.testing.assert_close(by_hand(tokens).logits, model(tokens).logits, atol=1e-4, rtol=1e-4)
    network, plain = load(model), load(by_hand)
    for weight in network.weights:
        torch.testing.assert_close(network.matrix(weight, folded=True), plain.matrix(by_name(plain)[weight.name]))


def test_gains_of_a_gguf_file_are_complete_and_found_under_its_own_names(tmp_path):
    """The converter has added the 1 that Gemma's modules add."""
    generator = np.random.default_rng(0)
    shapes = {"token_embd": (50, WIDTH), "output_norm": WIDTH}
    block = {"attn_q": (40, WIDTH), "attn_k": (20, WIDTH), "attn_v": (20, WIDTH), "attn_output": (WIDTH, 40)}
    block |= {"ffn_gate": (HIDDEN, WIDTH), "ffn_up": (HIDDEN, WIDTH), "ffn_down": (WIDTH, HIDDEN)}
    block |= dict.fromkeys(("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"), WIDTH)
    block |= dict.fromkeys(("attn_q_norm", "attn_k_norm"), HEAD_WIDTH)
    shapes |= {f"blk.0.{name}": shape for name, shape in block.items()}
    arrays = {name: generator.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()}
    file = write(
        tmp_path / "tiny.gguf",
        {f"{name}.weight": (array, QUANTISATION.F32) for name, array in arrays.items()},
        architecture="gemma3",
        **{"block_count": 1, "attention.head_count": 4, "attention.head_count_kv": 2},
    )
    network = load(file)
    read, written = arrays["blk.0.attn_norm"], np.tile(arrays["blk.0.attn_q_norm"], 4)
    expected = written[:, None] * arrays["blk.0.attn_q"] * read
    torch.testing.assert_close(folded(network, "layers.0.q"), torch.from_numpy(expected))
    expected = arrays["blk.0.post_ffw_norm"][:, None] * arrays["blk.0.ffn_down"]
    torch.testing.assert_close(folded(network, "layers.0.down"), torch.from_numpy(expected))
    torch.testing.assert_close(
        folded(network, "layers.0.up"), torch.from_numpy(arrays["blk.0.ffn_up"] * arrays["blk.0.ffn_norm"])
    )


def test_half_precision_gains_are_applied_in_single_precision():
    """Gemma's gain is 1 + w: in bfloat16 a w of 0.001 would vanish."""
    tensors = {name: tensor.bfloat16() for name, tensor in tiny_llama().items()}
    tensors["model.layers.0.input_layernorm.weight"] = torch.full((WIDTH,), 1e-3).bfloat16()
    network = load(tensors, config=CONFIG | {"model_type": "gemma"})
    weight = by_name(network)["layers.0.v"]
    ratio = network.matrix(weight, folded=True) / network.matrix(weight)
    assert ratio.dtype == torch.float32
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1.001), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("model_type", "name", "gain", "found"),
    [
        ("llama", "model.layers.1.input_layernorm.weight", torch.ones(23), r"expected 24 gains, found shape \(23,\)"),
        (
            "llama",
            "model.layers.1.post_attention_layernorm.weight",
            torch.ones(24, 1),
            r"24 gains, found shape \(24, 1\)",
        ),
        ("llama", "model.norm.weight", torch.ones(()), r"24 gains, found shape \(\)"),
        ("qwen3", "model.layers.1.self_attn.q_norm.weight", torch.ones(20), r"10 or 40 gains, found shape \(20,\)"),
        ("gemma2", "model.layers.1.post_feedforward_layernorm.weight", torch.ones(0), r"24 gains, found shape \(0,\)"),
    ],
)
def test_a_norm_with_another_number_of_gains_is_refused(model_type, name, gain, found):
    with pytest.raises(CheckpointError, match=rf"tensor '{name}': .*{found}".replace("model.", r"model\.")):
        load(tiny_llama() | {name: gain}, config=CONFIG | {"model_type": model_type})


def test_gains_of_one_head_are_known_without_the_number_of_heads():
    tensors = tiny_llama() | {"model.layers.0.self_attn.q_norm.weight": torch.full((HEAD_WIDTH,), 3.0)}
    network = load(tensors)
    whole = by_name(network)["layers.0.q"]
    assert torch.equal(network.matrix(whole, folded=True), 3 * network.matrix(whole))


def test_a_gain_that_is_not_finite_is_refused_when_it_is_folded():
    tensors = tiny_llama() | {"model.norm.weight": torch.full((WIDTH,), torch.nan)}
    network = load(tensors, config=CONFIG)
    network.matrix(by_name(network)["unembed"])
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight.*expected finite numbers"):
        folded(network, "unembed")


def test_continuity_of_a_real_model_moves_as_the_measurements_say(smollm2_file):
    """Cosines of neighbouring leading read vectors of SmolLM2, raw and folded."""
    network = load(smollm2_file)
    weights = by_name(network)
    for fold, expected in ((False, 0.078), (True, 0.138)):
        leading = []
        for layer in range(30):
            matrix = network.matrix(weights[f"layers.{layer}.v"], folded=fold).double()
            leading.append(torch.linalg.eigh(matrix @ matrix.mT).eigenvectors[:, -1] @ matrix)
        unit = nn.functional.normalize(torch.stack(leading), dim=1)
        assert float((unit[1:] * unit[:-1]).sum(dim=1).abs().mean()) == pytest.approx(expected, abs=5e-4)


def test_continuity_of_an_encoder_falls_by_what_no_layernorm_gives(minilm_folder):
    """Mean |cos| of neighbouring first read vectors of MiniLM, stored and folded, by torch's own SVD."""
    network = load(minilm_folder)
    weights = by_name(network)
    expected = {"q": (0.294, 0.229), "k": (0.247, 0.152), "v": (0.208, 0.206), "up": (0.724, 0.721)}
    for role, published in expected.items():
        for fold, mean in zip((False, True), published, strict=True):
            matrices = [network.matrix(weights[f"layers.{layer}.{role}"], folded=fold) for layer in range(6)]
            leading = torch.stack([torch.linalg.svd(matrix.double()).Vh[0] for matrix in matrices])
            assert float((leading[1:] * leading[:-1]).sum(dim=1).abs().mean()) == pytest.approx(mean, abs=5e-4)
