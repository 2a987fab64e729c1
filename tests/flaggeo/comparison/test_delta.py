import math

import gguf
import pytest
import torch

from flaggeo.comparison.change import Change
from flaggeo.comparison.delta import COUNTED, measure_delta
from flaggeo.comparison.rounding import EXACT, Rounding, gain_rounding, rounding, rounding_variance
from flaggeo.network import Side
from tests.builders import planted, random_frame

ROWS, COLUMNS, KEPT = 48, 32, 4


@pytest.fixture
def base():
    values = [float(2 * COLUMNS - index) for index in range(COLUMNS)]
    return planted(values, ROWS, COLUMNS, seed=3)


def frames(matrix):
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    return {Side.READ: right.mT[:, :KEPT], Side.WRITE: left[:, :KEPT]}


def measured(before, after, noise=EXACT, *, whole=True):
    return measure_delta(
        Change.between(before, after, noise),
        before if whole else None,
        base_frames=frames(before),
        changed_frames=frames(after),
    )


def of_entries(variance):
    return rounding(variance.sum(dim=1), variance.sum(dim=0))


@pytest.mark.parametrize(("start", "inside", "trailing"), [(0, 1.0, 0.0), (16, 0.0, 1.0), (2, 2 / 3, 0.0)])
def test_a_planted_low_rank_change_is_found_where_it_was_planted(base, start, inside, trailing):
    matrix, left, right = base
    where = slice(start, start + 3)
    change = left[:, where] @ torch.diag(torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)) @ right[:, where].mT

    found = measured(matrix, matrix + change)

    assert (found["rank"], found["low_rank"]) == (3, True)
    assert found["relative_norm"] == pytest.approx(14**0.5 / float(matrix.norm()))
    assert [found[f"energy_{k}"] for k in (1, 2, 4)] == pytest.approx([9 / 14, 13 / 14, 1])
    for side in ("read", "write"):
        assert found[f"{side}_inside"] == pytest.approx(inside, abs=1e-6)
        assert found[f"{side}_trailing"] == pytest.approx(trailing, abs=1e-6)
    assert found["read_inside_null"] == pytest.approx(4 / COLUMNS)
    assert (found["read_trailing_null"], found["write_trailing_null"]) == pytest.approx((1 / 2, 2 / 3))
    assert found["read_intruders"] == found["write_intruders"] == 0


def test_a_direction_that_the_base_lacks_is_an_intruder(base):
    matrix, *_ = base
    new = random_frame(COLUMNS, 1, seed=8) @ torch.ones(1, 1, dtype=torch.float64)
    found = measured(matrix, matrix + 500 * random_frame(ROWS, 1, seed=9) @ new.mT)
    assert found["rank"] == 1
    assert found["write_intruders"] == found["read_intruders"] == 1


def test_the_effective_rank_of_equal_values_is_their_number(base):
    matrix, left, right = base
    found = measured(matrix, matrix + left[:, :5] @ right[:, :5].mT)
    assert found["effective_rank"] == pytest.approx(5)


def test_a_change_of_full_rank_is_not_of_low_rank(base):
    matrix, *_ = base
    noise = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = measured(matrix, matrix + noise)
    assert (found["rank"], found["low_rank"]) == (COLUMNS, False)


def test_a_low_rank_change_is_known_from_its_leading_directions(base):
    matrix, left, right = base
    changed = matrix + (left[:, 2:5] * torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64)) @ right[:, 2:5].mT
    whole, leading = measured(matrix, changed), measured(matrix, changed, whole=False)
    missing = {name for name, value in leading.items() if value != value} - {"energy_64"}
    assert missing == {
        f"{side}_{name}" for side in ("read", "write") for name in ("trailing", "trailing_null", "intruders")
    }
    assert leading["rank_is_exact"]
    known = [name for name in whole if name not in missing]
    assert [leading[name] for name in known] == pytest.approx([whole[name] for name in known], rel=1e-9, abs=1e-9)


def test_a_change_of_more_directions_than_are_counted_has_at_least_so_many():
    generator = torch.Generator().manual_seed(2)
    before, change = (torch.randn(90, 80, generator=generator, dtype=torch.float64) for _ in range(2))
    found = measured(before, before + change, whole=False)
    assert (found["rank"], found["rank_is_exact"], found["low_rank"]) == (COUNTED + 1, False, False)
    assert math.isnan(found["effective_rank"])
    values = torch.linalg.svdvals(change).square()
    assert found["energy_16"] == pytest.approx(float(values[:16].sum() / values.sum()))


def test_nothing_and_zero_weights_are_told_apart_from_changes(base):
    matrix, *_ = base
    same = measured(matrix, matrix.clone())
    assert (same["relative_norm"], same["rank"], same["low_rank"]) == (0.0, 0, False)
    assert torch.isnan(torch.tensor(same["read_inside"]))

    zero = torch.zeros(5, 1)
    empty = {side: torch.zeros(size, 0) for side, size in ((Side.READ, 1), (Side.WRITE, 5))}
    grown = measure_delta(Change.between(zero, torch.ones(5, 1)), zero, base_frames=empty, changed_frames=empty)
    assert grown["rank"] == 1
    assert all(torch.isnan(torch.tensor(grown[name])) for name in ("relative_norm", "read_inside", "read_trailing"))


TORCH = {"F16": torch.float16, "BF16": torch.bfloat16}


def stored(matrix, dtype):
    if dtype in TORCH:
        return matrix.to(TORCH[dtype])
    kind = gguf.GGMLQuantizationType[dtype]
    return torch.from_numpy(gguf.dequantize(gguf.quantize(matrix.numpy(), kind), kind).copy())


@pytest.mark.parametrize("dtype", ["F16", "BF16", "Q4_0", "Q4_1", "Q5_1", "Q8_0"])
@pytest.mark.parametrize("shape", [(24, 32), (96, 64), (64, 192)])
@pytest.mark.parametrize("channels", ["even", "outliers"])
def test_rounding_stays_below_its_estimate_and_a_change_above_it_is_counted(dtype, shape, channels):
    generator = torch.Generator().manual_seed(sum(shape))
    matrix = torch.randn(shape, generator=generator) * 0.02
    if channels == "outliers":
        matrix[:2] *= 20
    kept = stored(matrix, dtype)
    noise = of_entries(rounding_variance(kept, dtype))
    error = kept.double() - matrix.double()
    largest = float(torch.linalg.svdvals(error)[0])
    assert 0.2 * noise.norm < largest < noise.norm
    assert 0.6 * noise.frobenius_norm < float(error.norm()) < 1.05 * noise.frobenius_norm

    left, right = random_frame(shape[0], 2, seed=1).float(), random_frame(shape[1], 2, seed=2).float()
    unchanged = measured(matrix, kept, noise)
    assert (unchanged["rank"], unchanged["low_rank"]) == (0, False)
    changed = matrix + 10 * noise.norm * left @ right.mT
    both = noise.and_also(of_entries(rounding_variance(stored(changed, dtype), dtype)))
    found = measured(kept, stored(changed, dtype), both)
    assert (found["rank"], found["low_rank"]) == (2, True)


def test_errors_of_both_matrices_add_in_squares():
    assert Rounding(3.0, 6.0).and_also(Rounding(4.0, 8.0)) == Rounding(5.0, 10.0)


@pytest.mark.parametrize("outlier", [1, 100])
def test_rounding_of_a_gain_is_bounded_and_not_far_below(outlier):
    """Also where one channel carries the matrix, in which independent errors would be taken for small."""
    generator = torch.Generator().manual_seed(0)
    matrix = torch.randn(60, 40, generator=generator, dtype=torch.float64)
    matrix[:, 0] *= outlier
    gain = 0.2 + torch.rand(40, generator=generator)
    errors = torch.linalg.matrix_norm(matrix * (gain.bfloat16().double() - gain), 2)
    folded = matrix * gain
    found = gain_rounding(rounding_variance(gain[None], "BF16")[0], gain, torch.linalg.svdvals(folded))
    assert found.norm / 10 < float(errors) <= found.norm
    assert float((matrix * (gain.bfloat16().double() - gain)).norm()) <= math.sqrt(3) * found.frobenius_norm
