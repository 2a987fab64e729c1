"""Numbers of two composable weights: what leaves them alone, and what unrelated weights give."""

from itertools import permutations
from typing import Any

from sympy import (
    Integer,
    Matrix,
    Rational,
    cancel,
    diag,
    eye,
    integrate,
    limit,
    oo,
    pi,
    sqrt,
    symbols,
    together,
)

from .evidence import Citation
from .given import DimensionFree, Exact, Generic, Given, inner, square_norm, tr
from .goal import Goals, equal
from .moments import (
    UNIFORM,
    haar_coefficients,
    mean_outer_product,
    mean_under_rotations,
    paired_moments,
    second_moment,
)
from .observables import ROTATION, acting_map
from .statement import Hypothesis, statement


@statement(
    DimensionFree(),
    Exact(n=3, d=3, p=2),
    latex=r"(W_1,W_2)\to(c\,QW_1R,\,c\,SW_2Q^\top):\quad \kappa,\; \frac{\|A-B\|}{\|A\|+\|B\|} \text{ are unchanged}",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"',
    hypotheses=[ROTATION, Hypothesis("common_scale", "one scale acts on both weights")],
    mutants={"scale counted once": {"degree": 1}},
)
def balance_invariance(given: Given, *, degree: int = 2, orthogonal: bool = True, common_scale: bool = True) -> Goals:
    """The Kempf-Ness gap and the imbalance are invariant under rotations and a common scale of the two weights.

    The nuclear norm is made of the singular values of the product, which is turned on both sides.
    """
    w1, w2 = given.matrix("W_1", "d", "n"), given.matrix("W_2", "p", "d")
    q, turn, other = acting_map(given, orthogonal), given.orthogonal("R", "n"), given.orthogonal("S", "p")
    scale = given.positive("c")
    moved_w1, moved_w2 = scale * q * w1 * turn, (scale if common_scale else 1) * other * w2 * q.T
    factor = scale**degree
    moved, product = moved_w2 * moved_w1, w2 * w1
    yield equal(
        "|W₁|² + |W₂|²", square_norm(moved_w1) + square_norm(moved_w2), factor * (square_norm(w1) + square_norm(w2))
    )
    yield equal("tr Mᵀ M", square_norm(moved), factor**2 * square_norm(product))
    yield equal("M → c² S M R", moved, factor * other * product * turn)
    imbalance, before = moved_w1 * moved_w1.T - moved_w2.T * moved_w2, w1 * w1.T - w2.T * w2
    yield equal("|A - B|²", square_norm(imbalance), factor**2 * square_norm(before))


def diagonal_square(gram: Any) -> Any:
    """Sum of the squared diagonal entries."""
    return sum(gram[i, i] ** 2 for i in range(gram.rows))


@statement(
    Generic(d=2),
    Generic(d=3),
    latex=r"P \text{ a signed permutation}:\quad \|\mathrm{diag}\,PAP^\top\| = \|\mathrm{diag}\,A\|",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[Hypothesis("permutation", "the hidden units are permuted, with signs, and not mixed")],
    mutants={"one unit scaled": {"scale": 2}},
)
def unit_norms_invariance(given: Given, *, scale: int = 1, permutation: bool = True) -> Goals:
    """The gate commutator and the imbalance of single units are invariant under permutations and signs of the units.

    Rotations, and scalings of single units, change the diagonal that they are made of. Shown for every order of the
    units with the sign of one of them changed.
    """
    d = given.size("d")
    generic = Generic(d=d)
    a, b = generic.symmetric("A", "d"), generic.symmetric("B", "d")
    for order in permutations(range(d)):
        for flipped in range(d):
            signs = diag(*(-1 if i == flipped else scale if i == (flipped + 1) % d else 1 for i in range(d)))
            turn = signs * eye(d).permute_cols(list(order))
            if not permutation:
                turn = Exact(d=d).orthogonal("Q", "d")
            back = turn if permutation and scale == 1 else turn.inv().T
            yield equal("|diag A|²", diagonal_square((turn * a * turn.T).expand()), diagonal_square(a))
            moved = turn * a * turn.T - back * b * back.T
            yield equal("|diag(A - B)|²", diagonal_square(moved.expand()), diagonal_square(a - b))


@statement(
    DimensionFree(),
    Exact(n=3, d=3, p=2),
    latex=r"T = [W_1,W_2^\top]:\quad (QT)(QT)^\top = Q\,TT^\top Q^\top",
    source='docs/concepts/training.md, "Noise"',
    hypotheses=[ROTATION],
    mutants={"row space moved by g": {"opposite": True}},
)
def stacked_ratio_invariance(given: Given, *, opposite: bool = False, orthogonal: bool = True) -> Goals:
    """The singular values of the two weights side by side are invariant under rotations of their common space."""
    w1, w2 = given.matrix("W_1", "d", "n"), given.matrix("W_2", "p", "d")
    q = acting_map(given, orthogonal)
    readers = (w2 * q if opposite else w2 * q.T).T
    moved = q * w1 * (q * w1).T + readers * readers.T
    gram = w1 * w1.T + w2.T * w2
    yield equal("T Tᵀ is conjugated by a rotation", moved, q * gram * q.T)
    yield equal("tr (T Tᵀ)²", tr(moved * moved), tr(gram * gram))


@statement(
    DimensionFree(),
    Exact(d=4, k=2, a=2, b=2),
    latex=r"(QF)^\top(QAQ^\top)(QF) = F^\top AF",
    source='docs/concepts/baselines.md, "Commutators"',
    hypotheses=[ROTATION],
    mutants={"window left behind": {"turned": False}},
)
def window_invariance(given: Given, *, turned: bool = True, orthogonal: bool = True) -> Goals:
    """Gram matrices compressed to a subspace that turns with the space are invariant under rotations.

    The common window does turn: it is spanned by eigenvectors of the sum of two projectors.
    """
    a, frame = given.symmetric("A", "d"), given.frame("F", "d", "k")
    u, v = given.frame("U", "d", "a"), given.frame("V", "d", "b")
    q = acting_map(given, orthogonal)
    moved = (q if turned else given.identity("d")) * frame
    yield equal("the compression", moved.T * (q * a * q.T) * moved, frame.T * a * frame)
    total = u * u.T + v * v.T
    yield equal("the sum of projectors turns", (q * u) * (q * u).T + (q * v) * (q * v).T, q * total * q.inv())


@statement(
    DimensionFree(),
    latex=r"\mathbb{E}\,\|A-QBQ^\top\|^2 = \|A\|^2+\|B\|^2-\tfrac2d\,\mathrm{tr}A\,\mathrm{tr}B,\qquad "
    r"\mathrm{Var}\,\langle A,QBQ^\top\rangle = \frac{2\,\|A_0\|^2\|B_0\|^2}{(d-1)(d+2)}",
    source='docs/concepts/baselines.md, "Balance"',
    hypotheses=[UNIFORM],
    mutants={"variance without the factor 2": {"factor": 1}, "mean without the dimension": {"power": 0}},
)
def gram_imbalance_null(given: Given, *, factor: int = 2, power: int = 1) -> Goals:
    """The imbalance of unrelated layers has an explicit mean square, and their Gram cosine an explicit variance.

    |A - Q B Q^T|^2 is linear in Q B Q^T but for constants, and by invariance E[Q B Q^T] = c I with c d = tr B. The
    variance is the pairing of the second moments with the traceless part of A.
    """
    d, (trace,) = given.size("d"), symbols("t_B,")
    a, b, turn = given.symmetric("A", "d"), given.symmetric("B", "d"), given.orthogonal("Q", "d")
    turned = turn * b * turn.T
    yield equal("|A - Q B Qᵀ|²", square_norm(a - turned), square_norm(a) + square_norm(b) - 2 * tr(a * turned))
    mean = mean_under_rotations(given, trace)
    yield equal("E <A, Q B Qᵀ>", tr(a * mean), tr(a) * trace / d**power)
    centred = a - tr(a) / d * given.identity("d")
    variance = factor * square_norm(centred) / ((d - 1) * (d + 2))
    yield equal("Var / |B₀|²", paired_moments(d, centred), variance)


@gram_imbalance_null.also(Generic(d=2), Generic(d=3), example=True)
def gram_product_entries(given: Given, *, factor: int = 2, power: int = 1, uniform: bool = True) -> Goals:
    """Show mean and variance entry by entry, for a generic A."""
    d = given.size("d")
    gram = given.symmetric("A", "d")
    trace = given.real("t_B")
    outer = trace * mean_outer_product(d, uniform=uniform)
    yield equal("E <A, Q B Qᵀ>", inner(gram, outer), gram.trace() * trace / Integer(d) ** power)
    gram = gram - gram.trace() / d * eye(d)
    places = [(i, j) for i in range(d) for j in range(d)]
    mean = sum(gram[x] * gram[y] * second_moment(d, *x, *y, uniform=uniform) for x in places for y in places)
    yield equal("E <A₀, Y>²", mean, Rational(factor, (d - 1) * (d + 2)) * square_norm(gram))


@statement(
    Generic(d=2),
    Generic(d=3),
    Generic(d=4),
    latex=r"\mathbb{E}_\pi\sum_i a_ib_{\pi(i)} = \frac{\sum a\,\sum b}{d},\qquad "
    r"\mathrm{Var}_\pi = \frac{\sum(a-\bar a)^2\,\sum(b-\bar b)^2}{d-1}",
    source='docs/concepts/baselines.md, "Balance"; Wald and Wolfowitz',
    mutants={"divided by d": {"shift": 0}},
    hypotheses=[Hypothesis("permuted", "the units of one weight are in uniformly random order")],
)
def permuted_diagonal_null(given: Given, *, shift: int = 1, permuted: bool = True) -> Goals:
    """The imbalance of single units has an explicit mean square when the units of one weight are in random order.

    |a - P b|^2 = |a|^2 + |b|^2 - 2 <a, P b>, averaged over all orders.
    """
    d = given.size("d")
    a, b = (Matrix(symbols(f"{name}_0:{d}", positive=True)) for name in "ab")
    orders = list(permutations(range(d))) if permuted else [tuple(range(d))]
    products = [sum(a[i] * b[order[i]] for i in range(d)) for order in orders]
    mean = sum(products) / Integer(len(orders))
    total_a, total_b = sum(a), sum(b)
    yield equal("mean", mean, total_a * total_b / Integer(d))
    spread_a, spread_b = (sum((x - total / d) ** 2 for x in part) for part, total in ((a, total_a), (b, total_b)))
    variance = sum((product - mean) ** 2 for product in products) / Integer(len(orders))
    yield equal("variance", variance.expand(), (spread_a * spread_b / Integer(d - shift)).expand())


def resolvent_root(u: Any, second: Any, third: Any) -> Any:
    """t(u) to first order in u, for a Gram matrix with normalised trace 1 and these higher moments.

    From u = 1 / t - m_2 / t^2 + m_3 / t^3, inverted.
    """
    return 1 / u - second + (third - second**2) * u


@statement(
    DimensionFree(),
    latex=r"\mathbb{E}\,\|W_2QW_1\|_* \simeq \tfrac{2d}{\pi}\int_0^{r/d}\!\!\sqrt{t(u)}\,du,\qquad "
    r"t(u) = t_A(u)\,t_B(u)\,\tfrac{u}{1-u},\qquad \tfrac1d\mathrm{tr}\tfrac{A}{A+t_A(u)} = u",
    source='docs/concepts/baselines.md, "Balance"; Voiculescu; Collins, Mingo, Śniady and Speicher',
    mutants={"without the factor u / (1 - u)": {"factor": 0}, "half of the integral": {"share": Rational(1, 2)}},
    cites=[
        Citation(
            "t multiplies so for free matrices, to which unrelated orientations tend in wide spaces",
            "D. Voiculescu, J. Operator Theory 18 (1987) and Invent. Math. 104 (1991)",
        ),
        Citation(
            "the kernel of the variance of linear statistics of a free product",
            "B. Collins, J. Mingo, P. Śniady and R. Speicher, Doc. Math. 12 (2007)",
        ),
    ],
)
def free_nuclear_norm(given: Given, *, factor: int = 1) -> Goals:
    """The nuclear norm of a product in unrelated orientation has explicit mean and variance in wide spaces.

    That t multiplies so is Voiculescu's theorem on the S-transform, and the kernel of the variance is that of
    second-order freeness; both are cited. Checked are the law of the first two moments of the product and of the
    variance of its trace against the exact Haar averages, and the integral in closed cases.
    """
    u = symbols("u", positive=True)
    a2, a3, b2, b3 = symbols("a_2 a_3 b_2 b_3")
    root_a, root_b = resolvent_root(u, a2, a3), resolvent_root(u, b2, b3)
    composed = cancel(together(u * root_a * root_b * (u / (1 - u)) ** factor))  # 1 - m_2 u + ...
    yield equal("first moment of the product", composed.subs(u, 0), 1)
    d = given.size("d")
    alpha, beta = haar_coefficients(d)
    square_b = d * (b2 - 1)  # |B_0|^2, with tr B = d
    exact = (d * a2 + square_b * ((alpha + beta) * d * a2 + beta * d**2)) / d
    yield equal("second moment of the product", -composed.diff(u).subs(u, 0), limit(together(exact), d, oo))


@free_nuclear_norm.also(DimensionFree())
def variance_kernel(given: Given, *, factor: int = 1) -> Goals:
    """Show that the variance of the trace, the leading term of the kernel, is the exact one of wide spaces."""
    u, v, a2, b2, a3, b3 = given.positive("u v a_2 b_2 a_3 b_3")
    step = symbols("epsilon")

    def roots(z: Any) -> tuple[Any, Any, Any]:
        t_a, t_b = resolvent_root(z, a2, a3), resolvent_root(z, b2, b3)
        return t_a, t_b, t_a * t_b * (z / (1 - z)) ** factor

    x, y = step * u, step * v
    of_a, of_b, of_product = (left - right for left, right in zip(roots(x), roots(y), strict=True))
    kernel = cancel(together(x * y * of_a * of_b / ((y - x) * of_product)))
    constant, first, second = (kernel.diff(step, order).subs(step, 0) for order in range(3))
    yield equal("constant term", constant, 1)
    yield equal("first order", first, 0)
    # Of the logarithm, which has the same second order; 2 |A_0|^2 |B_0|^2 / d^2 is the variance of the trace.
    yield equal("twice the second order", second, 2 * (a2 - 1) * (b2 - 1) * u * v)


@free_nuclear_norm.also(DimensionFree(), example=True)
def closed_cases(given: Given, *, factor: int = 1, share: Any = 1) -> Goals:
    """Show that the integral gives roots, that the identity is a unit, and the case of two half-dimensional projectors.

    Their squared cosines follow the arcsine law, with mean cosine 2 / pi.
    """
    u, x, s = given.positive("u x s")
    root = 2 / pi * integrate(x / (x + s**2), (s, 0, oo))
    yield equal("(2/π) ∫ x / (x + s²) ds = √x", share * root, sqrt(x))
    identity = (1 - u) / u
    yield equal("t for A = 1 is t_B", identity * (u / (1 - u)) ** factor, 1)
    projector = (1 - 2 * u) / (2 * u)
    antiderivative = sqrt(u * (1 - u))
    yield equal(
        "two projectors: d√(u (1 - u)) = √t du", antiderivative.diff(u) ** 2, projector**2 * (u / (1 - u)) ** factor
    )
    total = share * 2 / pi * (antiderivative.subs(u, Rational(1, 2)) - antiderivative.subs(u, 0))
    yield equal("their mean cosine, of half of the directions", total, Rational(1, 2) * 2 / pi)
