import numpy as np
import pytest
import torch

from flaggeo.alignment.depth.continuity_table import LAYER_OBSERVABLES
from flaggeo.alignment.depth.cosines import ABS_COSINE, LEADING_OVERLAP
from flaggeo.alignment.depth.layer_pair import LayerPair, even_sides, layer_chains, stacked, unless_forced
from flaggeo.alignment.table import measured
from flaggeo.network import Side
from flaggeo.numerics.spectrum import leading_spectrum
from tests.builders import chain_of, planted, random_frame
from tests.flaggeo.alignment.builders import gaussian, layer_pair


def test_products_are_those_of_all_singular_vectors_of_one_side():
    first, second = gaussian(9, 7, seed=0), gaussian(9, 6, seed=1)
    pair = layer_pair(first, second, Side.WRITE, rank=5)
    left, right = (torch.linalg.svd(matrix).U[:, :5] for matrix in (first, second))
    torch.testing.assert_close(pair.products.abs(), (left.mT @ right).abs())
    assert (pair.ranks, pair.dim) == ((5, 5), 9)


def test_sign_flips_are_those_of_the_first_directions_and_undefined_without_them():
    pair = layer_pair(gaussian(9, 7, seed=2), gaussian(9, 7, seed=3))
    first, second = (spectrum.right[:, 0] for spectrum in (pair.earlier, pair.later))
    signs = 2.0 * torch.randint(0, 2, (50_000, 7), generator=torch.Generator().manual_seed(0)) - 1
    drawn = (signs.double() @ (first * second)).abs()
    mean, p_value, floor = map(float, pair.sign_flips)
    assert mean == pytest.approx(float(drawn.mean()), abs=5 * float(drawn.std()) / 50_000**0.5)
    share = float((drawn >= float(pair.cosines[0]) - 1e-6).double().mean())
    assert p_value == pytest.approx(share, abs=0.01)
    assert floor == pytest.approx(2**-6)  # of 7 coordinates
    assert all(np.isnan(float(found)) for found in layer_pair(torch.zeros(9, 7), gaussian(9, 7, seed=4)).sign_flips)


def test_a_number_that_can_have_one_value_only_is_left_out():
    """4 directions of a space of 4 dimensions are all of it, and their first one is still free."""
    pair = layer_pair(random_frame(6, 4, seed=5), random_frame(6, 4, seed=6))
    columns = measured((ABS_COSINE, LEADING_OVERLAP), pair)
    kept = unless_forced((ABS_COSINE, LEADING_OVERLAP), columns)
    assert columns["overlap"] == pytest.approx(1)
    assert np.isnan(kept["overlap"])
    assert kept["overlap_null_mean"] == 1
    assert kept["abs_cos_1"] == columns["abs_cos_1"]


def test_chains_stand_in_order_of_depth_and_even_sides_have_one_width_above_1():
    weights, _ = chain_of([torch.ones(rows, 6) for rows in (4, 5, 4)])
    [(role, chain)] = layer_chains(reversed(weights)).items()
    assert (role, [weight.layer for weight in chain]) == ("up", [0, 1, 2])
    assert [side for side, _ in even_sides(weights)] == [Side.READ]
    assert [side for side, _ in even_sides(chain_of([torch.ones(1, 6)] * 2)[0])] == [Side.READ]
    assert list(even_sides(weights[:1])) == []


def test_a_batch_of_layer_pairs_is_measured_as_each_of_them():
    """Also where a first value is not alone, so that the leading blocks of a batch differ."""
    values = [[9.0, 5, 3, 1], [9.0, 8.99, 3, 1], [9.0, 8.99, 8.98, 8.97], [4.0, 2, 1.999, 1]]
    first, second = (
        [planted(row, 20, 30, seed=seed + 9 * end)[0] for seed, row in enumerate(values)] for end in (0, 1)
    )
    spectra = [[leading_spectrum(matrix, 4) for matrix in end] for end in (first, second)]
    for side in Side:
        batch = measured(LAYER_OBSERVABLES, LayerPair(*map(stacked, spectra), side))
        each = [measured(LAYER_OBSERVABLES, LayerPair(*both, side)) for both in zip(*spectra, strict=True)]
        for name, column in batch.items():
            expected = [float(columns[name]) for columns in each]
            np.testing.assert_allclose(np.broadcast_to(column, 4), expected, rtol=1e-12, atol=1e-15, err_msg=name)
