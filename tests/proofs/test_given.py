import pytest
import sympy

from proofs.given import DimensionFree, Exact, Exhaustive, Generic, bracket, inner, rotation, square_norm, tr
from proofs.goal import equal

EXACT = Exact(d=4, k=2)


def test_exact_species_are_what_their_names_say():
    u, q, p = EXACT.frame("U", "d", "k"), EXACT.orthogonal("Q", "d"), EXACT.projector("P", "d")
    assert u.shape == (4, 2)
    assert u.T * u == sympy.eye(2)
    assert q.T * q == q * q.T == sympy.eye(4)
    assert q != q.T
    assert p == p.T == p * p
    assert 0 < p.rank() < 4
    assert EXACT.invertible("g", "d").det() != 0
    assert EXACT.symmetric("S", "d").is_symmetric()
    assert len(set(EXACT.diagonal("D", "d").diagonal())) == 4


def test_exact_numbers_depend_on_the_name_alone():
    assert EXACT.matrix("X", "d", "d") == EXACT.matrix("X", "d", "d")
    assert EXACT.matrix("X", "d", "d") != EXACT.matrix("Y", "d", "d")
    assert all(value > 0 for value in EXACT.positive("a b c"))
    assert EXACT.positive("a") == EXACT.positive("a b")[0]


def test_exact_invertible_is_not_orthogonal():
    g = EXACT.invertible("g", "d")
    assert g.T * g != sympy.eye(4)


def test_generic_entries_are_independent_symbols():
    given = Generic(n=3, d=2)
    assert len(given.matrix("X", "d", "n").free_symbols) == 6
    assert len(given.symmetric("S", "n").free_symbols) == 6
    assert given.diagonal("D", "n").is_diagonal()
    assert not given.matrix("X", "d", "n").free_symbols & given.matrix("Y", "d", "n").free_symbols


def test_dimension_free_sizes_are_checked():
    given = DimensionFree()
    product = given.matrix("X", "d", "n") * given.matrix("Y", "d", "n")
    with pytest.raises(sympy.matrices.exceptions.ShapeError, match="X and Y do not fit"):
        equal("", product, given.zeros("d", "n")).decide()


def test_a_kind_without_some_sort_of_matrix_says_so():
    with pytest.raises(NotImplementedError):
        Generic(d=2).frame("U", "d", 1)
    with pytest.raises(NotImplementedError):
        Exhaustive(d=2).matrix("X", "d", "d")


def test_dimensions_in_words():
    assert (DimensionFree().dimensions, EXACT.dimensions) == ("all", "d = 4, k = 2")


@pytest.mark.parametrize("given", [DimensionFree(), Generic(d=2), Exact(d=2)], ids=repr)
def test_helpers_work_for_every_kind(given):
    x, y = given.matrix("X", "d", "d"), given.matrix("Y", "d", "d")
    assert square_norm(x) == inner(x, x) == tr(x.T * x)
    assert bracket(x, y) == x * y - y * x


def test_rotation():
    assert rotation(sympy.pi / 2) == sympy.Matrix([[0, -1], [1, 0]])
