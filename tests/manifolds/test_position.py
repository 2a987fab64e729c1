import itertools
import math

import pytest
import torch

from manifolds.frames import orthonormalize
from manifolds.position import relative_position, schubert_position

from .builders import generator, hide, invertible, random_frame


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


FRAME = random_frame(6, 2, seed=1)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"one basis \[n, n\]"):
        schubert_position(FRAME, FRAME)
    with pytest.raises(ValueError, match=r"with 2 and 3 columns"):
        relative_position(FRAME, FRAME, (1, 2), (1, 3))


def test_a_schubert_position_with_no_tolerance_at_all():
    axes = torch.eye(4, dtype=torch.float64)
    position = schubert_position(axes[:, [0, 2]], axes, tolerance=0.0)
    assert position.symbol == (1, 3)
    assert position.gap == float("inf")
