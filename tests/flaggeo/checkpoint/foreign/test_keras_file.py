import sys

import h5py
import numpy as np
import pytest
import torch

from flaggeo.checkpoint import CheckpointError, open_checkpoint


def gaussian(*shape, seed=0, dtype="f4"):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def hdf5(path, datasets, **options):
    with h5py.File(path, "w") as file:
        for name, array in datasets.items():
            file.create_dataset(name, data=array, **options)
    return path


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", ">f4"])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_reads_what_was_saved(tmp_path, dtype, compression):
    kernel = gaussian(5, 3, dtype=dtype)
    path = hdf5(tmp_path / "x.weights.h5", {"layers/dense/vars/0": kernel}, compression=compression)
    checkpoint = open_checkpoint(path)
    header = checkpoint.headers["layers.dense.vars.0"]
    assert (header.shape, header.dtype) == ((5, 3), f"F{8 * kernel.itemsize}")
    np.testing.assert_array_equal(checkpoint.read("layers.dense.vars.0").numpy(), kernel)
    np.testing.assert_array_equal(checkpoint.read("layers.dense.vars.0", rows=slice(1, 4)).numpy(), kernel[1:4])


def test_a_whole_model_of_keras_2_has_the_names_of_its_weights(tmp_path):
    path = hdf5(
        tmp_path / "x.h5",
        {
            "model_weights/dense/dense/kernel:0": gaussian(4, 3),
            "model_weights/dense/dense/bias:0": gaussian(3),
            "model_weights/conv/conv/kernel:0": gaussian(3, 3, 2, 5),
            "optimizer_weights/Adam/iter:0": np.int64(7),
        },
    )
    checkpoint = open_checkpoint(path)
    assert {name: header.shape for name, header in checkpoint.headers.items()} == {
        "dense.dense.kernel:0": (4, 3),
        "dense.dense.bias:0": (3,),
        "conv.conv.kernel:0": (3, 3, 2, 5),
    }
    assert checkpoint.metadata == {"format": "keras", "layout": "keras", "left out": "optimizer_weights.Adam.iter:0"}


def test_a_number_alone_is_read(tmp_path):
    assert open_checkpoint(hdf5(tmp_path / "x.h5", {"a": np.float32(2)})).read("a") == 2


def test_bfloat16_is_what_keras_says_it_is(tmp_path):
    numbers = torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    stored = numbers.view(torch.int16).numpy().view("V2")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", data=stored).attrs["dtype"] = "bfloat16"
        file.create_dataset("b", data=stored)
    checkpoint = open_checkpoint(tmp_path / "x.h5")
    assert checkpoint.headers["a"].dtype == "BF16"
    assert torch.equal(checkpoint.read("a"), numbers)
    assert torch.equal(checkpoint.read("a", rows=slice(1, 3)), numbers[1:3])
    with pytest.raises(CheckpointError, match="tensor 'b': expected one of the dtypes"):
        checkpoint.read("b")


def test_a_dataset_of_two_names_is_counted_once(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a/kernel"] = gaussian(3, 2)
        file["b/kernel"] = file["a/kernel"]
        file["a/loop"] = file["a"]
    checkpoint = open_checkpoint(tmp_path / "x.h5")
    assert list(checkpoint.headers) == ["a.kernel"]
    assert checkpoint.aliases == {"b.kernel": "a.kernel"}


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        (h5py.ExternalLink("other.h5", "/secret"), "ExternalLink to '/secret'"),
        (h5py.SoftLink("/a"), "SoftLink to '/a'"),
        (h5py.SoftLink("/nowhere"), "SoftLink to '/nowhere'"),
    ],
)
def test_links_are_not_followed(tmp_path, link, kind):
    hdf5(tmp_path / "other.h5", {"secret": gaussian(2, 2)})
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = gaussian(2, 2)
        file["group/link"] = link
    with pytest.raises(
        CheckpointError, match=rf"x\.h5: dataset 'group/link': expected a group or a dataset, found a {kind}"
    ):
        open_checkpoint(tmp_path / "x.h5")


def test_numbers_of_other_files_are_not_read(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(40))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (10,), "f4", external=[(str(tmp_path / "secret"), 0, 40)])
    with pytest.raises(CheckpointError, match=r"dataset 'a': .* found those of other files"):
        open_checkpoint(tmp_path / "x.h5")


def test_numbers_of_other_datasets_are_not_read(tmp_path):
    hdf5(tmp_path / "other.h5", {"secret": gaussian(4)})
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "secret", (4,))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_virtual_dataset("a", layout)
    with pytest.raises(CheckpointError, match=r"dataset 'a': .* found those of other datasets"):
        open_checkpoint(tmp_path / "x.h5")


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, "dataset 'a': .* found 0 bytes for 4000000000000"),
        ({"chunks": (100, 100)}, "tensors that claim 4000000000000 bytes, which is more than 100 times"),
    ],
)
def test_a_shape_without_numbers_is_refused_from_the_header(tmp_path, options, found):
    """HDF5 would fill up what was never written."""
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("a", (10**6, 10**6), "f4", **options)
    with pytest.raises(CheckpointError, match=found):
        open_checkpoint(tmp_path / "x.h5")


def test_an_empty_dataset_is_refused(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["a"] = h5py.Empty("f4")
    with pytest.raises(CheckpointError, match=r"dataset 'a': .* found none"):
        open_checkpoint(tmp_path / "x.h5")


@pytest.mark.parametrize("part", [0, 0.1, 0.5, 0.99])
def test_a_truncated_file_is_refused_before_anything_is_read(tmp_path, part):
    path = hdf5(tmp_path / "x.h5", {"a": gaussian(64, 64), "b": gaussian(64)})
    contents = path.read_bytes()
    path.write_bytes(contents[: int(part * len(contents))])
    with pytest.raises(CheckpointError, match=r"x\.h5: expected a complete HDF5 file, found: "):
        open_checkpoint(path)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch):
    path = hdf5(tmp_path / "x.h5", {"a": gaussian(2, 2)})
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(
        CheckpointError, match=r'x\.h5: expected h5py, .* not installed: pip install "flaggeo\[keras\]"'
    ):
        open_checkpoint(path)
