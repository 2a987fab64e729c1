"""How angles between adjacent layers decay in time under weight decay: the rates, and what they need.

As in the balance of adjacent layers, W_1 is d x n, W_2 is p x d, their hidden Grams are A and B, and Delta = A - B.
"""

from typing import Any

from sympy import Matrix, cancel, exp, log, sqrt, symbols

from .balance import EQUAL_RIDGE, HALF_CONVENTION, PLAIN_GRADIENT, SMALL, THROUGH_PRODUCT, flow_rates, imbalance
from .given import DimensionFree, Exact, Generic, Given
from .goal import Goals, equal
from .statement import Hypothesis, statement


def wedge(first: Any, second: Any) -> Any:
    """Signed area of two vectors of the plane."""
    return first[0] * second[1] - first[1] * second[0]


@statement(
    DimensionFree(),
    *SMALL,
    latex=r"\mathrm{gap}_k(A_t) \ge \gamma \;\Rightarrow\; \|\sin\Theta(U_k, V_k)\|_F \le "
    r"\frac{\sqrt2\,e^{-2\lambda t}\|\Delta_0\|_F}{\gamma}; \qquad \le \varepsilon \text{ from } "
    r"t = \frac{1}{2\lambda}\log\frac{\sqrt2\|\Delta_0\|_F}{\gamma\varepsilon} \text{ on}",
    source='docs/concepts/training.md, "Subspaces and angles"',
    hypotheses=[
        Hypothesis(
            "gap", r"$\lambda_k(A_t) - \lambda_{k+1}(A_t) \ge \gamma > 0$ at all times: the loss keeps a signal"
        ),
        THROUGH_PRODUCT,
        EQUAL_RIDGE,
        PLAIN_GRADIENT,
        HALF_CONVENTION,
    ],
    mutants={"rate lambda": {"rate": 1}, "rate 4 lambda": {"rate": 4}},
)
def angle_decay(
    given: Given,
    *,
    rate: int = 2,
    through_product: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """While a spectral gap persists, weight decay closes the angles of two linear layers at least at rate 2 lambda.

    The imbalance solves Delta' = -2 lambda Delta, so it is e^(-2 lambda t) Delta_0, and divided by the gap it bounds
    the angles at each time (`angle_bound`). In the plane, with the loss -lambda W_2 W_1, they decay exactly so.
    """
    speed, decayed = flow_rates(
        given, through_product=through_product, equal_ridge=equal_ridge, plain_gradient=plain_gradient
    )
    yield equal("Δ' = -2 λ Δ", speed, -rate * decayed)


@angle_decay.also(DimensionFree())
def time_to_an_angle(given: Given, *, rate: int = 2) -> Goals:
    """Show the time at which the bound reaches a given sine."""
    ridge, start, gap, sine = given.positive("lambda D_0 gamma epsilon")
    t = log(sqrt(2) * start / (gap * sine)) / (2 * ridge)
    yield equal("√2 e^(-2 λ t) |Δ₀| / γ = ε", sqrt(2) * exp(-rate * ridge * t) * start / gap, sine)


@angle_decay.also(Generic(n=1, d=2, p=1), example=True)
def slowest_angle(given: Given, *, rate: int = 2, gap: bool = True) -> Goals:
    """Show a run in which the angle decays at rate 2 lambda and no faster, and one without signal in which it stays.

    The weights are a column a and a row b^T, the gradient g of the loss by b^T a is -lambda, so a + b stays and a - b
    decays; without signal, g = 0, both decay alike.
    """
    ridge, t = given.positive("lambda t")
    total, difference = (Matrix(given.real(f"{name}_1 {name}_2")) for name in "sd")
    gradient = -ridge if gap else 0
    kept, decayed = exp(-(gradient + ridge) * t) * total, exp((gradient - ridge) * t) * difference
    a, b = (kept + decayed) / 2, (kept - decayed) / 2
    yield equal("a' = -g b - λ a", a.diff(t), -gradient * b - ridge * a)
    yield equal("b' = -g a - λ b", b.diff(t), -gradient * a - ridge * b)
    start = imbalance(a, b.T).subs(t, 0)
    yield equal("Δ_t = e^(-2 λ t) Δ₀", imbalance(a, b.T), exp(-rate * ridge * t) * start)
    # With x = e^(-2 λ t) the squared sine is a rational function, whose value at x = 0 is the limit for late times.
    x = symbols("x", positive=True)
    # Without signal both weights shrink by e^(-λ t), a factor that no angle sees.
    scaled = [weight if gap else (weight * exp(ridge * t)).expand() for weight in (a, b)]
    late = [weight.subs(exp(-2 * ridge * t), x) for weight in scaled]
    squared_sine = wedge(*late) ** 2 / (late[0].dot(late[0]) * late[1].dot(late[1]))
    yield equal("the angle vanishes", squared_sine.subs(x, 0), 0)
    constant = 4 * wedge(total, difference) ** 2 / total.dot(total) ** 2
    yield equal("sin² ~ x² 4 |s ∧ d|² / |s|⁴", cancel(squared_sine / x**rate).subs(x, 0), constant)


@statement(
    DimensionFree(),
    Exact(n=4, d=3, p=2),
    latex=r"G\,W_1^\top P_\perp = 0 \;\Rightarrow\; \dot P = 0,\quad "
    r"\tfrac{d}{dt}(P_\perp W_1) = -\lambda\,P_\perp W_1",
    source='docs/concepts/training.md, "Subspaces and angles"',
    hypotheses=[
        Hypothesis("row_space", "$P$ projects onto the row space of $W_2$"),
        Hypothesis("unseen", r"the gradient does not see the part of $W_1$ outside: $G\,W_1^\top P_\perp = 0$"),
        HALF_CONVENTION,
    ],
    mutants={"rate 2 lambda": {"rate": 2}},
)
def containment_rate(given: Given, *, rate: int = 1, row_space: bool = True, unseen: bool = True) -> Goals:
    """The part of the first layer outside the row space of the second may decay at rate lambda and no faster.

    So the rate lambda of `containment` is sharp. G sees inputs in the image of L alone, and W_1 takes those into the
    row space of W_2: both weights then leave the row space where it is, and outside it only weight decay acts.
    """
    projector, seen = given.projector("P", "d"), given.projector("L", "n")
    off, unseen_inputs = given.identity("d") - projector, given.identity("n") - seen
    free = given.matrix("Y", "p", "d")
    w2 = free * projector if row_space else free
    w1 = projector * given.matrix("X", "d", "n") + off * given.matrix("Z", "d", "n") * unseen_inputs
    gradient = given.matrix("H", "p", "n")
    gradient = gradient * seen if unseen else gradient
    ridge = given.positive("lambda")
    rate_1, rate_2 = -w2.T * gradient - ridge * w1, -gradient * w1.T - ridge * w2
    yield equal("the row space stays", rate_2 * off, given.zeros("p", "d"))
    yield equal("(P⊥ W₁)' = -λ P⊥ W₁", off * rate_1, -rate * ridge * off * w1)
