import json

import pytest

from flaggeo.checkpoint import CheckpointError, open_checkpoint
from tests.builders import save_folder, tiny_llama


def test_missing_shard_is_named_with_what_is_lost(tmp_path):
    folder = save_folder(tmp_path, tiny_llama(), shards=3)
    (folder / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"00002-of-00003.*expected a shard .* found no such file; \d+ tensors are"
    ):
        open_checkpoint(folder)


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "a/b.safetensors"])
def test_an_index_may_not_point_outside_its_folder(tmp_path, shard):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard}}))
    with pytest.raises(CheckpointError, match="expected shards beside the index"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', "\x00"])
def test_an_index_that_is_none_is_refused(tmp_path, text):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"index\.json: expected"):
        open_checkpoint(tmp_path)


@pytest.mark.parametrize("shards", [[], ["a.safetensors", "b.bin"], ["a.gguf"]])
def test_shards_of_other_formats_are_refused(tmp_path, shards):
    for shard in shards:
        (tmp_path / shard).write_bytes(b"")
    weight_map = {str(number): shard for number, shard in enumerate(shards)}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(
        CheckpointError, match=r"index\.json: expected shards that are all \.safetensors or all PyTorch"
    ):
        open_checkpoint(tmp_path)
