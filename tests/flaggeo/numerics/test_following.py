import math

import numpy as np
import pytest
import torch

from flaggeo.numerics import following
from flaggeo.numerics.following import followed_spectrum
from tests.builders import random_frame

ROWS, COLUMNS, RANK = 700, 560, 6
VALUES = [40.0, 30.0, 22.0, 16.0, 12.0, 9.0]
# Of the noise: its largest singular value is near 2.
EDGE = 2.0


# Axes of which the matrix leaves each alone: nothing is left of them once they are taken out.
EXACT = torch.diag(torch.tensor([*VALUES, *[1.0] * (COLUMNS - RANK)]))


def noise(seed):
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(ROWS, COLUMNS, generator=generator, dtype=torch.float64)
        * EDGE
        / (math.sqrt(ROWS) + math.sqrt(COLUMNS))
    )


def planted(values=VALUES, seed=0):
    """Noise with these singular values in random directions."""
    left, right = random_frame(ROWS, len(values), seed=seed), random_frame(COLUMNS, len(values), seed=seed + 100)
    return (left * torch.tensor(values, dtype=torch.float64)) @ right.mT + noise(seed)


def reference(matrix):
    """NumPy's singular value decomposition, which shares no code with the package."""
    left, values, right = np.linalg.svd(matrix.double().numpy(), full_matrices=False)
    return left[:, :RANK], values[: RANK + 1], right[:RANK].T


def assert_agrees(spectrum, matrix, sine=1e-3):
    left, values, right = reference(matrix)
    assert spectrum.values.numpy() == pytest.approx(values[:-1], rel=1e-5)
    assert 0.85 * values[-1] < float(spectrum.known_values[-1]) < (1 + 1e-9) * values[-1]
    for found, exact in ((spectrum.left, left), (spectrum.right, right)):
        cosines = np.abs((found.numpy() * exact).sum(axis=0))
        assert np.sqrt(1 - cosines.clip(max=1) ** 2).max() < sine
        assert (found.mT @ found).numpy() == pytest.approx(np.eye(RANK), abs=1e-12)


@pytest.fixture
def cold_starts(monkeypatch):
    calls = []
    original = following.leading_spectrum
    monkeypatch.setattr(following, "leading_spectrum", lambda *given: calls.append(1) or original(*given))
    return calls


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_slowly_moving_matrix_is_followed(transposed, dtype, cold_starts):
    generator, start, moving = torch.Generator().manual_seed(0), None, planted()
    for step in range(4):
        matrix = (moving.mT if transposed else moving).to(dtype)
        spectrum, start = followed_spectrum(matrix, RANK, start, generator)
        assert_agrees(spectrum, matrix)
        moving = moving + 0.05 * noise(step + 1)
    assert len(cold_starts) == 1
    assert spectrum.frobenius_norm == pytest.approx(float(matrix.double().norm()))
    rows, columns = matrix.double().norm(dim=1), matrix.double().norm(dim=0)
    assert torch.allclose(spectrum.row_norms, rows)
    assert torch.allclose(spectrum.column_norms, columns)


@pytest.mark.parametrize("value", [60.0, 25.0, 10.0])
def test_a_direction_that_comes_up_at_once_is_not_missed(value, cold_starts):
    """It is orthogonal to all that was known, which the matrix leaves invariant."""
    before = planted()
    left, _, right = np.linalg.svd(before.numpy(), full_matrices=False)
    exact = torch.from_numpy(left[:, :RANK] * VALUES) @ torch.from_numpy(right[:RANK])
    new = value * torch.from_numpy(left[:, 300])[:, None] * torch.from_numpy(right[300])
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        _, start = followed_spectrum(exact, RANK, None, generator)
        spectrum, _ = followed_spectrum(exact + new, RANK, start, generator)
        assert_agrees(spectrum, exact + new)
    assert len(cold_starts) == 3


def test_the_leading_direction_is_replaced_by_another_in_a_flat_rest():
    """What was first goes, and one that was far below comes up, over noise without gaps."""
    before, after = planted(), planted([50.0, *VALUES[1:]], seed=7)
    generator = torch.Generator().manual_seed(0)
    _, start = followed_spectrum(before, RANK, None, generator)
    spectrum, _ = followed_spectrum(after, RANK, start, generator)
    assert_agrees(spectrum, after)


@pytest.mark.parametrize("matrix", [torch.zeros(ROWS, COLUMNS), noise(3), torch.eye(COLUMNS), EXACT])
def test_where_it_does_not_converge_it_starts_afresh(matrix):
    """Zero, no gaps at all, as many equal values as there are, and a start from vectors that are exact."""
    generator, start = torch.Generator().manual_seed(0), torch.eye(COLUMNS, dtype=torch.float64)[:, :RANK]
    spectrum, _ = followed_spectrum(matrix, RANK, start, generator)
    values = np.linalg.svd(matrix.double().numpy(), compute_uv=False)[:RANK]
    assert spectrum.values.numpy() == pytest.approx(values, rel=1e-5)


def test_on_a_cpu_a_small_matrix_is_left_to_lapack(cold_starts):
    generator, start = torch.Generator().manual_seed(0), None
    for _ in range(2):
        _, start = followed_spectrum(planted()[:200, :100], RANK, start, generator)
    assert len(cold_starts) == 2
