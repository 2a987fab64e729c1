"""The commutator of two projectors or of two Grams: what it measures, its bound, and what it cannot certify."""

from typing import Any

from sympy import Matrix, Rational, S, cos, diag, eye, sin, sqrt, symbols

from .given import DimensionFree, Exact, Generic, Given, bracket, inner, square_norm, tr
from .goal import Goals, Outcome, at_least, differ, equal
from .statement import Hypothesis, Wording, statement


@statement(
    DimensionFree(),
    Exact(d=5, a=2, b=3),
    latex=r"\|[P_A,P_B]\|^2 = 2\bigl(\mathrm{tr}\,P_AP_B - \mathrm{tr}\,(P_AP_B)^2\bigr) = "
    r"\tfrac12\sum_i \sin^2 2\theta_i",
    source='docs/concepts/symmetry.md, "What rotations leave"',
    hypotheses=[Hypothesis("projectors", "both matrices are orthogonal projectors")],
    mutants={"factor 1": {"factor": 1}, "plus": {"sign": 1}},
)
def projector_commutator(given: Given, *, factor: int = 2, sign: int = -1, projectors: bool = True) -> Goals:
    """The commutator of two projectors measures how far the principal angles are from 0 and from a right angle.

    The squared cosines are the eigenvalues of C^T C with C = U^T V, and 2 (cos^2 - cos^4) = sin^2(2 theta) / 2.
    """
    u, v = given.frame("U", "d", "a"), given.frame("V", "d", "b")
    p = u * u.T if projectors else given.symmetric("S", "d")
    q, c = v * v.T, u.T * v
    squares = square_norm(bracket(p, q))
    yield equal("|[P, Q]|² = 2 (tr P Q - tr (P Q)²)", squares, factor * (tr(p * q) + sign * tr(p * q * p * q)))
    yield equal("|[P, Q]|² = 2 (tr CᵀC - tr (CᵀC)²)", squares, factor * (tr(c.T * c) + sign * tr(c.T * c * c.T * c)))


@projector_commutator.also(DimensionFree())
def angle_form(given: Given, *, factor: int = 2, sign: int = -1) -> Goals:
    """Show that each principal angle adds sin^2(2 theta) / 2, since its squared cosine is an eigenvalue of C^T C."""
    theta = given.real("theta")
    of_angle = factor * (cos(theta) ** 2 + sign * cos(theta) ** 4)
    yield equal("2 (cos² - cos⁴) = sin²(2θ) / 2", of_angle, sin(2 * theta) ** 2 / 2)


@projector_commutator.also(Generic(d=2), example=True)
def two_lines(given: Given, *, factor: int = 2, sign: int = -1) -> Goals:
    """Show the angle formula for two lines of the plane."""
    theta = given.real("theta")
    p, u = diag(1, 0), Matrix([cos(theta), sin(theta)])
    q = u * u.T
    yield equal("|[P, Q]|² = sin²(2θ) / 2", square_norm(bracket(p, q)), sin(2 * theta) ** 2 / 2)
    yield equal("tr P Q - tr (P Q)²", factor * (tr(p * q) + sign * tr((p * q) ** 2)), sin(2 * theta) ** 2 / 2)


@statement(
    Exact(d=4),
    latex=r"\mathrm{tr}\,P_AP_B \in \mathbb{Z} \;\Rightarrow\; \mathrm{tr}\,P_AP_B = \dim(A\cap B)",
    source='docs/concepts/symmetry.md, "What rotations leave"',
    mutants={"right angles": {"cosine": S.Zero}, "a shared line": {"cosine": S.One}},
    recorded=Outcome.REFUTED,
)
def integer_overlap(given: Given, *, cosine: Any = None) -> Goals:
    """An overlap that is an integer counts the dimensions that two subspaces share.

    Two planes at two angles of 45 degrees have overlap 1 and meet in 0; the commutator tells them apart.
    """
    cosine = sqrt(2) / 2 if cosine is None else cosine
    sine = sqrt(1 - cosine**2)
    first = eye(given.size("d"))[:, :2]
    second = Matrix([[cosine, 0], [0, cosine], [sine, 0], [0, sine]])
    overlap = square_norm(first.T * second)
    yield equal("the overlap is an integer", overlap, overlap.round())
    yield differ("overlap ≠ intersection dimension", overlap, 4 - first.row_join(second).rank())


@statement(
    DimensionFree(),
    Generic(n=2, d=2, p=2),
    latex=r"\|[A,B]\|^2 = 2\,\mathrm{tr}\bigl((W_1^\top W_1)N^\top(W_2W_2^\top)N\bigr) - "
    r"2\,\mathrm{tr}\bigl((N^\top N)^2\bigr), \qquad N = W_2W_1",
    source='docs/concepts/baselines.md, "Commutators"',
    mutants={"factor 1 in front of the second trace": {"second": 1}, "plus": {"second": -2}},
)
def cheap_commutator(given: Given, *, second: int = 2) -> Goals:
    """The Gram commutator needs the small products of the two weights only, never a d x d matrix."""
    w1, w2 = given.matrix("W_1", "d", "n"), given.matrix("W_2", "p", "d")
    product = w2 * w1
    a, b = w1 * w1.T, w2.T * w2
    direct = 2 * tr(a * a * b * b) - second * tr(a * b * a * b)
    cheap = 2 * tr(w1.T * w1 * product.T * w2 * w2.T * product) - second * tr(product.T * product * product.T * product)
    yield equal("|[A, B]|² = 2 tr A² B² - 2 tr (A B)²", square_norm(bracket(a, b)), direct)
    yield equal("|[A, B]|² through N", square_norm(bracket(a, b)), cheap)


@statement(
    DimensionFree(),
    Generic(m=2),
    latex=r"\|[A,B]\| \le \tfrac{1}{\sqrt2}\,\|A\|\,\|B\| \text{ for } A, B \succeq 0, \text{ sharp}",
    source='docs/concepts/baselines.md, "Commutators"',
    hypotheses=[Hypothesis("semidefinite", "both matrices are positive semidefinite, as Grams are")],
    mutants={"bound 1/2": {"share": Rational(1, 2)}, "cross term once": {"cross": 1}},
)
def commutator_bound(given: Given, *, cross: int = 2) -> Goals:
    """The commutator of two Grams is at most |A| |B| / sqrt(2), and two lines at 45 degrees attain it.

    With A = diag(l): |[A,B]|^2 = sum (l_i - l_j)^2 B_ij^2 <= sum_i l_i^2 2 |v_i|^2, v_i the row of B without its
    diagonal entry beta. The rest of B is v v^T / beta plus its Schur complement X X^T, so |B| >= beta + |v|^2 / beta
    and |v|^2 <= beta (|B| - beta) <= |B|^2 / 4. The first step, a sum over entries, is shown for d = 3.
    """
    v, x, beta = given.matrix("v", "m", 1), given.matrix("X", "m", "m"), given.positive("beta")
    schur = x * x.T
    lower = square_norm(v * v.T / beta + schur)
    excess = cross * square_norm(x.T * v) / beta + square_norm(schur)
    yield equal("|v vᵀ/β + X Xᵀ|² - (|v|²/β)² is a sum of squares", lower - (square_norm(v) / beta) ** 2, excess)


@commutator_bound.also(Generic(d=3))
def row_lemma(given: Given) -> Goals:
    """Show the steps in numbers: the diagonal form, the eigenvalue bound, and the row lemma."""
    eigenvalues = symbols("l_0:3", nonnegative=True)
    gram = given.symmetric("B", "d")
    entries = [(i, j) for i in range(3) for j in range(3)]
    spread = sum((eigenvalues[i] - eigenvalues[j]) ** 2 * gram[i, j] ** 2 for i, j in entries)
    rows = sum(2 * eigenvalues[i] ** 2 * gram[i, j] ** 2 for i, j in entries if i != j)
    yield equal("|[A, B]|² = Σ (l_i - l_j)² B_ij²", square_norm(bracket(diag(*eigenvalues), gram)), spread)
    yield at_least("(l_i - l_j)² ≤ l_i² + l_j²", rows, spread)
    beta, q, norm = symbols("beta q |B|", positive=True)
    yield equal("β² + 2q + q²/β² = (β + q/β)²", beta**2 + 2 * q + q**2 / beta**2, (beta + q / beta) ** 2)
    yield at_least("β (|B| - β) ≤ |B|²/4", (norm / 2 - beta) ** 2, 0)
    yield equal("|B|²/4 - β (|B| - β)", norm**2 / 4 - beta * (norm - beta), (norm / 2 - beta) ** 2)


@commutator_bound.also(Exact(d=3), example=True)
def bound_on_instances(given: Given, *, share: Any = 1, semidefinite: bool = True) -> Goals:
    """Show an exact instance, and the two lines at 45 degrees that attain the bound."""

    def bound(a: Any, b: Any) -> Any:
        return share * square_norm(a) * square_norm(b) / 2

    x, y = given.matrix("X", "d", "d"), given.matrix("Y", "d", "d")
    a, b = x * x.T, y * y.T
    if not semidefinite:
        a, b = diag(1, -1, 0), Matrix([[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    yield at_least("|[A, B]|² ≤ |A|² |B|² / 2", bound(a, b), square_norm(bracket(a, b)))
    line, diagonal = diag(1, 0), Matrix([[1, 1], [1, 1]]) / 2
    yield equal("attained", square_norm(bracket(line, diagonal)), bound(line, diagonal))


@statement(
    Exact(d=2),
    latex=r"[A,B] = 0 \;\Rightarrow\; u_1 = \pm v_1",
    source='docs/concepts/training.md, "Levels of alignment"',
    mutants={"same order": {"exchanged": False}},
    recorded=Outcome.REFUTED,
    wording=Wording(
        point="D8",
        said="The commutator magnitude and head subspace overlap serve as weight-space windows into internal "
        "alignment structure, requiring no forward passes.",
        holds="A zero commutator means a common eigenbasis, in any order. It has to be read with the overlap, and "
        "against a null of about 1/sqrt(2 d) for random layers.",
        counterexample="A = diag(2, 1) and B = diag(1, 2) commute, and their leading directions are orthogonal.",
    ),
)
def commuting_means_aligned(given: Given, *, exchanged: bool = True) -> Goals:
    """Two Grams that commute have the same leading direction."""
    a, b = diag(2, 1), diag(1, 2) if exchanged else diag(2, 1)
    first, second = (max(gram.eigenvects(), key=lambda found: found[0])[2][0] for gram in (a, b))
    yield equal("[A, B] = 0", bracket(a, b), given.zeros("d", "d"))
    yield equal("the leading eigenvectors are orthogonal", inner(first, second), 0)


@statement(
    Generic(d=2),
    latex=r"\rho = \frac{\|[A,B]\|}{\sqrt{2d/((d-1)(d+2))}\,\|A_0\|\,\|B_0\|} = "
    r"\tfrac12\sqrt{\tfrac{d(d+2)}{d-1}} \text{ for two lines at } 45^\circ",
    source='docs/concepts/baselines.md, "Commutators"',
    mutants={"never above 1": {"value": S.One}},
)
def rho_of_two_lines(_: Given, *, value: Any = None) -> Goals:
    """The normalised commutator of two rank-one Grams at 45 degrees grows like sqrt(d) / 2, so it may exceed 1.

    Of the d dimensions only the plane of the two lines matters: |[A,B]|^2 = 1/2 there, and |A_0|^2 = 1 - 1/d.
    """
    d = symbols("d", integer=True, positive=True)
    line, diagonal = diag(1, 0), Matrix([[1, 1], [1, 1]]) / 2
    traceless = 1 - 1 / d
    squared = square_norm(bracket(line, diagonal)) / (2 * d / ((d - 1) * (d + 2)) * traceless**2)
    yield equal("ρ²", squared, d * (d + 2) / (4 * (d - 1)) if value is None else value)
