import numpy as np
import pytest
import torch

from flaggeo.alignment.pairs.intersection import ABOVE_EDGE, INTERSECTION_DIMENSION
from flaggeo.alignment.pairs.subspace_pair import SubspacePair
from flaggeo.numerics.spectrum import leading_spectrum
from manifolds import intersection_dimension, largest_cosine_edge, uniform_frame
from tests.builders import random_frame


@pytest.mark.parametrize("shared", range(4))
def test_a_planted_intersection_is_counted(shared):
    axes = random_frame(20, 20, seed=0)
    pair = SubspacePair(axes[:, :3], axes[:, 3 - shared : 7 - shared])
    assert INTERSECTION_DIMENSION.measure(pair) == shared
    assert ABOVE_EDGE.measure(pair) == shared
    assert intersection_dimension(pair.first, pair.second).dimension == shared


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_weights_that_share_directions_still_do_when_stored_in_fewer_digits(dtype):
    """Rounding turns a subspace by eps over its gap at most, which here is as large as the weight."""
    axes = random_frame(60, 60, seed=1)
    first, second = (axes[:, start : start + 4] @ random_frame(30, 4, seed=2 + start).mT for start in (0, 2))
    frames = [leading_spectrum(weight.to(dtype), 4).left for weight in (first, second)]
    exact = intersection_dimension(*frames)
    assert exact.dimension == 0  # to the rounding of the decomposition alone
    assert INTERSECTION_DIMENSION.measure(SubspacePair(*frames)) == 2


@pytest.mark.parametrize(("n", "r", "s"), [(6, 4, 5), (5, 3, 2), (40, 4, 4)])
def test_unrelated_subspaces_share_what_they_must(n, r, s):
    generator = torch.Generator().manual_seed(3)
    first, second = (uniform_frame(n, k, (50,), generator=generator, dtype=torch.float64) for k in (r, s))
    pair = SubspacePair(first, second)
    expected, spread = INTERSECTION_DIMENSION.null.law(pair)
    assert (INTERSECTION_DIMENSION.measure(pair) == expected).all()
    assert spread == 0


def test_an_invertible_map_keeps_it_for_two_readings_but_not_for_a_writing_and_a_reading():
    """What is written moves by g, what is read by its inverse transpose."""
    axes, g = random_frame(10, 10, seed=4), random_frame(10, 10, seed=5) + 2 * random_frame(10, 10, seed=6)
    first, second = axes[:, :3], axes[:, 1:4]

    def moved(one, other):
        return SubspacePair(torch.linalg.qr(one @ first).Q, torch.linalg.qr(other @ second).Q)

    assert INTERSECTION_DIMENSION.measure(moved(g, g)) == 2
    assert INTERSECTION_DIMENSION.measure(moved(g, g.inverse().mT)) == 0


def test_cosines_count_only_above_the_edge():
    edge = np.arccos(largest_cosine_edge(40, 2, 2))
    axes = random_frame(40, 40, seed=7)

    def at(*angles):
        turned = [np.cos(t) * axes[:, i] + np.sin(t) * axes[:, 2 + i] for i, t in enumerate(angles)]
        return SubspacePair(axes[:, :2], torch.stack(turned, dim=1))

    counts = [int(ABOVE_EDGE.measure(at(edge + a, edge + b))) for a, b in [(0.01, 0.01), (-0.01, 0.01), (-0.01, -0.1)]]
    assert counts == [0, 1, 2]


def test_nothing_lies_above_the_edge_of_subspaces_that_fill_the_space():
    whole = SubspacePair(torch.eye(4, dtype=torch.float64), random_frame(4, 2, seed=8))
    assert ABOVE_EDGE.measure(whole) == 0
    assert [float(moment) for moment in ABOVE_EDGE.null.law(whole)] == [0, 0]
