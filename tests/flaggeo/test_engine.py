import multiprocessing
import pickle
import threading
import weakref
from collections import Counter
from dataclasses import fields, is_dataclass, replace

import pandas as pd
import pytest
import torch

from flaggeo import CheckpointError, analyze, load
from flaggeo.alignment import ProjectionHeads, gram_cosines, gram_matrix, interface_rows
from flaggeo.engine import LayerResult, measure_layer, measure_layers
from flaggeo.network import Side, Stack
from flaggeo.numerics.spectrum import leading_spectrum
from flaggeo.numerics.threads import workers
from flaggeo.settings import Settings
from tests.builders import CONFIG, save_folder, tiny_llama
from tests.flaggeo.network.hybrid import hybrid
from tests.mixtures import CONFIG as MIXTURE
from tests.mixtures import EXPERTS, tiny_mixtral

ALL_BUT_STABILITY = ("continuity", "pairs", "heads", "interfaces", "spectra")
SETTINGS = Settings(rank=3, measure=ALL_BUT_STABILITY, draws=2, seed=5)


@pytest.fixture
def network():
    return load(tiny_llama(), config=CONFIG)


def counted(network, monkeypatch):
    """How often each tensor is read from now on; norms, which the other reading of a weight takes, are not counted."""
    counts, original = Counter(), network.checkpoint.read
    norms = {gain.tensor for weight in network.weights for gain in weight.folding.gains}

    def read(name, **options):
        counts.update({name} - norms)
        return original(name, **options)

    monkeypatch.setattr(network.checkpoint, "read", read)
    return counts


@pytest.fixture
def reads(network, monkeypatch):
    return counted(network, monkeypatch)


def equal(first, second):
    """Whether two values are the same to the last bit, as deep as they go."""
    if isinstance(first, torch.Tensor):
        return first.dtype == second.dtype and torch.equal(first.nan_to_num(7), second.nan_to_num(7))
    if is_dataclass(first):
        return all(equal(getattr(first, part.name), getattr(second, part.name)) for part in fields(first))
    if isinstance(first, dict):
        return list(first) == list(second) and all(equal(first[key], second[key]) for key in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second or (first != first and second != second)


def matrices_of(network, layer):
    return {weight.name: network.matrix(weight) for weight in layer.weights}


def test_a_layer_is_measured_as_its_matrices_are_one_by_one(network, reads):
    layer, seen = network.layers[1], []
    result = measure_layer(SETTINGS, layer, progress=seen.append)
    assert seen == list(dict.fromkeys(weight.tensor for weight in layer.weights))
    assert reads == dict.fromkeys(seen, 1)
    assert list(result.profiles) == [weight.name for weight in layer.weights if weight.head is None]
    for name, matrix in matrices_of(network, layer).items():
        expected = leading_spectrum(matrix, 3, whole=True)
        assert torch.equal(result.spectra[name].left, expected.left)
        assert torch.equal(result.spectra[name].known_values, expected.known_values)


def test_interfaces_heads_and_gram_matrices_are_measured_while_the_matrices_are_there(network):
    layer = network.layers[2]
    result, matrices = measure_layer(SETTINGS, layer), matrices_of(network, layer)
    assert equal(result.interfaces, interface_rows(layer.weights, matrices, rank=3, draws=2, seed=5))
    assert {heads.role: len(heads.frames) for heads in result.heads} == {"q": 4, "k": 2, "v": 2, "o": 4}
    reading, writing = ("q", "k", "v", "gate", "up"), ("o", "down")
    facing = dict.fromkeys(reading, Side.READ) | dict.fromkeys(writing, Side.WRITE)
    assert set(result.grams) == {(f"layers.1.{role}", side) for role, side in facing.items()}
    for (name, side), gram in result.grams.items():
        assert torch.equal(gram, gram_matrix(matrices[name], side))
    assert result.gram_cosines == []


def test_what_is_kept_of_a_layer_begins_at_a_cache_line_and_is_row_major(network):
    """As it comes back from a scratch and from another process, so that products of it have the same last bits."""
    found = measure_layer(Settings(rank=3, measure=("continuity", "heads")), network.layers[1])
    tensors = [tensor for heads in found.heads for tensor in (heads.frames, heads.factors)]
    tensors += [tensor for spectrum in found.spectra.values() for tensor in (spectrum.left, spectrum.right)]
    assert tensors
    assert all(tensor.is_contiguous() and tensor.data_ptr() % 64 == 0 for tensor in tensors)


@pytest.mark.parametrize(
    ("settings", "empty"),
    [
        (Settings(), {"profiles", "heads", "interfaces", "grams", "rounding_errors"}),
        (Settings(measure=("continuity", "spectra")), {"profiles", "heads", "interfaces", "rounding_errors"}),
        (Settings(measure=("pairs", "interfaces")), {"refolded", "profiles", "heads", "grams", "rounding_errors"}),
        (Settings(measure=("pairs", "stability")), {"refolded", "profiles", "heads", "interfaces", "grams"}),
        (Settings(measure=("pairs",), draws=2), {"refolded", "heads", "interfaces", "grams", "rounding_errors"}),
        (Settings(measure=("interfaces",), draws=2), {"refolded", "profiles", "heads", "grams", "rounding_errors"}),
        (Settings(roles=("q", "down"), measure=ALL_BUT_STABILITY, draws=2), {"interfaces", "rounding_errors"}),
    ],
)
def test_what_is_not_asked_for_is_not_measured(network, reads, settings, empty):
    layer = network.layers[1]
    result = measure_layer(settings, layer)
    assert {part.name for part in fields(result) if not getattr(result, part.name)} == empty | {
        "gram_cosines",
        "failed",
    }
    chosen = [weight for weight in layer.weights if settings.includes(weight)]
    assert set(result.spectra) == {weight.name for weight in chosen}
    assert set(reads) == {weight.tensor for weight in chosen}


@pytest.mark.parametrize("on_disk", [True, False])
def test_a_layer_can_be_measured_in_another_process(tmp_path, on_disk):
    source = save_folder(tmp_path / "model", tiny_llama()) if on_disk else tiny_llama()
    layer = load(source, config=CONFIG).layers[1]
    here = measure_layer(SETTINGS, layer)
    assert equal(pickle.loads(pickle.dumps(here)), here)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(measure_layer, (SETTINGS, layer))
    assert equal(there, here)


def test_neighbours_are_compared_by_their_gram_matrices(network, reads):
    result = measure_layers(SETTINGS, network.layers)
    assert set(reads.values()) == {1}
    assert not result.grams
    rows = {(row["earlier"], row["side"]): row for row in result.gram_cosines}
    assert {name for name, _ in rows} == {
        f"layers.{layer}.{role}" for layer in (0, 1) for role in ("q", "k", "v", "o", "gate", "up", "down")
    }
    matrices = [matrices_of(network, layer)[f"layers.{number}.up"] for number, layer in enumerate(network.layers[1:4])]
    for earlier in (0, 1):
        grams = [gram_matrix(matrix, Side.READ) for matrix in matrices[earlier : earlier + 2]]
        row = rows[f"layers.{earlier}.up", "read"]
        assert row["centred_gram_cosine"] == gram_cosines(*grams)["centred_gram_cosine"]


class Remembered(dict):
    """A memory that has what it is given."""

    def recall_layer(self, layer, _):
        return self.get(layer)

    def keep_layer(self, layer, result):
        self[layer] = result


@pytest.mark.parametrize(
    "make",
    [lambda: load(tiny_llama(), config=CONFIG), lambda: load(tiny_mixtral(), config=MIXTURE), hybrid],
    ids=["llama", "mixtral", "hybrid"],
)
@pytest.mark.parametrize("lost", [["layers.2"], ["layers.1"], ["embedding", "layers.0", "layers.2"]])
def test_a_resumed_run_reads_again_what_lost_layers_are_compared_with(make, lost, monkeypatch):
    network, memory, told = make(), Remembered(), []
    whole = measure_layers(SETTINGS, network.layers, progress=told.append, memory=memory)
    for name in lost:
        del memory[name]
    counts, again = counted(network, monkeypatch), []
    assert equal(measure_layers(SETTINGS, network.layers, progress=again.append, memory=memory), whole)
    assert again == told
    assert set(counts.values()) == {1}
    needed = [layer for layer in network.layers if layer.name in lost]
    single = [weight for layer in needed for weight in layer.weights if not isinstance(weight, Stack)]
    assert {weight.tensor for weight in single} <= set(counts)
    assert len(counts) < len({weight.tensor for weight in network.weights})


def test_two_layers_are_in_progress_at_most(network, monkeypatch):
    import flaggeo.engine

    lock, running, most = threading.Lock(), set(), []

    def watched(settings, layer, **options):
        with lock:
            running.add(layer.name)
            most.append(len(running))
        try:
            return measure_layer(settings, layer, **options)
        finally:
            with lock:
                running.remove(layer.name)

    monkeypatch.setattr(flaggeo.engine, "measure_layer", watched)
    measure_layers(SETTINGS, network.layers)
    assert len(most) == 5
    assert max(most) <= 2


def test_what_needs_an_unreadable_tensor_is_left_out(network, monkeypatch):
    original, whole = network.checkpoint.read, measure_layers(SETTINGS, network.layers)

    def read(name, **options):
        if "layers.1.mlp.down" in name:
            raise CheckpointError("broken")
        return original(name, **options)

    monkeypatch.setattr(network.checkpoint, "read", read)
    memory = Remembered()
    found = measure_layers(SETTINGS, network.layers, memory=memory)
    assert found.failed == {"model.layers.1.mlp.down_proj.weight": "broken"}
    assert set(whole.spectra) - set(found.spectra) == {"layers.1.down"}
    assert equal({name: whole.spectra[name] for name in found.spectra}, found.spectra)
    # The next of the role is compared with the one before.
    neighbours = {row["earlier"] for row in found.gram_cosines}
    assert {row["earlier"] for row in whole.gram_cosines} - neighbours == {"layers.1.down"}
    del memory["layers.2"]
    assert equal(measure_layers(SETTINGS, network.layers, memory=memory), found)


def test_an_error_in_a_layer_ends_the_run_and_leaves_no_thread(network, monkeypatch):
    original = network.checkpoint.read

    def read(name, **options):
        if "layers.1.mlp" in name:
            raise OSError("broken")
        return original(name, **options)

    monkeypatch.setattr(network.checkpoint, "read", read)
    before = threading.active_count()
    with pytest.raises(OSError, match="broken"):
        measure_layers(SETTINGS, network.layers)
    assert threading.active_count() == before


def test_results_do_not_depend_on_the_number_of_threads(network):
    threads, found, tables = torch.get_num_threads(), [], []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            found.append(measure_layers(replace(SETTINGS, fold_norms=True), network.layers))
            with workers():
                found.append(measure_layers(replace(SETTINGS, fold_norms=True), network.layers))
            tables.append(analyze(network, rank=4).pairs)
    finally:
        torch.set_num_threads(threads)
    assert all(equal(one, found[0]) for one in found)
    pd.testing.assert_frame_equal(*tables, check_exact=True)


def test_joined_results_keep_the_order_of_rows():
    first, second = (
        LayerResult(interfaces=[{"layer": index}], heads=[ProjectionHeads(index, "q", *[torch.ones(1, 2, 2)] * 2)])
        for index in (0, 1)
    )
    joined = LayerResult.joined([first, second])
    assert joined.interfaces == [{"layer": 0}, {"layer": 1}]
    assert [heads.layer for heads in joined.heads] == [0, 1]
    assert first.interfaces == [{"layer": 0}]


@pytest.fixture
def mixture():
    return load(tiny_mixtral(), config=MIXTURE)


def test_a_stack_is_measured_as_its_matrix_is(mixture):
    layer = mixture.layers[1]
    result = measure_layer(replace(SETTINGS, measure=("continuity", "stability", "spectra")), layer)
    stacks = [weight for weight in layer.weights if isinstance(weight, Stack)]
    assert len(stacks) == 3
    for stack in stacks:
        matrix, [side] = mixture.matrix(stack), stack.sides
        expected = leading_spectrum(matrix, 6, whole=True)
        found = result.spectra[stack.name]
        torch.testing.assert_close(found.known_values, expected.known_values, rtol=1e-9, atol=1e-9)
        cosines = (found.frame(side) * expected.frame(side)).sum(dim=0).abs()  # signs are those of the right vectors
        torch.testing.assert_close(cosines, torch.ones(6).double(), rtol=0, atol=1e-9)
        torch.testing.assert_close(found.channel_norms(side), expected.channel_norms(side), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(result.grams[stack.name, side], gram_matrix(matrix, side), rtol=1e-5, atol=1e-7)
        assert (stack.name, side.other) not in result.grams
        errors = [result.rounding_errors[expert.name] for expert in stack.experts]
        assert result.rounding_errors[stack.name] == max(errors) > 0
    assert not set(result.profiles) & {stack.name for stack in stacks}


def test_the_matrices_of_one_expert_are_let_go_before_the_next_is_read(mixture, monkeypatch):
    held, most, original = weakref.WeakSet(), [], mixture.checkpoint.read

    def read(name, **options):
        tensor = original(name, **options).clone()
        if ".experts." in name:
            held.add(tensor.untyped_storage())
            most.append(len(held))
        return tensor

    monkeypatch.setattr(mixture.checkpoint, "read", read)
    told = []
    measure_layer(SETTINGS, mixture.layers[1], progress=told.append)
    assert len(most) == 3 * EXPERTS
    assert max(most) == 3
    assert len(told) == len(set(told)) == 4 + 1 + 3 * EXPERTS


def test_the_interfaces_of_each_expert_are_measured(mixture):
    result = measure_layer(SETTINGS, mixture.layers[1])
    names = {row["name"] for row in result.interfaces if row["head"] is None}
    assert names == {
        f"layers.0.experts.{e}.expert_{kind}-expert_down" for e in range(EXPERTS) for kind in ("up", "gate")
    }
