"""Guesses from names and shapes: what can be told is told with its reason, and the rest is left out."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flaggeo import load
from flaggeo.checkpoint import CheckpointError
from flaggeo.network import Side, UnknownArchitectureError

WIDTH, HIDDEN, VOCABULARY = 24, 40, 50
NAMES = {
    "nanoGPT": {
        "q": "attn.q",
        "k": "attn.k",
        "v": "attn.v",
        "o": "attn.c_proj",
        "up": "mlp.c_fc",
        "down": "mlp.c_proj",
    },
    "words": {"q": "attention.wq", "k": "attention.wk", "v": "attention.wv", "o": "attention.wo"}
    | {"gate": "ff.gate", "up": "ff.up", "down": "ff.down"},
    "sequential": {"q": "sa.query", "k": "sa.key", "v": "sa.value", "o": "sa.out_proj", "up": "net.0", "down": "net.2"},
}
READS = {"q", "k", "v", "gate", "up"}


def checkpoint(spelling, *, layers=12, beginning="blocks", transposed=False, biases=False):
    """A decoder in somebody's own words, with random weights."""
    generator = torch.Generator().manual_seed(0)
    tensors = {"tok_emb.weight": torch.randn(VOCABULARY, WIDTH, generator=generator)}
    for layer in range(layers):
        for role, name in NAMES[spelling].items():
            inner = HIDDEN if role in ("gate", "up", "down") else WIDTH
            shape = (inner, WIDTH) if role in READS else (WIDTH, inner)
            matrix = torch.randn(shape, generator=generator)
            tensors[f"{beginning}.{layer}.{name}.weight"] = matrix.mT.contiguous() if transposed else matrix
            if biases:
                tensors[f"{beginning}.{layer}.{name}.bias"] = torch.zeros(shape[0])
        tensors[f"{beginning}.{layer}.ln_1.weight"] = torch.ones(WIDTH)
    tensors["head.weight"] = torch.randn(VOCABULARY, WIDTH, generator=generator)
    return tensors


@pytest.mark.parametrize("spelling", NAMES)
def test_roles_are_inferred_and_said_to_be(spelling):
    network = load(checkpoint(spelling), config={"num_attention_heads": 4})
    whole = {weight.name: weight for weight in network.weights if weight.head is None}
    assert network.family == "inferred"
    assert any("inferred from names and shapes" in remark for remark in network.remarks)
    assert whole.keys() == {"embed", "unembed"} | {
        f"layers.{layer}.{role}" for layer, role in itertools.product(range(12), NAMES[spelling])
    }
    for weight in whole.values():
        assert weight.space(weight.record.side).name == "stream"
        assert weight.space(weight.record.side).dim == WIDTH
    assert all(space.assumed for space in network.spaces.values() if space.kind.value in ("stream", "keys"))
    assert {weight.head for weight in network.weights if weight.role == "q"} == {None, 0, 1, 2, 3}


def test_a_bias_tells_that_a_file_stores_in_out():
    tensors = checkpoint("words", transposed=True, biases=True)
    network = load(tensors)
    (up,) = (weight for weight in network.weights if weight.name == "layers.3.up")
    torch.testing.assert_close(network.matrix(up), tensors["blocks.3.ff.up.weight"].mT)


def test_fused_projections_are_cut_into_thirds_once_the_heads_are_counted():
    tensors = {name: tensor for name, tensor in checkpoint("nanoGPT").items() if ".attn." not in name}
    for layer in range(12):
        tensors[f"blocks.{layer}.attn.qkv.weight"] = torch.randn(3 * WIDTH, WIDTH)
        tensors[f"blocks.{layer}.attn.proj.weight"] = torch.randn(WIDTH, WIDTH)
    network = load(tensors, config={"num_attention_heads": 4})
    (k,) = (weight for weight in network.weights if weight.name == "layers.5.k")
    torch.testing.assert_close(network.matrix(k), tensors["blocks.5.attn.qkv.weight"][WIDTH : 2 * WIDTH])
    unknown = load(tensors)
    reasons = {item.tensor: item.reason for item in unknown.skipped}
    assert "without the number of heads" in reasons["blocks.5.attn.qkv.weight"]
    assert {weight.role for weight in unknown.weights} == {"embed", "o", "up", "down", "unembed"}


@pytest.mark.parametrize("order", [1, -1])
def test_layers_whose_names_begin_otherwise_are_towers_of_their_own(order):
    """One tower's names are the ending of the other's, as in the first CLIP."""
    text, vision = checkpoint("words", layers=3), checkpoint("words", layers=4)
    towers = [
        {name: tensor for name, tensor in text.items() if name != "head.weight"},
        {f"visual.{name}": tensor + 1 for name, tensor in vision.items() if "blocks" in name},
    ]
    tensors = {name: tensor for tower in towers[::order] for name, tensor in tower.items()}
    network = load(tensors, config={"num_attention_heads": 4})
    by_name = {weight.name: weight for weight in network.weights}
    assert {weight.tower for weight in network.weights} == {"blocks", "visual"}
    assert {weight.layer for weight in network.weights if weight.tower == "visual"} == set(range(4))
    for start, tower, layers in (("visual.", "visual", 4), ("", "blocks", 3)):
        for role, name in NAMES["words"].items():
            for layer in range(layers):
                weight = by_name[f"{tower}.layers.{layer}.{role}"]
                assert weight.tensor == f"{start}blocks.{layer}.{name}.weight"
    assert [weight.name for weight in network.weights if weight.layer is None] == ["blocks.embed"]
    assert {network.spaces[f"{tower}.stream"].dim for tower in ("blocks", "visual")} == {WIDTH}


def test_settings_of_a_model_are_those_of_the_tower_that_is_as_wide_as_they_say():
    """A vision tower beside a language model has other heads and another depth than its config.json tells."""
    text = checkpoint("words", layers=3)
    vision = {f"visual.blocks.{i}.{name}.weight": torch.ones(6, 6) for i in range(2) for name in "qo"}
    settings = {"hidden_size": WIDTH, "num_attention_heads": 4, "num_hidden_layers": 3, "intermediate_size": HIDDEN}
    network = load(text | vision, config=settings)
    assert {weight.tower for weight in network.weights if weight.head == 3} == {"blocks"}
    assert {weight.layer for weight in network.weights if weight.tower == "visual"} == {0, 1}
    with pytest.raises(CheckpointError, match=r"expected 2 layers .* in blocks"):
        load(text | vision, config=settings | {"num_hidden_layers": 2})


def test_fused_rows_that_are_not_three_squares_are_left_out():
    tensors = checkpoint("nanoGPT") | {f"blocks.{i}.attn.qkv.weight": torch.ones(2 * WIDTH, WIDTH) for i in range(12)}
    network = load(tensors, config={"num_attention_heads": 4})
    assert "blocks.0.attn.qkv.weight" in {item.tensor for item in network.skipped}


def test_numbered_matrices_have_roles_only_where_all_three_are_there():
    tensors = checkpoint("words", layers=2)
    numbered = {"ff.gate": "ff.w1", "ff.down": "ff.w2", "ff.up": "ff.w3"}
    for old, new in numbered.items():
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    found = {weight.role: weight.tensor for weight in load(tensors).weights if weight.layer == 0}
    assert [found[role] for role in ("gate", "down", "up")] == [f"blocks.0.ff.w{i}.weight" for i in (1, 2, 3)]
    two = {name: tensor for name, tensor in tensors.items() if "w1" not in name}
    found = {weight.role: weight.tensor for weight in load(two).weights if weight.layer == 0}
    assert (found["up"], found["down"], "gate" in found) == ("blocks.0.ff.w3.weight", "blocks.0.ff.w2.weight", False)


def test_a_square_matrix_without_a_known_word_is_left_out():
    tensors = checkpoint("words") | {f"blocks.{layer}.mystery.weight": torch.ones(WIDTH, WIDTH) for layer in range(12)}
    reasons = {item.tensor: item.reason for item in load(tensors).skipped}
    assert reasons["blocks.0.mystery.weight"].startswith("square")


def test_two_that_could_have_one_role_are_both_left_out():
    tensors = checkpoint("sequential") | {f"blocks.{i}.net.4.weight": torch.ones(HIDDEN, WIDTH) for i in range(12)}
    network = load(tensors)
    reasons = {item.tensor: item.reason for item in network.skipped}
    assert reasons["blocks.0.net.0.weight"] == reasons["blocks.0.net.4.weight"]
    assert reasons["blocks.0.net.0.weight"].endswith("could be up")
    assert "up" not in {weight.role for weight in network.weights}


@pytest.mark.parametrize(
    ("name", "rows", "is_unembedding"),
    [
        ("head.weight", 10, False),
        ("head.weight", VOCABULARY, True),
        ("output.weight", VOCABULARY, True),
        ("lm_head.weight", 10, True),
    ],
)
def test_a_classifier_is_no_unembedding(name, rows, is_unembedding):
    """A head of a classifier has as many rows as there are classes, not words; only its name can say otherwise."""
    tables = {"tok.weight": torch.ones(VOCABULARY, WIDTH), name: torch.ones(rows, WIDTH)}
    inside = {name: tensor for name, tensor in checkpoint("words").items() if name.startswith("blocks.")}
    for tensors in (inside | tables, inside | dict(reversed(tables.items()))):
        found = {weight.role: weight.tensor for weight in load(tensors).weights if weight.layer is None}
        assert found == {"embed": "tok.weight"} | ({"unembed": name} if is_unembedding else {})
    alone = load({other: tensor for other, tensor in (inside | tables).items() if other != "tok.weight"})
    assert ("unembed" in {weight.role for weight in alone.weights}) == name.startswith("lm_head")


@pytest.mark.parametrize(
    "shapes",
    [
        {"a.weight": (4, 4)},
        {"layers.0.x.weight": (4, 3), "layers.2.x.weight": (4, 3)},
        {"layers.0.x.weight": (4, 3), "layers.1.x.weight": (4, 3)},
    ],
    ids=["no layers", "a layer is missing", "nothing writes"],
)
def test_what_cannot_be_inferred_is_refused(shapes):
    with pytest.raises(UnknownArchitectureError):
        load({name: torch.ones(shape) for name, shape in shapes.items()})


@settings(max_examples=25)
@given(st.permutations(["q", "k", "v", "o", "up", "down"]))
def test_names_that_changed_places_give_no_role_silently(order):
    """Each matrix under another one's name: what its shape contradicts is no weight, the rest is said to be a guess."""
    names = NAMES["nanoGPT"]
    tensors = checkpoint("nanoGPT", layers=3)
    renamed = {name: tensor for name, tensor in tensors.items() if "blocks" not in name}
    for layer in range(3):
        for old, new in zip(names, order, strict=True):
            renamed[f"blocks.{layer}.{names[new]}.weight"] = tensors[f"blocks.{layer}.{names[old]}.weight"]
    try:
        network = load(renamed)
    except CheckpointError:  # the shapes contradict each other
        return
    assert any("inferred" in remark for remark in network.remarks)
    for weight in network.weights:
        if weight.layer is not None:
            shape = renamed[weight.tensor].shape
            assert shape[1 if weight.record.side is Side.READ else 0] == WIDTH
