import threading

import numpy as np
import pytest
import torch
from scipy.linalg import LinAlgError

import flaggeo.numerics.eigensolver
from flaggeo.numerics.eigensolver import leading_eigenpairs
from tests.builders import random_frame

TOLERANCE = {torch.float32: 2e-6, torch.float64: 1e-14}


@pytest.fixture(params=[0, 128], ids=["partial", "full"], autouse=True)
def solver(request, monkeypatch):
    """Small matrices are usually left to torch; here both ways are held to the same."""
    monkeypatch.setattr(flaggeo.numerics.eigensolver, "_SMALL", request.param)


def gram(n, dtype=torch.float64, seed=0):
    matrix = torch.randn(2 * n, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (matrix.mT @ matrix).to(dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(("n", "count"), [(1, 1), (2, 1), (7, 3), (40, 40), (200, 16)])
def test_agrees_with_numpy(n, count, dtype):
    matrix = gram(n, dtype)
    expected = np.linalg.eigvalsh(matrix.double().numpy())[::-1]
    scale = n * TOLERANCE[dtype] * expected[0]
    values, vectors = leading_eigenpairs(matrix.clone(), count)
    every, same = leading_eigenpairs(matrix.clone(), count, all_values=True)
    assert (values.dtype, vectors.dtype, vectors.shape) == (dtype, dtype, (n, count))
    np.testing.assert_allclose(values.numpy(), expected[:count], rtol=0, atol=scale)
    np.testing.assert_allclose(every.numpy(), expected, rtol=0, atol=scale)
    assert torch.equal(vectors, same)
    assert float((matrix @ vectors - vectors * values).abs().max()) < scale
    identity = torch.eye(count, dtype=dtype)
    torch.testing.assert_close(vectors.mT @ vectors, identity, rtol=0, atol=100 * n * TOLERANCE[dtype])


def test_only_the_lower_triangle_is_read():
    matrix = gram(9)
    spoilt = matrix.clone()
    spoilt[0, 1:] = float("nan")
    assert torch.equal(leading_eigenpairs(spoilt, 3)[1], leading_eigenpairs(matrix, 3)[1])


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize(
    "values", [[0.0] * 6, [1.0] * 6, [3.0, 3.0, 3.0, 0.0, 0.0, 0.0], [1e8, 1.0, 1.0, 0.0, 0.0, 0.0]]
)
def test_repeated_and_zero_values_come_with_orthonormal_vectors(values, dtype):
    frame = random_frame(6, 6, seed=3)
    matrix = ((frame * torch.tensor(values)) @ frame.mT).to(dtype)
    found, vectors = leading_eigenpairs(matrix, 5)
    tolerance = 1e3 * TOLERANCE[dtype]
    torch.testing.assert_close(found, torch.tensor(values[:5], dtype=dtype), rtol=tolerance, atol=tolerance * values[0])
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(5, dtype=dtype), rtol=0, atol=tolerance)


def test_a_batch_is_decomposed_one_by_one():
    batch = torch.stack([gram(9, seed=seed) for seed in range(6)]).unflatten(0, (2, 3))
    values, vectors = leading_eigenpairs(batch.clone(), 3)
    assert (values.shape, vectors.shape) == ((2, 3, 3), (2, 3, 9, 3))
    alone = leading_eigenpairs(batch[1, 2].clone(), 3)
    torch.testing.assert_close((values[1, 2], vectors[1, 2]), alone, rtol=1e-13, atol=1e-13)


def test_what_is_not_a_number_is_an_error_of_lapack():
    with pytest.raises((LinAlgError, torch.linalg.LinAlgError)):
        leading_eigenpairs(torch.full((5, 5), float("nan")), 2, all_values=True)


def test_another_thread_runs_while_lapack_does():
    """The reason why SciPy's own functions are not used: they hold the interpreter's lock to the end."""
    matrix, done, turns = gram(700), threading.Event(), 0
    solver = threading.Thread(target=lambda: (leading_eigenpairs(matrix, 4), done.set()))
    solver.start()
    while not done.wait(1e-4):
        turns += 1
    solver.join()
    assert turns > 3
