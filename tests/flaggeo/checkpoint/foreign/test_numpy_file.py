import io
import os
import zipfile

import numpy as np
import pytest

from flaggeo.checkpoint import CheckpointError, open_checkpoint
from tests.builders import tiny_llama


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def npy(array, *, shape=None, descr=None):
    """Contents of an ``.npy`` file; its header may lie."""
    header = np.lib.format.header_data_from_array_1_0(array)
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, header | ({"shape": shape} if shape else {}) | ({"descr": descr} if descr else {})
    )
    return stream.getvalue() + array.tobytes()


def archive_of(path, members, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)
    return path


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_reads_what_was_saved(tmp_path, write, dtype, order):
    array = np.asarray(gaussian(5, 3, 2), dtype=dtype, order=order)
    write(tmp_path / "x.npz", **{"layers/0/kernel": array, "scale": np.float32(2), "none": np.ones((0, 3), "f4")})
    checkpoint = open_checkpoint(tmp_path / "x.npz")
    assert list(checkpoint.headers) == ["layers/0/kernel", "scale", "none"]
    header = checkpoint.headers["layers/0/kernel"]
    assert (header.shape, header.dtype) == ((5, 3, 2), f"F{8 * array.itemsize}")
    read = checkpoint.read("layers/0/kernel")
    assert read.element_size() == array.itemsize
    np.testing.assert_array_equal(read.numpy(), array)
    np.testing.assert_array_equal(checkpoint.read("layers/0/kernel", rows=slice(1, 4)).numpy(), array[1:4])
    assert checkpoint.read("scale") == 2
    assert checkpoint.read("none").shape == (0, 3)


def test_a_state_dict_saved_as_arrays_has_its_names(tmp_path):
    tensors = tiny_llama()
    np.savez(tmp_path / "x.npz", **{name: tensor.numpy() for name, tensor in tensors.items()})
    checkpoint = open_checkpoint(tmp_path / "x.npz")
    assert {name: header.shape for name, header in checkpoint.headers.items()} == {
        name: tuple(tensor.shape) for name, tensor in tensors.items()
    }


def test_only_the_rows_that_are_asked_for_are_unpacked(tmp_path, monkeypatch):
    np.savez(tmp_path / "x.npz", a=gaussian(1000, 100))
    checkpoint = open_checkpoint(tmp_path / "x.npz")
    sizes = []
    frombuffer = np.frombuffer
    monkeypatch.setattr(np, "frombuffer", lambda data, dtype: sizes.append(len(data)) or frombuffer(data, dtype))
    checkpoint.read("a", rows=slice(10, 14))
    assert sizes == [4 * 100 * 8]


def test_integers_are_listed_and_not_read(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.arange(3))
    checkpoint = open_checkpoint(tmp_path / "x.npz")
    with pytest.raises(CheckpointError, match=r"tensor 'a': expected one of the dtypes .* found int64"):
        checkpoint.read("a")


def test_numbers_without_a_type_are_not_guessed(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros((2, 3), "V2"))
    checkpoint = open_checkpoint(tmp_path / "x.npz")
    assert checkpoint.headers["a"].shape == (2, 3)
    with pytest.raises(
        CheckpointError, match=r"x\.npz: array 'a': expected numbers, found 2 bytes each without a type"
    ):
        checkpoint.read("a")


def test_python_objects_are_refused_without_being_loaded(tmp_path):
    class Intruder:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "mark"),)

    np.savez(tmp_path / "x.npz", a=np.ones(2), b=np.array([Intruder()], dtype=object))
    with pytest.raises(CheckpointError, match=r"x\.npz: array 'b': .* found Python objects, which may be code"):
        open_checkpoint(tmp_path / "x.npz")
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("shape", [(5, 3), (10**6, 10**6), (4, 2), (-4, -3), (2**62, 2**62)])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_shape_that_lies_is_refused_from_the_header(tmp_path, shape, compression):
    path = archive_of(tmp_path / "x.npz", {"a.npy": npy(gaussian(4, 3), shape=shape)}, compression)
    with pytest.raises(CheckpointError, match=r"array 'a': expected as many numbers as its header says, found"):
        open_checkpoint(path)


def test_an_archive_that_would_unpack_to_far_more_than_its_size_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((1500, 1500)))
    with pytest.raises(
        CheckpointError, match=r"found: tensors that claim 18000128 bytes, .* than 100 times the file's"
    ):
        open_checkpoint(tmp_path / "x.npz")


def test_small_arrays_may_be_all_zeros(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", a=np.zeros((1000, 1000)))
    assert open_checkpoint(tmp_path / "x.npz").read("a").sum() == 0


def test_two_arrays_of_one_name_are_refused(tmp_path):
    path = archive_of(tmp_path / "x.npz", {"a.npy": npy(np.ones(2)), "a": npy(np.ones(3))})
    with pytest.raises(CheckpointError, match=r"array 'a': .* found a second one of this name"):
        open_checkpoint(path)


@pytest.mark.parametrize("part", [0, 0.01, 0.5, 0.99])
def test_a_truncated_file_is_refused_before_anything_is_read(tmp_path, part):
    np.savez(tmp_path / "x.npz", a=gaussian(64, 64))
    contents = (tmp_path / "x.npz").read_bytes()
    (tmp_path / "x.npz").write_bytes(contents[: int(part * len(contents))])
    with pytest.raises(CheckpointError, match=r"x\.npz: expected a complete \.npz file, found: File is not a zip file"):
        open_checkpoint(tmp_path / "x.npz")


@pytest.mark.parametrize("contents", [b"", b"text", b"\x93NUMPY\x03\x00" + bytes(10), b"\x93NUMPY\x01\x00\xff\xff{"])
def test_a_member_that_is_no_array_is_refused(tmp_path, contents):
    path = archive_of(tmp_path / "x.npz", {"a.npy": contents})
    with pytest.raises(CheckpointError, match=r"x\.npz: expected a complete \.npz file, found: "):
        open_checkpoint(path)
