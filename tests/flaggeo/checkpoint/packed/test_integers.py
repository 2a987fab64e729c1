import itertools

import pytest
import torch

from flaggeo.checkpoint import CheckpointError, open_checkpoint

#: Which output each four bits of AWQ's words belong to, from the lowest.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)


def word(fields, bits):
    """A signed 32-bit number with these integers in it, from the lowest bits."""
    value = sum(int(field) << (bits * place) for place, field in enumerate(fields))
    return value - 2**32 if value >= 2**31 else value


def words(integers, bits, *, axis, order=None):
    """Integers along an axis, packed one word at a time."""
    count = 32 // bits
    order = order or range(count)
    lines = integers.tolist() if axis == 1 else integers.mT.tolist()
    rows = [
        [word([line[start + place] for place in order], bits) for start in range(0, len(line), count)] for line in lines
    ]
    matrix = torch.tensor(rows, dtype=torch.int32)
    return matrix if axis == 1 else matrix.mT.contiguous()


def drawn(inputs, outputs, groups, bits, *, seed=0, least_zero=0):
    generator = torch.Generator().manual_seed(seed)
    integers = torch.randint(2**bits, (inputs, outputs), generator=generator)
    zeros = torch.randint(least_zero, 2**bits, (groups, outputs), generator=generator)
    return integers, zeros, torch.rand(groups, outputs, generator=generator).half()


def scalar_reference(integers, zeros, scales, groups):
    """Of the shape (outputs, inputs)."""
    inputs, outputs = integers.shape
    matrix = torch.empty(outputs, inputs)
    for place, output in itertools.product(range(inputs), range(outputs)):
        group = int(groups[place])
        matrix[output, place] = int(integers[place, output] - zeros[group, output]) * scales[group, output].item()
    return matrix


def config(method, **settings):
    return {"quantization_config": {"quant_method": method, "bits": 4, "group_size": 16, **settings}}


def require(checkpoint, expected, dtype):
    assert (checkpoint.headers["a.weight"].shape, checkpoint.headers["a.weight"].dtype) == (expected.shape, dtype)
    assert list(checkpoint.headers) == ["a.weight"]
    assert torch.equal(checkpoint.read("a.weight"), expected)
    assert torch.equal(checkpoint.read("a.weight", rows=slice(3, 9)), expected[3:9])


def gptq(integers, zeros, scales, bits, *, zero_offset):
    stored = (zeros - zero_offset) % 2**bits
    return {"a.qweight": words(integers, bits, axis=0), "a.qzeros": words(stored, bits, axis=1), "a.scales": scales}


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize(("layout", "zero_offset"), [({}, 1), ({"checkpoint_format": "gptq_v2"}, 0)])
def test_gptq(bits, layout, zero_offset):
    """Also with a zero of 0, which the first version stores as the largest integer."""
    integers, zeros, scales = drawn(64, 32, 4, bits)
    zeros[:, :2] = torch.tensor([0, 2**bits - 1])
    tensors = gptq(integers, zeros, scales, bits, zero_offset=zero_offset)
    expected = scalar_reference(integers, zeros, scales, torch.arange(64) // 16)
    require(open_checkpoint(tensors, config("gptq", bits=bits, **layout)), expected, f"GPTQ{bits}:16")


def test_gptq_with_one_group_for_all_inputs():
    integers, zeros, scales = drawn(24, 16, 1, 4)
    tensors = gptq(integers, zeros, scales, 4, zero_offset=1)
    expected = scalar_reference(integers, zeros, scales, torch.zeros(24))
    require(open_checkpoint(tensors, config("gptq", group_size=-1)), expected, "GPTQ4:24")


def test_gptq_with_a_group_cut_short():
    integers, zeros, scales = drawn(40, 16, 3, 4)
    tensors = gptq(integers, zeros, scales, 4, zero_offset=1)
    expected = scalar_reference(integers, zeros, scales, torch.arange(40) // 16)
    require(open_checkpoint(tensors, config("gptq")), expected, "GPTQ4:16")


def test_gptq_with_inputs_in_the_order_of_their_activations():
    integers, zeros, scales = drawn(64, 32, 4, 4)
    groups = (torch.randperm(64, generator=torch.Generator().manual_seed(3)) // 16).int()
    tensors = gptq(integers, zeros, scales, 4, zero_offset=1) | {"a.g_idx": groups}
    require(
        open_checkpoint(tensors, config("gptq", desc_act=True)),
        scalar_reference(integers, zeros, scales, groups),
        "GPTQ4:16",
    )


@pytest.mark.parametrize("group", [-1, 4])
def test_a_group_that_is_not_there_is_refused(group):
    tensors = gptq(*drawn(64, 32, 4, 4), 4, zero_offset=1)
    tensors["a.g_idx"] = torch.full((64,), group, dtype=torch.int32)
    checkpoint = open_checkpoint(tensors, config("gptq"))
    with pytest.raises(CheckpointError, match=rf"'a\.g_idx': expected groups from 0 to 3, found {group} to {group}"):
        checkpoint.read("a.weight")


@pytest.mark.parametrize("version", [{}, {"version": "gemm"}, {"version": "GEMM"}, {"format": "gemm"}])
def test_awq(version):
    integers, zeros, scales = drawn(48, 32, 3, 4)
    tensors = {
        "a.qweight": words(integers, 4, axis=1, order=AWQ_ORDER),
        "a.qzeros": words(zeros, 4, axis=1, order=AWQ_ORDER),
        "a.scales": scales,
    }
    expected = scalar_reference(integers, zeros, scales, torch.arange(48) // 16)
    require(open_checkpoint(tensors, config("awq", zero_point=True, **version)), expected, "AWQ4:16")


def compressed_config(**weights):
    said = {"num_bits": 4, "type": "int", "symmetric": True, "strategy": "group", "group_size": 16} | weights
    groups = {"group_0": {"weights": said}}
    return {
        "quantization_config": {
            "quant_method": "compressed-tensors",
            "format": "pack-quantized",
            "config_groups": groups,
        }
    }


def compressed(outputs=12, inputs=48, *, bits=4, groups=3):
    generator = torch.Generator().manual_seed(0)
    integers = torch.randint(2**bits, (outputs, inputs), generator=generator)
    scales = torch.rand(outputs, groups, generator=generator).bfloat16()
    tensors = {
        "a.weight_packed": words(integers, bits, axis=1),
        "a.weight_scale": scales,
        "a.weight_shape": torch.tensor([outputs, inputs]),
    }
    middle = torch.full((groups, outputs), 2 ** (bits - 1))
    return tensors, scalar_reference(integers.mT, middle, scales.mT, torch.arange(inputs) // (inputs // groups))


@pytest.mark.parametrize("bits", [4, 8])
def test_compressed_tensors(bits):
    tensors, expected = compressed(bits=bits)
    require(open_checkpoint(tensors, compressed_config(num_bits=bits)), expected, f"INT{bits}:16")


def test_compressed_tensors_with_one_scale_for_each_row():
    tensors, expected = compressed(groups=1)
    require(open_checkpoint(tensors, compressed_config(strategy="channel", group_size=None)), expected, "INT4:48")


GPTQ = gptq(*drawn(64, 32, 4, 4), 4, zero_offset=1)
COMPRESSED, _ = compressed()
MIXED = compressed_config()
MIXED["quantization_config"]["config_groups"]["group_1"] = {"weights": {"num_bits": 8}}


@pytest.mark.parametrize(
    ("tensors", "settings", "found"),
    [
        (GPTQ, {}, "'a.qweight' in I32: expected a quantization_config .* found None"),
        (GPTQ, config("aqlm"), "found 'aqlm'"),
        (GPTQ, config("gptq", checkpoint_format="marlin"), "found 'gptq' marlin"),
        (GPTQ, config("gptq", is_marlin_format=True), "found 'gptq' marlin"),
        (GPTQ, config("awq", version="gemv"), "found 'awq' gemv"),
        (GPTQ, config("gptq", bits=3), "expected bits of 2 or 4 or 8 .* found 3"),
        (GPTQ, config("gptq", bits=None), "expected bits of .* found None"),
        (GPTQ, config("gptq", bits=True), "expected bits of .* found True"),
        (GPTQ, config("awq", bits=8), "expected bits of 4 .* found 8"),
        (GPTQ, config("gptq", group_size=None), "expected a group_size .* found None"),
        (GPTQ, config("gptq", group_size=0), "expected a group_size .* found 0"),
        (GPTQ, config("gptq", group_size=32), r"'a\.qzeros' in I32: expected shape \(2, 4\) .* found \(4, 4\)"),
        (GPTQ, config("gptq", bits=8), r"'a\.qzeros'"),
        (GPTQ, config("awq"), r"'a\.qzeros'"),
        (GPTQ | {"a.qzeros": None}, config("gptq"), r"expected 'a\.qzeros' beside it"),
        (GPTQ | {"a.scales": torch.ones(4, 31)}, config("gptq"), r"'a\.scales' .* found \(4, 31\)"),
        (GPTQ | {"a.scales": torch.ones(4, 32, dtype=torch.int32)}, config("gptq"), r"'a\.scales': .* found I32"),
        (GPTQ | {"a.g_idx": torch.zeros(63).int()}, config("gptq"), r"'a\.g_idx' .* found \(63,\)"),
        (
            GPTQ | {"a.qweight": torch.zeros(8, 32).long()},
            config("gptq"),
            "'a.qweight' in I64: expected a matrix in I32",
        ),
        (GPTQ | {"a.weight": torch.ones(2, 2)}, config("gptq"), r"found also 'a\.weight'"),
        (COMPRESSED, {}, "'a.weight_packed' in I32: expected a quantization_config of compressed-tensors"),
        (COMPRESSED, compressed_config(symmetric=False), "found compressed-tensors pack-quantized int False"),
        (COMPRESSED, compressed_config(type="float"), "found compressed-tensors pack-quantized float True"),
        (COMPRESSED, compressed_config(num_bits=3), "expected num_bits of 4 or 8"),
        (COMPRESSED, compressed_config(group_size=24), r"'a\.weight_scale' .* found \(12, 3\)"),
        (COMPRESSED, MIXED, "one symmetric int for all weights"),
        (COMPRESSED | {"a.weight_g_idx": torch.zeros(48)}, compressed_config(), r"found also 'a\.weight_g_idx'"),
    ],
)
def test_what_the_settings_do_not_explain_is_refused(tensors, settings, found):
    tensors = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    with pytest.raises(CheckpointError, match=found) as error:
        open_checkpoint(tensors, settings)
    assert len(str(error.value).splitlines()) == 1
