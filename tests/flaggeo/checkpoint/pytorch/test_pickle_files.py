import json

import pytest
import torch

from flaggeo.checkpoint import CheckpointError, open_checkpoint
from tests.builders import CONFIG, tiny_llama
from tests.flaggeo.checkpoint.pytorch.test_pickles import FORMATS, Intruder, saved


def save_shards(folder, tensors, shards):
    weight_map = {}
    for shard in range(shards):
        file = f"pytorch_model-{shard + 1:05d}-of-{shards:05d}.bin"
        part = dict(list(tensors.items())[shard::shards])
        torch.save(part, folder / file)
        weight_map |= dict.fromkeys(part, file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@FORMATS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("suffix", ["bin", "pt", "pth", "ckpt"])
def test_reads_what_was_saved(tmp_path, zipped, dtype, suffix):
    tensor = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    checkpoint = open_checkpoint(saved(tmp_path / f"x.{suffix}", {"a": tensor, "b": torch.tensor(2.0)}, zipped=zipped))
    assert checkpoint.headers["a"].shape == (5, 3)
    assert checkpoint.headers["a"].dtype == str(
        {8: "F64", 4: "F32"}.get(dtype.itemsize, "F16" if dtype == torch.float16 else "BF16")
    )
    assert checkpoint.read("a").dtype == dtype
    assert torch.equal(checkpoint.read("a"), tensor)
    assert torch.equal(checkpoint.read("a", rows=slice(2, 4)), tensor[2:4])
    assert checkpoint.read("b") == 2


@FORMATS
def test_a_tied_tensor_is_counted_once_and_a_part_of_one_is_another(tmp_path, zipped):
    shared = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    state = {"embed": shared, "head": shared, "copy": shared.clone(), "part": shared[:2], "turned": shared.mT}
    checkpoint = open_checkpoint(saved(tmp_path / "x.pt", state, zipped=zipped))
    assert list(checkpoint.headers) == ["embed", "copy", "part", "turned"]
    assert checkpoint.aliases == {"head": "embed"}
    assert torch.equal(checkpoint.read("turned", rows=slice(1, 3)), shared.mT[1:3])


def test_shards_hold_what_one_file_holds_beside_their_settings(tmp_path):
    tensors = tiny_llama()
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    checkpoint = open_checkpoint(save_shards(tmp_path, tensors, 3))
    assert set(checkpoint.headers) == set(tensors)
    assert all(torch.equal(checkpoint.read(name), tensor) for name, tensor in tensors.items())
    assert len({header.file for header in checkpoint.headers.values()}) == 3
    assert checkpoint.config == CONFIG


def test_two_shards_with_one_tensor_are_refused(tmp_path):
    for name in ("x", "y"):
        torch.save({"a": torch.ones(2)}, tmp_path / f"{name}.bin")
    index = {"weight_map": {"a": "x.bin", "b": "y.bin"}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="tensor 'a': expected once, found also in"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("keys", [["model"], ["state_dict"], ["module"], ["state_dict", "module"]])
def test_a_state_dict_is_found_inside_what_a_training_run_saved(tmp_path, keys):
    state = {"a.weight": torch.ones(2, 3), "version": 4}
    for key in reversed(keys):
        state = {key: state, "optimizer": {"state": {0: torch.zeros(2, 3)}}, "step": torch.tensor(7)}
    checkpoint = open_checkpoint(saved(tmp_path / "x.pt", state))
    assert list(checkpoint.headers) == ["a.weight"]
    assert checkpoint.metadata["entry"] == ".".join(keys)
    assert {"optimizer", "step"} <= set(checkpoint.metadata["left out"].replace(" and", ",").split(", "))


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.ones(2), "a Tensor"),
        ([torch.ones(2)], "a list"),
        ({}, r"no tensor among its entries \(none\)"),
        ({"generator": {"a": torch.ones(2)}, "step": 3}, r"no tensor among its entries \(generator, step\)"),
    ],
)
def test_a_file_without_a_state_dict_says_what_it_has(tmp_path, value, found):
    with pytest.raises(CheckpointError, match=rf"x\.pt: expected a state dict that torch\.save wrote, found {found}"):
        open_checkpoint(saved(tmp_path / "x.pt", value))


@FORMATS
@pytest.mark.parametrize("tensor", [torch.ones(1).expand(10**6, 10**6), torch.ones(3).as_strided((2, 2), (1, 1))])
def test_a_tensor_larger_than_its_storage_is_listed_and_not_read(tmp_path, zipped, tensor):
    checkpoint = open_checkpoint(saved(tmp_path / "x.pt", {"a": tensor}, zipped=zipped))
    assert checkpoint.headers["a"].shape == tuple(tensor.shape)
    for refused in (checkpoint.require_readable, checkpoint.read):
        with pytest.raises(CheckpointError, match=r"tensor 'a' of shape \(\d+, \d+\): expected numbers of its own"):
            refused("a")


@FORMATS
def test_a_refusal_is_one_line_with_the_file_and_what_was_asked_for(tmp_path, zipped):
    path = saved(tmp_path / "x.bin", {"a": Intruder(tmp_path / "mark")}, zipped=zipped)
    with pytest.raises(CheckpointError) as refusal:
        open_checkpoint(path)
    assert str(refusal.value).startswith(f"{path}: expected a state dict that torch.save wrote, found ")
    assert "mkdir" in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 1


@FORMATS
@pytest.mark.parametrize("part", [0, 0.01, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused_before_anything_is_read(tmp_path, zipped, part):
    path = saved(tmp_path / "x.bin", tiny_llama(), zipped=zipped)
    contents = path.read_bytes()
    path.write_bytes(contents[: int(part * len(contents))])
    with pytest.raises(CheckpointError, match=r"x\.bin: expected a state dict that torch\.save wrote, found"):
        open_checkpoint(path)


def test_integers_are_listed_and_not_read(tmp_path):
    checkpoint = open_checkpoint(saved(tmp_path / "x.pt", {"a": torch.ones(2, dtype=torch.int64)}))
    assert checkpoint.headers["a"].dtype == "I64"
    with pytest.raises(CheckpointError, match=r"found I64"):
        checkpoint.read("a")
