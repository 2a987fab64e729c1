"""What unrelated weights give: exact moments of commutators, cosines and compositions of Gram matrices."""

from itertools import product

from sympy import Integer, Rational, eye, symbols

from .given import DimensionFree, Exact, Generic, Given, bracket, inner, square_norm, tr
from .goal import Goals, equal
from .moments import (
    UNIFORM,
    haar_coefficients,
    mean_outer_product,
    mean_under_rotations,
    paired_moments,
    second_moment,
)
from .statement import Hypothesis, statement


@statement(
    DimensionFree(),
    latex=r"\mathbb{E}\,\|[A,QBQ^\top]\|^2 = \frac{2d}{(d-1)(d+2)}\,\|A_0\|^2\|B_0\|^2",
    source='docs/concepts/baselines.md, "Commutators"',
    hypotheses=[UNIFORM],
    mutants={"factor d": {"factor": 1}},
)
def gram_commutator_null(given: Given, *, factor: int = 2) -> Goals:
    """The Gram commutator of unrelated layers has an explicit mean square, by which rho is normalised.

    The second moments alpha d_ij d_kl + beta (d_ik d_jl + d_il d_jk) give E Y^2 = (alpha + (d + 1) beta) I and
    E Y A Y = (alpha + beta) A + beta tr(A) I for |B_0| = 1.
    """
    d, identity = given.size("d"), given.identity("d")
    alpha, beta_ = haar_coefficients(d)
    gram, turned = given.symmetric("A", "d"), given.symmetric("Y", "d")
    split = 2 * tr(gram * gram * turned * turned) - 2 * tr(gram * turned * gram * turned)
    yield equal("|[A, Y]|² = 2 tr A² Y² - 2 tr A Y A Y", square_norm(bracket(gram, turned)), split)
    traceless = gram - tr(gram) / d * identity
    mean_square = (alpha + (d + 1) * beta_) * identity
    sandwiched = (alpha + beta_) * traceless + beta_ * tr(traceless) * identity
    mean = 2 * tr(traceless * traceless * mean_square) - 2 * tr(traceless * sandwiched)
    yield equal("E |[A₀, Y]|²", mean, factor * d * square_norm(traceless) / ((d - 1) * (d + 2)))


@gram_commutator_null.also(Generic(d=2), Generic(d=3), example=True)
def contractions(given: Given, *, factor: int = 2, uniform: bool = True) -> Goals:
    """Show the contraction entry by entry, for a generic traceless A."""
    d = given.size("d")
    gram = given.symmetric("A", "d")
    gram = gram - gram.trace() / d * eye(d)
    unit = given.symmetric("Y", "d")
    squares = square_norm(bracket(gram, unit)).expand()
    entries = sorted(unit.free_symbols, key=str)
    place = {unit[i, j]: (i, j) for i in range(d) for j in range(i, d)}
    mean = sum(
        squares.coeff(y, 2) * second_moment(d, *place[y], *place[y], uniform=uniform)
        if y == z
        else squares.coeff(y, 1).coeff(z, 1) * second_moment(d, *place[y], *place[z], uniform=uniform) / 2
        for y, z in product(entries, repeat=2)
    )
    yield equal("E |[A, Y]|²", mean, Rational(factor * d, (d - 1) * (d + 2)) * square_norm(gram))


@statement(
    DimensionFree(),
    latex=r"\mathbb{E}\,\langle A, QBQ^\top\rangle = \frac{\mathrm{tr}A\;\mathrm{tr}B}{d}",
    source='docs/concepts/baselines.md, "Balance"',
    hypotheses=[UNIFORM],
    mutants={"without the dimension": {"power": 0}},
)
def gram_cosine_null(given: Given, *, power: int = 1) -> Goals:
    """The Gram inner product of unrelated layers has mean tr A tr B / d.

    E Q B Q^T is the multiple of the identity with the trace of B.
    """
    gram, trace = given.symmetric("A", "d"), given.real("t_B")
    mean = tr(gram * mean_under_rotations(given, trace))
    yield equal("E <A, Q B Qᵀ>", mean, tr(gram) * trace / given.size("d") ** power)


@gram_cosine_null.also(Generic(d=2), Generic(d=3), example=True)
def gram_cosine_entries(given: Given, *, power: int = 1, uniform: bool = True) -> Goals:
    """Show it entry by entry in the eigenbasis of B, with E q q^T = I / d for each column q of Q."""
    d = given.size("d")
    gram, eigenvalues = given.symmetric("A", "d"), symbols(f"b_0:{d}", positive=True)
    outer = mean_outer_product(d, uniform=uniform)
    mean = sum(value * inner(gram, outer) for value in eigenvalues)
    yield equal("E <A, Q B Qᵀ>", mean, gram.trace() * sum(eigenvalues) / Integer(d) ** power)


@statement(
    DimensionFree(),
    latex=r"\mathbb{E}\,\frac{\langle A_0, QB_0Q^\top\rangle}{\|A_0\|\|B_0\|} = 0, \qquad "
    r"\mathrm{Var} = \frac{2}{(d-1)(d+2)}",
    source='docs/concepts/baselines.md, "Balance"',
    hypotheses=[UNIFORM],
    mutants={"without the factor 2": {"factor": 1}},
)
def centred_gram_cosine_null(given: Given, *, factor: int = 2) -> Goals:
    """The centred Gram cosine of unrelated layers has mean 0 and a variance that only the dimension decides.

    <A, Q B Q^T> differs from it by the constant tr A tr B / d, so the spread of the raw Gram cosine is the same
    times |A_0| |B_0| / (|A| |B|).
    """
    d, gram = given.size("d"), given.symmetric("A", "d")
    traceless = gram - tr(gram) / d * given.identity("d")
    yield equal("E <A₀, Q B Qᵀ>", tr(traceless * mean_under_rotations(given, given.real("t_B"))), 0)
    variance = factor * square_norm(traceless) / ((d - 1) * (d + 2))
    yield equal("E <A₀, Y>²", paired_moments(d, traceless), variance)


@centred_gram_cosine_null.also(Generic(d=2), Generic(d=3), example=True)
def centred_contraction(given: Given, *, factor: int = 2, uniform: bool = True) -> Goals:
    """Show both moments entry by entry, for a generic traceless A."""
    d = given.size("d")
    gram = given.symmetric("A", "d")
    gram = gram - gram.trace() / d * eye(d)
    mean = inner(gram, mean_outer_product(d, uniform=uniform) - eye(d) / d)
    yield equal("E <A₀, q qᵀ> over a column q of Q", mean, 0)
    variance = sum(
        gram[i, j] * gram[k, m] * second_moment(d, i, j, k, m, uniform=uniform)
        for i, j, k, m in product(range(d), repeat=4)
    )
    yield equal("E <A₀, Y>²", variance, Rational(factor, (d - 1) * (d + 2)) * square_norm(gram))


@statement(
    DimensionFree(),
    latex=r"\mathbb{E}\,\frac{\|RQM\|^2}{\|R\|^2\|M\|^2} = \frac1d",
    source='docs/concepts/roles.md, "Heads"',
    hypotheses=[UNIFORM],
    mutants={"mean 1 / d^2": {"power": 2}},
)
def composition_score_null(given: Given, *, power: int = 1) -> Goals:
    """The squared composition score of two unrelated heads has mean 1 / d.

    |R Q M|^2 is the inner product of R^T R with Q M M^T Q^T, whose mean is the multiple of the identity with its trace.
    """
    reader, writer, turn = given.matrix("R", "p", "d"), given.matrix("M", "d", "n"), given.orthogonal("Q", "d")
    turned = turn * writer * writer.T * turn.T
    yield equal("|R Q M|²", square_norm(reader * turn * writer), tr(reader.T * reader * turned))
    mean = tr(reader.T * reader * mean_under_rotations(given, square_norm(writer)))
    yield equal("E |R Q M|²", mean, square_norm(reader) * square_norm(writer) / given.size("d") ** power)


@composition_score_null.also(Generic(d=2, p=2), Generic(d=3, p=2), example=True)
def composition_score_entries(given: Given, *, power: int = 1, uniform: bool = True) -> Goals:
    """Show it entry by entry in the eigenbasis of M M^T."""
    d = given.size("d")
    read_gram = given.matrix("R", "p", "d").T * given.matrix("R", "p", "d")
    energies = symbols(f"m_0:{d}", positive=True)
    outer = mean_outer_product(d, uniform=uniform)
    mean = sum(energy * inner(read_gram, outer) for energy in energies)
    yield equal("E |R Q M|²", mean, read_gram.trace() * sum(energies) / Integer(d) ** power)


@statement(
    DimensionFree(),
    latex=r"\mathrm{Var}\,\langle A, QBQ^\top\rangle = \frac{2\,\|A_0\|^2\|B_0\|^2}{(d-1)(d+2)}",
    source='docs/concepts/roles.md, "Heads"',
    hypotheses=[UNIFORM],
    mutants={"variance without the factor 2": {"factor": 1}},
)
def gram_inner_product_spread(given: Given, *, factor: int = 2) -> Goals:
    """The Gram inner product of unrelated layers, hence the squared composition score of heads, has exact variance.

    The variance is E<A_0, Y>^2, the pairing of the second moments with A_0, for |B_0| = 1.
    """
    d, gram = given.size("d"), given.symmetric("A", "d")
    traceless = gram - tr(gram) / d * given.identity("d")
    variance = factor * square_norm(traceless) / ((d - 1) * (d + 2))
    yield equal("E<A₀, Y>²", paired_moments(d, traceless), variance)


@gram_inner_product_spread.also(Generic(d=2), Generic(d=3), example=True)
def gram_inner_product_entries(given: Given, *, factor: int = 2, uniform: bool = True) -> Goals:
    """Show it entry by entry, for a generic traceless A."""
    d = given.size("d")
    gram = given.symmetric("A", "d")
    gram = gram - gram.trace() / d * eye(d)
    mean = sum(
        gram[i, j] * gram[k, m] * second_moment(d, i, j, k, m, uniform=uniform)
        for i, j, k, m in product(range(d), repeat=4)
    )
    yield equal("E<A₀, Y>²", mean, Rational(factor, (d - 1) * (d + 2)) * square_norm(gram))


@statement(
    DimensionFree(),
    Exact(d=4, k=2, m=3),
    latex=r"R = V^\top,\; M = U:\quad \mathrm{CS}^2 = \frac{\|V^\top U\|^2}{km}",
    source='docs/concepts/roles.md, "Heads"',
    hypotheses=[Hypothesis("flat", "all singular values of the reader and of the writer are equal")],
    mutants={"normalised by the smaller rank": {"both": False}},
)
def composition_score_of_flat_spectra(given: Given, *, both: bool = True, flat: bool = True) -> Goals:
    """With flat spectra the squared composition score is the projection overlap over k m."""
    u, v = given.frame("U", "d", "k"), given.frame("V", "d", "m")
    k, m, scale = given.size("k"), given.size("m"), given.positive("s")
    reader = scale * v.T if flat else scale * given.symmetric("S", "m") * v.T
    score = square_norm(reader * u) * k * m
    yield equal("CS² k m", score, square_norm(v.T * u) * square_norm(reader) * square_norm(u) / (1 if both else k))


@statement(
    DimensionFree(),
    latex=r"\frac{\mathbb{E}\sum_{i\ne j}A_{ij}^2}{\mathbb{E}\,\|A\|^2} = \frac{d-1}{n+d+1}, \qquad A = WW^\top",
    source='docs/concepts/training.md, "Activations"',
    hypotheses=[Hypothesis("gaussian", "the entries are independent standard Gaussians")],
    mutants={"without the fourth moment": {"fourth": 1}},
)
def gate_commutator_null(given: Given, *, fourth: int = 3, gaussian: bool = True) -> Goals:
    """The squared gate commutator of a Gaussian layer is (d - 1) / (n + d + 1), as a ratio of means.

    An off-diagonal entry is a sum of n products with mean square n; a diagonal one has E(sum w^2)^2 =
    E w^4 n + n (n - 1), with E w^4 = 3.
    """
    n, d = given.size("n"), given.size("d")
    moment = fourth if gaussian else Rational(9, 5)
    off_diagonal, diagonal = d * (d - 1) * n, d * (moment * n + n * (n - 1))
    yield equal("ratio", off_diagonal / (off_diagonal + diagonal), (d - 1) / (n + d + 1))
