import json

import pytest
import torch
from safetensors.torch import save_file

from flaggeo.checkpoint import CheckpointError, open_checkpoint
from tests.builders import save_folder, tiny_llama


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


def test_two_shards_with_one_tensor_are_refused(tmp_path):
    save_file({"a": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    save_file({"a": torch.ones(2, 2), "b": torch.ones(2)}, tmp_path / "y.safetensors")
    index = {"weight_map": {"a": "x.safetensors", "b": "y.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="tensor 'a': expected once, found also in"):
        open_checkpoint(tmp_path)
