"""The levels of alignment: dimension, subspace, basis, balance; what implies what, and the link to Neural Collapse.

The levels of an interface are read off the leading singular vectors u_i of W_1 (left) and v_i of W_2 (right), that
is the eigenvectors of the hidden Grams A and B, on a window of k directions. A singular value of 0 has no vector, so
a weight of rank below k spans fewer directions.
"""

from itertools import pairwise, permutations, product
from typing import Any

from sympy import Matrix, Rational, cos, diag, eye, sin

from .given import DimensionFree, Exact, Generic, Given, bracket, rotation, square_norm
from .goal import Goals, equal, holds
from .orbits import meet
from .statement import Hypothesis, Wording, statement

Spectral = tuple[Any, tuple[Any, ...]]


def window(gram: Spectral, k: int) -> Any:
    """The eigenvectors of the positive ones among the leading k eigenvalues."""
    basis, eigenvalues = gram
    return basis[:, : sum(value > 0 for value in eigenvalues[:k])]


def same_span(first: Any, second: Any) -> bool:
    """Whether independent columns span the same subspace."""
    return bool(meet(first, second) == first.cols == second.cols)


def levels(first: Spectral, second: Spectral, k: int) -> dict[str, bool]:
    """Which levels a pair of Grams reaches; each Gram is given by an eigenbasis and its decreasing eigenvalues."""
    windows = [(window(first, j), window(second, j)) for j in range(1, k + 1)]
    u, v = windows[-1]
    a, b = (basis * diag(*eigenvalues) * basis.T for basis, eigenvalues in (first, second))
    return {
        "dimension": u.cols == v.cols,
        "subspace": same_span(u, v),
        "basis": all(same_span(*pair) for pair in windows),
        "balance": a == b,
    }


def spectral_pairs(d: int, *, simple: bool) -> list[tuple[Spectral, Spectral]]:
    """All pairs of Grams whose eigenbases are permuted axes, turned in a plane or not, over a few spectra."""
    turn = diag(Matrix([[3, -4], [4, 3]]) / 5, *[1] * (d - 2))
    bases = [eye(d).permute_cols(list(order)) for order in permutations(range(d))]
    bases += [basis * turn for basis in bases]
    spectra = [tuple(range(d, 0, -1)), tuple(2 * value for value in range(d, 0, -1)), (1,) + (0,) * (d - 1)]
    if not simple:
        spectra += [(2,) * (d - 1) + (1,), (2,) + (1,) * (d - 1)]
    grams = list(product(bases, spectra))
    in_own_eigenbasis = grams[: len(spectra)]  # a common rotation brings the first Gram there
    return list(product(in_own_eigenbasis, grams))


@statement(
    Exact(d=3, k=2),
    latex=r"A = B \;\Rightarrow\; \mathrm{span}\,U_j = \mathrm{span}\,V_j\ (j\le k) \;\Rightarrow\; "
    r"\mathrm{span}\,U_k=\mathrm{span}\,V_k \;\Rightarrow\; \dim U_k = \dim V_k",
    source='docs/concepts/training.md, "Levels of alignment"',
    hypotheses=[
        Hypothesis(
            "simple",
            "of the leading $k$ eigenvalues of each Gram the positive ones differ from each other and from all others",
        )
    ],
    mutants={
        "subspace implies basis": {"order": ("balance", "subspace", "basis", "dimension")},
        "dimension implies subspace": {"order": ("balance", "basis", "dimension", "subspace")},
    },
    wording=Wording(
        point="D11",
        said="These give a geometric explanation of the Level-2/3 hierarchy in Neural Collapse from first principles.",
        holds="The levels are those of an interface: subspace, basis, balance. The metrics NC1 to NC4 are measured on "
        "features and class means; only NC3 of the last layer, with NC1, is a balance (`neural_collapse_link`).",
        counterexample="NC3 compares the classifier with class means, which are no weights of an adjacent layer.",
    ),
)
def levels_imply(
    given: Given,
    *,
    order: tuple[str, ...] = ("balance", "basis", "subspace", "dimension"),
    simple: bool = True,
) -> Goals:
    """Balance implies the basis level, which implies the subspace level, which implies equal dimensions, strictly.

    Equal Grams have equal leading eigenspaces where these are determined, and the other levels are weaker by
    definition. Checked, with a strict example each way, over a family of Grams with permuted and turned axes, some of
    rank 1.
    """
    d, k = given.size("d"), given.size("k")
    reached = [levels(first, second, k) for first, second in spectral_pairs(d, simple=simple)]
    for stronger, weaker in pairwise(order):
        implied = all(level[weaker] for level in reached if level[stronger])
        yield holds(f"{stronger} implies {weaker}", implied)
        yield holds(
            f"{weaker} does not imply {stronger}", any(level[weaker] and not level[stronger] for level in reached)
        )
    yield holds("some pairs differ even in dimension", not all(level["dimension"] for level in reached))


@statement(
    Generic(d=2),
    latex=r"\|[A,B]\|^2 = \tfrac12\,(a_1-a_2)^2(b_1-b_2)^2\sin^2 2\varphi",
    source='docs/concepts/training.md, "Levels of alignment"',
    mutants={"single angle": {"multiple": 1}, "factor 1": {"factor": 1}},
)
def subspace_without_basis(given: Given, *, multiple: int = 2, factor: int = 2) -> Goals:
    """Rotating inside one common plane keeps the subspace level and destroys the basis level.

    The overlap of the planes stays 1, the mean squared cosine of matched vectors falls to cos^2(phi).
    """
    a1, a2, b1, b2, angle = given.real("a_1 a_2 b_1 b_2 phi")
    turn = rotation(angle)
    a, b = diag(a1, a2), turn * diag(b1, b2) * turn.T
    expected = (a1 - a2) ** 2 * (b1 - b2) ** 2 * sin(multiple * angle) ** 2 / factor
    yield equal("|[A, B]|²", square_norm(bracket(a, b)), expected)
    yield equal("overlap of the planes", square_norm(eye(2).T * turn) / 2, 1)
    yield equal("basis score", (turn[0, 0] ** 2 + turn[1, 1] ** 2) / 2, cos(angle) ** 2)


@statement(
    DimensionFree(),
    Exact(d=3),
    latex=r"k = d \;\Rightarrow\; \|U_k^\top V_k\|^2/k = 1",
    source='docs/concepts/symmetry.md, "The intersection dimension in numbers"',
    hypotheses=[Hypothesis("whole_space", "the window is the whole space")],
    mutants={"half the overlap": {"factor": Rational(1, 2)}},
)
def whole_space_is_vacuous(given: Given, *, factor: Any = 1, whole_space: bool = True) -> Goals:
    """A window as large as the space makes every pair of layers look aligned, so full-rank weights always do."""
    first, second = given.orthogonal("U", "d"), given.orthogonal("V", "d")
    if not whole_space:
        second = second * given.projector("P", "d")
    yield equal("|Uᵀ V|² = d", factor * square_norm(first.T * second), given.size("d"))


@statement(
    DimensionFree(),
    Exact(d=3, p=2, C=2, N=4),
    latex=r"W^\top W = \frac{\lambda_H n_c}{\lambda_W}\,M_c M_c^\top",
    source='docs/concepts/training.md, "Levels of alignment"',
    hypotheses=[
        Hypothesis("class_means", "NC1: every feature equals its class mean, with equal class sizes $n_c$"),
        Hypothesis("stationary", "features and classifier are stationary in the unconstrained-features model"),
    ],
    mutants={"without the class size": {"power": 0}, "ridges exchanged": {"exchanged": True}},
    wording=Wording(
        point="D11",
        said="These give a geometric explanation of the Level-2/3 hierarchy in Neural Collapse from first principles.",
        holds="In the unconstrained-features model the last interface is linear, so NC1 gives NC3 in Gram form without "
        "any obstruction. In a real network the features pass an activation and the gate law applies below.",
        counterexample="Without NC1 the features' Gram is not that of the class means.",
    ),
)
def neural_collapse_link(
    given: Given, *, power: int = 2, exchanged: bool = False, class_means: bool = True, stationary: bool = True
) -> Goals:
    """In the unconstrained-features model, features at their class means make the classifier Gram that of the means.

    H = M_c Y^T with the class indicators Y = sqrt(n_c) F for a frame F. The weighted difference of the two Grams is a
    combination of the gradients l_H H + W^T G and l_W W + G H^T, which vanish at a stationary point.
    """
    root, feature_ridge, weight_ridge = given.positive("sqrt(n_c) lambda_H lambda_W")
    means, indicators = given.matrix("M_c", "d", "C"), given.frame("F", "N", "C")
    if not class_means:
        indicators = given.matrix("F", "N", "C")
    features = root * means * indicators.T
    yield equal("H Hᵀ = n_c M_c M_cᵀ", features * features.T, root**power * means * means.T)

    weight, gradient, free = given.matrix("W", "p", "d"), given.matrix("G", "p", "N"), given.matrix("H", "d", "N")
    by_features = feature_ridge * free + weight.T * gradient
    by_weight = weight_ridge * weight + gradient * free.T
    combined = by_features * free.T - weight.T * by_weight if stationary else given.zeros("d", "d")
    left, right = (weight_ridge, feature_ridge) if exchanged else (feature_ridge, weight_ridge)
    difference = left * free * free.T - right * weight.T * weight
    yield equal("λ_H H Hᵀ - λ_W Wᵀ W = ∇_H Hᵀ - Wᵀ ∇_W", difference, combined)
