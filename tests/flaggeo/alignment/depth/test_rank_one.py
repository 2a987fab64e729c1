from dataclasses import replace

import numpy as np
import pytest
import torch

from flaggeo.alignment.depth.layer_pair import LayerPair
from flaggeo.alignment.depth.rank_one import SIGNED_RANK_ONE
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from tests.builders import random_frame
from tests.flaggeo.alignment.builders import gaussian, layer_pair


def measured(first, second, side=Side.READ):
    return float(SIGNED_RANK_ONE.measure(layer_pair(first, second, side, rank=3)))


def test_the_same_weight_gives_one_and_its_negative_minus_one():
    matrix = gaussian(8, 12, seed=0)
    assert measured(matrix, 3 * matrix) == pytest.approx(1)
    assert measured(matrix, -matrix) == pytest.approx(-1)


def test_it_is_the_inner_product_of_the_rank_one_parts_on_either_side():
    first, second = gaussian(8, 12, seed=1), gaussian(8, 12, seed=2)
    parts = [torch.outer(u[:, 0], vh[0]) for u, _, vh in map(torch.linalg.svd, (first, second))]
    for side in Side:
        assert measured(first, second, side) == pytest.approx(float((parts[0] * parts[1]).sum()), abs=1e-10)


def test_signs_given_to_a_pair_of_vectors_do_not_matter_and_one_alone_does():
    first, second = (leading_spectrum(gaussian(8, 12, seed=seed), 3) for seed in (3, 4))
    plain = float(SIGNED_RANK_ONE.measure(LayerPair(first, second, Side.READ)))
    both = replace(first, left=-first.left, right=-first.right)
    one = replace(first, left=-first.left)
    assert float(SIGNED_RANK_ONE.measure(LayerPair(both, second, Side.READ))) == pytest.approx(plain)
    assert float(SIGNED_RANK_ONE.measure(LayerPair(one, second, Side.READ))) == pytest.approx(-plain)


def test_rotations_of_both_spaces_change_nothing_and_a_shear_does():
    first, second = gaussian(8, 12, seed=5), gaussian(8, 12, seed=6)
    p, q, shear = random_frame(8, 8, seed=7), random_frame(12, 12, seed=8), torch.eye(12, dtype=torch.float64)
    shear[0, 1] = 3
    plain = measured(first, second)
    assert measured(p @ first @ q, p @ second @ q) == pytest.approx(plain, abs=1e-10)
    assert measured(first @ shear, second @ shear) != pytest.approx(plain, abs=1e-4)


def test_random_weights_stand_at_the_null():
    spectra = [leading_spectrum(gaussian(8, 12, seed=seed), 1) for seed in range(200)]
    pairs = [LayerPair(a, b, Side.READ) for a, b in zip(spectra[::2], spectra[1::2], strict=True)]
    found = np.array([float(SIGNED_RANK_ONE.measure(pair)) for pair in pairs])
    mean, spread = map(float, SIGNED_RANK_ONE.null.law(pairs[0]))
    assert (mean, spread) == pytest.approx((0, 96**-0.5))
    assert abs(found.mean()) < 4 * spread / np.sqrt(len(found))
    # The square of a product of cosines has a kurtosis near 9.
    assert np.mean(found**2) == pytest.approx(spread**2, rel=4 * np.sqrt(8 / len(found)))


def test_zero_weights_and_weights_of_different_shape_are_undefined():
    assert np.isnan(measured(torch.zeros(8, 12), gaussian(8, 12, seed=9)))
    pair = layer_pair(gaussian(8, 12, seed=10), gaussian(9, 12, seed=11), rank=3)
    assert np.isnan(float(SIGNED_RANK_ONE.measure(pair)))
    assert np.isnan(float(SIGNED_RANK_ONE.null.law(pair)[1]))
