"""What unrelated weights give: exact moments of overlaps and cosines of uniform (Haar) subspaces and directions."""

from itertools import product
from math import prod
from typing import Any

from sympy import (
    Integer,
    Matrix,
    Poly,
    Rational,
    Symbol,
    cos,
    diag,
    exp,
    factorial2,
    gamma,
    integrate,
    oo,
    pi,
    sin,
    solve,
    sqrt,
    summation,
    symbols,
    zeros,
)

from .given import DimensionFree, Exact, Exhaustive, Generic, Given, inner, rotation, square_norm, tr
from .goal import Goals, equal
from .moments import (
    UNIFORM,
    haar_coefficients,
    mean_outer_product,
    mean_under_rotations,
    paired_moments,
    second_moment,
    sphere_moment,
)
from .statement import Hypothesis, Label, statement


@statement(
    DimensionFree(),
    latex=r"\mathbb{E}[Y_{ij}Y_{kl}] = c_H\bigl(\delta_{ik}\delta_{jl}+\delta_{il}\delta_{jk}-"
    r"\tfrac2d\delta_{ij}\delta_{kl}\bigr), \qquad c_H = \frac{\|B_0\|^2}{(d-1)(d+2)}",
    source='docs/concepts/baselines.md, "Unrelated directions and subspaces"',
    hypotheses=[UNIFORM],
    mutants={"(d - 1) (d + 1)": {"shift": 1}},
)
def haar_second_moments(given: Given, *, shift: int = 2) -> Goals:
    """The second moments of a symmetric matrix in uniform orientation are fixed by its traceless norm."""
    d = given.size("d")
    alpha, beta_ = haar_coefficients(d)
    yield equal("c_H", beta_, 1 / ((d - 1) * (d + shift)))
    yield equal("-2 c_H / d", alpha, -2 * beta_ / d)


@haar_second_moments.also(DimensionFree())
def signs_orders_and_turns(given: Given, *, shift: int = 2) -> Goals:
    """Show that signs, orders and turns of the axes leave no other moments.

    A change of sign of one axis makes E[Y_ij Y_kl] vanish where an index is alone, and the order of the axes does not
    matter: so there are x = E Y_11^2, y = E Y_11 Y_22 and z = E Y_12^2. A turn by 45 degrees gives z from x and y.
    """
    d, (x, y, z) = given.size("d"), symbols("x y z")
    block = Matrix(2, 2, symbols("Y_11 Y_12 Y_12 Y_22"))
    turned = Poly((rotation(pi / 4) * block * rotation(pi / 4).T)[0, 1] ** 2, block[0, 0], block[0, 1], block[1, 1])
    means = {(2, 0, 0): x, (0, 0, 2): x, (1, 0, 1): y, (0, 2, 0): z}
    after_turn = sum(coefficient * means[powers] for powers, coefficient in turned.terms())
    squared_trace, squared_norm = d * x + d * (d - 1) * y, d * x + d * (d - 1) * z
    (found,) = solve([after_turn - z, squared_trace, squared_norm - 1], [x, y, z], dict=True)
    coefficient = 1 / ((d - 1) * (d + shift))
    yield equal("E Y₁₁²", found[x], coefficient * (2 - 2 / d))
    yield equal("E Y₁₁ Y₂₂", found[y], -2 * coefficient / d)
    yield equal("E Y₁₂²", found[z], coefficient)


@haar_second_moments.also(Generic(d=2), example=True)
def average_over_angles(given: Given) -> Goals:
    """Show them in the plane as integrals over the angle, for a generic traceless matrix."""
    angle, x, y = given.real("theta x y")
    turned = rotation(angle) * Matrix([[x, y], [y, -x]]) * rotation(angle).T
    for (i, j), (k, m) in product([(0, 0), (0, 1), (1, 1)], repeat=2):
        mean = integrate((turned[i, j] * turned[k, m]).expand(), (angle, 0, 2 * pi)) / (2 * pi)
        yield equal(f"E[Y_{i}{j} Y_{k}{m}]", mean, second_moment(2, i, j, k, m) * 2 * (x**2 + y**2))


@haar_second_moments.also(Exhaustive(d=3), Exhaustive(d=4), example=True)
def average_over_lines(given: Given, *, uniform: bool = True) -> Goals:
    """Show them for a line: the fourth moments of a uniform unit vector, entry by entry."""
    d = given.size("d")
    for i, j, k, m in product(range(d), repeat=4):
        exponents = tuple([i, j, k, m].count(axis) for axis in range(d))
        centred = sphere_moment(exponents, uniform=uniform) - Rational(int(i == j) * int(k == m), d**2)
        yield equal(f"E[Y_{i}{j} Y_{k}{m}]", centred, second_moment(d, i, j, k, m) * (1 - Rational(1, d)))


@statement(
    DimensionFree(),
    latex=r"\mathbb{E}\,\|U^\top V\|^2 = \frac{km}{n}, \qquad "
    r"\mathrm{Var} = \frac{2km(n-k)(n-m)}{n^2(n-1)(n+2)}",
    source='docs/concepts/baselines.md, "Unrelated directions and subspaces"',
    hypotheses=[UNIFORM],
    mutants={"variance without the factor 2": {"factor": 1}, "mean k m / n^2": {"power": 2}},
)
def haar_overlap_moments(given: Given, *, factor: int = 2, power: int = 1) -> Goals:
    """The overlap of two unrelated subspaces has mean k m / n and an explicit variance.

    By invariance the mean projector is a multiple c I, with c n = m from its trace. The variance is the pairing of the
    second moments with the traceless part of the other projector, whose square norm is k (n - k) / n.
    """
    n, k, m = (given.size(name) for name in "nkm")
    u, v, identity = given.frame("U", "n", "k"), given.frame("V", "n", "m"), given.identity("n")
    first, second = u * u.T, v * v.T
    yield equal("mean", tr(first * mean_under_rotations(given, m, "n")), k * m / n**power)
    traceless, other = first - k / n * identity, second - m / n * identity
    variance = paired_moments(n, traceless) * square_norm(other)
    yield equal("variance", variance, factor * k * m * (n - k) * (n - m) / (n**2 * (n - 1) * (n + 2)))


@haar_overlap_moments.also(Exhaustive(n=3), Exhaustive(n=4), example=True)
def overlap_of_a_line(given: Given, *, factor: int = 2, power: int = 1, uniform: bool = True) -> Goals:
    """Show them for a line and a coordinate subspace: cos^2 has the moments of Beta(m / 2, (n - m) / 2)."""
    n = given.size("n")
    for m in range(1, n):
        square = sum(sphere_moment(tuple(2 * (axis == i) for axis in range(n)), uniform=uniform) for i in range(m))
        fourth = sum(
            sphere_moment(tuple(2 * (axis == i) + 2 * (axis == j) for axis in range(n)), uniform=uniform)
            for i, j in product(range(m), repeat=2)
        )
        yield equal(f"mean for m = {m}", square, Rational(m, n**power))
        variance = Rational(factor * m * (n - 1) * (n - m), n**2 * (n - 1) * (n + 2))
        yield equal(f"variance for m = {m}", fourth - square**2, variance)


@statement(
    DimensionFree(),
    latex=r"\mathbb{E}\,|\cos| = \frac{\Gamma(d/2)}{\sqrt\pi\,\Gamma((d+1)/2)}, \qquad \mathbb{E}\cos^2 = \frac1d",
    source='docs/concepts/baselines.md, "Unrelated directions and subspaces"',
    label=Label.TEXTBOOK,
    hypotheses=[UNIFORM],
    mutants={"second moment 2 / d": {"factor": 2}, "shifted gamma": {"shift": 1}},
)
def haar_abs_cosine_moments(given: Given, *, factor: int = 1, shift: int = 0) -> Goals:
    """The absolute cosine of two unrelated directions has mean close to sqrt(2 / (pi d)) and mean square 1 / d.

    A normal vector g is its length times an independent uniform direction, so E |cos|^p = E |g_1|^p / E |g|^p, where
    the length has the density r^(d - 1) exp(-r^2 / 2) and |g_1| is the length in one dimension.
    """
    d, r = given.size("d"), Symbol("r", positive=True)

    def length(dimension: Any, power: int) -> Any:
        density = exp(-(r**2) / 2) * r ** (dimension - 1)
        return integrate(density * r**power, (r, 0, oo)) / integrate(density, (r, 0, oo))

    first, second = (length(Integer(1), power) / length(d, power) for power in (1, 2))
    yield equal("E |cos|", first, gamma((d + shift) / 2) / (sqrt(pi) * gamma((d + 1) / 2)))
    yield equal("E cos²", second, factor / d)


@haar_abs_cosine_moments.also(Exhaustive(d=3), Exhaustive(d=4), Exhaustive(d=5), example=True)
def cosine_density(given: Given, *, factor: int = 1, shift: int = 0, uniform: bool = True) -> Goals:
    """Show them as integrals over the latitude t, where cos = sin t has the density cos^(d - 2) t."""
    d, t = Integer(given.size("d")), Symbol("t", real=True)
    density = cos(t) ** (d - 2) if uniform else cos(t) ** d
    mass, first, second = (integrate(density * sin(t) ** power, (t, 0, pi / 2)) for power in range(3))
    yield equal("E |cos|", first / mass, gamma((d + shift) / 2) / (sqrt(pi) * gamma((d + 1) / 2)))
    yield equal("E cos²", second / mass, factor / d)


@statement(
    Generic(d=2),
    Generic(d=3),
    latex=r"\mathbb{E}\bigl[\langle v_1,v_2\rangle^{2a}\langle v_2,v_3\rangle^{2b}\bigr] = "
    r"\mathbb{E}\langle v_1,v_2\rangle^{2a}\;\mathbb{E}\langle v_2,v_3\rangle^{2b}",
    source='docs/concepts/baselines.md, "Unrelated directions and subspaces"',
    hypotheses=[Hypothesis("unit_vectors", "the middle vector has length 1")],
    mutants={"moment of one power higher": {"extra": 1}},
)
def chain_independence(given: Given, *, extra: int = 0, unit_vectors: bool = True) -> Goals:
    """Cosines of adjacent pairs in a chain of independent uniform vectors are independent.

    Averaged over v_1 alone, <v_1, v_2>^2a is a constant times |v_2|^2a, whatever v_2 is: so it tells nothing about
    the next pair. Shown for the second and fourth powers.
    """
    d = given.size("d")
    middle = given.matrix("v", "d", 1)
    length = sum(x**2 for x in middle) if unit_vectors else Integer(1)
    for power in (1, 2):
        mean = sum(
            sphere_moment(tuple(indices.count(axis) for axis in range(d))) * prod(middle[i] for i in indices)
            for indices in product(range(d), repeat=2 * power)
        )
        constant = sphere_moment((2 * (power + extra), *[0] * (d - 1)))
        yield equal(f"E <v₁, v>^{2 * power}", mean, constant * length**power)


@statement(
    Exhaustive(d=2, k=2),
    Exhaustive(d=3, k=2),
    latex=r"\mathbb{E}\max_{j\le k}|v_j| = \frac{\mathbb{E}\max_{j\le k}|g_j|}{\mathbb{E}\|g\|}, \qquad "
    r"\mathbb{E}\max_{j\le k}v_j^2 = \frac{\mathbb{E}\max_{j\le k}g_j^2}{d}, \qquad g \sim N(0, I_d)",
    source='docs/concepts/baselines.md, "Unrelated directions and subspaces"',
    hypotheses=[UNIFORM],
    mutants={"length of one dimension more": {"extra": 1}},
)
def best_match_null(given: Given, *, extra: int = 0, uniform: bool = True) -> Goals:
    """The largest of k coordinates of an unrelated direction has the moments of the largest of k normals, rescaled.

    A normal vector is its length times an independent uniform direction, so a homogeneous function of degree p has
    the mean E|g|^p times its mean over directions. For k = 2 both sides are integrals over the angle in the plane.
    """
    d, angle = given.size("d"), Symbol("t", real=True)

    def length(dimension: int, power: int) -> Any:
        return 2 ** Rational(power, 2) * gamma(Rational(dimension + power, 2)) / gamma(Rational(dimension, 2))

    for power in (1, 2):
        # An eighth of the circle, on which the first coordinate is the largest.
        in_plane = integrate(cos(angle) ** power, (angle, 0, pi / 4)) / (pi / 4)
        # A direction in space has a part in the plane, the sine of its latitude, which has the density sine / 2.
        part = integrate(sin(angle) ** (1 + power), (angle, 0, pi)) / 2 if d == 3 else 1
        of_direction = in_plane * part if uniform else Integer(1)
        yield equal(f"E max^{power}", of_direction * length(d + extra, power), in_plane * length(2, power))


@best_match_null.also(Exhaustive(d=2), Exhaustive(d=3))
def length_and_direction(given: Given, *, extra: int = 0, uniform: bool = True) -> Goals:
    """Show that means factor into length and direction, for every even monomial of degree 2, 4 and 6."""
    d = given.size("d")
    for degree in (2, 4, 6):
        length = prod(d + extra + i for i in range(0, degree, 2))
        for exponents in product(range(0, degree + 1, 2), repeat=d):
            if sum(exponents) == degree:
                of_normals = prod(int(factorial2(exponent - 1)) for exponent in exponents)
                of_direction = sphere_moment(exponents, uniform=uniform)
                yield equal(f"E g^{exponents}", length * of_direction, Integer(of_normals))


@statement(
    DimensionFree(),
    latex=r"\mathbb{E}\,\langle u,u'\rangle\langle v,v'\rangle = 0, \qquad "
    r"\mathbb{E}\,\langle u,u'\rangle^2\langle v,v'\rangle^2 = \frac1{mn}",
    source='docs/concepts/roles.md, "Numbers of one weight in two layers"',
    hypotheses=[UNIFORM],
    mutants={"mean square 1 / (m + n)": {"multiplied": False}},
)
def signed_rank_one_null(given: Given, *, multiplied: bool = True) -> Goals:
    """The signed overlap of unrelated rank-one parts has mean 0 and mean square 1 / (m n).

    For fixed unit vectors u and v: the means over u' and over v' are independent, E u' u'^T is a multiple of the
    identity with trace 1, and E u' = 0, since -u' is as likely as u'.
    """
    m, n = given.size("m"), given.size("n")
    u, v = given.frame("u", "m", 1), given.frame("v", "n", 1)
    squares = [tr(x * x.T * mean_under_rotations(given, 1, size)) for x, size in ((u, "m"), (v, "n"))]
    yield equal("mean square", squares[0] * squares[1], 1 / (m * n if multiplied else m + n))


@signed_rank_one_null.also(Generic(m=2, n=2), Generic(m=2, n=3), example=True)
def rank_one_moments(given: Given, *, multiplied: bool = True, uniform: bool = True) -> Goals:
    """Show both moments entry by entry, for any fixed u and v."""
    m, n = given.size("m"), given.size("n")
    squares, means = [], []
    for name, size in (("u", m), ("v", n)):
        fixed = given.matrix(name, size, 1)
        mean = sum(
            fixed[i] * sphere_moment(tuple(int(axis == i) for axis in range(size)), uniform=uniform)
            for i in range(size)
        )
        means.append(mean)
        squares.append(inner(fixed * fixed.T, mean_outer_product(size, uniform=uniform)) / square_norm(fixed))
    yield equal("mean", means[0] * means[1], 0)
    yield equal("mean square", squares[0] * squares[1], Rational(1, m * n if multiplied else m + n))


@statement(
    DimensionFree(),
    latex=r"R_{ij} = \|U_i^\top V_j\|^2,\; O_{ij} = \langle u_i, v_j\rangle^2,\; "
    r"\Phi_K = \frac{\sum_{k\le K} R_{kk}}{\sum_{k\le K} k}: \quad "
    r"\mathbb{E}\,\Phi_K = \frac{2K+1}{3d}, \quad \mathbb{E}\,O_{ij} = \frac1d, \quad "
    r"\mathbb{E}\,R_{ij} = \frac{ij}{d}",
    source='docs/concepts/baselines.md, "Flags and bases"',
    hypotheses=[UNIFORM],
    mutants={"mean K / (2 d)": {"numerator": 0}},
)
def flag_score_null(given: Given, *, numerator: int = 1) -> Goals:
    """The flag score of two unrelated flags has mean (2 K + 1) / (3 d), the sum of the overlaps k^2 / d.

    U_i and V_j are the leading i and j columns u and v of two orthonormal frames. The mean overlaps k^2 / d and i j / d
    are those of `haar_overlap_moments`.
    """
    d, top = given.size("d"), given.size("K")
    k = Symbol("k", integer=True, positive=True)
    mean = summation(k**2 / d, (k, 1, top)) / summation(k, (k, 1, top))
    yield equal("E Φ_K", mean, (2 * top + numerator) / (3 * d))
    i, j = symbols("i j", integer=True, positive=True)
    table = i * j / d
    step = table - table.subs(i, i - 1) - table.subs(j, j - 1) + table.subs({i: i - 1, j: j - 1}, simultaneous=True)
    yield equal("E O_ij, the second difference of i j / d", step, 1 / d)


@flag_score_null.also(Exhaustive(d=3), example=True)
def overlap_table(given: Given, *, uniform: bool = True) -> Goals:
    """Show the mean overlap k^2 / d of the leading k columns of I and Q, whose columns are uniform unit vectors."""
    d = given.size("d")
    squares = zeros(d)
    for i, j in product(range(d), repeat=2):
        squares[i, j] = sphere_moment(tuple(2 * (axis == i) for axis in range(d))) if uniform else int(i == j)
    for k in range(1, d + 1):
        yield equal(f"overlap for k = {k}", sum(squares[:k, :k]), Rational(k**2, d))


def weight_norm(weights: Any, d: Any) -> Any:
    """Squared norm of a table of weights (I - J / d on both sides), rows and columns counted up to its size."""
    rows = sum(sum(weights[i, :]) ** 2 for i in range(weights.rows))
    columns = sum(sum(weights[:, j]) ** 2 for j in range(weights.cols))
    return sum(w**2 for w in weights) - (rows + columns) / d + sum(weights) ** 2 / d**2


@statement(
    DimensionFree(),
    latex=r"\mathrm{Cov}\bigl(\langle u_i,v_j\rangle^2, \langle u_k,v_l\rangle^2\bigr) = "
    r"\frac{2}{(d-1)(d+2)}\Bigl(\delta_{ik}-\frac1d\Bigr)\Bigl(\delta_{jl}-\frac1d\Bigr)",
    source='docs/concepts/baselines.md, "Unrelated directions and subspaces"',
    hypotheses=[UNIFORM],
    mutants={"without the factor 2": {"factor": 1}, "projectors not centred": {"share": 0}},
)
def squared_cosine_moments(given: Given, *, factor: int = 2, share: int = 1) -> Goals:
    """The squared cosines of two unrelated bases have mean 1 / d and covariances of product form.

    So every weighted sum of them has an explicit spread: overlap, flag score, basis score, flag distance. They are
    inner products <P_i, Q_j> of the projectors of the vectors. With centred projectors, <P_i, P_k> = delta_ik - 1/d,
    the polarised second moments give Cov = 2 c_H <P_i, P_k> <Q_j, Q_l>.
    """
    d = given.size("d")
    _, coefficient = haar_coefficients(d)
    alike, apart = 1 - share / d, -share / d
    # Moments of one column: E q_1^4 and E q_1^2 q_2^2. The rest follows as the squares of a row sum to 1.
    fourth, mixed = 3 / (d * (d + 2)), 1 / (d * (d + 2))
    disjoint = (1 / d - mixed) / (d - 1)
    yield equal("Var O_11", fourth - 1 / d**2, factor * coefficient * alike**2)
    yield equal("Cov(O_11, O_12)", mixed - 1 / d**2, factor * coefficient * alike * apart)
    yield equal("Cov(O_11, O_22)", disjoint - 1 / d**2, factor * coefficient * apart**2)


@squared_cosine_moments.also(DimensionFree())
def overlap_as_a_weighted_sum(given: Given, *, factor: int = 2) -> Goals:
    """Show that equal weights give the variance of the overlap, and weights on the diagonal that of the basis score."""
    n, k, m = (given.size(name) for name in "nkm")
    _, coefficient = haar_coefficients(n)
    equal_weights = k * m - k * m**2 / n - m * k**2 / n + k**2 * m**2 / n**2
    known = 2 * k * m * (n - k) * (n - m) / (n**2 * (n - 1) * (n + 2))
    yield equal("Var |UᵀV|²", factor * coefficient * equal_weights, known)
    diagonal = k - 2 * k / n + k**2 / n**2
    variances = k * (1 - 1 / n) ** 2 + k * (k - 1) / n**2
    yield equal("Σ (δ_ik - 1/d)² over the diagonal", diagonal, variances)


@squared_cosine_moments.also(Generic(d=2), Generic(d=3), Generic(d=4), example=True)
def weighted_sum_in_a_line(given: Given, *, factor: int = 2, uniform: bool = True) -> Goals:
    """Show the variance of any weighted sum for one vector against a basis, by its fourth moments."""
    d = given.size("d")
    weights = given.matrix("w", 1, "d")
    moments = {
        (i, j): sphere_moment(tuple(2 * (axis == i) + 2 * (axis == j) for axis in range(d)), uniform=uniform)
        for i, j in product(range(d), repeat=2)
    }
    mean = sum(
        weights[i] * sphere_moment(tuple(2 * (axis == i) for axis in range(d)), uniform=uniform) for i in range(d)
    )
    yield equal("mean", mean, sum(weights) / Integer(d))
    square = sum(weights[i] * weights[j] * moments[i, j] for i, j in product(range(d), repeat=2))
    variance = Rational(factor, (d - 1) * (d + 2)) * weight_norm(weights, Integer(d))
    yield equal("variance", square - mean**2, variance)


@statement(
    Generic(n=2, r=1, s=2),
    Generic(n=3, r=2, s=2),
    latex=r"\mathbb{E}_{D,E}\,\|A^\top DEB\|_F^2 = \sum_i \|a_i\|^2\|b_i\|^2, \quad "
    r"a_i, b_i \text{ the rows of } A, B",
    source='docs/concepts/baselines.md, "Outlier channels"',
    hypotheses=[Hypothesis("independent_signs", "the signs of the coordinates are independent of each other")],
    mutants={"columns for rows": {"rows": False}, "norms not squared": {"power": 1}},
)
def sign_flip_overlap_mean(given: Given, *, rows: bool = True, power: int = 2, independent_signs: bool = True) -> Goals:
    """Under random signs of the coordinates the mean overlap is the product of the leverages of the two frames.

    Shown for arbitrary A, B over all sign patterns; in general E e_i e_j = delta_ij leaves the diagonal of the double
    sum of e_i e_j <a_i, a_j> <b_i, b_j>. If random A and B are independent, and each has a law that coordinate signs
    leave alone, then the mean is the product of the mean leverages: so for margin-matched surrogates.
    """
    n = given.size("n")
    a, b = given.matrix("A", "n", "r"), given.matrix("B", "n", "s")
    patterns = list(product([1, -1], repeat=n)) if independent_signs else [(1,) * n, (-1,) * n]
    pairs = list(product(patterns, repeat=2))
    mean = sum(square_norm(a.T * diag(*first) * diag(*second) * b) for first, second in pairs) / Integer(len(pairs))
    if not rows:
        a, b = a.T, b.T
    leverages = [[sum(abs(entry) ** power for entry in frame[i, :]) for i in range(frame.rows)] for frame in (a, b)]
    yield equal("mean", mean, sum(left * right for left, right in zip(*leverages, strict=False)))


@statement(
    Generic(n=2, r=1, s=2),
    Generic(n=3, r=1, s=1),
    latex=r"\mathrm{Var}_{D}\,\|A^\top DB\|_F^2 = 2\sum_{i\ne j}(AA^\top)_{ij}^2\,(BB^\top)_{ij}^2",
    source='docs/concepts/baselines.md, "Outlier channels"',
    hypotheses=[Hypothesis("independent_signs", "the signs of the coordinates are independent of each other")],
    mutants={"diagonal too": {"diagonal": True}, "factor 1": {"factor": 1}},
)
def sign_flip_overlap_spread(
    given: Given, *, factor: int = 2, diagonal: bool = False, independent_signs: bool = True
) -> Goals:
    """Under random signs of the coordinates the variance of the overlap is an inner product of squared projectors.

    Shown for arbitrary A, B over all sign patterns; in general the products of two different signs are uncorrelated.
    """
    n = given.size("n")
    a, b = given.matrix("A", "n", "r"), given.matrix("B", "n", "s")
    patterns = list(product([1, -1], repeat=n)) if independent_signs else [(1,) * n, (-1,) * n]
    values = [square_norm(a.T * diag(*signs) * b) for signs in patterns]
    mean = sum(values) / Integer(len(values))
    variance = sum(value**2 for value in values) / Integer(len(values)) - mean**2
    first, second = a * a.T, b * b.T
    entries = [first[i, j] ** 2 * second[i, j] ** 2 for i, j in product(range(n), repeat=2) if diagonal or i != j]
    yield equal("variance", variance, Integer(factor) * sum(entries))


@statement(
    Exhaustive(n=2, r=1, s=2),
    Exhaustive(n=3, r=1, s=1),
    latex=r"\mathbb{E}_{D, D'}\,\|(P + DE)^\top (Q + D'F)\|_F^2 = \|P^\top Q\|_F^2 + \sum_i \bigl(\|e_i\|^2\|f_i\|^2 "
    r"+ \|p_i\|^2\|f_i\|^2 + \|e_i\|^2\|q_i\|^2\bigr), \quad p_i, q_i, e_i, f_i \text{ the rows of } P, Q, E, F",
    source='docs/concepts/baselines.md, "A common mean"',
    hypotheses=[Hypothesis("independent_signs", "the signs of the two frames are independent of each other")],
    mutants={"what is kept left out": {"kept": 0}, "the kept part meets no rest": {"meeting": 0}},
)
def mean_matched_overlap_mean(
    given: Given, *, kept: int = 1, meeting: int = 1, independent_signs: bool = True
) -> Goals:
    """Where a part of two frames is kept and the rest of each gets random signs, the four products add up on average.

    Shown for arbitrary P, Q, E, F over all sign patterns. With P = Q = 0 it is `sign_flip_overlap_mean`.
    """
    n, r, s = (given.size(name) for name in "nrs")
    sizes = Generic(n=n, r=r, s=s)
    p, e = (sizes.matrix(name, "n", "r") for name in "PE")
    q, f = (sizes.matrix(name, "n", "s") for name in "QF")
    patterns = [diag(*signs) for signs in product([1, -1], repeat=n)]
    pairs = list(product(patterns, repeat=2)) if independent_signs else [(pattern, pattern) for pattern in patterns]
    mean = sum(square_norm((p + d * e).T * (q + other * f)) for d, other in pairs) / Integer(len(pairs))
    rest = sum(
        square_norm(e[i, :]) * square_norm(f[i, :])
        + meeting * (square_norm(p[i, :]) * square_norm(f[i, :]) + square_norm(e[i, :]) * square_norm(q[i, :]))
        for i in range(n)
    )
    yield equal("mean", mean, Integer(kept) * square_norm(p.T * q) + rest)


@statement(
    DimensionFree(),
    Exact(L=4, d=5),
    latex=r"\text{orthonormal directions, centred: } \mathrm{EVR}_k = \frac{k}{L-1},\; k < L, \quad "
    r"\text{so } \mathrm{EVR}_3 = \frac{3}{L-1} \text{ for } L \ge 4",
    source='docs/concepts/baselines.md, "Flags and bases"',
    hypotheses=[Hypothesis("orthonormal", "the directions are orthonormal, as unrelated ones are for d much above L")],
    mutants={"total L": {"loss": 0}},
)
def explained_variance_null(given: Given, *, loss: int = 1, orthonormal: bool = True) -> Goals:
    """Unrelated directions of L layers, centred, have L - 1 equal variances: k < L components explain k / (L - 1).

    From k = L - 1 on they explain everything. With V the d x L frame of directions and e = (1, .., 1)/sqrt(L), the
    centred Gram is the projector I - e e^T.
    """
    frame = given.frame("V", "d", "L") if orthonormal else given.matrix("V", "d", "L")
    unit = given.frame("e", "L", 1)
    centred = frame * (given.identity("L") - unit * unit.T)
    gram = centred.T * centred
    yield equal("the Gram is a projector", gram * gram, gram)
    yield equal("its trace is L - 1", tr(gram), given.size("L") - loss)


@statement(
    Exact(largest=3),
    latex=r"\pi = r_1 + r_2 - 2\,r_{12} = r_1 + r_2 - 2\min(n,d,p) \text{ for generic weights}",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"',
    hypotheses=[Hypothesis("generic", "the weights are in general position, as random ones almost surely are")],
    mutants={"counted once": {"factor": 1}},
)
def random_polystability_defect(given: Given, *, factor: int = 2, generic: bool = True) -> Goals:
    """Random weights have product rank min(n, d, p), so their polystability defect is known, and 0 if square.

    Checked at one seeded pair of each shape up to the largest size.
    """
    sizes = range(1, given.size("largest") + 1)
    for n, d, p in product(sizes, repeat=3):
        exact = Exact(n=n, d=d, p=p)
        w1 = exact.matrix("W_1", "d", "n") if generic else zeros(d, n)
        w2 = exact.matrix("W_2", "p", "d")
        r1, r2, r12 = w1.rank(), w2.rank(), (w2 * w1).rank()
        expected = min(n, d) + min(d, p) - factor * min(n, d, p)
        yield equal(f"defect for n = {n}, d = {d}, p = {p}", (r1 - r12) + (r2 - r12), expected)
