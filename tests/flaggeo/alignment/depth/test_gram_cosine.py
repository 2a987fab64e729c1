import math

import numpy as np
import pytest
import torch

from flaggeo.alignment.depth.gram_cosine import CENTRED_GRAM_COSINE, GRAM_COSINE, GramPair, gram_cosines, gram_matrix
from flaggeo.network import Side
from manifolds import uniform_frame
from tests.builders import planted, random_frame
from tests.flaggeo.alignment.builders import gaussian

BOTH = pytest.mark.parametrize(
    "observable", [GRAM_COSINE, CENTRED_GRAM_COSINE], ids=lambda observable: observable.column
)


def compared(first, second, side=Side.READ):
    return gram_cosines(gram_matrix(first, side), gram_matrix(second, side))


@pytest.mark.parametrize("side", Side)
def test_against_the_definition(side):
    first, second = gaussian(9, 7, seed=0).numpy(), gaussian(9, 7, seed=1).numpy()
    a, b = (w.T @ w if side is Side.READ else w @ w.T for w in (first, second))
    a0, b0 = (gram - np.trace(gram) / len(gram) * np.eye(len(gram)) for gram in (a, b))
    found = compared(torch.from_numpy(first), torch.from_numpy(second), side)
    assert found["gram_cosine"] == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))
    assert found["centred_gram_cosine"] == pytest.approx((a0 * b0).sum() / np.linalg.norm(a0) / np.linalg.norm(b0))
    null = np.trace(a) * np.trace(b) / len(a) / np.linalg.norm(a) / np.linalg.norm(b)
    assert found["gram_cosine_null_mean"] == pytest.approx(null)


def test_diagonal_grams_by_hand():
    """Spectra (2, 1, 1) in two orders: inner product 5 of norms 6; centred (2, -1, -1)/3 gives -1/2."""
    first, second = torch.diag(torch.tensor([2.0, 1, 1])), torch.diag(torch.tensor([1.0, 2, 1]))
    found = gram_cosines(first, second)
    assert found["gram_cosine"] == pytest.approx(5 / 6)
    assert found["centred_gram_cosine"] == pytest.approx(-1 / 2)
    assert found["gram_cosine_null_mean"] == pytest.approx(16 / 18)
    assert found["centred_gram_cosine_null_sd"] == pytest.approx(math.sqrt(2 / (2 * 5)))


def test_equal_right_singular_vectors_and_relative_values_are_parallel():
    matrix, _, right = planted([5.0, 3.0, 2.0], 20, 30, seed=0)
    other = (random_frame(20, 3, seed=9) * torch.tensor([10.0, 6.0, 4.0])) @ right.mT
    assert compared(matrix, other)["gram_cosine"] == pytest.approx(1)
    assert compared(matrix, other)["centred_gram_cosine"] == pytest.approx(1)
    assert compared(matrix, other, Side.WRITE)["centred_gram_cosine"] < 0.9


@BOTH
def test_scales_and_rotations_change_nothing_and_scalings_of_coordinates_do(observable):
    first, second = gaussian(9, 7, seed=2), gaussian(9, 7, seed=3)
    turn, other, scales = random_frame(7, 7, seed=4), random_frame(9, 9, seed=5), torch.linspace(1, 4, 7)
    value = observable.column
    plain = compared(first, second)[value]
    assert compared(2 * other @ first @ turn, second @ turn)[value] == pytest.approx(plain, abs=1e-12)
    assert compared(first @ turn, second)[value] != pytest.approx(plain, abs=1e-3)
    assert compared(first * scales, second * scales)[value] != pytest.approx(plain, abs=1e-3)


def test_a_rotation_inside_equal_singular_values_is_not_seen():
    """Single vectors are free to turn there; the Gram matrix does not move."""
    matrix, left, right = planted([5.0, 5.0, 2.0], 20, 30, seed=0)
    turn = torch.eye(3, dtype=torch.float64)
    turn[:2, :2] = torch.tensor([[0.6, -0.8], [0.8, 0.6]])
    turned = (left * torch.tensor([5.0, 5.0, 2.0])) @ (right @ turn).mT
    assert compared(matrix, turned)["centred_gram_cosine"] == pytest.approx(1)


@BOTH
def test_the_null_is_that_of_uniform_orientations(observable):
    draws, n = 20_000, 6
    turns = uniform_frame(n, n, (draws,), generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    fixed, spectrum = gram_matrix(gaussian(4, n, seed=7), Side.READ), torch.linspace(0, 1, n, dtype=torch.float64)
    pairs = GramPair(fixed.expand(draws, n, n), (turns * spectrum) @ turns.mT)
    found = observable.measure(pairs)
    mean, spread = (float(moment[0]) for moment in observable.null.law(pairs))
    assert abs(float(found.mean()) - mean) < 4 * spread / draws**0.5
    assert float(found.std()) == pytest.approx(spread, rel=0.03)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 1e-18, 1e18])
def test_single_precision_suffices(dtype, scale):
    """One loud channel, and weights whose fourth powers leave the range of float32."""
    first, second = ((gaussian(300, 200, seed=seed) * scale).to(dtype) for seed in (8, 9))
    first[:, 3] *= 20
    second[:, 3] *= 20
    single, double = compared(first, second), compared(first.double(), second.double())
    assert single["gram_cosine"] == pytest.approx(double["gram_cosine"], abs=2e-6)
    assert single["centred_gram_cosine"] == pytest.approx(double["centred_gram_cosine"], abs=2e-6)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (torch.zeros(4, 6), torch.ones(4, 6)),
        (torch.ones(5, 1), torch.ones(5, 1)),
        (torch.eye(6), torch.ones(6, 6)),
        (random_frame(200, 40, seed=10, dtype=torch.float32), random_frame(200, 40, seed=11, dtype=torch.float32)),
    ],
    ids=["zero", "one dimension", "identity", "orthonormal columns"],
)
def test_weights_that_leave_no_choice_are_undefined_not_one(first, second):
    found = compared(first, second)
    assert np.isnan([found["gram_cosine"], found["centred_gram_cosine"]]).all()


def test_weights_of_rank_one_compare_as_their_direction():
    first, second = torch.outer(gaussian(4, 1, seed=12)[:, 0], torch.eye(6)[0].double()), torch.zeros(4, 6).double()
    second[:, 0], second[:, 1] = 0.6, 0.8
    assert compared(first, second)["gram_cosine"] == pytest.approx(0.36)


def test_grams_of_different_size_are_refused():
    with pytest.raises(ValueError, match=r"got shapes \(3, 3\) and \(4, 4\)"):
        gram_cosines(torch.eye(3), torch.eye(4))
