"""Names with other beginnings, numbers of several kinds, layers before."""

import pytest

from flaggeo.network.families.names import Names, of_own_layer
from flaggeo.network.families.record import Naming, Norm, Piece

Q = "model.layers.{layer}.attn.q1.weight"
EXPERT = "model.layers.{layer}.experts.{expert}.w1.weight"
NORM = "model.layers.{layer}.norm2.weight"
NAMING = Naming(
    pieces=(
        Piece("model.embed.weight", "embed"),
        Piece(Q, "q"),
        Piece(EXPERT, "expert_up"),
        Piece("head.weight", "unembed"),
    ),
    norms=(Norm(NORM, "rms"),),
    other={"model.positions.weight": "position table"},
)


def tensors(beginning="model.", outer=""):
    inside = [Q.format(layer=layer) for layer in range(12)]
    inside += [EXPERT.format(layer=layer, expert=expert) for layer in range(12) for expert in range(3)]
    inside += ["model.embed.weight", "model.positions.weight", NORM.format(layer=11)]
    return [outer + beginning + name.removeprefix("model.") for name in inside] + [f"{outer}head.weight"]


@pytest.mark.parametrize(
    ("beginning", "outer"), [("model.", ""), ("", ""), ("model.", "module._orig_mod."), ("model.language.", "")]
)
def test_every_tensor_is_placed_whatever_stands_before_its_name(beginning, outer):
    names = Names(NAMING, tensors(beginning, outer))
    placed = {one.tensor: one for one in names.placed}
    assert list(placed) == tensors(beginning, outer)
    one = placed[f"{outer}{beginning}layers.11.experts.2.w1.weight"]
    assert (one.part.role, dict(one.numbers)) == ("expert_up", {"layer": 11, "expert": 2})
    assert placed[f"{outer}{beginning}positions.weight"].part == "position table"
    assert placed[f"{outer}head.weight"].part.role == "unembed"


def test_the_beginning_that_most_weights_have_is_that_of_all():
    """A second, smaller model of the same names is none of this one."""
    other = [f"vision.layers.{layer}.attn.q1.weight" for layer in range(4)]
    names = Names(NAMING, [*other, *tensors()])
    assert {one.tensor for one in names.placed} == set(tensors())
    assert all(names.is_elsewhere(name) for name in other)
    assert not any(names.is_elsewhere(name) for name in tensors())


@pytest.mark.parametrize(("deep", "shallow"), [("left", "right"), ("right", "left")])
def test_towers_that_differ_in_the_first_part_of_their_names_stay_apart(deep, shallow):
    q = "{tower}.layers.{layer}.q.weight"
    naming = Naming(tuple(Piece(q.replace("{tower}", tower), "q", tower=tower) for tower in ("left", "right")))
    depths = {deep: 5, shallow: 2}
    tensors = [q.format(tower=tower, layer=layer) for tower, depth in depths.items() for layer in range(depth)]
    for outer in ("", "module."):
        placed = Names(naming, [outer + tensor for tensor in tensors]).placed
        assert [(one.tensor, one.part.tower) for one in placed] == [
            (outer + tensor, tensor.partition(".")[0]) for tensor in tensors
        ]


def test_digits_that_are_part_of_a_word_are_no_numbers():
    assert Names(NAMING, ["model.layers.0.attn.q2.weight", "model.layers.0.attn.q10.weight"]).placed == ()


def test_a_template_is_found_at_its_numbers_and_in_the_layer_before():
    names = Names(NAMING, tensors("", "module."))
    assert names.find(NORM, {"layer": 11}) == "module.layers.11.norm2.weight"
    assert names.find(NORM, {"layer": 3}) is None
    assert names.find("model.layers.{layer-1}.attn.q1.weight", {"layer": 10}) == "module.layers.9.attn.q1.weight"
    assert names.find("model.layers.{layer-1}.attn.q1.weight", {"layer": 0}) is None
    assert names.find(None, {}) is None
    assert of_own_layer("model.layers.{layer-1}.norm2.weight") == NORM


def test_a_number_that_stands_twice_is_the_same_one():
    naming = Naming((Piece("layers.{layer}.block_{layer}.up.weight", "up"),))
    placed = Names(naming, ["layers.1.block_1.up.weight", "layers.1.block_2.up.weight"]).placed
    assert [one.tensor for one in placed] == ["layers.1.block_1.up.weight"]


def test_a_name_that_stands_in_a_structure_as_it_is_means_itself():
    naming = Naming(
        (Piece("stages.{stage}.{layer}.up.weight", "up", "stages.{stage}"),),
        other={"stages.1.0.up.weight": "between"},
    )
    names = Names(naming, ["stages.1.0.up.weight", "stages.1.1.up.weight", "stages.0.0.up.weight"])
    parts = {one.tensor: one.part for one in names.placed}
    assert parts.pop("stages.1.0.up.weight") == "between"
    assert len(names.placed) == 3
    assert {part.role for part in parts.values()} == {"up"}
