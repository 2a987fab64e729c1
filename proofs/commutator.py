"""What an activation does to the ridge law, and how far from commuting two Grams or two projectors can be.

Per sample: a = W_1 x, the gate D = diag(sigma'(a)), h = sigma(a), b = W_2^T delta the gradient with respect to h,
K = a b^T - b a^T. An activation is homogeneous if h = D a (ReLU, leaky ReLU, |.|, linear).
"""

from itertools import combinations, product
from typing import Any

from sympy import Rational, diag, symbols, zeros

from .balance import EQUAL_RIDGE, HALF_CONVENTION, PLAIN_GRADIENT, imbalance, imbalance_rate
from .given import DimensionFree, Exact, Exhaustive, Generic, Given, bracket, inner, square_norm, tr
from .goal import Goals, at_least, equal
from .statement import Hypothesis, Wording, statement

STATIONARY = Hypothesis("stationary", r"both weights are stationary and $\lambda > 0$")
HOMOGENEOUS = Hypothesis("homogeneous", r"the activation is positively homogeneous: $\sigma(a) = \sigma'(a)\,a$")


def gate_rates(given: Given, *, homogeneous: bool, equal_ridge: bool, plain_gradient: bool) -> dict[str, Any]:
    """One sample of a gated interface with a bias: its vectors, its gate, and both sides' time derivatives."""
    w1, w2 = given.matrix("W_1", "d", "n"), given.matrix("W_2", "p", "d")
    x, delta, gate = given.matrix("x", "n", 1), given.matrix("delta", "p", 1), given.diagonal("D", "d")
    ridge = given.positive("lambda")
    other = ridge if equal_ridge else given.positive("mu")
    a, b = w1 * x, w2.T * delta
    h = gate * a if homogeneous else given.matrix("h", "d", 1)
    back = gate * b if plain_gradient else given.symmetric("P", "d") * gate * b
    rate = imbalance_rate(w1, w2, -back * x.T - ridge * w1, -delta * h.T - other * w2)
    return {"a": a, "b": b, "e": h - gate * a, "gate": gate, "rate": rate, "decay": -2 * ridge * imbalance(w1, w2)}


def stationary_sides(
    given: Given, *, stationary: bool, homogeneous: bool, equal_ridge: bool, plain_gradient: bool
) -> dict[str, Any]:
    """2 lambda Delta from the stationarity of both layers, mean over two samples, and the two parts of the obstruction.

    lambda A = -E[D b a^T] and lambda B = -E[b h^T], each put in as the mean of itself and its transpose.
    """
    half, commutator, beyond = (given.zeros("d", "d") for _ in range(3))
    ratio = 1 if equal_ridge else given.positive("mu")
    for sample in (1, 2):
        a, b = given.matrix(f"a_{sample}", "d", 1), given.matrix(f"b_{sample}", "d", 1)
        gate = given.diagonal(f"D_{sample}", "d")
        h = gate * a if homogeneous else given.matrix(f"h_{sample}", "d", 1)
        back = gate * b if plain_gradient else given.symmetric("P", "d") * gate * b
        e = h - gate * a
        half += (-back * a.T + ratio * b * h.T) / 2
        commutator += bracket(gate, a * b.T - b * a.T) / 2
        beyond += (e * b.T + b * e.T) / 2
    if not stationary:
        half += given.matrix("R", "d", "d")
    return {"doubled": half + half.T, "commutator": commutator, "beyond": beyond}


@statement(
    DimensionFree(),
    Generic(n=2, d=3, p=2),
    latex=r"\dot\Delta = -2\lambda\Delta + \mathbb{E}_x[D_x, K_x], \qquad K_x = a_x b_x^\top - b_x a_x^\top",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[HOMOGENEOUS, EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"sign of the commutator": {"sign": -1}, "no commutator": {"sign": 0}},
    wording=Wording(
        point="D7",
        said="Nonlinear activations induce a commutator obstruction to exact basis alignment.",
        holds="For positively homogeneous activations the commutator is the whole obstruction. For tanh, GELU and SiLU "
        "the term e b^T + b e^T with e = sigma(a) - sigma'(a) a comes on top (`smooth_gate_law`).",
        counterexample="A generic h that is not D a leaves the difference e b^T + b e^T, with a non-zero diagonal.",
    ),
)
def gate_law(
    given: Given,
    *,
    sign: int = 1,
    homogeneous: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """A homogeneous activation adds to the ridge law of the imbalance exactly the commutator [D, K] of each sample."""
    s = gate_rates(given, homogeneous=homogeneous, equal_ridge=equal_ridge, plain_gradient=plain_gradient)
    obstruction = bracket(s["gate"], s["a"] * s["b"].T - s["b"] * s["a"].T)
    yield equal("Δ' = -2 λ Δ + [D, K]", s["rate"], s["decay"] + sign * obstruction)


@statement(
    DimensionFree(),
    Generic(n=2, d=3, p=2),
    latex=r"\dot\Delta = -2\lambda\Delta + \mathbb{E}\bigl[[D,K] + e b^\top + b e^\top\bigr], \qquad "
    r"e = \sigma(a) - \sigma'(a)\,a",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"commutator alone": {"extra": 0}, "extra term twice": {"extra": 2}},
)
def smooth_gate_law(given: Given, *, extra: int = 1, equal_ridge: bool = True, plain_gradient: bool = True) -> Goals:
    """Any other activation adds e b^T + b e^T to the commutator, a term that is no commutator."""
    s = gate_rates(given, homogeneous=False, equal_ridge=equal_ridge, plain_gradient=plain_gradient)
    obstruction = bracket(s["gate"], s["a"] * s["b"].T - s["b"] * s["a"].T)
    beyond = s["e"] * s["b"].T + s["b"] * s["e"].T
    yield equal("Δ' = -2 λ Δ + [D, K] + e bᵀ + b eᵀ", s["rate"], s["decay"] + obstruction + extra * beyond)


@statement(
    DimensionFree(),
    Generic(n=2, d=3, p=2),
    latex=r"\Delta_\beta = W_1 W_1^\top + \beta\beta^\top - W_2^\top W_2, \qquad "
    r"\dot\Delta_\beta = -2\lambda\Delta_\beta + \mathbb{E}[D,K]",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[
        Hypothesis("ridge_on_bias", "the bias carries the same ridge as the weights"),
        HOMOGENEOUS,
        EQUAL_RIDGE,
        PLAIN_GRADIENT,
        HALF_CONVENTION,
    ],
    mutants={"bias left out of the imbalance": {"augmented": 0}},
)
def gate_law_with_bias(
    given: Given,
    *,
    augmented: int = 1,
    ridge_on_bias: bool = True,
    homogeneous: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """With a bias the gate law holds for the weight augmented by the bias as one more column."""
    w1, w2, bias = given.matrix("W_1", "d", "n"), given.matrix("W_2", "p", "d"), given.matrix("beta", "d", 1)
    x, delta, gate = given.matrix("x", "n", 1), given.matrix("delta", "p", 1), given.diagonal("D", "d")
    ridge = given.positive("lambda")
    a, b = w1 * x + bias, w2.T * delta
    h = gate * a if homogeneous else given.matrix("h", "d", 1)
    back = gate * b if plain_gradient else given.symmetric("P", "d") * gate * b
    w1_rate = -back * x.T - ridge * w1
    w2_rate = -delta * h.T - (ridge if equal_ridge else given.positive("mu")) * w2
    bias_rate = -back - ridge * bias if ridge_on_bias else -back
    rate = imbalance_rate(w1, w2, w1_rate, w2_rate) + augmented * (bias_rate * bias.T + bias * bias_rate.T)
    decay = -2 * ridge * (imbalance(w1, w2) + augmented * bias * bias.T)
    yield equal("Δ_β' = -2 λ Δ_β + [D, K]", rate, decay + bracket(gate, a * b.T - b * a.T))


@statement(
    DimensionFree(),
    Exact(d=3),
    latex=r"[D,K]_{ii} = 0, \qquad \mathrm{diag}(\Delta)^{\textstyle\cdot} = -2\lambda\,\mathrm{diag}(\Delta)",
    source='docs/concepts/training.md, "Activations"; Du, Hu and Lee 2018',
    hypotheses=[Hypothesis("diagonal_gate", "the activation acts entrywise: the axis $e$ is an eigenvector of $D$")],
    mutants={"with the extra term of a smooth activation": {"smooth": 1}},
)
def balance_per_neuron(given: Given, *, smooth: int = 0, diagonal_gate: bool = True) -> Goals:
    """The gate commutator has zero diagonal: the balance of every single neuron survives a homogeneous activation.

    A symmetric D with D e = delta e is delta e e^T + (I - e e^T) Y (I - e e^T) for some symmetric Y.
    """
    axis = given.frame("e", "d", 1)
    rest = given.identity("d") - axis * axis.T
    gate = given.symmetric("Y", "d")
    if diagonal_gate:
        gate = given.real("delta") * axis * axis.T + rest * gate * rest
    a, b = given.matrix("a", "d", 1), given.matrix("b", "d", 1)
    obstruction = bracket(gate, a * b.T - b * a.T) + smooth * (a * b.T + b * a.T)
    yield equal("eᵀ [D, K] e = 0", tr(axis.T * obstruction * axis), 0)


@statement(
    Generic(d=3),
    latex=r"[D,K]_{ij} = (D_i - D_j)\,(a_i b_j - b_i a_j)",
    source='docs/concepts/training.md, "Activations"',
    mutants={"sum of gates": {"sign": 1}},
)
def gate_commutator_entries(given: Given, *, sign: int = -1) -> Goals:
    """The gate commutator compares the gates of two neurons, so it vanishes where they are equal."""
    gate, a, b = given.diagonal("D", "d"), given.matrix("a", "d", 1), given.matrix("b", "d", 1)
    commutator, skew = bracket(gate, a * b.T - b * a.T), a * b.T - b * a.T
    for i in range(given.size("d")):
        for j in range(given.size("d")):
            yield equal(f"[D, K]_{i}{j}", commutator[i, j], (gate[i, i] + sign * gate[j, j]) * skew[i, j])
    yield equal("[D, K] is symmetric", commutator, commutator.T)


@statement(
    DimensionFree(),
    latex=r"\|\Delta^*\| \le \frac{1}{2\lambda}\,\mathbb{E}\Bigl[(\max D - \min D)"
    r"\sqrt{2\,(\|a\|^2\|b\|^2 - \langle a,b\rangle^2)}\Bigr]",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[STATIONARY, HOMOGENEOUS, EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={
        "half the norm of K": {"factor": 1},
        "half the spread": {"share": Rational(1, 2)},
        "twice the imbalance": {"multiple": 4},
    },
)
def obstruction_bound(given: Given, *, factor: int = 2) -> Goals:
    """At stationarity the imbalance is bounded by the spread of the gates and the area spanned by a and b.

    2 lambda Delta* is the mean of [D, K], whose norm is at most the mean norm. [D, K] is [D - c, K] for the middle c of
    the gates, and D - c is half the spread times a contraction (`spread_bound`).
    """
    a, b = given.matrix("a", "d", 1), given.matrix("b", "d", 1)
    area = square_norm(a) * square_norm(b) - inner(a, b) ** 2
    yield equal("|K|² = 2 (|a|² |b|² - <a, b>²)", square_norm(a * b.T - b * a.T), factor * area)


@obstruction_bound.also(DimensionFree(), Generic(d=3))
def stationary_commutator(
    given: Given,
    *,
    multiple: int = 2,
    stationary: bool = True,
    homogeneous: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """Show that at stationarity 2 lambda Delta is the mean of [D, K] alone."""
    sides = stationary_sides(
        given,
        stationary=stationary,
        homogeneous=homogeneous,
        equal_ridge=equal_ridge,
        plain_gradient=plain_gradient,
    )
    yield equal("2 λ Δ = E [D, K]", Rational(multiple, 2) * sides["doubled"], sides["commutator"])


@obstruction_bound.also(DimensionFree(), Exact(d=2, N=3))
def spread_bound(given: Given) -> Goals:
    """Show |[D, K]| <= (max D - min D) |K|: the slack is a sum of squares.

    A contraction is F^T G for two frames in a larger space.
    """
    half, skew = given.positive("rho"), given.matrix("K", "d", "d")
    first, second = given.frame("F", "N", "d"), given.frame("G", "N", "d")
    gate, whole = half * first.T * second, given.identity("N")
    lost_left = (whole - first * first.T) * second * skew
    lost_right = (whole - second * second.T) * first * skew.T
    slack = square_norm(gate * skew + skew * gate) + 2 * half**2 * (square_norm(lost_left) + square_norm(lost_right))
    yield equal(
        "(2 ρ)² |K|² - |[D, K]|²", (2 * half) ** 2 * square_norm(skew) - square_norm(bracket(gate, skew)), slack
    )


@obstruction_bound.also(Generic(d=3), example=True)
def three_gates(given: Given, *, factor: int = 2, share: Any = 1) -> Goals:
    """Show |[D, K]| <= (max D - min D) |K| for three gates in increasing order, and |K| in coordinates."""
    low = given.real("D_0")
    step, next_step = symbols("u v", nonnegative=True)
    gate = diag(low, low + step, low + step + next_step)
    a, b = given.matrix("a", "d", 1), given.matrix("b", "d", 1)
    skew = a * b.T - b * a.T
    area = square_norm(a) * square_norm(b) - inner(a, b) ** 2
    yield equal("|K|² = 2 (|a|² |b|² - <a, b>²)", square_norm(skew), factor * area)
    k01, k02, k12 = given.real("K_01 K_02 K_12")
    free = zeros(3)
    free[0, 1], free[0, 2], free[1, 2] = k01, k02, k12
    free = free - free.T
    spread = share * (step + next_step)
    yield at_least("spread² |K|² ≥ |[D, K]|²", spread**2 * square_norm(free), square_norm(bracket(gate, free)))


@statement(
    DimensionFree(),
    Generic(d=3),
    latex=r"2\lambda\Delta^* = \mathbb{E}\bigl[[D,K] + e b^\top + b e^\top\bigr], \qquad "
    r"K = ab^\top - ba^\top,\; e = h - Da",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[STATIONARY, EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"without the factor 2": {"factor": 1}, "sign of the commutator": {"sign": -1}},
)
def stationary_imbalance(
    given: Given,
    *,
    factor: int = 2,
    sign: int = 1,
    stationary: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """At a stationary point the imbalance equals the mean obstruction over 2 lambda, without any fitted number.

    Of one sample, a = W_1 x comes to the hidden units, h = sigma(a) leaves them, D = diag(sigma'(a)) is the gate,
    b = W_2^T delta the gradient with respect to h, and E the mean over samples. Stationarity gives
    lambda A = -E[D b a^T] and lambda B = -E[b h^T]; both are symmetric only as a consequence.
    """
    sides = stationary_sides(
        given, stationary=stationary, homogeneous=False, equal_ridge=equal_ridge, plain_gradient=plain_gradient
    )
    obstruction = sign * sides["commutator"] + sides["beyond"]
    yield equal("2 λ Δ = E[[D, K] + e bᵀ + b eᵀ]", Rational(factor, 2) * sides["doubled"], obstruction)


@statement(
    DimensionFree(),
    Exact(d=4),
    latex=r"[D,A] = \begin{bmatrix}0&Q\\-Q^\top&0\end{bmatrix},\quad \|[D,A]\|^2 = 2\|Q\|^2,\quad "
    r"[DAD,A] = \begin{bmatrix}0&PQ\\-(PQ)^\top&0\end{bmatrix}",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[Hypothesis("mask", "the gates are 0 or 1, so $D$ is a projector"), Hypothesis("symmetric", "$A=A^T$")],
    mutants={"norm counted once": {"factor": 1}, "sum of blocks": {"sign": 1}},
)
def mask_commutator(
    given: Given, *, factor: int = 2, sign: int = -1, mask: bool = True, symmetric: bool = True
) -> Goals:
    """A mask commutes with a Gram exactly if the Gram has no entries between the masked neurons and the others.

    P = A_SS and Q = A_S,S' are the blocks D A D and D A (I - D) of the mask D = 1_S.
    """
    gate = given.projector("D", "d") if mask else given.diagonal("D", "d")
    gram = given.symmetric("A", "d") if symmetric else given.matrix("A", "d", "d")
    block = gate * gram * (given.identity("d") - gate)
    yield equal("[D, A] = Q - Qᵀ", bracket(gate, gram), block + sign * block.T)
    yield equal("|[D, A]|² = 2 |Q|²", square_norm(bracket(gate, gram)), factor * square_norm(block))
    gated = gate * gram * gate
    yield equal("[D A D, A] = P Q - (P Q)ᵀ", bracket(gated, gram), gated * block + sign * (gated * block).T)


@statement(
    Exhaustive(d=2),
    Exhaustive(d=3),
    Exhaustive(d=4),
    latex=r"\mathrm{codim}\{A \in \mathrm{Sym}(d) : [1_S, A] = 0\} = s(d-s)",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[Hypothesis("separating", "some mask separates every pair of neurons")],
    mutants={"codimension s d": {"overlap": 0}},
)
def mask_codimension(given: Given, *, overlap: int = 1, separating: bool = True) -> Goals:
    """Commuting with a mask of size s costs s (d - s) conditions; masks that separate all neurons leave the diagonal.

    Entry (i, j) of [D, A] is (D_i - D_j) A_ij, so the conditions are the separated pairs.
    """
    d = given.size("d")
    pairs = list(combinations(range(d), 2))
    masks = [set(mask) for size in range(d + 1) for mask in combinations(range(d), size)]

    def separated(mask: set[int]) -> set[tuple[int, int]]:
        return {(i, j) for i, j in pairs if (i in mask) != (j in mask)}

    for mask in masks:
        s, gate = len(mask), diag(*(int(i in mask) for i in range(d)))
        symmetric = Generic(d=d).symmetric("A", "d")
        conditions = bracket(gate, symmetric).reshape(d * d, 1)
        unknowns = sorted(symmetric.free_symbols, key=str)
        yield equal(f"codimension for S = {sorted(mask)}", conditions.jacobian(unknowns).rank(), s * (d - overlap * s))
    active = masks if separating else masks[:1]
    yield equal("diagonal", len(set().union(*(separated(mask) for mask in active))), d * (d - 1) // 2)


@statement(
    Generic(d=2),
    Generic(d=3),
    latex=r"\mathbb{E}\,\|[D,A]\|^2 = 2v\sum_{i\ne j}A_{ij}^2, \qquad v = q(1-q)",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[Hypothesis("independent", "the gates of different neurons are independent")],
    mutants={"second moment for the variance": {"centred": 0}},
    wording=Wording(
        point="D10",
        said="The commutator magnitude and head subspace overlap serve as weight-space windows into internal "
        "alignment structure, requiring no forward passes.",
        holds="The gate commutator of the weights gives the expected size for independent gates. Input covariance, "
        "biases and correlated gates are not in the weights.",
        counterexample="Gates that all open together give zero for every Gram.",
    ),
)
def independent_gates(given: Given, *, centred: int = 1, independent: bool = True) -> Goals:
    """For independent gates of variance v the mean squared commutator is 2 v times the off-diagonal mass of the Gram.

    The mean is a sum over all masks, with probability q for an open gate.
    """
    d, q = given.size("d"), symbols("q", positive=True)
    gram = Generic(d=d).symmetric("A", "d")
    mean = 0
    for gates in product((0, 1), repeat=d):
        opened = sum(gates)
        weight = q**opened * (1 - q) ** (d - opened) if independent else {d: q, 0: 1 - q}.get(opened, 0)
        mean += weight * square_norm(bracket(diag(*gates), gram))
    off_diagonal = square_norm(gram) - sum(gram[i, i] ** 2 for i in range(d))
    yield equal("E |[D, A]|²", mean, 2 * (q - centred * q**2) * off_diagonal)
