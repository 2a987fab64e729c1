import itertools

import pytest
import torch

from flaggeo.checkpoint import CheckpointError, open_checkpoint

CONFIG = {"quantization_config": {"quant_method": "mxfp4"}}
EXPERTS, OUTPUTS, BLOCKS = 3, 5, 2


def packed(*, experts=EXPERTS, outputs=OUTPUTS, blocks=BLOCKS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (experts, outputs, blocks)
    return {
        "experts.down_proj_blocks": torch.randint(256, (*shape, 16), generator=generator, dtype=torch.uint8),
        "experts.down_proj_scales": torch.randint(100, 150, shape, generator=generator, dtype=torch.uint8),
    }


def scalar_e2m1(code):
    """A number of the OCP microscaling specification: bias 1, one bit of a fraction."""
    sign = -1.0 if code & 8 else 1.0
    exponent, fraction = code >> 1 & 3, code & 1
    return sign * (fraction / 2 if exponent == 0 else (1 + fraction / 2) * 2.0 ** (exponent - 1))


def test_every_number_stands_where_its_half_byte_says():
    tensors = packed()
    checkpoint = open_checkpoint(tensors, CONFIG)
    [header] = checkpoint.headers.values()
    assert (header.name, header.shape) == ("experts.down_proj", (EXPERTS, BLOCKS * 32, OUTPUTS))
    read = checkpoint.read("experts.down_proj")
    assert read.dtype == torch.bfloat16
    blocks, scales = (part.tolist() for part in tensors.values())
    for expert, output, number in itertools.product(range(EXPERTS), range(OUTPUTS), range(BLOCKS * 32)):
        block, place = divmod(number, 32)
        byte = blocks[expert][output][block][place // 2]
        expected = scalar_e2m1(byte >> 4 if place % 2 else byte & 15) * 2.0 ** (scales[expert][output][block] - 127)
        assert read[expert, number, output].item() == expected
    assert torch.equal(checkpoint.read("experts.down_proj", rows=slice(1, 3)), read[1:3])


def test_agrees_with_transformers():
    theirs = pytest.importorskip("transformers.integrations.mxfp4").convert_moe_packed_tensors
    tensors = packed(outputs=48, blocks=3)
    expected = theirs(*tensors.values(), dtype=torch.bfloat16)
    assert torch.equal(open_checkpoint(tensors, CONFIG).read("experts.down_proj"), expected)


def test_a_scale_that_is_no_number_is_refused():
    tensors = packed()
    tensors["experts.down_proj_scales"][1, 2, 0] = 255
    with pytest.raises(CheckpointError, match=r"'experts\.down_proj' .* found 32 NaN"):
        open_checkpoint(tensors, CONFIG).read("experts.down_proj")


def test_scales_alone_and_bytes_of_another_name_are_no_weights():
    tensors = {"mask_scales": torch.ones(3, dtype=torch.uint8), "mask": torch.ones(3, dtype=torch.uint8)}
    assert set(open_checkpoint(tensors, CONFIG).headers) == set(tensors)


@pytest.mark.parametrize(
    ("change", "config", "found"),
    [
        ({}, {}, r"'experts\.down_proj_blocks' in U8: expected quant_method 'mxfp4' .* found None"),
        ({}, {"quantization_config": {"quant_method": "fp8"}}, "found 'fp8'"),
        ({"experts.down_proj_scales": None}, CONFIG, r"expected 'experts\.down_proj_scales' beside it"),
        ({"experts.down_proj_scales": torch.ones(3, 5, 3)}, CONFIG, r"_scales' in F32: .* found \(3, 5, 3\)"),
        ({"experts.down_proj_blocks": torch.ones(5, 2, 16).byte()}, CONFIG, r"found \(5, 2, 16\)"),
        ({"experts.down_proj_blocks": torch.ones(3, 5, 2, 8).byte()}, CONFIG, r"found \(3, 5, 2, 8\)"),
    ],
)
def test_what_does_not_fit_is_refused(change, config, found):
    tensors = {name: tensor for name, tensor in (packed() | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=found) as error:
        open_checkpoint(tensors, config)
    assert len(str(error.value).splitlines()) == 1
