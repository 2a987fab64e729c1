"""Which changes of basis an activation, a norm, a residual block or an optimiser commutes with."""

from collections.abc import Callable, Iterable
from itertools import product
from typing import Any

from sympy import (
    Function,
    Matrix,
    Max,
    N,
    Rational,
    erf,
    exp,
    eye,
    factor,
    real_roots,
    sign,
    sqrt,
    symbols,
    tanh,
    zeros,
)

from .given import DimensionFree, Exact, Generic, Given, inner, square_norm
from .goal import Goals, Outcome, at_least, differ, equal, holds
from .statement import Hypothesis, Label, Wording, statement

ROTATION = Hypothesis("orthogonal", "$Q$ is orthogonal")
INVERTIBLE = Hypothesis("invertible", "$g$ is invertible")

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "ReLU": lambda x: Max(0, x),
    "tanh": tanh,
    "GELU": lambda x: x * (1 + erf(x / sqrt(2))) / 2,
    "SiLU": lambda x: x / (1 + exp(-x)),
}


def commutes(activation: Callable[[Any], Any], matrix: Any, points: Iterable[Any]) -> bool:
    """Whether a matrix commutes with an entrywise activation at every point.

    Entries count as equal if they are structurally, or to 20 of 30 computed digits.
    """
    for point in points:
        for entry in matrix * point.applyfunc(activation) - (matrix * point).applyfunc(activation):
            if entry != 0 and abs(N(entry, 30)) > Rational(1, 10**20):
                return False
    return True


def candidates(d: int, entries: tuple[int, ...], *, invertible: bool) -> list[Any]:
    """All matrices with entries in a finite set, or the invertible ones among them."""
    matrices = (Matrix(d, d, values) for values in product(entries, repeat=d * d))
    return [matrix for matrix in matrices if not invertible or matrix.det() != 0]


def monomial(matrix: Any, allowed: Callable[[Any], bool]) -> bool:
    """Whether each row and column has one non-zero entry, and that entry is allowed."""
    rows = [[x for x in matrix.row(i) if x != 0] for i in range(matrix.rows)]
    columns = [[x for x in matrix.col(j) if x != 0] for j in range(matrix.cols)]
    return all(len(line) == 1 for line in rows + columns) and all(allowed(line[0]) for line in rows)


def commuting_group(
    activation: str, allowed: Callable[[Any], bool], entries: tuple[int, ...], *, invertible: bool
) -> Goals:
    """Among the invertible matrices with given entries, exactly the allowed monomial ones commute."""
    points = [Matrix(point) for point in ((1, 0), (0, 1), (-1, 0), (0, -1), (1, -1), (1, 2), (-2, 1))]
    for matrix in candidates(2, entries, invertible=invertible):
        found = commutes(ACTIVATIONS[activation], matrix, points)
        yield holds(f"{activation} and {matrix.tolist()}", found == monomial(matrix, allowed))


def rows_by_taylor(given: Given, activation: str, order: int, scales: tuple[int, ...]) -> Goals:
    """Two entries c and e of one row of a commuting matrix, from σ(c x + e y) = c σ(x) + e σ(y) at one order.

    With σ^(m)(0) not zero, c^m = c leaves the scales and 0, and c^(m-1) e = 0 leaves at most one entry besides zeros.
    """
    c, e, x, y = given.real("c e x y")
    function, origin = ACTIVATIONS[activation], {x: 0, y: 0}
    defect = function(c * x + e * y) - c * function(x) - e * function(y)
    leading = function(x).diff(x, order).subs(origin)
    yield differ(f"{activation}: σ^({order})(0) ≠ 0", leading, 0)
    yield equal(f"{activation}: c^{order} = c", defect.diff(x, order).subs(origin), leading * (c**order - c))
    mixed = defect.diff(x, order - 1).diff(y).subs(origin)
    yield equal(f"{activation}: c^{order - 1} e = 0", mixed, leading * c ** (order - 1) * e)
    yield holds(f"c^{order} = c for c = 0 and the scales alone", set(real_roots(c**order - c)) == {0, *scales})


@statement(
    DimensionFree(),
    Exact(d=3),
    latex=r"\sigma(x) = \varphi(\|x\|^2)\,x \;\Rightarrow\; \sigma(Qx) = Q\,\sigma(x)",
    source='arXiv:2605.04971, section 4.1; docs/concepts/training.md, "Continuity across layers"',
    hypotheses=[ROTATION, Hypothesis("radial", "the factor depends on the length of $x$ alone")],
    mutants={"inverse rotation": {"inverse": True}},
)
def radial_activation(given: Given, *, inverse: bool = False, orthogonal: bool = True, radial: bool = True) -> Goals:
    """A radial activation commutes with every rotation, however nonlinear it is; phi is any function."""
    x, phi = given.matrix("x", "d", 1), Function("phi")
    q = given.orthogonal("Q", "d") if orthogonal else given.invertible("g", "d")
    metric = given.identity("d") if radial else given.symmetric("S", "d")

    def activation(vector: Any) -> Any:
        return phi(inner(vector, metric * vector)) * vector

    yield equal("σ(Q x) = Q σ(x)", activation(q * x), (q.T if inverse else q) * activation(x))


@statement(
    DimensionFree(),
    latex=r"0 \le 1 - \tanh r \le 2 e^{-2r}",
    source='docs/concepts/training.md, "Continuity across layers"',
    mutants={"bound e^(-2r)": {"constant": 1}, "at least 2 e^(-2r)": {"least": 2}},
    wording=Wording(
        point="C4",
        said="A rotation-preserving activation that maintains nonlinearity fails to retain geometric continuity, "
        "which establishes that symmetry breaking, not nonlinearity itself, drives the effect.",
        holds="The control x tanh |x| differs from the identity by at most 2 exp(-2 |x|) relative to x: for long x it "
        "is the linear network. A bounded radial activation is the fairer control.",
        counterexample="At |x| = 5 the control and the identity agree to 1 part in 10000.",
    ),
)
def radial_control_nearly_linear(given: Given, *, constant: int = 2, least: int = 0) -> Goals:
    """The radial control activation x tanh |x| is the identity up to a relative error of 2 exp(-2 |x|).

    With r = |x| the relative error is 1 - tanh r, whatever the dimension of x.
    """
    r = given.positive("r")
    decay = exp(-2 * r)
    yield equal("tanh r = (1 - e^(-2r)) / (1 + e^(-2r))", tanh(r).rewrite(exp), (1 - decay) / (1 + decay))
    error = 1 - (1 - decay) / (1 + decay)
    yield at_least("1 - tanh r ≥ 0", factor(error - least * decay), 0)
    excess = constant * decay * (1 + decay) - 2 * decay
    yield equal("excess", (constant * decay - error) * (1 + decay), excess)
    yield at_least("1 - tanh r ≤ 2 e^(-2r)", excess, 0)


@statement(
    DimensionFree(),
    latex=r"g \in GL(d):\quad \mathrm{ReLU}(gx) = g\,\mathrm{ReLU}(x)\ \forall x \iff "
    r"g \text{ is a positive monomial matrix}",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[INVERTIBLE, Hypothesis("positive", "the scales are positive")],
    mutants={"permutations only": {"largest": 1}, "twice the smaller entry": {"other": 2}},
    wording=Wording(
        point="D4",
        said="Geometric invariant theory gives the mathematical structure that layerwise alignment inherently demands, "
        "across architectures.",
        holds="GL(d) is a symmetry of linear interfaces and of attention heads. A ReLU layer has permutations with "
        "positive scales, a tanh layer signed permutations, GELU and SiLU layers permutations.",
        counterexample="Among all invertible 2 x 2 matrices with small integer entries only the monomial ones commute.",
    ),
)
def relu_symmetry(given: Given, *, other: int = 1) -> Goals:
    """Of the invertible matrices, ReLU commutes exactly with permutations times positive scales.

    A matrix commutes exactly if each of its rows does. On the axes a row needs ReLU(c) = c for each entry c, which a
    negative one lacks, and on e_j - e_k it needs ReLU(c - e) = c for two entries c and e, which lacks the smaller of
    the two: so one of them is 0. A row with a single entry c > 0 does commute, and so does a row of zeros, which an
    invertible matrix has not; nor has it two rows with their entries in one column.
    """
    relu, gap = ACTIVATIONS["ReLU"], symbols("t", nonnegative=True)
    small, scale, length = given.positive("e c x")
    yield equal("ReLU(-e) - (-e) = e", relu(-small) + small, small)
    larger = small + gap
    yield equal("ReLU(c - e) - c = -e for c ≥ e", relu(larger - other * small) - larger, -small)
    yield equal("ReLU(e - c) - e = -e for c ≥ e", relu(small - larger) - small, -small)
    for sign_of_input in (1, -1):
        entry = sign_of_input * length
        yield equal(f"ReLU(c x) = c ReLU(x), sign {sign_of_input}", relu(scale * entry), scale * relu(entry))


@relu_symmetry.also(Exact(d=2), example=True)
def relu_on_small_integers(_: Given, *, largest: int = 2, positive: bool = True, invertible: bool = True) -> Goals:
    """Show it for every invertible matrix with entries from -1 to 2; [[1, 0], [1, 0]] commutes, too."""
    entries = (-1, 0, 1, 2)
    yield from commuting_group(
        "ReLU", lambda x: (x > 0 or not positive) and x <= largest, entries, invertible=invertible
    )


@statement(
    DimensionFree(),
    latex=r"g \in GL(d):\quad \tanh(gx) = g\tanh(x)\ \forall x \iff g \text{ is a signed permutation}",
    source='docs/concepts/symmetry.md, "Which symmetry a layer has"',
    hypotheses=[INVERTIBLE],
    mutants={"permutations only": {"scales": (1,)}, "larger scales": {"scales": (1, -1, 2)}},
)
def tanh_symmetry(given: Given, *, scales: tuple[int, ...] = (1, -1)) -> Goals:
    """Of the invertible matrices, the activation tanh commutes exactly with signed permutations.

    The terms of third order at 0 leave no other one: a row has at most one entry besides zeros, 1 or -1, and rows and
    columns of an invertible matrix are not zero. An odd entrywise function commutes with signs and with permutations.
    """
    yield from rows_by_taylor(given, "tanh", 3, scales)
    x = given.real("x")
    yield equal("tanh is odd", tanh(-x) + tanh(x), 0)


@tanh_symmetry.also(Exact(d=2), example=True)
def tanh_on_small_integers(_: Given, *, scales: tuple[int, ...] = (1, -1), invertible: bool = True) -> Goals:
    """Show it for every invertible matrix with entries from -1 to 2; [[1, 0], [1, 0]] commutes, too."""
    yield from commuting_group("tanh", lambda x: x in scales, (-1, 0, 1, 2), invertible=invertible)


@statement(
    DimensionFree(),
    latex=r"g \in GL(d):\quad \sigma(gx) = g\,\sigma(x)\ \forall x \iff g \text{ is a permutation}, \qquad "
    r"\sigma \in \{\mathrm{GELU}, \mathrm{SiLU}\}",
    source='docs/concepts/symmetry.md, "Which symmetry a layer has"',
    hypotheses=[INVERTIBLE],
    mutants={"signed permutations": {"scales": (1, -1)}, "positive scales": {"scales": (1, 2)}},
)
def smooth_gate_symmetry(given: Given, *, scales: tuple[int, ...] = (1,)) -> Goals:
    """Of the invertible matrices, GELU and SiLU commute exactly with permutations.

    The terms of second order at 0 leave no other one: a row has at most one entry besides zeros, and it is 1; rows and
    columns of an invertible matrix are not zero. Every entrywise function commutes with permutations.
    """
    for activation in ("GELU", "SiLU"):
        yield from rows_by_taylor(given, activation, 2, scales)


@smooth_gate_symmetry.also(Exact(d=2), example=True)
def smooth_gates_on_small_integers(_: Given, *, scales: tuple[int, ...] = (1,), invertible: bool = True) -> Goals:
    """Show it for every invertible matrix with entries from -1 to 2; [[1, 0], [1, 0]] commutes, too."""
    for activation in ("GELU", "SiLU"):
        yield from commuting_group(activation, lambda x: x in scales, (-1, 0, 1, 2), invertible=invertible)


@statement(
    DimensionFree(),
    Exact(d=3),
    latex=r"\frac{Qx}{\sqrt{\|Qx\|^2/d+\epsilon}} = Q\,\frac{x}{\sqrt{\|x\|^2/d+\epsilon}}",
    source='docs/concepts/symmetry.md, "Which symmetry a layer has"',
    hypotheses=[ROTATION, Hypothesis("gain_folded", "the gain is folded into the weights that read the stream")],
    mutants={"inverse rotation": {"inverse": True}},
    wording=Wording(
        point="C5",
        said="Symmetry-breaking nonlinearities anchor weights to a shared coordinate frame.",
        holds="RMSNorm with its gain folded into the next weights commutes with every rotation, LayerNorm with those "
        "that fix the constant vector: the norm itself anchors nothing. An unfolded gain does.",
        counterexample="The radial factor of RMSNorm depends on |x| alone, and |Q x| = |x|.",
    ),
)
def rmsnorm_symmetry(
    given: Given, *, inverse: bool = False, orthogonal: bool = True, gain_folded: bool = True
) -> Goals:
    """RMSNorm without gain commutes with every rotation; a gain breaks this unless it is folded into the next weight.

    A reader W of gamma N(x) is the reader W gamma of N(x).
    """
    x, epsilon = given.matrix("x", "d", 1), given.positive("epsilon")
    q = given.orthogonal("Q", "d") if orthogonal else given.invertible("g", "d")
    gain = given.identity("d") if gain_folded else given.diagonal("gamma", "d")

    def norm(vector: Any) -> Any:
        return gain * vector / sqrt(square_norm(vector) / given.size("d") + epsilon)

    yield equal("N(Q x) = Q N(x)", norm(q * x), (q.T if inverse else q) * norm(x))


@statement(
    DimensionFree(),
    Exact(d=3, m=2),
    latex=r"Q\mathbf 1 = \mathbf 1 \;\Rightarrow\; \mathrm{LN}(Qx) = Q\,\mathrm{LN}(x), \qquad "
    r"\mathrm{LN}(x) = \frac{Cx}{\sqrt{\|Cx\|^2/d+\epsilon}}",
    source='docs/concepts/symmetry.md, "Which symmetry a layer has"',
    hypotheses=[Hypothesis("fixes_constant", "$Q$ fixes the constant vector, which $I - C$ projects onto")],
    mutants={"rotation of the wrong side": {"transposed": True}},
)
def layernorm_symmetry(given: Given, *, transposed: bool = False, fixes_constant: bool = True) -> Goals:
    """LayerNorm without gain commutes with the rotations that fix the constant vector, a group O(d - 1).

    The columns of N span the vectors of mean zero, R is any rotation of them, C subtracts the mean.
    """
    centred, turn, x = given.frame("N", "d", "m"), given.orthogonal("R", "m"), given.matrix("x", "d", 1)
    centring, epsilon = centred * centred.T, given.positive("epsilon")
    q = given.identity("d") - centring + centred * turn * centred.T
    if not fixes_constant:
        q = given.orthogonal("Q", "d")

    def norm(vector: Any) -> Any:
        return centring * vector / sqrt(square_norm(centring * vector) / given.size("d") + epsilon)

    yield equal("LN(Q x) = Q LN(x)", norm(q * x), (q.T if transposed else q) * norm(x))


@statement(
    DimensionFree(),
    Exact(d=3, m=2, k=2),
    latex=r"(W + r h^\top)\,\Gamma C = W\,\Gamma C, \quad h = \Gamma^{-1}\mathbf 1, \qquad "
    r"(W + r h^\top)\Bigl(I - \frac{hh^\top}{\|h\|^2}\Bigr) = W\Bigl(I - \frac{hh^\top}{\|h\|^2}\Bigr), \qquad "
    r"C(V + \mathbf 1 c^\top) = CV",
    source='docs/measurements.md, "Basis-independent numbers"',
    mutants={
        "the constant direction in place of the reciprocal gains": {"reciprocal": False},
        "stored reads": {"projected": False},
    },
)
def layernorm_unseen(given: Given, *, reciprocal: bool = True, projected: bool = True) -> Goals:
    """A LayerNorm with gains Gamma never moves along the reciprocal gains h, and does not see the constant vector.

    C = I - e e^T subtracts the mean, for e the constant vector of length 1; u is h at length 1. A read W + r h^T
    differs from W by a bias, and a write V + 1 c^T not at all.
    """
    constant, unit = given.frame("e", "d", 1), given.frame("u", "d", 1)
    gains, identity = given.invertible("Gamma", "d"), given.identity("d")
    centring = identity - constant * constant.T
    reader, added = given.matrix("W", "m", "d"), given.matrix("r", "m", 1)
    writer, shared = given.matrix("V", "d", "k"), given.matrix("c", "k", 1)
    unseen = constant.T * gains.inv() if reciprocal else constant.T
    yield equal("reads what moves alike", (reader + added * unseen) * gains * centring, reader * gains * centring)
    kept = identity - unit * unit.T if projected else identity
    yield equal("one matrix is left", (reader + added * unit.T) * kept, reader * kept)
    yield equal("the mean of a write", centring * (writer + constant * shared.T), centring * writer)


@statement(
    DimensionFree(),
    Exact(d=3),
    latex=r"(W_l Q^\top)(Q W_{l-1}) = W_l W_{l-1}",
    source='docs/concepts/training.md, "Continuity across layers"',
    label=Label.PAPER,
    hypotheses=[Hypothesis("plain_layers", "the layers are linear and have no residual connection")],
    mutants={"same rotation on both sides": {"inverse": False}},
)
def plain_layers_rotate(given: Given, *, inverse: bool = True, plain_layers: bool = True) -> Goals:
    """Between plain linear layers each hidden space may be rotated alone; a residual connection forbids it."""
    upper, lower, q = given.matrix("W_2", "d", "d"), given.matrix("W_1", "d", "d"), given.orthogonal("Q", "d")
    skip = given.identity("d") if not plain_layers else given.zeros("d", "d")
    before = (skip + upper) * (skip + lower)
    after = (skip + upper * (q.T if inverse else q)) * (skip + q * lower)
    yield equal("the composed map stays", after, before)


@statement(
    Exact(d=2),
    latex=r"(I + W_l Q^\top)(I + Q W_{l-1}) = (I + W_l)(I + W_{l-1})",
    source='docs/concepts/training.md, "Continuity across layers"',
    label=Label.PAPER,
    mutants={"no rotation": {"turned": False}},
    recorded=Outcome.REFUTED,
)
def residual_layers_rotate(given: Given, *, turned: bool = True) -> Goals:
    """One layer of a residual network may be rotated alone."""
    upper, lower = given.matrix("W_2", "d", "d"), given.matrix("W_1", "d", "d")
    q = given.orthogonal("Q", "d") if turned else given.identity("d")
    identity = given.identity("d")
    after = (identity + upper * q.T) * (identity + q * lower)
    yield differ("the composed map changes", after, (identity + upper) * (identity + lower))


@statement(
    DimensionFree(),
    Exact(d=3),
    latex=r"x \mapsto Qx,\; R_i \mapsto R_i Q^\top,\; W_i \mapsto Q W_i:\quad "
    r"Qx + QW_i\,\sigma(R_i Q^\top Q x) = Q\,(x + W_i\,\sigma(R_i x))",
    source='docs/concepts/training.md, "Where the law holds"',
    hypotheses=[ROTATION],
    mutants={"readers forgotten": {"readers": False}},
)
def stream_rotates_as_a_whole(given: Given, *, readers: bool = True, orthogonal: bool = True) -> Goals:
    """A residual stream may be rotated as a whole: all that write it and all that read it turn together.

    The activation sits in the hidden layer of the block, whose input R x does not change.
    """
    x, reader, writer = given.matrix("x", "d", 1), given.matrix("R", "d", "d"), given.matrix("W", "d", "d")
    q = given.orthogonal("Q", "d") if orthogonal else given.invertible("g", "d")
    yield equal("hidden input", (reader * q.T if readers else reader) * (q * x), reader * x)
    hidden = given.matrix("h", "d", 1)
    yield equal("next stream", q * x + (q * writer) * hidden, q * (x + writer * hidden))


@statement(
    Generic(d=2),
    latex=r"\nabla_h L(h + f(h)) = (I + Df)^\top\,\nabla L",
    source="arXiv:2605.04971, equation 4",
    label=Label.PAPER,
    hypotheses=[Hypothesis("residual", "the block adds to its input")],
    mutants={"without the identity": {"skip": 0}},
)
def residual_gradient(given: Given, *, skip: int = 1, residual: bool = True) -> Goals:
    """A residual connection hands the upstream gradient down unchanged, besides what passes through the block."""
    h, lower, upper = given.matrix("h", "d", 1), given.matrix("W_1", "d", "d"), given.matrix("W_2", "d", "d")
    block = upper * (lower * h).applyfunc(tanh)
    z = Matrix(given.real("z_0 z_1"))
    loss = (given.matrix("q", 1, "d") * z)[0] ** 3 + z[0] * z[1] ** 2
    output = (h if residual else zeros(2, 1)) + block
    here = dict(zip(z, output, strict=True))
    upstream = Matrix([loss.diff(variable) for variable in z]).subs(here, simultaneous=True)
    direct = Matrix([loss.subs(here, simultaneous=True).diff(variable) for variable in h])
    yield equal("∇ = (I + Df)ᵀ ∇L", direct, (skip * eye(2) + block.jacobian(h)).T * upstream)


@statement(
    Exact(d=2),
    latex=r"\mathrm{sign}(Qg) = Q\,\mathrm{sign}(g)",
    source='docs/concepts/training.md, "Continuity across layers"',
    mutants={"a quarter turn": {"quarter_turn": True}},
    recorded=Outcome.REFUTED,
)
def adam_is_rotation_equivariant(_: Given, *, quarter_turn: bool = False) -> Goals:
    """Adam trains a rotated network as the rotation of the network; its first step is the sign of the gradient."""
    q = Matrix([[0, -1], [1, 0]]) if quarter_turn else Matrix([[3, -4], [4, 3]]) / 5
    gradient = Matrix([2, 1])
    yield differ("sign(Q g) ≠ Q sign(g)", (q * gradient).applyfunc(sign), q * gradient.applyfunc(sign))
