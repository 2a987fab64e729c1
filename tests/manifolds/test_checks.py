import math

import numpy as np
import pytest
import torch

from manifolds import Grassmannian, flag_pca, from_projector, principal_angles, select_dims
from manifolds.checks import require_dims, require_frame, require_pair

from .builders import random_frame


@pytest.mark.parametrize(
    "candidate",
    [
        torch.eye(3)[:, :2] * 1.001,
        torch.tensor([[1.0, 1.0], [0.0, 0.0]]),
        torch.full((3, 2), math.nan),
        torch.eye(2, 3),
        torch.eye(3, dtype=torch.int64),
    ],
    ids=["scaled", "parallel", "NaN", "too wide", "integers"],
)
def test_require_frame_refuses(candidate):
    with pytest.raises(ValueError, match="the candidate"):
        require_frame(candidate, "the candidate")


def test_require_frame_accepts_what_qr_returns():
    for dtype in (torch.float32, torch.float64):
        require_frame(random_frame(300, 40, seed=9, dtype=dtype), "frame")


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (random_frame(5, 2, seed=1), r"dimension 6 and dimension 5"),
        (random_frame(6, 2, seed=1, dtype=torch.float32), r"float64 on cpu and second torch.float32"),
        (torch.empty(6, 2, dtype=torch.float64, device="meta"), r"on cpu and second torch.float64 on meta"),
        (random_frame(6, 2, seed=1, batch=(3,)), r"batch axes"),
        (random_frame(6, 2, seed=1)[:, :0], r"dimension at least 1"),
        (torch.ones(6, dtype=torch.float64), r"shape \(6,\)"),
    ],
)
def test_frames_that_cannot_be_compared_are_refused(second, message):
    with pytest.raises(ValueError, match=message):
        require_pair(random_frame(6, 2, seed=0, batch=(2,)), second, "the caller")


@pytest.mark.parametrize("dims", [(), (0,), (2, 2), (3, 1), (1, 4), (5,)])
def test_dims_that_are_no_flag_are_refused(dims):
    with pytest.raises(ValueError, match=r"increase strictly between 1 and n - 1 = 3"):
        require_dims(dims, 4)


@pytest.mark.parametrize(
    "called",
    [
        lambda array: principal_angles(array, array),
        lambda array: flag_pca(array),
        lambda array: select_dims(array[:, 0], 10),
        lambda array: from_projector(array @ array.T, 2),
        lambda array: Grassmannian(4, 2).belongs(array),
    ],
)
def test_an_array_of_numpy_is_refused_with_a_way_out(called):
    with pytest.raises(ValueError, match=r"needs a torch tensor; got a ndarray: torch\.as_tensor"):
        called(np.eye(4)[:, :2])


def test_half_precision_is_refused_with_a_way_out():
    half = torch.eye(4)[:, :2].half()
    with pytest.raises(ValueError, match=r"float16: \.float\(\)"):
        principal_angles(half, half)
