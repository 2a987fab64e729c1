"""Pairs of flags under changes of basis: relative position, Bruhat normal form, and the flags of a chain of layers."""

from itertools import combinations, pairwise, permutations, product
from typing import Any

from sympy import Matrix, eye, symbols

from .given import DimensionFree, Exact, Exhaustive, Given
from .goal import Goals, equal, holds
from .orbits import meet, span
from .statement import Hypothesis, Label, statement


def position_table(first: Any, second: Any, first_dims: Any, second_dims: Any) -> dict[tuple[int, int], int]:
    """Intersection dimensions of the members of two flags, given by the leading columns of two bases."""
    return {(i, j): meet(first[:, :i], second[:, :j]) for i in first_dims for j in second_dims}


def jumps(table: dict[tuple[int, int], int], first_dims: Any, second_dims: Any, *, corner: int = 1) -> Any:
    """Mixed second difference of a position table."""

    def at(i: int, j: int) -> int:
        return table[first_dims[i], second_dims[j]] if i >= 0 and j >= 0 else 0

    return Matrix(
        len(first_dims),
        len(second_dims),
        lambda i, j: at(i, j) - at(i - 1, j) - at(i, j - 1) + corner * at(i - 1, j - 1),
    )


def bruhat_basis(first: Any, second: Any) -> tuple[Any, tuple[int, ...]]:
    """One basis adapted to two complete flags, and the permutation by which the second flag runs through it.

    Vector i lies in F_i but not in F_{i-1}, and is chosen in the least F'_j where such a vector exists.
    """
    d = first.rows
    vectors, permutation = [], []
    for i in range(d):
        for j in range(d):
            relations = span(first[:, : i + 1], -second[:, : j + 1]).nullspace()
            new = [first[:, : i + 1] * found[: i + 1, :] for found in relations if found[i] != 0]
            if new:
                vectors.append(new[0])
                permutation.append(j)
                break
    return span(*vectors), tuple(permutation)


def permuted(permutation: tuple[int, ...]) -> Any:
    """Matrix whose column w(i) is the axis i, so that axis i enters its flag at step w(i)."""
    d = len(permutation)
    return Matrix(d, d, lambda i, j: int(permutation[i] == j))


def triangular(name: str, d: int) -> Any:
    """Change of basis that keeps every member of the standard flag."""
    return Exact(d=d).matrix(name, "d", "d").upper_triangular()


@statement(
    Exact(d=2),
    Exact(d=3),
    Exact(d=4),
    latex=r"(F, F') = (g E,\; g\,w E) \text{ for exactly one } w \in S_d",
    source='docs/concepts/symmetry.md, "Pairs of flags"; Bruhat',
    label=Label.TEXTBOOK,
    hypotheses=[Hypothesis("same_position", "the two pairs have the same relative position")],
    mutants={"inverse permutation": {"inverted": True}},
)
def pairs_of_flags(given: Given, *, inverted: bool = False, same_position: bool = True) -> Goals:
    """Pairs of complete flags are classified up to GL by a permutation, which their intersection dimensions give.

    For each permutation of d axes one seeded pair is brought to its normal form by a basis that is adapted to both
    flags.
    """
    d = given.size("d")
    change, steps = Exact(d=d).invertible("g", "d"), range(1, d + 1)
    for w in permutations(range(d)):
        planted = w if same_position else tuple(reversed(w))
        first = change * triangular("S", d)
        second = change * permuted(planted) * triangular("T", d)
        basis, found = bruhat_basis(first, second)
        table = position_table(first, second, steps, steps)
        normal = permuted(tuple(w.index(i) for i in range(d)) if inverted else w)
        yield holds(f"position {w}", found == w and jumps(table, steps, steps) == normal)
        standard = all(meet(basis[:, :i], first[:, :i]) == i for i in steps)
        moved = all(meet((basis * normal)[:, :j], second[:, :j]) == j for j in steps)
        yield holds(f"g E = F and g w E = F' for w = {w}", standard and moved)


@statement(
    Exact(d=3),
    latex=r"n_{ij} = r_{ij} - r_{i-1,j} - r_{i,j-1} + r_{i-1,j-1} \ge 0, \quad "
    r"\sum_j n_{ij} = \dim F_i/F_{i-1}, \quad \sum_i n_{ij} = \dim F'_j/F'_{j-1}",
    source='docs/concepts/symmetry.md, "Pairs of flags"',
    label=Label.TEXTBOOK,
    mutants={"without the corner": {"corner": 0}},
)
def position_of_partial_flags(given: Given, *, corner: int = 1) -> Goals:
    """The jumps of the position table of two partial flags are counts, with the steps of the flags as margins.

    Checked at one seeded pair of flags of every type in each relative position.
    """
    d = given.size("d")
    dims = [[*inner, d] for size in range(d) for inner in combinations(range(1, d), size)]
    for w, first_dims, second_dims in product(permutations(range(d)), dims, dims):
        first, second = triangular("S", d), permuted(w) * triangular("T", d)
        table = position_table(first, second, first_dims, second_dims)
        counts = jumps(table, first_dims, second_dims, corner=corner)
        rows = [b - a for a, b in pairwise([0, *first_dims])]
        columns = [b - a for a, b in pairwise([0, *second_dims])]
        margins = [sum(counts[i, :]) for i in range(len(rows))], [sum(counts[:, j]) for j in range(len(columns))]
        claim = f"counts for {w} with margins {rows} and {columns}"
        yield holds(claim, margins == (rows, columns) and min(counts) >= 0)


@statement(
    Exhaustive(d=2),
    Exhaustive(d=3),
    Exhaustive(d=4),
    latex=r"O_{w'} \subset \overline{O_w} \iff r_{ij}(w') \ge r_{ij}(w) \text{ for all } i, j",
    source='docs/concepts/symmetry.md, "Pairs of flags"',
    label=Label.TEXTBOOK,
    mutants={"reversed order": {"reversed_order": True}},
)
def closure_order(given: Given, *, reversed_order: bool = False) -> Goals:
    """Larger intersections mean a smaller orbit: the position tables are ordered as the Bruhat order of permutations.

    A limit can only gain intersections, since ranks can only drop in it. For the converse, each swap of two entries
    that stand in order leads to a larger orbit (`swap_degenerates`, in every dimension). That the swaps reach every
    permutation with smaller intersections is a fact about finite tables, checked for every pair of permutations of d.
    """
    d = given.size("d")
    everyone = list(permutations(range(d)))

    def table(w: tuple[int, ...]) -> list[int]:
        return [sum(w[a] < j for a in range(i)) for i in range(1, d + 1) for j in range(1, d + 1)]

    above = {w: {w} for w in everyone}
    for w in sorted(everyone, key=lambda w: -sum(w[i] > w[j] for i, j in combinations(range(d), 2))):
        for i, j in combinations(range(d), 2):
            if w[i] < w[j]:
                swapped = list(w)
                swapped[i], swapped[j] = w[j], w[i]
                above[w] |= above[tuple(swapped)]
    for w in everyone:
        larger = {v for v in everyone if all(x >= y for x, y in zip(table(w), table(v), strict=True))}
        smaller = {v for v in everyone if all(x <= y for x, y in zip(table(w), table(v), strict=True))}
        yield holds(f"orbits that contain {w} in their closure", above[w] == (smaller if reversed_order else larger))
    longest = tuple(reversed(range(d)))
    generic = [max(0, i + j - d) for i in range(1, d + 1) for j in range(1, d + 1)]
    yield holds("the open orbit has the least intersections", table(longest) == generic)


@closure_order.also(DimensionFree())
def swap_degenerates(_: Given, *, reversed_order: bool = False) -> Goals:
    """Show that the orbit of w lies in the closure of that of w with two entries swapped that stand in order.

    Axes a < b with w(a) < w(b): both flags take a before b, so they keep their members under b -> b + s a, and only a
    plane matters. The pair (E, l(t) w E) with l(t): a -> a + t b tends to (E, w E). For t > 0, l(t) is such a map, a
    swap up to scales, and such a map again, so the pair lies in the orbit of the swapped permutation.
    """
    t = symbols("t", positive=True)
    keeps, swap = Matrix([[1, 1 / t], [0, 1]]), Matrix([[0, -1 / t], [t, 0]])
    if reversed_order:
        keeps = keeps.T
    yield equal("l(t) = u s u", keeps * swap * keeps, Matrix([[1, 0], [t, 1]]))


@statement(
    Exact(n=4, d_1=5, d_2=6, d_3=5, p=4),
    latex=r"\dim(I_i\cap N_j) = \mathrm{rank}(W_l\cdots W_i) - \mathrm{rank}(W_j\cdots W_i)",
    source='docs/concepts/symmetry.md, "Pairs of flags"',
    mutants={"rank of the kernel map": {"start": 1}},
)
def image_and_kernel_flags(given: Given, *, start: int = 0) -> Goals:
    """In a deep linear chain the position of the image flag and the kernel flag is a table of ranks of composed maps.

    Checked at the second hidden layer of one chain of four maps, of which the first and the last have rank 2.
    """
    widths, layer = list(given.sizes.values()), 2
    chain = {k: Exact(k=k).matrix("W", widths[k], widths[k - 1]) for k in range(1, len(widths))}
    for k in (1, len(chain)):
        chain[k] = chain[k][:, :2] * Exact(k=k).matrix("low rank", 2, widths[k - 1])

    def composed(last: int, first: int) -> Any:
        result = eye(widths[first - 1])
        for k in range(first, last + 1):
            result = chain[k] * result
        return result

    for i in range(1, layer + 1):
        for j in range(layer + 1, len(chain) + 1):
            image, kernel = composed(layer, i), composed(j, layer + 1).nullspace()
            direct = meet(image, span(*kernel)) if kernel else 0
            ranks = composed(layer, i).rank() - composed(j, i + start).rank()
            yield equal(f"dim(I_{i} ∩ N_{j})", direct, ranks)
