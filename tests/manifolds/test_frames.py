import math

import numpy as np
import pytest
import scipy.linalg
import torch

from manifolds.checks import require_frame
from manifolds.frames import orthogonal_complement, orthonormalize, polar_factor, project, reject, same_span

from .builders import generator, random_frame

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-13}


def matrix(n, k, *, seed, batch=(), dtype=torch.float64):
    return torch.randn(*batch, n, k, generator=generator(seed), dtype=dtype)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("make", [orthonormalize, polar_factor])
def test_frames_of_a_matrix_span_its_columns(make, dtype):
    columns = matrix(9, 4, seed=0, batch=(3,), dtype=dtype)
    frame = make(columns)
    assert frame.dtype == dtype
    require_frame(frame, "frame")
    torch.testing.assert_close(frame @ (frame.mT @ columns), columns, atol=TOLERANCE[dtype], rtol=0)


def test_orthonormalize_keeps_the_flag_of_the_columns():
    columns = matrix(7, 3, seed=1)
    frame = orthonormalize(columns)
    triangle = frame.mT @ columns
    torch.testing.assert_close(triangle.tril(-1), torch.zeros(3, 3, dtype=torch.float64), atol=1e-14, rtol=0)


def test_polar_factor_agrees_with_scipy():
    columns = matrix(8, 3, seed=2)
    expected = torch.from_numpy(scipy.linalg.polar(columns.numpy())[0])
    torch.testing.assert_close(polar_factor(columns), expected, atol=1e-14, rtol=0)


@pytest.mark.parametrize("make", [orthonormalize, polar_factor])
@pytest.mark.parametrize(
    "columns",
    [
        torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]),
        torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]),
        torch.tensor([[1.0, math.nan], [0.0, 1.0], [0.0, 0.0]]),
        torch.tensor([[1.0, math.inf], [0.0, 1.0], [0.0, 0.0]]),
        torch.ones(2, 3),
        torch.ones(3),
        torch.ones(3, 2, dtype=torch.int64),
        torch.ones(3, 2, dtype=torch.float16),
    ],
    ids=["dependent", "zero column", "NaN", "infinity", "too wide", "vector", "integers", "half precision"],
)
def test_what_has_no_frame_is_refused(make, columns):
    with pytest.raises(ValueError, match=r"expected|needs"):
        make(columns)


def test_complement_completes_the_basis():
    frame = random_frame(6, 2, seed=3, batch=(2,))
    require_frame(torch.cat([frame, orthogonal_complement(frame)], dim=-1), "basis")


def test_project_and_reject_split_a_vector():
    frame, vectors = random_frame(6, 2, seed=4), matrix(6, 3, seed=5)
    inside, outside = project(vectors, frame), reject(vectors, frame)
    torch.testing.assert_close(inside + outside, vectors, atol=1e-14, rtol=0)
    torch.testing.assert_close(project(inside, frame), inside, atol=1e-14, rtol=0)
    assert float((frame.mT @ outside).abs().max()) < 1e-15


def test_reject_of_a_vector_almost_inside_is_orthogonal_relative_to_itself():
    basis = random_frame(50, 6, seed=6)
    frame, normal = basis[:, :5], basis[:, 5:]
    outside = reject(frame[:, :1] + 1e-9 * normal, frame)
    assert float(torch.linalg.vector_norm(outside)) == pytest.approx(1e-9, rel=1e-6)
    assert float((frame.mT @ outside).abs().max()) < 1e-15 * 1e-6


def test_same_span_ignores_the_frame_and_sees_a_small_turn():
    basis = random_frame(20, 4, seed=7)
    frame = basis[:, :3]
    turned = torch.cat([basis[:, :2], (basis[:, 2:3] + 1e-9 * basis[:, 3:])], dim=1)
    assert bool(same_span(frame, frame @ random_frame(3, 3, seed=8)))
    assert not bool(same_span(frame, orthonormalize(turned)))
    assert bool(same_span(frame, orthonormalize(turned), tolerance=1e-8))
    assert not bool(same_span(frame, basis[:, :2]))


@pytest.mark.parametrize(("dtype", "size"), [(torch.float64, 1e200), (torch.float64, 1e-200), (torch.float32, 1e20)])
def test_orthonormalize_takes_columns_of_any_size(dtype, size):
    frame = orthonormalize(size * torch.eye(3, 2, dtype=dtype))
    torch.testing.assert_close(frame.abs(), torch.eye(3, 2, dtype=dtype))


def test_an_array_that_is_no_tensor_is_named():
    with pytest.raises(ValueError, match="needs a torch tensor; got a ndarray"):
        orthonormalize(np.eye(3))
