"""Three BERTs of one training history, as old pickles without a model type: read, analysed, compared and traced."""

import pickletools
from itertools import pairwise
from statistics import median

import numpy as np
import pytest

from flaggeo import analyze, compare, load, trace
from flaggeo.checkpoint import open_checkpoint

PRETRAINED, TUNED, TUNED_LONGER = "bert_pretrained", "bert_ft", "bert_ft_10k_25s"
#: Median of |B - A| / |A| over all weights.
RELATIVE_CHANGE = {TUNED: 0.22, TUNED_LONGER: 0.07}
PART = {"measure": "continuity", "roles": ("up", "down"), "layers": (0, 1, 2)}


def storages_of(file):
    """Numbers of each storage, sorted: behind the five pickles of the old format, in float32 behind their count."""
    with file.open("rb") as stream:
        for _ in range(5):
            for _ in pickletools.genops(stream):
                pass
        found = []
        while count := int.from_bytes(stream.read(8), "little"):
            found.append(np.sort(np.frombuffer(stream.read(4 * count), "<f4")).tobytes())
    return found


@pytest.mark.parametrize(
    ("model", "tensors", "prefix"), [(PRETRAINED, 206, "bert."), (TUNED, 199, ""), (TUNED_LONGER, 201, "bert.")]
)
def test_every_storage_of_the_file_is_a_tensor(rxnfp_models, model, tensors, prefix):
    checkpoint = open_checkpoint(rxnfp_models / model)
    assert len(checkpoint.headers) == tensors
    assert f"{prefix}encoder.layer.11.attention.self.query.weight" in checkpoint.headers
    tied = {"cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight"}
    assert checkpoint.aliases == (tied if model == PRETRAINED else {})
    # Some are transposes in memory, so the order of the numbers is not that of the storage.
    read = [np.sort(checkpoint.read(name).numpy(), axis=None).tobytes() for name in checkpoint.headers]
    assert sorted(read) == sorted(storages_of(rxnfp_models / model / "pytorch_model.bin"))


def first_inputs(folder):
    """First right singular vector of each ``up``, by NumPy."""
    checkpoint = open_checkpoint(folder)
    names = [name for name in checkpoint.headers if name.endswith("intermediate.dense.weight")]
    return [np.linalg.svd(checkpoint.read(name).double().numpy())[2][0] for name in names]


def test_up_keeps_its_input_direction_as_numpy_says(rxnfp_models):
    network = load(rxnfp_models / PRETRAINED)
    assert network.family == "bert"
    assert any("no settings name the model type" in remark for remark in network.remarks)
    summary = analyze(network, measure="continuity", roles=("up",)).summary.set_index("side")
    vectors = first_inputs(rxnfp_models / PRETRAINED)
    cosines = [abs(one @ other) for one, other in pairwise(vectors)]
    assert len(cosines) == 11
    assert summary.loc["read", "abs_cos_1"] == pytest.approx(np.mean(cosines), abs=1e-8)
    assert np.mean(cosines) == pytest.approx(0.95, abs=0.005)


def relative_changes(first, second):
    """|B - A| / |A| of what the two have in common, whatever prefix their names have."""
    one, other = (
        {name.removeprefix("bert."): (checkpoint, name) for name in checkpoint.headers}
        for checkpoint in map(open_checkpoint, (first, second))
    )

    def matrix(of, name):
        checkpoint, stored = of[name]
        return checkpoint.read(stored).double()

    names = [name for name in one if name.startswith("encoder.") and len(matrix(one, name).shape) == 2]
    return {name: float((matrix(other, name) - matrix(one, name)).norm() / matrix(one, name).norm()) for name in names}


@pytest.mark.parametrize("model", RELATIVE_CHANGE)
def test_how_far_tuning_moved_the_weights(rxnfp_models, model):
    base, tuned = rxnfp_models / PRETRAINED, rxnfp_models / model
    changes = relative_changes(base, tuned)
    assert len(changes) == 6 * 12
    assert median(changes.values()) == pytest.approx(RELATIVE_CHANGE[model], abs=0.005)
    measured = compare(base, tuned, **PART).deltas.set_index("name")["relative_norm"]
    modules = {"up": "intermediate", "down": "output"}
    expected = {
        f"layers.{n}.{role}": changes[f"encoder.layer.{n}.{module}.dense.weight"]
        for role, module in modules.items()
        for n in range(3)
    }
    assert measured.to_dict() == pytest.approx(expected, rel=1e-5)


def test_the_three_are_steps_of_a_run(rxnfp_models):
    traced = trace([rxnfp_models / model for model in (PRETRAINED, TUNED_LONGER, TUNED)], **PART)
    assert list(traced.checkpoints["checkpoint"]) == [PRETRAINED, TUNED_LONGER, TUNED]
    by_step = traced.drift.groupby("step")["rms_angle"].mean()
    assert 0 < by_step[1] < by_step[2]


@pytest.mark.slow
@pytest.mark.parametrize("model", RELATIVE_CHANGE)
def test_the_whole_comparison(rxnfp_models, model):
    compared = compare(rxnfp_models / PRETRAINED, rxnfp_models / model)
    assert len(compared.deltas) == 6 * 12 + 1
    assert compared.deltas["relative_norm"].median() == pytest.approx(RELATIVE_CHANGE[model], abs=0.005)


@pytest.mark.slow
@pytest.mark.parametrize("model", [PRETRAINED, TUNED, TUNED_LONGER])
def test_the_whole_analysis(rxnfp_models, model):
    analysis = analyze(load(rxnfp_models / model))
    shared = analysis.summary[analysis.summary["shared_space"]].set_index("role")
    assert shared.loc["up", "abs_cos_1"] == pytest.approx(0.95, abs=0.005)
    assert set(shared.index) == {"q", "k", "v", "o", "up", "down"}
