"""From coherent updates to continuity: why neighbouring layers come to have nearly the same leading singular vectors.

The mechanism of arXiv:2605.04971 in steps that can be checked: a residual stream gives neighbouring layers nearly the
same gradients, a shared part of the updates adds up while the rest averages out, and a large shared part fixes the
leading singular vectors (Wedin's bound).
"""

from typing import Any

from sympy import Matrix, Rational, diag, limit, oo, sqrt, symbols

from .given import DimensionFree, Exact, Generic, Given, square_norm
from .goal import Goals, at_least, equal
from .statement import Hypothesis, Label, statement

HALF = Rational(1, 2)


def outside(given: Given, frame: Any, size: str) -> Any:
    """Projector onto what is orthogonal to a frame."""
    return given.identity(size) - frame * frame.T


def with_leading(given: Given, name: str) -> tuple[Any, Any, Any, Any]:
    """Matrix with known singular subspaces: frames U and V, the k x k block S between them, and the whole."""
    u, v = given.frame(f"U_{name}", "m", "k"), given.frame(f"V_{name}", "n", "k")
    values, rest = given.matrix(f"S_{name}", "k", "k"), given.matrix(f"R_{name}", "m", "n")
    return u, v, values, u * values * v.T + outside(given, u, "m") * rest * outside(given, v, "n")


def largest_sine(error: Any, kept: Any, following: Any) -> Any:
    """Wedin's bound: the norm of the change over the gap, from the last value kept to the first one left out."""
    return error / (kept - following)


@statement(
    DimensionFree(),
    Exact(m=4, n=3, k=1),
    Exact(m=5, n=4, k=2),
    latex=r"\tilde M = M + E: \quad \max\bigl(\|\sin\Theta(U,\tilde U)\|,\, \|\sin\Theta(V,\tilde V)\|\bigr) \le "
    r"\frac{\|E\|}{\tilde\sigma_k - \sigma_{k+1}}",
    source="P.-Å. Wedin, BIT 12 (1972)",
    label=Label.TEXTBOOK,
    hypotheses=[
        Hypothesis("leading", "$U$ and $V$ are the leading $k$ singular subspaces of $M$, as their perturbed ones are"),
        Hypothesis("gap", r"$\tilde\sigma_k > \sigma_{k+1}$"),
    ],
    mutants={"half the bound": {"factor": 2}, "error added": {"sign": 1}},
    computed_by=("manifolds.singular_subspace_error",),
)
def wedin_bound(given: Given, *, sign: int = -1, leading: bool = True) -> Goals:
    """Leading singular subspaces turn by an angle of sine at most the norm of the change over the gap.

    Norms are spectral. With a = |(I - U U^T) U~| and b = |(I - V V^T) V~|, the sines of the largest angles, the two
    identities give s a <= r b + e and s b <= r a + e: the left sides since |X S~| >= |X| s for the least singular value
    s of S~, the right ones since M outside U and V has norm r. Then (s - r) a <= e, and the same for b. Checked are the
    two identities and the last step; the inequalities between spectral norms are not.
    """
    u, v, _, first = with_leading(given, "0")
    if not leading:
        first = given.matrix("M", "m", "n")
    new_u, new_v, values, second = with_leading(given, "1")
    change = second - first
    off_u, off_v = outside(given, u, "m"), outside(given, v, "n")
    left = off_u * first * off_v * new_v
    yield equal("M outside, applied to Ṽ", left, off_u * new_u * values + sign * off_u * change * new_v)
    right = off_v * first.T * off_u * new_u
    yield equal("Mᵀ outside, applied to Ũ", right, off_v * new_v * values.T + sign * off_v * change.T * new_u)


@wedin_bound.also(DimensionFree())
def two_inequalities(_: Given, *, factor: int = 1) -> Goals:
    """Show that s a <= r b + e and s b <= r a + e give (s - r) a <= e, by s times the first plus r times the second."""
    a, b, r, gap, first, second = symbols("a b r gap x y", nonnegative=True)
    s = r + gap
    # What the two inequalities leave over on their right sides is x and y.
    errors = s * a - r * b + first, s * b - r * a + second
    yield equal("weights of e", s * errors[0] + r * errors[1], (s**2 - r**2) * a + s * first + r * second)
    yield at_least("(s + r) e ≥ (s + r)(s - r) a", s * errors[0] + r * errors[1], factor * (s + r) * gap * a)


@wedin_bound.also(Generic(m=2, n=2, k=1), example=True)
def exchanged_directions(given: Given, *, gap: bool = True) -> Goals:
    """Show that the bound is attained: exchanging 1 + g and 1 turns the vectors by a right angle; gap and |E| are g."""
    size = given.positive("g")
    first, second = diag(1 + size, 1), diag(1, 1 + size)
    change = second - first
    yield equal("|E| = g", change.T * change, size**2 * diag(1, 1))
    yield equal("sin Θ = |E| / gap", largest_sine(size, 1 + size, 1 if gap else 0), 1)


@statement(
    DimensionFree(),
    Exact(d=3),
    latex=r"h_{l+1} = (I+W_l)h_l: \quad G_l - G_{l+1} = W_{l+1}^\top\delta h_l^\top - \delta h_l^\top W_l^\top, \quad "
    r"\|G_l - G_{l+1}\| \le (\|W_l\| + \|W_{l+1}\|)\,\|\delta\|\,\|h_l\|",
    source="arXiv:2605.04971, equation 4",
    hypotheses=[Hypothesis("residual", "each layer adds to the stream; without that the first factors I are missing")],
    mutants={"sum of the two": {"sign": 1}},
)
def residual_gradients(given: Given, *, sign: int = -1, residual: bool = True) -> Goals:
    """In a residual stream the gradients of neighbouring linear layers differ by no more than the layers are large.

    delta is the error at the output of layer l + 1, and G_l = delta_l h_l^T one sample's gradient. Without residual
    connections the gradients are W_(l+1)^T delta h_l^T and delta h_l^T W_l^T, with no part in common.
    """
    stream = given.identity("d") if residual else given.zeros("d", "d")
    w, following = given.matrix("W_1", "d", "d"), given.matrix("W_2", "d", "d")
    h, error = given.matrix("h", "d", 1), given.matrix("e", "d", 1)
    first = (stream + following).T * error * h.T
    second = error * ((stream + w) * h).T
    yield equal("G_l - G_{l+1}", first - second, following.T * error * h.T + sign * error * h.T * w.T)
    yield equal("the shared part", first - following.T * error * h.T, error * h.T)


@statement(
    DimensionFree(),
    Exact(m=3, n=2),
    latex=r"\mathbb{E}\,\bigl\|\textstyle\sum_t N_t\bigr\|^2 = T\nu^2, \qquad "
    r"\bigl\|\textstyle\sum_t S\bigr\| = T\,\|S\|",
    source='arXiv:2605.04971; docs/concepts/training.md, "Continuity across layers"',
    hypotheses=[Hypothesis("uncorrelated", "given the past, each update's noise is as likely as its opposite")],
    mutants={"noise adds up like the shared part": {"cross": 2}},
)
def shared_updates_add_up(given: Given, *, cross: int = 0, uncorrelated: bool = True) -> Goals:
    """What updates share grows with their number, and the rest with its square root.

    One step: the mean over both signs of the new noise adds its own squared norm to that of the sum. By induction T
    steps of squared norm nu^2 have the mean T nu^2.
    """
    past, noise = given.matrix("N", "m", "n"), given.matrix("n", "m", "n")
    opposite = -noise if uncorrelated else noise
    mean = HALF * (square_norm(past + noise) + square_norm(past + opposite))
    yield equal("mean square", mean, square_norm(past) + square_norm(noise) + cross * square_norm(noise))


@statement(
    DimensionFree(),
    Exact(m=4, n=3),
    latex=r"W_l = c\,u_l y^\top + N_l,\; c > \|N_l\|: \quad "
    r"\sin\angle(v_l, y) \le \frac{\|N_l\|}{c - \|N_l\|}, \qquad "
    r"\sin\angle(v_l, v_{l+1}) \le \sin\angle(v_l, y) + \sin\angle(v_{l+1}, y)",
    source="arXiv:2605.04971; P.-Å. Wedin, BIT 12 (1972)",
    hypotheses=[
        Hypothesis("shared", "the updates of both layers have the direction $y$ in common"),
        Hypothesis("dominant", r"the shared part is larger than the rest: $c > \|N_l\|$, in the spectral norm"),
        Hypothesis("accumulating", "the shared parts of a layer's updates point the same way at every step"),
    ],
    mutants={"error with the wrong sign": {"sign": -1}},
)
def coherent_updates_give_continuity(given: Given, *, sign: int = 1) -> Goals:
    """Layers whose updates share an input direction come to have it as their first singular vector.

    The shared part of W_l is c u y^T, of the singular values c and 0; N_l is the initial weight and the noise. For the
    first singular triple (s, a, v) of W_l, s v = W_l^T a, so s (I - y y^T) v = (I - y y^T) N_l^T a, and
    s >= c - |N_l| > 0. The sine of the angle of two vectors is at most the sum of those of their angles with y. After T
    updates c is T s_0 and the root mean square of |N_l| at most w + nu sqrt T (`shared_updates_add_up`), for which the
    bound vanishes as T grows. Checked are the identities and the limit; the inequalities between norms are not. That
    trained layers share a direction is measured, not shown; `residual_gradients` says when their gradients do.
    """
    y, u = given.frame("y", "n", 1), given.frame("u", "m", 1)
    noise, size = given.matrix("N", "m", "n"), given.positive("c")
    weight, vector = size * u * y.T + noise, given.frame("a", "m", 1)
    off_y = outside(given, y, "n")
    yield equal("W_lᵀ a outside y", off_y * weight.T * vector, sign * off_y * noise.T * vector)
    yield equal("uᵀ W_l y = c + uᵀ N_l y", u.T * weight * y, size * given.identity(1) + u.T * noise * y)
    first, second = given.frame("v", "n", 1), given.frame("w", "n", 1)
    off_second = outside(given, second, "n")
    parts = off_second * y * (y.T * first) + off_second * off_y * first
    yield equal("from v to w through y", off_second * first, parts)


@coherent_updates_give_continuity.also(DimensionFree())
def bound_vanishes(given: Given, *, accumulating: bool = True) -> Goals:
    """Show the limit of the bound for many updates."""
    initial, strength, spread, steps = given.positive("w s_0 nu T")
    noise = initial + spread * sqrt(steps)
    shared = strength * (steps if accumulating else sqrt(steps))
    yield equal("limit of |N| / (c - |N|)", limit(noise / (shared - noise), steps, oo), 0)


@coherent_updates_give_continuity.also(Generic(m=2, n=2), example=True)
def noise_elsewhere(given: Given, *, dominant: bool = True) -> Goals:
    """Show W = diag(c, |N|), whose first singular vector is y as long as c > |N|: the bound holds, and fails beyond."""
    smaller, gap = given.positive("n g")
    size, noise = (smaller + gap, smaller) if dominant else (smaller, smaller + gap)
    first = Matrix([1, 0]) if dominant else Matrix([0, 1])
    weight, y = diag(size, noise), Matrix([1, 0])
    stretched = square_norm(weight * first)
    yield at_least("|W v| ≥ the norm of W", stretched, (smaller + gap) ** 2)
    squared_sine = square_norm(first - y * (y.T * first))
    yield at_least("|N| / (c - |N|) ≥ sin", noise / (size - noise), squared_sine)


@coherent_updates_give_continuity.also(Generic(m=2, n=2), example=True)
def shared_direction(given: Given, *, shared: bool = True) -> Goals:
    """Show that without noise both layers have the shared direction as first vector, whatever they write."""
    angle = given.positive("phi")
    read = Matrix([1, 0]), Matrix([1, 0]) if shared else Matrix([1, angle]) / sqrt(1 + angle**2)
    written = Matrix([3, 4]) / 5, Matrix([0, 1])
    weights = [left * right.T for left, right in zip(written, read, strict=True)]
    grams = [weight.T * weight for weight in weights]
    yield equal("W₁ᵀ W₁ = W₂ᵀ W₂", grams[0], grams[1])
