import itertools

import pytest
import torch

from flaggeo.checkpoint import CheckpointError, open_checkpoint

FP8 = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}


def codes(rows, columns, *, dtype="F8_E4M3", seed=0):
    """Finite eight-bit numbers with all their bits at random."""
    generator = torch.Generator().manual_seed(seed)
    bits = torch.randint(256, (rows, columns), generator=generator, dtype=torch.uint8)
    numbers = bits.view(FP8[dtype])
    return numbers.float().nan_to_num(1.0, 1.0, 1.0).to(FP8[dtype])


def scalar_e4m3(byte):
    """A number of the OCP 8-bit floating point specification: bias 7, no infinities."""
    sign = -1.0 if byte & 128 else 1.0
    exponent, fraction = byte >> 3 & 15, byte & 7
    return sign * (fraction / 8 * 2**-6 if exponent == 0 else (1 + fraction / 8) * 2.0 ** (exponent - 7))


def scalar_reference(numbers, scale, block):
    """Each number by itself, times the scale of its block."""
    bits = numbers.view(torch.uint8).tolist()
    matrix = torch.empty(numbers.shape)
    for row, column in itertools.product(*map(range, numbers.shape)):
        own = scale[row // block[0]][column // block[1]].item()
        matrix[row, column] = scalar_e4m3(bits[row][column]) * own
    return matrix


def block_config(*block):
    return {"quantization_config": {"quant_method": "fp8", "weight_block_size": list(block)}}


@pytest.mark.parametrize("shape", [(6, 8), (7, 9), (3, 4), (1, 1)])
def test_blocks_have_their_own_scales_also_where_the_last_is_cut(shape):
    numbers, block = codes(*shape), (3, 4)
    scale = torch.rand(-(-shape[0] // 3), -(-shape[1] // 4), generator=torch.Generator().manual_seed(1)) + 0.1
    checkpoint = open_checkpoint({"a.weight": numbers, "a.weight_scale_inv": scale}, block_config(*block))
    assert list(checkpoint.headers) == ["a.weight"]
    assert (checkpoint.headers["a.weight"].shape, checkpoint.headers["a.weight"].dtype) == (shape, "F8_E4M3")
    read = checkpoint.read("a.weight")
    assert read.dtype == torch.float32
    assert torch.equal(read, scalar_reference(numbers, scale, block))
    assert torch.equal(checkpoint.read("a.weight", rows=slice(0, shape[0] - 1)), read[:-1])
    assert torch.equal(checkpoint.read("a.weight", rows=slice(shape[0] // 2, None)), read[shape[0] // 2 :])


def test_blocks_of_deepseek_agree_with_transformers():
    convert = pytest.importorskip("transformers.integrations.finegrained_fp8").Fp8Dequantize(None)
    numbers = codes(256, 384)
    scale = torch.rand(2, 3, generator=torch.Generator().manual_seed(1))
    checkpoint = open_checkpoint({"weight": numbers, "weight_scale_inv": scale}, block_config(128, 128))
    theirs = convert.convert({"weight": [numbers], "weight_scale_inv": [scale]})["weight"]
    assert torch.equal(checkpoint.read("weight"), theirs)
    assert checkpoint.metadata["packed weights"] == "1 in F8_E4M3 with a scale for each block of 128x128"


@pytest.mark.parametrize("dtype", FP8)
@pytest.mark.parametrize("scale_shape", [(), (1,), (5,), (5, 1)])
@pytest.mark.parametrize("scale_dtype", [torch.float32, torch.bfloat16])
def test_one_scale_or_one_for_each_row_needs_no_settings(dtype, scale_shape, scale_dtype):
    numbers = codes(5, 6, dtype=dtype)
    scale = (torch.rand(scale_shape, generator=torch.Generator().manual_seed(1)) + 0.5).to(scale_dtype)
    checkpoint = open_checkpoint({"a.weight": numbers, "a.weight_scale": scale})
    of_row = scale.float().flatten().expand(5) if scale.numel() == 1 else scale.float().flatten()
    expected = torch.stack([numbers[row].float() * of_row[row] for row in range(5)])
    assert torch.equal(checkpoint.read("a.weight"), expected)
    assert torch.equal(checkpoint.read("a.weight", rows=slice(3, 5)), expected[3:5])


def test_experts_have_a_grid_of_scales_each():
    numbers = torch.stack([codes(4, 6, seed=seed) for seed in range(3)])
    scale = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(1)) + 0.5
    checkpoint = open_checkpoint({"experts": numbers, "experts_scale": scale}, block_config(2, 4))
    read = checkpoint.read("experts")
    for expert in range(3):
        assert torch.equal(read[expert], scalar_reference(numbers[expert], scale[expert], (2, 4)))
    assert torch.equal(checkpoint.read("experts", rows=slice(1, 3)), read[1:])


def test_integers_of_compressed_tensors_have_scales_too():
    generator = torch.Generator().manual_seed(0)
    integers = torch.randint(-128, 128, (5, 6), generator=generator, dtype=torch.int8)
    scale = torch.rand(5, 1, generator=generator)
    tensors = {"a.weight": integers, "a.weight_scale": scale}
    config = {"quantization_config": {"quant_method": "compressed-tensors", "format": "int-quantized"}}
    checkpoint = open_checkpoint(tensors, config)
    assert checkpoint.headers["a.weight"].dtype == "INT8:6"
    assert torch.equal(checkpoint.read("a.weight"), integers.float() * scale)
    with pytest.raises(CheckpointError, match=r"'a\.weight' in I8: expected .* found I8 with quant_method None"):
        open_checkpoint(tensors)
    with pytest.raises(CheckpointError, match=r"'a\.weight' in I8: .* found also 'a\.weight_zero_point'"):
        open_checkpoint(tensors | {"a.weight_zero_point": torch.zeros(5, 1, dtype=torch.int8)}, config)


@pytest.mark.parametrize("name", ["dtype", "torch_dtype"])
def test_plain_numbers_are_read_where_the_settings_say_that_they_are(name):
    numbers = codes(4, 5, dtype="F8_E5M2")
    checkpoint = open_checkpoint({"a.weight": numbers}, {name: "float8_e5m2"})
    assert torch.equal(checkpoint.read("a.weight"), numbers.float())
    assert checkpoint.headers["a.weight"].dtype == "F8_E5M2"


@pytest.mark.parametrize("config", [{}, {"dtype": "bfloat16"}, {"dtype": "float8_e5m2"}, block_config(128, 128)])
def test_numbers_without_a_scale_are_refused_else(config):
    message = r"state dict: tensor 'a\.weight' in F8_E4M3: expected its scales as 'a\.weight_scale_inv' or"
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint({"a.weight": codes(4, 5)}, config)


@pytest.mark.parametrize(
    ("scale", "config", "found"),
    [
        (torch.ones(2, 2), {}, r"\(which no config\.json gives\), found shape \(2, 2\)"),
        (torch.ones(2, 3), block_config(4, 4), r"\(4x4\), found shape \(2, 3\)"),
        (torch.ones(3, 2, 1), block_config(4, 4), r"found shape \(3, 2, 1\)"),
        (torch.ones(7), {}, r"found shape \(7,\)"),
        (torch.ones(2, 2), block_config(0, 4), "which no config"),
        (torch.ones(2, 2), {"quantization_config": {"weight_block_size": "4x4"}}, "which no config"),
        (torch.ones(8, 1, dtype=torch.uint8), {}, "found U8"),
    ],
)
def test_scales_that_do_not_fit_are_refused(scale, config, found):
    with pytest.raises(CheckpointError, match=rf"tensor 'a\.weight_scale_inv' in \w+: expected .*{found}") as error:
        open_checkpoint({"a.weight": codes(8, 8), "a.weight_scale_inv": scale}, config)
    assert len(str(error.value).splitlines()) == 1


def test_four_bits_with_eight_bit_scales_are_not_taken_for_eight_bits():
    """As ModelOpt writes NVFP4: the scales are eight-bit numbers themselves."""
    tensors = {"a.weight": torch.zeros(4, 8, dtype=torch.uint8), "a.weight_scale": codes(4, 1)}
    config = {"quantization_config": {"quant_method": "modelopt"}}
    with pytest.raises(CheckpointError, match=r"'a\.weight' in U8: expected F8_E4M3, .*quant_method 'modelopt'"):
        open_checkpoint(tensors, config)


def test_a_code_that_is_no_number_is_refused():
    numbers = torch.full((2, 2), 0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn)
    checkpoint = open_checkpoint({"a": numbers, "a_scale": torch.ones(1)})
    with pytest.raises(CheckpointError, match=r"'a' .* found 4 NaN"):
        checkpoint.read("a")
