"""Flags as frames of blocks: metric, gradients, geodesics, transport and retractions, as `manifolds` computes them.

A point is a frame P; a tangent vector is P A + K with A skew, zero inside the blocks, and P^T K = 0.
"""

from itertools import combinations
from typing import Any

from sympy import Matrix, Rational, acos, cos, diag, eye, pi, sin, sqrt, symbols, zeros

from .evidence import Citation
from .given import DimensionFree, Exact, Exhaustive, Generic, Given, bracket, inner
from .goal import Goals, equal
from .statement import Hypothesis, Label, statement

HALF = Rational(1, 2)

# What holds for every skew in-plane part holds for every flag; what cuts blocks out is shown for two of any sizes, and
# for three in exact numbers.
ANY_BLOCKS = (DimensionFree(), Exact(n=5, k=3))
TWO_BLOCKS = (*ANY_BLOCKS, Exact(n=4, k=3, r=3))

FRAME = Hypothesis("frame", "$P$ has orthonormal columns")
NORMAL = Hypothesis("normal", r"$P^\top K = 0$")
SKEW = Hypothesis("skewed", "$A$ is skew-symmetric")
BLOCKS = Hypothesis(
    "blocks",
    "the derivation is for two blocks and a complement of any sizes; three are exact instances",
    essential=False,
)

YE = "K. Ye, K. S.-W. Wong and L.-H. Lim, Math. Program. 194 (2022)"
EDELMAN = "A. Edelman, T. A. Arias and S. T. Smith, SIAM J. Matrix Anal. Appl. 20 (1998)"


def block_projectors(given: Given) -> list[Any]:
    """Projectors onto the blocks in the coordinates of the frame: two of any sizes, or three (r = 3)."""
    identity = given.identity("k")
    if given.sizes.get("r") == 3:
        axes = given.orthogonal("F", "k")
        lines = [axes[:, i] * axes[:, i].T for i in range(2)]
        return [*lines, identity - lines[0] - lines[1]]
    first = given.projector("E", "k")
    return [first, identity - first]


def skew(matrix: Any) -> Any:
    """Skew-symmetric part."""
    return (matrix - matrix.T) / 2


def off(matrix: Any, blocks: list[Any]) -> Any:
    """Matrix without its diagonal blocks."""
    first, *others = blocks
    if len(others) == 1:
        # The same in fewer words, which is what the time of a dimension-free proof grows with.
        return first * matrix + matrix * first - 2 * first * matrix * first
    rest = matrix
    for block in blocks:
        rest = rest - block * matrix * block
    return rest


def tangent_parts(
    given: Given, name: str, base: Any, blocks: list[Any] | None = None, *, normal: bool = True, skewed: bool = True
) -> tuple[Any, Any]:
    """In-plane part A and normal part K of an arbitrary tangent vector; without blocks A is any skew matrix."""
    inside, ambient = given.matrix(f"S_{name}", "k", "k"), given.matrix(f"R_{name}", "n", "k")
    above = inside
    if blocks is not None:
        above = given.zeros("k", "k")
        for first, second in combinations(blocks, 2):
            above = above + first * inside * second
    return above - above.T if skewed else above, ambient - base * base.T * ambient if normal else ambient


def lift(base: Any, inside: Any, normal: Any) -> Any:
    """Element of so(n) that moves the frame P by P A + K."""
    return base * inside * base.T + normal * base.T - base * normal.T


def inner_product(base: Any, first: Any, second: Any, *, share: Any = HALF) -> Any:
    """Inner product of two tangent vectors as n x k matrices."""
    return inner(first, second) - share * inner(base.T * first, base.T * second)


def projected(vector: Any, base: Any, blocks: list[Any], *, factor: Any = 1) -> Any:
    """Tangent vector nearest to a matrix; with factor 2 the gradient that belongs to a derivative."""
    inside = base.T * vector
    return vector - base * inside + factor * base * off(skew(inside), blocks)


def cotangent(vector: Any, base: Any) -> Any:
    """Matrix whose Frobenius product with a tangent vector is the inner product of the two tangent vectors."""
    return vector - HALF * base * (base.T * vector)


def pairs(size: Any) -> Any:
    """Number of pairs of this many things."""
    return HALF * size * (size - 1)


@statement(
    DimensionFree(),
    latex=r"\dim\mathrm{Fl}(d_1,\dots,d_r;n) = \binom n2 - \sum_{i\le r+1}\binom{n_i}{2} = "
    r"\sum_{i\le r} n_i\,(n - d_i)",
    source=YE,
    label=Label.TEXTBOOK,
    mutants={"pairs inside a block counted": {"inside": 1}},
    computed_by=("manifolds.Flag",),
)
def flag_dimension(given: Given, *, inside: int = 0) -> Goals:
    """The dimension of a flag manifold is the number of pairs of basis vectors in different blocks.

    The rotations that keep a flag turn each block into itself. Splitting a block of m from the remaining q leaves
    m (q - m) pairs between the two; the sum over all blocks is the formula.
    """
    q, m = given.size("q"), given.size("m")
    yield equal("pairs between m and q - m", pairs(q) - pairs(m) - pairs(q - m), m * (q - (1 - inside) * m))


@flag_dimension.also(Exhaustive(n=3), Exhaustive(n=4))
def tangent_spaces(given: Given, *, inside: int = 0) -> Goals:
    """Show the rank of so(n) on the projectors of the blocks, for every flag."""
    n = given.size("n")
    turns = []
    for i, j in combinations(range(n), 2):
        turn = zeros(n)
        turn[i, j], turn[j, i] = 1, -1
        turns.append(turn)
    for dims in (dims for size in range(1, n) for dims in combinations(range(1, n), size)):
        starts = (0, *dims)
        blocks = [diag(zeros(a), eye(b - a), zeros(n - b)) for a, b in zip(starts, dims, strict=False)]
        moved = [[entry for block in blocks for entry in bracket(turn, block)] for turn in turns]
        expected = sum((b - a) * (n - (a if inside else b)) for a, b in zip(starts, dims, strict=False))
        yield equal(f"dimension of Fl{dims} in {n}-space", Matrix(moved).rank(), expected)


@statement(
    *ANY_BLOCKS,
    latex=r"\langle D, E\rangle_P = \mathrm{tr}\,D^\top E - \tfrac12\mathrm{tr}\,(P^\top D)^\top(P^\top E) = "
    r"\tfrac12\mathrm{tr}\,\Omega_D^\top\Omega_E, \qquad \Omega_D = PAP^\top + KP^\top - PK^\top",
    source=f"{YE}; {EDELMAN}, section 2.4",
    label=Label.TEXTBOOK,
    hypotheses=[FRAME, NORMAL],
    mutants={"Euclidean": {"share": 0}, "normal part halved": {"share": 1}},
    computed_by=("manifolds.FlagMetric.inner_product", "manifolds.FlagMetric.norm"),
)
def flag_inner_product(given: Given, *, share: Any = HALF, frame: bool = True, normal: bool = True) -> Goals:
    """The metric of flags is half the trace form of so(n), and does not depend on the frame of the flag."""
    base = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k")
    (a, k), (b, c) = (tangent_parts(given, name, base, normal=normal) for name in "DE")
    first, second = base * a + k, base * b + c
    metric = inner_product(base, first, second, share=share)
    yield equal("half the trace form", metric, HALF * inner(lift(base, a, k), lift(base, b, c)))
    turn = given.orthogonal("O", "k")
    turned = inner_product(base * turn, first * turn, second * turn, share=share)
    yield equal("another frame", turned, metric)
    yield equal("Ω P = D", lift(base, a, k) * base, first)


@flag_inner_product.also(Generic(n=4, k=3), example=True)
def plane_rotations(given: Given, *, share: Any = HALF) -> Goals:
    """Show that a rotation by theta in a plane has length theta, inside or out of the span of the frame."""
    n, k, angle = given.size("n"), given.size("k"), given.real("theta")
    base = eye(n)[:, :k]
    for i, j in ((i, j) for i, j in combinations(range(n), 2) if i < k):
        turn = zeros(n)
        turn[j, i], turn[i, j] = angle, -angle
        vector = turn * base
        yield equal(f"axes {i} and {j}", inner_product(base, vector, vector, share=share), angle**2)


@statement(
    *TWO_BLOCKS,
    latex=r"\Pi_P V = V - PM + P\,\mathrm{Off}(\mathrm{skew}\,M), \quad M = P^\top V",
    source=YE,
    label=Label.TEXTBOOK,
    hypotheses=[FRAME, BLOCKS],
    mutants={"in-plane part doubled": {"factor": 2}},
    computed_by=("manifolds.Flag.to_tangent",),
)
def tangent_projection(given: Given, *, factor: int = 1, frame: bool = True) -> Goals:
    """The nearest tangent vector to a matrix keeps the skew part between the blocks and what lies out of the plane."""
    base = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k")
    blocks = block_projectors(given)
    ambient = given.matrix("V", "n", "k")
    nearest = projected(ambient, base, blocks, factor=factor)
    yield equal("a projection", projected(nearest, base, blocks, factor=factor), nearest)
    inside, normal = tangent_parts(given, "D", base, blocks)
    yield equal("the rest is orthogonal", inner(ambient - nearest, base * inside + normal), 0)


@statement(
    *TWO_BLOCKS,
    latex=r"\mathrm{grad}\,f = G - PM + 2P\,\mathrm{Off}(\mathrm{skew}\,M),\quad M = P^\top G: \qquad "
    r"\langle\mathrm{grad}\,f, D\rangle_P = \mathrm{tr}\,G^\top D",
    source=YE,
    label=Label.TEXTBOOK,
    hypotheses=[FRAME, BLOCKS],
    mutants={"the nearest tangent vector": {"factor": 1}},
    computed_by=("manifolds.FlagMetric.riemannian_gradient",),
)
def flag_gradient(given: Given, *, factor: int = 2, frame: bool = True) -> Goals:
    """The gradient of a function on flags takes the in-plane part of its derivative twice.

    G is the derivative by the entries of the frame. Conversely D - P P^T D / 2 is a derivative whose gradient is D.
    """
    base = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k")
    blocks = block_projectors(given)
    derivative = given.matrix("G", "n", "k")
    gradient = projected(derivative, base, blocks, factor=factor)
    inside, normal = tangent_parts(given, "D", base, blocks)
    vector = base * inside + normal
    yield equal("<grad f, D> = tr Gᵀ D", inner_product(base, gradient, vector), inner(derivative, vector))
    across = base.T * gradient
    yield equal("the gradient is tangent", off(skew(across), blocks), across)
    turn, outer = tangent_parts(given, "C", base, blocks)
    other = base * turn + outer
    yield equal(
        "a derivative with this gradient", inner(cotangent(other, base), vector), inner_product(base, other, vector)
    )


def reduced_generator(inside: Any, gram: Any, scale: Any, identity: Any, *, sign: int = -1) -> list[list[Any]]:
    """Blocks of the 2k x 2k matrix by which the lift acts on the span of P and K / s."""
    return [[inside, sign * gram / scale], [scale * identity, 0 * identity]]


@statement(
    *ANY_BLOCKS,
    latex=r"\Omega\,[P,\,K/s] = [P,\,K/s]\begin{bmatrix}A & -K^\top K/s\\ sI & 0\end{bmatrix} \;\Rightarrow\; "
    r"\exp(\Omega)P = [P,\,K/s]\,\exp\begin{bmatrix}A & -K^\top K/s\\ sI & 0\end{bmatrix}"
    r"\begin{bmatrix}I\\0\end{bmatrix}",
    source=f"{EDELMAN}, section 2.4",
    hypotheses=[FRAME, NORMAL],
    mutants={"plus the Gram": {"sign": 1}},
    computed_by=("manifolds.FlagMetric.exp",),
)
def flag_exponential(given: Given, *, sign: int = -1, frame: bool = True, normal: bool = True) -> Goals:
    """The exponential of the n x n lift of a tangent vector, applied to the frame, is one of size 2k, whatever s > 0.

    The lift maps the span of P and K into itself, so all its powers, and with them the exponential series, follow from
    its action on the two.
    """
    base = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k")
    inside, outer = tangent_parts(given, "D", base, normal=normal)
    scale, generator = given.positive("s"), lift(base, inside, outer)
    reduced = reduced_generator(inside, outer.T * outer, scale, given.identity("k"), sign=sign)
    for name, image, column in (("P", base, 0), ("K / s", outer / scale, 1)):
        expected = base * reduced[0][column] + outer / scale * reduced[1][column]
        yield equal(f"Ω of {name}", generator * image, expected)


@statement(
    *ANY_BLOCKS,
    latex=r"P(t) = e^{t\Omega}P:\quad "
    r"\ddot P + \dot P\dot P^\top P + P\bigl((P^\top\dot P)^2 + \dot P^\top\dot P\bigr) = 0, \quad "
    r"\tfrac{d}{dt}P^\top\dot P = 0, \quad \tfrac{d}{dt}\dot P^\top\dot P = 0",
    source=f"{EDELMAN}, section 2.4",
    cites=[
        Citation(
            "the geodesics of a quotient by isometries are those of the space above that are orthogonal to the fibres",
            "B. O'Neill, Semi-Riemannian Geometry (1983), chapter 7",
        )
    ],
    hypotheses=[FRAME, SKEW],
    mutants={"normal acceleration reversed": {"sign": -1}},
    computed_by=("manifolds.FlagMetric.geodesic",),
)
def flag_geodesic_equation(given: Given, *, sign: int = 1, frame: bool = True, skewed: bool = True) -> Goals:
    """The curves exp(t Omega) P solve the geodesic equation, and stay tangent between the blocks at constant speed.

    First variation: a curve Q(t) of rotations with Q^T Q' = X, moved by Q Z, has X moved by Z' + [X, Z], and
    tr X^T [X, Z] = 0, so that its energy is stationary exactly if X is constant. All claims at time t are those at
    time 0, since exp(t Omega) commutes with Omega.
    """
    base = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k")
    inside, outer = tangent_parts(given, "D", base, skewed=skewed)
    generator = lift(base, inside, outer)
    velocity = generator * base
    acceleration = generator * velocity
    along = base.T * velocity
    bend = velocity * velocity.T * base + base * (along * along + sign * velocity.T * velocity)
    yield equal("geodesic equation", acceleration, -bend)
    yield equal("Pᵀ P' is constant", velocity.T * velocity + base.T * acceleration, given.zeros("k", "k"))
    changing = acceleration.T * velocity
    yield equal("P'ᵀ P' is constant", changing + changing.T, given.zeros("k", "k"))
    variation = given.matrix("Z", "n", "n")
    yield equal("tr Xᵀ [X, Z] = 0", inner(generator, bracket(generator, skew(variation))), 0)


@statement(
    DimensionFree(),
    Exact(n=4),
    latex=r"\mathrm{grad}_P\,d(P,Q)^2 = -2\log_P Q",
    source=YE,
    label=Label.TEXTBOOK,
    cites=[
        Citation(
            "where one shortest geodesic joins two points, the squared distance has the derivative of the energy of "
            "any variation of that geodesic",
            "J. Cheeger and D. G. Ebin, Comparison Theorems in Riemannian Geometry (1975), chapter 1",
        )
    ],
    hypotheses=[Hypothesis("unique", "one shortest geodesic joins the two flags, as it does below distance pi/2")],
    mutants={"half the gradient": {"factor": -1}, "away from the other flag": {"factor": 2}},
    computed_by=("manifolds.FlagMetric.squared_dist", "manifolds.FlagMetric.dist", "manifolds.FlagMetric.log"),
)
def squared_distance_gradient(given: Given, *, factor: int = -2) -> Goals:
    """The gradient of the squared distance from a flag is minus twice the logarithm.

    The shortest geodesic has a constant X, the lift of the logarithm, and squared length tr X^T X / 2. Moving its
    start by D and keeping its end moves it by Z(t) = (1 - t) D, and X by Z' + [X, Z].
    """
    x, d = (skew(given.matrix(name, "n", "n")) for name in "XD")
    t = given.real("t")
    moved = -d + bracket(x, (1 - t) * d)
    yield equal("derivative of tr Xᵀ X / 2", HALF * 2 * inner(x, moved), factor * HALF * inner(x, d))


@squared_distance_gradient.also(Generic(n=3, k=1), example=True)
def line_in_space(_: Given, *, factor: int = -2) -> Goals:
    """Show it by differentiation for two lines at the angle of cosine c, the first one moving in any direction."""
    c, x, y, t = symbols("c x y t", positive=True)
    s = sqrt(1 - c**2)
    speed = sqrt(x**2 + y**2)
    line = Matrix([cos(t * speed), sin(t * speed) * x / speed, sin(t * speed) * y / speed])
    squared = acos((Matrix([[c, s, 0]]) * line)[0]) ** 2
    logarithm = acos(c) * Matrix([0, 1, 0])
    yield equal("d/dt d² = -2 <log, D>", squared.diff(t).subs(t, 0), factor * logarithm.dot(Matrix([0, x, y])))


@squared_distance_gradient.also(Generic(n=2, k=1), example=True)
def lines_in_the_plane(_: Given, *, factor: int = -2, unique: bool = True) -> Goals:
    """Show the central difference of the squared angle of two lines; at a right angle there are two ways to turn."""
    apart, step = pi / 3 if unique else pi / 2, pi / 100

    def squared(angle: Any) -> Any:
        return min(angle, pi - angle) ** 2

    difference = (squared(apart - step) - squared(apart + step)) / (2 * step)
    yield equal("difference of squared angles", difference, factor * apart)


def block_bracket(first: tuple[Any, Any], second: tuple[Any, Any], *, sign: int = -1) -> tuple[Any, Any]:
    """Bracket of the lifts of (A, K) and (a, c), in the plane of the frame and from there out of it."""
    (rotation, normal), (inside, outer) = first, second
    plane = bracket(rotation, inside) + sign * (normal.T * outer - outer.T * normal)
    return plane, normal * inside - outer * rotation


def transport_rate(
    direction: tuple[Any, Any], vector: tuple[Any, Any], blocks: list[Any], *, share: Any = HALF
) -> tuple[Any, Any]:
    """Rates of the parts (a, c) of a transported vector in the frame that moves along the direction (A, K)."""
    plane, across = block_bracket(direction, vector)
    return -share * off(plane, blocks), -share * across


@statement(
    *TWO_BLOCKS,
    latex=r"a' = -\tfrac12\mathrm{Off}\bigl([A,a] - K^\top c + c^\top K\bigr), \quad c' = -\tfrac12\,(Ka - cA); \qquad "
    r"Y' = -\tfrac12[X,Y]_{\mathfrak m}",
    source="S. Kobayashi and K. Nomizu, Foundations of Differential Geometry II (1969), chapter X, section 3",
    cites=[
        Citation(
            "the torsion of an invariant connection in terms of brackets, which with the metric fixes the connection",
            "S. Kobayashi and K. Nomizu, Foundations of Differential Geometry II (1969), chapter X, section 2",
        )
    ],
    hypotheses=[FRAME, NORMAL, BLOCKS],
    mutants={"without the half": {"share": 1}, "normal parts added": {"sign": 1}},
    computed_by=("manifolds.FlagMetric.parallel_transport",),
)
def flag_transport(
    given: Given, *, share: Any = HALF, sign: int = -1, frame: bool = True, normal: bool = True
) -> Goals:
    """Parallel transport solves a linear equation in the moving frame, keeps inner products and carries velocity along.

    The rate is minus half the part of the bracket of the lifts between the blocks, so the rate of <Y, Z> is minus half
    of <[X, Y], Z> + <Y, [X, Z]> = 0. Among the multiples of the bracket this is the one without torsion: fields that
    are constant in the moving frame have [X, Y] between the blocks as their bracket. The velocity X is carried along,
    since [X, X] = 0.
    """
    base = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k")
    blocks = block_projectors(given)
    square, across = (
        [given.matrix(f"{kind}_{name}", rows, "k") for name in "XYZ"] for kind, rows in (("S", "k"), ("R", "n"))
    )
    outside = given.identity("n") - base * base.T

    x, y = ((turn, outside * part if normal else part) for turn, part in zip(square[:2], across[:2], strict=True))
    turned = bracket(lift(base, *x), lift(base, *y)) * base
    plane, out = block_bracket(x, y, sign=sign)
    yield equal("bracket of the lifts in the plane", base.T * turned, plane)
    yield equal("bracket of the lifts out of the plane", outside * turned, out)
    yield equal("Ω c = -P Kᵀ c", lift(base, *x) * y[1], -base * x[1].T * y[1])

    forward, backward = (transport_rate(*pair, blocks, share=share) for pair in ((x, y), (y, x)))
    yield equal("no torsion in the plane", backward[0] - forward[0], off(base.T * turned, blocks))
    yield equal("no torsion out of the plane", backward[1] - forward[1], outside * turned)

    # From here on everything happens in the moving frame.
    x, y = zip(square[:2], across[:2], strict=True)
    first, second = given.matrix("X_0", "k", "k"), given.matrix("Y_0", "k", "k")
    spanned = transport_rate(x, (y[0], y[1] * first + x[1] * second), blocks, share=share)[1]
    within = HALF * (y[1] * first * x[0] + x[1] * (second * x[0] - y[0]))
    yield equal("c stays in the span of c(0) and K", spanned, within)

    x, y, z = zip((turn - turn.T for turn in square), across, strict=True)
    kept = [
        HALF * inner(one[0], other[0]) + inner(one[1], other[1])
        for one, other in ((block_bracket(x, y), z), (y, block_bracket(x, z)))
    ]
    yield equal("<[X, Y], Z> + <Y, [X, Z]> = 0", sum(kept), 0)
    between = off(square[1], blocks)
    yield equal(
        "the part inside the blocks adds nothing", inner(square[0], between), inner(off(square[0], blocks), between)
    )


@statement(
    *ANY_BLOCKS,
    latex=r"(P+D)^\top(P+D) = I + D^\top D, \qquad \exp_P(tD) - (P+tD)(I+t^2D^\top D)^{-1/2} = \tfrac{t^2}2KA + O(t^3)",
    source="P.-A. Absil, R. Mahony and R. Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), section 4.1",
    hypotheses=[FRAME, NORMAL, SKEW],
    mutants={"a lower order of contact": {"factor": 2}},
    computed_by=("manifolds.FlagMetric.polar_retraction", "manifolds.FlagMetric.qr_retraction"),
)
def flag_retractions(
    given: Given, *, factor: int = 1, frame: bool = True, normal: bool = True, skewed: bool = True
) -> Goals:
    """The polar and the QR factor of P + D touch the exponential to first order, and for one block to second order.

    Compared are the second derivatives at t = 0: that of the exponential is Omega^2 P, that of the polar factor
    -P D^T D. They differ by K A, and A = 0 for one block. In the QR factor R = 1 + t^2 T + ... with T upper triangular
    and T + T^T = D^T D, so its second derivative is -2 P T, and 2 T - D^T D = T - T^T is a turn of the plane, which for
    one block leaves the subspace.
    """
    base = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k")
    inside, outer = tangent_parts(given, "D", base, normal=normal, skewed=skewed)
    vector, generator = base * inside + outer, lift(base, inside, outer)
    gram = vector.T * vector
    yield equal("(P + D)ᵀ (P + D) = 1 + Dᵀ D", (base + vector).T * (base + vector), given.identity("k") + gram)
    bend, triangle = generator * generator * base, given.matrix("T", "k", "k")
    yield equal("polar factor: K A", bend + factor * base * gram, outer * inside)
    turn = outer * inside + base * (2 * triangle - gram)
    yield equal("QR factor: K A and a turn", bend + 2 * factor * base * triangle, turn)


@statement(
    DimensionFree(),
    Exact(n=5, k=2),
    latex=r"\exp_P(D) = P\cos\sqrt G + D\,\frac{\sin\sqrt G}{\sqrt G},\quad G = D^\top D",
    source=f"{EDELMAN}, section 2.5.1; T. Bendokat, R. Zimmermann and P.-A. Absil, Adv. Comput. Math. 50 (2024)",
    label=Label.TEXTBOOK,
    hypotheses=[FRAME, NORMAL],
    mutants={"hyperbolic": {"sign": 1}},
    computed_by=("manifolds.GrassmannianMetric.exp", "manifolds.GrassmannianMetric.log"),
)
def grassmannian_geodesic(given: Given, *, sign: int = -1, frame: bool = True, normal: bool = True) -> Goals:
    """For one block the exponential is a cosine and a sine of the k x k Gram matrix of the tangent vector.

    The powers of the lift give P (-G)^j and D (-G)^j, the terms of the two series.
    """
    base, ambient = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k"), given.matrix("R", "n", "k")
    vector = ambient - base * base.T * ambient if normal else ambient
    generator, gram = lift(base, given.zeros("k", "k"), vector), vector.T * vector
    yield equal("Ω P = D", generator * base, vector)
    yield equal("Ω D = -P G", generator * vector, sign * base * gram)
    yield equal("Ω³ D = P G²", generator * generator * generator * vector, base * gram * gram)


@grassmannian_geodesic.also(Generic(n=4, k=2), example=True)
def logarithm(given: Given, *, sign: int = -1) -> Goals:
    """Show that N diag(theta) L^T leads to a frame of the plane at the angles theta, with the end turned by L^T."""
    axes, turn = Exact(n=4).orthogonal("Q", "n"), Exact(k=2).orthogonal("L", "k")
    angles = given.positive("theta_1 theta_2")
    base, outer = axes[:, :2], axes[:, 2:]
    vector = outer * diag(*angles) * turn.T
    yield equal("G = L diag(θ²) Lᵀ", vector.T * vector, turn * diag(*(angle**2 for angle in angles)) * turn.T)
    cosine = turn * diag(*map(cos, angles)) * turn.T
    sinc = turn * diag(*(sin(angle) / angle for angle in angles)) * turn.T
    end = base * turn * diag(*map(cos, angles)) - sign * outer * diag(*map(sin, angles))
    yield equal("end point", base * cosine + vector * sinc, end * turn.T)
    yield equal("a frame", end.T * end, eye(2))
    yield equal("principal cosines", turn.T * base.T * end, diag(*map(cos, angles)))


@statement(
    DimensionFree(),
    Exact(n=5, k=2),
    latex=r"Q = (P+D)\,C \;\Rightarrow\; Q\,(P^\top Q)^{-1} - P = D, \qquad D^\top D = (CC^\top)^{-1} - I",
    source="P.-A. Absil, R. Mahony and R. Sepulchre, Optimization Algorithms on Matrix Manifolds (2008), section 4.1",
    hypotheses=[FRAME, NORMAL],
    mutants={"without the frame": {"shift": 0}},
    computed_by=("manifolds.GrassmannianMetric.inverse_polar_retraction",),
)
def inverse_polar_retraction(given: Given, *, shift: int = 1, frame: bool = True, normal: bool = True) -> Goals:
    """A tangent vector is read off from any frame of the subspace to which the polar retraction takes it.

    The singular values of D are the tangents of the principal angles: C C^T = (P^T Q) (P^T Q)^T has their squared
    cosines as eigenvalues where Q is a frame, Q^T Q = 1.
    """
    base, ambient = given.frame("P", "n", "k") if frame else given.matrix("P", "n", "k"), given.matrix("R", "n", "k")
    vector = ambient - base * base.T * ambient if normal else ambient
    mixing = given.invertible("C", "k")
    end = (base + vector) * mixing
    yield equal("Pᵀ Q = C", base.T * end, mixing)
    yield equal("Q = (P + D) Pᵀ Q", end, (shift * base + vector) * (base.T * end))
    yield equal("Qᵀ Q = Cᵀ (1 + Dᵀ D) C", end.T * end, mixing.T * (given.identity("k") + vector.T * vector) * mixing)
