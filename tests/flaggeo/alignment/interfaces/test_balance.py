import numpy as np
import pytest
import scipy.optimize
import torch

from flaggeo.alignment import balanced_representative, interface_pair, neuron_balanced
from flaggeo.alignment.interfaces.balance import DIAGONAL_IMBALANCE, IMBALANCE, KEMPF_NESS_GAP
from flaggeo.alignment.interfaces.commutator import GRAM_COSINE, RHO
from tests.flaggeo.alignment.builders import (
    gaussian,
    gaussian_pair,
    grams,
    measured,
    moved,
    positive_diagonal,
    rotation,
)


def nuclear(matrix):
    return float(torch.linalg.svdvals(matrix).sum())


def square_norm(first, second):
    return float(first.square().sum() + second.square().sum())


def polystable_pair(seed, d=4, n=3, p=5, rank=3):
    """Both ranks equal to that of the product, in general position otherwise."""
    first = gaussian(d, rank, seed=seed) @ gaussian(rank, n, seed=seed + 1)
    return first, gaussian(p, rank, seed=seed + 2) @ gaussian(rank, d, seed=seed + 3)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_the_balanced_representative_is_balanced_and_composes_to_the_same_map(rank):
    first, second = polystable_pair(0, rank=rank)
    reading, writing = balanced_representative(first, second)
    torch.testing.assert_close(writing @ reading, second @ first)
    a, b = grams(reading, writing)
    torch.testing.assert_close(a, b)
    assert square_norm(reading, writing) == pytest.approx(2 * nuclear(second @ first))
    pair = interface_pair(reading, writing, rank)
    assert float(KEMPF_NESS_GAP.measure(pair)) == pytest.approx(1)
    assert float(IMBALANCE.measure(pair)) == pytest.approx(0, abs=1e-7)
    assert float(DIAGONAL_IMBALANCE.measure(pair)) == pytest.approx(0, abs=1e-12)
    assert float(GRAM_COSINE.measure(pair)) == pytest.approx(1)
    assert float(RHO.measure(pair)) == pytest.approx(0, abs=1e-6)


def test_a_balanced_pair_is_its_own_representative():
    balanced = balanced_representative(*polystable_pair(1))
    for again, before in zip(balanced_representative(*balanced), balanced, strict=True):
        torch.testing.assert_close(again, before)


def test_no_change_of_basis_has_a_smaller_norm():
    """Minimised over g = exp(X) by SciPy, which shares no code with the package: the infimum is attained."""
    first, second = polystable_pair(2)

    def norm(entries):
        x = torch.tensor(entries.reshape(4, 4), requires_grad=True)
        g, back = torch.matrix_exp(x), torch.matrix_exp(-x)
        value = (g @ first).square().sum() + (second @ back).square().sum()
        value.backward()
        return value.item(), x.grad.numpy().ravel()

    best = scipy.optimize.minimize(norm, np.zeros(16), jac=True, method="BFGS")
    assert best.fun == pytest.approx(2 * nuclear(second @ first), rel=1e-8)
    assert best.fun == pytest.approx(square_norm(*balanced_representative(first, second)), rel=1e-8)


def four_blocks(t):
    """W_1 writes to V_1 and V_2, W_2 reads V_2 and V_4; diag(t, 1, 1, 1/t) shrinks what does not meet."""
    first = torch.diag(torch.tensor([1.0, 2, 0, 0]).double())
    second = torch.diag(torch.tensor([0.0, 3, 0, 1]).double())
    return moved(first, second, torch.diag(torch.tensor([t, 1, 1, 1 / t]).double()))


def test_a_pair_that_is_not_polystable_approaches_the_infimum_and_has_no_representative():
    with pytest.raises(ValueError, match=r"equal ranks .* found 2, 2 and 1"):
        balanced_representative(*four_blocks(1.0))
    infimum = 2 * nuclear(four_blocks(1.0)[1] @ four_blocks(1.0)[0])
    norms = [square_norm(*four_blocks(t)) for t in (1.0, 0.1, 0.01)]
    # W_1 keeps 2 and W_2 keeps 3 on V_2, which balance would make sqrt(6) each.
    assert norms == pytest.approx([15, 13.02, 13.0002])
    assert infimum == pytest.approx(12)


def test_representative_of_nothing_and_refusal_of_batches():
    first, second = balanced_representative(torch.zeros(4, 3), torch.zeros(5, 4))
    assert not first.any()
    assert second.shape == (5, 4)
    with pytest.raises(ValueError, match="two matrices"):
        balanced_representative(torch.ones(2, 4, 3), torch.ones(5, 4))


def test_the_gap_is_at_most_the_imbalance():
    """kappa - 1 <= |A - B|_* / (2 |M|_*), on random pairs."""
    for seed in range(20):
        first, second = gaussian_pair(6, 7, 8, seed=seed)
        a, b = grams(first, second)
        gap = float(measured(KEMPF_NESS_GAP, first, second)) - 1
        assert 0 <= gap <= nuclear(a - b) / (2 * nuclear(second @ first))


def test_neuron_balance_forgets_scalings_of_units_and_keeps_the_map():
    first, second = gaussian_pair(6, 5, 4, seed=3)
    balanced = neuron_balanced(first, second)
    torch.testing.assert_close(balanced[1] @ balanced[0], second @ first)
    torch.testing.assert_close(balanced[0].norm(dim=1), balanced[1].norm(dim=0))
    scaled = neuron_balanced(*moved(first, second, positive_diagonal(6, seed=4)))
    for one, other in zip(scaled, balanced, strict=True):
        torch.testing.assert_close(one, other)
    assert float(measured(DIAGONAL_IMBALANCE, *balanced)) == pytest.approx(0, abs=1e-12)


def test_a_dead_unit_is_left_as_it_is():
    first, second = gaussian_pair(6, 5, 4, seed=5)
    first[2] = 0
    reading, writing = neuron_balanced(first, second)
    assert not reading[2].any()
    torch.testing.assert_close(writing[:, 2], second[:, 2])


@pytest.mark.parametrize("shape", [(24, 16, 4), (16, 16, 16), (12, 20, 30)])
def test_nulls_over_rotations_are_those_of_random_rotations(shape):
    first, second = gaussian_pair(*shape, seed=6)
    turns = torch.stack([rotation(shape[0], seed=seed) for seed in range(400)])
    pair, turned = interface_pair(first, second, 4), interface_pair(first, second @ turns, 4)
    for observable, tolerance in ((IMBALANCE, 1e-3), (KEMPF_NESS_GAP, 0.01)):
        values = observable.measure(turned)
        mean, spread = (float(moment) for moment in observable.null.law(pair))
        error = float(values.std()) / 20
        assert float(values.mean()) == pytest.approx(mean, abs=4 * error + tolerance * mean)
        assert float(values.std()) == pytest.approx(spread, rel=0.2)


def test_null_of_single_units_is_that_of_random_orders():
    first, second = gaussian_pair(12, 3, 5, seed=7)
    generator = torch.Generator().manual_seed(8)
    orders = torch.stack([torch.randperm(12, generator=generator) for _ in range(1000)])
    values = measured(DIAGONAL_IMBALANCE, first, second[:, orders].transpose(0, 1))
    mean, spread = (float(moment) for moment in DIAGONAL_IMBALANCE.null.law(interface_pair(first, second, 4)))
    assert float(values.square().mean().sqrt()) == pytest.approx(mean, rel=0.02)
    assert float(values.std()) == pytest.approx(spread, rel=0.15)


def test_level_of_random_layers():
    """24 x 16 and 4 x 24, entries of standard deviation 1/4 and 1, 200 draws.

    The page's set-up names .7 / sqrt(24) for the second, with which .860 and .543 come out, also by brute force.
    """
    first, second = gaussian(200, 24, 16, seed=9) / 4, gaussian(200, 4, 24, seed=10)
    for observable, mean, spread in ((IMBALANCE, 0.848, 0.020), (DIAGONAL_IMBALANCE, 0.33, 0.03)):
        values = measured(observable, first, second)
        assert float(values.mean()) == pytest.approx(mean, abs=0.006)
        assert float(values.std()) == pytest.approx(spread, abs=0.006)
