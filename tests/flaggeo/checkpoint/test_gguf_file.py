import struct

import gguf
import numpy as np
import pytest
import torch

from flaggeo.checkpoint import CheckpointError, open_checkpoint

QUANTISATION = gguf.GGMLQuantizationType


def write(path, tensors, *, architecture="llama", alignment=None, **settings):
    """Tensors as (array, type), written with the reference writer."""
    writer = gguf.GGUFWriter(path, architecture)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
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


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (0.0, "expected a complete GGUF file, found"),
        (0.002, "expected a complete GGUF file, found: a header that reaches byte"),
        (0.5, "tensor 'a': expected data up to byte 16384 behind the header, found"),
        (0.99, "tensor 'a': expected data up to byte 16384 behind the header, found"),
    ],
)
def test_truncated_file_is_refused(tmp_path, part, message):
    file = write(tmp_path / "x.gguf", {"a": (gaussian(64, 64), QUANTISATION.F32)}, block_count=3)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(CheckpointError, match=rf"x\.gguf: {message}"):
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


#: Bytes of each tensor of `three_tensors`, padded to 32: 384, 384 and 320 of 300.
THREE = {"a": gaussian(3, 32), "b": gaussian(3, 32, seed=1), "c": gaussian(3, 25, seed=2)}


def three_tensors(path, **settings):
    return write(path, {name: (array, QUANTISATION.F32) for name, array in THREE.items()}, **settings)


def with_header(file, name, *, sizes=(None, None), kind=None, offset=None):
    """The file with other numbers in the header of one tensor, which are unsigned and of 64, 64, 32 and 64 bits."""
    contents = bytearray(file.read_bytes())
    start = contents.index(struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", 2)) + 12 + len(name)
    fields = struct.unpack_from("<QQIQ", contents, start)
    given = [old if new is None else new for old, new in zip(fields, (*sizes, kind, offset), strict=True)]
    struct.pack_into("<QQIQ", contents, start, *given)
    file.write_bytes(contents)
    return file


@pytest.mark.parametrize("alignment", [None, 8, 64, 4096])
@pytest.mark.parametrize("padded", [True, False])
def test_tensors_lie_behind_each_other_at_any_alignment_and_the_last_may_end_the_file(tmp_path, alignment, padded):
    file = three_tensors(tmp_path / "x.gguf", alignment=alignment)
    if not padded:
        end = file.read_bytes().index(THREE["c"].tobytes()) + THREE["c"].nbytes
        file.write_bytes(file.read_bytes()[:end])
    checkpoint = open_checkpoint(file)
    for name, array in THREE.items():
        np.testing.assert_array_equal(checkpoint.read(name).numpy(), array)


@pytest.mark.parametrize(
    ("tensor", "change", "message"),
    [
        ("a", {"offset": 2**64 - 96}, "'a': expected its data at byte 0 behind the header, found byte 18446744073709"),
        ("b", {"offset": 2**64 - 96}, "'b': expected its data at byte 384 behind the header, found byte 184467440737"),
        ("b", {"offset": 352}, "'b': expected its data at byte 384 behind the header, found byte 352"),  # overlap
        ("b", {"offset": 416}, "'b': expected its data at byte 384 behind the header, found byte 416"),  # gap
        ("b", {"offset": 388}, "'b': expected its data at byte 384 behind the header, found byte 388"),  # misaligned
        ("b", {"offset": 0}, "'b': expected its data at byte 384 behind the header, found byte 0"),
        ("a", {"kind": QUANTISATION.F16}, "'b': expected its data at byte 192 behind the header, found byte 384"),
        ("b", {"kind": QUANTISATION.F16}, "'c': expected its data at byte 576 behind the header, found byte 768"),
        ("b", {"kind": QUANTISATION.Q8_0}, "'c': expected its data at byte 512 behind the header, found byte 768"),
        ("c", {"kind": QUANTISATION.F16}, "'c': expected the end of the file behind its 918 bytes, found 1088 bytes"),
        ("c", {"kind": QUANTISATION.F64}, "'c': expected data up to byte 1368 behind the header, found 1088 bytes"),
        ("a", {"sizes": (2**32, 2**32)}, "'a': expected data up to byte 73786976294838206464 behind the header, found"),
        ("a", {"sizes": (2**62, 4)}, "'a': expected data up to byte 73786976294838206464 behind the header, found 10"),
    ],
)
def test_a_tensor_that_is_not_where_the_others_end_is_refused(tmp_path, tensor, change, message):
    file = with_header(three_tensors(tmp_path / "x.gguf"), tensor, **change)
    with pytest.raises(CheckpointError, match=rf"x\.gguf: tensor {message}"):
        open_checkpoint(file)


def test_no_flipped_bit_in_an_offset_is_read_as_another_place(tmp_path):
    file = three_tensors(tmp_path / "x.gguf")
    whole = file.read_bytes()
    for name, offset in zip(THREE, (0, 384, 768), strict=True):
        for bit in range(64):
            file.write_bytes(whole)
            with pytest.raises(CheckpointError, match=f"tensor '{name}': expected its data at byte {offset} "):
                open_checkpoint(with_header(file, name, offset=offset ^ 1 << bit))


def test_tensors_with_each_others_offset_are_refused(tmp_path):
    """Of two tensors of one size nothing but their order in the header tells which is which."""
    file = with_header(three_tensors(tmp_path / "x.gguf"), "a", offset=384)
    with pytest.raises(CheckpointError, match="tensor 'a': expected its data at byte 0 behind the header, found byte"):
        open_checkpoint(with_header(file, "b", offset=0))


def test_bytes_behind_the_last_tensor_are_refused(tmp_path):
    file = three_tensors(tmp_path / "x.gguf")
    file.write_bytes(file.read_bytes() + bytes(1))
    with pytest.raises(CheckpointError, match="'c': expected the end of the file behind its 1068 bytes, found 1089"):
        open_checkpoint(file)


def test_more_settings_than_any_model_has_are_refused(tmp_path):
    write(
        tmp_path / "model.gguf",
        {"a": (np.ones((2, 2), np.float32), QUANTISATION.F32)},
        **{f"s{number}": 1 for number in range(10_001)},
    )
    with pytest.raises(CheckpointError, match=r"model\.gguf: .*1000\d settings, where at most 10000 are read"):
        open_checkpoint(tmp_path / "model.gguf")
