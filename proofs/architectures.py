"""Where the ridge law reaches beyond two linear layers: heads, rotary embedding, streams, convolutions, normalisation.

A hidden space that several maps write into (W_j) and several read from (R_i), seen by the loss only through the
products R_i W_j, has the imbalance sum_j W_j W_j^T - sum_i R_i^T R_i. All laws here are of that form.
"""

from typing import Any

from sympy import pi, sin

from .balance import EQUAL_RIDGE, HALF_CONVENTION, PLAIN_GRADIENT
from .given import DimensionFree, Generic, Given, bracket, inner, rotation, square_norm, tr
from .goal import Goals, Outcome, differ, equal
from .statement import Hypothesis, Wording, statement

LINEAR_PATHS = Hypothesis("linear_paths", "nothing acts between the maps that write a space and those that read it")


def total(terms: Any) -> Any:
    """Sum of matrices, without a scalar zero to start from."""
    first, *rest = terms
    return sum(rest, first)


def shared_imbalance(writers: list[Any], readers: list[Any]) -> Any:
    """Written minus read Gram of a hidden space."""
    return total(w * w.T for w in writers) - total(r.T * r for r in readers)


def shared_law(
    given: Given,
    writers: list[Any],
    readers: list[Any],
    gradients: list[list[Any]],
    *,
    rate: int = 2,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
    gate: Any = None,
) -> tuple[Any, Any]:
    """Both sides of the law: time derivative of the imbalance, and -rate lambda times the imbalance.

    `gradients[i][j]` is the derivative of the loss by the product of reader i and writer j; a gate between them
    makes the product R_i gate W_j, and a preconditioner P acts on what the writers descend along.
    """
    ridge = given.positive("lambda")
    other = ridge if equal_ridge else given.positive("mu")
    between = given.identity("d") if gate is None else gate
    before = between.T if plain_gradient else given.symmetric("P", "d") * between.T
    writer_rates = [
        -total(before * r.T * gradients[i][j] for i, r in enumerate(readers)) - ridge * w for j, w in enumerate(writers)
    ]
    reader_rates = [
        -total(gradients[i][j] * w.T * between.T for j, w in enumerate(writers)) - other * r
        for i, r in enumerate(readers)
    ]
    written = total(dw * w.T + w * dw.T for w, dw in zip(writers, writer_rates, strict=True))
    read = total(dr.T * r + r.T * dr for r, dr in zip(readers, reader_rates, strict=True))
    return written - read, -rate * ridge * shared_imbalance(writers, readers)


@statement(
    DimensionFree(),
    Generic(d=2, n=3),
    latex=r"\frac{d}{dt}\,(W_K W_K^\top - W_Q W_Q^\top) = -2\lambda\,(W_K W_K^\top - W_Q W_Q^\top)",
    source='docs/concepts/training.md, "Where the law holds"; arXiv:2410.23819',
    hypotheses=[LINEAR_PATHS, EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"rate lambda": {"rate": 1}},
    wording=Wording(
        point="D12",
        said="The commutator obstruction is generically present in nonlinear networks and absent in linear ones.",
        holds="Inside a head nothing acts between query and key or value and output: the logits see W_Q^T W_K only, "
        "whatever softmax does with them, so the imbalance of a head decays as in a linear network.",
        counterexample="Rotary embedding is what breaks it (`rope_imbalance`), not softmax.",
    ),
)
def head_balance(
    given: Given, *, rate: int = 2, linear_paths: bool = True, equal_ridge: bool = True, plain_gradient: bool = True
) -> Goals:
    """Inside an attention head the query-key imbalance decays as in a linear network, softmax or not.

    The same law with W_V for W_K and W_O for W_Q^T is that of the value-output pair; a bias is one more column.
    """
    query, key = given.matrix("W_Q", "d", "n"), given.matrix("W_K", "d", "n")
    gradient = given.matrix("G", "n", "n")
    gate = None if linear_paths else given.diagonal("D", "d")
    left, right = shared_law(
        given,
        [key],
        [query.T],
        [[gradient]],
        rate=rate,
        equal_ridge=equal_ridge,
        plain_gradient=plain_gradient,
        gate=gate,
    )
    yield equal("Δ_QK' = -2 λ Δ_QK", left, right)


@statement(
    DimensionFree(),
    Generic(d=2, n=2),
    latex=r"\Delta = \sum_i W_{Q_i} W_{Q_i}^\top - W_K W_K^\top, \qquad \dot\Delta = -2\lambda\Delta",
    source='docs/concepts/training.md, "Where the law holds"',
    hypotheses=[LINEAR_PATHS, EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"one query head alone": {"heads": 1}, "rate lambda": {"rate": 1}},
)
def grouped_query_balance(
    given: Given,
    *,
    heads: int = 2,
    rate: int = 2,
    linear_paths: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """With grouped queries the law holds for the sum over the query heads that share a key.

    Shown for two query heads; each may stand for several, stacked as one matrix.
    """
    queries = [given.matrix("W_Q1", "d", "n"), given.matrix("W_Q2", "d", "n")]
    key, gradients = given.matrix("W_K", "d", "n"), [given.matrix("G_1", "n", "n"), given.matrix("G_2", "n", "n")]
    gate = None if linear_paths else given.diagonal("D", "d")
    left, right = shared_law(
        given,
        [key],
        [query.T for query in queries],
        [[g] for g in gradients],
        rate=rate,
        equal_ridge=equal_ridge,
        plain_gradient=plain_gradient,
        gate=gate,
    )
    if heads == 1:
        right += rate * given.positive("lambda") * queries[1] * queries[1].T
    yield equal("Δ' = -2 λ Δ", left, right)


def query_key_law(
    given: Given, between: Any, *, equal_ridge: bool = True, plain_gradient: bool = True
) -> tuple[Any, Any]:
    """Both sides of the query-key law for logits W_Q^T (between) W_K."""
    query, key = given.matrix("W_Q", "d", "n"), given.matrix("W_K", "d", "n")
    gradient = given.matrix("G", "n", "n")
    return shared_law(
        given, [key], [query.T], [[gradient]], gate=between, equal_ridge=equal_ridge, plain_gradient=plain_gradient
    )


@statement(
    DimensionFree(),
    Generic(d=2, n=2),
    latex=r"\mathrm{tr}\,\dot\Delta_{QK} = -2\lambda\,\mathrm{tr}\,\Delta_{QK} \text{ on each frequency block}",
    source='docs/concepts/training.md, "Where the law holds"',
    hypotheses=[EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"rate 4 lambda": {"factor": 2}},
)
def rope_trace_balance(
    given: Given, *, factor: int = 1, equal_ridge: bool = True, plain_gradient: bool = True
) -> Goals:
    """Rotary embedding keeps the law for the trace of the imbalance on each frequency block.

    The trace belongs to the scaling of keys against queries, so any fixed map R may stand between them. Nothing
    else survives a rotation: the symmetric generators that commute with it are the multiples of the identity.
    """
    left, right = query_key_law(
        given, given.matrix("R", "d", "d"), equal_ridge=equal_ridge, plain_gradient=plain_gradient
    )
    yield equal("tr Δ' = -2 λ tr Δ", tr(left), factor * tr(right))


@rope_trace_balance.also(Generic(d=2))
def symmetric_commutant(given: Given) -> Goals:
    """Show that a symmetric matrix commutes with a rotation exactly as far as it is scalar."""
    angle, symmetric = given.real("theta"), given.symmetric("S", "d")
    defect = symmetric - tr(symmetric) / 2 * given.identity("d")
    commuting = square_norm(bracket(symmetric, rotation(angle)))
    yield equal("|[S, R]|² = 4 sin² θ |S - scalar|²", commuting, 4 * sin(angle) ** 2 * square_norm(defect))


@statement(
    Generic(d=2, n=2),
    latex=r"\dot\Delta_{QK} = -2\lambda\Delta_{QK} \text{ with rotary embedding}",
    source='docs/concepts/training.md, "Where the law holds"',
    mutants={"no rotation": {"angle": 0}, "half turn": {"angle": pi}},
    recorded=Outcome.REFUTED,
)
def rope_imbalance(given: Given, *, angle: Any = None) -> Goals:
    """With rotary embedding the whole query-key imbalance still decays at rate 2 lambda."""
    left, right = query_key_law(given, rotation(given.real("theta") if angle is None else angle))
    yield differ("Δ' ≠ -2 λ Δ", left, right)


@statement(
    DimensionFree(),
    Generic(d=2, n=2, p=1),
    latex=r"\Delta = \sum_w W_w W_w^\top - \sum_r W_r^\top W_r, \qquad \dot\Delta = -2\lambda\Delta",
    source='docs/concepts/training.md, "Where the law holds"',
    hypotheses=[LINEAR_PATHS, EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"rate lambda": {"rate": 1}},
)
def residual_stream_balance(
    given: Given,
    *,
    rate: int = 2,
    linear_paths: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """A residual stream without normalisation has one law for the sum over all that write it and all that read it.

    Shown for two of each; a matrix may stand for several, side by side.
    The gate that drops the first hypothesis stands for a norm gain or an activation on the stream.
    """
    writers = [given.matrix("W_1", "d", "n"), given.matrix("W_2", "d", "n")]
    readers = [given.matrix("R_1", "p", "d"), given.matrix("R_2", "p", "d")]
    gradients = [[given.matrix(f"G_{i}{j}", "p", "n") for j in (1, 2)] for i in (1, 2)]
    gate = None if linear_paths else given.diagonal("D", "d")
    left, right = shared_law(
        given, writers, readers, gradients, rate=rate, equal_ridge=equal_ridge, plain_gradient=plain_gradient, gate=gate
    )
    yield equal("Δ' = -2 λ Δ", left, right)


@statement(
    DimensionFree(),
    Generic(d=2, n=1, p=1),
    latex=r"\Delta_{cc'} = \sum_{i,k} W_1[c,i,k] W_1[c',i,k] - \sum_{o,k} W_2[o,c,k] W_2[o,c',k], \qquad "
    r"\dot\Delta = -2\lambda\Delta",
    source='docs/concepts/training.md, "Where the law holds"',
    hypotheses=[LINEAR_PATHS, EQUAL_RIDGE, PLAIN_GRADIENT, HALF_CONVENTION],
    mutants={"rate lambda": {"rate": 1}, "one tap alone": {"taps": 1}},
)
def convolution_balance(
    given: Given,
    *,
    rate: int = 2,
    taps: int = 2,
    linear_paths: bool = True,
    equal_ridge: bool = True,
    plain_gradient: bool = True,
) -> Goals:
    """Two linear convolutions obey the law with the Grams over channels, summed over the taps of the kernels.

    Tap k of the second after tap j of the first acts at offset k + j, so that is where its gradient stands. Shown for
    kernels of two taps; the argument does not use that gradients at one offset are the same, so more taps are more
    writers and readers of `residual_stream_balance`.
    """
    first = [given.matrix("W_a", "d", "n"), given.matrix("W_b", "d", "n")]
    second = [given.matrix("R_a", "p", "d"), given.matrix("R_b", "p", "d")]
    at_offset = [given.matrix(f"G_{offset}", "p", "n") for offset in range(3)]
    gate = None if linear_paths else given.diagonal("D", "d")
    left, right = shared_law(
        given,
        first,
        second,
        [at_offset[:2], at_offset[1:]],
        rate=rate,
        equal_ridge=equal_ridge,
        plain_gradient=plain_gradient,
        gate=gate,
    )
    if taps == 1:
        right = -rate * given.positive("lambda") * shared_imbalance(first[:1], second[:1])
    yield equal("Δ' = -2 λ Δ", left, right)


@statement(
    DimensionFree(),
    Generic(n=3),
    latex=r"\frac{d}{dt}\|w_c\|^2 = -2\lambda\,\|w_c\|^2",
    source='docs/concepts/training.md, "Where the law holds"',
    hypotheses=[
        Hypothesis("scale_invariant", "the loss does not change when $w_c$ is scaled"),
        PLAIN_GRADIENT,
        HALF_CONVENTION,
    ],
    mutants={"rate lambda": {"rate": 1}},
)
def normalised_weight_decay(
    given: Given, *, rate: int = 2, scale_invariant: bool = True, plain_gradient: bool = True
) -> Goals:
    """A weight whose scale a normalisation removes shrinks by ridge alone, whatever the loss.

    By Euler's relation its gradient is orthogonal to it, hence a skew matrix times it.
    """
    ridge, weight, mixing = given.positive("lambda"), given.matrix("w", "n", 1), given.matrix("K", "n", "n")
    gradient = (mixing - mixing.T if scale_invariant else mixing) * weight
    if not plain_gradient:
        gradient = given.symmetric("P", "n") * gradient
    speed = -gradient - ridge * weight
    yield equal("(|w|²)' = -2 λ |w|²", 2 * inner(weight, speed), -rate * ridge * inner(weight, weight))


@statement(
    DimensionFree(),
    Generic(d=3),
    latex=r"q = \langle\theta, S\theta\rangle = 0 \text{ for skew } S",
    source='docs/concepts/training.md, "Where the law holds"',
    hypotheses=[Hypothesis("skew", "the generator of the rotation group is skew")],
    mutants={"rotation with a stretch": {"stretch": 1}},
)
def rotations_give_no_charge(given: Given, *, stretch: int = 0, skew: bool = True) -> Goals:
    """A stream whose symmetry is the rotation group has no quadratic law: the charge of a skew generator is zero."""
    theta, square = given.matrix("theta", "d", 1), given.matrix("S", "d", "d")
    generator = (square - square.T if skew else square) + stretch * given.identity("d")
    yield equal("<θ, S θ> = 0", inner(theta, generator * theta), 0)
