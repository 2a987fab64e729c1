import numpy as np
import pytest
import torch

from flaggeo.alignment import interface_pair
from flaggeo.alignment.interfaces.ranks import (
    FIRST_RANK,
    POLYSTABILITY_DEFECT,
    PRODUCT_RANK,
    SECOND_RANK,
    UNREAD_DIMENSION,
)
from manifolds import intersection_dimension
from tests.flaggeo.alignment.builders import gaussian, gaussian_pair, moved, rotation

RANKS = (FIRST_RANK, SECOND_RANK, PRODUCT_RANK, UNREAD_DIMENSION)


def ranks(first, second):
    pair = interface_pair(first, second, 2)
    return tuple(int(observable.measure(pair)) for observable in RANKS)


def forced_pair(seed):
    """Shapes (n, d, p) = (5, 6, 4), rank W_1 = 3, of which W_2 is blind to one dimension."""
    first = gaussian(6, 3, seed=seed) @ gaussian(3, 5, seed=seed + 100)
    unread = first[:, :1] / first[:, :1].norm()
    return first, gaussian(4, 6, seed=seed + 200) @ (torch.eye(6, dtype=torch.float64) - unread @ unread.mT)


def ill_conditioned(seed):
    left, right = rotation(6, seed=seed), rotation(6, seed=seed + 1)
    return left @ torch.diag(torch.logspace(0, -2.9, 6, dtype=torch.float64)) @ right


@pytest.mark.parametrize("seed", range(20))
def test_forced_ranks_are_found_before_and_after_a_change_of_basis(seed):
    first, second = forced_pair(seed)
    assert ranks(first, second) == (3, 4, 2, 1)
    assert ranks(*moved(first, second, ill_conditioned(seed + 300))) == (3, 4, 2, 1)


def test_a_tolerance_relative_to_the_product_would_be_wrong():
    """What NumPy's default says of the product whose rank is 2, for one of these pairs at least."""
    products = [moved(*forced_pair(seed), ill_conditioned(seed + 300)) for seed in range(20)]
    assert any(np.linalg.matrix_rank((second @ first).numpy()) > 2 for first, second in products)


def test_the_row_space_overlap_of_an_aligned_pair_is_not_invariant_but_the_ranks_are():
    """W_2 reads exactly the 3 dimensions that W_1 writes; a shear leaves none of them, and the product whole."""
    frame = rotation(6, seed=1)[:, :3]
    first, second = frame @ gaussian(3, 4, seed=2), gaussian(4, 3, seed=3) @ frame.mT
    sheared = moved(first, second, ill_conditioned(4))

    def shared(first, second):
        spans = [torch.linalg.svd(columns).U[:, :3] for columns in (first, second.mT)]
        return int(intersection_dimension(*spans).dimension)

    assert (shared(first, second), shared(*sheared)) == (3, 0)
    assert ranks(first, second) == ranks(*sheared) == (3, 3, 3, 0)


def test_smallest_counterexample():
    g = torch.tensor([[1.0, 0], [1, 1]]).double()
    first, second = torch.tensor([[1.0], [0]]).double(), torch.tensor([[1.0, 0]]).double()
    assert ranks(first, second) == ranks(*moved(first, second, g)) == (1, 1, 1, 0)


def test_image_inside_the_kernel():
    """The closed orbit of (im W_1, ker W_2): nothing passes, and nothing is aligned."""
    frame = rotation(5, seed=5)
    first, second = frame[:, :2], frame[:, 2:].mT
    assert ranks(first, second) == (2, 3, 0, 2)
    assert int(POLYSTABILITY_DEFECT.measure(interface_pair(first, second, 2))) == 5


@pytest.mark.parametrize(("shape", "defect"), [((24, 16, 4), 12), ((5, 5, 5), 0), ((3, 8, 8), 0), ((8, 8, 3), 5)])
def test_defect_of_random_weights_is_its_null(shape, defect):
    pair = interface_pair(*gaussian_pair(*shape, seed=6), 2)
    assert int(POLYSTABILITY_DEFECT.measure(pair)) == defect
    for observable in (*RANKS, POLYSTABILITY_DEFECT):
        mean, spread = observable.null.law(pair)
        assert (float(mean), float(spread)) == (float(observable.measure(pair)), 0)


def test_tiny_singular_values_are_counted_down_to_rounding():
    left, right = rotation(6, seed=7), rotation(4, seed=8)
    values = torch.tensor([1.0, 1e-4, 1e-9, 1e-15]).double()
    assert ranks(left[:, :4] * values @ right.mT, gaussian(5, 6, seed=9))[0] == 3
