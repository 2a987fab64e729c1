"""The symmetry of every space against what transformers' modules compute; the gauge tests prove it by outputs."""

import pytest

from flaggeo import Symmetry, analyze, load
from flaggeo.network.families.derivation.tiny import tiny_config, tiny_model
from flaggeo.network.symmetries import hidden_symmetry, key_symmetry, stream_symmetry
from tests.builders import CONFIG, tiny_llama
from tests.flaggeo.network.test_families import DECODERS, ENCODERS, build

GL, ROTATED, SCALED = Symmetry.GENERAL_LINEAR, Symmetry.ORTHOGONAL, Symmetry.SCALED_PERMUTATION
SIGNED, PERMUTED, ROTARY = Symmetry.SIGNED_PERMUTATION, Symmetry.PERMUTATION, Symmetry.ROTARY_BLOCK

EXPECTED = {  # stream, keys, hidden
    "llama": (ROTATED, ROTARY, SCALED),
    "mistral": (ROTATED, ROTARY, SCALED),
    "qwen2": (ROTATED, ROTARY, SCALED),
    "qwen3": (ROTATED, SIGNED, SCALED),
    "olmo2": (SIGNED, SIGNED, SCALED),
    "gemma": (ROTATED, ROTARY, SCALED),
    "gemma2": (SIGNED, ROTARY, SCALED),
    "gemma3_text": (SIGNED, SIGNED, SCALED),
    "smollm3": (ROTATED, ROTARY, SCALED),
    "granite": (ROTATED, ROTARY, SCALED),
    "bert": (PERMUTED, GL, PERMUTED),
    "roberta": (PERMUTED, GL, PERMUTED),
    "xlm-roberta": (PERMUTED, GL, PERMUTED),
    "camembert": (PERMUTED, GL, PERMUTED),
    "electra": (PERMUTED, GL, PERMUTED),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model_type", "extra"), (DECODERS | ENCODERS).items())
def test_every_architecture_has_its_symmetries(model_type, extra):
    pytest.importorskip("transformers")
    spaces = load(build(model_type, extra)).spaces
    names = ("stream", "layers.1.heads.0.keys", "layers.1.hidden")
    assert tuple(spaces[name].symmetry for name in names) == EXPECTED[model_type]
    assert spaces["layers.1.queries"].symmetry is spaces["layers.1.keys"].symmetry is EXPECTED[model_type][1]
    assert spaces["layers.1.heads.1.values"].symmetry is GL
    assert not any(space.assumed for space in spaces.values())


@pytest.mark.parametrize("settings", [{}, {"no_rope_layers": [1, 1, 1, 0]}])
def test_layers_without_rotary_positions_let_their_keys_mix(settings):
    network = load(tiny_llama(layers=4), config=CONFIG | {"model_type": "smollm3", "num_hidden_layers": 4} | settings)
    keys = [network.spaces[f"layers.{layer}.heads.0.keys"].symmetry for layer in range(4)]
    assert keys == [ROTARY, ROTARY, ROTARY, GL]


def test_settings_overrule_the_usual_layers_without_rotary_positions():
    network = load(tiny_llama(), config=CONFIG | {"model_type": "smollm3", "no_rope_layers": [0, 1, 1]})
    keys = [network.spaces[f"layers.{layer}.heads.0.keys"].symmetry for layer in range(3)]
    assert keys == [GL, ROTARY, ROTARY]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("model_type", "settings", "space", "expected"),
    [
        ("resnet", {}, "stages.1.stream", SCALED),  # a ReLU behind every sum
        ("resnet", {"hidden_act": "gelu"}, "stages.1.stream", PERMUTED),
        ("convnext", {}, "stages.1.stream", PERMUTED),  # a convolution of each channel before the norm
        ("swin", {}, "stages.0.stream", PERMUTED),  # behind the norm of the embeddings, which has gains of its own
        ("swin", {}, "stages.1.stream", ROTATED),
        ("bloom", {}, "stream", PERMUTED),
        ("doge", {}, "stream", SIGNED),  # a scale of each channel on the stream itself
        ("rwkv", {}, "stream", PERMUTED),  # two positions mixed channel by channel
        ("rwkv", {}, "layers.1.hidden", SCALED),
        ("deepseek_v3", {}, "layers.1.heads.0.keys", GL),  # the part that positions turn is not read
        ("dinov2", {}, "stream", ROTATED),  # weights take over the scales behind them
    ],
)
def test_what_else_the_stream_passes_limits_its_changes_of_basis(model_type, settings, space, expected):
    pytest.importorskip("transformers")
    spaces = load(tiny_model(tiny_config(model_type, **settings))).spaces
    assert spaces[space].symmetry is expected


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model_type", "tower"), [("bloom", ""), ("modernbert", ""), ("clip", "vision.")])
def test_what_is_written_before_a_norm_on_the_stream_is_in_no_pair_that_is_basis_independent(model_type, tower):
    pytest.importorskip("transformers")
    analysis = analyze(load(tiny_model(tiny_config(model_type))), rank=3, measure="pairs", fold_norms=True)
    pairs = analysis.pairs
    embedded = pairs["source"].eq(f"{tower}embed.write") | pairs["target"].eq(f"{tower}embed.write")
    assert embedded.any()
    assert not pairs["basis_independent"][embedded].any()
    assert pairs["basis_independent"].any()


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", (SCALED, False)),
        ("relu2", (SCALED, True)),
        ("gelu", (PERMUTED, False)),
        ("silu", (PERMUTED, False)),
        ("tanh", (SIGNED, False)),
        ("linear", (GL, False)),
        ("an activation of tomorrow", (GL, True)),
        (None, (GL, True)),
    ],
)
def test_the_activation_decides_for_a_hidden_layer_without_a_gate(activation, expected):
    assert hidden_symmetry(activation, gated=False) == expected
    assert hidden_symmetry(activation, gated=True) == (SCALED, False)


def ungated(activation):
    tensors = {name: tensor for name, tensor in tiny_llama().items() if "gate" not in name}
    return load(tensors, config=CONFIG | activation).spaces["layers.0.hidden"]


def test_settings_name_the_activation_and_the_family_has_a_usual_one():
    assert ungated({"hidden_act": "relu"}).symmetry is SCALED
    gemma = {"model_type": "gemma2", "hidden_act": "silu", "hidden_activation": "tanh"}
    assert ungated(gemma).symmetry is SIGNED
    assert ungated({}).symmetry is PERMUTED


def test_where_the_settings_do_not_tell_the_largest_group_is_assumed():
    assert key_symmetry(None, normed=False) == (GL, True)
    assert stream_symmetry(None, normed=True, writes_normed=True) == (ROTATED, True)
    assert stream_symmetry(None, normed=False, writes_normed=False) == (GL, True)
    unknown = load(tiny_llama(), config=CONFIG | {"model_type": "novel"}).spaces
    assert {name for name, space in unknown.items() if space.assumed} == {
        "stream",
        *(f"layers.{layer}.{name}" for layer in range(3) for name in ("queries", "keys")),
        *(f"layers.{layer}.heads.{head}.keys" for layer in range(3) for head in range(2)),
    }


def test_every_assumed_group_contains_what_it_may_turn_out_to_be():
    keys = [key_symmetry(rotary, normed=normed)[0] for rotary in (True, False) for normed in (True, False)]
    assert all(key_symmetry(None, normed=False)[0].contains(symmetry) for symmetry in keys)
    streams = [
        stream_symmetry(usual, normed=True, writes_normed=w)[0] for usual in (ROTATED, PERMUTED) for w in (True, False)
    ]
    assert all(stream_symmetry(None, normed=True, writes_normed=True)[0].contains(symmetry) for symmetry in streams)
    hidden = [hidden_symmetry(name, gated=False)[0] for name in ("relu", "tanh", "gelu", "linear")]
    assert all(hidden_symmetry(None, gated=False)[0].contains(symmetry) for symmetry in hidden)
