import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flaggeo.alignment import interface_pair
from flaggeo.alignment.interfaces.interface_table import INTERFACE_OBSERVABLES
from flaggeo.alignment.interfaces.leading_directions import LEADING_OBSERVABLES
from flaggeo.network import Symmetry
from tests.flaggeo.alignment.builders import (
    gaussian,
    gaussian_pair,
    grams,
    measured,
    moved,
    part_of,
    positive_diagonal,
    rotation,
    signed_permutation,
)

SHAPES = [(24, 16, 4), (7, 20, 15), (6, 4, 20), (5, 5, 5), (1, 3, 2), (8, 1, 1), (4, 3, 1)]
#: One element of each group; SCALED_PERMUTATION and ORTHOGONAL contain PERMUTATION, GENERAL_LINEAR all.
ELEMENTS = {
    Symmetry.PERMUTATION: signed_permutation,
    Symmetry.ORTHOGONAL: rotation,
    Symmetry.SCALED_PERMUTATION: positive_diagonal,
    Symmetry.GENERAL_LINEAR: lambda d, seed: rotation(d, seed=seed) @ positive_diagonal(d, seed=seed + 1),
}
OBSERVABLES = (*INTERFACE_OBSERVABLES, *LEADING_OBSERVABLES)
by_name = pytest.mark.parametrize("observable", OBSERVABLES, ids=lambda observable: observable.column)


@pytest.mark.parametrize("shape", SHAPES)
def test_small_matrices_stand_for_the_large_ones(shape):
    first, second = gaussian_pair(*shape, seed=0)
    a, b = grams(first, second)
    pair = interface_pair(first, second, rank=3)
    d = shape[0]
    assert float(pair.commutator_norm) == pytest.approx(
        float((a @ b - b @ a).norm()), abs=1e-7 * float(a.norm() * b.norm())
    )
    for factor, gram in ((pair.first, a), (pair.second, b)):
        assert float(factor.square_norm) == pytest.approx(float(gram.trace()))
        assert float(factor.gram_norm) == pytest.approx(float(gram.norm()))
        traceless = gram - gram.trace() / d * torch.eye(d, dtype=torch.float64)
        assert float(factor.traceless_norm) == pytest.approx(float(traceless.norm()), abs=1e-12)
        torch.testing.assert_close(factor.diagonal, gram.diagonal())
        values, vectors = torch.linalg.eigh(gram)
        torch.testing.assert_close(factor.singular_values, values.flip(0)[: factor.columns.shape[1]].sqrt())
        top = vectors[:, -pair.rank :]
        torch.testing.assert_close(factor.frame @ factor.frame.mT, top @ top.mT)
    torch.testing.assert_close(pair.product_values, torch.linalg.svdvals(second @ first)[: len(pair.product_values)])


@settings(max_examples=20)
@given(d=st.integers(1, 9), n=st.integers(1, 9), p=st.integers(1, 9), low=st.integers(1, 9), seed=st.integers(0, 10**6))
def test_what_is_declared_invariant_is_unchanged_by_every_group_in_it(d, n, p, low, seed):
    """For weights of any shape and rank; NaN stays NaN."""
    first = gaussian(d, low, seed=seed) @ gaussian(low, n, seed=seed + 1)
    second = gaussian(p, d, seed=seed + 2)
    before = interface_pair(first, second, 4)
    for symmetry, element in ELEMENTS.items():
        after = interface_pair(*moved(first, second, element(d, seed=seed + 3)), 4)
        for observable in OBSERVABLES:
            if observable.is_basis_independent(symmetry):
                found, expected = (observable.measure(part_of(observable, pair)) for pair in (after, before))
                torch.testing.assert_close(
                    found, expected, rtol=1e-4, atol=1e-4, equal_nan=True, msg=f"{observable.column}, {symmetry}"
                )


@by_name
def test_a_common_scale_and_rotations_of_input_and_output_change_nothing(observable):
    first, second = gaussian_pair(9, 7, 6, seed=5)
    before = measured(observable, first, second)
    after = measured(observable, 3 * first @ rotation(7, seed=1), 3 * rotation(6, seed=2) @ second)
    torch.testing.assert_close(after, before, rtol=1e-6, atol=1e-6)


@by_name
def test_a_batch_is_a_loop_and_leading_axes_broadcast(observable):
    first, second = gaussian(3, 2, 6, 9, seed=6), gaussian(2, 5, 6, seed=7)
    first[0, 0, :, 3:] = 0  # one of lower rank
    together = measured(observable, first, second)
    assert together.shape == (3, 2)
    alone = torch.stack(
        [torch.stack([measured(observable, first[i, j], second[j]) for j in range(2)]) for i in range(3)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-8, atol=1e-8, equal_nan=True)
    moments = law(observable, first, second)
    for i, j in ((0, 0), (2, 1)):
        for whole, part in zip(moments, law(observable, first[i, j], second[j]), strict=True):
            np.testing.assert_allclose(np.broadcast_to(whole, (3, 2))[i, j], part, rtol=1e-8, atol=1e-8)


def law(observable, first, second):
    """Moments of all nulls that have a law."""
    pair = part_of(observable, interface_pair(first, second, 4))
    laws = [null.law(pair) for null in observable.nulls if null.law]
    return [np.asarray(moment) for moments in laws for moment in moments if moment is not None]


def test_a_zero_weight_has_ranks_and_imbalance_and_no_directions():
    second = gaussian(4, 6, seed=9)
    pair = interface_pair(torch.zeros(6, 3, dtype=torch.float64), second, 4)
    found = {one.column: float(one.measure(part_of(one, pair))) for one in OBSERVABLES}
    assert found.pop("kempf_ness_gap") == float("inf")
    gram = second.mT @ second
    assert found.pop("diagonal_imbalance") == pytest.approx(float(gram.diagonal().norm() / gram.norm()))
    numbers = {name: value for name, value in found.items() if value == value}
    ranks = {"first_rank": 0, "second_rank": 4, "product_rank": 0, "unread_dimension": 0, "polystability_defect": 4}
    assert numbers == ranks | {"imbalance": 1}


@by_name
def test_nothing_is_said_about_directions_in_one_dimension(observable):
    value = float(measured(observable, *gaussian_pair(1, 4, 3, seed=10)))
    undefined = {"stacked_ratio", "rho", "window_rho"}
    assert (value != value) == (observable.column in undefined)


def test_reordering_is_a_signed_permutation_of_the_second_weight():
    """Of a batch of first weights, with a second one of its own for each or one for all."""
    order = torch.tensor([[3, 1, 0, 2, 7, 6, 5, 4], [1, 2, 3, 4, 5, 6, 7, 0]])
    signs = torch.tensor([[1.0, -1, 1, 1, -1, 1, -1, 1], [-1.0, 1, 1, 1, 1, 1, 1, 1]]).double()
    firsts, seconds = (
        torch.stack(parts) for parts in zip(*(gaussian_pair(8, 5, 6, seed=s) for s in (1, 2, 3)), strict=True)
    )
    for second in (seconds, seconds[0]):
        turned = interface_pair(firsts, second, 3).reordered(order, signs)
        direct = [interface_pair(firsts, second[..., o] * s, 3).leading for o, s in zip(order, signs, strict=True)]
        for observable in LEADING_OBSERVABLES:
            expected = torch.stack([observable.measure(pair) for pair in direct])
            torch.testing.assert_close(observable.measure(turned).double(), expected, rtol=1e-4, atol=1e-5)


def test_refuses_weights_that_do_not_compose():
    with pytest.raises(ValueError, match=r"one hidden dimension d; got \(6, 3\) and \(4, 5\)"):
        interface_pair(torch.ones(6, 3), torch.ones(4, 5), 2)
    with pytest.raises(ValueError, match="rank of at least 1; got 0"):
        interface_pair(torch.ones(6, 3), torch.ones(4, 6), 0)
