"""How flag manifolds curve: sectional curvature and its bounds, the injectivity radius, and distances of members."""

from typing import Any

from sympy import Matrix, Rational, diag, eye, pi, sin, sqrt, zeros

from .evidence import Citation
from .flag_geodesics import FRAME, HALF, NORMAL, YE, block_bracket, block_projectors, lift, off
from .given import DimensionFree, Exact, Generic, Given, bracket, inner, rotation, square_norm, tr
from .goal import Goals, at_least, equal
from .statement import Hypothesis, Label, statement

QUARTER = Rational(1, 4)
TURN = Matrix([[0, -1], [1, 0]])

CURVATURE_OF_THE_CONNECTION = Citation(
    "the curvature of an invariant connection in terms of brackets",
    "S. Kobayashi and K. Nomizu, Foundations of Differential Geometry II (1969), chapter X, section 2",
)
LOOPS = Citation(
    "below the conjugate radius and half the shortest loop geodesics are the only shortest ones, and curvature at most "
    "2 puts the conjugate radius at pi / sqrt 2 or beyond",
    "J. Cheeger and D. G. Ebin, Comparison Theorems in Riemannian Geometry (1975), chapters 1 and 5",
)
FUNCTIONS_OF_BLOCKS = Citation(
    "the principal logarithm of a block-diagonal matrix is block-diagonal",
    "N. J. Higham, Functions of Matrices (2008), theorem 1.13",
)

Parts = tuple[Any, Any]


def form(first: Parts, second: Parts) -> Any:
    """Inner product of two tangent vectors, given by their parts in and out of the plane."""
    return HALF * inner(first[0], second[0]) + inner(first[1], second[1])


def outside_bracket(first: Any, second: Any, *, complement: int = 1) -> Any:
    """Squared length of the part of the bracket that turns the complement, from normal parts."""
    cross = first.T * second
    return complement * (inner(first.T * first, second.T * second) - tr(cross * cross))


def squared_bracket(first: Parts, second: Parts, blocks: list[Any]) -> tuple[Any, Any]:
    """Squared length of the bracket of two lifts: its part between the blocks, and its part inside them."""
    plane, across = block_bracket(first, second)
    between = off(plane, blocks)
    inside = HALF * square_norm(plane - between) + outside_bracket(first[1], second[1])
    return form((between, across), (between, across)), inside


def sectional_curvature(first: Parts, second: Parts, blocks: list[Any], *, share: Any = QUARTER) -> Any:
    """Curvature of the plane of two tangent vectors, from the formula in use."""
    between, inside = squared_bracket(first, second, blocks)
    area = form(first, first) * form(second, second) - form(first, second) ** 2
    return (share * between + inside) / area


@statement(
    DimensionFree(),
    Exact(n=5, k=3),
    Exact(n=4, k=3, r=3),
    latex=r"\mathrm{sec}(X,Y) = \frac{\tfrac14\|[X,Y]_{\mathfrak m}\|^2 + \|[X,Y]_{\mathfrak h}\|^2}"
    r"{\|X\|^2\|Y\|^2 - \langle X,Y\rangle^2}, \qquad \|\cdot\|^2 = \tfrac12\mathrm{tr}",
    source="J. Cheeger and D. G. Ebin, Comparison Theorems in Riemannian Geometry (1975), chapter 3",
    label=Label.TEXTBOOK,
    hypotheses=[FRAME, NORMAL],
    mutants={"a quarter of the whole bracket": {"whole": QUARTER}, "complement left out": {"complement": 0}},
    cites=[CURVATURE_OF_THE_CONNECTION],
    computed_by=("manifolds.FlagMetric.sectional_curvature",),
)
def flag_sectional_curvature(given: Given, *, complement: int = 1, frame: bool = True, normal: bool = True) -> Goals:
    """The curvature of flags counts the bracket of two lifts in full inside the blocks, and by a quarter between them.

    Half the squared norm of a skew matrix is half those of its diagonal blocks and the one across, so the squared
    lengths of the two parts come from k x k products alone, the turns of the complement among them.
    """
    base = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k")
    turns = [given.matrix(f"S_{name}", "k", "k") for name in "XY"]
    outer = [given.matrix(f"R_{name}", "n", "k") for name in "XY"]
    x, y = (
        (turn, ambient - base * base.T * ambient if normal else ambient)
        for turn, ambient in zip(turns, outer, strict=True)
    )
    whole, outside = bracket(lift(base, *x), lift(base, *y)), given.identity("n") - base * base.T
    plane, across = block_bracket(x, y)
    yield equal("in the plane", base.T * whole * base, plane)
    yield equal("out of the plane", outside * whole * base, across)
    yield equal("in the complement", outside * whole * outside, y[1] * x[1].T - x[1] * y[1].T)
    between = off(turns[0], block_projectors(given))
    yield equal("between and inside the blocks", inner(between, turns[0] - between), 0)
    rotations = outer[0] * outer[1].T - outer[1] * outer[0].T
    yield equal(
        "turns of the complement", outside_bracket(*outer, complement=complement), HALF * square_norm(rotations)
    )


@flag_sectional_curvature.also(Generic(n=3), Generic(n=4))
def curvature_of_the_connection(given: Given, *, whole: Any = 1) -> Goals:
    """Show it for the flag of two lines, from the connection [X, Y] / 2 between the blocks.

    R(X, Y) Y = [X, [Y, Y]_m]_m / 4 - [Y, [X, Y]_m]_m / 4 - [[X, Y]_m, Y]_m / 2 - [[X, Y]_h, Y], the first term being 0.
    """
    n = given.size("n")
    blocks = [diag(zeros(i), 1, zeros(n - i - 1)) for i in range(2)]
    blocks.append(eye(n) - blocks[0] - blocks[1])
    x, y = (off(m - m.T, blocks) for m in (given.matrix(name, "n", "n").upper_triangular(1) for name in "XY"))
    between = off(bracket(x, y), blocks)
    inside = bracket(x, y) - between
    moved = -QUARTER * off(bracket(y, between), blocks) - HALF * off(bracket(between, y), blocks) - bracket(inside, y)
    expected = QUARTER * square_norm(between) + whole * square_norm(inside)
    yield equal("<R(X, Y) Y, X>", HALF * inner(moved, x), HALF * expected)


@statement(
    Generic(n=4),
    latex=r"0 \le \mathrm{sec} \le 2: \qquad \|[X,Y]\|_F \le \|X\|_F\|Y\|_F \text{ for skew-symmetric } X, Y",
    source="A. M. Bloch and A. Iserles, Int. J. Bifurcation and Chaos 15 (2005)",
    label=Label.TEXTBOOK,
    hypotheses=[Hypothesis("skewed", r"$X$ and $Y$ are skew-symmetric; for all matrices the constant is $\sqrt 2$")],
    mutants={"bound 1": {"bound": 1}, "the whole bracket counts": {"share": 1}},
    computed_by=("manifolds.FlagMetric.sectional_curvature",),
)
def flag_curvature_bounds(given: Given, *, bound: int = 2) -> Goals:
    """Sectional curvatures of flags lie between 0 and 2.

    They are a sum of squares, at most the squared length |[X, Y]|_F^2 / 2 of the bracket, where |X|_F^2 = 2 |X|^2. In
    an orthonormal basis in which X is a sum of turns x_i J of planes, and of one 0 in odd dimension, the block (i, j)
    of [X, Y] is x_i J B - x_j B J for the block B of Y, and 0 for i = j. Its square is at most 2 (x_i^2 + x_j^2) |B|^2,
    in which x_i^2 + x_j^2 <= |X|_F^2 / 2. That inequality is one of 2 x 2 matrices in every dimension.
    """
    x, y = given.real("x_1 x_2")
    b = given.matrix("B", 2, 2)
    with_turn, against = (b - TURN * b * TURN) / 2, (b + TURN * b * TURN) / 2
    room = bound * (x**2 + y**2) * square_norm(b) - square_norm(x * TURN * b - y * b * TURN)
    squares = (x + y) ** 2 * square_norm(with_turn) + (x - y) ** 2 * square_norm(against)
    yield equal("2 (x₁² + x₂²) |B|² - |x₁ J B - x₂ B J|² is a sum of squares", room, squares)
    yield at_least("a sum of squares is not negative", squares, 0)


@flag_curvature_bounds.also(Generic(n=4, k=2), example=True)
def curvatures_of_known_planes(_: Given, *, share: Any = QUARTER) -> Goals:
    """Show curvature 2 for a plane in 4-space turned in two ways, 0 for commuting turns, 1/4 for three lines."""
    nothing, whole, lines = zeros(2), [eye(2)], [diag(1, 0), diag(0, 1)]
    both = eye(2) / sqrt(2), TURN / sqrt(2)
    sharp = sectional_curvature((nothing, both[0]), (nothing, both[1]), whole, share=share)
    yield equal("isoclinic turns of a plane", sharp, 2)
    apart = sectional_curvature((nothing, diag(1, 0)), (nothing, diag(0, 1)), whole, share=share)
    yield equal("turns of perpendicular planes", apart, 0)
    third = Matrix([[0, 0], [0, 1]])
    yield equal("three lines", sectional_curvature((TURN, nothing), (nothing, third), lines, share=share), QUARTER)


@flag_curvature_bounds.also(Generic(n=2), example=True)
def matrix_unit(_: Given, *, skewed: bool = True) -> Goals:
    """Show |[X, Y]| <= |X| |Y| for a turn of the plane and its transpose; a matrix unit and its transpose break it."""
    first = TURN if skewed else Matrix([[0, 1], [0, 0]])
    yield at_least("|X|² |Y|² ≥ |[X, Y]|²", square_norm(first) ** 2, square_norm(bracket(first, first.T)))


@statement(
    Generic(n=4),
    latex=r"\mathrm{inj} = \min\Bigl(\frac{\pi}{\sqrt 2},\, \frac{\pi}{2}\Bigr) = \frac{\pi}{2}",
    source=YE,
    mutants={"a smaller radius": {"radius": pi / 3}, "a loop of length pi / 2": {"loop": pi / 2}},
    cites=[LOOPS, FUNCTIONS_OF_BLOCKS],
    computed_by=("manifolds.FlagMetric.injectivity_radius",),
)
def flag_injectivity_radius(given: Given, *, radius: Any = pi / 2, loop: Any = pi) -> Goals:
    """The injectivity radius of every flag manifold is pi/2: no loop is shorter than pi, and one is as short.

    A geodesic loop is a lift X, zero inside the blocks, whose exponential is block-diagonal. If all its angles were
    below pi, X would be the principal logarithm, hence block-diagonal, hence 0; so one is at least pi, and the squared
    length of X is the sum of the squared angles. A turn of one plane that joins two blocks is a loop at pi, and at pi/2
    it meets the turn the other way.
    """
    angles = given.real("theta_1 theta_2")
    turns = diag(angles[0] * TURN, angles[1] * TURN)
    yield equal("|X|² = θ₁² + θ₂²", HALF * square_norm(turns), angles[0] ** 2 + angles[1] ** 2)
    yield at_least("|X|² ≥ θ₁²", HALF * square_norm(turns), angles[0] ** 2)
    yield at_least("conjugate points lie beyond", pi / sqrt(2), radius)

    def line(angle: Any) -> Any:
        turned = rotation(angle)[:, 0]
        return turned * turned.T

    t = given.real("t")
    yield equal("both ways meet", line(radius), line(-radius))
    yield equal("and not before", square_norm(line(t) - line(-t)), 2 * sin(2 * t) ** 2)
    yield equal("the loop closes", line(loop), line(0))


@statement(
    DimensionFree(),
    Exact(n=5, k=3),
    latex=r"\|D\|_P^2 - \|\dot V_i\|^2 = \tfrac12\|EAE\|^2 + \tfrac12\|(I-E)A(I-E)\|^2 + \|K(I-E)\|^2 \ge 0 "
    r"\;\Rightarrow\; d_{\mathrm{Fl}}(P,Q) \ge d_{\mathrm{Gr}}(P_{:d_i}, Q_{:d_i}) = \|\theta\|_2",
    source="forgetting members is a Riemannian submersion",
    hypotheses=[FRAME, NORMAL, Hypothesis("skewed", "$A$ is skew-symmetric", essential=False)],
    mutants={"in-plane part counted twice": {"factor": 2}},
    computed_by=("manifolds.geodesic_distance",),
)
def member_distance(given: Given, *, factor: int = 1, frame: bool = True, normal: bool = True) -> Goals:
    """Two flags are at least as far apart as any of their members.

    E projects onto the coordinates of a member. Its velocity is what the velocity of the frame has outside it, and the
    rest is a sum of squares, so the path of the member is no longer than that of the flag.
    """
    base = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k")
    member, identity = given.projector("E", "k"), given.identity("k")
    square, ambient = given.matrix("S", "k", "k"), given.matrix("R", "n", "k")
    inside = square - square.T
    outer = ambient - base * base.T * ambient if normal else ambient
    vector = (base * inside + outer) * member
    velocity = vector - base * member * base.T * vector
    others = identity - member
    rest = HALF * square_norm(member * inside * member) + HALF * square_norm(others * inside * others)
    yield equal(
        "what the member leaves over",
        factor * HALF * square_norm(inside) + square_norm(outer) - square_norm(velocity),
        rest + square_norm(outer * others),
    )
