import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flaggeo.network import Side
from flaggeo.numerics.spectrum import (
    DEGENERATE_GAP,
    gram_spectrum,
    leading_frames,
    leading_spectrum,
    side_gram,
    singular_values,
)
from tests.builders import planted, random_frame


def largest_sine(frame, reference):
    """Sine of the largest principal angle between two subspaces of one dimension."""
    return float(torch.linalg.matrix_norm(frame - reference @ (reference.mT @ frame), 2))


@pytest.mark.parametrize(("rows", "columns"), [(60, 60), (30, 90), (90, 30), (1, 7), (7, 1), (300, 20)])
@pytest.mark.parametrize("rank", [1, 5, 40])
def test_agrees_with_a_full_svd(rows, columns, rank):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spectrum = leading_spectrum(matrix, rank)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    kept = min(rank, rows, columns)
    torch.testing.assert_close(spectrum.values, values[:kept], rtol=1e-10, atol=1e-10)
    # Float64 Gram: the error of a vector is eps * s_1^2 over the gap of the squares.
    gaps = (values[:-1] ** 2 - values[1:] ** 2).tolist()
    tolerance = (
        100 * torch.finfo(torch.float64).eps * float(values[0]) ** 2 / min([*gaps[:kept], float(values[0]) ** 2])
    )
    cosines_right = (spectrum.right * right[:kept].mT).sum(0).abs()
    cosines_left = (spectrum.left * left[:, :kept]).sum(0).abs()
    assert float((1 - cosines_right).max()) < max(tolerance, 1e-12)
    assert float((1 - cosines_left).max()) < max(tolerance, 1e-12)
    assert spectrum.frobenius_norm == pytest.approx(float(torch.linalg.norm(matrix)), rel=1e-12)
    assert spectrum.residual < 1e-11


@pytest.mark.parametrize(("dtype", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_recovers_planted_directions_to_the_precision_of_the_storage(dtype, error):
    matrix, left, right = planted([5.0, 3.0, 1.0], 70, 40, seed=1)
    spectrum = leading_spectrum(matrix.to(dtype), 2)
    assert spectrum.values.tolist() == pytest.approx([5.0, 3.0], rel=error)
    assert largest_sine(spectrum.right, right[:, :2]) < error
    assert largest_sine(spectrum.left, left[:, :2]) < error


def test_frames_are_orthonormal_and_signs_are_fixed():
    matrix = torch.randn(50, 80, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    spectrum, negated = leading_spectrum(matrix, 10), leading_spectrum(-matrix, 10)
    for frame in (spectrum.left, spectrum.right):
        torch.testing.assert_close(frame.mT @ frame, torch.eye(10, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(spectrum.right, negated.right, atol=1e-10, rtol=0)
    torch.testing.assert_close(spectrum.left, -negated.left, atol=1e-10, rtol=0)
    largest = spectrum.right.gather(0, spectrum.right.abs().argmax(0, keepdim=True))
    assert bool((largest > 0).all())


def test_gaps_flag_what_they_leave_undetermined():
    close = 1 - DEGENERATE_GAP / 2
    matrix, _, _ = planted([4.0, 2.0, 2.0 * close, 1.0, 0.5], 30, 20, seed=3)
    spectrum = leading_spectrum(matrix, 4)
    assert spectrum.gaps.tolist() == pytest.approx([0.5, 1 - close, 1 - 0.5 / close, 0.5], abs=1e-9)
    assert spectrum.undetermined.tolist() == [False, True, True, False]


def test_a_repeated_value_is_found_with_its_whole_eigenspace():
    """A Krylov method may miss copies; the span of the three is determined, no vector in it is."""
    matrix, _, right = planted([3.0, 3.0, 3.0, 1.0], 50, 40, seed=4)
    spectrum = leading_spectrum(matrix, 3)
    assert spectrum.values.tolist() == pytest.approx([3.0] * 3, abs=1e-12)
    assert largest_sine(spectrum.right, right[:, :3]) < 1e-12
    assert bool(spectrum.undetermined.all())
    assert spectrum.residual < 1e-12


@pytest.mark.parametrize(
    ("matrix", "rank"),
    [(torch.zeros(6, 4), 0), (torch.ones(5, 8), 1), (torch.ones(8, 5), 1), (torch.ones(1, 1), 1), (torch.eye(4), 4)],
)
def test_rank_deficient_matrices_keep_full_frames_and_say_their_rank(matrix, rank):
    spectrum = leading_spectrum(matrix, 3)
    assert int((spectrum.values > 0).sum()) == min(rank, 3)
    assert spectrum.frame(Side.READ).shape == (matrix.shape[1], min(rank, 3))
    assert spectrum.frame(Side.WRITE).shape == (matrix.shape[0], min(rank, 3))
    for frame in (spectrum.left, spectrum.right):
        torch.testing.assert_close(frame.mT @ frame, torch.eye(frame.shape[1], dtype=torch.float64), atol=1e-12, rtol=0)
    assert bool(spectrum.undetermined[min(rank, 3) :].all())
    assert math.isnan(spectrum.energy) if rank == 0 else 0 < spectrum.energy <= 1 + 1e-12


@pytest.mark.parametrize("size", [64, 128, 256])
def test_full_rank_frames_are_orthonormal_to_working_precision(size):
    """The partial eigensolver alone misses `manifolds.require_frame` by a factor of two."""
    from manifolds import require_frame

    for seed in range(4):
        spectrum = leading_spectrum(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)), 10**6)
        require_frame(spectrum.left, "left")
        require_frame(spectrum.right, "right")


def test_energy_is_the_share_of_the_squared_norm():
    matrix, _, _ = planted([2.0, 1.0, 1.0], 9, 7, seed=5)
    assert leading_spectrum(matrix, 1).energy == pytest.approx(4 / 6)


@pytest.mark.parametrize("shape", [(12, 12), (9, 30), (30, 9), (1, 5)])
def test_all_singular_values_are_there_on_request_whatever_the_rank(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    spectrum = leading_spectrum(matrix, 2, whole=True)
    torch.testing.assert_close(spectrum.known_values, torch.linalg.svdvals(matrix), rtol=1e-10, atol=1e-10)
    assert torch.equal(spectrum.values, spectrum.known_values[:2])
    assert float(spectrum.known_values.square().sum()) == pytest.approx(spectrum.frobenius_norm**2)
    leading = leading_spectrum(matrix, 2)
    torch.testing.assert_close(leading.known_values, spectrum.known_values[:3], rtol=1e-10, atol=1e-10)
    assert leading.is_whole == (min(shape) <= 3)


def test_effective_rank_of_planted_spectra():
    """Eight equal values count as eight; 2, 1, 1 has shares 2/3, 1/6, 1/6 and exp(entropy) 1.5^(2/3) 6^(1/3)."""
    assert leading_spectrum(torch.eye(8), 1, whole=True).effective_rank == pytest.approx(8)
    assert leading_spectrum(torch.ones(8, 5), 1, whole=True).effective_rank == pytest.approx(1)
    assert leading_spectrum(torch.diag(torch.tensor([2.0, 1, 1])), 1, whole=True).effective_rank == pytest.approx(
        1.5 ** (2 / 3) * 6 ** (1 / 3)
    )
    assert math.isnan(leading_spectrum(torch.zeros(4, 3), 1, whole=True).effective_rank)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16), rows=st.integers(1, 12), columns=st.integers(1, 12))
def test_effective_rank_lies_between_the_stable_rank_and_the_dimension_and_has_no_scale(seed, rows, columns):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    spectrum = leading_spectrum(matrix, 1, whole=True)
    stable_rank = (spectrum.frobenius_norm / float(spectrum.values[0])) ** 2
    assert stable_rank * (1 - 1e-9) <= spectrum.effective_rank <= min(rows, columns) * (1 + 1e-9)
    assert leading_spectrum(1e3 * matrix, 1, whole=True).effective_rank == pytest.approx(spectrum.effective_rank)
    stretched = matrix * torch.linspace(1, 3, columns, dtype=torch.float64)
    if min(rows, columns) > 1:
        assert leading_spectrum(stretched, 1, whole=True).effective_rank != pytest.approx(
            spectrum.effective_rank, rel=1e-6
        )


@pytest.mark.parametrize("shape", [(300, 300), (100, 400), (400, 100)])
@pytest.mark.parametrize("planted_values", [[], [3.0], [3.0, 2.0, 2.0]])
def test_values_above_the_random_edge_are_those_planted_in_noise(shape, planted_values):
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    noise /= math.sqrt(shape[0]) + math.sqrt(shape[1])  # its edge is at 1
    signal = planted(planted_values, *shape, seed=10)[0] if planted_values else 0.0
    spectrum = leading_spectrum(noise + signal, 1, whole=True)
    assert spectrum.above_random_edge == len(planted_values)
    alone = leading_spectrum(noise, 1)
    assert alone.random_edge == pytest.approx(1, rel=0.01)
    assert float(alone.values[0]) == pytest.approx(1, abs=0.03)


def test_a_tall_matrix_is_taken_in_blocks_without_changing_the_result():
    """More than one block of 2^22 entries; the oracle sees the matrix whole."""
    matrix = torch.randn(2**17 + 5, 33, generator=torch.Generator().manual_seed(6), dtype=torch.float32)
    spectrum = leading_spectrum(matrix, 4)
    eigenvalues = torch.linalg.eigvalsh(matrix.double().mT @ matrix.double()).flip(0)[:4]
    torch.testing.assert_close(spectrum.values.square(), eigenvalues, rtol=1e-11, atol=0)
    assert spectrum.residual < 1e-11


@settings(max_examples=20)
@given(seed=st.integers(0, 2**16), rows=st.integers(2, 30), columns=st.integers(2, 30))
def test_orthogonal_maps_move_the_frames_and_leave_the_values(seed, rows, columns):
    matrix, _, _ = planted([5.0, 2.0], rows, columns, seed=seed)
    turn_in, turn_out = random_frame(columns, columns, seed=seed + 1), random_frame(rows, rows, seed=seed + 2)
    before, after = leading_spectrum(matrix, 2), leading_spectrum(turn_out @ matrix @ turn_in.mT, 2)
    torch.testing.assert_close(before.values, after.values, rtol=1e-10, atol=1e-10)
    assert largest_sine(after.right, turn_in @ before.right) < 1e-10
    assert largest_sine(after.left, turn_out @ before.left) < 1e-10


@pytest.mark.parametrize(
    ("matrix", "rank", "message"), [(torch.ones(3), 1, "needs a matrix"), (torch.eye(3), 0, "at least 1")]
)
def test_refusals(matrix, rank, message):
    with pytest.raises(ValueError, match=message):
        leading_spectrum(matrix, rank)


@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (25, 25)])
def test_single_precision_frames_span_the_same_leading_directions(shape):
    matrix, left, right = planted([9.0, 5.0, 3.0, 1.0], *shape, seed=11)
    for found, expected in zip(leading_frames(matrix, 3), (right[:, :3], left[:, :3]), strict=True):
        assert found.dtype == torch.float32
        torch.testing.assert_close((found.double().mT @ expected).abs(), torch.eye(3).double(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("shape", [(40, 24), (24, 40), (1, 7)])
def test_all_singular_values_agree_with_torch(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(singular_values(matrix), torch.linalg.svdvals(matrix.double()))


def test_singular_values_below_the_noise_of_a_gram_matrix_are_zero():
    matrix, *_ = planted([1.0, 1e-3, 1e-12], 30, 20, seed=0)
    values = singular_values(matrix)
    assert values[:2].tolist() == pytest.approx([1, 1e-3])
    assert values[2:].tolist() == [0] * 18


@pytest.mark.parametrize("side", Side)
@pytest.mark.parametrize(("count", "rows", "columns"), [(3, 20, 30), (2, 5, 30), (4, 40, 150), (1, 9, 7)])
def test_a_stack_has_the_spectrum_of_its_gram_matrix(side, count, rows, columns):
    """Of matrices on top of each other where they read, side by side where they write."""
    shape = (rows, columns) if side is Side.READ else (columns, rows)
    matrices = [torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]
    grams, norms = zip(*(side_gram(matrix, side) for matrix in matrices), strict=True)
    summed = sum(grams)
    found = gram_spectrum(summed, side, torch.cat(norms), rank=4, whole=True)
    expected = leading_spectrum(torch.cat(matrices, dim=0 if side is Side.READ else 1), rank=4, whole=True)
    torch.testing.assert_close(found.known_values, expected.known_values, rtol=1e-10, atol=1e-10)
    assert largest_sine(found.frame(side), expected.frame(side)) < 1e-10
    assert found.frame(side.other).shape == (count * rows, 0)
    for part in ("gaps", "undetermined", "row_norms", "column_norms"):
        torch.testing.assert_close(getattr(found, part), getattr(expected, part), rtol=1e-8, atol=1e-12)
    for number in ("frobenius_norm", "energy", "effective_rank", "above_random_edge", "mean_entry"):
        assert getattr(found, number) == pytest.approx(getattr(expected, number))
    assert found.residual < 1e-12
    assert torch.equal(summed, sum(grams))
    assert (found.frame(side).gather(0, found.frame(side).abs().argmax(dim=0, keepdim=True)) > 0).all()
    assert found.leading(2).frame(side).shape == (columns, 2)


def test_a_stack_of_zeros_has_no_direction():
    spectrum = gram_spectrum(torch.zeros(5, 5, dtype=torch.float64), Side.READ, torch.zeros(8).double(), rank=2)
    assert spectrum.frame(Side.READ).shape == (5, 0)
    assert (spectrum.residual, spectrum.frobenius_norm) == (0, 0)


def test_the_residual_of_a_gram_matrix_tells_of_an_unfaithful_frame():
    """It is what the frame and the values leave of the matrix, which single precision leaves larger."""
    matrix = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    single = gram_spectrum((matrix.mT @ matrix), Side.READ, matrix.norm(dim=1), rank=3)
    double = gram_spectrum(*(side_gram(matrix, Side.READ)[:1]), Side.READ, matrix.norm(dim=1), rank=3)
    assert double.residual < 1e-12 < 1e-8 < single.residual < 1e-4
