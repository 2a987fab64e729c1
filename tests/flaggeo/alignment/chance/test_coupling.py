"""The matrix that random signs see, against the matrix itself."""

import numpy as np
import pytest
import torch

from flaggeo.alignment.chance.coupling import Coupling, leading_quotients
from flaggeo.alignment.chance.sign_flip import leverages
from tests.builders import random_frame
from tests.flaggeo.alignment.chance.builders import unrelated_pair, without_diagonal


def dense(first, second):
    return without_diagonal((first @ first.mT) * (second @ second.mT))


def test_rows_products_and_quotients_are_those_of_the_matrix():
    frames = torch.stack([random_frame(30, 4, seed=seed) for seed in range(4)])
    coupling = Coupling.of(frames, leverages(frames), 1, np.array([0, 3, 2]))
    vectors = random_frame(30, 3, seed=9)
    places = torch.tensor([[0, 7], [29, 1], [4, 5]])
    for pair, other in enumerate((0, 3, 2)):
        exact, vector = dense(frames[1], frames[other]), vectors[:, pair]
        torch.testing.assert_close(coupling.rows(places)[pair], exact[places[pair]])
        torch.testing.assert_close(coupling.times(vectors)[:, pair], exact @ vector)
        torch.testing.assert_close(coupling.quotients(vectors)[pair], vector @ exact @ vector)
        assert (exact.square().sum(dim=1) <= coupling.row_bounds[:, pair] + 1e-12).all()


def test_the_quotient_of_a_zero_vector_is_zero():
    frames = torch.stack([random_frame(9, 2, seed=seed) for seed in range(2)])
    coupling = Coupling.of(frames, leverages(frames), 0, np.array([1]))
    assert float(coupling.quotients(torch.zeros(9, 1, dtype=torch.float64))) == 0


@pytest.mark.parametrize(("n", "width", "tile"), [(40, 2, 128), (40, 12, 128), (40, 12, 2), (40, 2, 3)])
def test_many_quotients_are_those_one_by_one(monkeypatch, n, width, tile):
    """By factors where frames are narrow, by rows of projectors where they are wide, in one tile or more."""
    monkeypatch.setattr("flaggeo.alignment.chance.coupling._TILE", tile)
    monkeypatch.setattr("flaggeo.alignment.chance.coupling._ROW_ENTRIES", 7 * 40 * 10)
    frames = torch.stack([random_frame(n, width, seed=seed) for seed in range(7)])
    first, second = np.triu_indices(7, k=1)
    found = leading_quotients(frames, leverages(frames), first, second)
    for quotient, i, j in zip(found, first, second, strict=True):
        exact = dense(frames[i], frames[j])
        vector = exact.sum(dim=1)
        assert quotient == pytest.approx(float(vector @ exact @ vector / (vector @ vector)))


def test_no_pairs_have_no_quotients():
    frames, nothing = random_frame(9, 2, seed=0)[None], np.zeros(0, dtype=np.int64)
    assert leading_quotients(frames, leverages(frames), nothing, nothing).shape == (0,)


def test_subspaces_that_are_nearly_the_same_are_seen_in_the_quotient_and_not_in_a_row():
    frame = random_frame(256, 8, seed=0)
    pair = torch.stack([torch.linalg.qr(frame + 0.02 * random_frame(256, 8, seed=seed)).Q for seed in (1, 2)])
    exact = dense(*pair)
    largest = float(torch.linalg.eigvalsh(exact).abs().max())
    [quotient] = leading_quotients(pair, leverages(pair), np.array([0]), np.array([1]))
    assert float(exact.norm(dim=1).max()) < 0.5 * largest
    assert 0.95 * largest < quotient <= largest * (1 + 1e-9)


@pytest.mark.parametrize("kind", ["uniform", "outlier channels", "lognormal channels", "Student t 1.5", "lines on 8"])
def test_neither_rows_nor_quotients_exceed_the_largest_eigenvalue_and_one_comes_near(kind):
    rng = np.random.default_rng(0)
    for _ in range(20):
        pair = torch.stack(unrelated_pair(kind, 128, 8, 8, rng)).double()
        exact = dense(*pair)
        largest = float(torch.linalg.eigvalsh(exact).abs().max())
        [quotient] = leading_quotients(pair, leverages(pair), np.array([0]), np.array([1]))
        assert 0.4 * largest < max(float(exact.norm(dim=1).max()), quotient) <= largest * (1 + 1e-6)
