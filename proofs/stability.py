"""Geometric invariant theory of one interface: invariants, closed orbits, minimal vectors, and where flags sit."""

from itertools import pairwise, product
from typing import Any

from sympy import Matrix, Rational, diag, eye, symbols, zeros

from .balance import imbalance
from .given import DimensionFree, Exact, Generic, Given, bracket, inner, rotation, square_norm, tr
from .goal import Goals, Outcome, at_least, differ, equal, holds
from .orbits import change_of_basis
from .statement import Hypothesis, Label, Wording, statement


@statement(
    Exact(n=3, d=2, p=3),
    Exact(n=3, d=1, p=2),
    Exact(n=4, d=2, p=3),
    latex=r"X/\!/GL(d) = \{M : \mathrm{rank}\,M \le d\},\qquad d(n+p-d) + d^2 = \dim X",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"; first fundamental theorem',
    label=Label.TEXTBOOK,
    hypotheses=[Hypothesis("narrow", r"$d \le n$ and $d \le p$")],
    mutants={"orbits of dimension d": {"orbit_power": 1}, "images d (n + p)": {"defect": 0}},
)
def quotient_dimension(given: Given, *, orbit_power: int = 2, defect: int = 1, narrow: bool = True) -> Goals:
    """The product W_2 W_1 separates the generic orbits: its Jacobian and the orbit directions fill the whole space.

    The ranks are checked at one seeded point of each shape.
    """
    d = given.size("d")
    n, p = (given.size("n"), given.size("p")) if narrow else (1, 1)
    generic = Generic(n=n, d=d, p=p)
    w1, w2 = generic.matrix("W_1", "d", "n"), generic.matrix("W_2", "p", "d")
    entries = [*w1, *w2]
    point = dict(zip(entries, [*given.matrix("W_1", d, n), *given.matrix("W_2", p, d)], strict=True))
    jacobian = (w2 * w1).reshape(p * n, 1).jacobian(entries).subs(point)
    directions = []
    for i, j in product(range(d), repeat=2):
        unit = zeros(d)
        unit[i, j] = 1
        directions.append(Matrix([*(unit * w1), *(-w2 * unit)]).subs(point))
    orbit = Matrix.hstack(*directions)
    yield equal("rank of the Jacobian", jacobian.rank(), d * (n + p - defect * d))
    yield equal("dimension of the orbit", orbit.rank(), d**orbit_power)
    yield equal("the Jacobian kills the orbit", jacobian * orbit, zeros(p * n, d * d))


@statement(
    Exact(n=2, d=2, p=2),
    latex=r"f(gW_1, W_2g^{-1}) = f(W_1,W_2) \;\Rightarrow\; f \text{ is a function of } r_1, r_2, r_{12}",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"',
    mutants={"equal products": {"scale": 1}},
    recorded=Outcome.REFUTED,
    wording=Wording(
        point="D3",
        said="Subspace intersection dimension is the unique reparameterization-invariant observable.",
        holds="It is the complete invariant of the pair of subspaces. The matrices have more: every entry of "
        "W_2 W_1 is invariant, and these generate all invariant polynomials.",
        counterexample="(W_1, W_2) and (2 W_1, W_2) have the same subspaces and different products.",
    ),
)
def invariants_are_ranks(given: Given, *, scale: int = 2) -> Goals:
    """Ranks and intersection dimensions are all that a change of basis leaves of two weights."""
    w1, w2, g = given.matrix("W_1", "d", "n"), given.matrix("W_2", "p", "d"), given.invertible("g", "d")
    yield equal("W₂ W₁ is invariant", (w2 * g.inv()) * (g * w1), w2 * w1)
    for left, right in ((w1, scale * w1), (w2 * w1, w2 * (scale * w1))):
        yield equal("equal ranks", left.rank(), right.rank())
    yield differ("the invariant W₂ W₁ differs", w2 * w1, w2 * (scale * w1))


def adapted_pair(given: Given) -> dict[str, Any]:
    """A pair of weights in a basis that is adapted to it, and the scaling that shrinks what the product misses.

    V_1 = im W_1 with ker W_2, V_2 the rest of im W_1, V_3 the rest of ker W_2, and V_4 a complement; a change of basis
    makes them orthogonal. P_1 and P_2 project onto V_1 and V_2, P_3 onto V_3 and V_4 together, where W_1 vanishes.
    """
    frame, inside = given.frame("F", "d", "m"), given.projector("E", "m")
    p2, p1 = frame * inside * frame.T, frame * (given.identity("m") - inside) * frame.T
    p3 = given.identity("d") - frame * frame.T
    return {
        "kept": (p2 * given.matrix("X_2", "d", "n"), given.matrix("Y_2", "p", "d") * p2),
        "shrunk": (p1 * given.matrix("X_1", "d", "n"), given.matrix("Y_4", "p", "d") * p3),
        "projectors": (p1, p2, p3),
    }


@statement(
    DimensionFree(),
    Exact(n=2, d=4, p=2, m=3),
    latex=r"g(t) = \mathrm{diag}(t,1,1,t^{-1}):\quad g W_1 \to (0; X_2; 0; 0),\; W_2 g^{-1} \to (0, Y_2, 0, 0)",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"',
    mutants={"opposite weight on the fourth block": {"last": 1}},
)
def one_parameter_degeneration(given: Given, *, last: int = -1) -> Goals:
    """Where the image of W_1 meets the kernel of W_2, or both leave a direction out, scaling shrinks it away.

    In blocks V_1 = im W_1 with ker W_2, V_2 the rest of im W_1, V_3 the rest of ker W_2, V_4 a complement; V_3 may be
    scaled with V_4, since both weights vanish on it. What is left of the other parts is t times them, hence tends to 0.
    """
    t, pair = given.positive("t"), adapted_pair(given)
    (x2, y2), (x1, y4), (p1, p2, p3) = pair["kept"], pair["shrunk"], pair["projectors"]
    w1, w2 = x2 + x1, y2 + y4
    g, g_inverse = t * p1 + p2 + t**last * p3, p1 / t + p2 + t ** (-last) * p3
    yield equal("g g⁻¹ = 1", g * g_inverse, given.identity("d"))
    yield equal("the product stays", (w2 * g_inverse) * (g * w1), w2 * w1)
    yield equal("g W₁ = (0; X₂; 0; 0) + t (X₁; 0; 0; 0)", g * w1, x2 + t * x1)
    yield equal("W₂ g⁻¹ = (0, Y₂, 0, 0) + t (0, 0, 0, Y₄)", w2 * g_inverse, y2 + t * y4)


@statement(
    DimensionFree(),
    Exact(n=3, d=3, p=3, r=2),
    latex=r"GL(d)\cdot(W_2,W_1) \text{ closed} \iff \mathrm{im}\,W_1\oplus\ker W_2 = \mathbb{R}^d \iff "
    r"r_{12} = r_1 = r_2",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"; Kempf and Ness',
    hypotheses=[Hypothesis("complementary", "the image of $W_1$ and the kernel of $W_2$ are complementary")],
    mutants={"rank condition on one side": {"one_sided": True}, "one factor not moved": {"moved": False}},
)
def closed_orbit(given: Given, *, moved: bool = True) -> Goals:
    """An orbit is closed exactly if the image of W_1 and the kernel of W_2 are complementary.

    Complementary pairs have the form W_1 = B F C^-1 R and W_2 = L C F^T B^-1, with the product L R of full rank r.
    One h brings them all to (F R, L F^T): the orbit is the set of all pairs with this product and ranks at most r,
    which is closed, since minors and products are polynomials. Any other pair has a limit of smaller rank with the same
    product (`one_parameter_degeneration`), which lies in another orbit; by `shrinkable_blocks` those are the pairs
    whose ranks do not agree. Checked are the identities; that the set is closed and the limit outside it are not.
    """
    frame, change, basis = given.frame("F", "d", "r"), given.invertible("C", "r"), given.invertible("B", "d")
    left, right = given.matrix("L", "p", "r"), given.matrix("R", "r", "n")
    rest = given.identity("d") - frame * frame.T
    w1, w2 = basis * frame * change.inv() * right, left * change * frame.T * basis.inv()
    h = (frame * change * frame.T + rest) * basis.inv()
    h_inverse = basis * (frame * change.inv() * frame.T + rest)
    yield equal("h h⁻¹ = 1", h * h_inverse, given.identity("d"))
    yield equal("W₂ W₁ = L R", w2 * w1, left * right)
    yield equal("h W₁ = F R", h * w1, frame * right)
    yield equal("W₂ h⁻¹ = L Fᵀ", w2 * (h_inverse if moved else basis), left * frame.T)


@closed_orbit.also(DimensionFree())
def shrinkable_blocks(_: Given) -> Goals:
    """Show that V_1 and V_4, which the scaling shrinks away, have dimensions r_1 - r_12 and r_2 - r_12.

    dim V_1 is what the kernel of W_2 takes from the image of W_1, and V_4 complements the sum of the two.
    """
    d, r1, r2, r12 = symbols("d r_1 r_2 r_12", positive=True)
    common, kernel = r1 - r12, d - r2
    yield equal("dim V₄ = r₂ - r₁₂", d - (r1 + kernel - common), r2 - r12)


@closed_orbit.also(Exact(d=2), Exact(d=3), example=True)
def conditions_agree(given: Given, *, one_sided: bool = False, complementary: bool = True) -> Goals:
    """Show in seeded pairs of all block sizes that the three conditions agree, and h for one factorization."""
    d = given.size("d")
    for v1, v2, v3, v4 in product(range(d + 1), repeat=4):
        if v1 + v2 + v3 + v4 != d:
            continue
        blocks = (v1, v2, v3, v4)
        g = Exact(**{f"v{k}": size for k, size in enumerate(blocks, 1)}).invertible("g", d)
        w1 = g * diag(*[1] * (v1 + v2), *[0] * (v3 + v4))
        w2 = diag(*[0] * v1, *[1] * v2, *[0] * v3, *[1] * v4) * g.inv()
        r1, r2, r12 = w1.rank(), w2.rank(), (w2 * w1).rank()
        kernel = w2.nullspace()
        joined = Matrix.hstack(w1, *kernel).rank()
        direct = joined == d and r1 + len(kernel) == d
        ranks_agree = r12 == r1 if one_sided else r12 == r1 == r2
        yield equal(f"blocks {blocks}: direct sum iff ranks agree", int(direct), int(ranks_agree))
        yield equal(f"blocks {blocks}: nothing to shrink", int(direct), int(v1 == v4 == 0))
        if direct or not complementary:
            basis = Matrix.hstack(*w1.columnspace(), *kernel)
            regular = basis.shape == (d, d) and basis.rank() == d
            yield holds(f"blocks {blocks}: im W₁ and ker W₂ give a basis", regular)
            if regular and r1 > 0:
                left, right = (w2 * w1).rank_decomposition()
                change = (left.T * left).inv() * left.T * w2 * basis[:, :r1]
                h = diag(change, eye(d - r1)) * basis.inv()
                yield equal(f"blocks {blocks}: h W₁ = (R; 0)", h * w1, Matrix.vstack(right, zeros(d - r1, d)))
                yield equal(f"blocks {blocks}: W₂ h⁻¹ = (L, 0)", w2 * h.inv(), Matrix.hstack(left, zeros(d, d - r1)))


@statement(
    DimensionFree(),
    Exact(n=3, d=3, p=3, r=2),
    latex=r"\inf_g\,\|gW_1\|^2 + \|W_2g^{-1}\|^2 = 2\,\|W_2W_1\|_*, \quad "
    r"\text{attained} \iff r_{12} = r_1 = r_2 \iff GL(d)\cdot(W_2,W_1) \text{ closed}",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"; arXiv:2511.01137',
    hypotheses=[Hypothesis("singular_frames", "$W_2 W_1 = U S V^T$ with orthonormal columns in $U$ and $V$")],
    mutants={
        "half the nuclear norm": {"factor": 1},
        "sum of the weights": {"sign": 1},
        "attained on every orbit": {"attained": True},
    },
)
def kempf_ness_minimum(given: Given, *, factor: int = 2, sign: int = -1, singular_frames: bool = True) -> Goals:
    """The infimum of the square norm over an orbit is twice the nuclear norm of the product, attained on closed orbits.

    With Z = U V^T from the singular vectors of the product, |M|_* = tr(Z^T M), and the excess over 2 |M|_* is a
    sum of two squares; both vanish exactly if W_1 = W_2^T Z and W_2 = U Y. Then the pair is balanced, and S = Y Y^T, so
    r_1 = r_2 = r_12, which means a closed orbit (`closed_orbit`). Such a pair is carried to its minimum by
    `balanced_representative`; any other comes as near as one likes to a pair with a minimum (`shrinking_norm`).
    """
    w1, w2 = given.matrix("W_1", "d", "n"), given.matrix("W_2", "p", "d")
    u = given.frame("U", "p", "r") if singular_frames else given.matrix("U", "p", "r")
    v = given.frame("V", "n", "r")
    z = u * v.T
    values = given.symmetric("S", "r")
    yield equal("tr(Zᵀ U S Vᵀ) = tr S", tr(z.T * u * values * v.T), tr(values))
    excess = square_norm(w1) + square_norm(w2) - factor * tr(z.T * w2 * w1)
    outside = (given.identity("p") - u * u.T) * w2
    yield equal(
        "excess = |W₁ - W₂ᵀ Z|² + |(1 - U Uᵀ) W₂|²", excess, square_norm(w1 + sign * w2.T * z) + square_norm(outside)
    )
    y = given.matrix("Y", "r", "d")
    minimal_w1, minimal_w2 = (u * y).T * z, u * y
    yield equal("equality is balanced", imbalance(minimal_w1, minimal_w2), given.zeros("d", "d"))
    yield equal("equality has S = Y Yᵀ", u.T * (minimal_w2 * minimal_w1) * v, y * y.T)


@kempf_ness_minimum.also(DimensionFree(), Exact(n=3, p=3, r=2))
def balanced_representative(given: Given, *, factor: int = 2) -> Goals:
    """Show that a pair with r_1 = r_2 = r_12 is carried to (T V^T, U T) with T^2 = S, which is balanced and minimal.

    On V_2 it has W_2 = U C with C invertible, so W_1 = C^-1 S V^T; h is T^-1 C.
    """
    u, v = given.frame("U", "p", "r"), given.frame("V", "n", "r")
    root, (change, change_inverse) = given.symmetric("T", "r"), change_of_basis(given, "C", "r")
    w1, w2 = change_inverse * root * root * v.T, u * change
    yield equal("W₂ W₁ = U S Vᵀ", w2 * w1, u * root * root * v.T)
    h, h_inverse = root.inv() * change, change_inverse * root
    least_w1, least_w2 = h * w1, w2 * h_inverse
    yield equal("h W₁ = T Vᵀ", least_w1, root * v.T)
    yield equal("W₂ h⁻¹ = U T", least_w2, u * root)
    yield equal("balanced", imbalance(root * v.T, u * root), given.zeros("r", "r"))
    yield equal("square norm 2 tr S", square_norm(root * v.T) + square_norm(u * root), factor * tr(root * root))


@kempf_ness_minimum.also(DimensionFree(), Exact(n=2, d=4, p=2, m=3))
def shrinking_norm(given: Given) -> Goals:
    """Show that scaling brings the norm of any pair as near as one likes to that of its part on V_2.

    `one_parameter_degeneration` is the scaling; on V_2 the ranks agree and the product is the same.
    """
    t, pair = given.positive("t"), adapted_pair(given)
    (x2, y2), (x1, y4) = pair["kept"], pair["shrunk"]
    moved = square_norm(x2 + t * x1) + square_norm(y2 + t * y4)
    limit = square_norm(x2) + square_norm(y2)
    yield equal("norm = limit + t² (|X₁|² + |Y₄|²)", moved, limit + t**2 * (square_norm(x1) + square_norm(y4)))
    yield equal("W₂ W₁ = Y₂ X₂", (y2 + y4) * (x2 + x1), y2 * x2)


@kempf_ness_minimum.also(Generic(n=1, d=2, p=1), example=True)
def orbit_without_minimum(given: Given, *, attained: bool = False) -> Goals:
    """Show W_1 = e_1 and W_2 = e_2^T: the product is 0, and no g reaches norm 0, since g e_1 is not 0."""
    g, w1, w2 = given.matrix("g", "d", "d"), Matrix([1, 0]), Matrix([[0, 1]])
    column = square_norm(g * w1)
    norm = column + square_norm(w2 * g.inv())
    yield equal("|g W₁|² + |W₂ g⁻¹|²", norm, 0 if attained else column * (1 + 1 / g.det() ** 2))
    t = given.positive("t")
    shrunk = diag(t, 1 / t)
    yield equal("2 t² along diag(t, 1/t)", square_norm(shrunk * w1) + square_norm(w2 * shrunk.inv()), 2 * t**2)


@statement(
    DimensionFree(),
    Exact(d=3, r=2, q=2),
    latex=r"\kappa = \frac{\|W_1\|^2+\|W_2\|^2}{2\,\|W_2W_1\|_*},\qquad 0 \le \kappa - 1 \le "
    r"\frac{\|\Delta\|_*}{2\,\|W_2W_1\|_*}",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"; Powers and Stormer',
    hypotheses=[
        Hypothesis("semidefinite", "$X$ and $Y$, the roots of the two Grams, are positive semidefinite"),
        Hypothesis("nonzero", r"$W_2W_1 \ne 0$, or the quotients have no meaning", essential=False),
    ],
    mutants={"half the imbalance": {"share": Rational(1, 2)}},
)
def kempf_ness_gap(given: Given, *, share: Any = 1) -> Goals:
    """The distance from the least square norm is bounded by the imbalance, so balance implies kappa = 1.

    With X = A^(1/2) and Y = B^(1/2), W_1 = X Q and W_2 = R Y for isometries: M has the singular values of Y X, and
    |M|_* >= tr X Y, so 2 |M|_* (kappa - 1) <= |X - Y|^2. Split X - Y by the projector E onto its positive part, which
    is E G G^T E, the negative one being that of H outside E. Then |X - Y|^2 <= tr((2 E - 1) (A - B)) <= |A - B|_*,
    where the slacks are squares, and values of the semidefinite X and Y at vectors.
    """
    x, y = given.symmetric("X", "d"), given.symmetric("Y", "d")
    trace = square_norm(x) + square_norm(y) - 2 * tr(x * y)
    yield equal("tr A + tr B - 2 tr X Y = |X - Y|²", trace, square_norm(x - y))
    u, v, root = given.frame("U", "d", "r"), given.frame("V", "d", "r"), given.symmetric("T", "r")
    slack = square_norm((u - v) * root) / 2
    yield equal("|Y X|_* - tr Y X for Y X = U T² Vᵀ", square_norm(root) - tr(u * root * root * v.T), slack)

    inside, identity = given.projector("E", "d"), given.identity("d")
    outside = identity - inside
    plus = inside * given.matrix("G", "d", "q")
    minus = outside * given.matrix("H", "d", "q")
    x = y + plus * plus.T - minus * minus.T
    signed = tr((inside - outside) * (x * x - y * y))
    excess = 2 * tr(plus.T * y * plus) + 2 * tr(minus.T * x * minus)
    yield equal("tr((2 E - 1) (A - B)) - |X - Y|²", share * signed - square_norm(x - y), excess)

    positive, negative = given.matrix("K", "d", "q"), given.matrix("L", "d", "q")
    difference = positive * positive.T - negative * negative.T
    nuclear = square_norm(positive) + square_norm(negative)
    slack = 2 * square_norm(outside * positive) + 2 * square_norm(inside * negative)
    yield equal("|A - B|_* - tr((2 E - 1) (A - B))", nuclear - tr((inside - outside) * difference), slack)


@kempf_ness_gap.also(Generic(d=2), example=True)
def powers_stormer(given: Given, *, share: Any = 1, semidefinite: bool = True) -> Goals:
    """Show tr(sign(T) (A - B)) >= |T|^2 for T = X - Y in its eigenbasis, for every pattern of signs.

    The smaller of x_ii and y_ii is w_i >= 0, the other one w_i + |t_i|.
    """
    sizes = symbols("t_0 t_1", nonnegative=True)
    smaller = symbols("w_0 w_1", nonnegative=True) if semidefinite else given.real("w_0 w_1")
    coupling = given.real("y_01")
    for signs in product((1, -1), repeat=2):
        t = diag(*(sign * size for sign, size in zip(signs, sizes, strict=True)))
        diagonal = [w + (size if sign < 0 else 0) for sign, size, w in zip(signs, sizes, smaller, strict=True)]
        y = Matrix([[diagonal[0], coupling], [coupling, diagonal[1]]])
        x = y + t
        yield at_least(f"signs {signs}", share * tr(diag(*signs) * (x * x - y * y)), square_norm(t))


@statement(
    DimensionFree(),
    Exact(n=3, m=3, p=2, r=2),
    latex=r"\min \sum_l \|W_l\|^2 = L\sum_i \sigma_i(M)^{2/L}, \qquad W_lW_l^\top = W_{l+1}^\top W_{l+1}",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"; arXiv:2511.01137',
    label=Label.TEXTBOOK,
    mutants={"nuclear norm at every depth": {"schatten": False}, "twice the norm of a layer": {"norms": 2}},
)
def deep_chain_minimum(given: Given, *, norms: int = 1) -> Goals:
    """A chain of L layers has as least square norm a Schatten quasi-norm of its product, at the balanced chain.

    The balanced chain U_l T U_{l-1}^T with T^L = S has it, shown layer by layer. For the bound, a chain with product
    M = U_L S U_0^T is cut down to r = rank M dimensions in every space without gain in norm (`cut_to_rank`). It is then
    the balanced chain after a change of basis of the hidden spaces (`one_orbit`), rotations up to exp of symmetric
    maps. Along these the norm is convex, with slope 0 at the balanced chain (`convex_norm`), which so is its minimum.
    """
    before, here, after = given.frame("U_0", "n", "r"), given.frame("U_1", "m", "r"), given.frame("U_2", "p", "r")
    root, product_so_far = given.symmetric("T", "r"), given.matrix("K", "r", "r")
    weight, following = here * root * before.T, after * root * here.T
    so_far = here * product_so_far * before.T
    yield equal("the product goes on as U K U₀ᵀ", following * so_far, after * (root * product_so_far) * before.T)
    yield equal("balanced", weight * weight.T, following.T * following)
    yield equal("|W|² = tr T²", square_norm(weight), norms * square_norm(root))


@deep_chain_minimum.also(DimensionFree(), Exact(n=3, m=4, r=2))
def cut_to_rank(given: Given) -> Goals:
    """Show that projecting a chain onto the images of the complement of ker M keeps the product and lowers the norm.

    A weight that takes the span of F into that of F' is F' C F^T + Y (1 - F F^T); the product so far is F K on F_0.
    """
    frame, image, core = given.frame("F", "n", "r"), given.frame("F'", "m", "r"), given.matrix("C", "r", "r")
    rest = given.identity("n") - frame * frame.T
    weight = image * core * frame.T + given.matrix("Y", "m", "n") * rest
    so_far = frame * given.matrix("K", "r", "r")
    cut = image * image.T * weight * frame * frame.T
    yield equal("the cut weight", cut, image * core * frame.T)
    yield equal("the product stays", cut * so_far, weight * so_far)
    weight = given.matrix("W", "m", "n")
    cut = image * image.T * weight * frame * frame.T
    outside = given.identity("m") - image * image.T
    lost = square_norm(weight * rest) + square_norm(outside * weight * frame * frame.T)
    yield equal("the norm that is cut off", square_norm(weight) - square_norm(cut), lost)


@deep_chain_minimum.also(DimensionFree(), Exact(r=2))
def one_orbit(given: Given) -> Goals:
    """Show that changes of basis make every factor of an invertible chain T, when its product is T^L.

    Take g_l = T^l (C_l .. C_1)^-1, so that g_0 = g_L = 1. K stands for C_l .. C_1 and J for T^l.
    """
    (factor, factor_inverse), (so_far, inverse) = change_of_basis(given, "C", "r"), change_of_basis(given, "K", "r")
    root, power = given.symmetric("T", "r"), given.symmetric("J", "r")
    after, before_inverse = root * power * inverse * factor_inverse, so_far * power.inv()
    yield equal("g_(l+1) C g_l⁻¹ = T", after * factor * before_inverse, root)


@deep_chain_minimum.also(DimensionFree(), Exact(n=2, d=3, p=2))
def convex_norm(given: Given) -> Goals:
    """Show that |e^(tX) W e^(-tX')|^2 is convex in t for symmetric X and X', and the slope that hidden spaces add.

    W' = X W - W X' at every t. The map X of a hidden space acts on the weight that writes it and the one that reads it.
    """
    weight, following = given.matrix("W", "d", "n"), given.matrix("W_2", "p", "d")
    inner_map, outer_map = given.symmetric("X'", "n"), given.symmetric("X", "d")

    def rate(matrix: Any) -> Any:
        return outer_map * matrix - matrix * inner_map

    speed = rate(weight)
    second = 2 * square_norm(speed) + 2 * inner(weight, rate(speed))
    yield equal("(|W|²)'' = 4 |X W - W X'|²", second, 4 * square_norm(speed))
    slope = 2 * inner(weight, outer_map * weight) + 2 * inner(following, -following * outer_map)
    yield equal("slope = 2 tr X (W Wᵀ - W₂ᵀ W₂)", slope, 2 * tr(outer_map * imbalance(weight, following)))


@deep_chain_minimum.also(Exact(L=2, r=2), Exact(L=3, r=2), Exact(L=4, r=2), example=True)
def balanced_chain(given: Given, *, schatten: bool = True) -> Goals:
    """Show product, balance and square norm of balanced chains with seeded rotations and spectra."""
    length, rank = given.size("L"), given.size("r")
    roots = [given.positive(f"s_{i}") for i in range(rank)]
    frames = [given.orthogonal(f"U_{place}", rank) for place in range(length + 1)]
    chain = [frames[k + 1] * diag(*roots) * frames[k].T for k in range(length)]
    composed = eye(rank)
    for weight in chain:
        composed = weight * composed
    yield equal("product", composed, frames[-1] * diag(*(root**length for root in roots)) * frames[0].T)
    for weight, following in pairwise(chain):
        yield equal("balanced", weight * weight.T, following.T * following)
    power = Rational(2, length) if schatten else 1
    expected = length * sum((root**length) ** power for root in roots)
    yield equal("square norm", sum(square_norm(weight) for weight in chain), expected)


@statement(
    DimensionFree(),
    Exact(n=2, d=3, p=3, r=2),
    latex=r"\{W_1W_1^\top : W_1W_1^\top = W_2^\top W_2,\, W_2W_1 = M\} \cong "
    r"O(d)/\bigl(O(m_1)\times\cdots\times O(m_s)\bigr), \qquad \dim = \sum_{i<j} m_i m_j",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"; arXiv:2407.13482',
    hypotheses=[Hypothesis("rank", r"$d \ge \mathrm{rank}\,M$: some pair has this product", essential=False)],
    mutants={
        "squares counted too": {"diagonal": 1},
        "Gram of the product": {"power": 1},
        "pairs in place of their Grams": {"pairs": True},
    },
)
def isospectral_flag(given: Given, *, power: int = 2) -> Goals:
    """The common Gram of the balanced pairs with one product runs over a real flag manifold.

    With W_2^T W_2 = W_1 W_1^T one has W_2 = R W_1^T for an isometry R (of W_2 with rows of zeros, if need be). So
    M^T M = (W_1^T W_1)^2 gives W_1^T W_1, the root, and W_1 = Q T V^T for an isometry Q, with M = U T^2 V^T. These
    pairs are all balanced with the same product, and their Gram Q T^2 Q^T is any matrix with that spectrum: the r
    singular values of M and d - r zeros, with the multiplicities m_i. The rotations that keep it are those of
    `stabilizer`. The pairs themselves are more (`one_gram_of_many_pairs`).
    """
    w1, isometry = given.matrix("W_1", "d", "n"), given.frame("R", "p", "n")
    w2 = isometry * w1.T
    yield equal("balanced", imbalance(w1, w2), given.zeros("d", "d"))
    yield equal("Mᵀ M = (W₁ᵀ W₁)²", (w2 * w1).T * (w2 * w1), (w1.T * w1) ** power)

    u, v = given.frame("U", "p", "r"), given.frame("V", "n", "r")
    root, q = given.symmetric("T", "r"), given.frame("Q", "d", "r")
    w1, w2 = q * root * v.T, u * root * q.T
    yield equal("the product stays", w2 * w1, u * root * root * v.T)
    yield equal("Q T Vᵀ is balanced", imbalance(w1, w2), given.zeros("d", "d"))
    yield equal("the Gram turns", w1 * w1.T, q * root * root * q.T)


@isospectral_flag.also(DimensionFree(), Exact(d=4, m=3))
def stabilizer(given: Given) -> Goals:
    """Show that a map commutes with a Gram exactly if it has no block between eigenspaces of different eigenvalues.

    P and P' project onto two of them, and R is what the Gram is elsewhere.
    """
    frame, inside = given.frame("F", "d", "m"), given.projector("E", "m")
    first, second = frame * inside * frame.T, frame * (given.identity("m") - inside) * frame.T
    rest = given.identity("d") - frame * frame.T
    value, other = given.positive("s"), given.positive("t")
    gram = value * first + other * second + rest * given.symmetric("R", "d") * rest
    q = given.matrix("Q", "d", "d")
    yield equal("P [Q, S] P' = (t - s) P Q P'", first * bracket(q, gram) * second, (other - value) * first * q * second)


@isospectral_flag.also(DimensionFree())
def rotations_between_blocks(given: Given, *, diagonal: int = 0) -> Goals:
    """Show that a further block of m beside q dimensions adds q m to dim O(d) - sum dim O(m_i), the sum of m_i m_j."""
    q, m = given.size("q"), given.size("m")

    def rotations(size: Any) -> Any:
        return size * (size - 1) / 2

    yield equal("dim O(q + m) - dim O(q) - dim O(m)", rotations(q + m) - rotations(q) - rotations(m), q * m + diagonal)


@isospectral_flag.also(Generic(d=2), example=True)
def one_gram_of_many_pairs(given: Given, *, pairs: bool = False) -> Goals:
    """Show that the product I in d = 2 has one common Gram, a point, of all pairs of a rotation and its inverse."""
    turn = rotation(given.real("phi"))
    w1, w2, identity = turn, turn.T, given.identity("d")
    yield equal("the product stays", w2 * w1, identity)
    yield equal("balanced", imbalance(w1, w2), given.zeros("d", "d"))
    yield equal("the Gram stays", w1 * w1.T, identity)
    if pairs:
        yield equal("the pair stays", w1, identity)


@isospectral_flag.also(Exact(d=2), Exact(d=3), Exact(d=4), example=True)
def tangent_dimension(given: Given, *, diagonal: int = 0) -> Goals:
    """Show the dimension as the rank of [K, S] over skew K, for eigenvalues 0, 1, .. of every multiplicity."""
    d = given.size("d")
    for multiplicities in compositions(d):
        spectrum = diag(*(k for k, size in enumerate(multiplicities) for _ in range(size)))
        tangents = []
        for i, j in product(range(d), repeat=2):
            skew = zeros(d)
            skew[i, j] += 1
            skew[j, i] -= 1
            tangents.append(bracket(skew, spectrum).reshape(d * d, 1))
        pairs = (d**2 - sum(m**2 for m in multiplicities)) // 2
        expected = pairs + diagonal * len(multiplicities)
        yield equal(f"dimension for {multiplicities}", Matrix.hstack(*tangents).rank(), expected)


def compositions(total: int) -> list[tuple[int, ...]]:
    """All ordered sums of positive integers with the given total."""
    if total == 0:
        return [()]
    return [(first, *rest) for first in range(1, total + 1) for rest in compositions(total - first)]


@statement(
    DimensionFree(),
    latex=r"A\subset B \text{ is polystable in } \mathrm{Gr}(a)\times\mathrm{Gr}(b) \text{ under } SL(d)",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"',
    label=Label.TEXTBOOK,
    mutants={"the whole space": {"proper": 0}},
    recorded=Outcome.REFUTED,
    wording=Wording(
        point="D2",
        said="Alignment geometry has a canonical closed, polystable stratum given by a flag variety.",
        holds="Three different things: nested pairs are the closed GL orbit and a flag variety, without stability; "
        "the balanced Grams of one product form an isospectral flag manifold, on closed orbits; complementary pairs, "
        "an open set, fulfil the criterion of semistability.",
        counterexample="For nested A in B the subspace F = A violates the semistability criterion for all weights.",
    ),
)
def nested_pairs_polystable(given: Given, *, proper: int = 1) -> Goals:
    """Nested pairs of subspaces, which form a flag variety, are polystable under SL(d).

    Semistability asks s dim(A ∩ F) + t dim(B ∩ F) <= (dim F / d) (s a + t b) for every F; here F = A has excess.
    """
    s, t, a, extra, rest = given.positive("s t a b-a d-b")
    b = a + proper * extra
    d = b + proper * rest
    excess = s + t - (s * a + t * b) / d
    yield equal("excess per dimension", excess * d, s * (d - a) + t * (d - b))
    yield at_least("the excess is positive", excess * d, s * proper * extra)
    yield differ("the excess is not zero", excess, 0)


@statement(
    DimensionFree(),
    Exact(d=5, a=2, b=2, f=3, m=2),
    latex=r"A\oplus B = \mathbb{R}^d,\; s = t \;\Rightarrow\; s\dim(A\cap F)+s\dim(B\cap F) \le s\dim F",
    source='docs/concepts/symmetry.md, "One interface and its balanced representative"',
    label=Label.TEXTBOOK,
    hypotheses=[
        Hypothesis("complementary", "$A$ and $B$ are complementary"),
        Hypothesis("equal_weights", "the linearisation has $s = t$"),
    ],
    mutants={"slope of the first factor alone": {"second": 0}, "both project onto A": {"apart": False}},
)
def complementary_pairs_semistable(given: Given, *, apart: bool = True) -> Goals:
    """Complementary pairs with equal weights fulfil the criterion of semistability, with equality at F = A and F = B.

    A change of basis makes A and B orthogonal, with projectors P and 1 - P. A ∩ F and B ∩ F then are orthogonal inside
    F, and what they leave of it is the square norm of a projector. That the criterion means semistability is Mumford's
    theorem, which is not part of the statement.
    """
    projector = given.projector("P", "d")
    other = given.identity("d") - projector if apart else projector
    of_a, of_b = projector * given.matrix("X", "d", "a"), other * given.matrix("Y", "d", "b")
    yield equal("A ∩ F and B ∩ F are orthogonal", of_a.T * of_b, given.zeros("a", "b"))
    inside, part = given.frame("G", "f", "m"), given.projector("E", "m")
    first, second = inside * part * inside.T, inside * (given.identity("m") - part) * inside.T
    yield equal("their projectors in F annihilate each other", first * second, given.zeros("f", "f"))
    left = given.identity("f") - first - second
    yield equal("dim F - dim A ∩ F - dim B ∩ F", given.size("f") - tr(first) - tr(second), square_norm(left))


@complementary_pairs_semistable.also(DimensionFree())
def common_slope(given: Given, *, second: int = 1, complementary: bool = True, equal_weights: bool = True) -> Goals:
    """Show that the slope (s a + t b) / d is s, which F = A and F = B reach."""
    s, a, b = given.positive("s a b")
    t = s if equal_weights else given.positive("t")
    d = a + b if complementary else a + b + given.positive("c")
    yield equal("(s a + t b) / d = s", (s * a + second * t * b) / d, s)


@complementary_pairs_semistable.also(Exact(d=3), example=True)
def subspaces_of_complementary_pair(given: Given) -> Goals:
    """Show the criterion for every F spanned by two vectors of zeros and ones, and complementary coordinate planes."""
    d = given.size("d")
    vectors = [Matrix(entries) for entries in product((0, 1), repeat=d) if any(entries)]
    for a in range(1, d):
        first, second = eye(d)[:, :a], eye(d)[:, a:]
        for u, v in product(vectors, repeat=2):
            f = Matrix.hstack(u, v)
            inside = sum(x.rank() + f.rank() - Matrix.hstack(x, f).rank() for x in (first, second))
            yield at_least("dim F ≥ dim(A ∩ F) + dim(B ∩ F)", f.rank(), inside)
