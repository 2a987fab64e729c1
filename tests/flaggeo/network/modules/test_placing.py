"""Towers, layers and parts from the names of parameters, as people write them."""

import pytest

from flaggeo.network import Side
from flaggeo.network.modules.linear_maps import LinearMap
from flaggeo.network.modules.placing import Placing
from flaggeo.network.modules.recording import Call, Recording
from flaggeo.network.modules.wiring import Coupled, End, Wiring


def placed(streams, others=()):
    """Places of maps of these tensors, each stream given by what reads and what writes it."""
    maps, coupled = {}, []

    def one(tensor):
        return maps.setdefault(tensor, LinearMap(tensor, 4, 4))

    for read, written in streams:
        ends = [End(one(tensor), Side.READ) for tensor in read] + [End(one(tensor), Side.WRITE) for tensor in written]
        coupled.append(Coupled(4, tuple(ends), True, frozenset(), (len(coupled),)))
    for tensor in others:
        one(tensor)
    order = sorted(maps, key=lambda tensor: (tensor.startswith("head")) - tensor.startswith("stem"))
    calls = [(Call((), maps[tensor], -1), None) for tensor in order]
    placing = Placing(Wiring(Recording(calls=calls), tuple(coupled)))
    return placing, {tensor: placing.places[found] for tensor, found in maps.items()}


def spelt(place):
    return place.tower, place.layer, place.part


def test_the_number_that_varies_along_a_stream_counts_its_layers():
    blocks = [f"net.blocks.{block}.mlp.{part}.weight" for block in range(3) for part in (0, 2)]
    _, places = placed([([*blocks[::2], "head.weight"], ["stem.weight", *blocks[1::2]])])
    assert spelt(places["net.blocks.2.mlp.0.weight"]) == ("", 2, "mlp0")
    assert spelt(places["net.blocks.1.mlp.2.weight"]) == ("", 1, "mlp2")
    assert spelt(places["stem.weight"]) == ("", None, "stem")
    assert places["stem.weight"].before
    assert not places["head.weight"].before


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (("layer1.{}.conv2", "layer2.{}.conv2"), ["layer1", "layer2"]),
        (("net.stages.0.blocks.{}.fc", "net.stages.1.blocks.{}.fc"), ["stages.0", "stages.1"]),
        (("net.layers.0.blocks.{}.fc", "net.layers.1.blocks.{}.fc"), ["stages.0", "stages.1"]),
        (("encoder.layers.{}.fc", "decoder.layers.{}.fc"), ["encoder", "decoder"]),
        (("blocks.{}.image", "blocks.{}.text"), ["blocks.1", "blocks.2"]),
        (("vision.block{}.fc", "text.block{}.fc"), ["vision", "text"]),
    ],
)
def test_towers_are_called_by_what_tells_them_apart(names, labels):
    streams = [([], [f"{name.format(layer)}.weight" for layer in range(1, 4)]) for name in names]
    placing, places = placed(streams)
    assert placing.towers == labels
    assert [places[f"{name.format(2)}.weight"].layer for name in names] == [2, 2]
    assert [places[f"{name.format(3)}.weight"].tower for name in names] == labels


def test_a_stage_of_one_block_is_known_by_the_others():
    first = [f"layer1.{block}.conv2.weight" for block in range(2)]
    _, places = placed([([], first), (["head.weight"], ["layer2.0.conv2.weight", "layer2.0.down.weight"])])
    assert spelt(places["layer2.0.conv2.weight"]) == ("layer2", 0, "conv2")
    assert spelt(places["layer2.0.down.weight"]) == ("layer2", 0, "down")


def test_parts_are_the_shortest_endings_that_differ():
    tensors = [f"blocks.{block}.{name}.weight" for block in range(2) for name in ("attn.proj", "mlp.proj", "mlp.1.fc")]
    _, places = placed([([], tensors)])
    assert [places[tensor].part for tensor in tensors[:3]] == ["attn_proj", "mlp_proj", "fc"]


def test_experts_do_not_count_layers():
    tensors = [f"layers.{layer}.moe.experts.{expert}.w2.weight" for layer in range(2) for expert in range(5)]
    _, places = placed([([], tensors)])
    place = places["layers.1.moe.experts.3.w2.weight"]
    assert (place.layer, place.expert, place.part) == (1, 3, "w2")


def test_without_streams_every_map_is_a_layer():
    _, places = placed([], ["embed.weight", "features.0.weight", "features.3.weight", "fc1.weight", "5.weight"])
    assert [spelt(place) for place in places.values()] == [
        ("", 0, "embed"),
        ("", 1, "features"),
        ("", 2, "features"),
        ("", 3, "fc"),
        ("", 4, "linear"),
    ]
