import pytest
import torch

from flaggeo.alignment import interface_pair
from flaggeo.alignment.interfaces.gate import GATE_COMMUTATOR
from tests.flaggeo.alignment.builders import gaussian, gaussian_pair, grams, measured


def test_agrees_with_the_large_matrix():
    first, second = gaussian_pair(9, 4, 5, seed=0)
    a, _ = grams(first, second)
    expected = (a - torch.diag(a.diagonal())).norm() / a.norm()
    assert float(measured(GATE_COMMUTATOR, first, second)) == pytest.approx(float(expected))


def test_orthogonal_units_commute_with_every_gate():
    first = torch.diag(torch.tensor([3.0, 1, 2])).double()
    assert float(measured(GATE_COMMUTATOR, first, gaussian(2, 3, seed=1))) == pytest.approx(0, abs=1e-7)


def test_it_is_the_commutator_with_independent_gates():
    """E|[D, A]|^2 = 2 v sum A_ij^2 over i != j, with Bernoulli gates of variance v = .21."""
    first, second = gaussian_pair(20, 12, 5, seed=2)
    a, _ = grams(first, second)
    gates = (torch.rand(4000, 20, generator=torch.Generator().manual_seed(3)) < 0.3).double()
    commutators = (gates[:, :, None] - gates[:, None, :]) * a
    ratio = (commutators.square().sum(dim=(1, 2)).mean() / a.square().sum()).sqrt()
    value = float(measured(GATE_COMMUTATOR, first, second))
    assert float(ratio) == pytest.approx(value * (2 * 0.21) ** 0.5, rel=0.02)


@pytest.mark.parametrize(("d", "n"), [(8, 5), (30, 40)])
def test_null_of_gaussian_weights(d, n):
    first = gaussian(2000, d, n, seed=4)
    pair = interface_pair(first, gaussian(2, d, seed=5), 2)
    off_diagonal, whole = (
        part.square().mean() for part in (GATE_COMMUTATOR.measure(pair) * pair.first.gram_norm, pair.first.gram_norm)
    )
    assert float((off_diagonal / whole).sqrt()) == pytest.approx(float(GATE_COMMUTATOR.null.law(pair)[0][0]), rel=0.01)
