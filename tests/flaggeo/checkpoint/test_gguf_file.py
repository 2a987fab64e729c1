import struct

import gguf
import numpy as np
import pytest
import torch

from flaggeo.checkpoint import CheckpointError, open_checkpoint

QUANTISATION = gguf.GGMLQuantizationType


def write(path, tensors, *, architecture="llama", **settings):
    """Tensors as (array, type), written with the reference writer."""
    writer = gguf.GGUFWriter(path, architecture)
    for name, value in settings.items():
        writer.add_uint32(f"{architecture}.{name}", value)
    for name, (array, kind) in tensors.items():
        writer.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gaussian(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (QUANTISATION.F32, 0),
        (QUANTISATION.F16, 1e-3),
        (QUANTISATION.BF16, 1e-2),
        (QUANTISATION.Q8_0, 0.02),
        (QUANTISATION.Q4_1, 0.3),
    ],
)
def test_tensors_come_back_within_their_quantisation(tmp_path, kind, error):
    array = gaussian(6, 64)
    checkpoint = open_checkpoint(write(tmp_path / "x.gguf", {"a": (array, kind)}))
    assert checkpoint.headers["a"].shape == (6, 64)
    assert checkpoint.headers["a"].dtype == kind.name
    read = checkpoint.read("a")
    np.testing.assert_allclose(read.numpy(), array, atol=error, rtol=error)
    assert torch.equal(checkpoint.read("a", rows=slice(2, 5)), read[2:5])


def test_settings_get_the_names_of_a_config(tmp_path):
    file = write(
        tmp_path / "x.gguf",
        {"a": (gaussian(2, 32), QUANTISATION.F32)},
        block_count=3,
        **{"attention.head_count": 9, "attention.head_count_kv": 3},
    )
    config = open_checkpoint(file).config
    assert config["model_type"] == "llama"
    assert (config["num_hidden_layers"], config["num_attention_heads"], config["num_key_value_heads"]) == (3, 9, 3)


@pytest.mark.parametrize("big_endian", [False, True])
def test_lists_of_the_tokenizer_and_of_settings_are_passed_over(tmp_path, big_endian):
    array = gaussian(4, 32)
    order = gguf.GGUFEndian.BIG if big_endian else gguf.GGUFEndian.LITTLE
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama", endianess=order)
    writer.add_array("tokenizer.ggml.tokens", ["a", "", "naïve", "日本"])
    writer.add_array("tokenizer.ggml.scores", [0.5, -1.0])
    writer.add_array("llama.attention.head_count", [4, 4, 2])
    writer.add_array("general.nested", [[1, 2], [3, 4]])
    writer.add_uint32("llama.block_count", 3)
    writer.add_tensor("a", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = open_checkpoint(tmp_path / "x.gguf")
    assert checkpoint.config["num_hidden_layers"] == 3
    assert checkpoint.config["num_attention_heads"] == [4, 4, 2]
    if not big_endian:
        np.testing.assert_array_equal(checkpoint.read("a").numpy(), array)


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_truncated_file_is_refused(tmp_path, part):
    file = write(tmp_path / "x.gguf", {"a": (gaussian(64, 64), QUANTISATION.F32)}, block_count=3)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CheckpointError, match=r"x\.gguf: expected a complete GGUF file, found"):
        open_checkpoint(file)


@pytest.mark.parametrize("count", [2**20, 2**40, 2**63])
@pytest.mark.parametrize("kind", [gguf.GGUFValueType.UINT8, gguf.GGUFValueType.STRING, gguf.GGUFValueType.ARRAY])
def test_a_count_beyond_the_file_ends_at_the_end_of_the_file(tmp_path, count, kind):
    """An array that claims more elements than there are bytes must not keep the reader looping."""
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
    key = struct.pack("<Q", 1) + b"k" + struct.pack("<I", 9) + struct.pack("<IQ", kind, count)
    (tmp_path / "x.gguf").write_bytes(header + key + bytes(64))
    with pytest.raises(CheckpointError, match=r"a header that reaches byte \d+ of \d+"):
        open_checkpoint(tmp_path / "x.gguf")


def test_types_that_the_library_cannot_undo_are_not_called_readable(tmp_path):
    checkpoint = open_checkpoint(write(tmp_path / "x.gguf", {"a": (gaussian(2, 32), QUANTISATION.F32)}))
    assert {"F32", "F16", "BF16", "Q4_1", "Q8_0", "Q4_K", "Q6_K"} <= checkpoint.readable_dtypes
    assert not {"I8", "I32", "Q8_1"} & checkpoint.readable_dtypes
