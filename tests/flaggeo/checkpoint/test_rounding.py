import gguf
import numpy as np
import pytest
import torch

from flaggeo.checkpoint.rounding import rounding_error


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def relative(stored, exact):
    return float((stored - exact).square().mean().sqrt() / exact.square().mean().sqrt())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_floating_point_numbers_are_off_by_as_much_as_it_says(dtype):
    exact = normal(400, 320)
    stored = exact.to(dtype)
    spelling = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}[dtype]
    # Of 128,000 errors: the mean square is known to half a percent.
    assert rounding_error(stored, spelling) == pytest.approx(relative(stored.double(), exact), rel=0.02)


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_quantised_numbers_are_off_by_no_more_than_it_says_and_by_little_less(kind):
    """A block with an offset of its own has steps of its range, which for normal numbers is a sixth less."""
    exact = normal(100, 320)
    packed = gguf.quantize(exact.float().numpy(), gguf.GGMLQuantizationType[kind])
    stored = torch.from_numpy(np.array(gguf.dequantize(packed, gguf.GGMLQuantizationType[kind])))
    measured = relative(stored.double(), exact)
    assert 0.97 * measured <= rounding_error(stored, kind) <= 1.2 * measured


def test_zeros_have_no_error_and_scale_does_not_matter():
    assert rounding_error(torch.zeros(4, 32), "Q4_0") == rounding_error(torch.zeros(4, 32), "BF16") == 0
    numbers = normal(8, 64)
    for dtype in ("Q4_0", "F16"):
        assert rounding_error(numbers * 2.0**-20, dtype) == pytest.approx(rounding_error(numbers, dtype))


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="I8"):
        rounding_error(torch.zeros(4, 32), "I8")
