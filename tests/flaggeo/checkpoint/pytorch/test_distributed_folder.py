import os
import pickle
import warnings
from itertools import pairwise

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed._shard.sharded_tensor.metadata import TensorProperties as OlderProperties
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from flaggeo.checkpoint import CheckpointError, open_checkpoint
from tests.builders import tiny_llama
from tests.flaggeo.checkpoint.pytorch.test_pickles import Intruder


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def save(state, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that there is one process
        dcp.save(state, checkpoint_id=folder, no_dist=True)
    return folder


def in_pieces(folder, tensors, cuts):
    """A checkpoint as several processes write it: each tensor cut along both axes, the pieces in one file a process.

    torch writes it so only where several processes run.
    """
    folder.mkdir(exist_ok=True)
    headers, places = {}, {}
    for name, tensor in tensors.items():
        rows, columns = ([0, *cuts, size] for size, cuts in zip(tensor.shape, cuts, strict=True))
        chunks = []
        for rank, (top, bottom) in enumerate(pairwise(rows)):
            with (folder / f"__{rank}_0.distcp").open("ab") as stream:
                for left, right in pairwise(columns):
                    offset, start = torch.Size([top, left]), stream.tell()
                    torch.save(tensor[top:bottom, left:right].clone(), stream)
                    chunks.append(ChunkStorageMetadata(offset, torch.Size([bottom - top, right - left])))
                    info = _StorageInfo(f"__{rank}_0.distcp", start, stream.tell() - start)
                    places[MetadataIndex(name, offset, len(chunks) - 1)] = info
        headers[name] = TensorStorageMetadata(TensorProperties(tensor.dtype), tensor.shape, chunks)
    return write_metadata(folder, Metadata(headers, storage_data=places))


def write_metadata(folder, metadata):
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    return folder


def metadata_of(folder):
    return pickle.loads((folder / ".metadata").read_bytes())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_reads_what_torch_saved(tmp_path, dtype):
    state = {"a": gaussian(5, 3).to(dtype), "b": torch.tensor(2.0, dtype=dtype), "turned": gaussian(4, 6).to(dtype).mT}
    save(state, tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert {name: header.shape for name, header in checkpoint.headers.items()} == {
        "a": (5, 3),
        "b": (),
        "turned": (6, 4),
    }
    for name, tensor in state.items():
        assert checkpoint.read(name).dtype == dtype
        assert torch.equal(checkpoint.read(name), tensor)
    assert torch.equal(checkpoint.read("turned", rows=slice(2, 4)), state["turned"][2:4])


def test_the_model_is_found_beside_its_optimizer(tmp_path):
    tensors = tiny_llama()
    state = {"model": tensors, "optimizer": {"state": {"m": torch.zeros(3)}, "lr": 0.1}, "step": 7}
    save(state, tmp_path)
    checkpoint = open_checkpoint(tmp_path)
    assert set(checkpoint.headers) == set(tensors)
    assert all(torch.equal(checkpoint.read(name), tensor) for name, tensor in tensors.items())
    assert checkpoint.metadata == {
        "format": "torch.distributed.checkpoint",
        "entry": "model",
        "left out": "optimizer, step",
    }


def test_names_that_begin_with_model_are_kept_in_a_flat_state_dict(tmp_path):
    save({"model.a": gaussian(2, 2)}, tmp_path)
    assert list(open_checkpoint(tmp_path).headers) == ["model.a"]


@pytest.mark.parametrize("rows", [slice(None), slice(0, 1), slice(3, 9), slice(4, 5), slice(10, 12), slice(5, 5)])
def test_pieces_of_several_processes_are_put_together(tmp_path, rows):
    tensors = {"a": gaussian(12, 7), "b": gaussian(12, 7, seed=1)}
    checkpoint = open_checkpoint(in_pieces(tmp_path, tensors, cuts=([4, 5, 10], [3])))
    assert len(list(tmp_path.glob("*.distcp"))) == 4
    for name, tensor in tensors.items():
        assert torch.equal(checkpoint.read(name, rows=rows), tensor[rows])


def test_torch_reads_the_pieces_of_these_tests_alike(tmp_path):
    tensor = gaussian(12, 7)
    folder = in_pieces(tmp_path, {"a": tensor}, cuts=([4, 5, 10], [3]))
    state = {"a": torch.zeros(12, 7)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.load(state, checkpoint_id=folder, no_dist=True)
    assert torch.equal(state["a"], tensor)


def test_only_the_pieces_that_hold_the_rows_are_read(tmp_path):
    folder = in_pieces(tmp_path, {"a": gaussian(12, 7)}, cuts=([4, 8], []))
    checkpoint = open_checkpoint(folder)
    (folder / "__0_0.distcp").unlink()
    assert checkpoint.read("a", rows=slice(4, 12)).shape == (8, 7)
    with pytest.raises(CheckpointError, match=r"cannot read tensor 'a'.*__0_0\.distcp"):
        checkpoint.read("a", rows=slice(3, 12))


def test_metadata_of_torch_2_0_is_understood(tmp_path):
    folder = in_pieces(tmp_path, {"a": gaussian(4, 3)}, cuts=([], []))
    metadata = metadata_of(folder)
    metadata.state_dict_metadata["a"].properties = OlderProperties(torch.float32)
    del metadata.storage_meta
    assert open_checkpoint(write_metadata(folder, metadata)).read("a").shape == (4, 3)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_the_metadata_is_named_and_not_executed(tmp_path, protocol):
    mark = tmp_path / "mark"
    (tmp_path / ".metadata").write_bytes(pickle.dumps(Metadata({}, planner_data=Intruder(mark)), protocol))
    with pytest.raises(CheckpointError, match=rf"\.metadata: .* a pickle that asks for '{os.mkdir.__module__}\.mkdir'"):
        open_checkpoint(tmp_path)
    assert not mark.exists()


@pytest.mark.parametrize(
    "asked", ["torch.load", "torch.hub.os", "builtins.eval", "torch.distributed.checkpoint.metadata.os"]
)
def test_nothing_of_torch_but_records_is_admitted(tmp_path, asked):
    module, _, name = asked.rpartition(".")
    (tmp_path / ".metadata").write_bytes(f"c{module}\n{name}\n.".encode())
    with pytest.raises(CheckpointError, match=f"asks for '{asked}'"):
        open_checkpoint(tmp_path)


def test_the_metadata_changes_no_class_of_torch(tmp_path):
    """A pickle may set attributes on what it names; here these are stand-ins."""
    planted = b"X\x07\x00\x00\x00plantedK\x01s"
    pickled = b"\x80\x02ctorch.distributed.checkpoint.metadata\nMetadata\nN}" + planted + b"\x86b."
    (tmp_path / ".metadata").write_bytes(pickled)
    with pytest.raises(CheckpointError, match=r"\.metadata: expected the metadata of a torch\.distributed checkpoint"):
        open_checkpoint(tmp_path)
    assert not hasattr(Metadata, "planted")


def test_code_in_a_piece_is_not_executed(tmp_path):
    folder = in_pieces(tmp_path / "run", {"a": gaussian(4, 3)}, cuts=([], []))
    mark = tmp_path / "mark"
    torch.save(Intruder(mark), folder / "__0_0.distcp")
    metadata = metadata_of(folder)
    [info] = metadata.storage_data.values()
    info.length = (folder / "__0_0.distcp").stat().st_size
    with pytest.raises(CheckpointError, match="mkdir"):
        open_checkpoint(write_metadata(folder, metadata)).read("a")
    assert not mark.exists()


def altered(folder, **changes):
    """The one place of the one tensor of a folder, changed."""
    metadata = metadata_of(folder)
    [info] = metadata.storage_data.values()
    for field, value in changes.items():
        setattr(info, field, value)
    return write_metadata(folder, metadata)


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/b", "..", "", "missing.distcp"])
def test_a_piece_elsewhere_is_not_read(tmp_path, path):
    (tmp_path / "secret").write_bytes(bytes(10**4))
    folder = altered(in_pieces(tmp_path / "run", {"a": gaussian(4, 3)}, cuts=([], [])), relative_path=path)
    with pytest.raises(CheckpointError, match=rf"\.metadata: .* an entry in '{path}', which is no file of the folder"):
        open_checkpoint(folder)


@pytest.mark.parametrize(
    "changes", [{"offset": -1}, {"offset": 10**6}, {"length": 10**12}, {"length": -1}, {"length": 8}]
)
def test_a_place_that_cannot_hold_the_piece_is_refused(tmp_path, changes):
    folder = altered(in_pieces(tmp_path, {"a": gaussian(4, 3)}, cuts=([], [])), **changes)
    with pytest.raises(CheckpointError, match=r"\.metadata: .* (an entry of|with a piece of shape)"):
        open_checkpoint(folder)


def test_a_compressed_piece_is_refused(tmp_path):
    folder = altered(in_pieces(tmp_path, {"a": gaussian(4, 3)}, cuts=([], [])), transform_descriptors=["zstd"])
    with pytest.raises(CheckpointError, match=r"transformed by \['zstd'\]"):
        open_checkpoint(folder)


@pytest.mark.parametrize("size", [(8, 3), (4, 3000), (2**40, 2**40), (3, 3), (4,), (-4, -3)])
def test_pieces_that_do_not_cover_the_tensor_are_refused(tmp_path, size):
    folder = in_pieces(tmp_path, {"a": gaussian(4, 3)}, cuts=([2], []))
    metadata = metadata_of(folder)
    metadata.state_dict_metadata["a"].size = torch.Size(size)
    with pytest.raises(
        CheckpointError, match=r"\.metadata: expected the metadata of a torch\.distributed checkpoint, found"
    ):
        open_checkpoint(write_metadata(folder, metadata))


def test_pieces_that_share_their_bytes_do_not_make_a_larger_tensor(tmp_path):
    folder = in_pieces(tmp_path, {"a": gaussian(4, 3)}, cuts=([], []))
    metadata = metadata_of(folder)
    record, [info] = metadata.state_dict_metadata["a"], metadata.storage_data.values()
    record.size = torch.Size([4000, 3])
    record.chunks = [ChunkStorageMetadata(torch.Size([row, 0]), torch.Size([4, 3])) for row in range(0, 4000, 4)]
    metadata.storage_data = {MetadataIndex("a", chunk.offsets): info for chunk in record.chunks}
    with pytest.raises(CheckpointError, match="an entry of"):
        open_checkpoint(write_metadata(folder, metadata))


def test_pieces_that_overlap_leave_a_gap_that_is_found(tmp_path):
    folder = in_pieces(tmp_path, {"a": gaussian(4, 3)}, cuts=([2], []))
    metadata = metadata_of(folder)
    second = metadata.state_dict_metadata["a"].chunks[1]
    place = metadata.storage_data.pop(MetadataIndex("a", second.offsets))
    second.offsets = torch.Size([1, 0])
    metadata.storage_data[MetadataIndex("a", second.offsets)] = place
    with pytest.raises(CheckpointError, match="found 3 NaN"):
        open_checkpoint(write_metadata(folder, metadata)).read("a")


def test_a_piece_of_another_shape_than_said_is_refused(tmp_path):
    folder = in_pieces(tmp_path, {"a": gaussian(4, 3)}, cuts=([], []))
    metadata = metadata_of(folder)
    record = metadata.state_dict_metadata["a"]
    record.size = record.chunks[0].sizes = torch.Size([3, 4])
    with pytest.raises(
        CheckpointError, match=r"expected a piece of torch\.float32 and shape \(3, 4\) .* shape \(4, 3\)"
    ):
        open_checkpoint(write_metadata(folder, metadata)).read("a")


def test_a_pickle_that_claims_more_objects_than_it_has_bytes_is_refused(tmp_path):
    """The unpickler would make room for them."""
    (tmp_path / ".metadata").write_bytes(b"\x80\x02}r" + (2**32 - 1).to_bytes(4, "little") + b".")
    with pytest.raises(CheckpointError, match="a pickle of 9 bytes that claims 4294967295 objects"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("value", [None, 3, {}, Metadata({}), Metadata({"a": BytesStorageMetadata()}, storage_data={})])
def test_metadata_without_tensors_are_refused(tmp_path, value):
    (tmp_path / ".metadata").write_bytes(pickle.dumps(value))
    with pytest.raises(
        CheckpointError, match=r"\.metadata: expected the metadata of a torch\.distributed checkpoint, found"
    ):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("part", [0, 0.3, 0.99])
def test_truncated_metadata_are_refused(tmp_path, part):
    folder = in_pieces(tmp_path, {"a": gaussian(4, 3)}, cuts=([], []))
    contents = (folder / ".metadata").read_bytes()
    (folder / ".metadata").write_bytes(contents[: int(part * len(contents))])
    with pytest.raises(
        CheckpointError, match=r"\.metadata: expected the metadata of a torch\.distributed checkpoint, found"
    ):
        open_checkpoint(folder)


def test_a_truncated_piece_is_refused_before_anything_is_read(tmp_path):
    folder = in_pieces(tmp_path, {"a": gaussian(4, 3)}, cuts=([], []))
    file = folder / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"an entry of \d+ bytes at byte 0 of '__0_0\.distcp'"):
        open_checkpoint(folder)
