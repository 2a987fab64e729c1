import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from flaggeo.checkpoint import CheckpointError, holds_weights, open_checkpoint, opening
from tests.builders import CONFIG, save_folder, tiny_llama
from tests.flaggeo.checkpoint.pytorch.test_distributed_folder import in_pieces
from tests.flaggeo.checkpoint.pytorch.test_pickle_files import save_shards


def test_missing_path(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"nowhere: expected a \.safetensors, \.bin, .* or \.onnx file, .* found nothing at this"
    ):
        open_checkpoint(tmp_path / "nowhere")


def test_folder_without_weights_says_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"expected weights .* found only notes\.txt"):
        open_checkpoint(tmp_path)


def test_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match="found an empty folder"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("suffix", ["safetensors", "bin", "pt", "pth", "ckpt", "gguf", "npz", "h5", "onnx"])
def test_a_file_that_git_has_not_fetched_is_said_to_be_one(tmp_path, suffix):
    pointer = tmp_path / f"model.{suffix}"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
    for source in (pointer, tmp_path):
        with pytest.raises(CheckpointError, match=rf"{pointer.name}: expected weights, .* git lfs pull"):
            open_checkpoint(source)


def test_a_shard_that_git_has_not_fetched_is_named(tmp_path):
    folder = save_folder(tmp_path, tiny_llama(), shards=2)
    (folder / "model-00002-of-00002.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(CheckpointError, match=r"00002\.safetensors: expected weights, .* git lfs pull"):
        open_checkpoint(folder)


def test_a_file_without_a_suffix(tmp_path):
    (tmp_path / "model").write_bytes(b"anything")
    with pytest.raises(CheckpointError, match="found a file without a suffix"):
        open_checkpoint(tmp_path / "model")


def test_several_files_without_an_index_are_not_guessed_between(tmp_path):
    for name in ("a", "b"):
        save_file({name: torch.ones(2, 2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match=r"found no index and a\.safetensors, b\.safetensors: name the one"):
        open_checkpoint(tmp_path)


def test_files_of_unrelated_names_and_formats_are_not_guessed_between(tmp_path):
    save_file({"a": torch.ones(2, 2)}, tmp_path / "a.safetensors")
    torch.save({"b": torch.ones(2, 2)}, tmp_path / "b.pt")
    with pytest.raises(CheckpointError, match=r"found no index and a\.safetensors, b\.pt: name the one to read"):
        open_checkpoint(tmp_path)


def test_of_the_same_weights_in_several_formats_safetensors_are_read(tmp_path):
    save_file({"a": torch.ones(2, 2)}, tmp_path / "x.safetensors")
    for suffix in ("bin", "npz", "h5"):
        (tmp_path / f"x.{suffix}").write_bytes(b"not read")
    assert open_checkpoint(tmp_path).metadata["format"] == "safetensors"


def test_the_names_of_hugging_face_come_first_and_an_index_before_one_file(tmp_path):
    save_shards(tmp_path, {"a": torch.ones(2), "b": torch.ones(2)}, 2)
    assert set(open_checkpoint(tmp_path).headers) == {"a", "b"}
    torch.save({"c": torch.ones(2)}, tmp_path / "pytorch_model.bin")
    assert set(open_checkpoint(tmp_path).headers) == {"a", "b"}
    (tmp_path / "pytorch_model.bin.index.json").unlink()
    assert set(open_checkpoint(tmp_path).headers) == {"c"}
    for name in ("tf_model.h5", "model.onnx"):
        (tmp_path / name).write_bytes(b"not read")
    assert set(open_checkpoint(tmp_path).headers) == {"c"}
    save_file({"d": torch.ones(2)}, tmp_path / "model.safetensors")
    assert set(open_checkpoint(tmp_path).headers) == {"d"}


def test_what_a_training_run_keeps_beside_the_weights_is_passed_over(tmp_path):
    for name in ("optimizer.pt", "scheduler.pt", "scaler.pt", "rng_state.pth", "rng_state_0.pth", "training_args.bin"):
        (tmp_path / name).write_bytes(b"not read")
    assert not holds_weights(tmp_path)
    torch.save({"a": torch.ones(2)}, tmp_path / "last.pt")
    assert holds_weights(tmp_path)
    assert set(open_checkpoint(tmp_path).headers) == {"a"}


def test_settings_beside_any_file_are_read(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    np.savez(tmp_path / "x.npz", a=np.ones(2))
    torch.save({"a": torch.ones(2)}, tmp_path / "x.pt")
    in_pieces(tmp_path, {"a": torch.ones(2, 2)}, cuts=([], []))
    for source in (tmp_path / "x.npz", tmp_path / "x.pt", tmp_path):
        assert open_checkpoint(source).config == {"model_type": "bert"}


def test_file_index_and_folder_are_one_checkpoint(tmp_path):
    folder = save_folder(tmp_path, tiny_llama(), shards=2)
    by_index = open_checkpoint(folder / "model.safetensors.index.json")
    by_folder = open_checkpoint(str(folder))
    assert set(by_index.headers) == set(by_folder.headers)
    assert by_index.config == by_folder.config != {}


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_a_config_that_is_none_is_refused(tmp_path, text):
    folder = save_folder(tmp_path, tiny_llama())
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json: expected"):
        open_checkpoint(folder)


def test_given_settings_join_those_on_disk(tmp_path):
    folder = save_folder(tmp_path, tiny_llama())
    assert open_checkpoint(folder, config={"num_attention_heads": 1}).config == CONFIG | {"num_attention_heads": 1}


def test_a_folder_of_checkpoints_is_answered_with_the_command_that_follows_them(tmp_path):
    for number in (1, 2):
        save_folder(tmp_path / f"checkpoint-{number}", tiny_llama())
    with pytest.raises(CheckpointError, match=r"a folder of 2: flaggeo trace .*, flaggeo analyze .*checkpoint-2 takes"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("source", [None, 3, ["a", "b"]])
def test_what_can_be_no_checkpoint_is_refused(source):
    with pytest.raises(TypeError, match=f"a path, a state dict or a module; got {type(source).__name__}"):
        open_checkpoint(source)


@pytest.mark.parametrize("name", ["x" * 1001, f"layers.{'9' * 5000}.weight", f"layers.{'9' * 10}.weight"])
def test_names_that_no_network_has_are_refused(name):
    with pytest.raises(CheckpointError, match="expected a name of at most 1000 characters and numbers of at most nine"):
        open_checkpoint({name: torch.ones(2, 2)})


def test_more_tensors_than_any_network_has_are_refused(monkeypatch):
    monkeypatch.setattr(opening, "_MOST_TENSORS", 2)
    with pytest.raises(CheckpointError, match="expected at most 2 tensors, found 3"):
        open_checkpoint({str(number): torch.ones(1) for number in range(3)})


def test_a_tensor_that_the_index_names_and_no_shard_holds_is_lost(tmp_path):
    folder = save_folder(tmp_path / "model", tiny_llama(), shards=2)
    index = folder / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["model.layers.2.mlp.extra.weight"] = "model-00001-of-00002.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"expected tensor 'model\.layers\.2\.mlp\.extra\.weight' in model-00001"):
        open_checkpoint(folder)
