import pytest
import torch
from safetensors.torch import save_file

from flaggeo.checkpoint import CheckpointError, open_checkpoint
from tests.builders import CONFIG, save_folder, tiny_llama


def test_missing_path(tmp_path):
    with pytest.raises(
        CheckpointError, match=r"nowhere: expected a \.safetensors or \.gguf file, .* found nothing at this"
    ):
        open_checkpoint(tmp_path / "nowhere")


def test_folder_without_weights_says_what_is_there(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(CheckpointError, match=r"expected weights .* found only notes\.txt"):
        open_checkpoint(tmp_path)


def test_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match="found only nothing"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("suffix", [".bin", ".pt"])
def test_pickles_are_not_read(tmp_path, suffix):
    (tmp_path / f"model{suffix}").write_bytes(b"anything")
    with pytest.raises(CheckpointError, match="PyTorch pickles can run code"):
        open_checkpoint(tmp_path / f"model{suffix}")


def test_a_file_without_a_suffix(tmp_path):
    (tmp_path / "model").write_bytes(b"anything")
    with pytest.raises(CheckpointError, match="found a file without a suffix"):
        open_checkpoint(tmp_path / "model")


def test_several_files_without_an_index_are_not_guessed_between(tmp_path):
    for name in ("a", "b"):
        save_file({name: torch.ones(2, 2)}, tmp_path / f"{name}.safetensors")
    with pytest.raises(CheckpointError, match=r"found no index and a\.safetensors, b\.safetensors: name the one"):
        open_checkpoint(tmp_path)


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
