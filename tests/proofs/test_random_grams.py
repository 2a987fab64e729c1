import pytest

from tests.proofs.builders import DRAWS, assert_close, bracket, gaussian, haar_orthogonal, identity, within_noise


@pytest.fixture(scope="module")
def rotations():
    return haar_orthogonal(DRAWS, 4, seed=0)


def centred(gram):
    return gram - gram.trace() / gram.shape[0] * identity(gram.shape[0])


def gram(seed):
    root = gaussian(4, 4, seed=seed)
    return root @ root.mT


def test_gram_commutator_null(rotations):
    a, b = gram(3), gram(4)
    squares = bracket(a, rotations @ b @ rotations.mT).square().sum(dim=(1, 2))
    within_noise(squares, 2 * 4 / (3 * 6) * centred(a).square().sum() * centred(b).square().sum())


def test_gram_cosine_null(rotations):
    a, b = gram(5), gram(6)
    within_noise((a * (rotations @ b @ rotations.mT)).sum(dim=(1, 2)), a.trace() * b.trace() / 4)


def test_centred_gram_cosine_null(rotations):
    a, b = centred(gram(41)), centred(gram(42))
    cosines = (a * (rotations @ b @ rotations.mT)).sum(dim=(1, 2)) / (a.norm() * b.norm())
    within_noise(cosines, 0)
    within_noise(cosines**2, 2 / (3 * 6))


def test_composition_score_null(rotations):
    read, write = gaussian(2, 4, seed=7), gaussian(4, 3, seed=8)
    squares = (read @ rotations @ write).square().sum(dim=(1, 2)) / (read.square().sum() * write.square().sum())
    within_noise(squares, 1 / 4)


def test_gram_inner_product_spread(rotations):
    a, b = gram(5), gram(6)
    products = (a * (rotations @ b @ rotations.mT)).sum(dim=(1, 2))
    variance = 2 * centred(a).square().sum() * centred(b).square().sum() / (3 * 6)
    within_noise((products - a.trace() * b.trace() / 4) ** 2, variance)


def test_composition_score_of_flat_spectra(rotations):
    u, v = rotations[0][:, :2], rotations[1][:, :3]
    score = (v.mT @ u).norm() / (v.norm() * u.norm())
    assert_close(score**2, (u.mT @ v).square().sum() / (2 * 3))


def test_gate_commutator_null():
    n, d = 6, 4
    layers = gaussian(DRAWS, d, n, seed=9)
    squares = (layers @ layers.mT).square()
    diagonal = squares.diagonal(dim1=-2, dim2=-1).sum(dim=-1)
    ratio = (d - 1) / (n + d + 1)
    within_noise(squares.sum(dim=(1, 2)) - diagonal - ratio * squares.sum(dim=(1, 2)), 0)
