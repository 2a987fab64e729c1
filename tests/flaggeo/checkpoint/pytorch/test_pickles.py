"""Files of `torch.save`, sound and hostile, of the zip format and of the one before torch 1.6."""

import io
import os
import pickle
import re
import zipfile
from collections import OrderedDict

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flaggeo.checkpoint.pytorch.pickles import load_pickle

FORMATS = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def saved(path, value, *, zipped=True):
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path


def tensors():
    generator = torch.Generator().manual_seed(0)
    return OrderedDict(
        a=torch.randn(5, 3, generator=generator), b=torch.randn(4, generator=generator).to(torch.bfloat16)
    )


def records_of(path):
    """Contents of an archive, by their names inside its folder."""
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def rewritten(path, changed, compressed=()):
    """The archive with some records replaced or added, and some compressed."""
    records = records_of(path) | changed
    with zipfile.ZipFile(path, "w") as archive:
        for name, contents in records.items():
            kind = zipfile.ZIP_DEFLATED if name in compressed else zipfile.ZIP_STORED
            archive.writestr(f"archive/{name}", contents, kind)
    return path


class Intruder:
    """Unpickling it makes a file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@FORMATS
def test_what_was_saved_comes_back(tmp_path, zipped):
    value = {
        "model": tensors(),
        "step": 3,
        "rate": 0.5,
        "names": ["x", None],
        "flag": True,
        "half": nn.Parameter(torch.ones(2).half()),
    }
    loaded = load_pickle(saved(tmp_path / "x.pt", value, zipped=zipped))
    assert {name: loaded[name] for name in ("step", "rate", "names", "flag")} == {
        "step": 3,
        "rate": 0.5,
        "names": ["x", None],
        "flag": True,
    }
    for name, tensor in tensors().items():
        assert torch.equal(loaded["model"][name], tensor)
    assert loaded["half"].dtype == torch.float16


def test_bytes_are_read_as_a_file_is(tmp_path):
    contents = saved(tmp_path / "x.pt", tensors()["a"]).read_bytes()
    assert torch.equal(load_pickle(io.BytesIO(contents)), tensors()["a"])


def test_an_archive_on_disk_is_mapped_and_not_read(tmp_path):
    """Numbers that are changed in the file afterwards are seen: they had not been copied."""
    before, after = torch.arange(1000.0), torch.arange(1000.0) + 0.5
    path = saved(tmp_path / "x.pt", {"a": before})
    loaded = load_pickle(path)
    place = path.read_bytes().index(before.numpy().tobytes())
    with path.open("r+b") as stream:
        stream.seek(place)
        stream.write(after.numpy().tobytes())
    assert torch.equal(loaded["a"], after)


@FORMATS
def test_code_is_named_and_not_executed(tmp_path, zipped):
    mark = tmp_path / "mark"
    path = saved(tmp_path / "x.pt", {"a": torch.ones(2), "b": Intruder(mark)}, zipped=zipped)
    with pytest.raises(ValueError, match=rf"asks for '{os.mkdir.__module__}\.mkdir'"):
        load_pickle(path)
    assert not mark.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_pickle_that_torch_did_not_write_is_named_too(tmp_path, protocol):
    mark = tmp_path / "mark"
    path = tmp_path / "x.pt"
    path.write_bytes(pickle.dumps(Intruder(mark), protocol))
    with pytest.raises(ValueError, match=rf"asks for '{os.mkdir.__module__}\.mkdir'"):
        load_pickle(path)
    assert not mark.exists()


@FORMATS
def test_a_whole_module_is_refused_with_what_to_save_instead(tmp_path, zipped):
    path = saved(tmp_path / "x.pt", nn.Sequential(nn.Linear(2, 2)), zipped=zipped)
    with pytest.raises(
        ValueError, match=r"torch\.nn\.modules\.container\.Sequential'.*save the state dict alone, as torch\.save"
    ):
        load_pickle(path)


def test_torchscript_is_refused(tmp_path):
    path = rewritten(saved(tmp_path / "x.pt", tensors()), {"constants.pkl": b"", "code/x.py": b"import os"})
    with pytest.raises(ValueError, match="TorchScript archive"):
        load_pickle(path)


@pytest.mark.parametrize(
    ("made_by", "asked"),
    [
        (b"cbuiltins\nbytearray\n", r"builtins\.bytearray"),
        (b"ctorch\nTensor\n", r"torch\.Tensor"),
        (b"ctorch.storage\nUntypedStorage\n", r"torch\.storage\.UntypedStorage"),
        (b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n", r"torch\._utils\._rebuild_meta_tensor_no_storage"),
    ],
)
def test_what_torch_admits_and_could_fill_the_memory_is_refused(tmp_path, made_by, asked):
    """A call with 2**40, of what torch's own list of safe names has."""
    path = saved(tmp_path / "x.pt", {})
    call = b"\x80\x02" + made_by + b"\x8a\x06" + (2**40).to_bytes(6, "little") + b"\x85R."
    with pytest.raises(ValueError, match=asked):
        load_pickle(rewritten(path, {"data.pkl": call}))


@pytest.mark.parametrize("name", ["data.pkl", "data/0"])
def test_a_compressed_record_is_refused_before_it_is_unpacked(tmp_path, name):
    path = rewritten(saved(tmp_path / "x.pt", {"a": torch.zeros(10**6)}), {}, compressed=[name])
    with pytest.raises(ValueError, match=rf"a record 'archive/{name}' that claims \d+ bytes when unpacked"):
        load_pickle(path)


def claiming(path, *, numbers, shape):
    """The file of one vector of four float32, whose pickle claims another number of them."""
    pickled = records_of(path)["data.pkl"]
    in_storage, in_shape = b"cpuq\x06K\x04", b"K\x04\x85"
    assert pickled.count(in_storage) == pickled.count(in_shape) == 1
    changed = pickled.replace(in_storage, b"cpuq\x06J" + numbers.to_bytes(4, "little"))
    return rewritten(path, {"data.pkl": changed.replace(in_shape, b"J" + shape.to_bytes(4, "little") + b"\x85")})


@pytest.mark.parametrize(("numbers", "shape"), [(6, 6), (3, 3), (10**9, 10**9), (6, 4)])
@pytest.mark.parametrize("mapped", [True, False])
def test_a_storage_that_its_record_does_not_hold_is_refused(tmp_path, numbers, shape, mapped):
    """A map of the file would go on into the next record: torch itself does not notice."""
    path = claiming(saved(tmp_path / "x.pt", {"a": torch.arange(4.0)}), numbers=numbers, shape=shape)
    with pytest.raises((ValueError, RuntimeError), match=r"storages of \d+ bytes|record size|not resizable"):
        load_pickle(path if mapped else io.BytesIO(path.read_bytes()))


def test_a_shape_beyond_its_storage_is_refused(tmp_path):
    path = claiming(saved(tmp_path / "x.pt", {"a": torch.arange(4.0)}), numbers=4, shape=5)
    with pytest.raises(RuntimeError, match="storage that is not resizable"):
        load_pickle(path)


def test_two_storages_that_claim_each_others_size_are_refused(tmp_path):
    path = saved(tmp_path / "x.pt", {"a": torch.arange(4.0), "b": torch.arange(5.0)})
    records = records_of(path)
    rewritten(path, {"data/0": records["data/1"], "data/1": records["data/0"]})
    with pytest.raises(ValueError, match="storages of 36 bytes in all that are not those of its records"):
        load_pickle(path)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        (3, "size|storage"),
        (5, "size|storage"),
        (2**20, "storages of 4194304 bytes or more in a file of"),  # before torch reads
        (2**40, "allocate|storages of"),
    ],
)
def test_an_old_file_whose_storage_claims_another_size_is_refused(tmp_path, numbers, message):
    path = saved(tmp_path / "x.pt", torch.arange(4.0), zipped=False)
    contents = path.read_bytes()
    claim = re.compile(rb"(cpuq.)K\x04")
    assert len(claim.findall(contents)) == 1
    path.write_bytes(claim.sub(lambda found: found[1] + b"\x8a\x06" + numbers.to_bytes(6, "little"), contents))
    with pytest.raises((ValueError, RuntimeError), match=message):
        load_pickle(path)


def test_an_old_file_with_more_behind_its_storages_is_refused(tmp_path):
    path = saved(tmp_path / "x.pt", torch.arange(4.0), zipped=False)
    path.write_bytes(path.read_bytes() + bytes(8))
    with pytest.raises(ValueError, match="storages of 16 bytes in all where the file has 32"):
        load_pickle(path)


def test_another_byte_order_is_refused(tmp_path):
    path = rewritten(saved(tmp_path / "x.pt", tensors()), {"byteorder": b"big"})
    with pytest.raises(ValueError, match="byte order"):
        load_pickle(path)


@FORMATS
@settings(max_examples=150)
@given(place=st.integers(0, 2**20), byte=st.integers(0, 255))
def test_a_damaged_file_loads_or_raises_and_never_gives_more_than_it_holds(tmp_path_factory, zipped, place, byte):
    path = saved(tmp_path_factory.mktemp("damaged") / "x.pt", tensors(), zipped=zipped)
    contents = bytearray(path.read_bytes())
    contents[place % len(contents)] = byte
    path.write_bytes(contents)
    try:
        loaded = load_pickle(path)
    except Exception:
        return
    values = loaded.values() if isinstance(loaded, dict) else []
    held = sum(value.untyped_storage().nbytes() for value in values if isinstance(value, torch.Tensor))
    assert held <= len(contents)
