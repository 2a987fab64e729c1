"""What each observable of two weights is invariant under, and the larger group under which it is not."""

from itertools import permutations, product
from typing import Any

from sympy import Abs, Matrix, diag, eye, symbols, zeros

from .given import DimensionFree, Exact, Generic, Given, bracket, inner, square_norm, tr
from .goal import Goals, Outcome, at_least, differ, equal
from .orbits import change_of_basis
from .statement import Hypothesis, Label, Wording, statement

ROTATION = Hypothesis("orthogonal", "one orthogonal map acts on the space that both subspaces lie in")


def acting_map(given: Given, orthogonal: bool) -> Any:
    """The change of basis of the common space: orthogonal, or any invertible one."""
    return given.orthogonal("Q", "d") if orthogonal else given.invertible("g", "d")


@statement(
    DimensionFree(),
    Exact(d=4, a=2, b=2),
    latex=r"\|(QUR)^\top(QVS)\|_F^2 = \|U^\top V\|_F^2 = \mathrm{tr}\,P_AP_B = \sum_i\cos^2\theta_i",
    source='docs/concepts/symmetry.md, "What rotations leave"',
    hypotheses=[ROTATION, Hypothesis("frames", "$U$, $V$ are orthonormal and $R$, $S$ orthogonal")],
    mutants={"different maps on the two": {"common": False}},
)
def projection_overlap_invariance(
    given: Given, *, common: bool = True, orthogonal: bool = True, frames: bool = True
) -> Goals:
    """The projection overlap depends on the two subspaces only, up to a common rotation of their space.

    So do all principal angles: their cosines are the singular values of U^T V, which R and S leave alone.
    """
    u, v = given.frame("U", "d", "a"), given.frame("V", "d", "b")
    r, s = given.orthogonal("R", "a"), given.orthogonal("S", "b")
    if not frames:
        r = given.invertible("R", "a")
    q = acting_map(given, orthogonal)
    other = q if common else given.orthogonal("Z", "d")
    overlap = square_norm((q * u * r).T * (other * v * s))
    yield equal("|(Q U R)ᵀ (Q V S)|² = |Uᵀ V|²", overlap, square_norm(u.T * v))
    yield equal("|Uᵀ V|² = tr P_A P_B", square_norm(u.T * v), tr(u * u.T * v * v.T))
    cosines = (q * u * r).T * (other * v * s)
    yield equal("every principal angle: (Q U R)ᵀ (Q V S) = Rᵀ (Uᵀ V) S", cosines, r.T * (u.T * v) * s)


@statement(
    Generic(d=2),
    latex=r"\cos^2\theta(gA, g^{-\top}B) = \cos^2\theta(A, B) \text{ for } g \in GL(d)",
    source='docs/concepts/symmetry.md, "How subspaces transform"',
    mutants={"no shear": {"shear": 0}},
    recorded=Outcome.REFUTED,
    wording=Wording(
        point="D9",
        said="Subspace metrics are not empirical conventions but mathematical necessities.",
        holds="Under GL(d) only the number of vanishing cosines survives. Overlaps and angles, and the singular "
        "subspaces that they compare, need an inner product: they are O(d)-equivariant, with a free choice of rank.",
        counterexample="A shear by x turns cos^2 = 1 into 1 / (1 + x^2).",
    ),
)
def overlap_under_gl(given: Given, *, shear: Any = None) -> Goals:
    """The overlap of the image of W_1 with the row space of W_2 is reparameterization-invariant."""
    x = given.real("x") if shear is None else shear
    g = Matrix([[1, 0], [x, 1]])
    u, v = g * Matrix([1, 0]), (Matrix([[1, 0]]) * g.inv()).T
    cosine = inner(u, v) ** 2 / (square_norm(u) * square_norm(v))
    yield equal("cos² = 1 / (1 + x²)", cosine, 1 / (1 + x**2))
    yield differ("cos² ≠ 1", cosine, 1)


@statement(
    DimensionFree(),
    Exact(d=4, a=2, b=2),
    latex=r"V^\top(I-UU^\top)V = I - C^\top C, \qquad [U\,V]^\top[U\,V] = \begin{bmatrix}I&C\\C^\top&I\end{bmatrix},"
    r"\quad C = U^\top V",
    source='docs/concepts/symmetry.md, "The intersection dimension in numbers"',
    hypotheses=[Hypothesis("frames", "$U$ and $V$ have orthonormal columns")],
    mutants={"plus": {"sign": 1}},
)
def sine_form(given: Given, *, sign: int = -1, frames: bool = True) -> Goals:
    """The residual (I - U U^T) V has the sines as singular values, so small angles need no arccos.

    The Gram of [U, V] has eigenvalues 1 + cos and 1 - cos, since it maps (C y, cos y) to (1 + cos) (C y, cos y)
    for C^T C y = cos^2 y; so dim(A ∩ B) = a + b - rank [U, V].
    """
    u = given.frame("U", "d", "a")
    v = given.frame("V", "d", "b") if frames else given.matrix("V", "d", "b")
    residual, c = v - u * u.T * v, u.T * v
    yield equal("residual Gram = 1 - Cᵀ C", residual.T * residual, given.identity("b") + sign * c.T * c)


@statement(
    DimensionFree(),
    Exact(d=3, n=2),
    latex=r"u \to \pm Qu,\; v \to \pm Qv:\quad |\langle u, v\rangle| \text{ is unchanged}",
    source="arXiv:2605.04971, equation 1",
    hypotheses=[ROTATION],
    mutants={"signed cosine": {"power": 1}},
)
def singular_vector_cosine_invariance(given: Given, *, power: int = 2, orthogonal: bool = True) -> Goals:
    """The absolute cosine of two singular vectors is invariant under a common rotation and under their signs.

    Q W has the singular vector Q u where W has u: its Gram Q A Q^T maps Q u to Q A u.
    """
    u, v, q = given.frame("u", "d", 1), given.frame("v", "d", 1), acting_map(given, orthogonal)
    value, rest = given.positive("s"), given.identity("d") - u * u.T
    weight = given.matrix("Y", "d", "n")
    gram = value**2 * u * u.T + rest * weight * weight.T * rest
    yield equal("(Q A Qᵀ) (Q u) = s² (Q u)", (q * gram * q.T) * (q * u), value**2 * (q * u))
    for sign in (1, -1):
        yield equal(f"sign {sign}", inner(sign * q * u, q * v) ** power, inner(u, v) ** power)


@statement(
    DimensionFree(),
    latex=r"\frac{\sum_k s_k^2\,|\langle v_k, v'_k\rangle|}{\sum_j s_j^2} \text{ is unchanged under } "
    r"v_k\to\pm Qv_k,\; v'_k\to\pm Qv'_k,\; s_k \to c\,s_k",
    source="arXiv:2605.04971, equation 2",
    hypotheses=[ROTATION],
    mutants={"weights not normalised": {"normalised": False}},
)
def sigma2_weighted_invariance(given: Given, *, normalised: bool = True, orthogonal: bool = True) -> Goals:
    """The sigma^2-weighted continuity is invariant under a common rotation, signs and the scale of a weight.

    Each term keeps its absolute cosine and its share s_k^2 / sum of s_j^2.
    """
    first, second, q = given.frame("v", "d", 1), given.frame("v'", "d", 1), acting_map(given, orthogonal)
    value, energy, scale = given.positive("s_k E c")
    for flipped in (1, -1):
        cosine = inner(flipped * q * first, q * second)
        yield equal(f"squared cosine, sign {flipped}", cosine**2, inner(first, second) ** 2)
    share = (scale * value) ** 2 / ((scale**2 if normalised else 1) * energy)
    yield equal("share of the energy E = Σ s_j²", share, value**2 / energy)


@sigma2_weighted_invariance.also(Exact(d=3), example=True)
def three_terms(given: Given, *, normalised: bool = True, orthogonal: bool = True) -> Goals:
    """Show it for three seeded directions with symbolic singular values."""
    first, second = given.orthogonal("V", "d"), given.orthogonal("W", "d")
    values, scale = symbols("s_1:4", positive=True), given.positive("c")
    q, signs = acting_map(given, orthogonal), diag(1, -1, 1)

    def continuity(left: Any, right: Any, spectrum: Any) -> Any:
        cosines = [Abs(inner(left[:, k], right[:, k])) for k in range(left.cols)]
        weighted = sum(s**2 * cosine for s, cosine in zip(spectrum, cosines, strict=True))
        return weighted / sum(s**2 for s in spectrum) if normalised else weighted

    moved = continuity(q * first * signs, q * second, [scale * s for s in values])
    yield equal("s2WA(± Q V, Q V', c s) = s2WA(V, V', s)", moved, continuity(first, second, values))


@sigma2_weighted_invariance.also(Generic(K=3), example=True)
def sigma2_weighted_range(_: Given) -> Goals:
    """Show for three directions that it is at most 1, as absolute cosines are 1 - t_k with t_k >= 0."""
    values, sines = symbols("s_1:4", positive=True), symbols("t_1:4", nonnegative=True)
    weights = [s**2 for s in values]
    deficit = sum(w * t for w, t in zip(weights, sines, strict=True)) / sum(weights)
    yield at_least("1 - s2WA ≥ 0 for cosines 1 - t_k", deficit, 0)


@sigma2_weighted_invariance.also(DimensionFree(), Exact(d=3), example=True)
def cosine_at_most_one(given: Given) -> Goals:
    """Show that neither sign of the cosine of two unit vectors exceeds 1, as its distance from 1 is half a square."""
    u, v = given.frame("u", "d", 1), given.frame("v", "d", 1)
    for sign in (1, -1):
        yield equal(f"2 (1 - <u, v>) for sign {sign}", 2 * (1 - sign * inner(u, v)), square_norm(u - sign * v))


@statement(
    Exact(d=3),
    latex=r"V_k, V'_k \text{ with equal spans and } s_1 = s_2 \;\Rightarrow\; \text{equal weighted continuity}",
    source='docs/concepts/roles.md, "Numbers of one weight in two layers"',
    mutants={"same order": {"exchanged": False}},
    recorded=Outcome.REFUTED,
)
def continuity_sees_subspaces_only(given: Given, *, exchanged: bool = True) -> Goals:
    """The sigma^2-weighted continuity of two layers depends on their singular subspaces alone.

    It matches vectors by index, so a swap of two vectors with equal singular values takes it from 1 to 1/3.
    """
    axes = eye(given.size("d"))
    other = axes.permute_cols([1, 0, 2]) if exchanged else axes
    matched = sum(Abs(inner(axes[:, k], other[:, k])) for k in range(3)) / 3
    yield equal("the plane is the same", square_norm(axes[:, :2].T * other[:, :2]), 2)
    yield differ("continuity ≠ 1", matched, 1)


@statement(
    DimensionFree(),
    Exact(d=3, n=2, p=2),
    latex=r"A \to c\,QAQ^\top,\; B\to e\,QBQ^\top:\quad \frac{\|[A,B]\|}{\|A\|\|B\|},\; "
    r"\frac{\langle A,B\rangle}{\|A\|\|B\|} \text{ are unchanged}",
    source='docs/concepts/baselines.md, "Commutators"',
    hypotheses=[ROTATION],
    mutants={"scale of one weight counted once": {"degree": 2}},
)
def gram_observables_invariance(given: Given, *, degree: int = 4, orthogonal: bool = True) -> Goals:
    """The Gram commutator and the Gram cosine are invariant under rotations, separate scales and outer rotations.

    They are not under positive diagonal scales, the symmetry of a ReLU layer, which must be fixed first.
    """
    w1, w2 = given.matrix("W_1", "d", "n"), given.matrix("W_2", "p", "d")
    q, inner_turn, outer_turn = acting_map(given, orthogonal), given.orthogonal("R", "n"), given.orthogonal("S", "p")
    scale = given.positive("c")
    a, b = w1 * w1.T, w2.T * w2
    moved_w1, moved_w2 = scale * q * w1 * inner_turn, outer_turn * w2 * q.T
    moved_a, moved_b = moved_w1 * moved_w1.T, moved_w2.T * moved_w2
    factor = scale**degree
    yield equal("|[A, B]|²", square_norm(bracket(moved_a, moved_b)), factor * square_norm(bracket(a, b)))
    yield equal("|A|²", square_norm(moved_a), factor * square_norm(a))
    yield equal("<A, B>²", inner(moved_a, moved_b) ** 2, factor * inner(a, b) ** 2)


@statement(
    DimensionFree(),
    Exact(n=3, d=3, p=2),
    latex=r"A_0 = A - \tfrac{\mathrm{tr}A}{d}I:\quad \langle A_0, B_0\rangle = \langle A,B\rangle - "
    r"\tfrac{\mathrm{tr}A\,\mathrm{tr}B}{d}",
    source='docs/concepts/roles.md, "Numbers of one weight in two layers"',
    hypotheses=[ROTATION],
    mutants={"trace subtracted twice": {"share": 2}},
)
def centred_gram_cosine_invariance(given: Given, *, share: int = 1, orthogonal: bool = True) -> Goals:
    """The centred Gram cosine is invariant under rotations and needs no singular vectors at all."""
    a, b, d = given.symmetric("A", "d"), given.symmetric("B", "d"), given.size("d")
    q, identity = acting_map(given, orthogonal), given.identity("d")

    def centred(gram: Any) -> Any:
        return gram - tr(gram) / d * identity

    yield equal("<A₀, B₀>", inner(centred(a), centred(b)), inner(a, b) - share * tr(a) * tr(b) / d)
    moved = inner(centred(q * a * q.T), centred(q * b * q.T))
    yield equal("under Q", moved, inner(centred(a), centred(b)))


@statement(
    DimensionFree(),
    Exact(d=3, h=2),
    latex=r"(W_Q,W_K,W_V,W_O)\to(W_QR,\,W_KR^{-\top},\,W_VS,\,S^{-1}W_O):\quad W_QW_K^\top,\; W_VW_O,\; "
    r"\mathrm{im}\,W_V,\; \mathrm{row}\,W_O \text{ unchanged}",
    source='docs/concepts/roles.md, "Heads"; Elhage et al. 2021',
    hypotheses=[Hypothesis("one_gauge", "the two maps of a pair carry inverse changes of basis")],
    mutants={"transposed gauge on the output": {"transposed": True}},
)
def head_gauge_invariance(given: Given, *, transposed: bool = False, one_gauge: bool = True) -> Goals:
    """A change of basis inside a head leaves its query-key and value-output products, hence every composition score.

    The changes of basis are written by their polar decompositions. The subspaces that the head reads and writes stay
    too: with W_V = F C for a frame F, the projector onto the image of W_V S is F F^T whatever S is.
    """
    query, key, value = (given.matrix(name, "d", "h") for name in ("W_Q", "W_K", "W_V"))
    output, (r, r_inverse) = given.matrix("W_O", "h", "d"), change_of_basis(given, "R", "h")
    s, s_inverse = change_of_basis(given, "S", "h")
    back = r_inverse.T if one_gauge else r
    yield equal("W_Q W_Kᵀ", (query * r) * (key * back).T, query * key.T)
    yield equal("W_V W_O", (value * s) * ((s.T if transposed else s_inverse) * output), value * output)
    frame, (core, core_inverse) = given.frame("F", "d", "h"), change_of_basis(given, "C", "h")
    moved, inverse = frame * core * s, s_inverse * core_inverse
    yield equal("projector onto im W_V S", moved * (inverse * inverse.T) * moved.T, frame * frame.T)


@head_gauge_invariance.also(Exact(d=3, h=2), example=True)
def head_subspaces(given: Given, *, transposed: bool = False) -> Goals:
    """Show that the subspaces that a head reads and writes, hence their overlaps, do not move either."""
    value, output, s = given.matrix("W_V", "d", "h"), given.matrix("W_O", "h", "d"), given.invertible("S", "h")

    def projector(frame: Any) -> Any:
        return frame * (frame.T * frame).inv() * frame.T

    yield equal("read", projector(value * s), projector(value))
    yield equal("write", projector(((s.T if transposed else s.inv()) * output).T), projector(output.T))


@statement(
    DimensionFree(),
    Exact(d=3, n=2, p=2),
    latex=r"\|W_{\mathrm{read}}W_{OV}\| \text{ is unchanged under } W_{OV}\to QW_{OV},\; "
    r"W_{\mathrm{read}}\to W_{\mathrm{read}}Q^\top",
    source='docs/concepts/roles.md, "Heads"',
    hypotheses=[ROTATION],
    mutants={"reader not turned": {"turned": False}},
)
def composition_score_invariance(given: Given, *, turned: bool = True, orthogonal: bool = True) -> Goals:
    """The composition score of two heads is invariant under rotations of the residual stream."""
    read, write = given.matrix("R", "p", "d"), given.matrix("M", "d", "n")
    q = acting_map(given, orthogonal)
    moved = read * q.T if turned else read
    yield equal("|R M|²", square_norm(moved * (q * write)), square_norm(read * write))
    yield equal("|M|²", square_norm(q * write), square_norm(write))
    yield equal("|R|²", square_norm(moved), square_norm(read))


@statement(
    DimensionFree(),
    Exact(m=3, n=3),
    latex=r"\langle u, u'\rangle\langle v, v'\rangle = \langle uv^\top, u'v'^\top\rangle",
    source='docs/concepts/roles.md, "Numbers of one weight in two layers"',
    hypotheses=[Hypothesis("paired_signs", "the signs of $u$ and $v$ change together, as in $s\\,u v^T$")],
    mutants={"cosine of u alone": {"whole": False}},
)
def signed_rank_one_overlap(given: Given, *, whole: bool = True, paired_signs: bool = True) -> Goals:
    """The signed product of the left and the right cosine is free of the sign choice of singular vectors."""
    u, u_next = given.matrix("u", "m", 1), given.matrix("u'", "m", 1)
    v, v_next = given.matrix("v", "n", 1), given.matrix("v'", "n", 1)
    value = inner(u, u_next) * (inner(v, v_next) if whole else 1)
    flipped = inner(-u, u_next) * (inner(-v if paired_signs else v, v_next) if whole else 1)
    yield equal("after (u, v) → (-u, -v)", flipped, value)
    yield equal("= <u vᵀ, u' v'ᵀ>", inner(u * v.T, u_next * v_next.T), inner(u, u_next) * inner(v, v_next))


@signed_rank_one_overlap.also(DimensionFree(), Exact(m=3, n=3))
def rank_one_overlap_under_rotations(given: Given) -> Goals:
    """Show that one rotation of each space, acting on both weights, leaves it alone."""
    u, u_next = given.matrix("u", "m", 1), given.matrix("u'", "m", 1)
    v, v_next = given.matrix("v", "n", 1), given.matrix("v'", "n", 1)
    p, q = given.orthogonal("P", "m"), given.orthogonal("Q", "n")
    moved = inner(p * u, p * u_next) * inner(q * v, q * v_next)
    yield equal("after (u, v) → (P u, Q v)", moved, inner(u, u_next) * inner(v, v_next))


@statement(
    DimensionFree(),
    Exact(d=3, L=4),
    latex=r"v_l \to \pm Qv_l \;\Rightarrow\; \text{the sign-aligned, centred Gram of the path is unchanged}",
    source="arXiv:2605.04971, equation 6",
    hypotheses=[ROTATION],
    mutants={"a rotation of its own for the mean": {"common": False}},
)
def path_invariance(given: Given, *, common: bool = True, orthogonal: bool = True) -> Goals:
    """The principal components of the path of a direction through depth are invariant under a common rotation.

    Explained variances are eigenvalues of the centred Gram V^T V, for V with the directions as columns.
    """
    path, average = given.matrix("V", "d", "L"), given.symmetric("J", "L")
    q = acting_map(given, orthogonal)
    other = q if common else given.orthogonal("Z", "d")
    centred, moved = path - path * average, q * path - other * path * average
    yield equal("centred Gram", moved.T * moved, centred.T * centred)


@path_invariance.also(DimensionFree())
def aligned_path(_: Given) -> Goals:
    """Show that signs e_l of the directions do not matter: the alignment undoes them, up to that of the first.

    Direction l gets the sign s_l = s_(l-1) sign <v_l, v_(l-1)>. If the moved signs t_l fulfil t_l e_l = e_0 s_l at one
    layer, they do at the next, whatever the signs are.
    """
    for first, aligned, here, after, cosine in product((1, -1), repeat=5):
        moved = first * aligned * here
        step = moved * (here * cosine * after)
        claim = f"e₀ = {first}, s = {aligned}, e = {here} and {after}, cosine {cosine}"
        yield equal(claim, step * after, first * (aligned * cosine))


@statement(
    DimensionFree(),
    Exact(m=3, n=2),
    latex=r"(PW)^\top(PW) = W^\top W",
    source='docs/concepts/spaces.md, "Layouts"',
    hypotheses=[Hypothesis("permutation", "the rows are permuted (any orthogonal map would do)")],
    mutants={"on the write side": {"side": "write"}},
)
def row_order_keeps_read_side(given: Given, *, side: str = "read", permutation: bool = True) -> Goals:
    """A reordering of the rows of a weight, as some file formats make, does not touch its read side."""
    weight = given.matrix("W", "m", "n")
    moved = (given.orthogonal("P", "m") if permutation else given.invertible("P", "m")) * weight
    if side == "read":
        yield equal("(P W)ᵀ (P W) = Wᵀ W", moved.T * moved, weight.T * weight)
    else:
        yield equal("(P W) (P W)ᵀ = W Wᵀ", moved * moved.T, weight * weight.T)


@statement(
    Generic(experts=3, n=2),
    latex=r"\sum_e W_{\pi(e)}^\top W_{\pi(e)} = \sum_e W_e^\top W_e",
    source='docs/concepts/roles.md, "Mixtures of experts"',
    mutants={"first expert alone": {"count": 1}},
)
def expert_order(given: Given, *, count: int = 3) -> Goals:
    """The stacked Gram of the experts does not depend on their order, while any single expert's does."""
    experts = [given.matrix(f"W_{e}", 1, "n") for e in range(given.size("experts"))]
    reference = sum((w.T * w for w in experts[:count]), zeros(2))
    for order in permutations(experts):
        yield equal("stacked Gram", sum((w.T * w for w in order[:count]), zeros(2)), reference)


@statement(
    DimensionFree(),
    Exact(n=3, d=3),
    latex=r"\mathrm{tr}\,\bigl((QWR)^\top QWR\bigr)^j = \mathrm{tr}\,(W^\top W)^j",
    source="arXiv:2605.04971, equation 3",
    label=Label.TEXTBOOK,
    hypotheses=[Hypothesis("orthogonal", "both changes of basis are orthogonal")],
    mutants={"with a scale": {"scale": 2}},
)
def spectrum_invariance(given: Given, *, scale: int = 1, orthogonal: bool = True) -> Goals:
    """Singular values, hence effective rank and energies, are invariant under rotations on both sides."""
    weight, turn = given.matrix("W", "d", "n"), given.orthogonal("R", "n")
    moved = scale * acting_map(given, orthogonal) * weight * turn
    gram, moved_gram = weight.T * weight, moved.T * moved
    yield equal("the Gram is conjugated by a rotation", moved_gram, turn.T * gram * turn)
    yield equal("tr (Wᵀ W)²", tr(moved_gram * moved_gram), tr(gram * gram))


@statement(
    DimensionFree(),
    Exact(n=2, d=2),
    latex=r"W_T - W_0 = -\eta\sum_t G_t",
    source='docs/concepts/training.md, "Continuity across layers"',
    hypotheses=[Hypothesis("plain_gradient", "plain gradient descent without ridge, momentum or preconditioner")],
    mutants={"twice the step": {"factor": 2}},
    wording=Wording(
        point="C9",
        said="Residual connections and symmetry-breaking activations jointly maintain geometric continuity through "
        "gradient alignment and coordinate frame anchoring.",
        holds="The gap between the continuity of the gradient sum and that of the weights, offered as evidence, is "
        "zero under plain gradient descent from small initial weights, whether or not continuity collapses. It can "
        "inform only with a preconditioner or with initial weights that still matter.",
        counterexample="Three steps of plain gradient descent: the two matrices differ by the factor -eta.",
    ),
)
def gradient_sum_is_displacement(given: Given, *, factor: int = 1, plain_gradient: bool = True) -> Goals:
    """Under plain gradient descent the sum of the gradients is the displacement of the weight, up to the step size.

    One step more: with the sum S of the gradients so far, W_t = W_0 - eta S becomes W_0 - eta (S + G).
    """
    start, so_far, gradient = (given.matrix(name, "d", "n") for name in ("W_0", "S", "G"))
    step = given.positive("eta")
    weight = start - factor * step * so_far
    along = gradient if plain_gradient else given.symmetric("P", "d") * gradient
    following = weight - step * along
    yield equal("W_(t+1) - W₀ = -η (S + G)", following - start, -factor * step * (so_far + gradient))
