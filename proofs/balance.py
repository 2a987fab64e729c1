"""Ridge balances adjacent linear layers: the decay of the imbalance and what follows from it.

Two adjacent weights W_1 (d x n) and W_2 (p x d), the gradient G = dL/d(W_2 W_1), the hidden Grams A = W_1 W_1^T
and B = W_2^T W_2, and the imbalance Delta = A - B. The ridge is (lambda / 2) |W|^2.
"""

from typing import Any

from sympy import Function, Matrix, Rational, diag, eye, zeros

from .given import DimensionFree, Exact, Generic, Given, bracket, inner, square_norm, tr
from .goal import Goals, Outcome, differ, equal
from .statement import Hypothesis, Wording, statement

PLAIN_GRADIENT = Hypothesis("plain_gradient", "the gradient acts as it is: no preconditioner, as Adam has one")
THROUGH_PRODUCT = Hypothesis("through_product", "the loss sees the two layers only through $W_2 W_1$")
EQUAL_RIDGE = Hypothesis("equal_ridge", "both layers carry the same ridge")
HALF_CONVENTION = Hypothesis("convention", r"the penalty is $\tfrac{\lambda}{2} |W|^2$", essential=False)
SYMMETRIC_GENERATOR = Hypothesis("symmetric_generator", "$S$ is symmetric")

SMALL = (Generic(n=2, d=2, p=2), Generic(n=3, d=2, p=1), Generic(n=2, d=3, p=2))


def interface(given: Given) -> tuple[Any, Any, Any]:
    """Two adjacent weights and the gradient of the loss with respect to their product."""
    return given.matrix("W_1", "d", "n"), given.matrix("W_2", "p", "d"), given.matrix("G", "p", "n")


def first_gradient(
    given: Given, w2: Any, gradient: Any, *, through_product: bool = True, plain_gradient: bool = True
) -> Any:
    """What the first layer descends along: W_2^T G, unless the loss sees the layer otherwise or P comes before it."""
    direct = w2.T * gradient if through_product else w2.T * gradient + given.matrix("H", "d", "n")
    return direct if plain_gradient else given.symmetric("P", "d") * direct


def flow_rates(
    given: Given, *, through_product: bool = True, equal_ridge: bool = True, plain_gradient: bool = True
) -> tuple[Any, Any]:
    """Time derivative of the imbalance under gradient flow with ridge, and lambda times the imbalance."""
    w1, w2, gradient = interface(given)
    ridge = given.positive("lambda")
    along = first_gradient(given, w2, gradient, through_product=through_product, plain_gradient=plain_gradient)
    w2_rate = -gradient * w1.T - (ridge if equal_ridge else given.positive("mu")) * w2
    return imbalance_rate(w1, w2, -along - ridge * w1, w2_rate), ridge * imbalance(w1, w2)


def imbalance(w1: Any, w2: Any) -> Any:
    """Difference of the two hidden Grams."""
    return w1 * w1.T - w2.T * w2


def imbalance_rate(w1: Any, w2: Any, w1_rate: Any, w2_rate: Any) -> Any:
    """Time derivative of the imbalance, by the product rule."""
    return w1_rate * w1.T + w1 * w1_rate.T - w2_rate.T * w2 - w2.T * w2_rate


@statement(
    DimensionFree(),
    Generic(m=2),
    latex=r"\dot\theta = -\nabla L - \lambda\theta \;\Rightarrow\; "
    r"\frac{d}{dt}\langle\theta, S\theta\rangle = -2\lambda\langle\theta, S\theta\rangle",
    source='docs/concepts/training.md, "Ridge and the balance of two layers"; arXiv:2012.04728',
    hypotheses=[
        Hypothesis("symmetry", r"the loss is invariant under $e^{\epsilon S}$, so $\langle\nabla L, S\theta\rangle=0$"),
        SYMMETRIC_GENERATOR,
        PLAIN_GRADIENT,
        HALF_CONVENTION,
    ],
    mutants={"rate lambda": {"rate": 1}, "rate 4 lambda": {"rate": 4}},
)
def noether_ridge(
    given: Given,
    *,
    rate: int = 2,
    symmetry: bool = True,
    symmetric_generator: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """Ridge decays the quadratic charge of every symmetric generator of a symmetry of the loss.

    A gradient that is orthogonal to S theta has the form K S theta with K skew, so no relation is assumed.
    """
    ridge, theta = given.positive("lambda"), given.matrix("theta", "m", 1)
    generator = given.symmetric("S", "m") if symmetric_generator else given.matrix("S", "m", "m")
    mixing = given.matrix("K", "m", "m")
    gradient = (mixing - mixing.T if symmetry else mixing) * generator * theta
    speed = -(gradient if plain_gradient else given.symmetric("P", "m") * gradient) - ridge * theta
    charge_rate = inner(speed, generator * theta) + inner(theta, generator * speed)
    yield equal("q' = -2 λ q", charge_rate, -rate * ridge * inner(theta, generator * theta))


@noether_ridge.also(Generic(m=2), example=True)
def noether_two_weights(given: Given, *, rate: int = 2) -> Goals:
    """Show it for the loss f(t_1 t_2) of two scalar weights with an undefined function f."""
    t1, t2 = given.real("t_1 t_2")
    ridge, loss = given.positive("lambda"), Function("f")(t1 * t2)
    charge_rate = 2 * t1 * (-loss.diff(t1) - ridge * t1) - 2 * t2 * (-loss.diff(t2) - ridge * t2)
    yield equal("(t₁² - t₂²)' = -2 λ (t₁² - t₂²)", charge_rate.doit(), -rate * ridge * (t1**2 - t2**2))


@statement(
    DimensionFree(),
    Generic(m=2),
    latex=r"q^+ = (1-\eta\lambda)^2 q + \eta^2 \langle\nabla L, S\,\nabla L\rangle",
    source='docs/concepts/training.md, "Ridge and the balance of two layers"',
    hypotheses=[
        Hypothesis("symmetry", r"the loss, or each sample's loss, is invariant under $e^{\epsilon S}$"),
        SYMMETRIC_GENERATOR,
        PLAIN_GRADIENT,
        HALF_CONVENTION,
    ],
    mutants={"no source": {"source_factor": 0}, "source of order eta": {"source_power": 1}},
)
def noether_step(
    given: Given,
    *,
    source_factor: int = 1,
    source_power: int = 2,
    symmetry: bool = True,
    symmetric_generator: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """One gradient step contracts the charge by (1 - eta lambda)^2 and adds a source of order eta^2."""
    step, ridge = given.positive("eta lambda")
    theta, mixing = given.matrix("theta", "m", 1), given.matrix("K", "m", "m")
    generator = given.symmetric("S", "m") if symmetric_generator else given.matrix("S", "m", "m")
    gradient = (mixing - mixing.T if symmetry else mixing) * generator * theta
    along = gradient if plain_gradient else given.symmetric("P", "m") * gradient
    following = (1 - step * ridge) * theta - step * along
    source = source_factor * step**source_power * inner(gradient, generator * gradient)
    contracted = (1 - step * ridge) ** 2 * inner(theta, generator * theta)
    yield equal("q⁺ = (1 - η λ)² q + η² <g, S g>", inner(following, generator * following), contracted + source)


@statement(
    DimensionFree(),
    *SMALL,
    latex=r"\dot\Delta = -2\lambda\Delta, \qquad \Delta = W_1 W_1^\top - W_2^\top W_2",
    source='docs/concepts/training.md, "Ridge and the balance of two layers"; arXiv:2410.23819',
    hypotheses=[THROUGH_PRODUCT, EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"rate lambda": {"rate": 1}, "rate 4 lambda": {"rate": 4}, "growth": {"rate": -2}},
    wording=Wording(
        point="D5",
        said="Ridge regularization drives subspace alignment at an exponential rate set by weight decay.",
        holds="The imbalance decays as exp(-2 lambda t) under plain gradient flow with equal ridge. Residuals follow "
        "at rate lambda (`containment`), angles at rate 2 lambda only while a spectral gap persists (`angle_bound`).",
        counterexample="A preconditioner or unequal ridge breaks the law; without signal no angle moves (`no_signal`).",
    ),
)
def balance_law(
    given: Given,
    *,
    rate: int = 2,
    through_product: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """Ridge makes the imbalance of two adjacent linear layers decay exponentially, whatever the loss."""
    speed, decayed = flow_rates(
        given, through_product=through_product, equal_ridge=equal_ridge, plain_gradient=plain_gradient
    )
    yield equal("Δ' = -2 λ Δ", speed, -rate * decayed)


@statement(
    DimensionFree(),
    *SMALL,
    latex=r"\Delta^+ = (1-\eta\lambda)^2\Delta + \eta^2\,(W_2^\top G G^\top W_2 - W_1 G^\top G W_1^\top)",
    source='docs/concepts/training.md, "Ridge and the balance of two layers"',
    hypotheses=[THROUGH_PRODUCT, EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"sign of the source": {"sign": -1}, "contraction not squared": {"power": 1}},
)
def balance_step(
    given: Given,
    *,
    sign: int = 1,
    power: int = 2,
    through_product: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """One gradient step contracts the imbalance by (1 - eta lambda)^2 and adds a source of order eta^2."""
    w1, w2, g = interface(given)
    step, ridge = given.positive("eta lambda")
    other = ridge if equal_ridge else given.positive("mu")
    along = first_gradient(given, w2, g, through_product=through_product, plain_gradient=plain_gradient)
    following = imbalance((1 - step * ridge) * w1 - step * along, (1 - step * other) * w2 - step * g * w1.T)
    source = w2.T * g * g.T * w2 - w1 * g.T * g * w1.T
    contracted = (1 - step * ridge) ** power * imbalance(w1, w2)
    yield equal("Δ⁺ = (1 - η λ)² Δ + η² (...)", following, contracted + sign * step**2 * source)


@statement(
    DimensionFree(),
    Generic(n=2, d=2, p=2),
    latex=r"\dot\Delta = -2\,(\lambda_1 A - \lambda_2 B)",
    source='docs/concepts/training.md, "Ridge and the balance of two layers"',
    hypotheses=[THROUGH_PRODUCT, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"ridges exchanged": {"exchanged": True}},
)
def unequal_ridge(
    given: Given, *, exchanged: bool = False, through_product: bool = True, plain_gradient: bool = True
) -> Goals:
    """Unequal ridges l_1 and l_2 drive the hidden Grams towards l_1 A = l_2 B."""
    w1, w2, g = interface(given)
    first, second = given.positive("lambda_1 lambda_2")
    along = first_gradient(given, w2, g, through_product=through_product, plain_gradient=plain_gradient)
    rate = imbalance_rate(w1, w2, -along - first * w1, -g * w1.T - second * w2)
    if exchanged:
        first, second = second, first
    yield equal("Δ' = -2 (λ₁ A - λ₂ B)", rate, -2 * (first * w1 * w1.T - second * w2.T * w2))


@statement(
    DimensionFree(),
    Generic(n=2, d=2, p=2),
    latex=r"\lambda W_1 = -W_2^\top G,\; \lambda W_2 = -G W_1^\top \;\Rightarrow\; A = B",
    source='docs/concepts/training.md, "Ridge and the balance of two layers"',
    hypotheses=[THROUGH_PRODUCT, EQUAL_RIDGE, Hypothesis("positive", r"$\lambda > 0$")],
    mutants={"sum instead of difference": {"sign": -1}},
)
def critical_points_balanced(
    given: Given, *, sign: int = 1, through_product: bool = True, equal_ridge: bool = True
) -> Goals:
    """Every critical point of the ridged loss of a linear interface is exactly balanced.

    lambda times the imbalance is a combination of the gradients by the two layers, which vanish at a critical point.
    """
    w1, w2, g = interface(given)
    ridge = given.positive("lambda")
    other = ridge if equal_ridge else given.positive("mu")
    by_first = first_gradient(given, w2, g, through_product=through_product) + ridge * w1
    by_second = g * w1.T + other * w2
    combined = by_first * w1.T - sign * w2.T * by_second
    yield equal("λ (A - B) = ∇₁ W₁ᵀ - W₂ᵀ ∇₂", ridge * imbalance(w1, w2), combined)


@critical_points_balanced.also(Exact(d=2), example=True)
def critical_pair(given: Given, *, positive: bool = True) -> Goals:
    """Show it at a critical pair of orthogonal weights; without ridge the second one may be zero instead."""
    w1, w2 = given.orthogonal("Q", "d"), given.orthogonal("R", "d")
    ridge = given.positive("lambda")
    if not positive:
        ridge, w2 = Rational(0), given.zeros("d", "d")
    g = -ridge * w2 * w1
    yield equal("λ W₁ = -W₂ᵀ G", ridge * w1, -w2.T * g)
    yield equal("λ W₂ = -G W₁ᵀ", ridge * w2, -g * w1.T)
    yield equal("A = B", w1 * w1.T, w2.T * w2)


@statement(
    DimensionFree(),
    Exact(n=2, d=3, p=2, q=2, r=2),
    latex=r"\|(I-P_{\mathrm{row}\,W_2})W_1\|^2 = \mathrm{tr}(P_\perp\Delta P_\perp) \le e^{-2\lambda t}\,"
    r"\mathrm{tr}\,\Delta_0^+",
    source='docs/concepts/training.md, "Subspaces and angles"',
    hypotheses=[
        Hypothesis("row_space", "$P$ projects onto the row space of $W_2$"),
        THROUGH_PRODUCT,
        EQUAL_RIDGE,
        PLAIN_GRADIENT,
        HALF_CONVENTION,
    ],
    mutants={"factor 2": {"factor": 2}},
)
def containment(given: Given, *, factor: int = 1, row_space: bool = True) -> Goals:
    """The part of W_1 outside the row space of W_2 is bounded by the imbalance, so it decays at rate lambda.

    The bound holds at every time for the projector of that time; Delta_t = e^(-2 lambda t) Delta_0 is the balance law.
    A weight whose rows lie in the image of P is Y P for some Y; a symmetric matrix is X X^T - Z Z^T, where X X^T
    and Z Z^T are its positive and negative parts.
    """
    w1, projector = given.matrix("W_1", "d", "n"), given.projector("P", "d")
    free = given.matrix("Y", "p", "d")
    w2 = free * projector if row_space else free
    outside = given.identity("d") - projector
    residual = square_norm(outside * w1)
    yield equal("|P⊥ W₁|² = tr(P⊥ Δ P⊥)", factor * residual, tr(outside * imbalance(w1, w2) * outside))

    positive, negative = given.matrix("X", "d", "q"), given.matrix("Z", "d", "r")
    initial = positive * positive.T - negative * negative.T
    slack = square_norm(projector * positive) + square_norm(outside * negative)
    yield equal("tr Δ₀⁺ - tr(P⊥ Δ₀ P⊥) is a sum of squares", square_norm(positive) - tr(outside * initial), slack)


@containment.also(DimensionFree(), Generic(n=2, d=2, p=2))
def imbalance_decays(
    given: Given, *, through_product: bool = True, equal_ridge: bool = True, plain_gradient: bool = True
) -> Goals:
    """Show the differential equation that Delta_t = e^(-2 lambda t) Delta_0 solves."""
    speed, decayed = flow_rates(
        given, through_product=through_product, equal_ridge=equal_ridge, plain_gradient=plain_gradient
    )
    yield equal("Δ' = -2 λ Δ", speed, -2 * decayed)


@statement(
    DimensionFree(),
    Exact(d=4, k=2, q=2),
    latex=r"\|\sin\Theta(U_k, V_k)\|_F \le \frac{\sqrt2\,\|\Delta\|_F}{\lambda_k(A)-\lambda_{k+1}(A)}, \text{ sharp}",
    source='docs/concepts/training.md, "Subspaces and angles"; Davis and Kahan in the form of Yu, Wang and Samworth',
    hypotheses=[Hypothesis("spectral_gap", r"$\lambda_k(A) - \lambda_{k+1}(A) \ge \gamma > 0$ along the run")],
    mutants={"constant 1": {"constant": 1}, "smaller squares": {"share": Rational(1, 2)}},
)
def angle_bound(given: Given, *, share: Any = 1) -> Goals:
    """The angles between the leading eigenspaces of the two Grams are at most sqrt(2) times the imbalance over the gap.

    With the projectors P and Q, A is mu + gamma P + P X X^T P - (1 - P) Y Y^T (1 - P) for the gap gamma, and B has the
    same form with gap 0. For D = P - Q and |D|^2 = 2 |sin Theta|^2 the slack 2 |Delta|^2 - gamma^2 |sin Theta|^2 is a
    sum of squares, hence no less than 0. The constant is the least: `half_way_gram`.
    """
    u, v, identity = given.frame("U", "d", "k"), given.frame("V", "d", "k"), given.identity("d")
    p, q = u * u.T, v * v.T
    gap, level, other = given.positive("gamma mu nu")
    above, below = p * given.matrix("X", "d", "q"), (identity - p) * given.matrix("Y", "d", "q")
    up, down = q * given.matrix("Z", "d", "q"), (identity - q) * given.matrix("W", "d", "q")
    a = level * identity + gap * p + above * above.T - below * below.T
    b = other * identity + up * up.T - down * down.T
    squared_sine = given.size("k") - square_norm(u.T * v)
    yield equal("|P - Q|² = 2 |sin Θ|²", square_norm(p - q), 2 * squared_sine)
    squares = [(identity - q) * above, q * below, (identity - p) * up, p * down]
    slack = 2 * square_norm(a - b - gap / 2 * (p - q)) + 2 * gap * share * sum(square_norm(part) for part in squares)
    yield equal("2 |Δ|² - γ² |sin Θ|²", 2 * square_norm(a - b) - gap**2 * squared_sine, slack)


@angle_bound.also(Generic(d=2, k=1), example=True)
def half_way_gram(given: Given, *, constant: int = 2, spectral_gap: bool = True) -> Goals:
    """Show that A = gamma e_1 e_1^T and the scalar B = gamma / 2, of which e_2 is a leading direction, attain it.

    Without a gap nothing is asked of the eigenvalues of A, and the bound with gamma = 1 fails for a smaller one.
    """
    gap = given.positive("gamma") if spectral_gap else Rational(1, 10)
    squared_imbalance = square_norm(gap * diag(1, 0) - gap / 2 * given.identity("d"))
    assumed = gap if spectral_gap else 1
    yield equal("c² |Δ|² = γ² |sin Θ|²", constant * squared_imbalance, assumed**2)


@statement(
    DimensionFree(),
    Generic(n=2, d=2, p=1),
    latex=r"G = 0 \;\Rightarrow\; \frac{\|\Delta_t\|}{\|A_t\|},\; \frac{\langle A_t, B_t\rangle}{\|A_t\|\,\|B_t\|}"
    r"\text{ constant}",
    source='docs/concepts/training.md, "Subspaces and angles"',
    hypotheses=[EQUAL_RIDGE],
    mutants={"imbalance decays relative to the Grams": {"power": 3}},
    wording=Wording(
        point="D5",
        said="Ridge regularization drives subspace alignment at an exponential rate set by weight decay.",
        holds="Ridge drives balance. Alignment needs in addition a loss that keeps the signal alive.",
        counterexample="With zero gradient both weights shrink by one factor, and no angle moves.",
    ),
)
def no_signal(given: Given, *, power: int = 2, equal_ridge: bool = True) -> Goals:
    """Without a gradient, ridge shrinks both layers by one factor: relative imbalance and angles stay as they are."""
    w1, w2, _ = interface(given)
    first = given.positive("c")
    second = first if equal_ridge else given.positive("e")
    a, b = w1 * w1.T, w2.T * w2
    later_a, later_b = first**2 * a, second**2 * b
    relative = square_norm(later_a - later_b) * square_norm(a)
    yield equal("|Δ_t|² |A|² = |Δ|² |A_t|²", relative, square_norm(a - b) * first ** (2 * power) * square_norm(a))
    cosine = inner(later_a, later_b) ** 2 * square_norm(a) * square_norm(b)
    yield equal("Gram cosine", cosine, inner(a, b) ** 2 * square_norm(later_a) * square_norm(later_b))


@statement(
    Generic(n=2, d=3, p=2),
    latex=r"\theta = [W_1,\, W_2^\top]:\quad \theta^+ = \theta\Bigl((1-\eta\lambda)I - \eta"
    r"\begin{bmatrix}0&G^\top\\G&0\end{bmatrix}\Bigr), \qquad \Delta = \theta J\theta^\top",
    source='docs/concepts/training.md, "Noise"',
    hypotheses=[THROUGH_PRODUCT, EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"plus in the coupling": {"sign": 1}, "definite form": {"signature": 1}},
)
def stacked_recursion(
    given: Given,
    *,
    sign: int = -1,
    signature: int = -1,
    through_product: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """Training multiplies [W_1, W_2^T] from the right only, so im W_1 + row W_2 never leaves its first value."""
    w1, w2, g = interface(given)
    n, p = given.size("n"), given.size("p")
    step, ridge = given.positive("eta lambda")
    other = ridge if equal_ridge else given.positive("mu")
    along = first_gradient(given, w2, g, through_product=through_product, plain_gradient=plain_gradient)
    stacked = w1.row_join(w2.T)
    following = ((1 - step * ridge) * w1 - step * along).row_join(((1 - step * other) * w2 - step * g * w1.T).T)
    coupling = zeros(n).row_join(g.T).col_join(g.row_join(zeros(p)))
    yield equal("θ⁺ = θ M", following, stacked * ((1 - step * ridge) * eye(n + p) + sign * step * coupling))
    yield equal("Δ = θ J θᵀ", stacked * diag(eye(n), signature * eye(p)) * stacked.T, imbalance(w1, w2))


@stacked_recursion.also(DimensionFree(), Exact(n=3, p=2))
def stacked_modes(given: Given, *, sign: int = -1) -> Goals:
    """Show the modes of the recursion: a singular triple (s, x, y) of G grows or decays by 1 - eta (lambda -+ s).

    A matrix with that triple is s x y^T + (I - x x^T) R (I - y y^T); the mode is (y, -x).
    """
    x, y, size = given.frame("x", "p", 1), given.frame("y", "n", 1), given.positive("s")
    step, ridge = given.positive("eta lambda")
    rest = (given.identity("p") - x * x.T) * given.matrix("R", "p", "n") * (given.identity("n") - y * y.T)
    g = size * x * y.T + rest
    factor = 1 - step * (ridge - size)
    yield equal("upper half", (1 - step * ridge) * y + sign * step * g.T * (-x), factor * y)
    yield equal("lower half", (1 - step * ridge) * (-x) + sign * step * g * y, -factor * x)


@statement(
    Exact(n=2, d=2, p=2),
    latex=r"\mathbb{E}\,G = 0,\; \Delta = 0 \;\Rightarrow\; \Delta^+ = 0,\; [A^+, B^+] = 0",
    source='docs/concepts/training.md, "Noise"',
    mutants={"gradient noise that is symmetric": {"skewed": 0}},
    recorded=Outcome.REFUTED,
    wording=Wording(
        point="D6",
        said="The commutator obstruction is generically present in nonlinear networks and absent in linear ones.",
        holds="It is absent under gradient flow and in the full-batch limit. Mini-batch noise feeds the imbalance "
        "by eta^2 (W_2^T G G^T W_2 - W_1 G^T G W_1^T) at every step.",
        counterexample="W_1 = W_2 = I with gradient noise +G or -G for G nilpotent: mean zero, and after either step "
        "the Grams differ and do not commute.",
    ),
)
def noise_keeps_balance(given: Given, *, skewed: int = 1) -> Goals:
    """Gradient noise of mean zero leaves a balanced linear pair balanced and commuting."""
    step, noise = Rational(1, 10), Matrix([[0, 1], [1 - skewed, 0]])
    for sign in (1, -1):
        weight = given.identity("d") - sign * step * noise
        yield differ("Δ⁺ ≠ 0", imbalance(weight, weight), given.zeros("d", "d"))
        yield differ("[A⁺, B⁺] ≠ 0", bracket(weight * weight.T, weight.T * weight), given.zeros("d", "d"))
