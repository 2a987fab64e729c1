"""Continuity of stacked weights: planted directions, and agreement with what the analysis measures."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from flaggeo.numerics.spectrum import leading_spectrum
from flaggeo.training.continuity import continuity, drift, read_agreement, update_ratio
from manifolds import abs_cosine_moments


def gaussian(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(12, 12), (20, 12), (10, 16)])
def test_it_is_what_the_spectra_of_the_analysis_give(shape):
    weights = gaussian(2, 4, *shape)
    found = continuity(weights)
    for run in range(2):
        spectra = [leading_spectrum(weight, 8) for weight in weights[run]]
        for name, frames in (("read", [one.right for one in spectra]), ("write", [one.left for one in spectra])):
            pairs = list(pairwise(frames))
            for index, number in ((0, name), (1, f"{name}_second")):
                expected = np.mean([abs(float(one[:, index] @ other[:, index])) for one, other in pairs])
                assert getattr(found, number)[run].item() == pytest.approx(expected)
            overlaps = [float((one.mT @ other).square().sum()) / 8 for one, other in pairs]
            assert getattr(found, f"{name}_overlap")[run].item() == pytest.approx(np.mean(overlaps))


def test_a_planted_direction_is_found_on_its_side_alone():
    shared = gaussian(16)
    layers = [5 * torch.outer(gaussian(16, seed=one), shared) + gaussian(16, 16, seed=50 + one) for one in range(30)]
    found = continuity(torch.stack(layers)[None])
    mean, spread = abs_cosine_moments(16)
    assert found.read > 0.99
    assert abs(found.write.item() - mean) < 4 * spread / 29**0.5


def test_a_zero_matrix_has_no_continuity():
    weights = gaussian(2, 3, 5, 5)
    weights[1, 1] = 0
    found = continuity(weights)
    assert found.read.isfinite().tolist() == [True, False]
    assert found.read_overlap.isfinite().tolist() == [True, False]


def test_drift_is_the_planted_angle():
    angle = torch.tensor(30.0, dtype=torch.float64).deg2rad()
    turned = torch.tensor([[angle.cos(), angle.sin()], [0, 0]], dtype=torch.float64)
    reference = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    assert drift(-turned.expand(1, 2, 2, 2), reference.expand(1, 2, 2, 2)).item() == pytest.approx(30)


def test_update_ratio_is_that_of_norms():
    first = gaussian(1, 3, 4, 4)
    assert update_ratio(1.5 * first, first).item() == pytest.approx(0.5)


def test_a_run_that_diverged_is_undefined_and_the_others_are_not():
    weights = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    weights[1, 1, 0, 0] = torch.inf
    found = continuity(weights)
    assert found.read.isnan().tolist() == [False, True]
    assert drift(weights, weights).isnan().tolist() == [False, True]


def test_agreement_of_planted_directions():
    """cos 30 degrees in one layer, the same direction with the other sign in the next."""
    one = torch.zeros(1, 2, 3, 3, dtype=torch.float64)
    one[0, :, 0, 0] = 2
    other = torch.zeros_like(one)
    other[0, 0, 1, :2] = torch.tensor([3**0.5 / 2, 0.5])
    other[0, 1, 2, 0] = -1
    assert read_agreement(one, other).item() == pytest.approx((3**0.5 / 2 + 1) / 2)
    assert drift(one, other).item() == pytest.approx(15)
    assert read_agreement(one, 0 * other).isnan().all()
