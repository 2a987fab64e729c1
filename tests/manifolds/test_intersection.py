import pytest
import torch

from manifolds.checks import require_frame
from manifolds.frames import orthonormalize, same_span
from manifolds.intersection import (
    contains,
    intersection_dimension,
    singular_subspace_error,
    subspace_intersection,
    subspace_sum,
)

from .builders import invertible, planted_pair, random_frame

FRAME = random_frame(6, 2, seed=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("a", "b", "shared"), [(4, 4, 0), (4, 4, 2), (4, 4, 4), (6, 3, 2), (3, 6, 3), (8, 7, 5)])
def test_planted_intersections_are_found(a, b, shared, dtype):
    axes = random_frame(10, 10, seed=1)
    first = (axes[:, :a] @ random_frame(a, a, seed=2)).to(dtype)
    second = (axes[:, a - shared : a - shared + b] @ random_frame(b, b, seed=3)).to(dtype)
    found = intersection_dimension(first, second)
    assert int(found.dimension) == shared
    assert float(found.largest_zero) <= found.tolerance < float(found.smallest_nonzero)
    assert float(found.smallest_nonzero) > 0.99


def test_the_gap_stands_beside_the_answer():
    first, second = planted_pair(30, [1e-14, 1e-9, 1e-3, 1.0], seed=4)
    strict, loose = intersection_dimension(first, second), intersection_dimension(first, second, tolerance=1e-6)
    assert int(strict.dimension) == 1
    assert float(strict.smallest_nonzero) == pytest.approx(1e-9, rel=1e-4)
    assert int(loose.dimension) == 2
    assert float(loose.largest_zero) == pytest.approx(1e-9, rel=1e-4)
    assert float(loose.smallest_nonzero) == pytest.approx(1e-3, rel=1e-4)


def test_intersection_dimension_is_unchanged_by_linear_maps_and_angles_are_not():
    axes, shear = random_frame(9, 9, seed=1), invertible(9, seed=2)
    first, second = axes[:, :4], axes[:, 2:7]
    moved = orthonormalize(shear @ first), orthonormalize(shear @ second)
    assert int(intersection_dimension(*moved).dimension) == int(intersection_dimension(first, second).dimension) == 2
    # A linear functional transforms by the inverse transpose: mixing the two kinds changes the answer.
    mixed = orthonormalize(shear @ first), orthonormalize(torch.linalg.inv(shear).mT @ second)
    assert int(intersection_dimension(*mixed).dimension) == 0


def test_tolerance_of_singular_subspaces_covers_their_error():
    """The same leading subspace from a matrix and from its transpose's factorization in single precision."""
    values = torch.tensor([5.0, 4.0, 1.0, 0.99, 0.5], dtype=torch.float64)
    left, right = random_frame(40, 5, seed=1), random_frame(30, 5, seed=2)
    matrix = (left * values @ right.mT).float()
    computed, singular_values, _ = torch.linalg.svd(matrix, full_matrices=False)
    for rank in (2, 3, 4):
        error = singular_subspace_error(singular_values, rank, (40, 30))
        sine = torch.linalg.matrix_norm(computed[:, rank:].double().mT @ left[:, :rank], ord=2)
        assert float(sine) <= float(error) < 0.1
    assert singular_subspace_error(singular_values, 3, (40, 30)) > 50 * singular_subspace_error(
        singular_values, 2, (40, 30)
    )


def test_undetermined_subspaces_are_refused():
    values = torch.tensor([2.0, 1.0, 1.0, 0.5])
    with pytest.raises(ValueError, match=r"leading 2 directions are undetermined"):
        singular_subspace_error(values, 2, (4, 4))
    with pytest.raises(ValueError, match=r"rank from 1 to 4; got 5"):
        singular_subspace_error(values, 5, (4, 4))
    with pytest.raises(ValueError, match="undetermined"):
        singular_subspace_error(torch.zeros(3), 1, (4, 3))


@pytest.mark.parametrize(("a", "b", "shared"), [(4, 4, 0), (4, 4, 2), (3, 5, 3), (5, 2, 1)])
def test_sum_and_intersection_have_the_planted_bases(a, b, shared):
    axes = random_frame(10, 10, seed=1)
    first = axes[:, :a] @ random_frame(a, a, seed=2)
    second = axes[:, a - shared : a - shared + b] @ random_frame(b, b, seed=3)
    both, common = subspace_sum(first, second), subspace_intersection(first, second)
    assert both.shape == (10, a + b - shared)
    assert common.shape == (10, shared)
    assert bool(same_span(both, axes[:, : a + b - shared]))
    if shared:
        require_frame(common, "intersection")
        assert bool(same_span(common, axes[:, a - shared : a]))
    for part in (first, second):
        assert bool(contains(both, part))
        assert bool(contains(part, common))
    assert bool(contains(first, second)) is (shared == b)


def test_containment_of_batches():
    axes = random_frame(6, 4, seed=1, batch=(2, 3))
    assert contains(axes, axes[..., :2]).shape == (2, 3)
    assert bool(contains(axes, axes[..., :2]).all())
    assert not bool(contains(axes[..., :2], axes).any())


@pytest.mark.parametrize("tolerance", [-1e-3, 1.0, float("nan")])
def test_tolerances_out_of_range_are_refused(tolerance):
    for call in (intersection_dimension, subspace_sum, subspace_intersection, contains):
        with pytest.raises(ValueError, match=r"tolerance for sines in \[0, 1\)"):
            call(FRAME, FRAME, tolerance)


def test_batches_have_no_one_width():
    batch = random_frame(6, 2, seed=1, batch=(2,))
    with pytest.raises(ValueError, match="got shapes"):
        subspace_sum(batch, FRAME)
    with pytest.raises(ValueError, match="got shapes"):
        subspace_intersection(FRAME, batch)


@pytest.mark.parametrize("tiny", [1e-12, 1e-8])
def test_the_sum_is_a_frame_also_where_an_angle_is_tiny(tiny):
    """The left vector of a tiny sine is orthogonal to the wider subspace only after it is cut off again."""
    axes = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).Q
    first = axes[:, :2]
    angles = torch.tensor([tiny, 1.0], dtype=torch.float64)
    second = axes[:, :2] * angles.cos() + axes[:, 2:4] * angles.sin()
    total = subspace_sum(first, second, tolerance=tiny / 10)
    assert total.shape == (8, 4)
    require_frame(total, "total")
    assert bool(contains(total, second))
