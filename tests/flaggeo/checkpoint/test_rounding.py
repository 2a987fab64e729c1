import gguf
import numpy as np
import pytest
import torch

from flaggeo.checkpoint.rounding import rounding_error, rounding_steps


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


@pytest.mark.parametrize("kind", ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "MXFP4"])
def test_quantised_numbers_are_off_by_no_more_than_it_says_and_by_little_less(kind):
    """A block with an offset of its own has steps of its range, which for normal numbers is a sixth less."""
    exact = normal(100, 320)
    packed = gguf.quantize(exact.float().numpy(), gguf.GGMLQuantizationType[kind])
    stored = torch.from_numpy(np.array(gguf.dequantize(packed, gguf.GGMLQuantizationType[kind])))
    measured = relative(stored.double(), exact)
    assert 0.97 * measured <= rounding_error(stored, kind) <= 1.2 * measured


@pytest.mark.parametrize(("dtype", "largest"), [("F8_E4M3", 448), ("F8_E5M2", 57344)])
@pytest.mark.parametrize("sharing", ["rows", "all"])
def test_scaled_eight_bit_numbers_are_off_by_as_much_as_it_says(dtype, largest, sharing):
    """Whatever the scales, which move the exponents."""
    exact = normal(400, 320)
    scale = exact.abs().amax(dim=1, keepdim=True) / largest if sharing == "rows" else exact.abs().max() / largest
    kind = {"F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2}[dtype]
    stored = (exact / scale).to(kind).double() * scale
    assert rounding_error(stored, dtype) == pytest.approx(relative(stored, exact), rel=0.05)


@pytest.mark.parametrize(
    ("dtype", "group", "symmetric"),
    [("INT8:320", 320, True), ("INT4:64", 64, True), ("GPTQ4:64", 64, True), ("AWQ4:64", 64, False)],
)
def test_integers_are_off_by_as_much_as_it_says(dtype, group, symmetric):
    """With a zero of its own the steps of a group are those of its range, which is less than twice its largest."""
    exact = normal(400, 320)
    groups = exact.reshape(-1, group)
    levels = 2 ** int(dtype.partition(":")[0][-1]) - 1
    if symmetric:
        step, zero = 2 * groups.abs().amax(dim=1, keepdim=True) / levels, levels // 2 + 1
    else:
        least = groups.amin(dim=1, keepdim=True)
        step = (groups.amax(dim=1, keepdim=True) - least) / levels
        zero = (-least / step).round()
    stored = (((groups / step).round() + zero).clamp(0, levels) - zero) * step
    measured = relative(stored.reshape(exact.shape), exact)
    assert 0.97 * measured <= rounding_error(stored.reshape(exact.shape), dtype) <= 1.2 * measured


# Of the papers of QLoRA (normal quantiles) and of bitsandbytes (three bits with an exponent, and a sign).
NF4 = [-1.0, -0.6962, -0.5251, -0.3949, -0.2844, -0.1848, -0.0911, 0.0]
NF4 += [0.0796, 0.1609, 0.2461, 0.3379, 0.4407, 0.5626, 0.7230, 1.0]
FP4 = [sign * level for sign in (1, -1) for level in (0, 1 / 192, 1 / 6, 1 / 4, 1 / 3, 1 / 2, 2 / 3, 1)]


@pytest.mark.parametrize(("dtype", "levels"), [("NF4:64", NF4), ("FP4:64", FP4)])
def test_codes_of_levels_are_off_by_as_much_as_it_says(dtype, levels):
    exact, levels = normal(400, 320), torch.tensor(levels, dtype=torch.float64)
    groups = exact.reshape(-1, 64)
    largest = groups.abs().amax(dim=1, keepdim=True)
    nearest = ((groups / largest)[..., None] - levels).abs().argmin(dim=-1)
    stored = (levels[nearest] * largest).reshape(exact.shape)
    measured = relative(stored, exact)
    assert 0.97 * measured <= rounding_error(stored, dtype) <= 1.2 * measured


def test_blocks_along_columns_are_those_of_the_transpose():
    """With one large column, which coarsens its own blocks alone."""
    exact = normal(64, 96)
    exact[:, 0] *= 100
    packed = gguf.quantize(exact.mT.float().numpy(), gguf.GGMLQuantizationType.MXFP4)
    stored = torch.from_numpy(np.array(gguf.dequantize(packed, gguf.GGMLQuantizationType.MXFP4)))
    steps = rounding_steps(stored.mT, "MXFP4^T")
    assert torch.equal(steps, rounding_steps(stored, "MXFP4").mT)
    assert steps[:, 0].max() > 30
    assert steps[:, 1:].max() < 3


def test_zeros_have_no_error_and_scale_does_not_matter():
    for dtype in ("Q4_0", "BF16", "MXFP4", "FP4:64"):
        assert rounding_error(torch.zeros(4, 32), dtype) == 0
    numbers = normal(8, 64)
    for dtype in ("Q4_0", "F16"):
        assert rounding_error(numbers * 2.0**-20, dtype) == pytest.approx(rounding_error(numbers, dtype))


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="I8"):
        rounding_error(torch.zeros(4, 32), "I8")


@pytest.mark.parametrize("dtype", ["BF16", "Q4_0", "MXFP4^T"])
def test_a_large_tensor_is_taken_in_chunks_to_the_same_error(dtype):
    stored = torch.randn(2048, 512, generator=torch.Generator().manual_seed(5))
    variance = rounding_steps(stored, dtype).square().mean() / 12
    expected = float((variance / stored.double().square().mean()).sqrt())
    assert rounding_error(stored, dtype) == pytest.approx(expected, rel=1e-12)
