from collections import Counter

import pandas as pd
import pytest
import torch

from flaggeo import analyze, load
from flaggeo.alignment import ProjectionHeads, gram_cosines, gram_matrix, interface_rows
from flaggeo.engine import LayerResult, LayerTasks, Measures, layers_of
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from flaggeo.numerics.threads import workers
from tests.builders import CONFIG, tiny_llama

CPU = torch.device("cpu")


def measure_layer(layer, measures, progress=lambda _: None):
    with workers() as pool:
        return LayerTasks(layer, measures, pool).result(progress)


@pytest.fixture
def network():
    return load(tiny_llama(), config=CONFIG)


@pytest.fixture
def reads(network, monkeypatch):
    """How often each tensor was read."""
    counts, original = Counter(), network.checkpoint.read
    monkeypatch.setattr(
        network.checkpoint, "read", lambda name, **options: (counts.update([name]), original(name, **options))[1]
    )
    return counts


def test_layers_stand_in_order_and_tensors_outside_them_alone(network):
    layers = layers_of(network.weights, network, CPU)
    assert [layer.name for layer in layers] == ["embed", "layers.0.q", "layers.1.q", "layers.2.q", "unembed"]
    assert [layer.earlier for layer in layers] == [None, None, layers[1], layers[2], None]
    assert [len(layer.tensors) for layer in layers] == [1, 7, 7, 7, 1]


def test_matrices_are_read_once_until_they_are_let_go(network, reads):
    layer = layers_of(network.weights, network, CPU)[2]
    for _ in range(2):
        assert set(layer.matrices) == {weight.name for weight in layer.weights}
    assert reads == dict.fromkeys(layer.tensors, 1)
    layer.let_go()
    assert layer.matrices["layers.1.q.heads.0"].shape == (10, 24)
    assert reads == dict.fromkeys(layer.tensors, 2)


def test_the_layer_before_is_at_hand_and_read_again_only_by_who_asks(network, reads):
    """Of a run that resumes at the third layer: the second is read once more, for the Gram matrices, the first not."""
    _, first, second, third, _ = layers_of(network.weights, network, CPU)
    measure_layer(third, Measures(frozenset(), rank=2))
    assert reads == dict.fromkeys([*second.tensors, *third.tensors], 1)
    assert not set(first.tensors) & set(reads)


def test_at_most_three_layers_are_in_memory(network, monkeypatch):
    import flaggeo.analysis

    layers, held = layers_of(network.weights, network, CPU), []
    monkeypatch.setattr(flaggeo.analysis, "layers_of", lambda *_, **__: layers)
    original = LayerTasks.result

    def result(tasks, progress):
        found = original(tasks, progress)
        held.append([layer.name for layer in layers if layer._read])
        return found

    monkeypatch.setattr(LayerTasks, "result", result)
    analyze(network, rank=2)
    assert held == [
        ["embed", "layers.0.q"],
        ["layers.0.q", "layers.1.q"],
        ["layers.0.q", "layers.1.q", "layers.2.q"],
        ["layers.1.q", "layers.2.q", "unembed"],
        ["unembed"],
    ]
    assert not any(layer._read for layer in layers)


def test_a_layer_is_measured_as_its_matrices_are_one_by_one(network):
    layer, seen = layers_of(network.weights, network, CPU)[1], []
    names = frozenset(weight.name for weight in layer.weights)
    result = measure_layer(layer, Measures(names, frozenset({"layers.0.o"}), rank=3), seen.append)
    assert seen == layer.tensors
    assert list(result.profiles) == ["layers.0.o"]
    for name, matrix in layer.matrices.items():
        expected = leading_spectrum(matrix, 3)
        assert torch.equal(result.spectra[name].left, expected.left)
        assert torch.equal(result.spectra[name].all_values, expected.all_values)


def test_neighbours_interfaces_and_heads_are_measured_while_the_matrices_are_there(network):
    layers = layers_of(network.weights, network, CPU)
    result = measure_layer(layers[2], Measures(frozenset(), rank=3, heads=True, draws=2, seed=5))
    rows = {(row["earlier"], row["side"]): row for row in result.tables["gram_cosines"]}
    assert set(rows) == {(f"layers.0.{role}", "read") for role in ("q", "k", "v", "gate", "up")} | {
        (f"layers.0.{role}", "write") for role in ("o", "down")
    }
    grams = [gram_matrix(layer.matrices[f"layers.{index}.up"], Side.READ) for index, layer in enumerate(layers[1:3])]
    assert rows["layers.0.up", "read"]["gram_cosine"] == gram_cosines(*grams).gram_cosine
    expected = interface_rows(layers[2].weights, layers[2].matrices, rank=3, draws=2, seed=5)
    assert sorted(row["name"] for row in result.tables["interfaces"]) == sorted(row["name"] for row in expected)
    by_name = {(row["name"], row["gauge_fixed"]): row for row in expected}
    for row in result.tables["interfaces"]:
        assert row["kempf_ness_gap"] == by_name[row["name"], row["gauge_fixed"]]["kempf_ness_gap"]
    assert {heads.role: len(heads.frames) for heads in result.heads} == {"q": 4, "k": 2, "v": 2, "o": 4}


def test_results_do_not_depend_on_the_number_of_threads(network):
    threads, tables = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            tables.append(analyze(network, rank=4).pairs)
    finally:
        torch.set_num_threads(threads)
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_joined_results_keep_the_order_of_rows():
    first, second = (
        LayerResult(
            {}, {}, {"interfaces": [{"layer": index}]}, [ProjectionHeads(index, "q", *[torch.ones(1, 2, 2)] * 2)]
        )
        for index in (0, 1)
    )
    joined = LayerResult.joined([first, second])
    assert joined.tables == {"interfaces": [{"layer": 0}, {"layer": 1}]}
    assert [heads.layer for heads in joined.heads] == [0, 1]
    assert first.tables == {"interfaces": [{"layer": 0}]}
