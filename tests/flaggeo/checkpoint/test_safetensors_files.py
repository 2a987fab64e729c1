import json
import os

import pytest
import torch
from safetensors.torch import save_file

from flaggeo.checkpoint import CheckpointError, open_checkpoint
from tests.builders import save_folder, tiny_llama
from tests.flaggeo.checkpoint.builders import write_safetensors

LARGEST_HEADER = 100_000_000


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_reads_what_was_saved(tmp_path, dtype):
    tensor = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    save_file({"a": tensor, "b": torch.ones(2)}, tmp_path / "x.safetensors")
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    assert checkpoint.headers["a"].shape == (5, 3)
    assert checkpoint.headers["a"].dtype == {8: "F64", 4: "F32"}.get(
        tensor.element_size(), "F16" if dtype == torch.float16 else "BF16"
    )
    read = checkpoint.read("a")
    assert read.dtype == dtype
    assert torch.equal(read, tensor)
    assert torch.equal(checkpoint.read("a", rows=slice(2, 4)), tensor[2:4])


def test_shards_hold_what_one_file_holds(tmp_path):
    tensors = tiny_llama()
    one = open_checkpoint(save_folder(tmp_path / "one", tensors))
    many = open_checkpoint(save_folder(tmp_path / "many", tensors, shards=3))
    assert set(one.headers) == set(many.headers) == set(tensors)
    assert all(torch.equal(one.read(name), many.read(name)) for name in tensors)
    assert len({header.file for header in many.headers.values()}) == 3


@pytest.mark.parametrize("keep", [0, 4, 60, -1])
def test_truncated_file_is_refused_before_anything_is_read(tmp_path, keep):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(16, 16)}, file)
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: expected a complete safetensors file, found"):
        open_checkpoint(file)


def test_a_file_that_is_cut_short_after_it_was_opened_is_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.ones(16, 16), "b": torch.ones(16, 16)}, file)
    checkpoint = open_checkpoint(file)
    os.truncate(file, file.stat().st_size - 24)
    assert checkpoint.read("a").shape == (16, 16)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: tensor 'b': expected 1024 bytes, found 1000"):
        checkpoint.read("b")


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64])
def test_numbers_of_every_dtype_are_had_as_stored(tmp_path, dtype):
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    save_file({"a": tensor, "b": tensor[0, 0].clone(), "c": tensor[:0].clone()}, tmp_path / "x.safetensors")
    checkpoint = open_checkpoint(tmp_path / "x.safetensors")
    for name, expected in {"a": tensor, "b": tensor[0, 0], "c": tensor[:0]}.items():
        found = checkpoint.stored(name)
        assert (found.dtype, found.shape) == (dtype, expected.shape)
        assert torch.equal(found.double(), expected.double())
    assert torch.equal(checkpoint.stored("a", slice(1, 3)).double(), tensor[1:3].double())


def test_two_shards_with_one_tensor_are_refused(tmp_path):
    save_file({"a": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    save_file({"a": torch.ones(2, 2), "b": torch.ones(2)}, tmp_path / "y.safetensors")
    index = {"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="tensor 'a': expected once, found also in"):
        open_checkpoint(tmp_path)


def entry(start, stop, *, shape=(2, 2), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


HOSTILE = {
    "longer than its data": ({"a": entry(0, 16, shape=(2, 3))}, 16, None),
    "shorter than its data": ({"a": entry(0, 16, shape=(1, 2))}, 16, None),
    "product of the shape wraps at 2^64": ({"a": entry(0, 0, shape=(2**32, 2**32))}, 0, None),
    "a size below zero": ({"a": entry(0, 16, shape=(-2, -2))}, 16, None),
    "two on the same bytes": ({"a": entry(0, 16), "b": entry(0, 16)}, 16, None),
    "overlap": ({"a": entry(0, 16), "b": entry(8, 24)}, 24, None),
    "gap": ({"a": entry(0, 16), "b": entry(20, 36)}, 36, None),
    "data before the first": ({"a": entry(4, 20)}, 20, None),
    "data behind the last": ({"a": entry(0, 16)}, 20, None),
    "reaches behind the file": ({"a": entry(0, 16)}, 12, None),
    "backwards": ({"a": entry(16, 0)}, 16, None),
    "unknown dtype": ({"a": entry(0, 16, dtype="F33")}, 16, None),
    "no offsets": ({"a": {"dtype": "F32", "shape": [2, 2]}}, 16, None),
    "header longer than the file": ({"a": entry(0, 16)}, 16, 10_000),
    "header of 2^64 bytes": ({"a": entry(0, 16)}, 16, 2**64 - 1),
    "header above the limit of the format": (b" " * (LARGEST_HEADER + 1), 0, None),
    "no JSON": (b"not json", 16, None),
    "a list": (b"[]", 0, None),
    "deep": (b'{"a":' * 100_000, 0, None),
    "no UTF-8": (b'{"\xff": 1}', 0, None),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_header_that_contradicts_its_file_is_refused(tmp_path, case):
    header, size, length = HOSTILE[case]
    file = write_safetensors(tmp_path / "x.safetensors", header, size=size, length=length)
    with pytest.raises(CheckpointError, match=r"x\.safetensors: expected a complete safetensors file, found") as error:
        open_checkpoint(file)
    assert len(str(error.value).splitlines()) == 1


def test_the_same_header_without_a_fault_is_read(tmp_path):
    header = {"a": entry(0, 16), "b": entry(16, 20, dtype="F16", shape=(1, 2))}
    checkpoint = open_checkpoint(write_safetensors(tmp_path / "x.safetensors", header, size=20))
    assert {name: (one.shape, one.dtype) for name, one in checkpoint.headers.items()} == {
        "a": ((2, 2), "F32"),
        "b": ((1, 2), "F16"),
    }
