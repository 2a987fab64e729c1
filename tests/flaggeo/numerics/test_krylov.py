"""Leading eigenpairs from products, against LAPACK and planted spectra."""

import pytest
import torch

from flaggeo.numerics import blocks, krylov
from flaggeo.numerics import spectrum as spectra
from flaggeo.numerics.krylov import krylov_eigenpairs
from flaggeo.numerics.spectrum import leading_spectrum, singular_values
from tests.builders import random_frame


def planted(values, size, *, seed=0):
    """Symmetric matrix with these leading eigenvalues and a rest from half of the last one on, and its eigenvectors."""
    frame, values = random_frame(size, size, seed=seed), torch.as_tensor(values, dtype=torch.float64)
    every = torch.cat([values, torch.linspace(float(values[-1]) / 2, 0, size - len(values), dtype=torch.float64)])
    return (frame * every) @ frame.mT, frame


def found(matrix, count):
    return krylov_eigenpairs(lambda rows: rows @ matrix, matrix, len(matrix), count)


@pytest.mark.parametrize("decay", [0.5, 0.9, 0.99])
def test_vectors_are_those_that_were_planted(decay):
    matrix, frame = planted(decay ** torch.arange(20.0, dtype=torch.float64), 900)
    values, vectors = found(matrix, 17)
    torch.testing.assert_close(values[:16], decay ** torch.arange(16.0, dtype=torch.float64), rtol=1e-10, atol=0)
    sines = (1 - (vectors[:, :16] * frame[:, :16]).sum(dim=0).square()).clamp(min=0).sqrt()
    assert float(sines.max()) < 1e-6  # the residual asks for 1e-7 of the gap
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(17).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("copies", [2, 5, 16, 20])
def test_no_copy_of_a_repeated_value_is_missed(copies):
    """Their span is determined, they are not."""
    matrix, frame = planted([1.0] * copies + [0.5] * 4, 900)
    values, vectors = found(matrix, copies + 2)
    torch.testing.assert_close(values[:copies], torch.ones(copies).double(), rtol=1e-12, atol=0)
    outside = vectors[:, :copies] - frame[:, :copies] @ (frame[:, :copies].mT @ vectors[:, :copies])
    assert float(outside.norm(dim=0).max()) < 1e-8


def test_two_close_values_are_told_apart_as_far_as_double_precision_can():
    matrix, frame = planted([1.0, 1 - 1e-6, 0.5, 0.4], 900)
    _, vectors = found(matrix, 5)
    sines = (1 - (vectors[:, :2] * frame[:, :2]).sum(dim=0).square()).clamp(min=0).sqrt()
    assert float(sines.max()) < 1e-5  # 1e-12 over a gap of 1e-6, and the rounding of the matrix itself


@pytest.mark.parametrize("rank", [0, 1, 5])
def test_fewer_directions_than_asked_for_leave_zeros(rank):
    frame = random_frame(900, rank, seed=0)
    matrix = (frame * torch.tensor([1.0, 0.7, 0.5, 0.3, 0.1][:rank])) @ frame.mT
    values, vectors = found(matrix, 8)
    assert float(values[rank:].abs().max()) < 1e-12
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(8).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("spread", [0.5, 1e-4, 0])  # of 20 values: the later ones of nearly equal ones come up late
def test_what_is_above_the_least_value_is_found_whatever_is_below(spread):
    signal = 1 - spread * torch.linspace(0, 1, 20, dtype=torch.float64)
    frame = random_frame(900, 900, seed=0)
    matrix = (frame * torch.cat([signal, torch.linspace(0.1, 0, 880, dtype=torch.float64)])) @ frame.mT
    products = []

    def product(rows):
        products.append(len(rows))
        return rows @ matrix

    values, vectors = krylov_eigenpairs(product, matrix, 900, 65, 0.2)
    torch.testing.assert_close(values[:20], signal, rtol=1e-10, atol=0)
    assert float(values[20]) < 0.2
    outside = vectors[:, :20] - frame[:, :20] @ (frame[:, :20].mT @ vectors[:, :20])
    assert float(outside.norm(dim=0).max()) < 1e-6
    with_least, products[:] = sum(products), []
    assert krylov_eigenpairs(product, matrix, 900, 65) is None or sum(products) > 2 * with_least


def test_values_that_are_negative_by_rounding_call_for_no_second_look(monkeypatch):
    frame, looks = random_frame(900, 5, seed=0), []
    matrix = (frame * torch.tensor([1.0, 0.7, 0.5, 0.3, 0.1])) @ frame.mT - 1e-16 * torch.eye(900)
    by_blocks = krylov._by_blocks
    monkeypatch.setattr(krylov, "_by_blocks", lambda *arguments: looks.append(0) or by_blocks(*arguments))
    values, _ = found(matrix, 8)
    assert float(values[-1]) < 0
    assert len(looks) == 1


@pytest.mark.parametrize("needs_no_gram", [True, False])
def test_no_triplet_below_the_least_value_is_kept(needs_no_gram, monkeypatch):
    noise = torch.randn(700, 600, generator=torch.Generator().manual_seed(3)).double()
    left, right = random_frame(700, 5, seed=1), random_frame(600, 5, seed=2)
    matrix = noise + 300 * left @ right.mT
    expected = torch.linalg.svdvals(matrix)
    monkeypatch.setattr(spectra, "_needs_no_gram", lambda _: needs_no_gram)
    found = leading_spectrum(matrix, 64, least=100.0)
    assert (found.left.shape, found.right.shape, len(found.known_values)) == ((700, 5), (600, 5), 65)
    torch.testing.assert_close(found.values, expected[:5], rtol=1e-10, atol=0)
    assert float((found.known_values[5:] - expected[5:65]).max()) < 1e-9
    assert found.residual < 1e-7
    nothing = leading_spectrum(noise, 64, least=100.0)
    assert nothing.right.shape == (600, 1)


def test_nothing_is_found_where_the_basis_would_fill_the_space():
    matrix, _ = planted([1.0], 60)
    assert found(matrix, 17) is None


@pytest.mark.parametrize("shape", [(700, 600), (600, 700)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_spectrum_is_the_same_with_and_without_a_gram_matrix(shape, dtype, monkeypatch):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(3))
    left, right = random_frame(shape[0], 20, seed=1), random_frame(shape[1], 20, seed=2)
    matrix = (matrix + 100 * ((left * 0.9 ** torch.arange(20)) @ right.mT).float()).to(dtype)
    expected = leading_spectrum(matrix, 8)
    asked = []

    def counted(*arguments):
        asked.append(arguments)
        return krylov_eigenpairs(*arguments)

    monkeypatch.setattr(spectra, "_needs_no_gram", lambda _: True)
    monkeypatch.setattr(spectra, "krylov_eigenpairs", counted)
    for room in (blocks, spectra):
        monkeypatch.setattr(room, "BLOCK_ENTRIES", 10_000)
    one = leading_spectrum(matrix, 8)
    assert len(asked) == 1
    for part in ("known_values", "left", "right", "gaps", "row_norms", "column_norms"):
        torch.testing.assert_close(getattr(one, part), getattr(expected, part), rtol=1e-9, atol=1e-8)
    assert one.residual < 1e-8
    assert torch.equal(one.undetermined, expected.undetermined)


class MadeAnew:
    """A matrix of which a few rows exist at a time, or columns if it is wide."""

    def __init__(self, matrix):
        self._matrix = matrix
        self.shape, self.dtype, self.device = matrix.shape, matrix.dtype, matrix.device

    @property
    def mT(self):
        return MadeAnew(self._matrix.mT)

    def split(self, count):
        assert self.shape[0] >= self.shape[1]
        for block in self._matrix.split(50):
            yield from block.clone().split(count)


@pytest.mark.parametrize("shape", [(700, 600), (600, 700)])
@pytest.mark.parametrize("needs_no_gram", [True, False])
def test_rows_that_are_made_anew_give_the_spectrum_of_their_matrix(needs_no_gram, shape, monkeypatch):
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    left, right = random_frame(shape[0], 5, seed=1), random_frame(shape[1], 5, seed=2)
    matrix = noise + 300 * (left @ right.mT).float()
    monkeypatch.setattr(spectra, "_needs_no_gram", lambda _: needs_no_gram)
    expected, one = (leading_spectrum(rows, 5) for rows in (matrix, MadeAnew(matrix)))
    for part in ("known_values", "left", "right", "row_norms", "column_norms"):
        torch.testing.assert_close(getattr(one, part), getattr(expected, part), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(singular_values(MadeAnew(matrix)), singular_values(matrix), rtol=1e-9, atol=1e-9)


def test_large_matrices_take_products_and_small_or_very_tall_ones_a_gram_matrix():
    on_meta = {shape: torch.empty(shape, device="meta") for shape in [(576, 576), (4096, 4096), (50000, 1024)]}
    assert [shape for shape, matrix in on_meta.items() if spectra._needs_no_gram(matrix)] == [(4096, 4096)]


def test_a_large_gram_matrix_is_multiplied_and_not_reduced(monkeypatch):
    matrix = torch.randn(900, 300, generator=torch.Generator().manual_seed(4)).double()
    expected = leading_spectrum(matrix, 8)
    asked = []

    def counted(*arguments):
        asked.append(arguments)
        return krylov_eigenpairs(*arguments)

    monkeypatch.setattr(spectra, "_GRAM_PRODUCTS", 0)
    monkeypatch.setattr(spectra, "krylov_eigenpairs", counted)
    one = leading_spectrum(matrix, 8)
    assert len(asked) == 1
    for part in ("known_values", "left", "right"):
        torch.testing.assert_close(getattr(one, part), getattr(expected, part), rtol=1e-9, atol=1e-7)


def test_copies_of_a_value_that_a_block_may_have_missed_are_looked_for_with_a_wider_one(monkeypatch):
    matrix, _ = planted([1.0] * 9 + [0.5] * 4, 900)
    widths = []
    by_blocks = krylov._by_blocks

    def counted(*arguments):
        widths.append(arguments[-1])
        return by_blocks(*arguments)

    monkeypatch.setattr(krylov, "_by_blocks", counted)
    values, _ = found(matrix, 12)
    assert widths == [8, 24]
    torch.testing.assert_close(values[:11], torch.tensor([1.0] * 9 + [0.5] * 2).double(), rtol=1e-10, atol=0)
