"""What rotations leave of two subspaces and of two weights: the principal angles, and the entries of Gram matrices."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement, product
from typing import Any

from sympy import QQ, Matrix, Poly, Rational, diag, eye
from sympy.polys.matrices import DomainMatrix

from .evidence import Citation
from .given import DimensionFree, Exact, Exhaustive, Generic, Given, tr
from .goal import Goals, equal
from .statement import Hypothesis, Label, statement

FIRST_FUNDAMENTAL_THEOREM = Citation(
    "the first fundamental theorem for GL(d) and O(d), in all degrees and sizes",
    "R. Goodman and N. R. Wallach, Symmetry, Representations, and Invariants (2009), section 5.2",
)

# How an infinitesimal change of basis moves a variable: to which others, and how often each.
Move = dict[Any, list[tuple[int, Any]]]


@statement(
    DimensionFree(),
    Exact(d=5, k=2, l=2),
    latex=r"(V_1,V_2)\sim_{O(d)}(V_1',V_2') \iff \dim V_i = \dim V_i' \text{ and } \theta_j = \theta_j'; \qquad "
    r"\mathrm{tr}\,(P_1P_2)^j = \sum_i\cos^{2j}\theta_i",
    source='docs/concepts/symmetry.md, "What rotations leave"; Jordan; the CS decomposition',
    label=Label.TEXTBOOK,
    hypotheses=[
        Hypothesis("orthogonal", "the two pairs are compared under orthogonal maps of the space"),
        Hypothesis("same_angles", "the two pairs have the same principal angles"),
    ],
    mutants={"sines from the wrong sign": {"sign": 1}},
    computed_by=("manifolds.principal_angles",),
)
def principal_angles_complete(given: Given, *, sign: int = -1, orthogonal: bool = True) -> Goals:
    """The principal angles are all that orthogonal maps leave of two subspaces of given dimensions.

    They leave the singular values of U^T V, the cosines. Conversely, in frames for which U^T V is diagonal the columns
    of V - U U^T V are orthogonal to U, and to each other, and have the sines as lengths. So U and these columns, scaled
    to length 1, are an orthonormal family in which the coordinates of U and V depend on the angles alone. Two such
    families are related by an orthogonal map, which takes one pair to the other.
    """
    first, second = given.frame("U", "d", "k"), given.frame("V", "d", "l")
    move = given.orthogonal("Q", "d") if orthogonal else given.invertible("Q", "d")
    turn, other = given.orthogonal("S", "k"), given.orthogonal("T", "l")
    cross = first.T * second
    moved = (move * first * turn).T * (move * second * other)
    yield equal("other frames and an orthogonal map", moved, turn.T * cross * other)
    rest = second - first * cross
    yield equal("the rest is orthogonal to U", first.T * rest, given.zeros("k", "l"))
    yield equal("its Gram matrix has the squared sines", rest.T * rest, given.identity("l") + sign * cross.T * cross)
    projectors, squares = first * first.T * second * second.T, cross * cross.T
    for power in (1, 2, 3):
        yield equal(f"tr (P₁ P₂)^{power}", tr(projectors**power), tr(squares**power))


@principal_angles_complete.also(Exact(d=5), example=True)
def map_of_pairs(given: Given, *, same_angles: bool = True) -> Goals:
    """Show the map for two pairs of planes in 5-space at angles of rational cosines, each pair in frames of its own."""
    angles = [(Rational(3, 5), Rational(4, 5)), (Rational(5, 13), Rational(12, 13))]
    families, pairs = [], []
    for number, known in enumerate((angles, angles if same_angles else angles[::-1])):
        axes = given.orthogonal(f"Q_{number}", "d")
        cosines, sines = (diag(*values) for values in zip(*known, strict=True))
        first = axes[:, :2]
        second = first * cosines + axes[:, 2:4] * sines
        rest = second - first * (first.T * second)
        families.append(Matrix.hstack(first, rest * sines.inv(), axes[:, 4]))
        pairs.append((first, second))
    move = families[1] * families[0].T
    yield equal("an orthogonal map", move.T * move, eye(5))
    for name, before, after in zip(("first", "second"), *pairs, strict=True):
        yield equal(f"the {name} subspace", move * before, after)


def monomials(count: int, degree: int) -> Iterator[tuple[int, ...]]:
    """Exponents of all monomials of one degree in this many variables."""
    for chosen in combinations_with_replacement(range(count), degree):
        yield tuple(chosen.count(place) for place in range(count))


def invariant_count(variables: list[Any], moves: list[Move], flipped: set[Any], degree: int) -> int:
    """Dimension of the polynomials of one degree that all moves, and a flip of some signs, leave alone."""
    place = {variable: number for number, variable in enumerate(variables)}
    every = list(monomials(len(variables), degree))
    row = {exponents: number for number, exponents in enumerate(every)}
    # The flip keeps or reverses each monomial, and leaves those polynomials alone that have kept ones only.
    kept = [e for e in every if sum(e[place[variable]] for variable in flipped) % 2 == 0]
    entries: defaultdict[int, dict[int, Any]] = defaultdict(dict)
    for column, exponents in enumerate(kept):
        for number, move in enumerate(moves):
            for variable, images in move.items():
                power = exponents[place[variable]]
                for coefficient, image in images if power else []:
                    target = list(exponents)
                    target[place[variable]] -= 1
                    target[place[image]] += 1
                    line = entries[number * len(every) + row[tuple(target)]]
                    line[column] = line.get(column, QQ(0)) + QQ(power * coefficient)
    sparse = {line: {c: v for c, v in values.items() if v} for line, values in entries.items()}
    equations = DomainMatrix({k: v for k, v in sparse.items() if v}, (len(moves) * len(every), len(kept)), QQ)
    return len(kept) - int(equations.rank())


def products_count(variables: list[Any], generators: list[Any], factors: int) -> int:
    """Dimension of the span of all products of this many generators."""
    polynomials = [Poly(generator, *variables, domain=QQ) for generator in generators]
    rows: list[dict[Any, Any]] = []
    for chosen in combinations_with_replacement(polynomials, factors):
        whole = Poly(1, *variables, domain=QQ)
        for factor in chosen:
            whole = whole * factor
        rows.append({exponents: QQ(c.p, c.q) for exponents, c in whole.terms()})
    columns = {exponents: number for number, exponents in enumerate({e for terms in rows for e in terms})}
    sparse = {number: {columns[e]: c for e, c in terms.items() if c} for number, terms in enumerate(rows)}
    return int(DomainMatrix(sparse, (len(rows), len(columns)), QQ).rank())


def hidden_moves(w1: Any, w2: Any, places: list[list[tuple[int, int, int]]]) -> list[Move]:
    """Moves of the entries of both weights under W_1' = E W_1, W_2' = -W_2 E, for matrices E given by their entries."""
    moves = []
    for generator in places:
        move: Move = defaultdict(list)
        for value, i, j in generator:
            for column in range(w1.cols):
                move[w1[i, column]].append((value, w1[j, column]))
            for line in range(w2.rows):
                move[w2[line, j]].append((-value, w2[line, i]))
        moves.append(move)
    return moves


def rates(polynomials: list[Any], moves: list[Move]) -> Iterator[Any]:
    """Derivative of every polynomial along every move."""
    for polynomial, move in product(polynomials, moves):
        yield sum(polynomial.diff(v) * sum(c * image for c, image in images) for v, images in move.items())


@statement(
    Exhaustive(d=1, n=2, p=2),
    Exhaustive(d=2, n=1, p=1),
    Exhaustive(d=2, n=2, p=1),
    latex=r"f(gW_1, W_2g^{-1}) = f(W_1,W_2)\ \forall g\in GL(d) \;\Rightarrow\; f = F(W_2W_1)",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"; first fundamental theorem',
    label=Label.TEXTBOOK,
    hypotheses=[Hypothesis("linear", "$f$ is left alone by all changes of basis of the hidden space")],
    mutants={"the Gram of the first weight too": {"gram": True}},
    cites=[FIRST_FUNDAMENTAL_THEOREM],
)
def interface_invariants(given: Given, *, gram: bool = False, linear: bool = True) -> Goals:
    """A polynomial in two weights that no change of basis between them alters is one in the entries of W_2 W_1.

    Up to degree 4 it is counted: products of entries span the polynomials that gl(d) annihilates.
    """
    d, generic = given.size("d"), Generic(**given.sizes)
    w1, w2 = generic.matrix("W_1", "d", "n"), generic.matrix("W_2", "p", "d")
    units = [[(1, i, j)] for i, j in product(range(d), repeat=2)]
    moves = hidden_moves(w1, w2, units if linear else turns(d))
    generators = [*(w2 * w1), *(w1.T * w1)] if gram else [*(w2 * w1)]
    for rate in rates(generators, moves):
        yield equal("no generator moves", rate, 0)
    for degree in (1, 2, 3, 4):
        found = invariant_count([*w1, *w2], moves, set(), degree)
        spanned = products_count([*w1, *w2], generators, degree // 2) if degree % 2 == 0 else 0
        yield equal(f"invariants of degree {degree}", found, spanned)


def turns(d: int) -> list[list[tuple[int, int, int]]]:
    """Basis of the skew-symmetric matrices."""
    return [[(1, i, j), (-1, j, i)] for i, j in combinations(range(d), 2)]


@statement(
    DimensionFree(),
    Exact(d=3, n=2, p=2),
    latex=r"f(QW_1, W_2Q^\top) = f(W_1,W_2)\ \forall Q\in O(d) \;\Rightarrow\; "
    r"f = F(W_2W_1,\; W_1^\top W_1,\; W_2W_2^\top)",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"; first fundamental theorem',
    label=Label.TEXTBOOK,
    hypotheses=[
        Hypothesis("orthogonal", "the change of basis is orthogonal"),
        Hypothesis("reflections", "reflections are among the changes of basis"),
    ],
    mutants={"the product alone": {"grams": False}},
    cites=[FIRST_FUNDAMENTAL_THEOREM],
)
def interface_invariants_under_rotations(given: Given, *, orthogonal: bool = True) -> Goals:
    """Under rotations and reflections between two weights the entries of both outer Grams join those of W_2 W_1.

    They are the inner products of all columns of [W_1, W_2^T]. Rotations alone leave its d x d minors as well.
    """
    w1, w2 = given.matrix("W_1", "d", "n"), given.matrix("W_2", "p", "d")
    q = given.orthogonal("Q", "d") if orthogonal else given.invertible("Q", "d")
    moved, back = q * w1, w2 * q.T
    yield equal("W₂ W₁", back * moved, w2 * w1)
    yield equal("W₁ᵀ W₁", moved.T * moved, w1.T * w1)
    yield equal("W₂ W₂ᵀ", back * back.T, w2 * w2.T)


@interface_invariants_under_rotations.also(
    Exhaustive(d=1, n=2, p=1), Exhaustive(d=2, n=1, p=1), Exhaustive(d=2, n=2, p=1)
)
def counted_invariants_of_rotations(given: Given, *, grams: bool = True, reflections: bool = True) -> Goals:
    """Count the invariants up to degree 4, those of so(d) that a reflection keeps: products of entries span them."""
    d, generic = given.size("d"), Generic(**given.sizes)
    w1, w2 = generic.matrix("W_1", "d", "n"), generic.matrix("W_2", "p", "d")
    generators = [*(w2 * w1)]
    for gram in (w1.T * w1, w2 * w2.T) if grams else ():
        generators += [gram[i, j] for i, j in combinations_with_replacement(range(gram.rows), 2)]
    flipped = {*w1[0, :], *w2[:, 0]} if reflections else set()
    for degree in (1, 2, 3, 4):
        found = invariant_count([*w1, *w2], hidden_moves(w1, w2, turns(d)), flipped, degree)
        spanned = products_count([*w1, *w2], generators, degree // 2) if degree % 2 == 0 else 0
        yield equal(f"invariants of degree {degree}", found, spanned)
