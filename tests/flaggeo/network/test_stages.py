"""A network whose stream is wider in each stage: a tower for each, with numbers of its own."""

import pytest
import torch

from flaggeo import CheckpointError, analyze
from flaggeo.checkpoint import open_checkpoint
from flaggeo.network import Symmetry
from flaggeo.network.families.record import Naming, Norm, Piece, Record, Tower
from flaggeo.network.reading import read_network
from flaggeo.network.roles import layers_in_words

LAYER = "stages.{stage}.layers.{layer}"
NORM = f"{LAYER}.norm.weight"
TOWER = "stages.{stage}"
ATTENTION = [Piece(f"{LAYER}.{role}.weight", role, TOWER, norm=None if role == "o" else NORM) for role in "qkvo"]
RECORD = Record(
    model_types=("staged",),
    towers=(Tower(TOWER, heads="heads", rotary=False, depth="depths"),),
    saved=Naming(
        pieces=(Piece("stem.weight", "embed", "stages.0"), *ATTENTION),
        norms=(Norm(NORM, "rms"),),
        other={"stages.1.layers.0.q.weight": "between", "stages.1.narrow.weight": "between"},
    ),
)
CONFIG = {"model_type": "staged", "depths": [2, 3], "heads": [1, 2]}
WIDTHS = (4, 6)


def tensors():
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, generator=generator)

    found = {"stem.weight": random(WIDTHS[0], 3, 2, 2), "stages.1.narrow.weight": random(WIDTHS[1], WIDTHS[0])}
    for stage, depth in enumerate(CONFIG["depths"]):
        width = WIDTHS[stage]
        for layer in range(depth):
            if (stage, layer) != (1, 0):
                name = LAYER.format(stage=stage, layer=layer)
                found |= {f"{name}.{role}.weight": random(width, width) for role in "qkvo"}
                found[f"{name}.norm.weight"] = random(width)
    return found | {"stages.1.layers.0.q.weight": random(WIDTHS[1], WIDTHS[0])}


def read(stored, config=CONFIG):
    return read_network(open_checkpoint(stored, config), records=[RECORD])


def test_each_stage_has_a_stream_heads_and_norms_of_its_own():
    stored = tensors()
    network = read(stored)
    assert [network.spaces[f"stages.{stage}.stream"].dim for stage in (0, 1)] == list(WIDTHS)
    assert network.spaces["stages.1.stream"].symmetry is Symmetry.ORTHOGONAL
    heads = {weight.tower: [] for weight in network.weights}
    for weight in network.weights:
        if weight.role.endswith(".q") and weight.layer == 1 and weight.head is not None:
            heads[weight.tower].append(weight.target.dim)
    assert heads == {"stages.0": [4], "stages.1": [3, 3]}
    by_name = {weight.name: weight for weight in network.weights}
    query = by_name["stages.1.layers.2.q"]
    gains = stored["stages.1.layers.2.norm.weight"]
    torch.testing.assert_close(network.matrix(query, folded=True), stored[query.tensor] * gains)
    assert by_name["stages.0.embed"].target.name == "stages.0.stream"


def test_stages_follow_one_another_by_their_numbers():
    towers = [weight.tower for weight in read(tensors()).weights]
    assert list(dict.fromkeys(towers)) == ["stages.0", "stages.1"]


def test_a_layer_that_leads_to_a_stage_is_none_of_its_weights_and_is_not_missed():
    network = read(tensors())
    assert {weight.layer for weight in network.weights if weight.tower == "stages.1"} == {1, 2}
    skipped = {item.tensor: item.reason for item in network.skipped}
    assert skipped.keys() == {
        *("stages.1.layers.0.q.weight", "stages.1.narrow.weight"),
        *(name for name in tensors() if "norm" in name),
    }


def test_layers_are_counted_along_each_stream():
    network = read(tensors())
    assert network.depth == {"stages.0": 2, "stages.1": 2}
    analysis = analyze(network, rank=1, measure="continuity")
    assert analysis.provenance["layers"] == 4
    assert layers_in_words(network.depth) in analysis.to_html()
    assert layers_in_words({"": 1}).split() == ["1", "layer"]


@pytest.mark.parametrize("lost", ["stages.0.layers.1", "stages.1.layers.0", "stages.1.layers.2"])
def test_a_missing_layer_of_a_stage_is_missed(lost):
    stored = {name: tensor for name, tensor in tensors().items() if not name.startswith(lost)}
    with pytest.raises(CheckpointError, match=rf"expected .* in {lost[:8]}, found .* layer {lost[-1]} missing"):
        read(stored)


def test_a_table_that_stands_beside_the_one_that_all_share_is_the_one_in_use():
    naming = Naming(
        pieces=(
            *(Piece("shared.weight", "embed", "encoder"), Piece("encoder.embed.weight", "embed", "encoder")),
            *(Piece(f"encoder.{{layer}}.{role}.weight", role, "encoder") for role in ("up", "down")),
        )
    )
    record = Record(("two",), (Tower("encoder"),), naming)
    stored = {"encoder.0.up.weight": torch.ones(5, 4), "encoder.0.down.weight": torch.ones(4, 5)}
    stored |= {"encoder.embed.weight": torch.ones(7, 4), "shared.weight": torch.zeros(7, 4)}
    for names in (list(stored), list(reversed(stored))):
        checkpoint = open_checkpoint({name: stored[name] for name in names}, {"model_type": "two"})
        network = read_network(checkpoint, records=[record])
        [embed] = [weight.tensor for weight in network.weights if weight.layer is None]
        assert embed == "encoder.embed.weight"
        assert {item.tensor for item in network.skipped} == {"shared.weight"}


def test_the_model_type_of_the_whole_comes_before_that_of_its_language_model():
    config = CONFIG | {"text_config": {"model_type": "llama"}}
    network = read(tensors(), config)
    assert (network.family, network.remarks) == ("staged", read(tensors()).remarks)
