"""Files that are no files, and files that change."""

import os

import pytest
import torch
from safetensors.torch import save_file

from flaggeo import analyze, load
from flaggeo.checkpoint import AdaptedCheckpoint, CheckpointError, open_checkpoint
from tests.builders import save_folder, tiny_llama
from tests.flaggeo.checkpoint.test_adapter import factors_of, save_adapter


def pipe_in_place_of(file):
    file.unlink(missing_ok=True)
    os.mkfifo(file)


@pytest.mark.parametrize("suffix", [".safetensors", ".gguf", ".bin", ".npz", ".onnx", ".json"])
def test_a_pipe_is_refused_and_never_opened(tmp_path, suffix):
    file = tmp_path / f"model{suffix}"
    os.mkfifo(file)
    with pytest.raises(CheckpointError, match=rf"model\{suffix}: expected a file, found a named pipe"):
        open_checkpoint(file)


def test_a_device_is_refused(tmp_path):
    (tmp_path / "model.safetensors").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: expected .*, found"):
        open_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize("name", ["config.json", "model-00001-of-00002.safetensors", "model.safetensors.index.json"])
def test_a_pipe_in_a_folder_is_refused(tmp_path, name):
    folder = save_folder(tmp_path / "model", tiny_llama(), shards=2)
    pipe_in_place_of(folder / name)
    with pytest.raises(CheckpointError, match=f"{name}: expected a (file|shard)"):
        open_checkpoint(folder / "model.safetensors.index.json")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_pipe_in_an_adapter_is_refused(tmp_path, name):
    base = save_folder(tmp_path / "base", tiny_llama())
    folder = save_adapter(tmp_path / "adapter", factors_of(tiny_llama(), ["model.layers.1.self_attn.q_proj"]))
    pipe_in_place_of(folder / name)
    with pytest.raises(CheckpointError, match=f"{name}: expected"):
        AdaptedCheckpoint(open_checkpoint(base), folder)


@pytest.mark.parametrize("text", ["[" * 100_000, "{", '{"a": 1e400', "[]", "3", "\x00"])
def test_a_config_that_is_no_object_is_refused_in_one_line(tmp_path, text):
    save_file({"a": torch.ones(2, 2)}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: expected") as error:
        open_checkpoint(tmp_path)
    assert len(str(error.value).splitlines()) == 1


def test_a_pickle_that_is_cut_short_after_it_was_opened_is_refused(tmp_path):
    torch.save({"a": torch.ones(64, 64), "b": torch.zeros(2, 2)}, tmp_path / "model.bin")
    checkpoint = open_checkpoint(tmp_path / "model.bin")
    tensor = checkpoint.read("a")
    os.truncate(tmp_path / "model.bin", 4096)
    assert float(tensor.sum()) == 64**2  # what was read stays
    with pytest.raises(CheckpointError, match=r"model\.bin: tensor 'a': expected a file of \d+ bytes, found 4096"):
        checkpoint.read("a")


def touched(file):
    with file.open("r+b") as stream:
        stream.seek(-4, os.SEEK_END)
        stream.write(b"abcd")
    os.utime(file, ns=(0, 10**18))


@pytest.mark.parametrize(
    ("change", "found"), [(touched, "found one of another size or time"), (lambda file: file.unlink(), "found nothing")]
)
def test_a_run_ends_with_the_name_of_a_file_that_changed_under_it(tmp_path, change, found):
    folder = save_folder(tmp_path / "model", tiny_llama(), shards=2)
    network = load(folder)
    shards = sorted(folder.glob("*.safetensors"))
    changed = []

    def progress(*named):
        if not changed:
            changed.append(named)
            change(shards[0])

    with pytest.raises(
        CheckpointError, match=f"{shards[0].name}: .*(expected the file that was opened, {found}|No such)"
    ):
        analyze(network, rank=2, progress=progress)
