import numpy as np
import pytest
import torch

from flaggeo.alignment.depth.cosines import ABS_COSINE, LEADING_OVERLAP
from flaggeo.alignment.depth.layer_pair import even_sides, layer_chains, unless_forced
from flaggeo.alignment.table import measured
from flaggeo.network import Side
from tests.builders import chain_of, random_frame
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
