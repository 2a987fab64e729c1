"""Changes of basis against transformers' own modules: what is allowed keeps the outputs, what is not moves them."""

from dataclasses import replace

import pytest
import torch

from flaggeo import CheckpointError, Side, Symmetry, leading_spectrum, load
from flaggeo.network.gauge import SPACES, change_basis
from manifolds import projection_overlap
from tests.builders import CONFIG, tiny_llama
from tests.flaggeo.network.test_families import DECODERS, SMALL

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of its own deprecations

UNTIED = {"tie_word_embeddings": False}
MODELS = {
    "llama": UNTIED,
    "qwen2": UNTIED,
    "qwen3": UNTIED,
    "olmo2": UNTIED,
    "gemma": UNTIED,
    "gemma2": {},
    "gemma3_text": {},
    "smollm3": UNTIED | {"num_hidden_layers": 4},  # every fourth layer has no rotary positions
    "granite": UNTIED,
    "bert": {},
    "roberta": {},
}


def build(model_type, **settings):
    """A tiny model whose gains and biases are all different, as training leaves them."""
    torch.manual_seed(0)  # transformers draws its weights from the global generator
    config = SMALL | DECODERS.get(model_type, {}) | settings
    config = transformers.AutoConfig.for_model(model_type, **config)
    decoder = model_type in DECODERS
    auto = transformers.AutoModelForCausalLM if decoder else transformers.AutoModelForMaskedLM
    model = auto.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) / 3)
            else:
                parameter.mul_(6)  # larger than the usual start, so that every nonlinearity is felt
    return model


def outputs(model, tensors=None):
    if tensors is not None:
        model = type(model)(model.config).eval()
        model.load_state_dict(tensors)
    with torch.no_grad():
        return model(torch.arange(1, 22).view(3, 7)).logits


def distance(model, tensors):
    """Largest change of a logit, in units of their spread."""
    before = outputs(model)
    return float((outputs(model, tensors) - before).abs().max() / before.std())


@pytest.mark.parametrize("spaces", [*((space,) for space in SPACES), SPACES], ids="+".join)
@pytest.mark.parametrize(("model_type", "settings"), MODELS.items(), ids=MODELS)
def test_outputs_stay_and_tensors_move(model_type, settings, spaces):
    model = build(model_type, **settings)
    tensors = change_basis(load(model), spaces=spaces, seed=3)
    stored = model.state_dict()
    assert tensors.keys() == stored.keys()
    assert all(tensors[name].dtype == tensor.dtype for name, tensor in stored.items())
    moved = [name for name in stored if not torch.allclose(tensors[name], stored[name], rtol=1e-2, atol=1e-2)]
    assert len(moved) >= 2 * SMALL["num_hidden_layers"]
    assert distance(model, tensors) < 1e-5


def claiming(network, kind, symmetry):
    """The network as if a kind of spaces had another symmetry."""

    def claim(space):
        return replace(space, symmetry=symmetry) if space.name.endswith(kind) else space

    return replace(
        network,
        weights=tuple(
            replace(weight, source=claim(weight.source), target=claim(weight.target)) for weight in network.weights
        ),
    )


@pytest.mark.parametrize(
    ("model_type", "settings", "kind", "claimed"),
    [
        ("llama", UNTIED, "keys", Symmetry.GENERAL_LINEAR),
        ("llama", UNTIED, "stream", Symmetry.GENERAL_LINEAR),
        ("qwen3", UNTIED, "keys", Symmetry.ROTARY_BLOCK),
        ("olmo2", UNTIED, "keys", Symmetry.ROTARY_BLOCK),
        ("olmo2", UNTIED, "stream", Symmetry.ORTHOGONAL),
        ("bert", {}, "stream", Symmetry.SIGNED_PERMUTATION),
        ("bert", {}, "hidden", Symmetry.SIGNED_PERMUTATION),
        ("bert", {}, "hidden", Symmetry.SCALED_PERMUTATION),
        ("bert", {"hidden_act": "tanh"}, "hidden", Symmetry.SCALED_PERMUTATION),
        ("bert", {"hidden_act": "relu"}, "hidden", Symmetry.SIGNED_PERMUTATION),
        ("bert", {"hidden_act": "relu"}, "hidden", Symmetry.GENERAL_LINEAR),
    ],
)
def test_a_larger_group_than_the_true_one_changes_the_outputs(model_type, settings, kind, claimed):
    model = build(model_type, **settings)
    network = load(model)
    assert distance(model, change_basis(claiming(network, kind, claimed), spaces=[kind])) > 0.1


@pytest.mark.parametrize("activation", ["relu", "tanh", "linear", "silu", "gelu_new"])
def test_hidden_layers_of_every_activation_keep_the_outputs(activation):
    model = build("bert", hidden_act=activation)
    assert distance(model, change_basis(load(model), spaces=["hidden"])) < 1e-5


def test_norms_after_writes_with_equal_gains_would_let_the_stream_rotate():
    """Why it says that gains are taken to differ: before training they do not."""
    model = build("olmo2", **UNTIED)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layernorm" in name:
                parameter.fill_(0.7)
    network = claiming(load(model), "stream", Symmetry.ORTHOGONAL)
    assert distance(model, change_basis(network, spaces=["stream"])) < 1e-5


def test_the_gate_is_permuted_with_the_hidden_layer_but_not_scaled():
    model = build("llama", **UNTIED)
    tensors = change_basis(load(model), spaces=["hidden"])
    name = "model.layers.0.mlp.{}_proj.weight"
    before, after = (tensor[name.format("gate")].norm(dim=1).sort().values for tensor in (model.state_dict(), tensors))
    torch.testing.assert_close(before, after)
    scaled = model.state_dict() | {
        name.format("gate"): 2 * model.state_dict()[name.format("gate")],
        name.format("down"): model.state_dict()[name.format("down")] / 2,
    }
    assert distance(model, scaled) > 0.1


def frame(network, weight, space, *, rank=2, folded=True):
    side = Side.READ if weight.source.name == space else Side.WRITE
    assert weight.space(side).name == space
    return leading_spectrum(network.matrix(weight, folded=folded).double(), rank).frame(side)


def overlap(network, first, second, space, **how):
    """Overlap of the leading planes of two weights in a space."""
    by_name = {weight.name: weight for weight in network.weights}
    return float(projection_overlap(*(frame(network, by_name[name], space, **how) for name in (first, second))))


def moves(network, changed, *, rank=2, folded=True):
    """By how much each weight's overlaps in the stream with the embedding's plane change, by the weight's name."""
    found = {}
    for weight in network.weights:
        if "stream" in (weight.source.name, weight.target.name) and weight.role != "embed":
            pair = "embed", weight.name
            before, after = (overlap(which, *pair, "stream", rank=rank, folded=folded) for which in (network, changed))
            found[weight.name] = abs(before - after)
    return found


def changed_network(model, network, **how):
    return load(change_basis(network, **how), config=model.config.to_dict())


@pytest.mark.parametrize("model_type", ["llama", "gemma2", "bert"])
def test_overlaps_in_the_stream_survive_its_changes_of_basis_once_norms_are_folded(model_type):
    model = build(model_type, **MODELS[model_type])
    network = load(model)
    assert max(moves(network, changed_network(model, network, spaces=["stream"])).values()) < 1e-4


def test_overlaps_of_raw_reads_depend_on_where_the_gain_stands():
    model = build("llama", **UNTIED)
    network = load(model)
    moved = moves(network, changed_network(model, network, spaces=["stream"]), folded=False)
    assert all(moved[name] < 1e-4 for name in ("layers.0.o", "layers.1.down"))
    assert all(moved[name] > 1e-3 for name in ("layers.0.q", "layers.1.up", "unembed"))


def test_overlaps_as_stored_depend_on_what_layernorms_do_not_see():
    model = build("bert")
    network = load(model)
    changed = changed_network(model, network, spaces=["stream"])
    assert distance(model, change_basis(network, spaces=["stream"])) < 1e-5
    assert max(moves(network, changed).values()) < 1e-4
    moved = moves(network, changed, folded=False)
    whole = [moved[name] for name in moved if "heads" not in name]
    assert len(whole) == 6 * SMALL["num_hidden_layers"]
    assert min(whole) > 5e-4
    assert sorted(whole)[len(whole) // 2] > 0.01


def test_the_constant_direction_is_seen_behind_a_layernorm_whose_gains_differ():
    """The unseen one is that of the reciprocal gains: W + r 1' is another function."""
    model = build("bert")
    tensors = dict(model.state_dict())
    name = "bert.encoder.layer.1.intermediate.dense.weight"
    tensors[name] = tensors[name] + torch.randn(len(tensors[name]), 1, generator=torch.Generator().manual_seed(0))
    assert distance(model, tensors) > 0.1


@pytest.mark.parametrize("model_type", ["llama", "bert"])
def test_leading_subspaces_survive_where_the_other_end_allows_rotations_at_most(model_type):
    model = build(model_type, **MODELS[model_type])
    network = load(model)
    moved = moves(network, changed_network(model, network))
    by_name = {weight.name: weight for weight in network.weights}
    kept = {
        name
        for name in moved
        if Symmetry.ORTHOGONAL.contains(
            by_name[name].symmetry(Side.READ if by_name[name].target.name == "stream" else Side.WRITE)
        )
    }
    assert {by_name[name].role for name in kept} == ({"gate", "unembed"} if model_type == "llama" else {"up", "down"})
    assert max(moved[name] for name in kept) < 1e-4
    others = [moved[name] for name in moved.keys() - kept]
    assert sum(others) / len(others) > 0.005


def test_whole_head_subspaces_survive_every_change_of_basis():
    """The projection kernel between heads: nothing is cut off."""
    model = build("llama", **UNTIED)
    network = load(model)
    changed = changed_network(model, network)
    heads = [weight for weight in network.weights if weight.head is not None]
    for first, second in zip(heads[:-5], heads[5:], strict=True):
        before, after = (overlap(w, first.name, second.name, "stream", rank=8) for w in (network, changed))
        assert after == pytest.approx(before, abs=1e-4)


@pytest.mark.parametrize(
    ("first", "second", "space"),
    [
        ("layers.0.v.heads.1", "layers.0.o.heads.2", "layers.0.heads.1.values"),
        ("layers.0.k.heads.1", "layers.0.q.heads.2", "layers.0.heads.1.keys"),
        ("layers.0.up", "layers.0.down", "layers.0.hidden"),
    ],
)
def test_overlaps_in_spaces_with_a_larger_group_depend_on_the_basis(first, second, space):
    model = build("llama", **UNTIED)
    network = load(model)
    assert not Symmetry.ORTHOGONAL.contains(network.spaces[space].symmetry)
    changed = changed_network(model, network)
    assert abs(overlap(network, first, second, space) - overlap(changed, first, second, space)) > 0.01


def test_what_a_head_writes_for_what_it_reads_survives_with_its_rank():
    model = build("llama", **UNTIED)
    with torch.no_grad():
        rows = model.model.layers[0].self_attn.v_proj.weight[8:16]
        rows[3:] = rows[:3].repeat(2, 1)[:5]
    network = load(model)
    changed = changed_network(model, network, spaces=["values"])
    maps = []
    for which in (network, changed):
        by_name = {weight.name: which.matrix(weight).double() for weight in which.weights}
        maps.append(by_name["layers.0.o.heads.2"] @ by_name["layers.0.v.heads.1"])
        assert torch.linalg.matrix_rank(by_name["layers.0.v.heads.1"], rtol=1e-5) == 3
    torch.testing.assert_close(*maps, atol=1e-5, rtol=1e-5)


def test_an_encoder_without_an_unembedding_shows_the_stream_in_the_new_basis():
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(**SMALL)).eval()
    other = transformers.BertModel(transformers.BertConfig(**SMALL)).eval()
    other.load_state_dict(change_basis(load(model)))
    with torch.no_grad():
        before, after = (which(torch.arange(1, 8)[None]) for which in (model, other))
    assert not torch.allclose(before.last_hidden_state, after.last_hidden_state, atol=1e-2)
    sorted_states = (out.last_hidden_state.sort(dim=-1).values for out in (before, after))
    torch.testing.assert_close(*sorted_states, atol=1e-5, rtol=0)
    torch.testing.assert_close(before.pooler_output, after.pooler_output, atol=1e-5, rtol=0)


def test_a_stream_wider_than_its_embedding_is_changed_behind_the_projection():
    torch.manual_seed(0)
    config = transformers.ElectraConfig(**SMALL | {"embedding_size": 20})
    model, other = transformers.ElectraModel(config).eval(), transformers.ElectraModel(config).eval()
    other.load_state_dict(change_basis(load(model)))
    with torch.no_grad():
        states = (which(torch.arange(1, 8)[None]).last_hidden_state.sort(dim=-1).values for which in (model, other))
    torch.testing.assert_close(*states, atol=1e-5, rtol=0)


def test_a_tied_unembedding_cannot_take_over_a_gain_but_needs_not_where_all_are_equal():
    model = build("llama", tie_word_embeddings=True)
    with pytest.raises(ValueError, match=r"cannot fold the gain 'model\.norm\.weight' of the final norm.*tied"):
        change_basis(load(model))
    with torch.no_grad():
        model.model.norm.weight.fill_(1.5)
    tensors = change_basis(load(model))
    assert tensors["lm_head.weight"] is tensors["model.embed_tokens.weight"]
    assert distance(model, tensors) < 1e-5


def test_a_second_copy_of_a_tied_unembedding_is_changed_too():
    model = build("gemma2")
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    changed = change_basis(load(tensors, config=model.config.to_dict()))
    assert torch.equal(changed["lm_head.weight"], changed["model.embed_tokens.weight"])


def test_a_seed_gives_one_basis_and_each_kind_of_space_its_own():
    network = load(build("llama", **UNTIED))
    one, same, other = (change_basis(network, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    name = "model.layers.0.self_attn.v_proj.weight"
    assert not torch.allclose(one[name], other[name], atol=1e-2)
    alone, with_keys = (change_basis(network, spaces=spaces, seed=1) for spaces in ("values", ["keys", "values"]))
    assert torch.equal(alone[name], with_keys[name])


def test_half_precision_is_kept_and_agrees_as_far_as_it_goes():
    model = build("llama", **UNTIED)
    tensors = change_basis(
        load({k: v.bfloat16() for k, v in model.state_dict().items()}, config=model.config.to_dict())
    )
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert distance(model, tensors) < 0.2


@pytest.mark.parametrize(
    ("tensors", "config", "spaces", "message"),
    [
        (tiny_llama(), CONFIG, ["heads"], "knows the spaces values, keys, hidden, stream; got heads"),
        (tiny_llama(), {}, ["hidden", "values"], "needs the number of heads"),
        (tiny_llama(), CONFIG | {"model_type": "novel"}, SPACES, "symmetry of stream, which .* do not tell"),
        (tiny_llama() | {"model.adapter.weight": torch.ones(3, 3)}, CONFIG, SPACES, "has 'model.adapter.weight'"),
    ],
)
def test_what_is_not_known_well_enough_is_refused(tensors, config, spaces, message):
    with pytest.raises(ValueError, match=message):
        change_basis(load(tensors, config=config), spaces=spaces)


def test_quantised_tensors_are_refused():
    tensors = tiny_llama() | {"model.norm.weight": torch.ones(24, dtype=torch.int8)}
    with pytest.raises(CheckpointError, match=r"model\.norm\.weight.*I8"):
        change_basis(load(tensors, config=CONFIG))


def test_positions_are_left_out(minilm_folder):
    network = load(minilm_folder)
    changed = change_basis(network, spaces=["hidden"], seed=1)
    assert set(network.checkpoint.headers) - set(changed) == {"embeddings.position_ids"}


@pytest.mark.parametrize(
    ("model_type", "norm"),
    [("bert", "cls.predictions.transform.LayerNorm.weight"), ("roberta", "lm_head.layer_norm.weight")],
)
def test_an_unembedding_of_its_own_reads_behind_the_norm_of_its_head(model_type, norm):
    model = build(model_type, tie_word_embeddings=False)
    network = load(model)
    unembed = next(weight for weight in network.weights if weight.role == "unembed")
    unseen = 1 / model.state_dict()[norm]
    assert (network.matrix(unembed) @ unseen).abs().max() > 0.1
    assert (network.matrix(unembed, folded=True) @ unseen).abs().max() < 1e-4 * float(unseen.norm())
    assert distance(model, change_basis(network)) < 1e-5


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model_type", "reason"),
    [
        ("t5", "several towers"),
        ("gpt_neox", "in another way"),
        ("deepseek_v3", "in another way"),
        ("stablelm", "a part"),
    ],
)
def test_what_cannot_be_changed_is_refused(model_type, reason):
    from flaggeo.network.families.derivation.tiny import tiny_config, tiny_model

    with pytest.raises(ValueError, match=reason):
        change_basis(load(tiny_model(tiny_config(model_type))))
