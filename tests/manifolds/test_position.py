import itertools
import math

import pytest
import torch

from manifolds.frames import orthonormalize, require_frame, same_span
from manifolds.position import (
    contains,
    intersection_dimension,
    relative_position,
    schubert_position,
    singular_subspace_error,
    subspace_intersection,
    subspace_sum,
)

from .builders import generator, hide, planted_pair, random_frame


def invertible(n, *, seed):
    """A general linear map of condition number below 20."""
    left, right = random_frame(n, n, seed=seed), random_frame(n, n, seed=seed + 1)
    return left * torch.linspace(1, 10, n, dtype=torch.float64) @ right


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


def test_relative_position_recovers_every_permutation():
    """Complete flags of axes: the double coset is the permutation matrix, whatever linear map hides it."""
    axes, shear = torch.eye(4, dtype=torch.float64), invertible(4, seed=5)
    dims = (1, 2, 3)
    for permutation in itertools.permutations(range(4)):
        first, second = orthonormalize(shear @ axes), orthonormalize(shear @ axes[:, list(permutation)])
        found = relative_position(first[:, :3], second[:, :3], dims, dims)
        expected = torch.tensor([[int(permutation[j] == i) for j in range(4)] for i in range(4)])
        assert torch.equal(found.double_coset, expected)
        assert bool(found.is_generic()) is bool(found.is_opposite()) is (permutation == (3, 2, 1, 0))
        assert float(found.gap) > 1e6


def test_relative_position_of_partial_flags():
    axes = random_frame(8, 8, seed=1)
    first, second = axes[:, :5], axes[:, [0, 1, 6, 2, 7, 3]]
    first, second = hide(first, (2, 5), seed=2), hide(second, (1, 3, 6), seed=3)
    found = relative_position(first, second, (2, 5), (1, 3, 6))
    assert found.intersections.tolist() == [[1, 2, 2, 2], [1, 2, 4, 5], [1, 3, 6, 8]]
    assert found.double_coset.sum(dim=1).tolist() == [2, 3, 3]
    assert found.double_coset.sum(dim=0).tolist() == [1, 2, 3, 2]
    assert not bool(found.is_generic())


def test_random_flags_are_generic_and_opposite_when_complementary():
    first, second = random_frame(7, 5, seed=1, batch=(3,)), random_frame(7, 6, seed=2, batch=(3,))
    found = relative_position(first, second, (2, 5), (3, 6))
    assert found.intersections.shape == (3, 3, 3)
    assert bool(found.is_generic().all())
    assert not bool(found.is_opposite().any())
    assert bool(relative_position(first, second[..., :5], (2, 5), (2, 5)).is_opposite().all())


def test_contradicting_decisions_are_refused():
    """Each line is within the tolerance of the other plane but not of the other line; the planes share one line."""
    axes, cosine, sine = torch.eye(4, dtype=torch.float64), math.cos(0.08), math.sin(0.08)
    first = torch.stack([cosine * axes[0] + sine * axes[1], cosine * axes[1] - sine * axes[0]], dim=1)
    second = torch.stack([cosine * axes[0] + sine * axes[2], cosine * axes[2] - sine * axes[0]], dim=1)
    with pytest.raises(ValueError, match="contradict each other"):
        relative_position(first, second, (1, 2), (1, 2), tolerance=0.1)
    assert relative_position(first, second, (1, 2), (1, 2)).intersections[1, 1] == 1


@pytest.mark.parametrize("jumps", [(1, 2, 3), (1, 3, 6), (4, 5, 6), (2, 4, 5)])
def test_schubert_symbol_is_constant_on_its_cell(jumps):
    """Vectors that start at the jumps and have anything above: the columns of a reduced echelon form."""
    n, k = 6, 3
    flag = random_frame(n, n, seed=1)
    for seed in range(3):
        columns = torch.zeros(n, k, dtype=torch.float64)
        for column, jump in enumerate(jumps):
            columns[: jump - 1, column] = torch.randn(jump - 1, generator=generator(seed + column), dtype=torch.float64)
            columns[jump - 1, column] = 1
        subspace = orthonormalize(flag @ columns @ random_frame(k, k, seed=seed))
        found = schubert_position(subspace, flag)
        assert found.symbol == jumps
        assert found.partition == tuple(n - k + i - jump for i, jump in enumerate(jumps, start=1))
        assert found.intersections[-1] == k
        assert found.gap > 1e6


def test_generic_subspaces_have_the_zero_partition():
    assert schubert_position(random_frame(7, 3, seed=1), random_frame(7, 7, seed=2)).partition == (0, 0, 0)


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


FRAME = random_frame(6, 2, seed=1)


@pytest.mark.parametrize("tolerance", [-1e-3, 1.0, float("nan")])
def test_tolerances_out_of_range_are_refused(tolerance):
    for call in (intersection_dimension, subspace_sum, subspace_intersection, contains):
        with pytest.raises(ValueError, match=r"tolerance for sines in \[0, 1\)"):
            call(FRAME, FRAME, tolerance)


def test_shapes_that_do_not_fit_are_refused():
    batch = random_frame(6, 2, seed=1, batch=(2,))
    with pytest.raises(ValueError, match="got shapes"):
        subspace_sum(batch, FRAME)
    with pytest.raises(ValueError, match="got shapes"):
        subspace_intersection(FRAME, batch)
    with pytest.raises(ValueError, match=r"one basis \[n, n\]"):
        schubert_position(FRAME, FRAME)
    with pytest.raises(ValueError, match=r"with 2 and 3 columns"):
        relative_position(FRAME, FRAME, (1, 2), (1, 3))
