import itertools
from dataclasses import replace

import pytest

from flaggeo import load
from flaggeo.network import ROLES, Side, Symmetry
from tests.builders import CONFIG, tiny_llama


@pytest.fixture(scope="module")
def network():
    return load(tiny_llama(), config=CONFIG)


def test_matrices_have_the_shape_of_their_spaces(network):
    for weight in network.weights:
        matrix = weight.split(network.checkpoint.read(weight.tensor))
        assert matrix.shape == (weight.target.dim, weight.source.dim), weight.name


def test_the_stream_is_read_and_written_by_the_sides_that_face_it(network):
    for weight in network.weights:
        facing = Side.WRITE if weight.role in ("embed", "o", "down") else Side.READ
        assert weight.space(facing).name == "stream", weight.name


def test_stages_follow_the_signal(network):
    whole = {weight.name: weight.stage for weight in network.weights if weight.head is None}
    order = ["embed", "layers.0.q", "layers.0.o", "layers.0.up", "layers.0.down", "layers.1.q", "unembed"]
    assert [whole[name] for name in order] == sorted(whole[name] for name in order)
    assert len({whole[name] for name in order}) == len(order)
    assert whole["layers.0.gate"] == whole["layers.0.up"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("layers.1.q", "layers.1.q"),
        ("L1.q", "layers.1.q"),
        ("L2H1.o", "layers.2.o.heads.1"),
        ("model.layers.0.mlp.up_proj.weight", "layers.0.up"),
        ("embed", "embed"),
    ],
)
def test_a_weight_is_found_by_each_of_its_names(network, name, expected):
    assert network[name].name == expected


def test_a_name_that_no_weight_has_is_refused_with_those_that_are_near(network):
    with pytest.raises(KeyError, match=r"L9.q: expected the name of one weight, such as layers\.\d\.q"):
        network["L9.q"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("L1.q.read", ["layers.1.q"]),
        ("layers.1.o.heads.2.write", ["layers.1.o.heads.2"]),
        ("q", [f"layers.{layer}.q" for layer in range(3)]),
        ("something else", ["embed"]),
    ],
)
def test_the_weights_that_a_name_may_mean_are_told(network, name, meant):
    with pytest.raises(KeyError, match=f"such as {', '.join(meant)}'$".replace(".", "[.]")):
        network[name]


def test_a_network_is_no_sequence_and_says_where_its_weights_are(network):
    for ask in (list, lambda network: network[0], lambda network: "L0.q" in network):
        with pytest.raises(TypeError, match=r"such as 'embed'; network\.weights has all"):
            ask(network)


def test_a_tensor_that_is_cut_into_several_weights_is_the_name_of_none(network):
    q, k = network["L0.q"], network["L0.k"]
    fused = replace(network, weights=(q, replace(k, tensor=q.tensor)))
    with pytest.raises(KeyError, match=r"layers\.0\.q, layers\.0\.k"):
        fused[q.tensor]


def test_every_role_is_listed(network):
    assert {weight.role for weight in network.weights} <= set(ROLES)


def test_angles_survive_exactly_the_subgroups_of_the_orthogonal_group():
    survive = {symmetry for symmetry in Symmetry if Symmetry.ORTHOGONAL.contains(symmetry)}
    assert survive == {
        Symmetry.ORTHOGONAL,
        Symmetry.SIGNED_PERMUTATION,
        Symmetry.PERMUTATION,
        Symmetry.TRIVIAL,
    }


def test_containment_is_a_partial_order():
    for a, b, c in itertools.product(Symmetry, repeat=3):
        assert a.contains(a)
        assert a is b or not (a.contains(b) and b.contains(a))
        assert a.contains(c) or not (a.contains(b) and b.contains(c))
