"""Files of MNIST: what was planted is read, and what is no such file is refused by name."""

import gzip
import struct

import pytest
import torch

from flaggeo.training.idx import read_mnist
from flaggeo.training.tasks import mnist

NAMES = {
    "images": "train-images-idx3-ubyte",
    "classes": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_classes": "t10k-labels-idx1-ubyte",
}


def idx(content, *shape):
    return struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape) + bytes(content)


def pixels(count, start):
    return [(start + place) % 256 for place in range(count * 784)]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / NAMES["images"]).write_bytes(idx(pixels(3, 0), 3, 28, 28))
    (tmp_path / NAMES["classes"]).write_bytes(idx([4, 0, 9], 3))
    (tmp_path / f"{NAMES['test_images']}.gz").write_bytes(gzip.compress(idx(pixels(2, 9), 2, 28, 28)))
    (tmp_path / f"{NAMES['test_classes']}.gz").write_bytes(gzip.compress(idx([1, 2], 2)))
    return tmp_path


def test_what_was_planted_is_read(folder):
    images, classes, test_images, test_classes = read_mnist(folder)
    assert images.dtype == torch.uint8
    assert images.flatten().tolist() == pixels(3, 0)
    assert classes.tolist() == [4, 0, 9]
    assert test_images.flatten().tolist() == pixels(2, 9)
    assert test_classes.tolist() == [1, 2]


def test_every_run_learns_the_whole_data_set(folder):
    task = mnist((5, 6), folder)
    assert task.inputs.shape == (2, 3, 784)
    assert task.inputs[0, 0, 255].item() == 1
    assert task.targets.tolist() == [[4, 0, 9]] * 2
    assert task.test_targets.tolist() == [[1, 2]] * 2


GOOD = idx([4, 0, 9], 3)
BROKEN = {
    "empty": (b"", "found the header ''"),
    "other kind": (b"\x89PNG" + GOOD, "found the header '89504e47"),
    "images in place of labels": (idx(pixels(3, 0), 3, 28, 28), "found the header '00000803"),
    "cut short": (GOOD[:-1], "expected 3 bytes behind its header, found 2"),
    "goes on": (GOOD + b"\0", "expected 3 bytes behind its header, found more"),
    "none": (idx([], 0), "expected 1 to 100,000 items, found 0"),
    "too many": (idx([], 2**32 - 1), "expected 1 to 100,000 items, found 4,294,967,295"),
    "one too few": (idx([4, 0], 2), "expected 3 labels, one for each image, found 2"),
    "class": (idx([4, 0, 10], 3), "expected labels 0 to 9, found 10"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_no_such_file_is_refused_in_one_line(folder, name):
    content, words = BROKEN[name]
    (folder / NAMES["classes"]).write_bytes(content)
    with pytest.raises(ValueError, match=words) as refused:
        read_mnist(folder)
    assert NAMES["classes"] in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "content",
    [b"no gzip", gzip.compress(idx([1, 2], 2))[:-9], gzip.compress(GOOD)[:20] + b"xxxxxxxxxxxxx"],
    ids=["no gzip", "cut short", "no data inside"],
)
def test_what_cannot_be_unpacked_is_refused(folder, content):
    (folder / f"{NAMES['test_classes']}.gz").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{NAMES['test_classes']}.gz: expected a whole gzip file"):
        read_mnist(folder)


def test_a_missing_file_is_named(folder):
    (folder / NAMES["images"]).unlink()
    with pytest.raises(FileNotFoundError, match=r"train-images-idx3-ubyte: expected this file of MNIST"):
        read_mnist(folder)
