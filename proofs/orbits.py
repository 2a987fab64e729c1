"""Orbits of subspaces, pairs of subspaces, pairs of flags and chains of maps under changes of basis.

A change of basis g of the hidden space sends (W_2, W_1) to (W_2 g^{-1}, g W_1). Everything that is to be called
invariant under reparameterization has to survive it.
"""

from collections.abc import Iterator
from itertools import combinations, product
from typing import Any

from sympy import Matrix, eye, symbols, zeros

from .evidence import Citation
from .given import DimensionFree, Exact, Generic, Given, Size, tr
from .goal import Goals, Outcome, differ, equal, holds
from .statement import Hypothesis, Label, Wording, statement

INVERTIBLE = Hypothesis("invertible", "$g$ is invertible")


def span(*blocks: Any) -> Any:
    """Columns of all blocks side by side."""
    return Matrix.hstack(*blocks)


def meet(first: Any, second: Any) -> int:
    """Dimension of the intersection of two column spaces."""
    return int(first.rank() + second.rank() - span(first, second).rank())


def extend(basis: Any, towards: Any) -> Any:
    """Columns of `towards` that continue independent columns to a basis of the sum."""
    return towards[:, [j - basis.cols for j in span(basis, towards).rref()[1] if j >= basis.cols]]


def change_of_basis(given: Given, name: str, size: Size) -> tuple[Any, Any]:
    """An invertible map and its inverse, by the polar decomposition: a rotation after a symmetric invertible map."""
    turn, stretch = given.orthogonal(f"Q_{name}", size), given.symmetric(f"S_{name}", size)
    return turn * stretch, stretch.inv() * turn.T


@statement(
    DimensionFree(),
    Exact(n=2, d=3, p=2, k=1),
    latex=r"\mathrm{im}\,gW_1 = g\,\mathrm{im}\,W_1,\quad \ker W_2g^{-1} = g\ker W_2,\quad "
    r"\mathrm{row}\,W_2g^{-1} = g^{-\top}\mathrm{row}\,W_2",
    source='docs/concepts/symmetry.md, "How subspaces transform"',
    mutants={"rows move like vectors": {"rows_covariant": False}, "g for the inverse": {"inverse": False}},
)
def orbit_transformation(given: Given, *, rows_covariant: bool = True, inverse: bool = True) -> Goals:
    """Images and kernels move with g and row spaces with its inverse transpose, while the product stays as it is.

    A map that kills the image of a frame N is Y (I - N N^T) for some Y. That the image of g W_1 is g times the image
    is associativity; rows have to move so that their products with the moved vectors stay.
    """
    w1, kernel = given.matrix("W_1", "d", "n"), given.frame("N", "d", "k")
    g, g_inverse = change_of_basis(given, "g", "d")
    w2 = given.matrix("Y", "p", "d") * (given.identity("d") - kernel * kernel.T)
    back = g_inverse if inverse else g
    yield equal("W₂ N = 0", w2 * kernel, given.zeros("p", "k"))
    yield equal("(W₂ g⁻¹) (g N) = 0", (w2 * back) * (g * kernel), given.zeros("p", "k"))
    rows = (back.T if rows_covariant else g) * w2.T
    yield equal("<g⁻ᵀ row, g W₁> = <row, W₁>", rows.T * (g * w1), w2 * w1)


@statement(
    DimensionFree(),
    Exact(p=2, d=3),
    latex=r"g \in O(d) \;\Rightarrow\; \mathrm{row}\,W_2g^{-1} = g\,\mathrm{row}\,W_2",
    source='docs/concepts/symmetry.md, "How subspaces transform"',
    hypotheses=[Hypothesis("orthogonal", "$g$ is orthogonal (up to scale)")],
    mutants={"opposite rotation": {"opposite": True}},
)
def row_space_under_rotation(given: Given, *, opposite: bool = False, orthogonal: bool = True) -> Goals:
    """Under rotations alone, row spaces move as images do, so only then may the two be compared."""
    w2 = given.matrix("W_2", "p", "d")
    g = given.orthogonal("g", "d") if orthogonal else given.invertible("g", "d")
    yield equal("(W₂ g⁻¹)ᵀ = g W₂ᵀ", (w2 * g.inv()).T, (g.T if opposite else g) * w2.T)


@statement(
    Exact(n=1, d=2, p=1),
    latex=r"\dim(\mathrm{im}\,W_1\cap\mathrm{row}\,W_2) \text{ is invariant under } GL(d)",
    source='docs/concepts/symmetry.md, "How subspaces transform"',
    mutants={"a rotation": {"rotated": True}},
    recorded=Outcome.REFUTED,
    wording=Wording(
        point="D1",
        said="Subspace intersection dimension is the unique reparameterization-invariant observable.",
        holds="For the image of W_1 with the kernel of W_2 it is, and equals rank W_1 - rank W_2 W_1. For the image "
        "with the row space, the pair that is called aligned, it is invariant under O(d) only.",
        counterexample="W_1 = e_1, W_2 = e_1^T and the shear g = [[1, 0], [1, 1]]: dimension 1 before, 0 after.",
    ),
)
def image_row_intersection(_: Given, *, rotated: bool = False) -> Goals:
    """The dimension in which the image of W_1 meets the row space of W_2 is reparameterization-invariant."""
    g = Matrix([[0, -1], [1, 0]]) if rotated else Matrix([[1, 0], [1, 1]])
    w1, w2 = Matrix([1, 0]), Matrix([[1, 0]])
    yield differ("dim(im ∩ row) changes", meet(g * w1, (w2 * g.inv()).T), meet(w1, w2.T))


@statement(
    DimensionFree(),
    Exact(n=4, d=4, p=3, r=3, k=2),
    latex=r"\dim(\mathrm{im}\,W_1\cap\ker W_2) = \mathrm{rank}\,W_1 - \mathrm{rank}\,W_2W_1 = "
    r"\dim(g\,\mathrm{im}\,W_1\cap g\ker W_2)",
    source='docs/concepts/symmetry.md, "How subspaces transform"',
    hypotheses=[INVERTIBLE],
    mutants={
        "row space for the kernel": {"row_space": True},
        "rank of W_2 for W_1": {"wrong_rank": True},
        "kernel left behind": {"moved": False},
    },
)
def intersection_dimension(given: Given, *, moved: bool = True) -> Goals:
    """The dimension in which the image of W_1 meets the kernel of W_2 is a difference of ranks, invariant under GL.

    F is a frame of the image, with r_1 columns, and N one of the kernel of W_2 F. So W_2 F = Y (I - N N^T) with Y
    injective on the complement of N, whose dimension is the rank of W_2 F, hence r_12. What W_2 kills in the image is
    the span of F N, and g moves it with the image and with the kernel.
    """
    frame, kernel = given.frame("F", "d", "r"), given.frame("N", "r", "k")
    g, g_inverse = change_of_basis(given, "g", "d")
    complement = given.identity("r") - kernel * kernel.T
    elsewhere = given.matrix("Z", "p", "d") * (given.identity("d") - frame * frame.T)
    w1, w2 = frame * given.matrix("C", "r", "n"), given.matrix("Y", "p", "r") * complement * frame.T + elsewhere
    common = frame * kernel
    yield equal("W₂ F = Y (1 - N Nᵀ)", w2 * frame, given.matrix("Y", "p", "r") * complement)
    yield equal("F N lies in the kernel", w2 * common, given.zeros("p", "k"))
    yield equal("F N lies in the image", frame * frame.T * common, common)
    yield equal("its dimension is k", tr(common.T * common), given.size("k"))
    yield equal("the image of W₁ is that of F", frame * frame.T * w1, w1)
    yield equal("r₁₂ = r₁ - k", tr(complement), given.size("r") - given.size("k"))
    yield equal("W₂ g⁻¹ kills g F N", w2 * g_inverse * ((g if moved else given.identity("d")) * common), w2 * common)


@intersection_dimension.also(
    Exact(n=3, d=4, p=3, k=2), Exact(n=2, d=3, p=2, k=1), Exact(n=1, d=2, p=1, k=1), example=True
)
def meeting_instances(
    given: Given, *, row_space: bool = False, wrong_rank: bool = False, invertible: bool = True
) -> Goals:
    """Show the ranks of seeded pairs, before and after a change of basis."""
    shared = given.matrix("C", "d", "k")
    w1 = given.matrix("W_1", "d", "n")
    w1[:, : given.size("k")] = shared
    w2 = given.matrix("Y", "p", "d") * (given.identity("d") - shared * (shared.T * shared).inv() * shared.T)
    g = given.invertible("g", "d")
    if not invertible:
        g = g * (given.identity("d") - shared * (shared.T * shared).inv() * shared.T)
    moved_kernel = g * span(*w2.nullspace())
    other = span(*w2.T.columnspace()) if row_space else span(*w2.nullspace())
    before = meet(w1, other)
    yield equal("dim(im ∩ ker) = r₁ - r₁₂", before, (w2 if wrong_rank else w1).rank() - (w2 * w1).rank())
    yield equal("the same after g", meet(g * w1, moved_kernel), before)


def adapted_basis(first: Any, second: Any) -> Any:
    """A basis of the space that starts with one of A ∩ B and continues through A, B and the rest, in this order."""
    kernel = span(first, -second).nullspace()
    common = span(first[:, :0], *(first * vector[: first.cols, :] for vector in kernel))
    in_first = extend(common, first)
    in_second = extend(span(common, in_first), second)
    basis = span(common, in_first, in_second)
    return span(basis, extend(basis, eye(first.rows)))


def pair_with_intersection(d: int, a: int, b: int, c: int, name: str = "pair") -> tuple[Any, Any]:
    """Two subspaces of dimensions a and b that share c dimensions, in general position otherwise; the name seeds."""
    frame = Exact(d=d, a=a, b=b, c=c).invertible(name, "d")
    return frame[:, :a], frame[:, [*range(c), *range(a, a + b - c)]]


def pair_types(d: int) -> Iterator[tuple[int, int, int]]:
    """All (a, b, c) with two subspaces of dimensions a, b and intersection c in dimension d."""
    for a, b in product(range(1, d), repeat=2):
        for c in range(max(0, a + b - d), min(a, b) + 1):
            yield a, b, c


@statement(
    Exact(d=2),
    Exact(d=3),
    Exact(d=4),
    latex=r"(A,B) \sim_{GL(d)} (A',B') \iff \dim A=\dim A',\ \dim B=\dim B',\ \dim A\cap B = \dim A'\cap B'",
    source='docs/concepts/symmetry.md, "Pairs of subspaces"',
    label=Label.TEXTBOOK,
    hypotheses=[Hypothesis("equal_intersection", "the two intersections have the same dimension")],
    mutants={"one orbit fewer": {"extra": 0}, "bases adapted to one subspace alone": {"adapted": False}},
    wording=Wording(
        point="D3",
        said="Subspace intersection dimension is the unique reparameterization-invariant observable.",
        holds="It is the complete invariant of a pair of subspaces of given dimensions under GL(d).",
        counterexample="For the matrices all of W_2 W_1 is invariant (`invariants_are_ranks`); under O(d) every "
        "principal angle is.",
    ),
)
def pairs_of_subspaces(given: Given, *, extra: int = 1, adapted: bool = True, equal_intersection: bool = True) -> Goals:
    """Two pairs of subspaces lie in one GL orbit exactly if their dimensions and intersection dimensions agree.

    The witness maps one adapted basis to the other; conversely g keeps every dimension. Checked for two seeded pairs
    of every possible (a, b, c) at these d. That these are all is found by counting: beside the first a axes, the spans
    of b of the vectors e_i and e_i + e_(i+1) have as many intersection dimensions as there are orbits.
    """
    d = given.size("d")
    for a, b, c in pair_types(d):
        first = pair_with_intersection(d, a, b, c)
        shared = c if equal_intersection else max(0, a + b - d)
        second = pair_with_intersection(d, a, b, shared, name="other pair")
        bases = [adapted_basis(x, y if adapted else x) for x, y in (first, second)]
        witness = bases[1] * bases[0].inv()
        reached = all(meet(witness * x, y) == y.cols for x, y in zip(first, second, strict=True))
        yield holds(f"g (A, B) = (A', B') for a = {a}, b = {b}, c = {c}", reached and witness.det() != 0)
    axes = eye(d)
    vectors = [*(axes[:, i] for i in range(d)), *(axes[:, i] + axes[:, i + 1] for i in range(d - 1))]
    for a, b in product(range(1, d), repeat=2):
        found = {meet(axes[:, :a], span(*chosen)) for chosen in combinations(vectors, b) if span(*chosen).rank() == b}
        yield equal(f"orbits for a = {a}, b = {b}", len(found), min(a, b) - max(0, a + b - d) + extra)


@statement(
    Exact(d=3),
    Exact(d=4),
    latex=r"\mathrm{codim}\,O_c = c\,(d-a-b+c), \qquad \dim O_{\min} = b(d-b) + a(b-a)",
    source='docs/concepts/symmetry.md, "Pairs of subspaces"',
    label=Label.TEXTBOOK,
    mutants={"codimension c (d - a - b)": {"excess": 0}},
)
def orbit_codimension(given: Given, *, excess: int = 1) -> Goals:
    """Sharing c dimensions costs c (d - a - b + c) conditions, and nested pairs form a two-step flag variety.

    The tangent space of the orbit is the image of gl(d) in Hom(A, V/A) x Hom(B, V/B), whose rank is checked at one
    seeded pair of every possible (a, b, c).
    """
    d = given.size("d")
    for a, b, c in pair_types(d):
        pair = pair_with_intersection(d, a, b, c)
        quotients = [(x, span(*x.T.nullspace()).T) for x in pair]
        tangents = []
        for i, j in product(range(d), repeat=2):
            unit = zeros(d)
            unit[i, j] = 1
            tangents.append(Matrix([entry for x, quotient in quotients for entry in quotient * unit * x]))
        expected = a * (d - a) + b * (d - b) - c * (d - a - b + excess * c)
        yield equal(f"dim O_c for a = {a}, b = {b}, c = {c}", span(*tangents).rank(), expected)


@orbit_codimension.also(DimensionFree())
def closed_orbit_dimension(given: Given, *, excess: int = 1) -> Goals:
    """Show that the orbit of nested pairs has the dimension of the flag variety, for all a <= b <= d."""
    a, b, d = given.positive("a b d")
    nested = a * (d - a) + b * (d - b) - a * (d - a - b + excess * a)
    yield equal("dim O_a = b (d - b) + a (b - a)", nested, b * (d - b) + a * (b - a))


@statement(
    Generic(vertices=2),
    Generic(vertices=3),
    Generic(vertices=4),
    Generic(vertices=5),
    latex=r"r_{s,t} = \sum_{a\le s,\,b\ge t} m_{[a,b]}, \qquad "
    r"m_{[s,t]} = r_{s,t} - r_{s-1,t} - r_{s,t+1} + r_{s-1,t+1}",
    source='docs/concepts/symmetry.md, "Pairs of flags"; Gabriel; Abeasis and Del Fra',
    label=Label.TEXTBOOK,
    mutants={"last term dropped": {"corner": 0}, "first difference only": {"left": 0}},
    cites=[
        Citation(
            "every chain of maps is a sum of intervals, in which a line is handed on from one vertex to another",
            "P. Gabriel, Manuscripta Math. 6 (1972)",
        )
    ],
)
def chain_multiplicities(given: Given, *, corner: int = 1, left: int = 1) -> Goals:
    """The ranks of all composed maps of a chain determine it up to changes of basis, through interval multiplicities.

    The map from vertex s to vertex t has as rank the number of intervals that contain both. Shown is that these sums
    of arbitrary multiplicities give the multiplicities back.
    """
    vertices = range(given.size("vertices"))
    intervals = [(s, t) for s in vertices for t in vertices if s <= t]
    planted = {(s, t): given.real(f"m_{s}{t}") for s, t in intervals}
    ranks = {(s, t): sum(planted[a, b] for a, b in intervals if a <= s and t <= b) for s, t in intervals}
    for interval, found in interval_multiplicities(ranks, corner=corner, left=left).items():
        yield equal(f"multiplicity of {interval}", found, planted[interval])


@chain_multiplicities.also(DimensionFree())
def two_maps(_: Given, *, corner: int = 1, left: int = 1) -> Goals:
    """Show that for two maps with dimensions n, d, p the multiplicities add up to the dimension at each vertex."""
    n, d, p, r1, r2, r12 = symbols("n d p r_1 r_2 r_12", integer=True, positive=True)
    ranks = {(1, 1): n, (2, 2): d, (3, 3): p, (1, 2): r1, (2, 3): r2, (1, 3): r12}
    intervals = interval_multiplicities(ranks, corner=corner, left=left)
    for vertex, dimension in ((1, n), (2, d), (3, p)):
        through = sum(m for (s, t), m in intervals.items() if s <= vertex <= t)
        yield equal(f"intervals through vertex {vertex}", through, dimension)


def interval_multiplicities(ranks: dict[tuple[int, int], Any], *, corner: int = 1, left: int = 1) -> dict[Any, Any]:
    """Multiplicity of each interval from the ranks of the composed maps; out of range the rank is 0."""
    return {
        (s, t): ranks[s, t]
        - left * ranks.get((s - 1, t), 0)
        - ranks.get((s, t + 1), 0)
        + corner * ranks.get((s - 1, t + 1), 0)
        for s, t in ranks
    }


@chain_multiplicities.also(Exact(vertices=4), example=True)
def planted_chain(given: Given, *, corner: int = 1, left: int = 1) -> Goals:
    """Show that the multiplicities planted in a seeded chain of three maps are found again after a change of basis."""
    vertices = range(given.size("vertices"))
    planted = {(s, t): 1 + (s + 2 * t) % 2 for s in vertices for t in vertices if s <= t}
    strands = [interval for interval, count in planted.items() for _ in range(count)]
    at = [[k for k, (s, t) in enumerate(strands) if s <= vertex <= t] for vertex in vertices]
    bases = [
        Exact(d=len(found), vertex=vertex).invertible("g", "d") for vertex, found in zip(vertices, at, strict=True)
    ]
    maps = [
        bases[v + 1]
        * Matrix(len(at[v + 1]), len(at[v]), lambda i, j, v=v: int(at[v + 1][i] == at[v][j]))
        * bases[v].inv()
        for v in vertices[:-1]
    ]
    ranks = {}
    for s in vertices:
        composed = eye(len(at[s]))
        for t in vertices[s:]:
            composed = maps[t - 1] * composed if t > s else composed
            ranks[s, t] = composed.rank()
    found = interval_multiplicities(ranks, corner=corner, left=left)
    for interval, count in planted.items():
        yield equal(f"multiplicity of {interval}", found[interval], count)
